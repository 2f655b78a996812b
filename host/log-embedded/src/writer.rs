//! Writer: the one thread that changes the log.
//!
//! It takes whatever waits in the queue and makes one write of it (group commit): the storage
//! library's cost, the sync with `durability = "always"` and the wake-ups are paid once for all of
//! them. The order is: plan, write (and sync), note as acknowledged, index the marks, publish to readers, answer.
//!
//! Invariants: an answer is never sent before its write is as durable as configured. A write that
//! was refused as `Unavailable` was never handed to the storage library, so it is known not to have
//! happened and asking again cannot double it. A write that failed inside the library may or may
//! not be on the disk: that is `Fatal`, nothing is written any more, and opening the log again finds
//! out (all of the write is there, or nothing).

mod plan;
mod space;
mod topic_changes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fjall::PersistMode;
use millstream_core::log::LogError;
use millstream_core::message::Offset;
use millstream_mark_copy::Batch;
use tokio::sync::mpsc;

use crate::entries::packed_marks::PackedMarks;
use crate::entries::{SEAL_KEY, Seal};
use crate::locks::{lock, read};
use crate::marks;
use crate::options::{Durability, EmbeddedOptions};
use crate::queue::{Queued, Request};
use crate::shared::Shared;
use crate::store::Store;
use crate::topics::PartitionState;
use plan::{OpenPartition, Plan};
use space::Space;

/// Requests that become one write.
const GROUP_REQUESTS_MAX: usize = 512;
/// Bytes that become one write; a larger request is one of its own.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a batch in the tail costs beside its bytes.
const TAIL_OVERHEAD_BYTES: usize = 128;
/// How often is looked whether the library caught up with its tables.
const BEHIND_PAUSE: Duration = Duration::from_millis(2);

/// The writer's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    store: Arc<Store>,
    requests: mpsc::Receiver<Queued>,
    durability: Durability,
    space: Space,
    /// By slot.
    partitions: Vec<OpenPartition>,
    /// The slots that the write being planned appends to.
    touched: Vec<usize>,
    /// The number of the last write.
    sealed: u64,
    /// Spreads records without key and partition.
    spread: u32,
    /// What is in memory of all partitions, oldest first.
    tail: VecDeque<(Arc<PartitionState>, Offset, usize)>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

