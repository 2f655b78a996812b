//! Attempt: runs the plugin on a batch of messages and turns whatever happens into a verdict each.
//!
//! After `dedupe`, before `settle`. Each worker owns one instance and takes batches from the work
//! queue; messages of one lane lie together in a batch, in order. Before each message it looks whether the
//! pipeline's slot (`plugin_slot`) holds another version, and makes an instance of that one then.
//!
//! Invariants:
//! - every message of a batch comes back, attempted or not;
//! - after a message that its lane must wait for, the rest of that lane comes back unattempted;
//! - a partition that is gone cancels its batch: dropping its end of `reply` is enough.
//!
//! Limits: a batch ends early after [`SLICE`] of time or [`BATCH_OUTPUT_BYTES_MAX`] of outputs, so
//! that one slow or prolific message does not hold back the rest behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::headers;
use crate::in_hand::InHand;
use crate::lane::LaneId;
use crate::message::{Record, Topic};
use crate::metrics::WorkerMetrics;
use crate::outcome::{Fault, FaultKind, Outcome, Output};
use crate::plugin::{AttemptContext, Instance, PluginIdentity};
use crate::plugin_slot::{Held, PluginSlot};
use crate::trace::{AttemptEnded, Outgoing, TracedAttempt, Tracer};
use crate::work_queue::WorkQueue;

/// After so long a worker hands the rest of its batch back, for others to take.
pub const SLICE: Duration = Duration::from_millis(10);

/// After so many bytes of outputs a worker hands the rest of its batch back.
pub const BATCH_OUTPUT_BYTES_MAX: usize = 4 << 20;

/// How long a worker waits before it asks again for an instance it did not get.
const INSTANCE_RETRY: Duration = Duration::from_millis(200);

/// How long a worker holds a batch that no version can handle before it hands it back: a pipeline that drains
/// waits for it.
const NO_VERSION_WAIT: Duration = Duration::from_millis(50);

/// A batch of messages on its way to a worker.
#[derive(Debug)]
pub struct Work {
    /// The messages, those of a lane together and in order.
    pub batch: Vec<(LaneId, InHand)>,
    /// Where the batch goes back to; it has room for every batch a partition may have out, and is
    /// closed when the partition is gone.
    pub reply: mpsc::Sender<Returned>,
}

/// A batch that came back from a worker.
#[derive(Debug)]
pub struct Returned {
    /// All of its messages, those of a lane together and in order.
    pub batch: Vec<Attempted>,
    /// How long the worker was busy with it.
    pub busy: Duration,
}

/// A message that came back from a worker.
#[derive(Debug)]
pub struct Attempted {
    /// Its lane.
    pub lane: LaneId,
    /// The message.
    pub item: InHand,
    /// What came of it.
    pub verdict: Verdict,
    /// How long the attempt took.
    pub took: Duration,
}

/// What came of a message that was given to a worker.
#[derive(Debug)]
pub enum Verdict {
    /// It was not attempted.
    Unattempted,
    /// Handled; these records are to be appended.
    Done(Vec<Record>),
    /// Not handled; never `Outcome::Done`.
    Failed(Outcome),
}

/// Where a pipeline's outputs go.
#[derive(Clone, Debug, Default)]
pub struct OutputRules {
    /// Name to topic and the largest record it takes.
    pub topics: BTreeMap<String, (Topic, usize)>,
}

impl OutputRules {
    /// The records of a message's outputs.
    ///
    /// # Errors
    /// A fault if an output is not named by the pipeline (`denied`) or larger than its topic takes
    /// (`oversize`): one such record would make a broker refuse the whole batch.
    pub(crate) fn records(
        &self,
        item: &InHand,
        outputs: Vec<Output>,
        trace: Option<&Outgoing>,
    ) -> Result<Vec<Record>, Fault> {
        outputs.into_iter().map(|output| self.record(item, output, trace)).collect()
    }

