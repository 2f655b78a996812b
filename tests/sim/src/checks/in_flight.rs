//! In flight: what was taken from the log and is not settled, within its bounds.
//!
//! A lower bound of what the core holds: a message counts from its delivery until its effects are
//! in the log, which is before the core can know that they are.

use std::collections::BTreeSet;

use millstream_core::log::Batch;
use millstream_core::message::Partition;
use millstream_core::pipeline_spec::KeepOrder;
use millstream_log_simulated::HostId;

use crate::book::{Book, Kind};

impl Book {
    pub(crate) fn forget_in_flight(&mut self, host: HostId, partition: Option<&Partition>) {
        if let Some(held) = self.in_flight.get_mut(&host) {
            held.retain(|(p, _), _| partition.is_some_and(|partition| p != partition));
        }
    }

    /// Messages were handed to a host.
    pub(crate) fn check_delivered(&mut self, host: HostId, batch: &Batch) {
        if self.kind(&batch.partition.topic) != Kind::Source {
            return;
        }
        let mut held = self.in_flight.remove(&host).unwrap_or_default();
        for message in &batch.messages {
            held.insert((batch.partition.clone(), message.offset), message.size_bytes());
        }
        held.retain(|(partition, offset), _| {
            let uid = self.at.get(partition).and_then(|m| m.get(offset));
            let settled = uid.is_some_and(|uid| self.is_settled_at_source(*uid));
            // A host that lost a partition may know it from a refused commit before it is told.
            let held = self.holds(host, partition).is_some();
            held && !settled && !self.is_covered(partition, *offset)
        });
        let spec = &self.scenario.spec;
        let (messages, bytes) = (held.len(), held.values().sum::<usize>());
        let (mut messages_max, mut bytes_max) = (spec.in_flight_messages, spec.in_flight_bytes);
        if spec.retry.keep_order == KeepOrder::OfKey {
            // What waits for an earlier message of its key, in each partition.
            let partitions: BTreeSet<&Partition> = held.keys().map(|(p, _)| p).collect();
            messages_max += spec.waiting_messages * partitions.len();
            bytes_max += spec.waiting_bytes * partitions.len();
        }
        // One message that does not fit is handed over all the same.
        let alone = held.values().max().copied().unwrap_or(0);
        if messages > messages_max || bytes > bytes_max.saturating_add(alone) {
            let what = format!(
                "{host} holds {messages} messages of {bytes} bytes, the bounds are {messages_max} and {bytes_max}"
            );
            self.violate("what is in flight is bounded", what);
        }
        self.in_flight.insert(host, held);
    }
}
