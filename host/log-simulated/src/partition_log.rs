//! One partition of a simulated topic: messages by offset, with gaps and open transactions.
//!
//! Invariant: nothing at or behind the first record of an open transaction is readable.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use millstream_core::log::{Ends, Room};
use millstream_core::message::{Message, Offset};

/// Identifies an open transaction.
pub(crate) type TransactionId = u64;

#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    start: Offset,
    /// The offset of the next append; what lies between it and the last entry is a gap.
    next: Offset,
    entries: BTreeMap<Offset, Message>,
    /// Those of the entries that belong to a transaction that has not ended.
    open: BTreeMap<Offset, TransactionId>,
}

impl PartitionLog {
    /// Appends after `gap` offsets that stay empty; gives the offset.
    pub(crate) fn append(
        &mut self,
        mut message: Message,
        gap: u64,
        open: Option<TransactionId>,
    ) -> Offset {
        let offset = self.next + gap;
        message.offset = offset;
        self.entries.insert(offset, message);
        if let Some(transaction) = open {
            self.open.insert(offset, transaction);
        }
        self.next = offset + 1;
        offset
    }

    /// Offsets that no message has, as a transaction's marker leaves them.
    pub(crate) fn leave_gap(&mut self, offsets: u64) {
        self.next += offsets;
    }

    /// The transaction ended: its records become readable, or gaps. Gives those that are readable.
    pub(crate) fn resolve(&mut self, transaction: TransactionId, commit: bool) -> Vec<Message> {
        let of_it = self.open.iter().filter(|(_, t)| **t == transaction);
        let offsets: Vec<Offset> = of_it.map(|(offset, _)| *offset).collect();
        let mut resolved = Vec::new();
        for offset in offsets {
            self.open.remove(&offset);
            if commit {
                resolved.extend(self.entries.get(&offset).cloned());
            } else {
                self.entries.remove(&offset);
            }
        }
        resolved
    }

    /// Reading stops here: at the first open record, else at the end of everything.
    pub(crate) fn readable_bound(&self) -> Offset {
        self.open.keys().next().copied().unwrap_or(self.next)
    }

    pub(crate) fn ends(&self) -> Ends {
        let bound = self.readable_bound();
        let after = |last: Option<(&Offset, &Message)>| last.map_or(self.start, |(o, _)| o + 1);
        Ends {
            start: self.start,
            end: after(self.entries.range(..bound).next_back()),
            // Gaps at the end included: reading goes on behind them, and so do commits.
            high: self.next,
        }
    }

    pub(crate) fn start(&self) -> Offset {
        self.start
    }

    pub(crate) fn delete_before(&mut self, before: Offset) {
        // Not beyond what was written: the next append must not land below the start.
        let before = before.min(self.next);
        if before > self.start {
            self.start = before;
            self.entries = self.entries.split_off(&before);
        }
    }

    /// Removes the oldest readable messages, so many at most; gives those that are gone.
    pub(crate) fn retain(&mut self, count: usize) -> Vec<Offset> {
        let bound = self.readable_bound();
        let gone: Vec<Offset> = self.entries.range(..bound).map(|(o, _)| *o).take(count).collect();
        if let Some(last) = gone.last() {
            self.delete_before(last + 1);
        }
        gone
    }

    /// Removes the readable messages to whose key a later one was written; gives those that are gone.
    pub(crate) fn compact(&mut self) -> Vec<Offset> {
        let mut last: BTreeMap<Bytes, Offset> = BTreeMap::new();
        let mut gone = Vec::new();
        for (offset, message) in self.entries.range(..self.readable_bound()) {
            let Some(key) = message.key.clone() else { continue };
            gone.extend(last.insert(key, *offset));
        }
        self.entries.retain(|offset, _| !gone.contains(offset));
        gone
    }

