//! Record batch: how consecutive messages of one partition lie in the store.
//!
//! One stored value holds many messages, so the storage library's cost is paid per batch. A message
//! is copied once, into its batch when it is appended; what a reader gets are slices of the batch.
//!
//! ```text
//! key    topic u32 | partition u32 | last offset u64 | largest timestamp i64 | bytes up to here u64   (big endian)
//! value  version u8 | crc u32 (of key and all that follows) | records u32 | body
//! record length u32 | timestamp i64 | flags u8 | headers u32 | key u32 | value u32 | bytes …   (little endian)
//! header name u32 | value u32 | bytes …
//! ```
//!
//! Invariants: offsets are consecutive up to the key's last offset; the checksum covers the key, so
//! a batch cannot be taken for another. The key alone says what retention asks (age, bytes), which
//! saves reading the values.
//!
//! Limits: a batch is closed before it exceeds [`BATCH_BYTES_MAX`] or [`BATCH_RECORDS_MAX`]. The
//! bound is low on purpose: a reader that keeps one small message keeps its whole batch in memory.

use bytes::Bytes;
use bytestring::ByteString;
use millstream_core::log::Room;
use millstream_core::message::{EpochMs, Header, Message, Offset, Partition, Record};

/// A batch is closed before it grows beyond this; one larger record is a batch of its own.
pub(crate) const BATCH_BYTES_MAX: usize = 64 * 1024;
/// A batch is closed at this many records.
pub(crate) const BATCH_RECORDS_MAX: u32 = 1024;
/// No log comes to such an offset, nor to so many bytes: what says so is damage. Sums of two cannot overflow.
pub(crate) const POSITION_MAX: u64 = i64::MAX as u64;
/// The length of an encoded [`BatchKey`].
pub(crate) const KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
const VALUE_PREFIX_BYTES: usize = 9;
const RECORD_PREFIX_BYTES: usize = 21;
const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;

/// Why stored bytes are not what was written. A sentence's end: "… is damaged: {0}".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) String);

impl Damage {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What is known of a batch without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchKey {
    /// The topic's number in this log.
    pub(crate) topic: u32,
    /// The partition's number in the topic.
    pub(crate) partition: u32,
    /// The last message's offset.
    pub(crate) last: Offset,
    /// The largest timestamp in the batch.
    pub(crate) timestamp_max: EpochMs,
    /// The bytes of the partition's batches from its first one ever up to and with this one.
    pub(crate) bytes_to: u64,
}

impl BatchKey {
    /// The smallest key of a batch that ends at `last` or later.
    pub(crate) fn lower(topic: u32, partition: u32, last: Offset) -> [u8; KEY_BYTES] {
        Self { topic, partition, last, timestamp_max: 0, bytes_to: 0 }.encode()
    }

    /// The largest key of a batch that ends at `last` or before.
    pub(crate) fn upper(topic: u32, partition: u32, last: Offset) -> [u8; KEY_BYTES] {
        Self { topic, partition, last, timestamp_max: -1, bytes_to: u64::MAX }.encode()
    }

    /// The bytes that stand in the store.
    pub(crate) fn encode(&self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        let (topic, rest) = key.split_at_mut(4);
        let (partition, rest) = rest.split_at_mut(4);
        let (last, rest) = rest.split_at_mut(8);
        let (timestamp, bytes_to) = rest.split_at_mut(8);
        topic.copy_from_slice(&self.topic.to_be_bytes());
        partition.copy_from_slice(&self.partition.to_be_bytes());
        last.copy_from_slice(&self.last.to_be_bytes());
        timestamp.copy_from_slice(&self.timestamp_max.to_be_bytes());
        bytes_to.copy_from_slice(&self.bytes_to.to_be_bytes());
        key
    }

    /// The key that `bytes` encode.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let key: &[u8; KEY_BYTES] = bytes
            .try_into()
            .map_err(|_| Damage::new(format!("a batch key has {} bytes, not 32", bytes.len())))?;
        let [t0, t1, t2, t3, p0, p1, p2, p3, rest @ ..] = key;
        let [l0, l1, l2, l3, l4, l5, l6, l7, rest @ ..] = rest;
        let [m0, m1, m2, m3, m4, m5, m6, m7, bytes_to @ ..] = rest;
        Ok(Self {
            topic: u32::from_be_bytes([*t0, *t1, *t2, *t3]),
            partition: u32::from_be_bytes([*p0, *p1, *p2, *p3]),
            last: position(u64::from_be_bytes([*l0, *l1, *l2, *l3, *l4, *l5, *l6, *l7]))?,
            timestamp_max: i64::from_be_bytes([*m0, *m1, *m2, *m3, *m4, *m5, *m6, *m7]),
            bytes_to: position(u64::from_be_bytes(*bytes_to))?,
        })
    }
}