impl Writer {
    /// The writer of an opened store.
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: Arc<Store>,
        requests: mpsc::Receiver<Queued>,
        sealed: u64,
        options: &EmbeddedOptions,
    ) -> Self {
        let mut all: Vec<_> =
            read(&shared.topics).values().flat_map(|topic| topic.partitions.clone()).collect();
        all.sort_by_key(|partition| partition.slot);
        let path = lock(&store.folder).path().to_owned();
        Self {
            shared,
            store,
            requests,
            durability: options.durability,
            space: Space::new(path, options.reserve_bytes),
            partitions: all.into_iter().map(OpenPartition::new).collect(),
            touched: Vec::new(),
            sealed,
            spread: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max: options.tail_bytes,
        }
    }

    /// Works until the log is closed and all that waited is answered.
    pub(crate) fn run(mut self) {
        loop {
            self.shared.groups.hand_out(&read(&self.shared.topics));
            if self.shared.is_closing() {
                self.requests.close();
            }
            let Some(first) = self.requests.blocking_recv() else { break };
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while group.len() < GROUP_REQUESTS_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(next) = self.requests.try_recv() else { break };
                bytes += next.bytes;
                group.push(next);
            }
            self.write_group(group);
        }
        self.finish();
    }

    fn write_group(&mut self, group: Vec<Queued>) {
        let mut plan = Plan::new(self.shared.clock.now());
        // Kept until all is answered: what waits and what is being written count together.
        let mut rooms = Vec::with_capacity(group.len());
        for queued in group {
            rooms.push(queued.room);
            match queued.request {
                Request::Append { records, reply } => self.plan_append(&mut plan, records, reply),
                Request::Transact { member, transaction, reply } => {
                    self.plan_transaction(&mut plan, member.as_ref(), &transaction, reply);
                }
                Request::AppendAll { claim, transaction, reply } => {
                    match self.shared.writers.check(&claim) {
                        Ok(()) => self.plan_transaction(&mut plan, None, &transaction, reply),
                        Err(error) => {
                            reply.send(Err(error.into())).ok();
                        }
                    }
                }
                Request::CreateTopic { spec, reply } => {
                    self.write_and_answer(&mut plan);
                    reply.send(self.create_topic(spec)).ok();
                }
                Request::Trim { trim, reply } => {
                    self.write_and_answer(&mut plan);
                    reply.send(self.trim(&trim)).ok();
                }
                Request::Forget { keys, reply } => {
                    self.write_and_answer(&mut plan);
                    reply.send(self.forget(keys)).ok();
                }
                Request::Wake => {}
            }
        }
        self.write_and_answer(&mut plan);
    }

    fn write_and_answer(&mut self, plan: &mut Plan) {
        let result = self.write(plan);
        for answer in plan.answers.drain(..) {
            answer.send(&result);
        }
    }

    /// Writes what is planned: all of it or, with an error, nothing.
    fn write(&mut self, plan: &mut Plan) -> Result<(), LogError> {
        let result = self.try_write(plan);
        plan.entries.clear();
        plan.starts.clear();
        plan.marks = PackedMarks::default();
        plan.indexed = Batch::default();
        for slot in self.touched.drain(..) {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.abandon();
            }
        }
        result
    }

    fn try_write(&mut self, plan: &mut Plan) -> Result<(), LogError> {
        if self.touched.is_empty() && plan.entries.is_empty() && plan.marks.is_empty() {
            return Ok(());
        }
        if let Some(broken) = self.shared.broken() {
            return Err(broken);
        }
        for slot in &self.touched {
            if let Some(partition) = self.partitions.get_mut(*slot) {
                partition.close_batch();
            }
        }
        let bytes = self.planned_bytes(plan);
        self.space.check(bytes, plan.frees())?;
        self.wait_for_tables()?;
        for (partition, entry) in &plan.starts {
            partition.move_start(entry);
        }
        let number = self.sealed + 1;
        let seal = Seal { number, sequence_floor: self.store.db.seqno() };
        let always = self.durability == Durability::Always;
        let mode = if always { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.store.db.batch().durability(Some(mode));
        // The seal stands first: `journal::inspect` looks for it there.
        batch.insert(&self.store.state, SEAL_KEY, seal.encode());
        for slot in &self.touched {
            let Some(partition) = self.partitions.get(*slot) else { continue };
            for (key, stored) in &partition.ready {
                batch.insert(&self.store.messages, key.as_slice(), stored.value.clone());
            }
        }
        for (keyspace, key, value) in plan.entries.drain(..) {
            let keyspace = keyspace.of(&self.store);
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        if !plan.marks.is_empty() {
            let (key, value) = std::mem::take(&mut plan.marks).finish(number);
            batch.insert(&self.store.marks, key, value);
        }
        batch.commit().map_err(|error| self.write_failed(&error))?;
        self.sealed = number;
        let noted = lock(&self.shared.acknowledged).written(number, always);
        noted.map_err(|error| {
            self.shared.break_down(format!(
                "the file `acknowledged` in {} cannot be written ({error}): nothing more is \
                 written; check the disk, then start again",
                self.shared.folder
            ))
        })?;
        if !plan.indexed.is_empty() {
            let indexed = std::mem::take(&mut plan.indexed);
            self.store.index.put(indexed, Some((&marks::whole_log(), number)));
        }
        self.publish();
        if let Err(error) = self.store.rotate_full_buffers() {
            // The write itself is done; what is wrong shows at the next one.
            tracing::warn!(folder = %self.shared.folder, "buffers were not rotated: {error:?}");
        }
        Ok(())
    }

    fn planned_bytes(&self, plan: &Plan) -> u64 {
        let entries = plan.entries.iter();
        let entries: usize = entries
            .map(|(_, key, value)| 64 + key.len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        let partitions = self.touched.iter().filter_map(|slot| self.partitions.get(*slot));
        let batches = partitions.flat_map(|partition| &partition.ready);
        let batches: usize = batches.map(|(key, stored)| 64 + key.len() + stored.value.len()).sum();
        let marks = if plan.marks.is_empty() { 0 } else { plan.marks.bytes() };
        (entries + batches + marks) as u64
    }

    // The library blocks a writer that is too far ahead of its tables, and does so for ever if the
    // thread that writes the tables has failed meanwhile. Here that is noticed.
    fn wait_for_tables(&self) -> Result<(), LogError> {
        while self.store.is_behind() {
            self.store
                .db
                .persist(PersistMode::Buffer)
                .map_err(|error| self.write_failed(&error))?;
            std::thread::sleep(BEHIND_PAUSE);
        }
        Ok(())
    }

    fn write_failed(&self, error: &fjall::Error) -> LogError {
        let cause = match error {
            fjall::Error::Poisoned => {
                "an earlier write or sync failed in the background".to_owned()
            }
            fjall::Error::Io(error) => error.to_string(),
            error => format!("{error:?}"),
        };
        self.shared.break_down(format!(
            "writing to the log in {} failed ({cause}), and what is on the disk is not known until \
             it is opened again: nothing more is written; free space on the disk or check it, then \
             start again; nothing acknowledged is lost",
            self.shared.folder
        ))
    }

    fn publish(&mut self) {
        for slot in self.touched.drain(..) {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            for (_, stored) in &partition.ready {
                let bytes = stored.value.len() + TAIL_OVERHEAD_BYTES;
                self.tail_bytes += bytes;
                self.tail.push_back((partition.state.clone(), stored.last, bytes));
            }
            partition.publish();
        }
        while self.tail_bytes > self.tail_bytes_max {
            let Some((partition, last, bytes)) = self.tail.pop_front() else { break };
            self.tail_bytes -= bytes;
            partition.forget(last);
        }
    }

    fn finish(self) {
        if self.shared.broken().is_some() {
            return;
        }
        let synced = self.store.db.persist(PersistMode::SyncAll);
        let noted = match synced {
            Ok(()) => lock(&self.shared.acknowledged).synced(self.sealed),
            Err(error) => {
                self.write_failed(&error);
                return;
            }
        };
        if let Err(error) = noted {
            tracing::warn!(folder = %self.shared.folder, "the last sync was not noted: {error}");
        }
    }
}
