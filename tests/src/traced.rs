//! The way of one traced message: two pipelines, two retries, a dead letter, a redrive; and its spans. The same on every log.

use std::time::Duration;

use millstream_guest_builder::guest;
use serde_json::Value;

use crate::folder::Folder;
use crate::host::{END_WITHIN, Host};
use crate::span_receiver::{Received, SpanReceiver, attribute, hexadecimal};
use crate::waiting;

const WITHIN: Duration = Duration::from_secs(60);

/// The trace that the message brings.
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The span that sent it.
const SENDER: &str = "b7ad6b7169203331";
/// What the receiver asks for.
pub const TOKEN: &str = "Bearer token-of-the-receiver";

/// Two pipelines, one behind the other; the second fails on `panic`. Spans go to a receiver.
pub struct Shop {
    /// Its folder.
    pub folder: Folder,
    /// Who takes its spans.
    pub receiver: SpanReceiver,
    orders: String,
    checked: String,
    priced: String,
}

impl Shop {
    /// A shop whose topics and groups have `name` in their names. `log` is the table of the log.
    ///
    /// # Panics
    /// When its topics cannot be made.
    pub fn new(name: &str, log: &str) -> Self {
        let receiver = SpanReceiver::start();
        let endpoint = receiver.endpoint();
        let [orders, checked, priced] =
            ["orders", "checked", "priced"].map(|topic| format!("{name}.{topic}"));
        let folder = Folder::new(&format!(
            r#"
[host]
admin = "127.0.0.1:0"

[log]
{log}

[traces]
endpoint = "{endpoint}"
headers = {{ authorization = "${{file:receiver.token}}", x-tenant = "shop" }}
sample = 0.0
service = "shop"

[pipelines.first]
source = {{ topics = ["{orders}"], group = "{name}-checking" }}
plugin = "echo.wasm"
outputs = {{ default = "{checked}" }}

[pipelines.second]
source = {{ topics = ["{checked}"], group = "{name}-pricing" }}
plugin = "second.wasm"
outputs = {{ default = "{priced}" }}
retry = {{ delays = ["50ms", "100ms"] }}
"#
        ));
        folder.write("receiver.token", TOKEN);
        folder.plugin("echo.wasm", &guest("echo"));
        folder.plugin("second.wasm", &guest("hostile"));
        folder.ok(&["topics", "create", "--pipelines"], "");
        Self { folder, receiver, orders, checked, priced }
    }

    /// Sends a message with this value, in this context.
    pub fn send(&self, value: &str, context: &str) {
        let message = serde_json::json!({
            "key": "A-17",
            "value": value,
            "headers": [["traceparent", context], ["tracestate", "vendor=1"], ["tenant", "t1"]],
        });
        self.folder.ok(&["produce", &self.orders], &format!("{message}\n"));
    }

    /// The whole way of one message, by two hosts one after the other; all of it is one trace.
    ///
    /// # Panics
    /// When it is not.
    pub fn one_message_is_one_trace(&self) {
        self.fails_and_becomes_a_dead_letter();
        let spans = self.is_redriven_and_handled();
        self.are_one_trace(&spans);
        self.the_log_names_the_trace();
    }

    fn fails_and_becomes_a_dead_letter(&self) {
        let Self { folder, receiver, .. } = self;
        let mut host = Host::start(folder);
        host.until_ready();
        self.send("panic", &format!("00-{TRACE}-{SENDER}-01"));
        receiver.until(8, WITHIN);
        waiting::until("they are counted", WITHIN, || {
            (host.metric("millstream_spans_exported_total", &[])? == 8.0).then_some(())
        });
        host.stop(END_WITHIN);

        let [letter] = &folder.consume(&self.dead_letters())[..] else { panic!("one dead letter") };
        let spans = receiver.spans();
        let (first, attempts) = self.attempts(&spans);
        assert_eq!(letter.header("traceparent"), context_of(first), "as it was in the message");
        assert_eq!(letter.header("tracestate"), "vendor=1");
        assert_eq!(letter.header("millstream-trace"), context_of(attempts[2]));
    }

    fn is_redriven_and_handled(&self) -> Vec<Received> {
        let Self { folder, receiver, .. } = self;
        // A new version of the plugin does not fail.
        folder.plugin("second.wasm", &guest("echo"));
        let mut host = Host::start(folder);
        host.until_ready();
        folder.ok(&["dlq", "redrive", "second"], "");
        let spans = receiver.until(10, WITHIN);
        host.stop(END_WITHIN);
        let (_, attempts) = self.attempts(&spans);
        let [priced] = &folder.consume(&self.priced)[..] else { panic!("one output") };
        assert_eq!(priced.header("traceparent"), context_of(attempts[3]));
        assert_eq!(priced.header("tracestate"), "vendor=1");
        assert_eq!(priced.header("tenant"), "t1");
        spans
    }