/// An offset, or a count of a partition's bytes, that was read.
pub(crate) fn position(read: u64) -> Result<u64, Damage> {
    if read > POSITION_MAX {
        return Err(Damage::new(format!("it says {read}, where no log comes to")));
    }
    Ok(read)
}

/// The bytes a record takes in a batch.
pub(crate) fn encoded_bytes(record: &Record) -> usize {
    4 + RECORD_PREFIX_BYTES + 8 * record.headers.len() + record.payload_bytes()
}

/// A batch that is being filled.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    value: Vec<u8>,
    records: u32,
    timestamp_max: EpochMs,
}

impl BatchBuilder {
    /// An empty batch that expects a record of `bytes` first.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut value = Vec::with_capacity(VALUE_PREFIX_BYTES + bytes);
        value.resize(VALUE_PREFIX_BYTES, 0);
        Self { value, records: 0, timestamp_max: EpochMs::MIN }
    }

    /// Whether a record of `bytes` ([`encoded_bytes`]) still belongs in.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        self.records == 0
            || (self.records < BATCH_RECORDS_MAX && self.value.len() + bytes <= BATCH_BYTES_MAX)
    }

    /// Adds a record. The caller has checked that its lengths fit in 32 bits (topics refuse larger
    /// records), so the casts keep every bit.
    #[expect(clippy::cast_possible_truncation, reason = "a topic takes no record beyond 1 GiB")]
    pub(crate) fn push(&mut self, record: &Record, bytes: usize, timestamp: EpochMs) {
        let value = &mut self.value;
        value.reserve(bytes);
        let flags = if record.key.is_some() { HAS_KEY } else { 0 }
            | if record.value.is_some() { HAS_VALUE } else { 0 };
        let key = record.key.as_deref().unwrap_or_default();
        let body = record.value.as_deref().unwrap_or_default();
        value.extend_from_slice(&((bytes - 4) as u32).to_le_bytes());
        value.extend_from_slice(&timestamp.to_le_bytes());
        value.push(flags);
        value.extend_from_slice(&(record.headers.len() as u32).to_le_bytes());
        value.extend_from_slice(&(key.len() as u32).to_le_bytes());
        value.extend_from_slice(&(body.len() as u32).to_le_bytes());
        value.extend_from_slice(key);
        value.extend_from_slice(body);
        for header in &record.headers {
            value.extend_from_slice(&(header.name.len() as u32).to_le_bytes());
            value.extend_from_slice(&(header.value.len() as u32).to_le_bytes());
            value.extend_from_slice(header.name.as_bytes());
            value.extend_from_slice(&header.value);
        }
        self.records += 1;
        self.timestamp_max = self.timestamp_max.max(timestamp);
    }

    /// Closes the batch: it ends at offset `last` of its partition, which has `bytes_before` in the
    /// batches before it.
    pub(crate) fn finish(
        self,
        topic: u32,
        partition: u32,
        last: Offset,
        bytes_before: u64,
    ) -> ([u8; KEY_BYTES], StoredBatch) {
        let Self { mut value, records, timestamp_max } = self;
        let bytes_to = bytes_before + value.len() as u64;
        let key = BatchKey { topic, partition, last, timestamp_max, bytes_to }.encode();
        let crc_of = |value: &[u8]| {
            let mut crc = crc32fast::Hasher::new();
            crc.update(&key);
            crc.update(value.get(5..).unwrap_or_default());
            crc.finalize()
        };
        if let Some(count) = value.get_mut(5..VALUE_PREFIX_BYTES) {
            count.copy_from_slice(&records.to_le_bytes());
        }
        let crc = crc_of(&value);
        if let Some([version, crc_bytes @ ..]) = value.get_mut(..5) {
            *version = VERSION;
            crc_bytes.copy_from_slice(&crc.to_le_bytes());
        }
        // A half empty buffer would be kept for as long as a reader keeps the message.
        if value.len() < value.capacity() / 4 * 3 {
            value.shrink_to_fit();
        }
        let stored = StoredBatch {
            base: last + 1 - u64::from(records),
            last,
            bytes_to,
            value: Bytes::from(value),
        };
        (key, stored)
    }
}

/// A batch as it stands in the store.
#[derive(Clone, Debug)]
pub(crate) struct StoredBatch {
    /// The first message's offset.
    pub(crate) base: Offset,
    /// The last message's offset.
    pub(crate) last: Offset,
    /// See [`BatchKey::bytes_to`].
    pub(crate) bytes_to: u64,
    /// The stored value.
    pub(crate) value: Bytes,
}

