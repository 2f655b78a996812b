//! Idempotency: port to the store of handled keys, and how a message's key is found.
//!
//! Asked ahead by `dedupe`, written by `settle` after the outputs (or in one transaction with them).
//! A mark stores the turn: the same turn again means "already settled", another means "duplicate".
//! Keys count within a source partition: give messages that may be repeated the same message key.

pub mod in_topic;
pub mod mark_record;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;

use crate::log::LogError;
use crate::message::{EpochMs, Message, Offset, Partition, Record};

/// An idempotency key's largest size; a larger one is replaced by its digest.
pub const KEY_BYTES_MAX: usize = 512;

/// Where a key counts: one group's handling of one source partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The consumer group.
    pub group: ByteString,
    /// The source partition.
    pub partition: Partition,
}

/// "The message with this key was handled": kept until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where the key counts; shared, since all of a partition's are alike.
    pub scope: Arc<Scope>,
    /// The key.
    pub key: Bytes,
    /// The turn of the message that was handled.
    pub turn: Offset,
    /// When the mark may be forgotten.
    pub expires: EpochMs,
}

/// What is known of a marked key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The turn of the message that was handled.
    pub turn: Offset,
    /// When the mark may be forgotten.
    pub expires: EpochMs,
}

/// A store of marks. `lookup` never shows a mark whose `mark` call was not answered, except after a
/// restart.
#[async_trait]
pub trait IdempotencyStore: Send + Sync + 'static {
    /// The turn stored for each key, in the order asked for; expired marks count as absent.
    ///
    /// # Errors
    /// `Unavailable`: ask again, nothing may be handled meanwhile.
    async fn lookup(
        &self,
        scope: &Scope,
        keys: &[Bytes],
        now: EpochMs,
    ) -> Result<Vec<Option<Offset>>, LogError>;

    /// The same, if all of it is known without waiting, as it is where all keys are new; else `None`, and `lookup` is asked.
    fn known(&self, _scope: &Scope, _keys: &[&[u8]], _now: EpochMs) -> Option<Vec<Option<Offset>>> {
        None
    }

    /// Stores marks, durably as the log is.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    async fn mark(&self, marks: Vec<Mark>) -> Result<(), LogError>;

    /// Makes ready to answer for a partition that was assigned, after its commits were fetched.
    ///
    /// # Errors
    /// `Unavailable`: ask again, nothing may be handled meanwhile.
    async fn restore(&self, _scope: &Scope) -> Result<(), LogError> {
        Ok(())
    }

    /// The records that bring these marks into a transaction, one for each; `None` if the log takes marks
    /// as they are.
    fn records(&self, _marks: &[Mark]) -> Option<Vec<Record>> {
        None
    }

    /// The transaction with the records of these marks is committed.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    async fn marked(&self, _marks: &[Mark]) -> Result<(), LogError> {
        Ok(())
    }
}

/// A host's own copy of marks that lie in a topic. It may be lost at any time: it is restored then.
///
/// What was put is there for every later `get` of this process. A crash may take the newest, then also their checkpoint: what is left has
/// everything that was put before its checkpoint was.
#[async_trait]
pub trait MarkCopy: Send + Sync + 'static {
    /// Up to which offset of the topic the copy has everything.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    async fn checkpoint(&self, scope: &Scope) -> Result<Option<Offset>, LogError>;

    /// What is marked, in the order asked for.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    async fn get(&self, scope: &Scope, keys: &[Bytes]) -> Result<Vec<Option<Marked>>, LogError>;

    /// Takes marks, and the checkpoint if one is given, at once.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    async fn put(
        &self,
        scope: &Scope,
        marks: Vec<(Bytes, Marked)>,
        checkpoint: Option<Offset>,
    ) -> Result<(), LogError>;

    /// Forgets everything about a partition.
    ///
    /// # Errors
    /// `Unavailable`: ask again.
    async fn discard(&self, scope: &Scope) -> Result<(), LogError>;
}

/// Where a message's idempotency key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The value of a header of this name (the last, if it repeats).
    Header(String),
    /// The message key.
    MessageKey,
    /// A JSON pointer (RFC 6901) to a text, or an integer of at most 64 bits, in the value.
    JsonPointer(String),
}

impl KeySource {
    /// The idempotency key of a message, or `None` if it has none (never an empty key).
    pub fn key_of(&self, message: &Message) -> Option<Bytes> {
        let key = match self {
            Self::Header(name) => {
                message.headers.iter().rev().find(|h| h.name == name.as_str())?.value.clone()
            }
            Self::MessageKey => message.key.clone()?,
            Self::JsonPointer(pointer) => json_key(message.value.as_ref()?, pointer)?,
        };
        if key.is_empty() { None } else { Some(bounded(key)) }
    }
}

fn json_key(value: &Bytes, pointer: &str) -> Option<Bytes> {
    let document: serde_json::Value = serde_json::from_slice(value).ok()?;
    match document.pointer(pointer)? {
        serde_json::Value::String(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        serde_json::Value::Number(number) if number.is_i64() || number.is_u64() => {
            Some(Bytes::from(number.to_string()))
        }
        // Null, booleans, lists and objects identify nothing. Other numbers have lost digits here,
        // and two different ones must not look like one key.
        _ => None,
    }
}

/// A giant key must not fill the store: its digest identifies it as well.
fn bounded(key: Bytes) -> Bytes {
    if key.len() <= KEY_BYTES_MAX {
        return key;
    }
    use sha2::Digest as _;
    Bytes::from(format!("sha256:{:x}", sha2::Sha256::digest(&key)))
}

#[cfg(test)]
mod tests;
