//! Sweep: removes messages that are too old or too many, and marks that have expired.
//!
//! Only whole stored batches go, and only such that the topic's retention gives up entirely: all of
//! their messages are older than `retention`, or the partition keeps `retention_bytes` without
//! them. A topic without retention is never trimmed. Batches are judged by their keys; none is read.
//!
//! Marks lie in the log by the writes that brought them, and go when all of a write's have expired; judged by their keys, too.
//! Their index gives back its space by itself.
//!
//! Limits: a write removes at most [`STEP`] batches or writes' marks, so that appends wait for none of it
//! long; one round looks at the marks of [`MARKS_PER_ROUND`] writes and the next goes on behind them.

use std::ops::Bound;
use std::sync::Arc;

use fjall::Guard;
use millstream_core::log::LogError;
use millstream_core::message::{EpochMs, Offset};

use crate::entries::packed_marks::MarksKey;
use crate::locks::read;
use crate::queue::{Request, Trim};
use crate::record_batch::{BatchKey, KEY_BYTES};
use crate::shared::Shared;
use crate::store::Store;
use crate::topics::{PartitionState, TopicState};

/// Batches or writes' marks that one write removes.
const STEP: usize = 1000;
/// Writes whose marks one round of the thread looks at.
pub(crate) const MARKS_PER_ROUND: usize = 100_000;

/// What may go of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    /// Everything below an offset goes.
    From(Offset),
    /// Batches go whose newest message is older than `since`, or without which `bytes` remain.
    Newest { since: Option<EpochMs>, bytes: Option<u64> },
}

/// Where the last round over the marks ended.
#[derive(Debug, Default)]
pub(crate) struct MarksCursor(Option<Vec<u8>>);

/// One round over all topics.
pub(crate) fn sweep_topics(shared: &Shared) -> Result<(), LogError> {
    let now = shared.clock.now();
    let topics: Vec<Arc<TopicState>> = read(&shared.topics).values().cloned().collect();
    for topic in topics {
        let spec = &topic.entry.spec;
        let age = spec.retention.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let since = age.map(|age| now.saturating_sub(age));
        if since.is_none() && spec.retention_bytes.is_none() {
            continue;
        }
        let keep = Keep::Newest { since, bytes: spec.retention_bytes };
        for partition in &topic.partitions {
            trim(shared, partition, keep)?;
        }
    }
    Ok(())
}

/// Removes what `keep` gives up, step by step; each step moves the start and removes the batches
/// below it in one write.
pub(crate) fn trim(
    shared: &Shared,
    partition: &Arc<PartitionState>,
    keep: Keep,
) -> Result<(), LogError> {
    loop {
        // Not held over the wait for the writer, which closes the store.
        let trim = next_trim(&*shared.store()?, partition, keep)?;
        let Some(trim) = trim else { return Ok(()) };
        let complete = trim.batches.len() < STEP;
        let done = shared.queue.ask_blocking(|reply| Request::Trim { trim, reply });
        done.unwrap_or_else(|| Err(shared.closed()))?;
        if complete {
            return Ok(());
        }
    }
}

fn next_trim(
    store: &Store,
    partition: &Arc<PartitionState>,
    keep: Keep,
) -> Result<Option<Trim>, LogError> {
    let (old_start, end) = (partition.start(), partition.end());
    if old_start >= end {
        return Ok(None);
    }
    let source = &partition.source;
    let range = BatchKey::lower(partition.topic, source.number, old_start)
        ..=BatchKey::upper(partition.topic, source.number, end - 1);
    let mut batches: Vec<[u8; KEY_BYTES]> = Vec::new();
    let mut bytes_before = None;
    let mut start = old_start;
    let mut stopped = false;
    for entry in store.messages.range(range) {
        if batches.len() >= STEP {
            stopped = true;
            break;
        }
        let key = Guard::key(entry)
            .map_err(|error| store.read_error(&format!("{source}@{start}"), &error))?;
        let key = BatchKey::decode(&key).map_err(|damage| {
            store.damage_error(&format!("{source}@{start}"), &damage.to_string())
        })?;
        let gives_up = match keep {
            Keep::From(offset) => key.last < offset,
            Keep::Newest { since, bytes } => {
                let old = since.is_some_and(|since| key.timestamp_max < since);
                let kept = partition.bytes_to().saturating_sub(key.bytes_to);
                old || bytes.is_some_and(|bytes| kept >= bytes)
            }
        };
        if !gives_up {
            break;
        }
        start = key.last + 1;
        bytes_before = Some(key.bytes_to);
        batches.push(key.encode());
    }
    if let (Keep::From(offset), false) = (keep, stopped) {
        start = start.max(offset.min(end));
    }
    let trim = Trim { partition: partition.clone(), start, bytes_before, batches };
    Ok((start > old_start).then_some(trim))
}

/// Looks at the marks of up to `count` writes from the cursor on and removes those that have all expired. Tells
/// whether the end was reached; the next round then begins at the front.
pub(crate) fn sweep_marks(
    shared: &Shared,
    cursor: &mut MarksCursor,
    count: usize,
) -> Result<bool, LogError> {
    let now = shared.clock.now();
    let mut looked_at = 0;
    while looked_at < count {
        let from = cursor.0.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut expired = Vec::new();
        let mut last = None;
        let mut seen = 0;
        {
            let store = shared.store()?;
            for entry in store.marks.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(10 * STEP) {
                let key = Guard::key(entry)
                    .map_err(|error| store.read_error("idempotency marks", &error))?;
                let found = MarksKey::decode(&key).map_err(|damage| {
                    store.damage_error("the idempotency marks of a write", &damage.to_string())
                })?;
                seen += 1;
                if found.expires <= now {
                    expired.push(key.to_vec());
                }
                last = Some(key.to_vec());
                if expired.len() >= STEP {
                    break;
                }
            }
        }
        if !expired.is_empty() {
            let done = shared.queue.ask_blocking(|reply| Request::Forget { keys: expired, reply });
            done.unwrap_or_else(|| Err(shared.closed()))?;
        }
        if seen == 0 {
            return Ok(true);
        }
        looked_at += seen;
        cursor.0 = last;
    }
    Ok(false)
}
