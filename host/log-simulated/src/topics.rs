//! Topics of a simulated cluster: creation, appending, where a record goes.

use std::collections::BTreeMap;

use millstream_core::log::{Appended, LogError, RecordError, TopicSpec};
use millstream_core::message::{EpochMs, Message, Offset, Partition, Record, Topic};

use crate::cluster::State;
use crate::happening::{Happening, HostId};
use crate::partition_log::{PartitionLog, TransactionId};

#[derive(Debug)]
struct SimTopic {
    spec: TopicSpec,
    partitions: Vec<PartitionLog>,
}

#[derive(Debug, Default)]
pub(crate) struct Topics(BTreeMap<Topic, SimTopic>);

impl Topics {
    pub(crate) fn create(&mut self, spec: TopicSpec) -> Result<(), LogError> {
        if spec.partitions == 0 {
            return Err(LogError::Fatal(format!("topic {} needs at least 1 partition", spec.name)));
        }
        let topic = self
            .0
            .entry(spec.name.clone())
            .or_insert_with(|| SimTopic { spec: spec.clone(), partitions: Vec::new() });
        let have = topic.partitions.len();
        let want = usize::try_from(spec.partitions).unwrap_or(usize::MAX);
        if want < have {
            return Err(LogError::Fatal(format!(
                "topic {} has {have} partitions and cannot be made one of {want}",
                spec.name
            )));
        }
        topic.partitions.resize_with(want, PartitionLog::default);
        topic.spec.partitions = spec.partitions;
        Ok(())
    }

    pub(crate) fn specs(&self) -> Vec<TopicSpec> {
        self.0.values().map(|t| t.spec.clone()).collect()
    }

    pub(crate) fn partitions_of(&self, topic: &str) -> Option<u32> {
        self.0.get(topic).map(|t| t.spec.partitions)
    }

    pub(crate) fn messages(&self, topic: &str) -> Vec<Message> {
        let partitions = self.0.get(topic).map(|t| t.partitions.iter());
        partitions.into_iter().flatten().flat_map(PartitionLog::messages).cloned().collect()
    }

    pub(crate) fn partition(&self, partition: &Partition) -> Result<&PartitionLog, LogError> {
        let topic = self.0.get(&partition.topic);
        topic
            .and_then(|t| t.partitions.get(index(partition.number)))
            .ok_or_else(|| LogError::Fatal(format!("partition {partition} does not exist")))
    }

    pub(crate) fn partition_mut(
        &mut self,
        partition: &Partition,
    ) -> Result<&mut PartitionLog, LogError> {
        let topic = self.0.get_mut(&partition.topic);
        topic
            .and_then(|t| t.partitions.get_mut(index(partition.number)))
            .ok_or_else(|| LogError::Fatal(format!("partition {partition} does not exist")))
    }

    pub(crate) fn resolve(&mut self, transaction: TransactionId, commit: bool) -> Vec<Message> {
        let partitions = self.0.values_mut().flat_map(|t| t.partitions.iter_mut());
        partitions.flat_map(|p| p.resolve(transaction, commit)).collect()
    }

    /// Where the record would go.
    pub(crate) fn place(&self, record: &Record, spread: u64) -> Result<Partition, RecordError> {
        let unknown =
            |reason: String| RecordError::UnknownTopic { topic: record.topic.clone(), reason };
        let topic =
            self.0.get(&record.topic).ok_or_else(|| unknown("it does not exist".to_owned()))?;
        let (size_bytes, max_bytes) = (record.payload_bytes(), topic.spec.message_bytes_max);
        if size_bytes > max_bytes {
            return Err(RecordError::TooLarge {
                topic: record.topic.clone(),
                size_bytes,
                max_bytes,
            });
        }
        let partitions = topic.spec.partitions;
        let number = match (record.partition, &record.key) {
            (Some(number), _) if number >= partitions => {
                return Err(unknown(format!("it has {partitions} partitions, not one {number}")));
            }
            (Some(number), _) => number,
            (None, Some(key)) => modulo(hash(key), partitions),
            (None, None) => modulo(spread, partitions),
        };
        Ok(Partition { topic: record.topic.clone(), number })
    }

