//! Reading: messages of one partition, from memory when they are new, else from the store.
//!
//! Readers that keep up never touch the store. Reads of the store block, so they happen on the
//! runtime's blocking threads, a stretch of batches at a time.
//!
//! Invariant: offsets between a partition's start and end are all there. A batch that is missing is
//! damage and said so; nothing is skipped.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::log::{Batch, LogError, Room};
use millstream_core::message::{Message, Offset};

use crate::record_batch::{BatchKey, Damage, StoredBatch};
use crate::shared::Shared;
use crate::store::Store;
use crate::topics::PartitionState;

/// The least that one read of the store takes, in bytes.
pub(crate) const STRETCH_BYTES_MIN: usize = 64 * 1024;
/// The most that one read of the store takes, in bytes (one batch at least).
pub(crate) const STRETCH_BYTES_MAX: usize = 1024 * 1024;
/// Messages prepared for by a read; more are taken, with the list growing.
const MESSAGES_EXPECTED_MAX: usize = 1024;

/// Reads from `from` on out of `batches`, the first of which holds it.
pub(crate) fn messages_of(
    partition: &PartitionState,
    batches: &[StoredBatch],
    from: Offset,
    room: Room,
    store: impl FnOnce() -> Result<Arc<Store>, LogError>,
) -> Result<Batch, LogError> {
    let last = batches.last().map_or(from, |batch| batch.last + 1);
    let expected = usize::try_from(last.saturating_sub(from)).unwrap_or(usize::MAX);
    let expected = expected.min(room.messages).min(MESSAGES_EXPECTED_MAX);
    let mut messages = Vec::with_capacity(expected);
    let mut left = room;
    let mut damage = None;
    for batch in batches {
        match batch.read(&partition.source, from, &mut left, &mut messages) {
            Ok(true) => {}
            Ok(false) => break,
            Err(found) => {
                damage = Some((batch.base, found));
                break;
            }
        }
    }
    if let Some((base, damage)) = damage {
        return Err(damaged(partition, base, &damage, store));
    }
    let next = messages.last().map_or(from, |message: &Message| message.offset + 1);
    Ok(Batch { partition: partition.source.clone(), messages, next, end: partition.end() })
}

fn damaged(
    partition: &PartitionState,
    base: Offset,
    damage: &Damage,
    store: impl FnOnce() -> Result<Arc<Store>, LogError>,
) -> LogError {
    match store() {
        Ok(store) => {
            store.damage_error(&format!("{}@{base}", partition.source), &damage.to_string())
        }
        Err(error) => error,
    }
}

/// Reads stored batches from the one with offset `from` on, up to `bytes_max` (one at least).
/// Empty if the partition's start moved beyond it meanwhile.
pub(crate) async fn stretch(
    shared: &Shared,
    partition: Arc<PartitionState>,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<StoredBatch>, LogError> {
    let store = shared.store()?;
    let source = partition.source.clone();
    let read = tokio::task::spawn_blocking(move || {
        let read = read_stretch(&store, &partition, from, bytes_max);
        (read, store)
    });
    match read.await {
        Ok((read, _store)) => read,
        // The library panicked: it takes some damage for a mistake of its own.
        Err(_) => Err(shared.store()?.damage_error(
            &format!("{source}@{from}"),
            "the storage library gave up on reading it",
        )),
    }
}

fn read_stretch(
    store: &Store,
    partition: &PartitionState,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<StoredBatch>, LogError> {
    let end = partition.end();
    let source = &partition.source;
    if from >= end {
        return Ok(Vec::new());
    }
    let what = |offset: Offset| format!("{source}@{offset}");
    let range = BatchKey::lower(partition.topic, source.number, from)
        ..=BatchKey::upper(partition.topic, source.number, end - 1);
    let mut batches = Vec::new();
    let mut bytes = 0;
    let mut next = from;
    for entry in store.messages.range(range) {
        let (key, value) =
            entry.into_inner().map_err(|error| store.read_error(&what(next), &error))?;
        let batch = StoredBatch::verified(&key, Bytes::from(value))
            .map_err(|damage| store.damage_error(&what(next), &damage.to_string()))?;
        let follows = if batches.is_empty() { batch.base <= next } else { batch.base == next };
        if !follows {
            break;
        }
        next = batch.last + 1;
        bytes += batch.value.len();
        batches.push(batch);
        if bytes >= bytes_max || next >= end {
            return Ok(batches);
        }
    }
    // Some of it is not there: removed meanwhile, or lost.
    if partition.start() > next {
        return Ok(Vec::new());
    }
    Err(store.damage_error(&what(next), "the messages from there on are missing"))
}

/// One read without a consumer: from memory or the store, at the start if `from` lies below it.
pub(crate) async fn fetch(
    shared: &Shared,
    partition: &Arc<PartitionState>,
    from: Offset,
    room: Room,
) -> Result<Batch, LogError> {
    loop {
        let from = from.max(partition.start());
        if from >= partition.end() || room.messages == 0 {
            return Ok(Batch {
                partition: partition.source.clone(),
                messages: Vec::new(),
                next: from,
                end: partition.end(),
            });
        }
        let mut batches = partition.tail_from(from, room.bytes);
        if batches.is_empty() {
            let bytes_max = room.bytes.clamp(STRETCH_BYTES_MIN, STRETCH_BYTES_MAX);
            batches = stretch(shared, partition.clone(), from, bytes_max).await?;
        }
        if !batches.is_empty() {
            return messages_of(partition, &batches, from, room, || shared.store());
        }
    }
}
