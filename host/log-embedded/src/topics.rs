//! Topics: what the process knows of each topic and partition without asking the store.
//!
//! Written by the writer thread alone (topics at creation, ends after each write, starts before
//! messages are removed); read by everyone.
//!
//! Invariants: `end` moves after the messages below it can be read, `start` before those below it
//! are removed, so a reader between them finds every offset. The tail holds the newest batches
//! without a gap up to `end`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use fjall::Guard;
use millstream_core::log::{Ends, LogError, TopicSpec};
use millstream_core::message::{Offset, Partition, Topic};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::entries::{StartEntry, TOPIC_PREFIX, TopicEntry, start_key};
use crate::locks::lock;
use crate::record_batch::{BatchKey, StoredBatch};
use crate::store::Store;

/// The longest topic name, as in Kafka.
const NAME_BYTES_MAX: usize = 249;
/// The most partitions of one topic.
const PARTITIONS_MAX: u32 = 10_000;
/// The largest record any topic may take; lengths are stored in 32 bits.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// All topics by name.
pub(crate) type Topics = FxHashMap<Topic, Arc<TopicState>>;

/// A topic and its partitions. Replaced as a whole when partitions are added.
#[derive(Debug)]
pub(crate) struct TopicState {
    /// As stored.
    pub(crate) entry: TopicEntry,
    /// By number.
    pub(crate) partitions: Vec<Arc<PartitionState>>,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct PartitionState {
    /// Its name and number.
    pub(crate) source: Partition,
    /// The topic's number in this log.
    pub(crate) topic: u32,
    /// Its place in the writer's list.
    pub(crate) slot: usize,
    start: AtomicU64,
    end: AtomicU64,
    bytes_to: AtomicU64,
    bytes_before: AtomicU64,
    tail: Mutex<VecDeque<StoredBatch>>,
    waiting: Mutex<Vec<Weak<Notify>>>,
}

impl PartitionState {
    /// The partition `number` of a topic, as stored.
    fn open(store: &Store, entry: &TopicEntry, number: u32, slot: usize) -> Result<Self, LogError> {
        let source = Partition::new(entry.spec.name.clone(), number);
        let key = start_key(entry.id, number);
        let what = format!("the start of {source}");
        let stored = match store.get(&store.state, &key)? {
            Some(bytes) => StartEntry::decode(&key, &bytes)
                .map_err(|damage| store.damage_error(&what, &damage.to_string()))?,
            None => StartEntry::default(),
        };
        let all =
            BatchKey::lower(entry.id, number, 0)..=BatchKey::upper(entry.id, number, u64::MAX);
        let last = store.messages.range(all).next_back().map(Guard::key).transpose();
        let last =
            last.map_err(|error| store.read_error(&format!("the end of {source}"), &error))?;
        let last = last.map(|key| BatchKey::decode(&key)).transpose();
        let last = last.map_err(|damage| store.damage_error(&what, &damage.to_string()))?;
        let (end, bytes_to) = last.map_or((stored.end, stored.bytes_to), |key| {
            (key.last.saturating_add(1), key.bytes_to)
        });
        if end < stored.end && stored.start < stored.end {
            let how = format!("it ends at offset {end}, and offset {} was there", stored.end - 1);
            return Err(store.damage_error(&format!("{source}"), &how));
        }
        Ok(Self::new(
            source,
            entry.id,
            slot,
            StartEntry {
                start: stored.start,
                end: end.max(stored.end),
                bytes_to: bytes_to.max(stored.bytes_to),
                bytes_before: stored.bytes_before,
            },
        ))
    }

