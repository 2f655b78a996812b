//! Entries: how topics, log starts, commits, idempotency marks ([`packed_marks`]) and the seal lie in the store.
//!
//! Every value is `version u8 | fields | crc u32`, little endian; the checksum covers the key too,
//! so an entry cannot be taken for another. Keys are big endian where their order matters.
//!
//! Limits: a commit beyond [`COMMIT_BYTES_MAX`] is refused by the writer.

pub(crate) mod packed_marks;

use std::time::Duration;

use millstream_core::leb128;
use millstream_core::log::{Commit, TopicSpec};
use millstream_core::message::Offset;

use crate::record_batch::{Damage, position};

/// The largest encoded commit. Ranges take two bytes each or more, attempts and suspects 12.
pub(crate) const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// The longest group name.
pub(crate) const GROUP_BYTES_MAX: usize = 255;
/// The key of the seal.
pub(crate) const SEAL_KEY: &[u8] = b"s";
/// What topic keys begin with.
pub(crate) const TOPIC_PREFIX: &[u8] = b"t";

const VERSION: u8 = 1;

/// A topic as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    /// Its number in this log; never used again.
    pub(crate) id: u32,
    /// What was asked for.
    pub(crate) spec: TopicSpec,
}

/// Where a partition begins, and what was known of its end when that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StartEntry {
    /// The first offset that is still there.
    pub(crate) start: Offset,
    /// The end at that time: offsets are not used again after all messages were removed.
    pub(crate) end: Offset,
    /// The bytes of all batches ever, up to the end at that time.
    pub(crate) bytes_to: u64,
    /// The bytes of the batches that were removed.
    pub(crate) bytes_before: u64,
}

/// Stands in every write: how many there were, so that a lost one is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// This write's number, from 1, without gaps.
    pub(crate) number: u64,
    /// The storage library's next sequence number just before: its own is at least this. The
    /// library's checksum leaves that number out.
    pub(crate) sequence_floor: u64,
}

/// The key of a topic.
pub(crate) fn topic_key(name: &str) -> Vec<u8> {
    [TOPIC_PREFIX, name.as_bytes()].concat()
}

/// The key of a partition's start.
pub(crate) fn start_key(topic: u32, partition: u32) -> Vec<u8> {
    [b"p".as_slice(), &topic.to_be_bytes(), &partition.to_be_bytes()].concat()
}

/// The key of a group's commit.
pub(crate) fn commit_key(group: &str, topic: u32, partition: u32) -> Vec<u8> {
    let mut key = vec![b'c'];
    put_text(&mut key, group);
    key.extend_from_slice(&topic.to_be_bytes());
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

// Names are at most 255 bytes (checked where they come in), so a length of two bytes holds.
#[expect(clippy::cast_possible_truncation, reason = "names are at most 255 bytes")]
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl TopicEntry {
    /// The stored bytes.
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let spec = &self.spec;
        let mut out = Out::new();
        out.u32(self.id);
        out.u32(spec.partitions);
        out.optional(spec.retention.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        out.optional(spec.retention_bytes);
        out.u64(spec.message_bytes_max as u64);
        out.u8(u8::from(spec.append_time));
        out.sealed(key)
    }

    /// The topic that was stored under `key`.
    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, Damage> {
        let mut fields = In::opened(key, bytes)?;
        let name = key.get(1..).and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| Damage("a topic's name is not UTF-8".to_owned()))?;
        let id = fields.u32()?;
        let spec = TopicSpec {
            name: name.into(),
            partitions: fields.u32()?,
            retention: fields.optional()?.map(Duration::from_millis),
            retention_bytes: fields.optional()?,
            message_bytes_max: usize::try_from(fields.u64()?).unwrap_or(usize::MAX),
            append_time: fields.u8()? != 0,
            compacted: false,
            replication: None,
        };
        fields.end()?;
        Ok(Self { id, spec })
    }
}

impl StartEntry {
    /// The stored bytes.
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Out::new();
        out.u64(self.start);
        out.u64(self.end);
        out.u64(self.bytes_to);
        out.u64(self.bytes_before);
        out.sealed(key)
    }

    /// The start that was stored under `key`.
    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, Damage> {
        let mut fields = In::opened(key, bytes)?;
        let entry = Self {
            start: position(fields.u64()?)?,
            end: position(fields.u64()?)?,
            bytes_to: position(fields.u64()?)?,
            bytes_before: position(fields.u64()?)?,
        };
        fields.end()?;
        Ok(entry)
    }
}

impl Seal {
    /// The stored bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Out::new();
        out.u64(self.number);
        out.u64(self.sequence_floor);
        out.sealed(SEAL_KEY)
    }

    /// The seal that was stored.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let mut fields = In::opened(SEAL_KEY, bytes)?;
        let seal = Self { number: fields.u64()?, sequence_floor: fields.u64()? };
        fields.end()?;
        Ok(seal)
    }
}

