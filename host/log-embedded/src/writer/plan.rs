//! Plan: what the next write will hold, before any of it is written.
//!
//! Offsets are given here, from the partition's end on; they count only if the write succeeds, and
//! are given again if it does not. A transaction is checked as a whole before any of it is planned.

use std::sync::Arc;

use fjall::Keyspace;
use millstream_core::idempotency::{Mark, Marked, Scope};
use millstream_core::log::{Appended, Commits, LogError, RecordError, TransactError, Transaction};
use millstream_core::message::{EpochMs, Offset, Partition, Record};
use millstream_mark_copy::{Batch, Place};

use super::Writer;
use crate::entries::packed_marks::PackedMarks;
use crate::entries::{COMMIT_BYTES_MAX, GROUP_BYTES_MAX, StartEntry, commit_key, encode_commit};
use crate::groups::Member;
use crate::locks::read;
use crate::partitioner::partition_of_key;
use crate::queue::{AppendAnswer, Reply};
use crate::record_batch::{BATCH_BYTES_MAX, BatchBuilder, KEY_BYTES, StoredBatch, encoded_bytes};
use crate::store::Store;
use crate::topics::{PartitionState, Topics};

/// Which keyspace an entry goes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Space {
    /// Record batches.
    Messages,
    /// Topics, starts, commits.
    State,
    /// Idempotency marks, an entry a write.
    Marks,
}

impl Space {
    pub(super) fn of(self, store: &Store) -> &Keyspace {
        match self {
            Self::Messages => &store.messages,
            Self::State => &store.state,
            Self::Marks => &store.marks,
        }
    }
}

/// What is written and answered together.
pub(super) struct Plan {
    pub(super) now: EpochMs,
    /// Entries to set, or to remove where there is no value.
    pub(super) entries: Vec<(Space, Vec<u8>, Option<Vec<u8>>)>,
    /// Starts that move with it.
    pub(super) starts: Vec<(Arc<PartitionState>, StartEntry)>,
    /// Marks, as they go into the log ...
    pub(super) marks: PackedMarks,
    /// ... and into the index, once the log has them.
    pub(super) indexed: Batch,
    place: Option<Place>,
    pub(super) answers: Vec<Answer>,
}

/// Whom to tell when the write is done or has failed.
pub(super) enum Answer {
    Append(AppendAnswer, Reply<Result<AppendAnswer, LogError>>),
    Transact(Reply<Result<(), TransactError>>),
}

impl Answer {
    pub(super) fn send(self, written: &Result<(), LogError>) {
        match self {
            Self::Append(answer, reply) => reply.send(written.clone().map(|()| answer)).is_ok(),
            Self::Transact(reply) => {
                reply.send(written.clone().map_err(TransactError::Log)).is_ok()
            }
        };
    }
}

impl Plan {
    pub(super) fn new(now: EpochMs) -> Self {
        Self {
            now,
            entries: Vec::new(),
            starts: Vec::new(),
            marks: PackedMarks::default(),
            indexed: Batch::default(),
            place: None,
            answers: Vec::new(),
        }
    }

    /// Whether the write gives space back, so that a full disk must not stop it.
    pub(super) fn frees(&self) -> bool {
        let removes = |(_, _, value): &Entry| value.is_none();
        !self.starts.is_empty()
            || (!self.entries.is_empty()
                && self.marks.is_empty()
                && self.entries.iter().all(removes))
    }

    fn add_mark(&mut self, store: &Store, mark: &Mark) {
        let place = self.place.take().filter(|_| self.marks.goes_on_in(&mark.scope));
        let place = place.unwrap_or_else(|| store.index.place(&mark.scope));
        let digest = place.digest(&mark.key);
        let marked = Marked { turn: mark.turn, expires: mark.expires };
        self.marks.push(&mark.scope, digest, marked);
        self.indexed.add(&place, digest, marked);
        self.place = Some(place);
    }
}

/// A partition as the writer sees it.
pub(super) struct OpenPartition {
    pub(super) state: Arc<PartitionState>,
    /// Closed batches of the write being planned.
    pub(super) ready: Vec<([u8; KEY_BYTES], StoredBatch)>,
    builder: Option<BatchBuilder>,
    next: Offset,
    bytes_to: u64,
    touched: bool,
}

impl OpenPartition {
    pub(super) fn new(state: Arc<PartitionState>) -> Self {
        Self { state, ready: Vec::new(), builder: None, next: 0, bytes_to: 0, touched: false }
    }

