//! Measures what keys that do not fail keep of their throughput while every first attempt at a message of
//! other keys fails and the later ones of those keys wait: pairs of runs, without and with failures by
//! turns, each in a fresh folder; prints the median of the pairs' ratios.
//!
//! `order [--pairs N] [--messages N] [--short] [--kafka]`: with `--short` the retry delays are half a second to two,
//! else they are the configuration's own; with `--kafka` on one broker of its own, else on the embedded log.
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends it")]

use std::fmt::Write as _;
use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::Host;
use millstream_tests::kafka::{Cluster, unique};
use millstream_tests::{pairs, waiting};
use tokio::time::Instant;

const PAIRS: usize = 5;
/// Enough for seconds of work.
const MESSAGES: usize = 200_000;
const KEYS: usize = 50;
/// A fifth of the keys, so of the first attempts.
const FAILING_KEYS: usize = 10;
/// The part of the others' messages that is measured: without start and end.
const FROM: f64 = 0.1;
const TO: f64 = 0.9;
const WITHIN: Duration = Duration::from_secs(300);

const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"

"#;
const EMBEDDED: &str = r#"durability = "1s""#;
const SHORT: &str = r#"retry = { delays = ["500ms", "1s", "2s"] }"#;

fn main() {
    let pairs = pairs::argument("--pairs").unwrap_or(PAIRS);
    let messages = pairs::argument("--messages").unwrap_or(MESSAGES);
    let cluster = pairs::flag("--kafka").then(|| Cluster::start(&[]));
    let log = match &cluster {
        Some(cluster) => {
            format!("kind = \"kafka\"\nbootstrap_servers = \"{}\"", cluster.bootstrap())
        }
        None => EMBEDDED.to_owned(),
    };
    let delays = if pairs::flag("--short") { SHORT } else { "" };
    let run = |fails| throughput(&log, delays, messages, usize::from(fails));
    let median = pairs::median(pairs, ["without", "with"], run);
    println!(
        "keys that do not fail keep {median:.3} of their throughput while others fail (median of {pairs} pairs)"
    );
}

/// Messages a second of the keys that do not fail, when so many attempts at each message of the others do.
fn throughput(log: &str, delays: &str, messages: usize, failures: usize) -> f64 {
    let (source, healthy_topic) = (unique("orders"), unique("healthy"));
    let folder = Folder::new(&format!(
        r#"{CONFIG}
[log]
{log}

[pipelines.{source}]
source = {{ topics = ["{source}"] }}
plugin = "hostile.wasm"
outputs = {{ default = "{source}.out", healthy = "{healthy_topic}" }}
{delays}
"#
    ));
    folder.plugin("hostile.wasm", &guest("hostile"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    let mut lines = String::new();
    let padding = "x".repeat(200);
    for number in 0..messages {
        let key = number % KEYS;
        let value = match key < FAILING_KEYS {
            true => format!("after {failures} {padding}"),
            false => "named healthy".to_owned(),
        };
        writeln!(lines, r#"{{"key":"k{key}","value":"{value}"}}"#).unwrap();
    }
    folder.ok(&["produce", &source], &lines);
    let mut host = Host::start(&folder);
    let healthy = (messages / KEYS * (KEYS - FAILING_KEYS)) as f64;
    let mut reached = |part: f64| {
        waiting::until("messages are handled", WITHIN, || {
            let done = host.metric("millstream_outputs_total", &[&healthy_topic])?;
            (done >= part * healthy).then(|| (Instant::now(), done))
        })
    };
    let (begin, first) = reached(FROM);
    let (end, last) = reached(TO);
    let retries = host.metric("millstream_retries_total", &[]).unwrap();
    assert_eq!(retries > 0.0, failures > 0, "{retries} retries");
    // What still fails takes minutes; nothing of it is measured.
    host.kill();
    (last - first) / end.duration_since(begin).as_secs_f64()
}