    /// Readable messages from `from` on, within `room` (one always fits), and where reading goes
    /// on: behind the gap that follows them if `over_gap`.
    pub(crate) fn read(&self, from: Offset, room: Room, over_gap: bool) -> (Vec<Message>, Offset) {
        let from = from.max(self.start);
        let bound = self.readable_bound();
        let mut messages: Vec<Message> = Vec::new();
        let mut next = from;
        let mut bytes = 0_usize;
        if from < bound && room.messages > 0 {
            for (offset, message) in self.entries.range(from..bound) {
                bytes = bytes.saturating_add(message.size_bytes());
                let full = messages.len() >= room.messages || bytes > room.bytes;
                if full && !messages.is_empty() {
                    break;
                }
                messages.push(message.clone());
                next = offset + 1;
                if full {
                    break;
                }
            }
            if over_gap || messages.is_empty() {
                let following = self.entries.range(next..bound).next();
                next = following.map_or(bound, |(offset, _)| *offset).max(next);
            }
        }
        (messages, next)
    }

    /// An offset up to `steps` messages back from `from`, not below `floor`.
    pub(crate) fn back_from(&self, from: Offset, steps: usize, floor: Offset) -> Offset {
        let floor = floor.max(self.start).min(from);
        let range = (Bound::Included(floor), Bound::Excluded(from));
        let mut earlier = self.entries.range(range).rev().map(|(offset, _)| *offset);
        earlier.by_ref().take(steps).last().unwrap_or(from)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        let closed = |entry: &(&Offset, &Message)| !self.open.contains_key(entry.0);
        self.entries.iter().filter(closed).map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    const ROOM: Room = Room { messages: 100, bytes: usize::MAX };

    fn offsets(messages: &[Message]) -> Vec<Offset> {
        messages.iter().map(|m| m.offset).collect()
    }

    #[test]
    fn an_open_transaction_hides_what_stands_behind_it_until_it_ends() {
        let mut log = PartitionLog::default();
        log.append(message(), 0, None);
        log.append(message(), 0, Some(7));
        log.append(message(), 2, None);
        assert_eq!(log.ends(), Ends { start: 0, end: 1, high: 5 });
        assert_eq!(offsets(&log.read(0, ROOM, true).0), [0]);
        assert_eq!(log.read(1, ROOM, true), (vec![], 1));
        assert_eq!(offsets(&log.resolve(7, true)), [1]);
        assert_eq!(offsets(&log.read(0, ROOM, true).0), [0, 1, 4]);
        assert_eq!(log.ends(), Ends { start: 0, end: 5, high: 5 });
    }

    #[test]
    fn an_aborted_transaction_leaves_a_gap_that_reading_moves_over() {
        let mut log = PartitionLog::default();
        log.append(message(), 0, Some(7));
        log.leave_gap(1);
        assert!(log.resolve(7, false).is_empty());
        assert_eq!(log.read(0, ROOM, false), (vec![], 2));
        assert_eq!(log.ends(), Ends { start: 0, end: 0, high: 2 });
    }

    #[test]
    fn retention_takes_the_oldest_and_stops_at_an_open_transaction() {
        let mut log = PartitionLog::default();
        log.append(message(), 0, None);
        log.append(message(), 1, None);
        log.append(message(), 0, Some(7));
        assert_eq!(log.retain(1), [0]);
        assert_eq!(log.retain(9), [2]);
        assert_eq!(log.ends(), Ends { start: 3, end: 3, high: 4 });
        assert_eq!(offsets(&log.resolve(7, true)), [3]);
        assert_eq!(offsets(&log.read(0, ROOM, true).0), [3]);
    }

    #[test]
    fn compaction_leaves_the_last_of_each_key() {
        let keyed = |key: &'static str| Message { key: Some(Bytes::from(key)), ..message() };
        let mut log = PartitionLog::default();
        for written in [keyed("a"), keyed("b"), message(), keyed("a"), keyed("a")] {
            log.append(written, 0, None);
        }
        log.append(keyed("b"), 0, Some(7));
        let mut gone = log.compact();
        gone.sort_unstable();
        assert_eq!(gone, [0, 3]);
        assert_eq!(offsets(&log.read(0, ROOM, true).0), [1, 2, 4]);
    }

    #[test]
    fn reading_goes_on_at_the_log_start_after_a_deletion() {
        let mut log = PartitionLog::default();
        for _ in 0..4 {
            log.append(message(), 0, None);
        }
        log.delete_before(2);
        assert_eq!(offsets(&log.read(0, ROOM, true).0), [2, 3]);
        assert_eq!(log.back_from(4, 9, 0), 2);
        assert_eq!(log.back_from(4, 1, 0), 3);
        assert_eq!(log.back_from(4, 1, 4), 4);
    }
}
