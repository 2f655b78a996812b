//! Ledger: which offsets of one partition are settled, so what may be committed.
//!
//! After `settle`, before `commit`; one per assigned partition and per companion of it, dropped with
//! the assignment.
//!
//! Invariants:
//! - the commit never passes an offset that was delivered and is not settled, and never moves back;
//! - contiguity is over *delivered* offsets: transaction markers, aborted batches and compaction
//!   leave gaps, so when all that was delivered is settled the commit is the log's read position
//!   (else lag would never reach 0 on a log with markers);
//! - an offset is handed on once: what was delivered before is `Known`, whatever the log repeats.
//!
//! Limit: it holds one entry of 24 bytes for each offset between the commit and the last delivery. How many
//! those are, the in-flight bound says, and where messages wait for others the bound of `turns`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::leb128;
use crate::log::Commit;
use crate::message::{EpochMs, Offset};

/// A gap of one and a length of one.
const RANGE_BYTES_MIN: usize = 2;

/// What the ledger knows of an offset that the log just handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// First seen: hand it on.
    New,
    /// In hand already, or settled: a repetition to be ignored.
    Known,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: Offset,
    timestamp: EpochMs,
    settled: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// Delivered offsets from the first unsettled one on, ascending.
    entries: VecDeque<Entry>,
    /// How many of `entries` are not settled.
    unsettled: usize,
    /// Where the log's reading goes on: beyond everything delivered and the gaps behind it.
    position: Offset,
    /// Settled by an earlier owner or ahead, and not delivered yet: ascending, apart.
    restored: VecDeque<Range<Offset>>,
    /// Attempts made of messages retried in place.
    attempts: BTreeMap<Offset, u32>,
    /// Hosts that died, or may die, of messages that were handled alone.
    suspects: BTreeMap<Offset, u32>,
}

impl Ledger {
    /// A ledger that goes on from what an earlier owner committed.
    pub fn restore(commit: &Commit) -> Self {
        Self {
            entries: VecDeque::new(),
            unsettled: 0,
            position: commit.next,
            restored: commit
                .settled_above
                .iter()
                .filter(|r| r.end > commit.next)
                .cloned()
                .collect(),
            attempts: commit.attempts.iter().copied().filter(|(o, _)| *o >= commit.next).collect(),
            suspects: commit.suspects.iter().copied().filter(|(o, _)| *o >= commit.next).collect(),
        }
    }

    /// Notes that the log handed over `offset`. A repetition is to be ignored by the caller.
    pub fn deliver(&mut self, offset: Offset, timestamp: EpochMs) -> Delivery {
        if offset < self.position {
            return Delivery::Known;
        }
        self.position = offset + 1;
        while self.restored.front().is_some_and(|range| range.end <= offset) {
            self.restored.pop_front();
        }
        let settled = self.restored.front().is_some_and(|range| range.contains(&offset));
        if settled && self.entries.is_empty() {
            return Delivery::Known;
        }
        self.entries.push_back(Entry { offset, timestamp, settled });
        if settled {
            return Delivery::Known;
        }
        self.unsettled += 1;
        Delivery::New
    }

    /// The message at `offset` is dealt with elsewhere (a copy of it is in a retry tier), though the log
    /// has not handed it over yet: it is settled, and will be `Known`. Returns whether that was news.
    pub fn settle_ahead(&mut self, offset: Offset) -> bool {
        let Some(next) = offset.checked_add(1).filter(|_| offset >= self.position) else {
            return false;
        };
        let at = self.restored.partition_point(|range| range.end <= offset);
        if self.restored.get(at).is_some_and(|range| range.contains(&offset)) {
            return false;
        }
        self.restored.insert(at, offset..next);
        true
    }

    /// How many delivered offsets it holds: from the first unsettled one on, settled ones between included.
    pub fn span(&self) -> usize {
        self.entries.len()
    }

    /// Whether `offset` is known to be settled, delivered or not.
    pub fn is_settled(&self, offset: Offset) -> bool {
        offset < self.next()
            || self.restored.iter().any(|range| range.contains(&offset))
            || self
                .index(offset)
                .is_some_and(|index| self.entries.get(index).is_some_and(|entry| entry.settled))
    }

    /// Where the entry of `offset` is. Offsets mostly have no gaps, so it is looked for first where it is
    /// then: a search through thousands of entries costs more than most handlers.
    fn index(&self, offset: Offset) -> Option<usize> {
        let first = self.entries.front()?.offset;
        let guess = usize::try_from(offset.checked_sub(first)?).ok()?;
        if self.entries.get(guess).is_some_and(|entry| entry.offset == offset) {
            return Some(guess);
        }
        self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()
    }

    /// The log has nothing more below `next`: markers and gaps are passed.
    pub fn read_to(&mut self, next: Offset) {
        self.position = self.position.max(next);
    }

