use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::{SystemClock, WallClock as _};
use millstream_core::hot_keys::HotKey;
use millstream_core::message::Partition;
use millstream_core::metrics::{Metrics, PartitionMetrics};
use millstream_core::names::Template;
use millstream_core::pipeline_spec::*;
use millstream_core::plugin_slot::PluginSlot;
use millstream_core::recent_failures::Failed;
use millstream_core::status::{HeldUp, PartitionStatus, PipelineStatus};
use prometheus::Registry;

use super::super::build::ServedPipeline;
use super::super::sampler::Sampler;
use super::*;
use crate::jobs::Jobs;

/// A pipeline that a test lets count, and what is shown of it.
struct Lab {
    sampler: Sampler,
    metrics: Metrics,
    partition: PartitionMetrics,
    status: Arc<PipelineStatus>,
    of_partition: Arc<PartitionStatus>,
}

fn spec() -> PipelineSpec {
    let template = |text, tier| Template::new(text, tier).expect("a template");
    PipelineSpec {
        name: "orders".to_owned(),
        group: "orders".to_owned(),
        topics: vec!["orders".into()],
        start: Start::Earliest,
        outputs: BTreeMap::from([("default".to_owned(), "priced".into())]),
        delivery: Delivery::AtLeastOnce,
        ordering: Ordering::Key,
        in_flight_messages: 1_000,
        in_flight_bytes: 1 << 20,
        waiting_messages: 1_000,
        waiting_bytes: 1 << 20,
        instances: 2,
        retry: RetrySpec {
            delays: vec![Duration::from_secs(5)],
            keep_order: KeepOrder::OfKey,
            topic: template("{topic}.retry.{delay}", true),
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
        },
        dead_letter: DeadLetterSpec {
            topic: template("{topic}.dlq", false),
            retention: None,
            after_host_crashes: None,
            park_after: None,
            mask: Default::default(),
        },
        idempotency: None,
        commit_interval: Duration::from_millis(250),
        commit_refresh: Duration::from_secs(86_400),
        transaction_interval: Duration::ZERO,
        held_up_after: Duration::from_secs(60),
        drain: Duration::from_secs(10),
    }
}

impl Lab {
    /// Tokio's clock must be paused: the test says how time passes.
    fn new() -> Self {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("registered");
        let status = Arc::new(PipelineStatus::default());
        let place = Partition::new("orders", 0);
        let of_partition = status.add(place.clone());
        of_partition.started.store(true, std::sync::atomic::Ordering::Relaxed);
        let served = ServedPipeline {
            spec: spec(),
            status: Arc::clone(&status),
            slot: PluginSlot::empty(),
            time_limit: Duration::from_secs(1),
        };
        let jobs = Arc::new(Jobs::default());
        let cluster = "cluster".to_owned();
        let sampler = Sampler::new(vec![served], registry, Arc::new(SystemClock), jobs, cluster);
        metrics.up.with_label_values(&["orders"]).set(1);
        let partition = metrics.partition("orders", &place);
        Self { sampler, metrics, partition, status, of_partition }
    }

    /// A second passes, in which the pipeline counts what `work` says.
    async fn second(&self, work: impl FnOnce(&Self)) {
        work(self);
        tokio::time::advance(Duration::from_secs(1)).await;
        self.sampler.sample();
    }

    fn done(&self, count: u64, took: f64) {
        self.partition.done.inc_by(count);
        let handling = self.metrics.handling.with_label_values(&["orders", "done"]);
        (0..count).for_each(|_| handling.observe(took));
    }

    fn failed(&self, kind: &'static str, reason: &str) {
        self.partition.failed(kind);
        let place = Partition::new("orders", 0);
        let failed = Failed { kind, reason, partition: &place, offset: 1, attempt: 1 };
        let mut failures = self.status.failures.lock().expect("no panic");
        failures.note(failed, SystemClock.now());
    }

    fn shown(&self) -> serde_json::Value {
        serde_json::from_slice(&self.sampler.shown().full).expect("JSON")
    }