    fn record(
        &self,
        item: &InHand,
        mut output: Output,
        trace: Option<&Outgoing>,
    ) -> Result<Record, Fault> {
        let Some((topic, bytes_max)) = self.topics.get(output.to.name()) else {
            let known: Vec<&str> = self.topics.keys().map(String::as_str).collect();
            return Err(fault(
                FaultKind::Denied,
                format!(
                    "the plugin sent to output `{}`, which the pipeline does not name (it names: {})",
                    output.to.name(),
                    known.join(", "),
                ),
            ));
        };
        output.headers.retain(|header| !headers::is_ours(&header.name));
        let mut record = Record {
            topic: topic.clone(),
            partition: output.partition,
            timestamp: Some(output.timestamp.unwrap_or(item.context.timestamp)),
            key: output.key,
            value: output.value,
            headers: output.headers,
        };
        let size_bytes = record.payload_bytes();
        if size_bytes > *bytes_max {
            return Err(fault(
                FaultKind::Oversize,
                format!(
                    "an output of {size_bytes} bytes is larger than the {bytes_max} bytes topic {topic} takes"
                ),
            ));
        }
        // That a message is traced must not make its outputs too large.
        if let Some(trace) = trace.filter(|trace| size_bytes + trace.bytes() <= *bytes_max) {
            trace.put_into(&mut record.headers);
        }
        Ok(record)
    }
}

fn fault(kind: FaultKind, reason: String) -> Fault {
    Fault { kind, reason, backtrace: None }
}

/// What a pipeline's workers share.
#[derive(Clone)]
pub struct Workers {
    /// Where batches come from.
    pub queue: Arc<WorkQueue>,
    /// Holds the version that makes instances.
    pub plugin: Arc<PluginSlot>,
    /// Where outputs go.
    pub outputs: Arc<OutputRules>,
    /// Whether a failed message keeps its lane waiting.
    pub lane_waits: bool,
    /// The pipeline's name, for messages.
    pub pipeline: Arc<str>,
    /// Records attempts, if that is wanted.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// A worker's instance, and the version it is of.
struct Made {
    instance: Box<dyn Instance>,
    of: Arc<PluginIdentity>,
}

impl Workers {
    /// One worker: works until it is dropped.
    pub async fn work(self, mut metrics: WorkerMetrics) {
        let mut made: Option<Made> = None;
        let mut held = self.plugin.follow();
        loop {
            let Work { batch, reply } = self.queue.take().await;
            let mut left = batch.into_iter();
            let mut ended = Vec::with_capacity(left.len());
            let begin = Instant::now();
            {
                let gone = reply.closed();
                tokio::pin!(gone);
                tokio::select! {
                    biased;
                    // First: a batch of a partition that is gone already is not begun.
                    () = &mut gone => {
                        // Whoever wanted an answer is gone too; a call in progress was dropped, and
                        // the instance sees to its own memory.
                        continue;
                    }
                    () = self.run(&mut left, &mut ended, &mut made, &mut held, &mut metrics) => {}
                }
            }
            ended.extend(left.map(|(lane, item)| Attempted {
                lane,
                item,
                verdict: Verdict::Unattempted,
                took: Duration::ZERO,
            }));
            metrics.flush();
            // Room is promised by `Work::reply`; a closed channel means the partition is gone.
            let _ = reply.try_send(Returned { batch: ended, busy: begin.elapsed() });
        }
    }

