//! Words every station shares: what a message is, where it stands, what is appended to a log.
//!
//! Payload bytes are reference-counted (`Bytes`): a message is copied once, when the log's adapter
//! reads it, and handed on by pointer from there to the sandbox.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

/// A topic's name. Cheap to clone.
pub type Topic = Arc<str>;

/// A message's place in its partition. Offsets grow; they may have gaps.
pub type Offset = u64;

/// Milliseconds since the Unix epoch, by the wall clock.
pub type EpochMs = i64;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: Topic,
    /// The partition's number within the topic, from 0.
    pub number: u32,
}

impl Partition {
    /// The partition `number` of `topic`.
    pub fn new(topic: impl Into<Topic>, number: u32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.number)
    }
}

/// A header: a name, which may repeat within a message, and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, UTF-8.
    pub name: ByteString,
    /// The value, any bytes.
    pub value: Bytes,
}

impl Header {
    /// A header of these two.
    pub fn new(name: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A message as it was read from a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic it was read from.
    pub topic: Topic,
    /// The partition's number within the topic.
    pub partition: u32,
    /// Its offset there. A log without offsets (a queue) numbers its deliveries itself and turns
    /// the commits it is given back into acknowledgements.
    pub offset: Offset,
    /// The log's time of the message: append time on companion topics, else as the topic has it.
    pub timestamp: EpochMs,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; absent in a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order; names may repeat.
    pub headers: Vec<Header>,
}

/// What an empty message costs in the in-flight budget beside its payload.
pub const MESSAGE_OVERHEAD_BYTES: usize = 128;

impl Message {
    /// The bytes this message counts for in every bound: payload, headers and a fixed overhead.
    pub fn size_bytes(&self) -> usize {
        payload_bytes(self.key.as_ref(), self.value.as_ref(), &self.headers)
            + MESSAGE_OVERHEAD_BYTES
    }

    /// The partition it was read from.
    pub fn source(&self) -> Partition {
        Partition { topic: self.topic.clone(), number: self.partition }
    }

    /// `topic[partition]@offset`, as errors and logs name a position.
    pub fn position(&self) -> String {
        format!("{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

/// A message to be appended to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic to append to.
    pub topic: Topic,
    /// The partition; `None` leaves it to the log (by key, else spread).
    pub partition: Option<u32>,
    /// The record's own time; `None`, or a topic with append time, takes the log's clock.
    pub timestamp: Option<EpochMs>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Vec<Header>,
}

impl Record {
    /// The bytes that count against a destination's limit: key, value and headers.
    pub fn payload_bytes(&self) -> usize {
        payload_bytes(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

fn payload_bytes(key: Option<&Bytes>, value: Option<&Bytes>, headers: &[Header]) -> usize {
    key.map_or(0, Bytes::len)
        + value.map_or(0, Bytes::len)
        + headers.iter().map(|h| h.name.len() + h.value.len()).sum::<usize>()
}
