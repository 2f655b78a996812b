//! Pipeline: one configured stream, assembled from the ports and run.
//!
//! ```text
//! Pipeline::run ─┬─ intake ──▶ partition tasks (lane, dedupe, settle, ledger, commit)
//!                └─ workers (attempt)
//! ```
//!
//! All tasks hang on the future of [`Pipeline::run`]: dropping it is a crash, nothing runs on.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attempt::{OutputRules, Workers};
use crate::clock::WallClock;
use crate::companions;
use crate::idempotency::{IdempotencyStore, Scope};
use crate::intake::Intake;
use crate::log::{Log, LogError, Room, Subscription};
use crate::message::{EpochMs, Partition};
use crate::metrics::Metrics;
use crate::pipeline_spec::{Delivery, KeepOrder, PipelineSpec};
use crate::plugin_slot::{self, PluginSlot};
use crate::rounds::Rounds;
use crate::shutdown::Shutdown;
use crate::status::{PipelineStatus, Trouble};
use crate::trace::{Tracer, Traces};
use crate::work_queue::WorkQueue;

/// Bytes one settled range takes in encoded commit metadata, at most: a gap and a length below 2^56.
const RANGE_BYTES_MAX: usize = 16;

/// What a pipeline needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Holds the version of the plugin in use.
    pub plugin: Arc<PluginSlot>,
    /// The store of idempotency marks, if there is one; a pipeline with idempotency keys needs it.
    pub idempotency: Option<Arc<dyn IdempotencyStore>>,
    /// The wall clock.
    pub clock: Arc<dyn WallClock>,
    /// Where numbers go.
    pub metrics: Metrics,
    /// The right to look for a message that kills its host: all pipelines of a host have one.
    pub suspicion: SuspicionRight,
    /// Traces, if they are wanted.
    pub traces: Option<Traces>,
}

/// See [`Ports::suspicion`]: who has it is the only partition of its host under suspicion that handles messages.
#[derive(Clone, Debug)]
pub struct SuspicionRight(pub(crate) Arc<Semaphore>);

impl Default for SuspicionRight {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Why a pipeline, or a partition of it, ended before it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PipelineError {
    /// Another member owns the partition now; what was in hand is left to it.
    #[error("{0}")]
    Fenced(String),
    /// A person must act; the text says what to do. Nothing is lost, what was in hand is uncommitted.
    #[error("{0}")]
    Stopped(String),
    /// A promise within the host was broken.
    #[error("a bug in the host: {0}; please report it")]
    Bug(String),
}

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Only by shutdown.
    Shutdown,
    /// When nothing is due any more: all is handled but retries whose time has not come.
    CaughtUp,
}

/// What all tasks of a pipeline share.
pub(crate) struct Context {
    pub(crate) spec: PipelineSpec,
    pub(crate) ports: Ports,
    pub(crate) queue: Arc<WorkQueue>,
    pub(crate) status: Arc<PipelineStatus>,
    /// How many bytes of settled ranges the log keeps with a commit, as [`crate::ledger::ranges_bytes`] counts.
    pub(crate) ranges_bytes_max: usize,
    /// How many settled ranges have room there, wherever they lie.
    pub(crate) ranges_max: usize,
    /// Whether the run ends by itself when nothing is due.
    pub(crate) until_caught_up: AtomicBool,
    /// When the pipeline was assembled: its first tick.
    pub(crate) begun: Instant,
    /// When partitions send their transactions (`exactly_once`).
    pub(crate) rounds: Arc<Rounds>,
    /// How many partitions each source topic had when the pipeline started; set before intake begins.
    pub(crate) partitions_at_start: OnceLock<BTreeMap<Arc<str>, u32>>,
    /// Records what happens to messages, if that is wanted.
    pub(crate) tracer: Option<Arc<Tracer>>,
}

/// A pipeline, ready to run.
pub struct Pipeline {
    context: Arc<Context>,
}

impl Pipeline {
    /// Assembles a pipeline.
    pub fn new(spec: PipelineSpec, ports: Ports) -> Self {
        Self::with_status(spec, ports, Arc::default())
    }

    /// Assembles a pipeline that tells about itself where an earlier run of it did.
    pub fn with_status(spec: PipelineSpec, ports: Ports, status: Arc<PipelineStatus>) -> Self {
        let ranges_bytes_max = ports.log.commit_metadata_bytes_max();
        let ranges_max = ranges_bytes_max / RANGE_BYTES_MAX;
        let rounds = Arc::new(Rounds::new(spec.transaction_interval));
        let tracer = ports.traces.clone().map(|traces| {
            let clock = Arc::clone(&ports.clock);
            Arc::new(Tracer::new(traces, clock, &spec.name, &spec.group))
        });
        let context = Context {
            rounds,
            spec,
            ports,
            queue: Arc::new(WorkQueue::default()),
            status,
            ranges_bytes_max,
            ranges_max,
            until_caught_up: AtomicBool::new(false),
            begun: Instant::now(),
            partitions_at_start: OnceLock::new(),
            tracer,
        };
        Self { context: Arc::new(context) }
    }

