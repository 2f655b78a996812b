//! SIGKILL of hosts at random points of a stream and of a start, on Kafka, checked by nothing of Millstream's:
//! Kafka's own console consumer prints what stands in the topics, and a Python program adds it up.
//!
//! The long form (`make soak`) has 100 kills in each delivery mode.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_tests::draw::Draw;
use millstream_tests::host::{END_WITHIN, Host};
use millstream_tests::kafka::Cluster;
use millstream_tests::kafka_topic::Writer;
use millstream_tests::reader::{self, Lines, Sums};
use tokio::time::Instant;

use crate::hosts::{Pipeline, is_soak};

/// Kills in one run.
const KILLS: usize = 10;
const KILLS_SOAK: usize = 100;
const HOSTS: usize = 2;
/// One in so many hosts is killed before it is ready.
const KILLED_AT_START_ONE_IN: u64 = 4;
/// When, after it was started.
const START_MS: std::ops::Range<u64> = 0..400;
/// When, after it was ready.
const STREAM_MS: std::ops::Range<u64> = 0..1_000;
/// How long a kill waits for a host to have messages in hand.
const AT_WORK_WITHIN: Duration = Duration::from_secs(5);
/// Messages that are written at once, and how often.
const STEP: usize = 60;
const STEP_EVERY: Duration = Duration::from_millis(20);
/// More failures than attempts.
const DIES_ONE_IN: usize = 97;
const FAILS_ONE_IN: usize = 7;

#[test]
fn kills_at_random_points_lose_nothing_and_repeat_nothing_exactly_once() {
    let Sums { again, .. } = killed_and_killed_again("exactly_once");
    assert_eq!(again, 0);
}

#[test]
fn kills_at_random_points_lose_nothing_at_least_once() {
    killed_and_killed_again("at_least_once");
}

/// A cluster on which a host that was killed is not waited for long: its partitions are handed over while the
/// next kill is on its way.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let patient = "broker.session.timeout.ms=60000";
    let quick = "group.min.session.timeout.ms=1000";
    CLUSTER.get_or_init(|| Cluster::start(&["--quick", "--set", patient, "--set", quick]))
}

fn killed_and_killed_again(delivery: &str) -> Sums {
    let mut draw = Draw::seeded(delivery);
    let kills = if is_soak() { KILLS_SOAK } else { KILLS };
    let client = "\"session.timeout.ms\" = 2000, \"heartbeat.interval.ms\" = 300";
    let more = format!(
        "delivery = \"{delivery}\"\ncommit = {{ interval = \"20ms\" }}\n\
         retry = {{ delays = [\"50ms\", \"100ms\", \"200ms\"] }}"
    );
    let pipeline = Pipeline::new(cluster(), "hostile", client, &more);
    let start = |index: usize| Host::start(&pipeline.folders[index]);
    let mut hosts: VecDeque<(usize, Host)> =
        (0..HOSTS).map(|index| (index, start(index))).collect();
    let killed = AtomicBool::new(false);
    let (sent, in_hand) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(&pipeline, &killed));
        let mut in_hand = 0;
        for _ in 0..kills {
            if draw.within(0..2) == 0 {
                hosts.rotate_left(1);
            }
            let (index, mut host) = hosts.pop_front().unwrap();
            // Any time is good to be killed at.
            if draw.within(0..KILLED_AT_START_ONE_IN) == 0 {
                std::thread::sleep(Duration::from_millis(draw.within(START_MS)));
            } else {
                host.until_ready();
                std::thread::sleep(Duration::from_millis(draw.within(STREAM_MS)));
                in_hand += usize::from(is_caught_at_work(&mut host));
            }
            host.kill();
            hosts.push_back((index, start(index)));
        }
        killed.store(true, Ordering::Relaxed);
        (sending.join().unwrap(), in_hand)
    });
    pipeline.until_settled();
    for (_, host) in hosts {
        host.stop(Duration::from_secs(30) + END_WITHIN);
    }
    let dead = format!("{}.dlq", pipeline.source);
    let (out, dead) = std::thread::scope(|scope| {
        let dead = scope.spawn(|| reader::console(cluster(), &dead));
        (reader::console(cluster(), &pipeline.output), dead.join().unwrap())
    });
    let sent: String = (0..sent).map(line).collect();
    let exactly_once = delivery == "exactly_once";
    let lines = Lines { id: "KEY", sent, source: None, out, dead, exactly_once };
    let what = format!("Kafka, {delivery}, {kills} kills, {in_hand} of them with messages in hand");
    let sums = lines.sums(&what).unwrap();
    // A run in which nothing happened proves nothing.
    assert!(in_hand * 4 >= kills, "only {in_hand} of {kills} kills had messages in hand");
    assert!(sums.dead > 0 && sums.handled > kills * STEP, "{sums:?}");
    sums
}

/// Waits until a host has messages in hand: on a busy machine it is idle most of the time. One that has no partition
/// yet is killed without.
fn is_caught_at_work(host: &mut Host) -> bool {
    let deadline = Instant::now() + AT_WORK_WITHIN;
    loop {
        let messages = host.metric("millstream_in_flight_messages", &[]);
        if messages.is_some_and(|messages| messages > 0.0) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
    }
}

/// Writes messages until all kills are done; how many.
fn send(pipeline: &Pipeline, killed: &AtomicBool) -> usize {
    let writer = Writer::new(cluster().bootstrap());
    let mut sent = 0;
    while !killed.load(Ordering::Relaxed) {
        for number in sent..sent + STEP {
            let failures = match number {
                n if n % DIES_ONE_IN == 0 => 9,
                n if n % FAILS_ONE_IN == 0 => 1,
                _ => 0,
            };
            writer.write(
                &pipeline.source,
                &format!("n{number}"),
                &format!("after {failures} {number}"),
            );
        }
        // What is flushed is acknowledged.
        writer.flush();
        sent += STEP;
        std::thread::sleep(STEP_EVERY);
    }
    sent
}

/// A message, for the independent reader.
fn line(number: usize) -> String {
    let dead = if number.is_multiple_of(DIES_ONE_IN) { " dead" } else { "" };
    format!("n{number}{dead}\n")
}