impl StoredBatch {
    /// The batch that was read from the store, once its checksum was found right.
    pub(crate) fn verified(key: &[u8], value: Bytes) -> Result<Self, Damage> {
        let batch_key = BatchKey::decode(key)?;
        let mut fields = Fields { bytes: &value, at: 0 };
        let version = fields.u8()?;
        let crc = fields.u32()?;
        let mut got = crc32fast::Hasher::new();
        got.update(key);
        got.update(value.get(5..).unwrap_or_default());
        if got.finalize() != crc {
            return Err(Damage::new("its checksum does not match"));
        }
        if version != VERSION {
            return Err(Damage::new(format!("its encoding has version {version}, not {VERSION}")));
        }
        let records = fields.u32()?;
        let base = (batch_key.last + 1).checked_sub(u64::from(records));
        let base = base.filter(|_| records > 0).ok_or_else(|| {
            Damage::new(format!("it counts {records} records up to offset {}", batch_key.last))
        })?;
        Ok(Self { base, last: batch_key.last, bytes_to: batch_key.bytes_to, value })
    }

    /// Appends to `out` the messages from offset `from` on, as long as there is room; the room
    /// shrinks by what was taken. The first message of an empty `out` is taken whatever its size.
    /// Returns whether the batch was read to its end.
    pub(crate) fn read(
        &self,
        source: &Partition,
        from: Offset,
        room: &mut Room,
        out: &mut Vec<Message>,
    ) -> Result<bool, Damage> {
        let mut fields = Fields { bytes: &self.value, at: VALUE_PREFIX_BYTES };
        for offset in self.base..=self.last {
            let length = fields.u32()? as usize;
            if offset < from {
                fields.skip(length)?;
                continue;
            }
            if room.messages == 0 {
                return Ok(false);
            }
            let end = fields.at + length;
            let message = message(&mut fields, source, offset)?;
            if fields.at != end {
                return Err(Damage::new(format!("the record of offset {offset} ends elsewhere")));
            }
            let bytes = message.size_bytes();
            if bytes > room.bytes && !out.is_empty() {
                return Ok(false);
            }
            room.messages -= 1;
            room.bytes = room.bytes.saturating_sub(bytes);
            out.push(message);
        }
        if fields.at != self.value.len() {
            return Err(Damage::new("bytes are left over behind its last record"));
        }
        Ok(true)
    }
}

fn message(fields: &mut Fields<'_>, source: &Partition, offset: Offset) -> Result<Message, Damage> {
    let timestamp = fields.i64()?;
    let flags = fields.u8()?;
    let header_count = fields.u32()? as usize;
    let key_bytes = fields.u32()? as usize;
    let value_bytes = fields.u32()? as usize;
    let key = fields.take(key_bytes)?;
    let value = fields.take(value_bytes)?;
    // Each header has eight bytes of lengths: a count that lies cannot make us reserve much.
    let mut headers = Vec::with_capacity(header_count.min(fields.left() / 8));
    for _ in 0..header_count {
        let name_bytes = fields.u32()? as usize;
        let value_bytes = fields.u32()? as usize;
        let name = ByteString::try_from(fields.take(name_bytes)?)
            .map_err(|_| Damage::new(format!("a header name of offset {offset} is not UTF-8")))?;
        headers.push(Header { name, value: fields.take(value_bytes)? });
    }
    Ok(Message {
        topic: source.topic.clone(),
        partition: source.number,
        offset,
        timestamp,
        key: (flags & HAS_KEY != 0).then_some(key),
        value: (flags & HAS_VALUE != 0).then_some(value),
        headers,
    })
}

struct Fields<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl Fields<'_> {
    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn skip(&mut self, count: usize) -> Result<usize, Damage> {
        let from = self.at;
        if count > self.left() {
            return Err(Damage::new(format!("it ends at byte {}, too early", self.bytes.len())));
        }
        self.at += count;
        Ok(from)
    }

    fn take(&mut self, count: usize) -> Result<Bytes, Damage> {
        if count == 0 {
            return Ok(Bytes::new());
        }
        let from = self.skip(count)?;
        Ok(self.bytes.slice(from..self.at))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let from = self.skip(N)?;
        let array = self.bytes.get(from..self.at).and_then(|bytes| bytes.try_into().ok());
        array.ok_or_else(|| Damage::new("it ends too early"))
    }

    fn u8(&mut self) -> Result<u8, Damage> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Damage> {
        self.array().map(i64::from_le_bytes)
    }
}

/// The value with these bytes behind its checksum, and the checksum that belongs to them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn sealed(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(bytes);
    [&[VERSION], crc.finalize().to_le_bytes().as_slice(), bytes].concat()
}

#[cfg(test)]
mod tests;