    async fn run(
        &self,
        left: &mut std::vec::IntoIter<(LaneId, InHand)>,
        ended: &mut Vec<Attempted>,
        made: &mut Option<Made>,
        held: &mut watch::Receiver<Held>,
        metrics: &mut WorkerMetrics,
    ) {
        let mut stopped: Option<LaneId> = None;
        let mut output_bytes = 0;
        let begin = Instant::now();
        let mut before = begin;
        while before.duration_since(begin) < SLICE && output_bytes < BATCH_OUTPUT_BYTES_MAX {
            if left.as_slice().is_empty() {
                return;
            }
            let Some(Made { instance: running, of }) = self.instance(made, held).await else {
                return;
            };
            let Some((lane, mut item)) = left.next() else { return };
            if stopped == Some(lane) {
                let (verdict, took) = (Verdict::Unattempted, Duration::ZERO);
                ended.push(Attempted { lane, item, verdict, took });
                continue;
            }
            let tracer = self.tracer.as_deref();
            let traced = tracer.and_then(|tracer| tracer.begin(&item));
            let trace = traced.as_ref().and_then(TracedAttempt::trace);
            let context = AttemptContext { trace, ..item.context };
            let outcome = running.handle(&item.message, context).await;
            metrics.used(running.take_usage());
            let kind = outcome.kind();
            let verdict = match outcome {
                Outcome::Done(outputs) => {
                    let trace = traced.as_ref().map(|traced| &traced.outgoing);
                    match self.outputs.records(&item, outputs, trace) {
                        Ok(records) => Verdict::Done(records),
                        Err(fault) => Verdict::Failed(Outcome::Fault(fault)),
                    }
                }
                failed => Verdict::Failed(failed),
            };
            if matches!(verdict, Verdict::Failed(_)) {
                item.attempted_by = Some(Arc::clone(of));
            }
            match &verdict {
                Verdict::Done(records) => {
                    output_bytes += records.iter().map(Record::payload_bytes).sum::<usize>();
                }
                Verdict::Failed(Outcome::Pause { .. }) => stopped = Some(lane),
                Verdict::Failed(_) if self.lane_waits => stopped = Some(lane),
                Verdict::Failed(_) | Verdict::Unattempted => {}
            }
            let now = Instant::now();
            let took = now.duration_since(before);
            metrics.observe(kind, took);
            if let Some((tracer, traced)) = tracer.zip(traced) {
                tracer.end(traced, &mut item, how(&verdict, of), took);
            }
            before = now;
            ended.push(Attempted { lane, item, verdict, took });
        }
    }

    /// The worker's instance, made now if there is none of the version in use; waits while none can be had. `None`
    /// if there is no version to make one of.
    async fn instance<'a>(
        &self,
        made: &'a mut Option<Made>,
        held: &mut watch::Receiver<Held>,
    ) -> Option<&'a mut Made> {
        // An error would mean that the slot is gone, and it is ours.
        let kept = made.take().filter(|_| !held.has_changed().unwrap_or(false));
        let running = match kept {
            Some(running) => running,
            None => loop {
                let version = match &*held.borrow_and_update() {
                    Held::Version(version) => Some(version.clone()),
                    Held::Nothing | Held::Unusable(_) => None,
                };
                let Some(version) = version else {
                    // Whether another came or not: what is in hand goes back.
                    let _ = tokio::time::timeout(NO_VERSION_WAIT, held.changed()).await;
                    return None;
                };
                match version.plugin.instance().await {
                    // Another came meanwhile: this one begins nothing any more.
                    Ok(_) if held.has_changed().unwrap_or(false) => {}
                    Ok(instance) => break Made { instance, of: version.identity },
                    Err(error) => {
                        let version = &version.identity.version;
                        tracing::error!(pipeline = %self.pipeline, version, %error, "no instance of the plugin can be made; trying again");
                        // Another version may be the way out.
                        let _ = tokio::time::timeout(INSTANCE_RETRY, held.changed()).await;
                    }
                }
            },
        };
        Some(made.insert(running))
    }
}

fn how<'a>(verdict: &'a Verdict, plugin: &'a PluginIdentity) -> AttemptEnded<'a> {
    let (failed, outputs) = match verdict {
        Verdict::Done(records) => (None, records.len()),
        Verdict::Failed(outcome) => (Some(outcome), 0),
        Verdict::Unattempted => (None, 0),
    };
    AttemptEnded { failed, outputs, plugin }
}
