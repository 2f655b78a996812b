//! Run: marks on the disk, ascending by digest, written once.
//!
//! ```text
//! file    block … | first digest u64 of each block … | filter | footer          (little endian)
//! block   113 entries (the last block fewer) | zeros | checksum u64              4096 bytes
//! footer  magic | run u64 | entries u64 | filter blocks u64 | earliest and latest expiry i64 | checksum u64
//!         of first digests and filter | checksum u64 of the footer               64 bytes
//! ```
//!
//! In memory: the first digests (8 bytes for 113 marks) and the filter. A question that the filter lets pass is one
//! read of one block, whose place follows from the first digests.
//!
//! Invariants: no block is believed without its checksum, which covers the run's number and the block's; nothing is
//! allocated by what a footer says before the file's length agrees.

mod cursor;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};

use millstream_core::message::EpochMs;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::digest::Digest;
use crate::entry::{ENTRY_BYTES, Entry};
use crate::filter::{BLOCK_BYTES as FILTER_BLOCK_BYTES, Filter};
use crate::folder::read_at;
use crate::trouble::Trouble;

pub(crate) use cursor::Cursor;
pub(crate) use writer::RunWriter;

/// What is read at once for a question.
const BLOCK_BYTES: usize = 4096;
const CHECKSUM_BYTES: usize = 8;
/// Entries of a block.
const BLOCK_ENTRIES: usize = (BLOCK_BYTES - CHECKSUM_BYTES) / ENTRY_BYTES;
const FOOTER_BYTES: usize = 64;
/// Questions whose filter blocks are fetched together.
const ASKED_AT_ONCE: usize = 64;
const MAGIC: [u8; 8] = *b"MSMARKS1";

/// The end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) run: u64,
    pub(crate) entries: u64,
    pub(crate) filter_blocks: u64,
    /// The earliest expiry of an entry.
    pub(crate) expires_min: EpochMs,
    /// The latest.
    pub(crate) expires_max: EpochMs,
    pub(crate) checksum: u64,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.run, self.entries, self.filter_blocks] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.expires_min.to_le_bytes());
        bytes.extend(self.expires_max.to_le_bytes());
        bytes.extend(self.checksum.to_le_bytes());
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk()?;
        if bytes.len() != FOOTER_BYTES || xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let mut fields = body.strip_prefix(&MAGIC)?.chunks_exact(8);
        let mut next = || Some(u64::from_le_bytes(fields.next()?.try_into().ok()?));
        Some(Self {
            run: next()?,
            entries: next()?,
            filter_blocks: next()?,
            expires_min: next()?.cast_signed(),
            expires_max: next()?.cast_signed(),
            checksum: next()?,
        })
    }

    fn blocks(&self) -> u64 {
        self.entries.div_ceil(BLOCK_ENTRIES as u64)
    }

    /// The bytes of a file with this footer, unless no file has so many.
    fn file_bytes(&self) -> Option<u64> {
        let blocks = self.blocks().checked_mul(BLOCK_BYTES as u64 + 8)?;
        let filter = self.filter_blocks.checked_mul(FILTER_BLOCK_BYTES as u64)?;
        blocks.checked_add(filter)?.checked_add(FOOTER_BYTES as u64)
    }
}

/// The bytes of a run of so many entries on the disk, but for its filter.
pub(crate) fn bytes_of(entries: u64) -> u64 {
    entries.div_ceil(BLOCK_ENTRIES as u64).saturating_mul(BLOCK_BYTES as u64 + 8)
}

/// A run that is open.
#[derive(Debug)]
pub(crate) struct Run {
    path: PathBuf,
    file: File,
    footer: Footer,
    firsts: Vec<u64>,
    filter: Filter,
}