    /// What the pipeline tells about itself, also while it runs.
    pub fn status(&self) -> Arc<PipelineStatus> {
        Arc::clone(&self.context.status)
    }

    /// Runs until shutdown (with a graceful drain) or, if asked for, until caught up. Dropping the
    /// future is a crash: everything stops where it is, nothing more is settled.
    ///
    /// # Errors
    /// When the pipeline must stop; the text says why and what to do.
    pub async fn run(self, shutdown: Shutdown, until: Until) -> Result<(), PipelineError> {
        let context = self.context;
        context.until_caught_up.store(until == Until::CaughtUp, Ordering::Relaxed);
        let up = context.ports.metrics.up.with_label_values(&[&context.spec.name]);
        up.set(1);
        let ended = run(&context, shutdown, until).await;
        if let Err(error) = &ended {
            up.set(0);
            context.status.stopped(format!("stopped: {error}"));
            tracing::error!(pipeline = %context.spec.name, %error, "pipeline stopped");
        }
        ended
    }
}

async fn run(
    context: &Arc<Context>,
    shutdown: Shutdown,
    until: Until,
) -> Result<(), PipelineError> {
    let spec = &context.spec;
    let Ports { plugin, metrics, .. } = &context.ports;
    let shown = plugin_slot::show(plugin, &spec.name, &context.status, metrics);
    let running = run_with(context, shutdown, until);
    tokio::select! {
        biased;
        // It never ends by itself.
        () = shown => Ok(()),
        ended = running => ended,
    }
}

async fn run_with(
    context: &Arc<Context>,
    shutdown: Shutdown,
    until: Until,
) -> Result<(), PipelineError> {
    let spec = &context.spec;
    let mut stop = shutdown.clone();
    let prepared = tokio::select! {
        biased;
        () = stop.requested() => return Ok(()),
        prepared = prepare(context) => prepared?,
    };
    let (outputs, consumer) = prepared;
    let mut workers = JoinSet::new();
    for _ in 0..spec.instances {
        let worker = Workers {
            queue: Arc::clone(&context.queue),
            plugin: Arc::clone(&context.ports.plugin),
            outputs: Arc::clone(&outputs),
            lane_waits: spec.retry.keep_order != KeepOrder::No,
            pipeline: spec.name.as_str().into(),
            tracer: context.tracer.clone(),
        };
        workers.spawn(worker.work(context.ports.metrics.worker(&spec.name)));
    }
    let intake = Intake::new(Arc::clone(context), consumer);
    let running = intake.run(shutdown, until == Until::CaughtUp);
    tokio::select! {
        biased;
        ended = running => ended,
        // Workers end only by a panic.
        Some(worker) = workers.join_next() => {
            Err(PipelineError::Bug(format!("a worker ended: {worker:?}")))
        }
    }
}

/// Everything that must be there before the first message: companions, outputs, the group.
async fn prepare(
    context: &Arc<Context>,
) -> Result<(Arc<OutputRules>, Arc<dyn crate::log::Consumer>), PipelineError> {
    let (spec, log) = (&context.spec, &context.ports.log);
    if spec.idempotency.is_some() && context.ports.idempotency.is_none() {
        return Err(PipelineError::Stopped(format!(
            "pipeline {}: this log has no store for idempotency keys: take `idempotency` out",
            spec.name
        )));
    }
    context
        .until_available("create companion topics", || companions::ensure(&**log, spec, None))
        .await?;
    let topics = context.until_available("list topics", || log.topics()).await?;
    let sources = topics.iter().filter(|topic| spec.topics.contains(&topic.name));
    let counts = sources.map(|topic| (topic.name.clone(), topic.partitions)).collect();
    // A pipeline runs once, so it is not set yet.
    let _ = context.partitions_at_start.set(counts);
    let mut outputs = OutputRules::default();
    for (name, topic) in &spec.outputs {
        let Some(found) = topics.iter().find(|found| found.name == *topic) else {
            return Err(PipelineError::Stopped(format!(
                "pipeline {}: output `{name}` goes to topic {topic}, which does not exist: create it (`millstream topics create {topic}`) or correct `outputs`",
                spec.name
            )));
        };
        outputs.topics.insert(name.clone(), (topic.clone(), found.message_bytes_max));
    }
    let subscription = Subscription {
        pipeline: spec.name.clone(),
        group: spec.group.clone(),
        topics: spec.topics.clone(),
        transactional: spec.delivery == Delivery::ExactlyOnce || context.marks_go_with_records(),
        in_flight: Room { messages: spec.in_flight_messages, bytes: spec.in_flight_bytes },
    };
    let consumer =
        context.until_available("join the group", || log.consumer(subscription.clone())).await?;
    Ok((Arc::new(outputs), consumer))
}

