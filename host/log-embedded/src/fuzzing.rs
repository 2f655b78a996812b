//! For `fuzz/` only: values of the store with any bytes in them, their checksum right. No part of the
//! crate's promises.
//!
//! What is read must be the same when it is written and read again, and a batch the same in pieces as whole.

use std::sync::Arc;

use millstream_core::idempotency::{Marked, Scope};
use millstream_core::log::{Commit, Room, TopicSpec};
use millstream_core::message::{Message, Offset, Partition, Record};
use millstream_mark_copy::Digest;

use crate::entries::packed_marks::{self, MarksKey, PackedMarks};
use crate::entries::{
    SEAL_KEY, Seal, StartEntry, TopicEntry, decode_commit, encode_commit, sealed,
};
use crate::record_batch::{
    self, BatchBuilder, BatchKey, Damage, KEY_BYTES, StoredBatch, encoded_bytes,
};

/// Messages of a batch that are also read one by one.
const SINGLES_MAX: usize = 32;

fn source() -> Partition {
    Partition::new("orders", 0)
}

fn scope() -> Arc<Scope> {
    Arc::new(Scope { group: "group".into(), partition: source() })
}

/// Reads an entry in each way it may be meant.
///
/// # Panics
/// If it is another one after it was written and read again.
pub fn entry(key: &[u8], bytes: &[u8]) {
    let value = sealed(key, bytes);
    if let Ok(commit) = decode_commit(key, &value) {
        let again = decode_commit(key, &encode_commit(key, &commit));
        assert_eq!(again, Ok(commit));
    }
    if let Ok(topic) = TopicEntry::decode(key, &value) {
        assert_eq!(TopicEntry::decode(key, &topic.encode(key)), Ok(topic));
    }
    if let Ok(start) = StartEntry::decode(key, &value) {
        assert_eq!(start.encode(key), value);
    }
    let mut marks = Vec::new();
    if read_marks(key, &value, &mut marks).is_ok()
        && marks.iter().all(|(scope, ..)| PackedMarks::takes(scope))
    {
        let mut packed = PackedMarks::default();
        for (scope, digest, marked) in &marks {
            packed.push(scope, *digest, *marked);
        }
        let (key, value) = packed.finish(1);
        let mut again = Vec::new();
        assert_eq!(read_marks(&key, &value, &mut again), Ok(()));
        assert_eq!(again, marks);
    }
    if let Ok(marks_key) = MarksKey::decode(key) {
        assert_eq!(marks_key.encode(), key);
    }
    let value = sealed(SEAL_KEY, bytes);
    if let Ok(seal) = Seal::decode(&value) {
        assert_eq!(seal.encode(), value);
    }
}

type OneMark = (Arc<Scope>, Digest, Marked);

fn read_marks(key: &[u8], value: &[u8], marks: &mut Vec<OneMark>) -> Result<(), Damage> {
    packed_marks::decode(key, value, |scope, found| {
        let scope = Arc::new(scope.clone());
        marks.extend(found.map(|(digest, marked)| (Arc::clone(&scope), digest, marked)));
    })
}

/// Reads a batch.
///
/// # Panics
/// If its messages are others in pieces, or after they were written and read again.
pub fn batch(key: &[u8], bytes: &[u8]) {
    let value = record_batch::sealed(key, bytes);
    let Ok(stored) = StoredBatch::verified(key, value.into()) else { return };
    let Ok(messages) = read(&stored, stored.base, usize::MAX) else { return };
    assert_eq!(messages.len() as u64, stored.last - stored.base + 1);
    for message in messages.iter().take(SINGLES_MAX) {
        assert_eq!(read(&stored, message.offset, 1).as_deref(), Ok(std::slice::from_ref(message)));
    }
    let Ok(batch_key) = BatchKey::decode(key) else { return };
    let bytes_before = batch_key.bytes_to.saturating_sub(stored.value.len() as u64);
    let (key, written) = written(&messages, batch_key, bytes_before);
    let again = StoredBatch::verified(&key, written.value);
    assert_eq!(again.and_then(|again| read(&again, stored.base, usize::MAX)), Ok(messages));
}

fn read(stored: &StoredBatch, from: Offset, count: usize) -> Result<Vec<Message>, Damage> {
    let mut room = Room { messages: count, bytes: usize::MAX };
    let mut messages = Vec::new();
    stored.read(&source(), from, &mut room, &mut messages)?;
    Ok(messages)
}

fn written(
    messages: &[Message],
    key: BatchKey,
    bytes_before: u64,
) -> ([u8; KEY_BYTES], StoredBatch) {
    let mut builder = BatchBuilder::new(0);
    for message in messages {
        let record = Record {
            topic: message.topic.clone(),
            partition: None,
            timestamp: None,
            key: message.key.clone(),
            value: message.value.clone(),
            headers: message.headers.clone(),
        };
        builder.push(&record, encoded_bytes(&record), message.timestamp);
    }
    builder.finish(key.topic, key.partition, key.last, bytes_before)
}

/// Entries to begin with: name, key and value up to the checksum, by the encoders.
pub fn entries(commit: &Commit, topic: &TopicSpec) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let key = crate::entries::topic_key(&topic.name);
    let entry = TopicEntry { id: 7, spec: topic.clone() };
    let start = StartEntry { start: 3, end: 9, bytes_to: 4_000, bytes_before: 1_000 };
    let marked = Marked { turn: 42, expires: 1_700_000_000_000 };
    let mut packed = PackedMarks::default();
    packed.push(&scope(), Digest::from_bytes(*b"of the key A-17."), marked);
    let (marks_key, marks) = packed.finish(12);
    let seal = Seal { number: 12, sequence_floor: 30 };
    let opened = |value: Vec<u8>| value.split_last_chunk::<4>().map_or(&[][..], |v| v.0).to_vec();
    vec![
        ("commit", b"c".to_vec(), opened(encode_commit(b"c", commit))),
        ("topic", key.clone(), opened(entry.encode(&key))),
        ("start", b"p".to_vec(), opened(start.encode(b"p"))),
        ("marks", marks_key, opened(marks)),
        ("seal", SEAL_KEY.to_vec(), opened(seal.encode())),
    ]
}

/// A batch to begin with: key, and value behind the checksum.
pub fn batch_of(messages: &[Message]) -> (Vec<u8>, Vec<u8>) {
    let last = messages.last().map_or(0, |message| message.offset);
    let key = BatchKey { topic: 7, partition: 0, last, timestamp_max: 0, bytes_to: 0 };
    let (key, stored) = written(messages, key, 1_000);
    (key.to_vec(), stored.value.get(5..).unwrap_or_default().to_vec())
}
