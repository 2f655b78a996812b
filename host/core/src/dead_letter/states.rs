//! States of one partition's dead letters, as its partition of the topic of states has them.
//!
//! Read from the start once, then from where reading stopped. What no record names is open.
//!
//! Limits: 100 bytes or so for each range of letters that share a change, and for each record of letters that are
//! still there; [`IDS_MAX`] ids of redrives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::state_record::{self, Change, RunRecord, Said, State};
use super::{DeadLetterError, log_error};
use crate::log::{Log, LogError, Room, TopicSpec};
use crate::message::{Offset, Partition};
use crate::names::states_topic;

/// What is read at once.
const ROOM: Room = Room { messages: 1_000, bytes: 4 << 20 };
/// Redrives that are known by their id.
const IDS_MAX: usize = 100_000;
/// How long to wait for what a transaction hides, and how often: its end follows its answer within moments.
const HIDDEN_END_WAIT: Duration = Duration::from_millis(20);
const HIDDEN_END_LOOKS: u32 = 1_500;

/// How far is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// What can be read now: who was killed may have left a transaction open, which hides what is in it for seconds.
    Readable,
    /// All there is, for whoever has the writer's name: nothing is left open then, and its end is seen within moments.
    End,
}

/// See the module.
#[derive(Debug)]
pub(super) struct States {
    partition: Partition,
    /// Where reading goes on; `None` before the first.
    next: Option<Offset>,
    /// By first offset: last offset and the change. They do not overlap.
    spans: BTreeMap<Offset, (Offset, Arc<Change>)>,
    /// Records by key with the last offset they name, to be removed when that is gone.
    records: BTreeMap<Bytes, Offset>,
    ids: BTreeSet<String>,
    run: Option<RunRecord>,
    strange: u64,
}

impl States {
    /// Those of a dead-letter partition; nothing is read yet.
    pub(super) fn of(letters: &Partition) -> Self {
        Self {
            partition: Partition::new(states_topic(&letters.topic), letters.number),
            next: None,
            spans: BTreeMap::new(),
            records: BTreeMap::new(),
            ids: BTreeSet::new(),
            run: None,
            strange: 0,
        }
    }

    /// The partition they lie in.
    pub(super) fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Reads on. Where there is no such topic, every letter is open.
    pub(super) async fn read(
        &mut self,
        log: &dyn Log,
        topics: &[TopicSpec],
        until: Until,
    ) -> Result<(), DeadLetterError> {
        let there = topics.iter().find(|topic| topic.name == self.partition.topic);
        if there.is_none_or(|topic| topic.partitions <= self.partition.number) {
            return Ok(());
        }
        let doing = || format!("reading the states of dead letters in {}", self.partition);
        let ends = log.ends(std::slice::from_ref(&self.partition)).await;
        let ends = ends.map_err(|error| log_error(doing(), error))?;
        let ends = ends.first().copied().unwrap_or_default();
        let to = match until {
            Until::Readable => ends.end,
            Until::End => ends.high,
        };
        let read = self.read_to(log, to).await;
        read.map_err(|error| log_error(format!("reading {}", self.partition), error))?;
        if self.strange > 0 {
            tracing::warn!(partition = %self.partition, skipped = self.strange, "messages that are no states of dead letters; who writes there?");
            self.strange = 0;
        }
        Ok(())
    }

    /// Reads on to this offset.
    pub(super) async fn read_to(&mut self, log: &dyn Log, high: Offset) -> Result<(), LogError> {
        let mut next = self.next.unwrap_or(0);
        let mut looks = 0;
        while next < high {
            let batch = log.fetch(&self.partition, next, ROOM).await?;
            if batch.next <= next {
                looks += 1;
                if looks > HIDDEN_END_LOOKS {
                    let text = format!(
                        "{} stays unreadable from offset {next}: a transaction of another program is open there",
                        self.partition
                    );
                    return Err(LogError::Unavailable(text));
                }
                tokio::time::sleep(HIDDEN_END_WAIT).await;
                continue;
            }
            for message in &batch.messages {
                match state_record::decode(message) {
                    Some(Said::Run(run)) => self.run = Some(run),
                    Some(Said::Letters(ranges, change)) => {
                        let last = ranges.iter().map(|range| *range.end()).max();
                        if let (Some(key), Some(last)) = (message.key.clone(), last) {
                            self.records.insert(key, last);
                        }
                        self.put(ranges, change);
                    }
                    Some(Said::Nothing) => {
                        message.key.as_ref().map(|key| self.records.remove(key));
                    }
                    None => self.strange += 1,
                }
            }
            next = batch.next;
            self.next = Some(next);
        }
        Ok(())
    }

