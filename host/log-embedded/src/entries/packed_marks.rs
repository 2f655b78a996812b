//! Packed marks: the idempotency marks of one write, as one entry.
//!
//! ```text
//! key    write number u64 | latest expiry i64                                      (big endian)
//! value  version u8 | scope … | crc u32
//! scope  group and topic: length u16, text | partition u32 | marks u32 | mark …    (little endian)
//! mark   digest of the key, 16 bytes | turn | expiry          (the last two as differences from the mark before, LEB128)
//! ```
//!
//! Digests instead of keys, which are several times as long: nobody asks for the keys, and what is written here is most of what a mark costs.
//!
//! They are written in the order in which writes happen and removed when the last of them has expired, and are read only to
//! bring the index beside the store up to the log. So the library, which keeps entries sorted, never has to sort or merge one
//! for each mark. The key alone says what removal asks.

use std::sync::Arc;

use millstream_core::idempotency::{Marked, Scope};
use millstream_core::message::{EpochMs, Partition};
use millstream_mark_copy::{DIGEST_BYTES, Digest};

use super::{Damage, GROUP_BYTES_MAX, In, Out, put_text};

/// The least that a mark takes.
const MARK_BYTES_MIN: usize = DIGEST_BYTES + 2;

/// The key of the marks of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarksKey {
    /// The write.
    pub(crate) write: u64,
    /// When the last of them may be forgotten.
    pub(crate) expires: EpochMs,
}

impl MarksKey {
    /// What the key of no earlier write is beyond.
    pub(crate) fn lower(write: u64) -> [u8; 8] {
        write.to_be_bytes()
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        [self.write.to_be_bytes(), self.expires.to_be_bytes()].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let fields = bytes.split_first_chunk().and_then(|(write, rest)| {
            let write = u64::from_be_bytes(*write);
            Some(Self { write, expires: EpochMs::from_be_bytes(rest.try_into().ok()?) })
        });
        fields.ok_or_else(|| Damage(format!("its key has {} bytes, not 16", bytes.len())))
    }
}

/// Marks of a write that is planned.
pub(crate) struct PackedMarks {
    out: Out,
    scope: Option<PackedScope>,
    expires: EpochMs,
}

struct PackedScope {
    scope: Arc<Scope>,
    count_at: usize,
    count: u32,
    /// The last mark.
    last: Marked,
}

/// What the first mark of a scope differs from.
const NONE: Marked = Marked { turn: 0, expires: 0 };

impl Default for PackedMarks {
    fn default() -> Self {
        Self { out: Out::new(), scope: None, expires: EpochMs::MIN }
    }
}

impl PackedMarks {
    /// Whether marks of a scope can be stored.
    pub(crate) fn takes(scope: &Scope) -> bool {
        scope.group.len() <= GROUP_BYTES_MAX && scope.partition.topic.len() <= GROUP_BYTES_MAX
    }

    /// Whether a mark of this scope stands beside the last one.
    pub(crate) fn goes_on_in(&self, scope: &Arc<Scope>) -> bool {
        self.scope.as_ref().is_some_and(|open| {
            open.count < u32::MAX && (Arc::ptr_eq(&open.scope, scope) || open.scope == *scope)
        })
    }

    /// Takes a mark of a scope whose marks can be stored.
    pub(crate) fn push(&mut self, scope: &Arc<Scope>, digest: Digest, marked: Marked) {
        if !self.goes_on_in(scope) {
            self.begin_scope(scope);
        }
        let Some(open) = &mut self.scope else { return };
        self.out.bytes(&digest.to_bytes());
        let turn = marked.turn.wrapping_sub(open.last.turn).cast_signed();
        self.out.leb128(zigzag(turn));
        self.out.leb128(zigzag(marked.expires.wrapping_sub(open.last.expires)));
        open.last = marked;
        open.count += 1;
        self.expires = self.expires.max(marked.expires);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scope.is_none()
    }

    /// About the bytes of the entry.
    pub(crate) fn bytes(&self) -> usize {
        self.out.0.len() + 24
    }

    /// The entry of write `number`.
    pub(crate) fn finish(mut self, number: u64) -> (Vec<u8>, Vec<u8>) {
        self.end_scope();
        let key = MarksKey { write: number, expires: self.expires }.encode();
        let value = self.out.sealed(&key);
        (key, value)
    }

    fn begin_scope(&mut self, scope: &Arc<Scope>) {
        self.end_scope();
        put_text(&mut self.out.0, &scope.group);
        put_text(&mut self.out.0, &scope.partition.topic);
        self.out.u32(scope.partition.number);
        let count_at = self.out.0.len();
        self.out.u32(0);
        self.scope = Some(PackedScope { scope: Arc::clone(scope), count_at, count: 0, last: NONE });
    }

    fn end_scope(&mut self) {
        if let Some(PackedScope { count_at, count, .. }) = self.scope.take()
            && let Some(place) = self.out.0.get_mut(count_at..count_at + 4)
        {
            place.copy_from_slice(&count.to_le_bytes());
        }
    }
}

/// Reads the marks that stand under `key`, scope by scope.
pub(crate) fn decode(
    key: &[u8],
    bytes: &[u8],
    mut each: impl FnMut(&Scope, &mut dyn Iterator<Item = (Digest, Marked)>),
) -> Result<(), Damage> {
    let mut fields = In::opened(key, bytes)?;
    while !fields.0.is_empty() {
        let (group, topic) = (text(&mut fields)?, text(&mut fields)?);
        let partition = Partition::new(topic, fields.u32()?);
        let scope = Scope { group: group.into(), partition };
        let count = fields.u32()?;
        let mut marks = Vec::with_capacity((count as usize).min(fields.0.len() / MARK_BYTES_MIN));
        let mut last = NONE;
        for _ in 0..count {
            let digest = Digest::from_bytes(fields.array()?);
            let turn = unzigzag(fields.leb128()?).cast_unsigned();
            let expires = unzigzag(fields.leb128()?);
            last = Marked {
                turn: last.turn.wrapping_add(turn),
                expires: last.expires.wrapping_add(expires),
            };
            marks.push((digest, last));
        }
        each(&scope, &mut marks.into_iter());
    }
    Ok(())
}

/// Small numbers for small differences, whatever their sign.
fn zigzag(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

// Its length stands big endian, as it does in keys.
fn text<'a>(fields: &mut In<'a>) -> Result<&'a str, Damage> {
    let length = usize::from(u16::from_be_bytes(fields.array()?));
    let text = std::str::from_utf8(fields.bytes(length)?);
    text.map_err(|_| Damage("a name is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests;
