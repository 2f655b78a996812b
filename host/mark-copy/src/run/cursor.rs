//! Reading a run from front to back, as merging does.

use std::sync::Arc;

use super::{BLOCK_BYTES, Run};
use crate::entry::Entry;
use crate::folder::read_at;
use crate::trouble::Trouble;

/// Blocks that are read at once.
const BLOCKS_AT_ONCE: usize = 64;

/// See the module.
pub(crate) struct Cursor {
    run: Arc<Run>,
    next_block: usize,
    /// Reversed: the next one is the last.
    read: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Cursor {
    pub(crate) fn new(run: Arc<Run>) -> Self {
        Self { run, next_block: 0, read: Vec::new(), bytes: Vec::new() }
    }

    /// The next entry, which stays.
    pub(crate) fn head(&mut self) -> Result<Option<&Entry>, Trouble> {
        if self.read.is_empty() {
            self.fill()?;
        }
        Ok(self.read.last())
    }

    pub(crate) fn take(&mut self) -> Option<Entry> {
        self.read.pop()
    }

    fn fill(&mut self) -> Result<(), Trouble> {
        let blocks = self.run.firsts.len().saturating_sub(self.next_block).min(BLOCKS_AT_ONCE);
        if blocks == 0 {
            return Ok(());
        }
        self.bytes.resize(blocks * BLOCK_BYTES, 0);
        let at = self.next_block as u64 * BLOCK_BYTES as u64;
        read_at(&self.run.file, &mut self.bytes, at)
            .map_err(|error| Trouble::of(&self.run.path, error))?;
        for (block, number) in self.bytes.chunks_exact(BLOCK_BYTES).zip(self.next_block..) {
            let entries = self.run.verified(block, number as u64)?;
            self.read.extend(entries.filter_map(Entry::decode));
        }
        self.read.reverse();
        self.next_block += blocks;
        Ok(())
    }
}
