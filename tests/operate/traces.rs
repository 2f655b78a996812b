//! One trace follows a message through pipelines, retries, dead letters and redrive; and what becomes of
//! spans that nobody takes.

use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::span_receiver::{Answer, Received, SpanReceiver, attribute, hexadecimal};
use millstream_tests::waiting;
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(60);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";
const TOKEN: &str = "Bearer token-of-the-receiver";

/// Two pipelines, one behind the other; the second fails on `panic`.
fn shop(receiver: &SpanReceiver, log: &str) -> Folder {
    let endpoint = receiver.endpoint();
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
source = {{ topics = ["orders"] }}
plugin = "echo.wasm"
outputs = {{ default = "checked" }}

[pipelines.second]
source = {{ topics = ["checked"], group = "pricing" }}
plugin = "second.wasm"
outputs = {{ default = "priced" }}
retry = {{ delays = ["50ms", "100ms"] }}
"#
    ));
    folder.write("receiver.token", TOKEN);
    folder.plugin("echo.wasm", &guest("echo"));
    folder.plugin("second.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    folder
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

/// The whole way of one message. The spans are those of two hosts, one after the other.
pub(crate) fn one_message_is_one_trace(folder: &Folder, receiver: &SpanReceiver) {
    let message = serde_json::json!({
        "key": "A-17",
        "value": "panic",
        "headers": [
            ["traceparent", format!("00-{TRACE}-{SENDER}-01")],
            ["tracestate", "vendor=1"],
            ["tenant", "t1"],
        ],
    });
    let mut host = Host::start(folder);
    host.until_ready();
    folder.ok(&["produce", "orders"], &format!("{message}\n"));
    receiver.until(8, WITHIN);
    assert_eq!(host.metric("millstream_spans_exported_total", &[]), Some(8.0));
    host.stop(END_WITHIN);

    let [letter] = &folder.consume("checked.dlq")[..] else { panic!("one dead letter") };
    let spans = receiver.spans();
    let first = named(&spans, "process orders")[0];
    let attempts = named(&spans, "process checked");
    assert_eq!(letter.header("traceparent"), context_of(first), "as it was in the message");
    assert_eq!(letter.header("tracestate"), "vendor=1");
    assert_eq!(letter.header("millstream-trace"), context_of(attempts[2]));

    // A new version of the plugin does not fail.
    folder.plugin("second.wasm", &guest("echo"));
    let mut host = Host::start(folder);
    host.until_ready();
    folder.ok(&["dlq", "redrive", "second"], "");
    let spans = receiver.until(10, WITHIN);
    host.stop(END_WITHIN);

    for received in &spans {
        assert_eq!(hexadecimal(&received.span.trace_id), TRACE, "{received:#?}");
        assert_eq!(received.span.trace_state, "vendor=1");
        assert_eq!(attribute(&received.resource, "service.name").as_deref(), Some("shop"));
        assert_eq!(received.headers["authorization"], TOKEN);
        assert_eq!(received.headers["x-tenant"], "shop");
        assert!(received.span.end_time_unix_nano >= received.span.start_time_unix_nano);
    }
    let first = named(&spans, "process orders")[0];
    let attempts = named(&spans, "process checked");
    assert_eq!((parent_of(first), first.span.links.len()), (SENDER.to_owned(), 0));
    let outcomes: Vec<_> = attempts.iter().map(|of_| of(of_, "millstream.outcome")).collect();
    assert_eq!(outcomes, ["trap", "trap", "trap", "done"]);
    let numbers: Vec<_> = attempts.iter().map(|of_| of(of_, "millstream.attempt")).collect();
    assert_eq!(numbers, ["1", "2", "3", "1"], "a redriven message begins anew");
    assert_eq!(of(attempts[3], "millstream.redrives"), "1");
    for (number, attempt) in attempts.iter().enumerate() {
        assert_eq!(parent_of(attempt), id_of(first), "attempt {number}");
        let links: Vec<_> = attempt.span.links.iter().map(|link| hexadecimal(&link.span_id)).collect();
        let before = number.checked_sub(1).map(|before| id_of(attempts[before]));
        assert_eq!(links, Vec::from_iter(before), "attempt {number} continues the one before");
        assert_eq!(of(attempt, "messaging.destination.name"), "checked");
        assert_eq!(of(attempt, "messaging.consumer.group.name"), "pricing");
        let failed = attempt.span.status.clone().unwrap_or_default();
        assert_eq!(failed.code == 2, number < 3, "{failed:?}");
        assert_eq!(failed.message.contains("no price for"), number < 3, "{failed:?}");
    }
    let settled = named(&spans, "settle checked");
    let endings: Vec<_> = settled.iter().map(|of_| of(of_, "millstream.ending")).collect();
    assert_eq!(endings, ["retry", "retry", "dead_letter", "done"]);
    for (settled, attempt) in settled.iter().zip(&attempts) {
        assert_eq!(parent_of(settled), id_of(attempt));
    }
    assert_eq!(of(settled[2], "millstream.to"), "checked.dlq");

    let [priced] = &folder.consume("priced")[..] else { panic!("one output") };
    assert_eq!(priced.header("traceparent"), context_of(attempts[3]));
    assert_eq!(priced.header("tracestate"), "vendor=1");
    assert_eq!(priced.header("tenant"), "t1");
}

#[test]
fn one_traced_message_through_two_pipelines_retries_a_dead_letter_and_redrive_is_one_trace() {
    let receiver = SpanReceiver::start();
    let folder = shop(&receiver, "durability = \"100ms\"");
    one_message_is_one_trace(&folder, &receiver);

    let said = std::fs::read_to_string(folder.path().join("host.log")).unwrap();
    let lines = lines_of_trace(&said);
    let told = |what: &str| lines.iter().filter(|line| line.to_string().contains(what)).count();
    assert_eq!(told("message became a dead letter"), 1, "{lines:#?}");
    let by_plugin = lines.iter().filter(|line| line["target"] == "plugin");
    assert!(by_plugin.count() >= 3, "a panic of each attempt is in the log: {lines:#?}");
    assert!(!said.contains(TOKEN), "the receiver's secret is told nobody");
}

#[test]
fn spans_that_nobody_takes_are_counted_and_hold_up_no_message() {
    let receiver = SpanReceiver::start();
    let folder = shop(&receiver, "durability = \"100ms\"");
    let mut host = Host::start(&folder);
    host.until_ready();
    let message = |n: u32| {
        let context = format!("00-{TRACE}-{n:016x}-01");
        serde_json::json!({"key": "k", "value": "echo", "headers": [["traceparent", context]]})
    };
    let mut number = 0;
    // Each message makes four spans, which may come in more than one request.
    let mut send = |folder: &Folder| {
        number += 1;
        folder.ok(&["produce", "orders"], &format!("{}\n", message(number)));
        folder.until_settled(WITHIN);
    };
    let counted = |host: &mut Host, what: &str, labels: &[&str], count: f64| {
        waiting::until(&format!("{what} {labels:?} is {count}"), WITHIN, || {
            (host.metric(what, labels)? == count).then_some(())
        });
    };

    receiver.answer([Answer::Status(503), Answer::Status(429)]);
    send(&folder);
    counted(&mut host, "millstream_spans_exported_total", &[], 4.0);
    assert_eq!(receiver.spans().len(), 4, "they were sent again");

    receiver.answer([Answer::Rejects(1)]);
    send(&folder);
    counted(&mut host, "millstream_spans_exported_total", &[], 7.0);
    let refused = ["reason=\"refused\""];
    counted(&mut host, "millstream_spans_dropped_total", &refused, 1.0);

    receiver.answer(std::iter::repeat_n(Answer::Status(400), 4));
    send(&folder);
    counted(&mut host, "millstream_spans_dropped_total", &refused, 5.0);
    assert!(host.said().contains("spans are lost"), "it is told");
    host.stop(END_WITHIN);
}