    /// Notes a change, over whatever was known of these letters.
    pub(super) fn put(
        &mut self,
        ranges: impl IntoIterator<Item = RangeInclusive<Offset>>,
        change: Change,
    ) {
        if self.ids.len() < IDS_MAX {
            self.ids.insert(change.id.clone());
        }
        let change = Arc::new(change);
        for range in ranges {
            let (first, last) = (*range.start(), *range.end());
            self.cut(first);
            if let Some(after) = last.checked_add(1) {
                self.cut(after);
            }
            let covered: Vec<Offset> = self.spans.range(first..=last).map(|(at, _)| *at).collect();
            for at in covered {
                self.spans.remove(&at);
            }
            self.spans.insert(first, (last, Arc::clone(&change)));
        }
    }

    /// No span reaches over `at` afterwards.
    fn cut(&mut self, at: Offset) {
        let Some((first, (last, change))) = self.spans.range_mut(..at).next_back() else { return };
        if *last < at {
            return;
        }
        let (end, change, first) = (*last, Arc::clone(change), *first);
        if let Some(kept) = at.checked_sub(1)
            && let Some(span) = self.spans.get_mut(&first)
        {
            span.0 = kept;
        }
        self.spans.insert(at, (end, change));
    }

    /// What was done about a letter, if anything was.
    pub(super) fn change(&self, offset: Offset) -> Option<&Arc<Change>> {
        let (_, (last, change)) = self.spans.range(..=offset).next_back()?;
        (offset <= *last).then_some(change)
    }

    /// What became of a letter.
    pub(super) fn state(&self, offset: Offset) -> State {
        self.change(offset).map_or(State::Open, |change| change.state)
    }

    /// Whether a redrive of this id sent letters of this partition: counts in headers are believed only with it.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Who is at it, or was last.
    pub(super) fn run(&self) -> Option<&RunRecord> {
        self.run.as_ref()
    }

    /// How many offsets of `within` are closed.
    pub(super) fn closed(&self, within: std::ops::Range<Offset>) -> u64 {
        let closed = |(first, (last, change)): (&Offset, &(Offset, Arc<Change>))| {
            if !change.state.is_closed() {
                return 0;
            }
            let (first, end) = ((*first).max(within.start), last.saturating_add(1).min(within.end));
            end.saturating_sub(first)
        };
        self.spans.iter().map(closed).sum()
    }

    /// That these are the states of a partition that ends at `high`. One that was made anew begins at 0 again, and what
    /// is known of the letters of the former would hide those of the new one.
    pub(super) fn must_be_of(
        &self,
        letters: &Partition,
        high: Offset,
    ) -> Result<(), DeadLetterError> {
        let last = self.spans.last_key_value().map(|(_, (last, _))| *last);
        let Some(last) = last.filter(|last| *last >= high) else { return Ok(()) };
        Err(DeadLetterError::Refused(format!(
            "{} says what became of {letters}@{last}, and {letters} ends at {high}: it was made anew, so these states are another's: delete topic {}",
            self.partition, self.partition.topic
        )))
    }

    /// Forgets letters below `start`, which are gone, and gives the keys of records that name no others, at most so
    /// many.
    pub(super) fn forget_below(&mut self, start: Offset, count_max: usize) -> Vec<Bytes> {
        let gone = self.records.iter().filter(|(_, last)| **last < start);
        let keys: Vec<Bytes> = gone.map(|(key, _)| key.clone()).take(count_max).collect();
        for key in &keys {
            self.records.remove(key);
        }
        self.spans.retain(|_, (last, _)| *last >= start);
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(state: State, id: &str) -> Change {
        Change { state, id: id.to_owned(), at: 1, by: "ada".to_owned(), to: None }
    }

    #[test]
    fn a_later_change_counts_wherever_it_lies_over_earlier_ones() {
        let mut states = States::of(&Partition::new("orders.dlq", 0));
        states.put([0..=9, 20..=29], change(State::Redriven, "a"));
        states.put([5..=24], change(State::Parked, "b"));
        states.put([7..=7], change(State::Purged, "c"));
        let expected = [
            (0, State::Redriven),
            (4, State::Redriven),
            (5, State::Parked),
            (7, State::Purged),
            (8, State::Parked),
            (15, State::Parked),
            (24, State::Parked),
            (25, State::Redriven),
            (29, State::Redriven),
            (30, State::Open),
        ];
        for (offset, state) in expected {
            assert_eq!(states.state(offset), state, "offset {offset}");
        }
        assert_eq!(states.closed(0..100), 5 + 1 + 5);
        assert_eq!(states.closed(3..26), 2 + 1 + 1);
        assert!(states.knows("b") && !states.knows("d"));
        states.forget_below(26, 10);
        assert_eq!((states.closed(26..100), states.state(7)), (4, State::Open));
    }
}