    fn add(&mut self, record: &Record, timestamp: EpochMs) -> Offset {
        let bytes = encoded_bytes(record);
        if self.builder.as_ref().is_some_and(|builder| !builder.takes(bytes)) {
            self.close_batch();
        }
        let builder = self.builder.get_or_insert_with(|| BatchBuilder::new(bytes));
        builder.push(record, bytes, timestamp);
        let offset = self.next;
        self.next += 1;
        offset
    }

    pub(super) fn close_batch(&mut self) {
        if let Some(builder) = self.builder.take() {
            let source = &self.state.source;
            let (key, stored) =
                builder.finish(self.state.topic, source.number, self.next - 1, self.bytes_to);
            self.bytes_to = stored.bytes_to;
            self.ready.push((key, stored));
        }
    }

    /// The write is done.
    pub(super) fn publish(&mut self) {
        self.state.publish(self.ready.drain(..).map(|(_, stored)| stored));
        self.touched = false;
    }

    /// The write did not happen.
    pub(super) fn abandon(&mut self) {
        self.ready.clear();
        self.builder = None;
        self.touched = false;
    }
}

/// Where a record goes.
#[derive(Clone, Copy)]
struct Target {
    slot: usize,
    partition: u32,
    append_time: bool,
}

/// Records of one request without key and partition stay together until they fill a batch: full
/// batches cost less than evenly spread ones.
#[derive(Default)]
struct Sticky(Vec<(u32, u32, usize)>);

impl Sticky {
    fn choose(&mut self, topic: u32, count: u32, bytes: usize, spread: &mut u32) -> u32 {
        let place = self.0.iter().position(|(id, _, _)| *id == topic);
        let entry = place.and_then(|place| self.0.get_mut(place));
        if let Some((_, partition, filled)) = entry {
            *filled += bytes;
            if *filled > BATCH_BYTES_MAX {
                *filled = bytes;
                *spread = spread.wrapping_add(1);
                *partition = *spread % count.max(1);
            }
            return *partition;
        }
        *spread = spread.wrapping_add(1);
        let partition = *spread % count.max(1);
        self.0.push((topic, partition, bytes));
        partition
    }
}

impl Writer {
    pub(super) fn plan_append(
        &mut self,
        plan: &mut Plan,
        records: Vec<Record>,
        reply: Reply<Result<AppendAnswer, LogError>>,
    ) {
        let shared = self.shared.clone();
        let topics = read(&shared.topics);
        let mut sticky = Sticky::default();
        let mut answer = Vec::with_capacity(records.len());
        for record in &records {
            let target = self.target(&topics, record, &mut sticky);
            answer.push(target.map(|target| self.add(record, target, plan.now)));
        }
        plan.answers.push(Answer::Append(answer, reply));
    }

    pub(super) fn plan_transaction(
        &mut self,
        plan: &mut Plan,
        member: Option<&Member>,
        transaction: &Transaction,
        reply: Reply<Result<(), TransactError>>,
    ) {
        match self.try_plan_transaction(plan, member, transaction) {
            Ok(()) => plan.answers.push(Answer::Transact(reply)),
            Err(error) => {
                reply.send(Err(error)).ok();
            }
        }
    }

    fn try_plan_transaction(
        &mut self,
        plan: &mut Plan,
        member: Option<&Member>,
        transaction: &Transaction,
    ) -> Result<(), TransactError> {
        let shared = self.shared.clone();
        let topics = read(&shared.topics);
        self.check_owner(member, transaction)?;
        let mut entries = Vec::new();
        if let Some(member) = member {
            commit_entries(&topics, &member.group, &transaction.commits, &mut entries)?;
        }
        self.check_marks(plan, &transaction.marks)?;
        let mut sticky = Sticky::default();
        let targets = transaction.records.iter().enumerate().map(|(index, record)| {
            let target = self.target(&topics, record, &mut sticky);
            target.map_err(|error| TransactError::Offender { index, error })
        });
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        for (record, target) in transaction.records.iter().zip(targets) {
            self.add(record, target, plan.now);
        }
        for mark in &transaction.marks {
            plan.add_mark(&self.store, mark);
        }
        plan.entries.append(&mut entries);
        Ok(())
    }