    fn new(source: Partition, topic: u32, slot: usize, at: StartEntry) -> Self {
        Self {
            source,
            topic,
            slot,
            start: AtomicU64::new(at.start),
            end: AtomicU64::new(at.end),
            bytes_to: AtomicU64::new(at.bytes_to),
            bytes_before: AtomicU64::new(at.bytes_before),
            tail: Mutex::new(VecDeque::new()),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// The first offset that is still there.
    pub(crate) fn start(&self) -> Offset {
        self.start.load(Ordering::Acquire)
    }

    /// The offset after the last message.
    pub(crate) fn end(&self) -> Offset {
        self.end.load(Ordering::Acquire)
    }

    /// The bytes of all batches ever.
    pub(crate) fn bytes_to(&self) -> u64 {
        self.bytes_to.load(Ordering::Acquire)
    }

    /// The bytes of the batches that are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_to().saturating_sub(self.bytes_before.load(Ordering::Acquire))
    }

    /// Both ends. An open transaction shows nothing, so all is readable.
    pub(crate) fn ends(&self) -> Ends {
        let start = self.start();
        let end = self.end();
        Ends { start, end, high: end }
    }

    /// What is stored when the start moves to `start`, with `bytes_before` removed by then.
    pub(crate) fn start_entry(&self, start: Offset, bytes_before: Option<u64>) -> StartEntry {
        let kept = self.bytes_before.load(Ordering::Acquire);
        StartEntry {
            start,
            end: self.end(),
            bytes_to: self.bytes_to(),
            bytes_before: bytes_before.unwrap_or(kept).max(kept),
        }
    }

    /// The start moves; the caller removes what lies below afterwards.
    pub(crate) fn move_start(&self, entry: &StartEntry) {
        self.start.fetch_max(entry.start, Ordering::AcqRel);
        self.bytes_before.fetch_max(entry.bytes_before, Ordering::AcqRel);
        let mut tail = lock(&self.tail);
        while tail.front().is_some_and(|batch| batch.last < entry.start) {
            tail.pop_front();
        }
    }

    /// Makes stored batches readable and wakes who waits for them.
    pub(crate) fn publish(&self, batches: impl Iterator<Item = StoredBatch>) {
        {
            let mut tail = lock(&self.tail);
            for batch in batches {
                let (end, bytes_to) = (batch.last + 1, batch.bytes_to);
                tail.push_back(batch);
                self.bytes_to.store(bytes_to, Ordering::Release);
                self.end.store(end, Ordering::Release);
            }
        }
        self.wake();
    }

    /// Wakes who waits for something to happen here.
    pub(crate) fn wake(&self) {
        for waiting in lock(&self.waiting).iter() {
            if let Some(signal) = waiting.upgrade() {
                signal.notify_one();
            }
        }
    }

    /// From now on `signal` is told of every new message.
    pub(crate) fn watch(&self, signal: &Arc<Notify>) {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|other| other.strong_count() > 0);
        waiting.push(Arc::downgrade(signal));
    }

    /// `signal` is told no more.
    pub(crate) fn unwatch(&self, signal: &Arc<Notify>) {
        let signal = Arc::downgrade(signal);
        lock(&self.waiting).retain(|other| !other.ptr_eq(&signal));
    }

    /// The batches in memory from the one with offset `from` on, up to `bytes_max` (and one at
    /// least). Empty if that one is not in memory.
    pub(crate) fn tail_from(&self, from: Offset, bytes_max: usize) -> Vec<StoredBatch> {
        let tail = lock(&self.tail);
        let first = tail.partition_point(|batch| batch.last < from);
        if tail.get(first).is_none_or(|batch| batch.base > from) {
            return Vec::new();
        }
        let mut bytes = 0;
        let take = |batch: &&StoredBatch| {
            let go_on = bytes == 0 || bytes < bytes_max;
            bytes += batch.value.len();
            go_on
        };
        tail.iter().skip(first).take_while(take).cloned().collect()
    }

