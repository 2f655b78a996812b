//! SIGKILL, twenty times in one run: at random points of a stream, and of a start. What came of it is added up
//! twice: by the accounts, which know the commits too, and by the independent reader.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_tests::commits;
use millstream_tests::draw::Draw;
use millstream_tests::folder::{Ended, Folder};
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::program::orders_plugin;
use millstream_tests::reader::Lines;

use crate::accounts::{DEAD, History, OUTPUT, Promise, SOURCE};
use crate::orders::{self, DELAYS, Fate};

/// Kills in one run.
const KILLS: usize = 20;
const KILLS_SOAK: usize = 200;
/// One in so many hosts is killed before it is ready.
const KILLED_AT_START_ONE_IN: u64 = 5;
/// When, after it was started.
const START_MS: std::ops::Range<u64> = 0..150;
/// When, after the stream began.
const STREAM_MS: std::ops::Range<u64> = 30..350;
/// Lines that are sent at once at the beginning of a stream, and then in each step.
const BURST: usize = 200;
const STEP: usize = 10;
const STEP_EVERY: Duration = Duration::from_millis(5);
/// How long everything may take to settle at the end.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn twenty_kills_lose_nothing_and_double_nothing_exactly_once() {
    killed_and_killed_again(Promise::ExactlyOnce, "exactly_once");
}

#[test]
fn twenty_kills_lose_nothing_and_repeat_only_what_was_not_committed_at_least_once() {
    killed_and_killed_again(Promise::AtLeastOnce, "at_least_once");
}

// Slow appends and frequent commits: a commit that came too early is there when the kill comes.
fn config(delivery: &str) -> String {
    format!(
        r#"
[host]
admin = "127.0.0.1:0"

[log]
durability = "always"

[pipelines.orders]
source = {{ topics = ["{SOURCE}"] }}
plugin = "orders.wasm"
outputs = {{ default = "orders.priced" }}
delivery = "{delivery}"
commit = {{ interval = "10ms" }}
retry = {{ delays = {DELAYS:?} }}
idempotency = {{ key = "json:/order_id", ttl = "1h" }}
"#
    )
}

#[expect(clippy::print_stdout, reason = "cargo shows it when the test fails")]
fn killed_and_killed_again(promise: Promise, delivery: &str) {
    let mut draw = Draw::seeded(delivery);
    let kills = if std::env::var_os("MILLSTREAM_SOAK").is_some() { KILLS_SOAK } else { KILLS };
    let folder = Arc::new(Folder::new(&config(delivery)));
    folder.plugin("orders.wasm", orders_plugin());
    folder.ok(&["topics", "create", "--pipelines"], "");

    let mut stream = Stream::new(kills);
    let mut history = History::default();
    for _ in 0..kills {
        let mut host = Host::start(&folder);
        if draw.within(0..KILLED_AT_START_ONE_IN) == 0 {
            // Any time is good to be killed at.
            std::thread::sleep(Duration::from_millis(draw.within(START_MS)));
            host.kill();
        } else {
            host.until_ready();
            let sending = stream.send(&folder);
            std::thread::sleep(Duration::from_millis(draw.within(STREAM_MS)));
            host.kill();
            stream.sent(sending);
        }
        history.looks.push(commits::look(&folder.log_dir(), "orders"));
        history.read_tiers(|topic| folder.consume(topic));
    }

    let mut host = Host::start(&folder);
    host.until_ready();
    folder.until_settled(SETTLED_WITHIN);
    host.stop(END_WITHIN);
    history.looks.push(commits::look(&folder.log_dir(), "orders"));
    history.read_tiers(|topic| folder.consume(topic));
    history.read(|topic| folder.consume(topic));
    history.acknowledged = stream.acknowledged();
    println!("{delivery}: {}", history.sums());
    let violations = history.violations(promise);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    let consumed = |topic: &str| folder.ok(&["consume", topic, "--from-beginning"], "");
    let lines = Lines {
        id: "/order_id",
        sent: stream.lines(),
        source: Some(consumed(SOURCE)),
        out: consumed(OUTPUT),
        dead: consumed(DEAD),
        exactly_once: promise == Promise::ExactlyOnce,
    };
    lines.sums(&format!("{delivery}, {kills} kills")).unwrap();
    // A run in which nothing happened proves nothing.
    let few = |what: &str, n: usize| assert!(n >= kills, "only {n} {what} in {kills} kills");
    few("messages", history.source.len() / BURST);
    few("retries", history.tiers.values().map(Vec::len).sum());
    few("dead letters", history.dead.len());
}

/// The orders that are sent, through all kills.
struct Stream {
    sequence: Arc<[u64]>,
    /// How many of them `produce` said were appended.
    acknowledged: usize,
    /// How many of them may have been.
    tried: usize,
}

struct Sending {
    command: std::thread::JoinHandle<Ended>,
    killed: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
}

impl Stream {
    fn new(kills: usize) -> Self {
        let most_a_kill = BURST as u64 + 2 * STREAM_MS.end / 5 * STEP as u64;
        let sequence = orders::sequence(most_a_kill * kills as u64).into();
        Self { sequence, acknowledged: 0, tried: 0 }
    }

    /// Sends from the first that is not known to be in the log, until the host is killed. Those in
    /// between are sent again, as whoever has no answer does.
    fn send(&self, folder: &Arc<Folder>) -> Sending {
        let killed = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let lines = Arc::clone(&self.sequence);
        let (from, stop, count) = (self.acknowledged, Arc::clone(&killed), Arc::clone(&written));
        let feed = move |input: &mut std::process::ChildStdin| {
            let mut rest = &lines[from..];
            let mut step = BURST;
            while !stop.load(Ordering::Relaxed) && !rest.is_empty() {
                let (now, later) = rest.split_at(step.min(rest.len()));
                let text: String = now.iter().map(|n| orders::line(*n) + "\n").collect();
                if input.write_all(text.as_bytes()).is_err() {
                    return;
                }
                count.fetch_add(now.len(), Ordering::Relaxed);
                (rest, step) = (later, STEP);
                std::thread::sleep(STEP_EVERY);
            }
        };
        let folder = Arc::clone(folder);
        let command = std::thread::spawn(move || folder.run_fed(&["produce", SOURCE], feed));
        Sending { command, killed, written }
    }

    /// The host was killed: what arrived is what `produce` says.
    fn sent(&mut self, sending: Sending) {
        sending.killed.store(true, Ordering::Relaxed);
        let ended = sending.command.join().unwrap();
        let count = ended.appended();
        let written = sending.written.load(Ordering::Relaxed);
        // The last piece may have been written but for its end when the pipe broke.
        assert!(count <= written + BURST, "{count} of {written} lines appended: {ended:?}");
        self.tried = self.tried.max(self.acknowledged + written + BURST).min(self.sequence.len());
        self.acknowledged += count;
    }

    /// For the independent reader.
    fn lines(&self) -> String {
        let tried = self.sequence[..self.tried].iter().enumerate();
        let line = |(at, number): (usize, &u64)| {
            let dead = if orders::fate(*number) == Fate::Dead { " dead" } else { "" };
            let maybe = if at < self.acknowledged { "" } else { " maybe" };
            format!("{}{dead}{maybe}\n", orders::id(*number))
        };
        tried.map(line).collect()
    }

    fn acknowledged(&self) -> std::collections::BTreeSet<u64> {
        self.sequence[..self.acknowledged].iter().copied().collect()
    }
}
