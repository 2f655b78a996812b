//! SIGTERM under load, with more messages coming all the while: the host drains within its deadline, ends with
//! 0, and everything it settled is committed.

use std::io::Write as _;
use std::process::ChildStdin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::commits::{self, Look};
use millstream_tests::folder::{Ended, Folder};
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::waiting;

/// More than two instances handle.
const STEP: usize = 10;
const STEP_EVERY: Duration = Duration::from_millis(12);
/// The drain deadline in seconds, several times what is in flight takes.
const DRAIN_UNDER_LOAD: u64 = 10;
/// So many must have been handled before the stop.
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

/// Sends more than the plugin can handle, before the stop and all through it, until nobody takes it any more.
fn keep_sending(folder: &Arc<Folder>) -> JoinHandle<Ended> {
    let feed = |input: &mut ChildStdin| {
        let step = "sleep 5\n".repeat(STEP);
        while input.write_all(step.as_bytes()).is_ok() {
            std::thread::sleep(STEP_EVERY);
        }
    };
    let folder = Arc::clone(folder);
    std::thread::spawn(move || folder.run_fed(&["produce", "work", "--values"], feed))
}

fn stopped_under_load(delivery: &str) {
    let folder = Arc::new(folder(&config(delivery, &format!("{DRAIN_UNDER_LOAD}s"), "1s")));
    let mut host = Host::start(&folder);
    host.until_ready();
    let sending = keep_sending(&folder);
    waiting::until("messages are handled", WITHIN, || {
        host.metric("millstream_outputs_total", &[]).filter(|n| *n >= HANDLED_BEFORE)
    });
    let asked = tokio::time::Instant::now();
    host.stop(Duration::from_secs(DRAIN_UNDER_LOAD) + END_WITHIN);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(DRAIN_UNDER_LOAD), "it took {took:?} to drain");

    let acknowledged = sending.join().unwrap().appended();
    let (sent, handled) = (folder.consume("work").len(), folder.consume("done").len());
    assert!(acknowledged > 0 && sent >= acknowledged, "{acknowledged} acknowledged, {sent} there");
    assert!(handled < sent, "all {handled} were handled before the end: there was no load");
    let settled = settled(&commits::look(&folder.log_dir(), "slow"));
    assert_eq!(settled, handled as u64, "what was handled is what is committed");

    folder.ok(&["run", "--until-caught-up"], "");
    assert_eq!(folder.consume("done").len(), sent, "nothing is lost, nothing is repeated");
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
