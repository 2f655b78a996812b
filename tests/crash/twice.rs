//! Every message sent twice: the same idempotency key in different batches, half of them after a restart. What
//! a kill lets through is counted. Retries and dead letters that come back are no duplicates of themselves.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::reader::{Lines, Sums};
use millstream_tests::waiting;

const MESSAGES: usize = 3_000;
/// More failures than attempts.
const DIES_ONE_IN: usize = 97;
const FAILS_ONE_IN: usize = 7;
const IN_FLIGHT: usize = 100;
const UNATTEMPTED: &str = "millstream_settled_unattempted_total";
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn every_message_sent_twice_to_the_embedded_log_has_its_outputs_once_exactly_once() {
    let folder = folder("exactly_once");
    assert_eq!(both_times(&folder, Ending::Stopped, "exactly_once, stopped").again, 0);
    redriven(&folder);
}

#[test]
fn every_message_sent_twice_to_the_embedded_log_has_its_outputs_once_at_least_once() {
    let folder = folder("at_least_once");
    assert_eq!(both_times(&folder, Ending::Stopped, "at_least_once, stopped").again, 0);
    redriven(&folder);
}

#[test]
fn of_messages_sent_twice_to_the_embedded_log_a_kill_repeats_no_output_exactly_once() {
    let folder = folder("exactly_once");
    assert_eq!(both_times(&folder, Ending::Killed, "exactly_once, killed").again, 0);
}

#[test]
fn of_messages_sent_twice_to_the_embedded_log_a_kill_repeats_no_output_at_least_once() {
    let folder = folder("at_least_once");
    // Outputs and marks are one write.
    assert_eq!(both_times(&folder, Ending::Killed, "at_least_once, killed").again, 0);
}

/// How the first host ends.
#[derive(Clone, Copy)]
enum Ending {
    Stopped,
    Killed,
}

fn folder(delivery: &str) -> Folder {
    let folder = Folder::new(&format!(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "100ms"

[pipelines.orders]
source = {{ topics = ["orders"] }}
plugin = "hostile.wasm"
outputs = {{ default = "done" }}
delivery = "{delivery}"
in_flight = {{ messages = {IN_FLIGHT} }}
idempotency = {{ key = "key", ttl = "1h" }}
retry = {{ delays = ["50ms", "100ms", "200ms"] }}
"#
    ));
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    folder
}

fn produce(folder: &Folder, numbers: Range<usize>) {
    let mut lines = String::new();
    for number in numbers {
        let failures = match number {
            n if n % DIES_ONE_IN == 0 => 9,
            n if n % FAILS_ONE_IN == 0 => 1,
            _ => 0,
        };
        writeln!(lines, r#"{{"key":"n{number}","value":"after {failures} {number}"}}"#).unwrap();
    }
    folder.ok(&["produce", "orders"], &lines);
}

/// Sends all and half of them again, lets the host end in the middle of it, and sends the others again.
fn both_times(folder: &Folder, ending: Ending, test: &str) -> Sums {
    produce(folder, 0..MESSAGES);
    produce(folder, 0..MESSAGES / 2);
    let mut host = Host::start(folder);
    waiting::until("a quarter of them is handled", WITHIN, || {
        let outputs = host.metric("millstream_outputs_total", &[])?;
        (outputs > (MESSAGES / 4) as f64).then_some(())
    });
    match ending {
        Ending::Stopped => host.stop(WITHIN + END_WITHIN),
        Ending::Killed => host.kill(),
    }
    let handled = folder.consume("done").len();
    assert!(
        handled < MESSAGES - MESSAGES / DIES_ONE_IN,
        "all {handled} were handled before the end"
    );

    let mut host = Host::start(folder);
    host.until_ready();
    produce(folder, MESSAGES / 2..MESSAGES);
    folder.until_settled(WITHIN);
    let duplicates = host.metric(UNATTEMPTED, &["\"duplicate\""]).unwrap();
    let alive = (MESSAGES / 2..MESSAGES).filter(|number| !dies(*number)).count();
    assert!(duplicates >= alive as f64, "{duplicates} duplicates counted of {alive}");
    host.stop(WITHIN + END_WITHIN);

    let consumed = |topic: &str| folder.ok(&["consume", topic, "--from-beginning"], "");
    let line = |number: usize| format!("n{number}{}\n", if dies(number) { " dead" } else { "" });
    let lines = Lines {
        id: "KEY",
        sent: (0..MESSAGES).chain(0..MESSAGES).map(line).collect(),
        source: Some(consumed("orders")),
        out: consumed("done"),
        dead: consumed("orders.dlq"),
        exactly_once: false,
    };
    lines.sums(test).unwrap()
}

fn dies(number: usize) -> bool {
    number.is_multiple_of(DIES_ONE_IN)
}

/// A dead letter that comes back is no duplicate of itself, nor of its twin: it is attempted, and dies again.
fn redriven(folder: &Folder) {
    let dead = folder.consume("orders.dlq").len();
    let mut host = Host::start(folder);
    host.until_ready();
    folder.ok(&["dlq", "redrive", "orders", "--yes"], "");
    folder.until_settled(WITHIN);
    assert_eq!(host.metric("millstream_dead_letters_total", &[]), Some(dead as f64));
    assert_eq!(host.metric(UNATTEMPTED, &["\"duplicate\""]), Some(0.0));
    host.stop(WITHIN + END_WITHIN);
}
