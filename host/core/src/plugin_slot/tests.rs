use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::attempt::{Attempted, OutputRules, Returned, Verdict, Work, Workers};
use crate::in_hand::InHand;
use crate::lane::Lanes;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::pipeline_spec::Ordering;
use crate::plugin::{AttemptContext, Instance, PluginError};
use crate::work_queue::WorkQueue;

/// Rejects every message; at the first one it puts `next` into the slot.
struct Scripted {
    identity: PluginIdentity,
    slot: Arc<PluginSlot>,
    next: Mutex<Option<Arc<dyn Plugin>>>,
}

struct Rejects(Arc<PluginSlot>, Option<Arc<dyn Plugin>>);

impl Scripted {
    fn new(version: &str, slot: &Arc<PluginSlot>, next: Option<Arc<dyn Plugin>>) -> Arc<Self> {
        let text = |text: &str| text.to_owned();
        let identity =
            PluginIdentity { name: text("p"), version: text(version), digest: text("sha256:0") };
        Arc::new(Self { identity, slot: Arc::clone(slot), next: Mutex::new(next) })
    }
}

#[async_trait]
impl Plugin for Scripted {
    fn identity(&self) -> &PluginIdentity {
        &self.identity
    }

    async fn instance(&self) -> Result<Box<dyn Instance>, PluginError> {
        let next = self.next.lock().expect("whole").take();
        Ok(Box::new(Rejects(Arc::clone(&self.slot), next)))
    }
}

#[async_trait]
impl Instance for Rejects {
    async fn handle(&mut self, _: &Message, _: AttemptContext) -> Outcome {
        if let Some(next) = self.1.take() {
            self.0.put(next);
        }
        Outcome::Reject { reason: "never".to_owned() }
    }
}

fn message(offset: u64) -> InHand {
    let message = Message {
        topic: "orders".into(),
        partition: 0,
        offset,
        timestamp: 0,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    InHand::of_source(message, 0)
}

/// What becomes of a batch of three messages, each of a lane of its own.
async fn attempted(slot: &Arc<PluginSlot>) -> Vec<Attempted> {
    let queue = Arc::new(WorkQueue::default());
    let workers = Workers {
        queue: Arc::clone(&queue),
        plugin: Arc::clone(slot),
        outputs: Arc::new(OutputRules::default()),
        lane_waits: false,
        pipeline: "orders".into(),
        tracer: None,
    };
    let metrics = Metrics::new(&prometheus::Registry::new()).expect("a fresh registry");
    let (reply, mut returned) = mpsc::channel(1);
    let mut lanes = Lanes::new(Ordering::None, None);
    for offset in 0..3 {
        let _ = lanes.push(None, offset);
    }
    let mut batch = Vec::new();
    while let Some(lane) = lanes.next_ready() {
        batch.push((lane, message(lanes.pop(lane).expect("one"))));
    }
    queue.offer(Work { batch, reply });
    tokio::select! {
        () = workers.work(metrics.worker("orders")) => panic!("a worker ended"),
        returned = returned.recv() => {
            let Returned { batch, .. } = returned.expect("a batch");
            batch
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_takes_over_between_two_messages_of_one_batch() {
    let slot = PluginSlot::empty();
    let two = Scripted::new("2", &slot, None);
    slot.put(Scripted::new("1", &slot, Some(two)));
    let by = |attempted: &Attempted| {
        assert!(matches!(attempted.verdict, Verdict::Failed(_)), "{attempted:?}");
        attempted.item.attempted_by.as_ref().expect("attempted").version.clone()
    };
    let versions: Vec<String> = attempted(&slot).await.iter().map(by).collect();
    assert_eq!(versions, ["1", "2", "2"], "the first ends with the version it began with");
}

#[tokio::test(start_paused = true)]
async fn without_a_version_messages_come_back_unattempted() {
    let slot = PluginSlot::empty();
    for unusable in [false, true] {
        if unusable {
            slot.clear("it cannot be loaded");
        }
        let back = attempted(&slot).await;
        let unattempted = |a: &Attempted| matches!(a.verdict, Verdict::Unattempted);
        assert!(back.len() == 3 && back.iter().all(unattempted), "{back:?}");
    }
    assert_eq!(slot.decided().await.expect_err("no version").as_ref(), "it cannot be loaded");
    slot.put(Scripted::new("1", &slot, None));
    tokio::time::timeout(Duration::ZERO, slot.filled()).await.expect("at once");
}

#[tokio::test(start_paused = true)]
async fn the_metrics_show_one_version_and_count_the_swaps() {
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry).expect("a fresh registry");
    let (slot, status) = (PluginSlot::empty(), PipelineStatus::default());
    let steps = async {
        for version in ["1", "2", "3"] {
            slot.put(Scripted::new(version, &slot, None));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = show(&slot, "orders", &status, &metrics) => panic!("it ended"),
        () = steps => {}
    }
    let families = registry.gather();
    let of = |name: &str| families.iter().find(|family| family.name() == name).expect("there");
    let info = of("millstream_plugin_info").get_metric();
    assert_eq!(info.len(), 1, "versions that are gone are not shown");
    let shown = info[0].get_label().iter().any(|label| label.value() == "3");
    assert!(shown, "{info:?}");
    assert_eq!(metrics.plugin_swaps.with_label_values(&["orders"]).get(), 2);
    assert_eq!(status.report().plugin.expect("told").version, "3");
}
