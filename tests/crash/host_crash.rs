//! A message that kills its host, on the embedded log: it is found and becomes a dead letter, and no other does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::END_WITHIN;
use millstream_tests::host_crash::{self, KILLER};

const MESSAGES: usize = 400;
const KILLER_AT: usize = 250;
/// The default of `after_host_crashes`.
const AFTER: usize = 5;

#[test]
fn a_message_that_kills_its_host_becomes_a_dead_letter_at_least_once() {
    found("at_least_once");
}

#[test]
fn a_message_that_kills_its_host_becomes_a_dead_letter_exactly_once() {
    found("exactly_once");
}

fn found(delivery: &str) {
    let folder = Folder::new(&format!(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "10ms"

[pipelines.orders]
source = {{ topics = ["orders"] }}
plugin = "hostile.wasm"
outputs = {{ default = "done" }}
delivery = "{delivery}"
limits = {{ time = "5m" }}
"#
    ));
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    let mut lines = String::new();
    for number in 0..MESSAGES {
        let value = match number {
            KILLER_AT => KILLER.to_owned(),
            _ => format!("after 0 {number}"),
        };
        writeln!(lines, r#"{{"key":"k{}","value":"{value}"}}"#, number % 20).unwrap();
    }
    folder.ok(&["produce", "orders"], &lines);
    let (killed, hosts) = host_crash::until_settled(&[&folder], AFTER);
    assert_eq!(killed, AFTER);
    for host in hosts {
        assert!(host.said().contains("a message that kills its host becomes a dead letter"));
        host.stop(END_WITHIN);
    }

    let dead = folder.consume("orders.dlq");
    let values: Vec<&str> = dead.iter().map(|letter| letter.text()).collect();
    assert_eq!(values, [KILLER], "no other message is taken for it");
    assert_eq!(dead[0].header("millstream-error-kind"), "host-crash");
    let mut done: BTreeMap<usize, usize> = BTreeMap::new();
    for line in folder.consume("done") {
        *done.entry(line.text().parse().unwrap()).or_default() += 1;
    }
    let expected = (0..MESSAGES).filter(|number| *number != KILLER_AT);
    assert!(done.keys().copied().eq(expected), "lost: {} of {MESSAGES} are there", done.len());
    let again: usize = done.values().map(|count| count - 1).sum();
    assert!(delivery == "at_least_once" || again == 0, "{again} outputs again");
}
