//! For `fuzz/` only: entries of a copy with any bytes in them. No part of the crate's promises.

use millstream_core::idempotency::Scope;
use millstream_core::message::Partition;

use crate::entries::{ScopeEntry, decode_mark, encode_mark, mark_prefix, scope_key, scope_of};

/// Reads an entry in each way it may be meant.
///
/// # Panics
/// If it is another one after it was written again.
pub fn entry(bytes: &[u8]) {
    if let Some(entry) = ScopeEntry::decode(bytes) {
        assert_eq!(entry.encode(), bytes);
    }
    if let Some(marked) = decode_mark(bytes) {
        assert_eq!(encode_mark(marked), bytes);
    }
    if let Some((scope, generation)) = scope_of(bytes) {
        assert!(bytes.starts_with(scope));
        assert_eq!(bytes.get(scope.len()..scope.len() + 8), Some(&generation.to_be_bytes()[..]));
    }
}

/// Scope and generation come back out of the key of a mark, whatever the names.
///
/// # Panics
/// If they do not.
pub fn mark_of(group: &str, topic: &str, number: u32, generation: u64, key: &[u8]) {
    let scope = Scope { group: group.into(), partition: Partition::new(topic, number) };
    let stored = [mark_prefix(&scope, generation).as_slice(), key].concat();
    assert_eq!(scope_of(&stored), Some((scope_key(&scope).as_slice(), generation)));
}
