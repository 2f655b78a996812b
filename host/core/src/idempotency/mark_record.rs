//! Mark records: how marks lie in the idempotency topic beside a source topic.
//!
//! The record's key is the idempotency key, so that compaction keeps the last mark of each; the value is
//! the version, the turn and the time the mark may be forgotten, each as eight bytes, big-endian, but the version,
//! which is one. The partition is the source's, so a host that owns the one owns the other.
//!
//! Whoever may write to the topic can make a message pass for handled, as with the source itself; what is no
//! mark is skipped, and counted.

use bytes::Bytes;

use crate::idempotency::{KEY_BYTES_MAX, Mark, Marked, Scope};
use crate::message::{EpochMs, Message, Offset, Record, Topic};

const VERSION: u8 = 1;

/// The topic with the marks of a group's messages of a source topic. The group is always in it: two groups
/// that read one topic have handled different messages.
pub fn topic(source: &str, group: &str) -> Topic {
    format!("{source}.idempotency.{group}").into()
}

/// A mark as it is appended.
pub fn encode(mark: &Mark) -> Record {
    let mut value = Vec::with_capacity(17);
    value.push(VERSION);
    value.extend(mark.turn.to_be_bytes());
    value.extend(mark.expires.to_be_bytes());
    let Scope { group, partition } = &*mark.scope;
    Record {
        topic: topic(&partition.topic, group),
        partition: Some(partition.number),
        timestamp: None,
        key: Some(mark.key.clone()),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

/// The key and what is marked, if the message is a mark.
pub fn decode(message: &Message) -> Option<(Bytes, Marked)> {
    let key = message.key.as_ref().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX)?;
    let (version, rest) = message.value.as_ref()?.split_first()?;
    let (turn, expires) = rest.split_first_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    let turn = Offset::from_be_bytes(*turn);
    let expires = EpochMs::from_be_bytes(expires.try_into().ok()?);
    Some((key.clone(), Marked { turn, expires }))
}