    /// The message that the record becomes in `partition`; its offset comes with the append.
    pub(crate) fn message(&self, partition: &Partition, record: Record, now: EpochMs) -> Message {
        let append_time = self.0.get(&partition.topic).is_some_and(|t| t.spec.append_time);
        Message {
            topic: partition.topic.clone(),
            partition: partition.number,
            offset: 0,
            timestamp: record.timestamp.filter(|_| !append_time).unwrap_or(now),
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// FNV-1a: the same key goes to the same partition.
fn hash(key: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    key.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn modulo(number: u64, partitions: u32) -> u32 {
    number.checked_rem(u64::from(partitions)).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Appends one record where it belongs, after a gap that is drawn.
pub(crate) fn append_one(
    state: &mut State,
    record: Record,
    open: Option<TransactionId>,
) -> Result<Message, RecordError> {
    let spread = state.draw.bits();
    let partition = state.topics.place(&record, spread)?;
    let gap = if state.draw.chance(state.faults.gap) { state.draw.between(1, 3) } else { 0 };
    let mut message = state.topics.message(&partition, record, state.wall());
    if let Ok(log) = state.topics.partition_mut(&partition) {
        message.offset = log.append(message.clone(), gap, open);
    }
    Ok(message)
}

impl State {
    /// Why a host's record is not taken, if it is not.
    pub(crate) fn refusal(&mut self, host: HostId, record: &Record) -> Option<RecordError> {
        if let Err(error) = self.topics.place(record, 0) {
            return Some(error);
        }
        let chance = self.faults.refused_records.get(&record.topic).copied()?;
        if !self.draw.chance(chance) {
            return None;
        }
        let (topic, reason) = (record.topic.clone(), "as was drawn".to_owned());
        let error = match self.draw.below(3) {
            0 => RecordError::Denied { topic, reason },
            1 => RecordError::UnknownTopic { topic, reason },
            _ => RecordError::TooLarge { topic, size_bytes: record.payload_bytes(), max_bytes: 0 },
        };
        self.tell(&Happening::Refused { host, record, error: &error });
        Some(error)
    }

    /// Removes messages of all partitions of a topic.
    pub(crate) fn remove(
        &mut self,
        topic: &str,
        mut remove: impl FnMut(&mut PartitionLog) -> Vec<Offset>,
    ) {
        for number in 0..self.topics.partitions_of(topic).unwrap_or(0) {
            let partition = Partition::new(topic, number);
            let Ok(log) = self.topics.partition_mut(&partition) else { continue };
            let offsets = remove(log);
            if !offsets.is_empty() {
                self.tell(&Happening::Removed { partition: &partition, offsets: &offsets });
            }
        }
    }
}

/// Appends what the log takes and answers for each. `late`: who asked for it is gone.
pub(crate) fn append_all(
    state: &mut State,
    host: Option<HostId>,
    late: bool,
    records: Vec<Record>,
) -> Vec<Result<Appended, RecordError>> {
    let mut written = Vec::new();
    let mut answers = Vec::with_capacity(records.len());
    for record in records {
        let refusal = host.and_then(|host| state.refusal(host, &record));
        let appended = refusal.map_or_else(|| append_one(state, record, None), Err);
        answers.push(appended.map(|message| {
            let appended = Appended { partition: message.partition, offset: message.offset };
            written.push(message);
            appended
        }));
    }
    if host.is_none() {
        // A producer outside may use transactions: their markers are gaps behind their records.
        for message in &written {
            if state.draw.chance(state.faults.gap)
                && let Ok(log) = state.topics.partition_mut(&message.source())
            {
                log.leave_gap(1);
            }
        }
    }
    state.tell(&Happening::Written {
        host,
        late,
        transaction: false,
        messages: &written,
        commits: &[],
        marks: &[],
    });
    answers
}
