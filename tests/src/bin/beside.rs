//! Measures what a healthy pipeline keeps of its throughput beside a plugin that only faults: pairs of
//! runs, alone and beside by turns, each in a fresh folder; prints the median of the pairs' ratios.
//!
//! `beside [--pairs N] [--messages N]`
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends it")]

use std::time::Duration;

use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::neighbours::Neighbours;
use millstream_tests::{pairs, waiting};
use tokio::time::Instant;

const PAIRS: usize = 5;
/// Enough for seconds of work.
const MESSAGES: usize = 300_000;
/// The part of the messages that is measured: without start and end.
const FROM: f64 = 0.1;
const TO: f64 = 0.9;
const WITHIN: Duration = Duration::from_secs(300);

fn main() {
    let pairs = pairs::argument("--pairs").unwrap_or(PAIRS);
    let messages = pairs::argument("--messages").unwrap_or(MESSAGES);
    let median = pairs::median(pairs, ["alone", "beside"], |beside| throughput(messages, beside));
    println!(
        "a healthy pipeline beside a hostile one keeps {median:.3} of its throughput (median of {pairs} pairs)"
    );
}

/// Messages a second of the healthy pipeline.
fn throughput(messages: usize, beside: bool) -> f64 {
    let neighbours = Neighbours::new();
    neighbours.feed_healthy(messages);
    if beside {
        neighbours.feed_hostile();
    }
    let mut host = Host::start(&neighbours.folder);
    let mut reached = |part: f64| {
        let wanted = part * messages as f64;
        waiting::until("messages are handled", WITHIN, || {
            let done = neighbours.healthy_done(&mut host)?;
            (done >= wanted).then(|| (Instant::now(), done))
        })
    };
    let (begin, first) = reached(FROM);
    let (end, last) = reached(TO);
    if beside {
        assert!(neighbours.faults(&mut host).unwrap() > 1.0, "nothing faulted beside it");
    }
    host.terminate();
    host.ended(END_WITHIN);
    (last - first) / end.duration_since(begin).as_secs_f64()
}
