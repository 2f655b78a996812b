//! Entry: a mark as the index has it, in memory and on the disk.
//!
//! Little endian: digest (high, low), turn, expiry, scope number: [`ENTRY_BYTES`].

use millstream_core::idempotency::Marked;
use millstream_core::message::{EpochMs, Offset};

use crate::digest::Digest;

/// An entry on the disk.
pub(crate) const ENTRY_BYTES: usize = 36;

/// The number of a scope. A discarded scope gets another, larger one, so what was marked under the old one is nobody's.
/// Numbers begin at 1.
pub(crate) type ScopeNumber = u32;

/// A mark. The default is none: its scope is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) turn: Offset,
    pub(crate) expires: EpochMs,
    pub(crate) scope: ScopeNumber,
}

impl Entry {
    pub(crate) fn is_none(&self) -> bool {
        self.scope == 0
    }

    /// What it says, if it is of the scope with this number.
    pub(crate) fn of(&self, scope: ScopeNumber) -> Option<Marked> {
        let marked = Marked { turn: self.turn, expires: self.expires };
        (self.scope == scope).then_some(marked)
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest.high.to_le_bytes());
        out.extend_from_slice(&self.digest.low.to_le_bytes());
        out.extend_from_slice(&self.turn.to_le_bytes());
        out.extend_from_slice(&self.expires.to_le_bytes());
        out.extend_from_slice(&self.scope.to_le_bytes());
    }

    /// `None` if these are not the bytes of an entry.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (high, rest) = bytes.split_first_chunk()?;
        let (low, rest) = rest.split_first_chunk()?;
        let (turn, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let digest = Digest { high: u64::from_le_bytes(*high), low: u64::from_le_bytes(*low) };
        Some(Self {
            digest,
            turn: Offset::from_le_bytes(*turn),
            expires: EpochMs::from_le_bytes(*expires),
            scope: ScopeNumber::from_le_bytes(rest.try_into().ok()?),
        })
    }
}
