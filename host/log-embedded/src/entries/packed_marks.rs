//! Packed marks: the idempotency marks of one write, as one entry.
//!
//! ```text
//! key    write number u64 | latest expiry i64                                      (big endian)
//! value  version u8 | scope … | crc u32
//! scope  group and topic: length u16, text | partition u32 | marks u32 | mark …    (little endian)
//! mark   turn u64 | expiry i64 | key length u16 | key
//! ```
//!
//! They are written in the order in which writes happen and removed when the last of them has expired, and are read only to
//! bring the index beside the store up to the log. So the library, which keeps entries sorted, never has to sort or merge one
//! for each mark. The key alone says what removal asks.

use std::sync::Arc;

use millstream_core::idempotency::{Mark, Marked, Scope};
use millstream_core::message::{EpochMs, Offset, Partition};

use super::{Damage, GROUP_BYTES_MAX, In, Out, put_text};

/// The longest idempotency key; the core hashes longer ones than 512 bytes.
pub(crate) const MARK_KEY_BYTES_MAX: usize = 32 * 1024;
/// What a mark takes beside its key.
pub(crate) const MARK_OVERHEAD_BYTES: usize = 18;

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
}

impl Default for PackedMarks {
    fn default() -> Self {
        Self { out: Out::new(), scope: None, expires: EpochMs::MIN }
    }
}

impl PackedMarks {
    /// Whether a mark can be stored.
    pub(crate) fn takes(mark: &Mark) -> bool {
        mark.scope.group.len() <= GROUP_BYTES_MAX
            && mark.scope.partition.topic.len() <= GROUP_BYTES_MAX
            && mark.key.len() <= MARK_KEY_BYTES_MAX
    }

    /// Takes a mark that can be stored. Tells whether it is of another scope than the last one.
    pub(crate) fn push(&mut self, mark: &Mark) -> bool {
        let same = |open: &PackedScope| {
            open.count < u32::MAX
                && (Arc::ptr_eq(&open.scope, &mark.scope) || open.scope == mark.scope)
        };
        let begins = !self.scope.as_ref().is_some_and(same);
        if begins {
            self.begin_scope(&mark.scope);
        }
        self.out.u64(mark.turn);
        self.out.u64(mark.expires.cast_unsigned());
        // As is checked in `takes`.
        self.out.u16(u16::try_from(mark.key.len()).unwrap_or(0));
        self.out.bytes(&mark.key);
        self.expires = self.expires.max(mark.expires);
        if let Some(open) = &mut self.scope {
            open.count += 1;
        }
        begins
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
        self.scope = Some(PackedScope { scope: Arc::clone(scope), count_at, count: 0 });
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
    mut each: impl FnMut(&Scope, &mut dyn Iterator<Item = (&[u8], Marked)>),
) -> Result<(), Damage> {
    let mut fields = In::opened(key, bytes)?;
    while !fields.0.is_empty() {
        let (group, topic) = (text(&mut fields)?, text(&mut fields)?);
        let partition = Partition::new(topic, fields.u32()?);
        let scope = Scope { group: group.into(), partition };
        let count = fields.u32()?;
        let mut marks =
            Vec::with_capacity((count as usize).min(fields.0.len() / MARK_OVERHEAD_BYTES));
        for _ in 0..count {
            let turn: Offset = fields.u64()?;
            let expires = fields.u64()?.cast_signed();
            let length = usize::from(fields.u16()?);
            marks.push((fields.bytes(length)?, Marked { turn, expires }));
        }
        each(&scope, &mut marks.into_iter());
    }
    Ok(())
}

// Its length stands big endian, as it does in keys.
fn text<'a>(fields: &mut In<'a>) -> Result<&'a str, Damage> {
    let length = usize::from(u16::from_be_bytes(fields.array()?));
    let text = std::str::from_utf8(fields.bytes(length)?);
    text.map_err(|_| Damage("a name is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests;
