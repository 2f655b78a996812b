//! Entries: how scopes and marks lie in the copy. Numbers are eight bytes, big-endian.

use millstream_core::idempotency::{Marked, Scope};
use millstream_core::message::{EpochMs, Offset};

/// What is known of a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScopeEntry {
    /// Which of its marks count.
    pub(crate) generation: u64,
    /// Up to where the topic is in the copy.
    pub(crate) checkpoint: Option<Offset>,
}

impl ScopeEntry {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = self.generation.to_be_bytes().to_vec();
        bytes.extend(self.checkpoint.iter().flat_map(|checkpoint| checkpoint.to_be_bytes()));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (generation, rest) = bytes.split_first_chunk::<8>()?;
        let checkpoint = match rest {
            [] => None,
            rest => Some(Offset::from_be_bytes(rest.try_into().ok()?)),
        };
        Some(Self { generation: u64::from_be_bytes(*generation), checkpoint })
    }
}

/// Lengths first, so that no scope is the beginning of another.
pub(crate) fn scope_key(scope: &Scope) -> Vec<u8> {
    let mut key = Vec::with_capacity(96);
    for name in [scope.group.as_bytes(), scope.partition.topic.as_bytes()] {
        key.extend((name.len() as u32).to_be_bytes());
        key.extend(name);
    }
    key.extend(scope.partition.number.to_be_bytes());
    key
}

/// What stands before the key of each mark.
pub(crate) fn mark_prefix(scope: &Scope, generation: u64) -> Vec<u8> {
    let mut prefix = scope_key(scope);
    prefix.extend(generation.to_be_bytes());
    prefix
}

/// Scope key and generation of a mark that is stored under this key.
pub(crate) fn scope_of(mark: &[u8]) -> Option<(&[u8], u64)> {
    let mut at = 0_usize;
    for _ in 0..2 {
        let length = mark.get(at..)?.first_chunk::<4>()?;
        at = at.checked_add(4)?.checked_add(u32::from_be_bytes(*length) as usize)?;
    }
    let (scope, rest) = mark.split_at_checked(at.checked_add(4)?)?;
    Some((scope, u64::from_be_bytes(*rest.first_chunk::<8>()?)))
}

pub(crate) fn encode_mark(marked: Marked) -> Vec<u8> {
    let mut bytes = marked.turn.to_be_bytes().to_vec();
    bytes.extend(marked.expires.to_be_bytes());
    bytes
}

pub(crate) fn decode_mark(bytes: &[u8]) -> Option<Marked> {
    let (turn, expires) = bytes.split_first_chunk::<8>()?;
    let expires = EpochMs::from_be_bytes(expires.try_into().ok()?);
    Some(Marked { turn: Offset::from_be_bytes(*turn), expires })
}
