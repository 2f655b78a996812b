//! SIGTERM under load: the host drains within its deadline, ends with 0, and everything it settled
//! is committed.

use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::commits::{self, Look};
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::waiting;

const MESSAGES: usize = 1_000;
/// So many must have been handled before the stop; far fewer than there are.
const HANDLED_BEFORE: f64 = 50.0;
const WITHIN: Duration = Duration::from_secs(60);

fn config(delivery: &str, drain: &str, time: &str) -> String {
    format!(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "100ms"

[pipelines.slow]
source = {{ topics = ["work"] }}
plugin = "hostile.wasm"
outputs = {{ default = "done" }}
delivery = "{delivery}"
ordering = "none"
instances = 2
drain = "{drain}"
limits = {{ time = "{time}" }}
"#
    )
}

fn folder(config: &str) -> Folder {
    let folder = Folder::new(config);
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    folder
}

fn settled(look: &Look) -> u64 {
    let of = look.commits.iter().filter(|((topic, _), _)| topic == "work");
    of.map(|(_, c)| c.next + c.settled_above.iter().map(|r| r.end - r.start).sum::<u64>()).sum()
}

fn stopped_under_load(delivery: &str) {
    let folder = folder(&config(delivery, "10s", "1s"));
    folder.produce_values("work", std::iter::repeat_n("sleep 5", MESSAGES));
    let mut host = Host::start(&folder);
    waiting::until("messages are handled", WITHIN, || {
        host.metric("millstream_outputs_total", &[]).filter(|n| *n >= HANDLED_BEFORE)
    });
    host.stop(Duration::from_secs(10) + END_WITHIN);

    let handled = folder.consume("done").len();
    assert!(handled < MESSAGES, "all {handled} were handled before the stop: there was no load");
    let settled = settled(&commits::look(&folder.log_dir(), "slow"));
    assert_eq!(settled, handled as u64, "what was handled is what is committed");

    folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(folder.consume("done").len(), MESSAGES, "nothing is lost, nothing is repeated");
}

#[test]
fn a_stop_under_load_commits_what_was_handled_at_least_once() {
    stopped_under_load("at_least_once");
}

#[test]
fn a_stop_under_load_commits_what_was_handled_exactly_once() {
    stopped_under_load("exactly_once");
}

/// The drain deadline in seconds.
const DRAIN: u64 = 1;

fn stopped_while_a_handler_never_returns(way: &str) {
    let folder = folder(&config("at_least_once", &format!("{DRAIN}s"), "1h"));
    let mut host = Host::start(&folder);
    host.until_ready();
    // One after the other: messages that are sent at once may share a batch.
    folder.produce_values("work", ["echo"]);
    waiting::until("the good message is handled", WITHIN, || {
        host.metric("millstream_outputs_total", &[]).filter(|outputs| *outputs >= 1.0)
    });
    folder.produce_values("work", [way]);
    waiting::until("the other one is in hand", WITHIN, || {
        host.metric("millstream_in_flight_messages", &[]).filter(|in_flight| *in_flight >= 1.0)
    });
    let asked = tokio::time::Instant::now();
    host.stop(Duration::from_secs(DRAIN) + END_WITHIN);
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(DRAIN), "the handler had {took:?} to end, not {DRAIN} s");

    assert_eq!(folder.consume("done").len(), 1);
    let settled = settled(&commits::look(&folder.log_dir(), "slow"));
    assert_eq!(settled, 1, "the message that was cancelled comes again");
}

#[test]
fn a_stop_does_not_wait_longer_than_its_deadline_for_an_endless_loop() {
    stopped_while_a_handler_never_returns("loop");
}

#[test]
fn a_stop_does_not_wait_longer_than_its_deadline_for_an_endless_wait() {
    stopped_while_a_handler_never_returns("wait");
}