impl Run {
    /// Opens run `number`. Its blocks are looked at when they are read.
    pub(crate) fn open(path: &Path, number: u64) -> Result<Self, Trouble> {
        let trouble = |error| Trouble::of(path, error);
        let file = File::open(path).map_err(trouble)?;
        let length = file.metadata().map_err(trouble)?.len();
        let mut footer = [0; FOOTER_BYTES];
        let at = length
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| Trouble::damage(path, "it is too short"))?;
        read_at(&file, &mut footer, at).map_err(trouble)?;
        let footer = Footer::decode(&footer)
            .filter(|footer| footer.run == number && footer.file_bytes() == Some(length))
            .ok_or_else(|| Trouble::damage(path, "its footer makes no sense"))?;
        let from = footer.blocks() * BLOCK_BYTES as u64;
        let mut bytes = vec![0; usize::try_from(at - from).unwrap_or(0)];
        read_at(&file, &mut bytes, from).map_err(trouble)?;
        let firsts_bytes = usize::try_from(footer.blocks() * 8).unwrap_or(usize::MAX);
        let (firsts, filter) = bytes
            .split_at_checked(firsts_bytes)
            .filter(|_| xxh3_64(&bytes) == footer.checksum)
            .ok_or_else(|| Trouble::damage(path, "the checksum of its filter does not match"))?;
        let first = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let firsts = firsts.chunks_exact(8).map(first).collect();
        let filter = Filter::decode(filter);
        Ok(Self { path: path.to_owned(), file, footer, firsts, filter })
    }

    pub(crate) fn number(&self) -> u64 {
        self.footer.run
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(crate) fn filter_bytes(&self) -> u64 {
        self.filter.bytes()
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.footer.file_bytes().unwrap_or(u64::MAX)
    }

    /// Whether the mark may be there; does not read.
    pub(crate) fn may_have(&self, digest: Digest) -> bool {
        self.filter.passes(digest)
    }

    /// Makes `may` true for each mark that may be there; does not read.
    pub(crate) fn note_what_may_be_there(&self, digests: &[Digest], may: &mut [bool]) {
        let mut begins = [false; ASKED_AT_ONCE];
        for (may, digests) in may.chunks_mut(ASKED_AT_ONCE).zip(digests.chunks(ASKED_AT_ONCE)) {
            for (begins, digest) in begins.iter_mut().zip(digests) {
                *begins = self.filter.begins_to_pass(*digest);
            }
            for ((may, digest), begins) in may.iter_mut().zip(digests).zip(begins) {
                if begins && !*may {
                    *may = self.filter.passes(*digest);
                }
            }
        }
    }

    /// Reads the mark. Several blocks only if many digests begin alike.
    pub(crate) fn get(&self, digest: Digest) -> Result<Option<Entry>, Trouble> {
        let mut at = self.firsts.partition_point(|first| *first < digest.high).saturating_sub(1);
        let mut bytes = [0; BLOCK_BYTES];
        while self.firsts.get(at).is_some_and(|first| *first <= digest.high) {
            let offset = at as u64 * BLOCK_BYTES as u64;
            read_at(&self.file, &mut bytes, offset)
                .map_err(|error| Trouble::of(&self.path, error))?;
            let entries = self.verified(&bytes, at as u64)?;
            let high = digest.high.to_le_bytes();
            let found = entries.filter(|entry| entry.starts_with(&high));
            let found = found.filter_map(Entry::decode).find(|entry| entry.digest == digest);
            if found.is_some() {
                return Ok(found);
            }
            at += 1;
        }
        Ok(None)
    }

    /// The entries of a block as they lie in it, if it is what was written.
    fn verified<'a>(
        &self,
        bytes: &'a [u8],
        number: u64,
    ) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>, Trouble> {
        let count = self.footer.entries.saturating_sub(number * BLOCK_ENTRIES as u64);
        let count = usize::try_from(count).unwrap_or(BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        let body = block_body(bytes, self.footer.run, number).ok_or_else(|| {
            Trouble::damage(&self.path, format!("the checksum of block {number} does not match"))
        })?;
        Ok(body.chunks_exact(ENTRY_BYTES).take(count))
    }
}

/// What a block holds, if its checksum is right.
pub(crate) fn block_body(bytes: &[u8], run: u64, number: u64) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    (block_checksum(body, run, number) == u64::from_le_bytes(*checksum)).then_some(body)
}

fn block_checksum(body: &[u8], run: u64, number: u64) -> u64 {
    // Another block of this run, or the same of another, must not pass for it.
    xxh3_64_with_seed(body, run.rotate_left(32) ^ number)
}

/// These bytes of a file of run `run` with right checksums, as far as they are long enough.
#[cfg(feature = "fuzzing")]
pub(crate) fn sealed(run: u64, bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_BYTES) else { return sealed };
    let (body, footer) = sealed.split_at_mut(footer_at);
    let entries = footer.get(16..24).and_then(|entries| entries.try_into().ok());
    let blocks = entries.map_or(0, u64::from_le_bytes).div_ceil(BLOCK_ENTRIES as u64);
    let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
    for (block, number) in body.chunks_exact_mut(BLOCK_BYTES).take(blocks).zip(0..) {
        if let Some((body, checksum)) = block.split_last_chunk_mut::<CHECKSUM_BYTES>() {
            *checksum = block_checksum(body, run, number).to_le_bytes();
        }
    }
    let rest = body.get(blocks.saturating_mul(BLOCK_BYTES)..).unwrap_or_default();
    let checksum = xxh3_64(rest);
    if let Some((fields, own)) = footer.split_last_chunk_mut::<8>() {
        if let Some((_, of_rest)) = fields.split_last_chunk_mut::<8>() {
            *of_rest = checksum.to_le_bytes();
        }
        *own = xxh3_64(fields).to_le_bytes();
    }
    sealed
}

#[cfg(test)]
mod tests;