/// The stored bytes of a commit.
pub(crate) fn encode_commit(key: &[u8], commit: &Commit) -> Vec<u8> {
    let mut out = Out::new();
    out.u64(commit.next);
    out.u64(commit.settled_above.len() as u64);
    let mut at = commit.next;
    for range in &commit.settled_above {
        out.leb128(range.start.saturating_sub(at));
        out.leb128(range.end.saturating_sub(range.start));
        at = range.end;
    }
    put_counts(&mut out, &commit.attempts);
    out.u32(commit.owners);
    put_counts(&mut out, &commit.suspects);
    out.sealed(key)
}

/// The commit that was stored under `key`.
pub(crate) fn decode_commit(key: &[u8], bytes: &[u8]) -> Result<Commit, Damage> {
    let mut fields = In::opened(key, bytes)?;
    let next = fields.u64()?;
    let ranges = fields.count(2)?;
    let mut settled_above = Vec::with_capacity(ranges);
    let mut at = next;
    for _ in 0..ranges {
        let start = fields.leb128_beyond(at)?;
        at = fields.leb128_beyond(start)?;
        settled_above.push(start..at);
    }
    let attempts = counts(&mut fields)?;
    let owners = fields.u32()?;
    let suspects = counts(&mut fields)?;
    fields.end()?;
    Ok(Commit { next, settled_above, attempts, owners, suspects })
}

fn put_counts(out: &mut Out, counts: &[(Offset, u32)]) {
    out.u64(counts.len() as u64);
    for (offset, count) in counts {
        out.u64(*offset);
        out.u32(*count);
    }
}

fn counts(fields: &mut In<'_>) -> Result<Vec<(Offset, u32)>, Damage> {
    let count = fields.count(12)?;
    let mut counts = Vec::with_capacity(count);
    for _ in 0..count {
        counts.push((fields.u64()?, fields.u32()?));
    }
    Ok(counts)
}

fn crc(key: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(body);
    crc.finalize()
}

struct Out(Vec<u8>);

impl Out {
    fn new() -> Self {
        Self(vec![VERSION])
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn leb128(&mut self, value: u64) {
        leb128::put(&mut self.0, value);
    }

    fn optional(&mut self, value: Option<u64>) {
        self.u8(u8::from(value.is_some()));
        self.u64(value.unwrap_or_default());
    }

    fn sealed(mut self, key: &[u8]) -> Vec<u8> {
        let crc = crc(key, &self.0);
        self.u32(crc);
        self.0
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn opened(key: &[u8], bytes: &'a [u8]) -> Result<Self, Damage> {
        let Some((body, stored)) = bytes.split_last_chunk::<4>() else {
            return Err(Damage(format!("it has {} bytes, too few", bytes.len())));
        };
        if crc(key, body) != u32::from_le_bytes(*stored) {
            return Err(Damage("its checksum does not match".to_owned()));
        }
        match body.split_first() {
            Some((&VERSION, fields)) => Ok(Self(fields)),
            version => Err(Damage(format!(
                "its encoding has version {}, not {VERSION}",
                version.map_or(0, |(version, _)| *version)
            ))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (array, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| Damage("it ends too early".to_owned()))?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Damage> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (bytes, rest) =
            self.0.split_at_checked(count).ok_or_else(|| Damage("it ends too early".to_owned()))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.array().map(u64::from_le_bytes)
    }

    fn leb128(&mut self) -> Result<u64, Damage> {
        leb128::take(&mut self.0).ok_or_else(|| Damage("a number of it ends nowhere".to_owned()))
    }

    /// The number that is so much beyond another as the next one says.
    fn leb128_beyond(&mut self, other: u64) -> Result<u64, Damage> {
        let distance = leb128::take(&mut self.0);
        let beyond = distance.and_then(|distance| other.checked_add(distance));
        beyond.ok_or_else(|| Damage("a range of it ends nowhere".to_owned()))
    }

    fn optional(&mut self) -> Result<Option<u64>, Damage> {
        let present = self.u8()? != 0;
        let value = self.u64()?;
        Ok(present.then_some(value))
    }

    /// A count of elements of `bytes` each, no larger than what follows can hold.
    fn count(&mut self, bytes: usize) -> Result<usize, Damage> {
        let count = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        if count > self.0.len() / bytes {
            return Err(Damage(format!("it counts {count} elements, more than it holds")));
        }
        Ok(count)
    }

    fn end(self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err(Damage("bytes are left over".to_owned())) }
    }
}

/// The value of these bytes, from the version on, with the checksum that belongs to them.
#[cfg(feature = "fuzzing")]
pub(crate) fn sealed(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    Out(bytes.to_vec()).sealed(key)
}

#[cfg(test)]
mod tests;
