//! Whole pipelines of the core on the embedded log, with handlers written here: histories that broke
//! an earlier version, each with the promise it broke.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::clock::SystemClock;
use millstream_core::log::{Log, Room, TopicSpec};
use millstream_core::message::{Message, Partition, Record};
use millstream_core::metrics::Metrics;
use millstream_core::names::Template;
use millstream_core::outcome::{Destination, Outcome, Output};
use millstream_core::pipeline::{Pipeline, Ports, SuspicionRight, Until};
use millstream_core::pipeline_spec::{
    DeadLetterSpec, Delivery, KeepOrder, Ordering, PipelineSpec, RetrySpec, Start,
};
use millstream_core::plugin::{AttemptContext, Instance, Plugin, PluginError, PluginIdentity};
use millstream_core::plugin_slot::PluginSlot;
use millstream_core::shutdown::{Shutdown, Trigger};
use millstream_log_embedded::{EmbeddedLog, EmbeddedOptions};

/// No wait for a condition takes longer than this, or the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Decides by the value and the attempt.
type Handler = Arc<dyn Fn(&str, u32) -> Outcome + Send + Sync>;

struct Scripted {
    identity: PluginIdentity,
    handler: Handler,
    handled: Arc<Mutex<Vec<String>>>,
}

struct ScriptedInstance(Handler, Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Plugin for Scripted {
    fn identity(&self) -> &PluginIdentity {
        &self.identity
    }

    async fn instance(&self) -> Result<Box<dyn Instance>, PluginError> {
        Ok(Box::new(ScriptedInstance(self.handler.clone(), self.handled.clone())))
    }
}

#[async_trait]
impl Instance for ScriptedInstance {
    async fn handle(&mut self, message: &Message, context: AttemptContext) -> Outcome {
        let value = String::from_utf8_lossy(message.value.as_deref().unwrap_or_default());
        let outcome = (self.0)(&value, context.attempt);
        if matches!(outcome, Outcome::Done(_)) {
            self.1.lock().expect("no panic").push(value.into_owned());
        }
        outcome
    }
}

struct World {
    log: Arc<EmbeddedLog>,
    handled: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(partitions: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = EmbeddedOptions { reserve_bytes: 1 << 20, ..EmbeddedOptions::default() };
        let log = EmbeddedLog::open(&folder.path().join("log"), options).expect("it opens");
        let world = Self { log, handled: Arc::default(), _folder: folder };
        world.topic("in", partitions).await;
        world.topic("out", 1).await;
        world
    }

    async fn topic(&self, name: &str, partitions: u32) {
        let spec = TopicSpec {
            name: name.into(),
            partitions,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1 << 20,
            append_time: false,
            compacted: false,
            replication: None,
        };
        self.log.create_topic(spec).await.expect("a good topic");
    }

    async fn produce(&self, partition: u32, values: impl IntoIterator<Item = String>) {
        let records = values.into_iter().map(|value| Record {
            topic: "in".into(),
            partition: Some(partition),
            timestamp: None,
            key: None,
            value: Some(Bytes::from(value)),
            headers: vec![],
        });
        let records: Vec<Record> = records.collect();
        let records: Vec<&Record> = records.iter().collect();
        for result in self.log.append(&records).await.expect("the log is there") {
            result.expect("a good record");
        }
    }

    fn pipeline(&self, spec: PipelineSpec, handler: Handler) -> Pipeline {
        let registry = prometheus::Registry::new();
        let identity =
            PluginIdentity { name: "test".into(), version: "1".into(), digest: "sha256:0".into() };
        let ports = Ports {
            log: self.log.clone(),
            plugin: PluginSlot::holding(Arc::new(Scripted {
                identity,
                handler,
                handled: self.handled.clone(),
            })),
            idempotency: Some(self.log.clone()),
            clock: Arc::new(SystemClock),
            metrics: Metrics::new(&registry).expect("a fresh registry"),
            suspicion: SuspicionRight::default(),
            traces: None,
        };
        Pipeline::new(spec, ports)
    }

    async fn until_caught_up(&self, spec: PipelineSpec, handler: Handler) {
        let (_trigger, shutdown) = Shutdown::new();
        let run = self.pipeline(spec, handler).run(shutdown, Until::CaughtUp);
        let ended = tokio::time::timeout(PATIENCE, run).await.expect("it ends by itself");
        ended.expect("nothing stops it");
    }

    fn start(
        &self,
        spec: PipelineSpec,
        handler: Handler,
    ) -> (Trigger, tokio::task::JoinHandle<()>) {
        let (trigger, shutdown) = Shutdown::new();
        let pipeline = self.pipeline(spec, handler);
        let task = tokio::spawn(async move {
            pipeline.run(shutdown, Until::Shutdown).await.expect("nothing stops it");
        });
        (trigger, task)
    }

    fn handled(&self) -> Vec<String> {
        let mut handled = self.handled.lock().expect("no panic").clone();
        handled.sort();
        handled
    }

    async fn wait_for(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            while !condition(self).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
    }
}

fn spec() -> PipelineSpec {
    let template = |text, tier| Template::new(text, tier).expect("a good template");
    PipelineSpec {
        name: "test".into(),
        group: "g".into(),
        topics: vec!["in".into()],
        start: Start::Earliest,
        outputs: BTreeMap::from([("default".into(), "out".into())]),
        delivery: Delivery::AtLeastOnce,
        ordering: Ordering::None,
        in_flight_messages: 1_000,
        in_flight_bytes: 1 << 20,
        waiting_messages: 1000,
        waiting_bytes: 1 << 20,
        instances: 2,
        retry: RetrySpec {
            delays: vec![Duration::from_millis(20)],
            keep_order: KeepOrder::No,
            topic: template("{topic}.retry.{delay}", true),
            pause_min: Duration::from_millis(1),
            pause_max: Duration::from_millis(100),
        },
        dead_letter: DeadLetterSpec {
            topic: template("{topic}.dlq", false),
            retention: None,
            after_host_crashes: None,
            park_after: None,
            mask: millstream_core::dead_letter::Mask::default(),
        },
        idempotency: None,
        commit_interval: Duration::from_millis(10),
        commit_refresh: Duration::from_secs(86_400),
        held_up_after: Duration::from_secs(60),
        transaction_interval: Duration::ZERO,
        drain: Duration::from_secs(5),
    }
}

fn retry() -> Outcome {
    Outcome::Retry { reason: "not yet".into(), after: None }
}

fn done() -> Handler {
    Arc::new(|_, _| Outcome::Done(vec![]))
}

#[tokio::test]
async fn where_a_new_group_begins_is_decided_once() {
    let world = World::new(1).await;
    world.produce(0, ["old".to_owned()]).await;
    let latest = PipelineSpec { start: Start::Latest, ..spec() };
    world.until_caught_up(latest.clone(), done()).await;
    world.produce(0, ["while it was down".to_owned()]).await;
    world.until_caught_up(latest, done()).await;
    assert_eq!(world.handled(), ["while it was down"]);
}

#[tokio::test]
async fn at_most_once_loses_nothing_while_nobody_dies() {
    let world = World::new(1).await;
    world.produce(0, ["a", "b", "c"].map(str::to_owned)).await;
    let mut in_place =
        PipelineSpec { delivery: Delivery::AtMostOnce, ordering: Ordering::Partition, ..spec() };
    in_place.retry.keep_order = KeepOrder::OfPartition;
    in_place.retry.delays = vec![Duration::from_millis(300)];
    let handler: Handler = Arc::new(|value, attempt| match (value, attempt) {
        ("a", 1) => retry(),
        _ => Outcome::Done(vec![]),
    });
    world.until_caught_up(in_place, handler).await;
    assert_eq!(world.handled(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_partition_that_waits_does_not_starve_the_others_by_bytes() {
    let world = World::new(2).await;
    let large = |n: u32| format!("large-{n}-{}", "x".repeat(20_000));
    world.produce(0, (0..200).map(large)).await;
    world.produce(1, (0..9).map(|n| format!("small-{n}"))).await;
    let mut in_place = PipelineSpec { ordering: Ordering::Partition, ..spec() };
    in_place.retry.keep_order = KeepOrder::OfPartition;
    in_place.retry.delays = vec![Duration::from_secs(600)];
    let handler: Handler =
        Arc::new(
            |value, _| {
                if value.starts_with("large") { retry() } else { Outcome::Done(vec![]) }
            },
        );
    let (trigger, task) = world.start(in_place, handler);
    world.wait_for("the other partition is handled", async |w| w.handled().len() == 9).await;
    trigger.request();
    task.await.expect("it drains");
}

#[tokio::test]
async fn partitions_that_are_added_to_a_running_source_are_handled_with_their_companions() {
    let world = World::new(1).await;
    let reject: Handler = Arc::new(|_, _| Outcome::Reject { reason: "no".into() });
    let (trigger, task) = world.start(spec(), reject);
    world.produce(0, ["first".to_owned()]).await;
    world.topic("in", 3).await;
    world.produce(2, ["second".to_owned()]).await;
    let dead = async |w: &World| {
        let dead = [0, 2].map(|number| Partition::new("in.dlq", number));
        matches!(w.log.ends(&dead).await.as_deref(), Ok([a, b]) if a.end == 1 && b.end == 1)
    };
    world.wait_for("both are dead letters in their own partitions", dead).await;
    trigger.request();
    task.await.expect("it drains");
}

#[tokio::test]
async fn settled_retries_are_removed_from_their_tier() {
    let world = World::new(1).await;
    world.produce(0, (0..500).map(|n| format!("{n:03}"))).await;
    let handler: Handler =
        Arc::new(|_, attempt| if attempt == 1 { retry() } else { Outcome::Done(vec![]) });
    let (trigger, task) = world.start(spec(), handler);
    let trimmed = async |w: &World| {
        let tier = Partition::new("in.retry.20ms", 0);
        w.log.ends(&[tier]).await.is_ok_and(|ends| ends[0].start >= 400)
    };
    world.wait_for("what is settled is gone", trimmed).await;
    world.wait_for("all are handled", async |w| w.handled().len() == 500).await;
    trigger.request();
    task.await.expect("it drains");
}

#[tokio::test]
async fn a_large_backlog_of_retries_does_not_keep_a_partition_from_starting() {
    let world = World::new(1).await;
    world.produce(0, (0..3_000).map(|n| n.to_string())).await;
    let mut slow = spec();
    slow.retry.delays = vec![Duration::from_secs(3_600)];
    world.until_caught_up(slow.clone(), Arc::new(|_, _| retry())).await;
    world.produce(0, ["new".to_owned()]).await;
    let small = PipelineSpec { in_flight_messages: 1, ..slow };
    world.until_caught_up(small, done()).await;
    assert_eq!(world.handled(), ["new"], "the retries are not due for an hour");
}

#[tokio::test]
async fn outputs_are_in_the_log_when_a_run_has_caught_up() {
    let world = World::new(1).await;
    world.produce(0, (0..1_000).map(|n| n.to_string())).await;
    let output = |value: &str| Output {
        to: Destination::Default,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![],
        partition: None,
        timestamp: None,
    };
    let handler: Handler = Arc::new(move |value, _| Outcome::Done(vec![output(value)]));
    let ordered = PipelineSpec { ordering: Ordering::Partition, ..spec() };
    world.until_caught_up(ordered, handler).await;
    let room = Room { messages: 2_000, bytes: 1 << 20 };
    let batch =
        world.log.fetch(&Partition::new("out", 0), 0, room).await.expect("the log is there");
    let values: Vec<_> = batch.messages.iter().map(|m| m.value.clone().expect("a value")).collect();
    let expected: Vec<_> = (0..1_000).map(|n| Bytes::from(n.to_string())).collect();
    assert_eq!(values, expected);
}
