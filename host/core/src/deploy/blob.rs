//! Blobs: the bytes of plugins, in chunks that any broker takes, in partition 1 of the control topic.
//!
//! A chunk's key is `DIGEST/INDEX`, so compaction keeps one of each whoever wrote it, and however often. A version says
//! where to begin to look; chunks that were written again lie behind.
//!
//! Invariant: what [`read`] gives has the digest that was asked for, whatever stands in the topic.
//! Limits: a chunk has at most [`CHUNK_BYTES`], a plugin [`PLUGIN_BYTES_MAX`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::deploy::PLUGIN_BYTES_MAX;
use crate::deploy::error::{DeployError, appended};
use crate::deploy::rows::Version;
use crate::log::{Log, LogError, Room};
use crate::message::{Offset, Partition, Record};

/// Half of what most brokers take by default.
const CHUNK_BYTES: usize = 512 << 10;
/// How many are appended at once.
const CHUNKS_AT_ONCE: usize = 4;
/// What is read at once.
const ROOM: Room = Room { messages: 16, bytes: 4 << 20 };

/// Why a version's bytes can't be had.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum BlobError {
    /// The log; it may pass.
    #[error(transparent)]
    Log(#[from] LogError),
    /// They are not there, or not what they should be.
    #[error("{0}")]
    Damaged(String),
}

/// `sha256:` and the hexadecimal digest of bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn key(digest: &str, index: usize) -> String {
    format!("{digest}/{index:05}")
}

fn chunks_of(size_bytes: u64) -> usize {
    usize::try_from(size_bytes).unwrap_or(usize::MAX).div_ceil(CHUNK_BYTES)
}

/// Appends the bytes; says where they begin. `wrote` is told how many are there after each step.
pub(super) async fn write(
    log: &dyn Log,
    partition: &Partition,
    digest: &str,
    bytes: &Bytes,
    wrote: &mut (dyn FnMut(u64) + Send),
) -> Result<Offset, DeployError> {
    let count = chunks_of(bytes.len() as u64);
    let mut from = None;
    for first in (0..count).step_by(CHUNKS_AT_ONCE) {
        let records: Vec<Record> = (first..count.min(first + CHUNKS_AT_ONCE))
            .map(|index| {
                let begin = index * CHUNK_BYTES;
                record(
                    partition,
                    digest,
                    index,
                    Some(bytes.slice(begin..bytes.len().min(begin + CHUNK_BYTES))),
                )
            })
            .collect();
        let places = appended(log.append(&records.iter().collect::<Vec<_>>()).await?)?;
        let lowest = places.iter().map(|place| place.offset).min();
        from = from.into_iter().chain(lowest).min();
        wrote(((first + CHUNKS_AT_ONCE) * CHUNK_BYTES).min(bytes.len()) as u64);
    }
    from.ok_or_else(|| DeployError::Request("the plugin is empty".to_owned()))
}

fn record(partition: &Partition, digest: &str, index: usize, value: Option<Bytes>) -> Record {
    Record {
        topic: partition.topic.clone(),
        partition: Some(partition.number),
        timestamp: None,
        key: Some(key(digest, index).into()),
        value,
        headers: Vec::new(),
    }
}

/// Reads a version's bytes.
pub(super) async fn read(
    log: &dyn Log,
    partition: &Partition,
    version: &Version,
) -> Result<Bytes, BlobError> {
    let size_bytes = version.size_bytes.min(PLUGIN_BYTES_MAX);
    let keys: BTreeMap<String, usize> =
        (0..chunks_of(size_bytes)).map(|index| (key(&version.digest, index), index)).collect();
    let mut chunks: BTreeMap<usize, Bytes> = BTreeMap::new();
    let ends = log.ends(std::slice::from_ref(partition)).await?;
    let end = ends.first().copied().unwrap_or_default().end;
    let mut next = version.blob_from;
    while chunks.len() < keys.len() && next < end {
        let batch = log.fetch(partition, next, ROOM).await?;
        if batch.next <= next {
            let text = format!("{partition} cannot be read to its end yet");
            return Err(LogError::Unavailable(text).into());
        }
        next = batch.next;
        for message in batch.messages {
            let key = message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
            let Some(index) = key.and_then(|key| keys.get(key)) else { continue };
            match message.value {
                Some(value) if value.len() <= CHUNK_BYTES => drop(chunks.insert(*index, value)),
                // Removed, or no chunk: one that is written again lies behind.
                Some(_) | None => drop(chunks.remove(index)),
            }
        }
    }
    let damaged = |how: String| {
        let name = &version.version;
        BlobError::Damaged(format!(
            "the bytes of version {name} in {partition} {how}: deploy its file again"
        ))
    };
    if chunks.len() < keys.len() {
        return Err(damaged(format!("are not whole, {} of {} chunks", chunks.len(), keys.len())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
    for chunk in chunks.into_values() {
        bytes.extend_from_slice(&chunk);
    }
    let found = digest(&bytes);
    if found != version.digest {
        return Err(damaged(format!("have the digest {found}, not {}", version.digest)));
    }
    Ok(bytes.into())
}

/// Removes the bytes of versions that are not kept.
pub(super) async fn remove(
    log: &dyn Log,
    partition: &Partition,
    gone: &[Version],
) -> Result<(), DeployError> {
    for version in gone {
        let tombstones: Vec<Record> = (0..chunks_of(version.size_bytes))
            .map(|index| record(partition, &version.digest, index, None))
            .collect();
        appended(log.append(&tombstones.iter().collect::<Vec<_>>()).await?)?;
    }
    Ok(())
}
