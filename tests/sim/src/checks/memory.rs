//! Memory: what a host tells that it holds stays within its bounds, and is nothing once all is settled.
//!
//! What the handler and the log see of it is checked where it happens (`in_flight`); this is the core's own count, which
//! operators go by: a count that leaks is a bound that shrinks until nothing moves.

use millstream_core::message::Partition;
use millstream_core::status::PartitionReport;
use millstream_log_simulated::HostId;

use crate::book::Book;

/// What a host tells of itself.
#[derive(Clone, Debug)]
pub(crate) struct Holds {
    pub(crate) messages: i64,
    pub(crate) bytes: i64,
    pub(crate) partitions: Vec<PartitionReport>,
}

impl Holds {
    /// Whether nothing is held. Once all is settled and nothing comes, whoever still holds something has lost count.
    pub(crate) fn are_none(&self) -> bool {
        let nothing = |partition: &PartitionReport| {
            partition.in_flight == 0 && partition.retries == 0 && partition.waiting_messages == 0
        };
        self.messages == 0 && self.bytes == 0 && self.partitions.iter().all(nothing)
    }
}

impl Book {
    /// Looks at what a host holds.
    pub(crate) fn check_memory(&mut self, host: HostId, holds: &Holds) {
        let spec = &self.scenario.spec;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        // One message that does not fit is taken all the same.
        let bytes_max = spec.in_flight_bytes.saturating_add(self.largest);
        let mut beyond = None;
        if holds.messages > count(spec.in_flight_messages) || holds.bytes > count(bytes_max) {
            let (messages, bytes) = (holds.messages, holds.bytes);
            beyond = Some(format!("{messages} messages of {bytes} bytes in flight"));
        }
        for partition in &holds.partitions {
            let name = format!("{}[{}]", partition.topic, partition.partition);
            if partition.waiting_messages > spec.waiting_messages {
                beyond = Some(format!("{} messages wait in {name}", partition.waiting_messages));
            }
            // An entry for each message, however many copies of it there are.
            let source = Partition::new(partition.topic.as_str(), partition.partition);
            if partition.retries > self.produced.get(&source).copied().unwrap_or(0) {
                beyond = Some(format!("{} retries are outstanding in {name}", partition.retries));
            }
        }
        if let Some(what) = beyond {
            self.violate("what is held in memory is bounded", format!("{host}: {what}"));
        }
    }
}