impl Context {
    /// Calls the log (or the store) until it is available.
    ///
    /// # Errors
    /// What the pipeline does about an error that does not pass by itself.
    pub(crate) async fn until_available<T, F, R>(
        &self,
        operation: &'static str,
        mut call: F,
    ) -> Result<T, PipelineError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, LogError>>,
    {
        let mut wait = Backoff::default();
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.or_wait(operation, error, &mut wait).await?,
            }
        }
    }

    /// Waits if the error may pass by itself.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) async fn or_wait(
        &self,
        operation: &'static str,
        error: LogError,
        wait: &mut Backoff,
    ) -> Result<(), PipelineError> {
        let LogError::Unavailable(reason) = error else { return Err(self.stopped(error)) };
        let pause = wait.next();
        tracing::warn!(pipeline = %self.spec.name, operation, %reason, again_in = ?pause, "the log is unavailable; trying again");
        self.log_error(operation);
        wait.trouble = Some(self.status.trouble(format!("log: {operation}: {reason}")));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// What an error of the log that does not pass means for the pipeline.
    pub(crate) fn stopped(&self, error: LogError) -> PipelineError {
        match error {
            LogError::Fenced(reason) => PipelineError::Fenced(reason),
            LogError::Unavailable(reason) | LogError::Fatal(reason) => {
                PipelineError::Stopped(format!("pipeline {}: {reason}", self.spec.name))
            }
        }
    }

    /// The store of idempotency marks, which a pipeline with keys has.
    pub(crate) fn store(&self) -> Result<&dyn IdempotencyStore, PipelineError> {
        let store = self.ports.idempotency.as_deref();
        store.ok_or_else(|| PipelineError::Bug("a key without a store".to_owned()))
    }

    /// The first tick of the pipeline at or after `at`. All partitions send at the same ticks, so that the
    /// log can make one request, or one transaction, of theirs.
    pub(crate) fn tick(&self, every: Duration, at: Instant) -> Instant {
        let every = every.as_nanos();
        let since = at.saturating_duration_since(self.begun).as_nanos();
        let Some(over) = since.checked_rem(every).filter(|over| *over > 0) else { return at };
        let rest = u64::try_from(every - over).unwrap_or(u64::MAX);
        at + Duration::from_nanos(rest)
    }

    /// How many messages of a tier may be in work.
    pub(crate) fn tier_work_max(&self) -> usize {
        match self.spec.delivery {
            // As with the source: every unsettled message may part two settled ranges.
            Delivery::ExactlyOnce => self.ranges_max.max(1),
            Delivery::AtLeastOnce | Delivery::AtMostOnce => usize::MAX,
        }
    }

    pub(crate) fn log_error(&self, operation: &str) {
        let labels = [self.spec.name.as_str(), operation];
        self.ports.metrics.log_errors.with_label_values(&labels).inc();
    }

    pub(crate) fn in_flight(&self, messages: usize, bytes: usize) {
        let (name, metrics) = (self.spec.name.as_str(), &self.ports.metrics);
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.in_flight_messages.with_label_values(&[name]).set(messages);
        metrics.in_flight_bytes.with_label_values(&[name]).set(bytes);
    }

    /// Whether the log takes idempotency marks as they are, so in one write with what they mark.
    pub(crate) fn marks_go_with_records(&self) -> bool {
        self.spec.idempotency.as_ref().is_some_and(|idempotency| !idempotency.in_topic)
    }

    /// Where the idempotency keys of a source partition count.
    pub(crate) fn scope(&self, source: &Partition) -> Arc<Scope> {
        Arc::new(Scope { group: self.spec.group.as_str().into(), partition: source.clone() })
    }

    /// How long a mark lasts, in milliseconds, if messages have idempotency keys.
    pub(crate) fn mark_ttl(&self) -> Option<EpochMs> {
        let ttl = self.spec.idempotency.as_ref()?.ttl;
        Some(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Growing waits between tries.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
    /// Shown until the call succeeds or is given up.
    trouble: Option<Trouble>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(5);

    fn next(&mut self) -> Duration {
        let wait = Self::FIRST.saturating_mul(1 << self.tries.min(16)).min(Self::LONGEST);
        self.tries = self.tries.saturating_add(1);
        wait
    }
}
