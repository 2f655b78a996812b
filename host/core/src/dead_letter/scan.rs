//! Reading one dead-letter partition from its start to where it ended when the reading began, so
//! that letters that arrive meanwhile (redriven ones that fail again) are not taken.

use std::ops::RangeInclusive;

use super::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, DeadLetterError, log_error, redriven_marker};
use crate::log::{Ends, Log, Room};
use crate::message::{Message, Offset, Partition};

/// See the module.
pub(super) struct Scan {
    group: String,
    partition: Partition,
    next: Offset,
    ends: Ends,
    /// What markers name, ascending by start, overlaps merged.
    redriven: Vec<RangeInclusive<Offset>>,
}

impl Scan {
    /// Notes the partition's ends and reads it once for its markers, which stand behind the letters
    /// they name.
    pub(super) async fn open(
        log: &dyn Log,
        group: &str,
        partition: &Partition,
    ) -> Result<Self, DeadLetterError> {
        let ends = log
            .ends(std::slice::from_ref(partition))
            .await
            .map_err(|error| log_error(format!("reading the ends of {partition}"), error))?;
        let ends = ends.first().copied().unwrap_or_default();
        let (group, partition) = (group.to_owned(), partition.clone());
        let mut scan = Self { group, partition, next: ends.start, ends, redriven: Vec::new() };
        let mut ranges = Vec::new();
        while let Some(batch) = scan.next(log).await? {
            let markers = batch.iter().filter(|m| redriven_marker::is_marker(m, &scan.group));
            ranges.extend(markers.flat_map(redriven_marker::ranges));
        }
        ranges.sort_unstable_by_key(|range| *range.start());
        for range in ranges {
            match scan.redriven.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*range.end().max(last.end());
                }
                _ => scan.redriven.push(range),
            }
        }
        scan.next = ends.start;
        Ok(scan)
    }

    /// How many offsets there are to read.
    pub(super) fn length(&self) -> u64 {
        self.ends.end.saturating_sub(self.ends.start)
    }

    /// How many offsets were read.
    pub(super) fn read(&self) -> u64 {
        self.next.min(self.ends.end).saturating_sub(self.ends.start)
    }

    /// The next messages, or `None` at the end. Never empty.
    pub(super) async fn next(
        &mut self,
        log: &dyn Log,
    ) -> Result<Option<Vec<Message>>, DeadLetterError> {
        let room = Room { messages: BATCH_MESSAGES_MAX, bytes: BATCH_BYTES_MAX };
        while self.next < self.ends.end {
            let batch = log.fetch(&self.partition, self.next, room).await.map_err(|error| {
                log_error(format!("reading {}@{}", self.partition, self.next), error)
            })?;
            let stuck = batch.messages.is_empty() && batch.next <= self.next;
            self.next = batch.next.max(self.next);
            let end = self.ends.end;
            let messages: Vec<_> =
                batch.messages.into_iter().filter(|message| message.offset < end).collect();
            if !messages.is_empty() {
                return Ok(Some(messages));
            }
            // Everything up to the end was removed meanwhile.
            if stuck {
                self.next = end;
            }
        }
        Ok(None)
    }

    /// Whether this is a letter that was not put back: no marker, and named by none.
    pub(super) fn is_letter(&self, message: &Message) -> bool {
        let after = self.redriven.partition_point(|range| *range.start() <= message.offset);
        let named = after.checked_sub(1).and_then(|index| self.redriven.get(index));
        !named.is_some_and(|range| range.contains(&message.offset))
            && !redriven_marker::is_marker(message, &self.group)
    }
}

/// The letter at `offset`, unless it was put back.
pub(super) async fn one(
    log: &dyn Log,
    group: &str,
    partition: &Partition,
    offset: Offset,
) -> Result<Option<Message>, DeadLetterError> {
    let mut scan = Scan::open(log, group, partition).await?;
    if offset < scan.ends.start {
        return Ok(None);
    }
    scan.next = offset;
    let found = scan.next(log).await?.unwrap_or_default().into_iter().next();
    Ok(found.filter(|message| message.offset == offset && scan.is_letter(message)))
}
