//! Topic table: a compacted topic's partition, read as a table; of each key the last record counts.
//!
//! Read on by [`TopicTable::catch_up`], which asks for the end first: where nothing was appended it costs that alone.
//!
//! Invariant: after `catch_up` the table is that of the end it found, or of a later one.
//! Limits: at most [`ROWS_MAX`] rows; keys and values that are longer than [`KEY_BYTES_MAX`] and [`VALUE_BYTES_MAX`]
//! are no rows, and counted. Whoever may write to the topic can fill it; who reads it then says so and goes on with what it has.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::log::{Ends, Log, LogError, Room};
use crate::message::{Message, Offset, Partition};

/// The most rows.
pub(super) const ROWS_MAX: usize = 20_000;
/// The longest key of a row.
const KEY_BYTES_MAX: usize = 256;
/// The longest value of a row: a proposal with its smoke messages.
pub(super) const VALUE_BYTES_MAX: usize = 900 << 10;
/// What is read at once.
const ROOM: Room = Room { messages: 1_000, bytes: 4 << 20 };
/// How long to wait for what a transaction of somebody else hides.
const HIDDEN_END_WAIT: Duration = Duration::from_millis(20);
/// How often that is done.
const HIDDEN_END_LOOKS_MAX: u32 = 250;

/// The last record of a key.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its offset.
    pub(super) offset: Offset,
    /// Its value.
    pub(super) value: Bytes,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TopicTable {
    partition: Partition,
    next: Offset,
    rows: BTreeMap<String, Row>,
    strange: u64,
}

impl TopicTable {
    /// Nothing read yet.
    pub(super) fn new(partition: Partition) -> Self {
        Self { partition, next: 0, rows: BTreeMap::new(), strange: 0 }
    }

    /// Where reading goes on: everything below is in the table.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Records that are no rows, so far.
    pub(super) fn strange(&self) -> u64 {
        self.strange
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// What the log says, or `Fatal` if there are more rows than there may be.
    pub(super) async fn catch_up(&mut self, log: &dyn Log) -> Result<(), LogError> {
        let ends = log.ends(std::slice::from_ref(&self.partition)).await?;
        self.read_to(log, ends.first().copied().unwrap_or_default()).await
    }

    /// The same to an end that is known.
    pub(super) async fn read_to(&mut self, log: &dyn Log, ends: Ends) -> Result<(), LogError> {
        if ends.end < self.next {
            // Another topic of this name: what was in the first is not true here.
            tracing::warn!(partition = %self.partition, end = ends.end, next = self.next, "the control topic was made anew");
            *self = Self::new(self.partition.clone());
        }
        let mut looks = 0;
        while self.next < ends.end {
            let batch = log.fetch(&self.partition, self.next, ROOM).await?;
            if batch.next <= self.next {
                looks += 1;
                if looks > HIDDEN_END_LOOKS_MAX {
                    let text = format!("{} cannot be read to its end yet", self.partition);
                    return Err(LogError::Unavailable(text));
                }
                tokio::time::sleep(HIDDEN_END_WAIT).await;
                continue;
            }
            // Not beyond the end that was asked for: the same end asked for again is not one that has moved back.
            self.next = batch.next.min(ends.end);
            for message in batch.messages.into_iter().filter(|message| message.offset < ends.end) {
                self.take(message)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), LogError> {
        let Message { offset, key, value, .. } = message;
        let key = key.filter(|key| key.len() <= KEY_BYTES_MAX);
        let key = key.and_then(|key| String::from_utf8(key.to_vec()).ok());
        let fits = value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES_MAX);
        let (Some(key), true) = (key, fits) else {
            self.strange += 1;
            return Ok(());
        };
        let Some(value) = value else {
            self.rows.remove(&key);
            return Ok(());
        };
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            return Err(LogError::Fatal(format!(
                "{} has more than {ROWS_MAX} rows: somebody else writes there; see who may",
                self.partition
            )));
        }
        self.rows.insert(key, Row { offset, value });
        Ok(())
    }

    /// The row of this key.
    pub(super) fn row(&self, key: &str) -> Option<&Row> {
        self.rows.get(key)
    }

    /// The rows whose keys begin like this, with the rest of the key.
    pub(super) fn rows<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Row)> {
        let from = self.rows.range(prefix.to_owned()..);
        from.map_while(move |(key, row)| Some((key.strip_prefix(prefix)?, row)))
    }
}