    fn problems(&self) -> Vec<(String, String)> {
        let text = |problem: &serde_json::Value, name: &str| {
            problem[name].as_str().expect(name).to_owned()
        };
        let shown = self.shown();
        let problems = shown["problems"].as_array().expect("a list").iter();
        problems.map(|problem| (text(problem, "severity"), text(problem, "what"))).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_works_has_no_problems_and_its_rates_are_right() {
    let lab = Lab::new();
    for _ in 0..30 {
        lab.second(|lab| {
            lab.done(100, 0.001);
            lab.partition.outputs("priced", 200);
        })
        .await;
    }
    assert_eq!(lab.problems(), []);
    let shown = lab.shown();
    let pipeline = &shown["pipelines"][0];
    assert_eq!(pipeline["rates"]["done"], 100.0);
    assert_eq!(pipeline["outputs"][0]["per_second"], 200.0);
    assert_eq!(pipeline["history"]["done"].as_array().expect("points").len(), 3);
    assert_eq!(pipeline["tiers"][0]["delay"], "5s");
}

#[tokio::test(start_paused = true)]
async fn a_poison_burst_is_told_by_share_and_by_dead_letters_and_passes() {
    let lab = Lab::new();
    lab.second(|lab| lab.done(100, 0.001)).await;
    for _ in 0..10 {
        lab.second(|lab| {
            lab.done(10, 0.001);
            for n in 0..10 {
                lab.failed("reject", &format!("order {n} has no price"));
                lab.partition.dead_letter("reject");
            }
        })
        .await;
    }
    let problems = lab.problems();
    let whats: Vec<_> =
        problems.iter().map(|(severity, what)| format!("{severity} {what}")).collect();
    assert_eq!(
        whats,
        ["critical 50 % of attempts fail", "critical 100 new dead letters in the last minute"]
    );
    for _ in 0..61 {
        lab.second(|lab| lab.done(10, 0.001)).await;
    }
    assert_eq!(lab.problems(), []);
}

#[tokio::test(start_paused = true)]
async fn a_slow_dependency_is_told_before_attempts_time_out() {
    let lab = Lab::new();
    for _ in 0..15 {
        lab.second(|lab| lab.done(10, 0.7)).await;
    }
    let problems = lab.problems();
    assert!(problems[0].1.starts_with("Attempts take long"), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn partitions_that_stand_still_say_why_and_since_when() {
    let lab = Lab::new();
    lab.partition.lag.set(500);
    let held_up = HeldUp { offset: Some(7), by: HeldUpBy::Append, seconds: 90 };
    *lab.of_partition.held_up.lock().expect("no panic") = Some(held_up);
    lab.second(|_| {}).await;
    lab.second(|_| {}).await;
    let shown = lab.shown();
    let problem = &shown["problems"][0];
    assert_eq!(problem["severity"], "critical");
    assert_eq!(problem["what"], "orders[0] stands still, 500 messages behind");
    let since = problem["since"].as_i64().expect("a time");
    let now = shown["now"].as_i64().expect("a time");
    assert!((85_000..95_000).contains(&(now - since)), "{since} of {now}");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_stopped_goes_before_all_else() {
    let lab = Lab::new();
    lab.status.stopped("stopped: the dead letters are full: make room".to_owned());
    lab.metrics.up.with_label_values(&["orders"]).set(0);
    for _ in 0..3 {
        lab.second(|lab| (0..20).for_each(|_| lab.failed("trap", "x"))).await;
    }
    let problems = lab.problems();
    assert_eq!(problems[0], ("critical".to_owned(), "orders has stopped".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn keys_are_shown_to_writers_only() {
    let lab = Lab::new();
    let hot = HotKey { key: "ada@example.com".to_owned(), of_attempts: 0.9, of_time: 0.9 };
    *lab.of_partition.hot_keys.lock().expect("no panic") = vec![hot];
    lab.partition.due_lag.set(1_000);
    for _ in 0..3 {
        lab.second(|_| {}).await;
    }
    let shown = lab.sampler.shown();
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    assert!(text(&shown.full).contains("ada@example.com"));
    assert!(!text(&shown.masked).contains("ada"), "{}", text(&shown.masked));
    assert!(text(&shown.masked).contains("One key takes up orders[0]: 90 % of it"));
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!([whole(0.0), whole(999.6), whole(1_234_567.0)], ["0", "1,000", "1,234,567"]);
    assert_eq!(count(1.0, "call", "calls"), "1 call");
    assert_eq!(
        [seconds(0.0004), seconds(0.25), seconds(3.2), seconds(600.0)],
        ["400 µs", "250 ms", "3.2 s", "10 min"]
    );
    assert_eq!(line(&"é".repeat(300)).chars().count(), 161);
}
