//! Measures what a pipeline keeps of its throughput when its metrics are scraped each second and spans are exported with
//! the default sampling: pairs of runs, unwatched and watched by turns, each in a fresh folder; prints the median of
//! the pairs' ratios. A run is a whole `run --until-caught-up` on the embedded log, start and end included.
//!
//! `watched [--pairs N] [--messages N] [--no-scrapes] [--no-traces]`: the last two leave a part of it out.
#![expect(clippy::print_stdout, reason = "what it measured is what it is for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made ends it")]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_guest_builder::guest;
use millstream_tests::folder::Folder;
use millstream_tests::host::Host;
use millstream_tests::span_receiver::SpanReceiver;
use millstream_tests::{pairs, waiting};
use tokio::time::Instant;

const PAIRS: usize = 7;
/// Enough for seconds of work.
const MESSAGES: usize = 2_000_000;
const KEYS: usize = 10_000;
/// Fifteen times as often as Prometheus does by default.
const SCRAPED_EVERY: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(600);

const CONFIG: &str = r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "1s"

[pipelines.orders]
source = { topics = ["orders"] }
plugin = "echo.wasm"
outputs = { default = "priced" }
"#;

fn main() {
    let pairs = pairs::argument("--pairs").unwrap_or(PAIRS);
    let messages = pairs::argument("--messages").unwrap_or(MESSAGES);
    let run = |is_watched| throughput(messages, is_watched);
    let median = pairs::median(pairs, ["unwatched", "watched"], run);
    println!(
        "a pipeline that is scraped and traced keeps {median:.3} of its throughput (median of {pairs} pairs)"
    );
}

/// Messages a second.
fn throughput(messages: usize, is_watched: bool) -> f64 {
    let (scrapes_it, traces_it) =
        (is_watched && !pairs::flag("--no-scrapes"), is_watched && !pairs::flag("--no-traces"));
    let receiver = SpanReceiver::start_blind();
    let traces = match traces_it {
        true => format!("[traces]\nendpoint = \"{}\"\n", receiver.endpoint()),
        false => String::new(),
    };
    let folder = Folder::new(&format!("{CONFIG}{traces}"));
    folder.plugin("echo.wasm", &guest("echo"));
    folder.ok(&["topics", "create", "--pipelines"], "");
    let mut lines = String::new();
    let padding = "x".repeat(200);
    for number in 0..messages {
        let key = number % KEYS;
        writeln!(lines, r#"{{"key":"k{key}","value":"{padding}"}}"#).unwrap();
    }
    folder.ok(&["produce", "orders"], &lines);
    let begin = Instant::now();
    let mut host = Host::start_with(&folder, &["--until-caught-up"], folder.log_dir());
    let address = waiting::until("the host has an address", WITHIN, || host.address());
    let scrapes = AtomicUsize::new(0);
    let took = std::thread::scope(|scope| {
        let (over, is_over) = std::sync::mpsc::sync_channel::<()>(1);
        let scrapes = &scrapes;
        if scrapes_it {
            scope.spawn(move || {
                let page = format!("http://{address}/metrics");
                while is_over
                    .recv_timeout(SCRAPED_EVERY)
                    .is_err_and(|why| why == std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    if let Ok(mut answer) = ureq::get(&page).call() {
                        answer.body_mut().read_to_string().unwrap();
                        scrapes.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let status = host.ended(WITHIN);
        let took = begin.elapsed();
        drop(over);
        assert!(status.success(), "{status}");
        took
    });
    let scrapes = scrapes.load(Ordering::Relaxed);
    assert_eq!(scrapes_it, scrapes > 0, "{scrapes} scrapes: more messages give it time");
    assert_eq!(traces_it, receiver.bytes() > 0, "{} bytes of spans", receiver.bytes());
    messages as f64 / took.as_secs_f64()
}