    /// Everything that the outcome of `offset` caused is done. Settling twice changes nothing.
    pub fn settle(&mut self, offset: Offset) {
        let Some(index) = self.index(offset) else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        if std::mem::replace(&mut entry.settled, true) {
            return;
        }
        self.unsettled -= 1;
        self.attempts.remove(&offset);
        self.suspects.remove(&offset);
        while self.entries.front().is_some_and(|entry| entry.settled) {
            self.entries.pop_front();
        }
    }

    /// How many ranges an earlier owner left, and where the last of them ends.
    pub fn restored_ranges(&self) -> (usize, Offset) {
        (self.restored.len(), self.restored.back().map_or(0, |range| range.end))
    }

    /// Keeps the count of attempts of a message that is retried in place.
    pub fn attempted(&mut self, offset: Offset, attempts: u32) {
        self.attempts.insert(offset, attempts);
    }

    /// How many attempts at `offset` were made and left here by [`Ledger::attempted`].
    pub fn attempts(&self, offset: Offset) -> u32 {
        self.attempts.get(&offset).copied().unwrap_or(0)
    }

    /// Keeps how many hosts have died of a message, or will have if this one does; 0 clears it.
    pub fn suspect(&mut self, offset: Offset, hosts: u32) {
        match hosts {
            0 => self.suspects.remove(&offset),
            _ => self.suspects.insert(offset, hosts),
        };
    }

    /// All that was left here by [`Ledger::suspect`].
    pub fn suspects(&self) -> impl Iterator<Item = (Offset, u32)> + '_ {
        // Compaction may have taken one away, which is settled without ever being delivered.
        self.suspects.range(self.next()..).map(|(offset, hosts)| (*offset, *hosts))
    }

    /// What was left here by [`Ledger::suspect`] of one offset.
    pub fn hosts_died_of(&self, offset: Offset) -> u32 {
        self.suspects.get(&offset).copied().unwrap_or(0)
    }

    /// The next offset that is not settled: what a commit says.
    pub fn next(&self) -> Offset {
        self.entries.front().map_or(self.position, |entry| entry.offset)
    }

    /// Where the log's reading goes on.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// How many delivered offsets are not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// The first delivered offset that is not settled.
    pub fn first_unsettled(&self) -> Option<Offset> {
        self.entries.front().map(|entry| entry.offset)
    }

    /// The time of the first message that is not settled.
    pub fn oldest_unsettled(&self) -> Option<EpochMs> {
        self.entries.front().map(|entry| entry.timestamp)
    }

    /// What is settled, for the log to keep. `ranges_bytes_max` bounds the ranges above the commit, as
    /// [`ranges_bytes`] counts them: the lowest are kept, what is beyond would be handled again after a crash.
    pub fn commit(&self, ranges_bytes_max: usize) -> Commit {
        let ranges_max = ranges_bytes_max / RANGE_BYTES_MIN;
        let mut settled_above: Vec<Range<Offset>> = Vec::new();
        let mut open: Option<Range<Offset>> = None;
        for entry in self.entries.iter() {
            if settled_above.len() >= ranges_max {
                break;
            }
            match (&mut open, entry.settled) {
                // Only delivered offsets may be claimed; a gap inside a range belongs to no message
                // and may be claimed with it.
                (Some(range), true) => range.end = entry.offset + 1,
                (None, true) => open = Some(entry.offset..entry.offset + 1),
                (_, false) => settled_above.extend(open.take()),
            }
        }
        // What the last delivered offset begins may go on in a range that was not delivered again yet:
        // between the two is nothing but a gap.
        let mut goes_on = open.is_some();
        settled_above.extend(open);
        for range in &self.restored {
            // Ranges that were not delivered again yet stay as they were read.
            let start = range.start.max(self.position);
            if start < range.end {
                let joins = std::mem::take(&mut goes_on) && start == self.position;
                match settled_above.last_mut() {
                    Some(last) if joins || last.end == start => last.end = range.end,
                    _ => settled_above.push(start..range.end),
                }
            }
        }
        let next = self.next();
        let mut left = ranges_bytes_max;
        let fits = |bytes: &usize| left.checked_sub(*bytes).map(|rest| left = rest).is_some();
        let fitting = sizes(next, &settled_above).take_while(fits).count();
        settled_above.truncate(fitting);
        let attempts = self.attempts.range(next..).map(|(offset, n)| (*offset, *n)).collect();
        let suspects = self.suspects().collect();
        Commit { next, settled_above, attempts, suspects, owners: 0 }
    }
}

/// How many bytes the ranges above a commit take: of each the gap before it and its length, as [`leb128`].
pub fn ranges_bytes(commit: &Commit) -> usize {
    sizes(commit.next, &commit.settled_above).sum()
}

fn sizes(next: Offset, ranges: &[Range<Offset>]) -> impl Iterator<Item = usize> + '_ {
    ranges.iter().scan(next, |at, range| {
        let gap = range.start.saturating_sub(*at);
        *at = range.end;
        Some(leb128::size(gap) + leb128::size(range.end.saturating_sub(range.start)))
    })
}

#[cfg(test)]
mod tests;