    /// Forgets the oldest batch in memory if it is the one that ends at `last`.
    pub(crate) fn forget(&self, last: Offset) {
        let mut tail = lock(&self.tail);
        if tail.front().is_some_and(|batch| batch.last <= last) {
            tail.pop_front();
        }
    }
}

impl TopicState {
    /// The topic with all its partitions, those of `before` kept as they are. New ones get the
    /// places from `slot` on in the writer's list.
    pub(crate) fn open(
        store: &Store,
        entry: TopicEntry,
        before: Option<&Self>,
        slot: usize,
    ) -> Result<Self, LogError> {
        let mut partitions = before.map_or_else(Vec::new, |topic| topic.partitions.clone());
        let known = partitions.len();
        for number in u32::try_from(known).unwrap_or(u32::MAX)..entry.spec.partitions {
            let slot = slot + partitions.len() - known;
            partitions.push(Arc::new(PartitionState::open(store, &entry, number, slot)?));
        }
        Ok(Self { entry, partitions })
    }

    /// The partition `number`.
    pub(crate) fn partition(&self, number: u32) -> Option<&Arc<PartitionState>> {
        self.partitions.get(usize::try_from(number).ok()?)
    }
}

/// All topics of the store, and how many partitions they have together.
pub(crate) fn load(store: &Store) -> Result<(Topics, usize), LogError> {
    let mut topics = Topics::default();
    let mut slots = 0;
    for entry in store.state.prefix(TOPIC_PREFIX) {
        let (key, value) =
            entry.into_inner().map_err(|error| store.read_error("a topic", &error))?;
        let entry = TopicEntry::decode(&key, &value)
            .map_err(|damage| store.damage_error("a topic", &damage.to_string()))?;
        let topic = TopicState::open(store, entry, None, slots)?;
        slots += topic.partitions.len();
        topics.insert(topic.entry.spec.name.clone(), Arc::new(topic));
    }
    Ok((topics, slots))
}

/// Says what is wrong with a topic that is to be made, if anything is.
pub(crate) fn check(spec: &TopicSpec) -> Result<(), String> {
    let name = &*spec.name;
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(letters) {
        return Err(format!(
            "topic name {name:?} is not valid: use ASCII letters, digits, '.', '_' and '-', and \
             not just \".\" or \"..\""
        ));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "topic name {name} has {} characters, and {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if spec.partitions == 0 || spec.partitions > PARTITIONS_MAX {
        return Err(format!(
            "topic {name} cannot have {} partitions: give a number from 1 to {PARTITIONS_MAX}",
            spec.partitions
        ));
    }
    if spec.message_bytes_max == 0 || spec.message_bytes_max > MESSAGE_BYTES_MAX {
        return Err(format!(
            "topic {name} cannot take messages of {} bytes: give a number from 1 to \
             {MESSAGE_BYTES_MAX}",
            spec.message_bytes_max
        ));
    }
    Ok(())
}

#[cfg(test)]
impl TopicState {
    /// A topic with nothing in it and no store behind it.
    pub(crate) fn empty(entry: TopicEntry) -> Self {
        let partitions = (0..entry.spec.partitions).map(|number| {
            let source = Partition::new(entry.spec.name.clone(), number);
            Arc::new(PartitionState::new(source, entry.id, 0, StartEntry::default()))
        });
        Self { partitions: partitions.collect(), entry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> TopicSpec {
        TopicSpec {
            name: name.into(),
            partitions: 1,
            retention: None,
            retention_bytes: None,
            message_bytes_max: 1000,
            append_time: false,
            compacted: false,
            replication: None,
        }
    }

    #[test]
    fn names_follow_kafkas_rules() {
        let longest = "x".repeat(249);
        for name in ["a", "orders.retry.5s", "A-b_c.9", "...", &longest] {
            assert_eq!(check(&named(name)), Ok(()), "{name}");
        }
        let too_long = "x".repeat(250);
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\n", &too_long] {
            assert!(check(&named(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn counts_and_sizes_have_bounds() {
        assert!(check(&TopicSpec { partitions: 0, ..named("t") }).is_err());
        assert!(check(&TopicSpec { partitions: 10_001, ..named("t") }).is_err());
        assert!(check(&TopicSpec { message_bytes_max: 0, ..named("t") }).is_err());
        assert!(check(&TopicSpec { message_bytes_max: usize::MAX, ..named("t") }).is_err());
    }
}
