//! Status: what a running pipeline tells about itself, for readiness, lag and the admin API.
//!
//! Written by the partition that owns each entry and by intake; read by anybody at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::hot_keys::HotKey;
use crate::message::{EpochMs, Offset, Partition};
use crate::plugin::PluginIdentity;
use crate::recent_failures::{FailureGroup, RecentFailures};

/// What the first message that is not settled waits for, and with it the commit of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldUpBy {
    /// The plugin: it is being handled.
    Plugin,
    /// An instance of the plugin: all of them are busy.
    Instances,
    /// The end of a `pause` of its lane.
    Pause,
    /// The delay of a retry in place.
    Retry,
    /// An earlier message of its key that is retried.
    WaitingKey,
    /// Another message with its idempotency key.
    Claim,
    /// The answer of the idempotency store.
    Store,
    /// The log's acknowledgement of what it caused.
    Append,
    /// The log's acknowledgement of the commit.
    Commit,
    /// Room: the pipeline has as much in flight as it may, or the commit can tell no more apart.
    Bounds,
    /// The log: it has more, and does not hand it over.
    Fetch,
    /// The search for a message that kills its host: messages are handled one at a time.
    Suspicion,
}

impl HeldUpBy {
    /// As the metric's label has it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Instances => "instances",
            Self::Pause => "pause",
            Self::Retry => "retry",
            Self::WaitingKey => "waiting_key",
            Self::Claim => "claim",
            Self::Store => "store",
            Self::Append => "append",
            Self::Commit => "commit",
            Self::Bounds => "bounds",
            Self::Fetch => "fetch",
            Self::Suspicion => "suspicion",
        }
    }

    /// For a person: what is waited for.
    pub fn text(self) -> &'static str {
        match self {
            Self::Plugin => "the plugin, which is handling it",
            Self::Instances => "an instance of the plugin; all are busy",
            Self::Pause => "the end of a pause that the plugin asked for",
            Self::Retry => "its next attempt in place",
            Self::WaitingKey => "an earlier message of its key, which is retried",
            Self::Claim => "another message with its idempotency key",
            Self::Store => "the idempotency store's answer",
            Self::Append => "the log, which has not acknowledged what it caused",
            Self::Commit => "the log, which has not acknowledged the commit",
            Self::Bounds => "room: as much is in flight as may be",
            Self::Fetch => "the log, which hands over nothing though it has more",
            Self::Suspicion => {
                "its turn to be handled alone: hosts died here, and one message may be the cause"
            }
        }
    }
}

/// The commit of a partition stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeldUp {
    /// The message that holds it up, if one does.
    pub offset: Option<Offset>,
    /// What is waited for.
    pub by: HeldUpBy,
    /// For how long the commit has stood still by now, in whole seconds.
    pub seconds: u64,
}

/// One assigned source partition.
#[derive(Debug, Default)]
pub struct PartitionStatus {
    /// Whether its state is rebuilt and it handles messages.
    pub started: AtomicBool,
    /// The next offset that was not read yet.
    pub position: AtomicU64,
    /// The next offset that is not settled, as last acknowledged by the log.
    pub committed: AtomicU64,
    /// Messages read and not settled, retries that wait for their time not counted.
    pub in_flight: AtomicUsize,
    /// Retries outstanding.
    pub retries: AtomicUsize,
    /// Lanes waiting after a `pause`, for a retry, or for another message's claim.
    pub waiting_lanes: AtomicUsize,
    /// Messages waiting in memory for an earlier one of their key.
    pub waiting_messages: AtomicUsize,
    /// Why its commit stands still, if it does.
    pub held_up: Mutex<Option<HeldUp>>,
    /// Its hottest keys.
    pub hot_keys: Mutex<Vec<HotKey>>,
    /// The number of the last look at the log's ends at which nothing was due.
    pub caught_up_at: AtomicU64,
    /// Its retry tiers, once they are known.
    pub tiers: Mutex<Vec<Partition>>,
}

