//! The order of a key across retries, through kills: on the embedded log one host after the other.

use std::fmt::Write as _;
use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::draw::Draw;
use millstream_tests::folder::Folder;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::key_order::{self, DELAYS};

/// Messages of a round; after each but the last the host is killed.
const STEP: usize = 500;
const ROUNDS: usize = 6;
/// When, after the messages were sent.
const KILL_MS: std::ops::Range<u64> = 50..600;
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_key_keeps_its_order_across_retries_and_kills_exactly_once() {
    keeps_order("exactly_once", "messages = 100000");
}

#[test]
fn a_key_keeps_its_order_across_retries_and_kills_at_least_once() {
    keeps_order("at_least_once", "messages = 100000");
}

/// With room for few in memory, most of what waits is put behind in the tiers.
#[test]
fn a_key_keeps_its_order_with_little_room_to_wait() {
    keeps_order("at_least_once", "messages = 3");
}

fn keeps_order(delivery: &str, waiting: &str) {
    let mut draw = Draw::seeded(delivery);
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
waiting = {{ {waiting} }}
commit = {{ interval = "20ms" }}
retry = {{ delays = {DELAYS} }}
"#
    ));
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    for round in 0..ROUNDS {
        let mut host = Host::start(&folder);
        host.until_ready();
        let mut lines = String::new();
        for number in round * STEP..(round + 1) * STEP {
            let (key, value) = key_order::message(number);
            writeln!(lines, r#"{{"key":"{key}","value":"{value}"}}"#).unwrap();
        }
        folder.ok(&["produce", "orders"], &lines);
        if round + 1 < ROUNDS {
            // Any moment is a good one.
            std::thread::sleep(Duration::from_millis(draw.within(KILL_MS)));
            host.kill();
        } else {
            folder.until_settled(SETTLED_WITHIN);
            host.stop(END_WITHIN);
        }
    }
    let outputs: Vec<(String, String)> = folder
        .consume("done")
        .iter()
        .map(|line| {
            let key = line.key.as_ref().and_then(|key| key.as_str());
            (key.unwrap().to_owned(), line.text().to_owned())
        })
        .collect();
    let dead = folder.consume("orders.dlq");
    let dead: Vec<usize> = dead.iter().map(|letter| key_order::number(letter.text())).collect();
    let exactly_once = delivery == "exactly_once";
    let violations = key_order::violations(STEP * ROUNDS, &outputs, &dead, exactly_once);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