    /// Whether log and index take these marks; waits while the index only needs time. What cannot be indexed now must not be
    /// written: nobody would find it.
    fn check_marks(&self, plan: &Plan, marks: &[Mark]) -> Result<(), LogError> {
        if marks.is_empty() {
            return Ok(());
        }
        let mut checked: Option<&Arc<Scope>> = None;
        for Mark { scope, .. } in marks {
            // Marks of one scope come in runs.
            if checked.is_some_and(|checked| Arc::ptr_eq(checked, scope)) {
                continue;
            }
            if !PackedMarks::takes(scope) {
                return Err(LogError::Fatal(format!(
                    "group {} has an idempotency mark for {}: names of groups and topics may have \
                     {GROUP_BYTES_MAX} bytes here",
                    scope.group, scope.partition,
                )));
            }
            checked = Some(scope);
        }
        Ok(self.store.index.wait_for_room(plan.indexed.len() + marks.len())?)
    }

    fn check_owner(
        &self,
        member: Option<&Member>,
        transaction: &Transaction,
    ) -> Result<(), LogError> {
        let Some(member) = member else { return Ok(()) };
        let committed = transaction.commits.iter().map(|(partition, _)| partition);
        let marked = transaction.marks.iter().map(|mark| &mark.scope.partition);
        let mut checked: Option<&Partition> = None;
        for partition in committed.chain(marked) {
            // Marks of one partition come in runs.
            if checked == Some(partition) {
                continue;
            }
            self.shared.groups.check(member, partition).map_err(LogError::Fenced)?;
            checked = Some(partition);
        }
        Ok(())
    }

    fn target(
        &mut self,
        topics: &Topics,
        record: &Record,
        sticky: &mut Sticky,
    ) -> Result<Target, RecordError> {
        let unknown =
            |reason: String| RecordError::UnknownTopic { topic: record.topic.clone(), reason };
        let topic = topics
            .get(&record.topic)
            .ok_or_else(|| unknown("the topic does not exist".to_owned()))?;
        let spec = &topic.entry.spec;
        let size_bytes = record.payload_bytes();
        if size_bytes > spec.message_bytes_max {
            return Err(RecordError::TooLarge {
                topic: record.topic.clone(),
                size_bytes,
                max_bytes: spec.message_bytes_max,
            });
        }
        let count = spec.partitions;
        let number = match (record.partition, &record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_of_key(key, count),
            (None, None) => {
                sticky.choose(topic.entry.id, count, encoded_bytes(record), &mut self.spread)
            }
        };
        let partition = topic.partition(number).ok_or_else(|| {
            unknown(format!("it has {count} partitions, and partition {number} is not one of them"))
        })?;
        Ok(Target { slot: partition.slot, partition: number, append_time: spec.append_time })
    }

    fn add(&mut self, record: &Record, target: Target, now: EpochMs) -> Appended {
        let timestamp = if target.append_time { now } else { record.timestamp.unwrap_or(now) };
        let mut offset = 0;
        // Slots come from the topics' own partitions, so there is one.
        if let Some(partition) = self.partitions.get_mut(target.slot) {
            if !partition.touched {
                partition.touched = true;
                partition.next = partition.state.end();
                partition.bytes_to = partition.state.bytes_to();
                self.touched.push(target.slot);
            }
            offset = partition.add(record, timestamp);
        }
        Appended { partition: target.partition, offset }
    }
}

type Entry = (Space, Vec<u8>, Option<Vec<u8>>);

fn commit_entries(
    topics: &Topics,
    group: &str,
    commits: &Commits,
    entries: &mut Vec<Entry>,
) -> Result<(), LogError> {
    for (partition, commit) in commits {
        let topic =
            topics.get(&partition.topic).filter(|t| t.partition(partition.number).is_some());
        let topic = topic.ok_or_else(|| {
            LogError::Fatal(format!(
                "group {group} cannot commit for {partition}: there is no such partition"
            ))
        })?;
        let key = commit_key(group, topic.entry.id, partition.number);
        let value = encode_commit(&key, commit);
        if value.len() > COMMIT_BYTES_MAX {
            return Err(LogError::Fatal(format!(
                "group {group} cannot commit {} settled ranges and {} attempts for {partition}: a \
                 commit may have {COMMIT_BYTES_MAX} bytes",
                commit.settled_above.len(),
                commit.attempts.len()
            )));
        }
        entries.push((Space::State, key, Some(value)));
    }
    Ok(())
}