impl PartitionStatus {
    /// Its retry tiers.
    pub fn tiers(&self) -> Vec<Partition> {
        self.tiers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One pipeline.
#[derive(Debug, Default)]
pub struct PipelineStatus {
    partitions: Mutex<BTreeMap<Partition, Arc<PartitionStatus>>>,
    troubles: Mutex<BTreeMap<u64, String>>,
    next_trouble: AtomicU64,
    stopped: Mutex<Option<String>>,
    joined: AtomicBool,
    /// What its attempts fail of.
    pub failures: Mutex<RecentFailures>,
    plugin: Mutex<Option<Arc<PluginIdentity>>>,
}

/// Something that keeps a pipeline from working; over when this is dropped, however that comes.
#[derive(Debug)]
pub struct Trouble {
    status: Arc<PipelineStatus>,
    id: u64,
}

impl Drop for Trouble {
    fn drop(&mut self) {
        let mut troubles = self.status.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.remove(&self.id);
    }
}

/// A look at a pipeline, as the admin API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PipelineReport {
    /// Whether messages are handled, or would be if there were any.
    pub ready: bool,
    /// Why not, or what the pipeline waits for.
    pub trouble: Option<String>,
    /// The version of the plugin in use.
    pub plugin: Option<PluginIdentity>,
    /// The assigned partitions.
    pub partitions: Vec<PartitionReport>,
}

/// A look at an assigned partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// The source topic.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// Whether it handles messages.
    pub started: bool,
    /// See [`PartitionStatus::position`].
    pub position: u64,
    /// See [`PartitionStatus::committed`].
    pub committed: u64,
    /// See [`PartitionStatus::in_flight`].
    pub in_flight: usize,
    /// See [`PartitionStatus::retries`].
    pub retries: usize,
    /// See [`PartitionStatus::waiting_lanes`].
    pub waiting_lanes: usize,
    /// See [`PartitionStatus::waiting_messages`].
    pub waiting_messages: usize,
    /// See [`PartitionStatus::held_up`].
    pub held_up: Option<HeldUp>,
    /// Its hottest keys, the hottest first.
    pub hot_keys: Vec<HotKey>,
}

impl PipelineStatus {
    /// Adds an assigned partition.
    pub fn add(&self, partition: Partition) -> Arc<PartitionStatus> {
        let status = Arc::new(PartitionStatus::default());
        self.lock().insert(partition, Arc::clone(&status));
        self.joined.store(true, Ordering::Relaxed);
        status
    }

    /// Takes out a partition that was given up.
    pub fn remove(&self, partition: &Partition) {
        self.lock().remove(partition);
    }

    /// Says what keeps the pipeline from working, as long as the answer lives.
    pub fn trouble(self: &Arc<Self>, text: String) -> Trouble {
        let id = self.next_trouble.fetch_add(1, Ordering::Relaxed);
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).insert(id, text);
        Trouble { status: Arc::clone(self), id }
    }

    /// Says which version of the plugin is in use; gives the one before.
    pub fn plugin_is(&self, plugin: Option<Arc<PluginIdentity>>) -> Option<Arc<PluginIdentity>> {
        let mut held = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, plugin)
    }

    /// Says that the pipeline has stopped, and why.
    pub fn stopped(&self, text: String) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// What its attempts failed of lately, the latest first.
    pub fn failures(&self, now: EpochMs) -> Vec<FailureGroup> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).groups(now)
    }

    /// Looks at everything.
    pub fn report(&self) -> PipelineReport {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest: what came later is often its consequence.
        let trouble = stopped.or_else(|| troubles.values().next().cloned());
        drop(troubles);
        let partitions: Vec<PartitionReport> = self
            .lock()
            .iter()
            .map(|(partition, status)| PartitionReport {
                topic: partition.topic.to_string(),
                partition: partition.number,
                started: status.started.load(Ordering::Relaxed),
                position: status.position.load(Ordering::Relaxed),
                committed: status.committed.load(Ordering::Relaxed),
                in_flight: status.in_flight.load(Ordering::Relaxed),
                retries: status.retries.load(Ordering::Relaxed),
                waiting_lanes: status.waiting_lanes.load(Ordering::Relaxed),
                waiting_messages: status.waiting_messages.load(Ordering::Relaxed),
                held_up: *status.held_up.lock().unwrap_or_else(PoisonError::into_inner),
                hot_keys: status.hot_keys.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            })
            .collect();
        let starting = partitions.iter().find(|partition| !partition.started);
        let trouble = trouble.or_else(|| {
            starting.map(|p| format!("{}[{}] is still being restored", p.topic, p.partition))
        });
        let joined = self.joined.load(Ordering::Relaxed);
        let trouble = trouble.or_else(|| (!joined).then(|| "no partition was assigned yet".into()));
        let plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner).as_deref().cloned();
        PipelineReport { ready: trouble.is_none(), trouble, plugin, partitions }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Partition, Arc<PartitionStatus>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
