//! Shared: what the log, its consumers and its threads hold in common.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use millstream_core::clock::WallClock;
use millstream_core::log::LogError;
use millstream_core::message::Partition;

use crate::acknowledged::AcknowledgedFile;
use crate::groups::Groups;
use crate::locks::{lock, read, write};
use crate::queue::Queue;
use crate::store::Store;
use crate::topics::{PartitionState, Topics};
use crate::writers::Writers;

/// One open log.
pub(crate) struct Shared {
    /// Identifies the log.
    pub(crate) cluster_id: String,
    /// The folder, for messages.
    pub(crate) folder: String,
    /// The time of day.
    pub(crate) clock: Arc<dyn WallClock>,
    /// What goes to the writer.
    pub(crate) queue: Queue,
    /// Written by the writer thread alone.
    pub(crate) topics: RwLock<Topics>,
    /// Who owns what.
    pub(crate) groups: Groups,
    /// Who has which writer's name.
    pub(crate) writers: Writers,
    /// Which writes were answered for.
    pub(crate) acknowledged: Mutex<AcknowledgedFile>,
    /// Taken out when the log is closed.
    store: RwLock<Option<Arc<Store>>>,
    broken: OnceLock<String>,
    closing: AtomicBool,
}

impl Shared {
    /// An open log.
    pub(crate) fn new(
        cluster_id: String,
        folder: String,
        clock: Arc<dyn WallClock>,
        queue: Queue,
        topics: Topics,
        acknowledged: AcknowledgedFile,
        store: Arc<Store>,
    ) -> Self {
        Self {
            cluster_id,
            folder,
            clock,
            queue,
            topics: RwLock::new(topics),
            groups: Groups::default(),
            writers: Writers::default(),
            acknowledged: Mutex::new(acknowledged),
            store: RwLock::new(Some(store)),
            broken: OnceLock::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// The store, for as long as the caller works with it.
    pub(crate) fn store(&self) -> Result<Arc<Store>, LogError> {
        read(&self.store).clone().ok_or_else(|| self.closed())
    }

    /// The store is given away for closing.
    pub(crate) fn take_store(&self) -> Option<Arc<Store>> {
        write(&self.store).take()
    }

    /// From now on nothing new is taken.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
        self.queue.wake();
        self.groups.wake_all();
    }

    /// Whether the log is closed or about to be.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The error of a log that was closed.
    pub(crate) fn closed(&self) -> LogError {
        LogError::Fatal(format!("the log in {} was closed", self.folder))
    }

    /// The disk failed in a way that leaves open what is on it: nothing is written any more. Consumers are
    /// told, too: one that waits for messages would not learn that there can be none.
    pub(crate) fn break_down(&self, how: String) -> LogError {
        tracing::error!(folder = %self.folder, "{how}");
        let broken = LogError::Fatal(self.broken.get_or_init(|| how).clone());
        self.groups.wake_all();
        broken
    }

    /// Why nothing is written any more, if so.
    pub(crate) fn broken(&self) -> Option<LogError> {
        self.broken.get().cloned().map(LogError::Fatal)
    }

    /// A partition that exists.
    pub(crate) fn partition(&self, partition: &Partition) -> Result<Arc<PartitionState>, LogError> {
        let topics = read(&self.topics);
        let topic = topics.get(&partition.topic).ok_or_else(|| {
            LogError::Fatal(format!(
                "there is no topic {} in the log in {}: create it first, or check the name",
                partition.topic, self.folder
            ))
        })?;
        topic.partition(partition.number).cloned().ok_or_else(|| {
            LogError::Fatal(format!(
                "topic {} has {} partitions, and {partition} is not one of them",
                partition.topic, topic.entry.spec.partitions
            ))
        })
    }

    /// The number of the last write that was acknowledged, and of the last synced one.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let last = lock(&self.acknowledged).last();
        (last.written, last.synced)
    }
}
