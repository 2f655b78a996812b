//! Reading one dead-letter partition from its start to where it ended when the reading began, so
//! that letters that arrive meanwhile (redriven ones that fail again) are not taken.

use super::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, DeadLetterError, log_error};
use crate::log::{Ends, Log, Room};
use crate::message::{Message, Offset, Partition};

/// See the module.
pub(super) struct Scan {
    partition: Partition,
    next: Offset,
    ends: Ends,
}

impl Scan {
    /// Notes the partition's ends.
    pub(super) async fn open(
        log: &dyn Log,
        partition: &Partition,
    ) -> Result<Self, DeadLetterError> {
        let ends = log
            .ends(std::slice::from_ref(partition))
            .await
            .map_err(|error| log_error(format!("reading the ends of {partition}"), error))?;
        let ends = ends.first().copied().unwrap_or_default();
        Ok(Self { partition: partition.clone(), next: ends.start, ends })
    }

    /// The first offset that is still there.
    pub(super) fn start(&self) -> Offset {
        self.ends.start
    }

    /// The offset after everything that is there.
    pub(super) fn high(&self) -> Offset {
        self.ends.high
    }

    /// How many offsets there are to read.
    pub(super) fn length(&self) -> u64 {
        self.ends.end.saturating_sub(self.ends.start)
    }

    /// How many offsets were read.
    pub(super) fn read(&self) -> u64 {
        self.next.min(self.ends.end).saturating_sub(self.ends.start)
    }

    /// Everything below was seen, gaps included.
    pub(super) fn seen(&self) -> Offset {
        self.next.min(self.ends.end)
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
}

/// The message at `offset`.
pub(super) async fn one(
    log: &dyn Log,
    partition: &Partition,
    offset: Offset,
) -> Result<Option<Message>, DeadLetterError> {
    let mut scan = Scan::open(log, partition).await?;
    if offset < scan.ends.start {
        return Ok(None);
    }
    scan.next = offset;
    let found = scan.next(log).await?.unwrap_or_default().into_iter().next();
    Ok(found.filter(|message| message.offset == offset))
}