    fn are_one_trace(&self, spans: &[Received]) {
        for received in spans {
            assert_eq!(hexadecimal(&received.span.trace_id), TRACE, "{received:#?}");
            assert_eq!(received.span.trace_state, "vendor=1");
            assert_eq!(attribute(&received.resource, "service.name").as_deref(), Some("shop"));
            assert_eq!(received.headers["authorization"], TOKEN);
            assert_eq!(received.headers["x-tenant"], "shop");
            assert!(received.span.end_time_unix_nano >= received.span.start_time_unix_nano);
        }
        let (first, attempts) = self.attempts(spans);
        assert_eq!((parent_of(first), first.span.links.len()), (SENDER.to_owned(), 0));
        let outcomes: Vec<_> = attempts.iter().map(|of_| of(of_, "millstream.outcome")).collect();
        assert_eq!(outcomes, ["trap", "trap", "trap", "done"]);
        let numbers: Vec<_> = attempts.iter().map(|of_| of(of_, "millstream.attempt")).collect();
        assert_eq!(numbers, ["1", "2", "3", "1"], "a redriven message begins anew");
        assert_eq!(of(attempts[3], "millstream.redrives"), "1");
        for (number, attempt) in attempts.iter().enumerate() {
            assert_eq!(parent_of(attempt), id_of(first), "attempt {number}");
            let links: Vec<_> =
                attempt.span.links.iter().map(|link| hexadecimal(&link.span_id)).collect();
            let before = number.checked_sub(1).map(|before| id_of(attempts[before]));
            assert_eq!(links, Vec::from_iter(before), "attempt {number} continues the one before");
            assert_eq!(of(attempt, "messaging.destination.name"), self.checked);
            assert!(of(attempt, "messaging.consumer.group.name").ends_with("-pricing"));
            let failed = attempt.span.status.clone().unwrap_or_default();
            assert_eq!(failed.code == 2, number < 3, "{failed:?}");
            assert_eq!(failed.message.contains("no price for"), number < 3, "{failed:?}");
        }
        let settled = named(spans, &format!("settle {}", self.checked));
        let endings: Vec<_> = settled.iter().map(|of_| of(of_, "millstream.ending")).collect();
        assert_eq!(endings, ["retry", "retry", "dead_letter", "done"]);
        for (settled, attempt) in settled.iter().zip(&attempts) {
            assert_eq!(parent_of(settled), id_of(attempt));
        }
        assert_eq!(of(settled[2], "millstream.to"), self.dead_letters());
    }

    fn the_log_names_the_trace(&self) {
        let said = std::fs::read_to_string(self.folder.path().join("host.log")).unwrap();
        let lines = lines_of_trace(&said);
        let told = |what: &str| lines.iter().filter(|line| line.to_string().contains(what)).count();
        assert_eq!(told("message became a dead letter"), 1, "{lines:#?}");
        let by_plugin = lines.iter().filter(|line| line["target"] == "plugin");
        assert!(by_plugin.count() >= 3, "a panic of each attempt is in the log: {lines:#?}");
        assert!(!said.contains(TOKEN), "the receiver's secret is told nobody");
    }

    /// The attempt of the first pipeline, and those of the second in order.
    fn attempts<'a>(&self, spans: &'a [Received]) -> (&'a Received, Vec<&'a Received>) {
        let first = named(spans, &format!("process {}", self.orders));
        (first[0], named(spans, &format!("process {}", self.checked)))
    }

    fn dead_letters(&self) -> String {
        format!("{}.dlq", self.checked)
    }
}

fn named<'a>(spans: &'a [Received], name: &str) -> Vec<&'a Received> {
    let mut named: Vec<_> = spans.iter().filter(|received| received.span.name == name).collect();
    named.sort_by_key(|received| received.span.start_time_unix_nano);
    named
}

fn of(received: &Received, name: &str) -> String {
    attribute(&received.span.attributes, name).unwrap_or_else(|| panic!("no {name}: {received:#?}"))
}

fn parent_of(received: &Received) -> String {
    hexadecimal(&received.span.parent_span_id)
}

fn id_of(received: &Received) -> String {
    hexadecimal(&received.span.span_id)
}

fn context_of(received: &Received) -> String {
    format!("00-{TRACE}-{}-01", id_of(received))
}

/// Lines of the host's log that name the trace.
fn lines_of_trace(said: &str) -> Vec<Value> {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["trace_id"] == TRACE).collect()
}
