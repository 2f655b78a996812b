//! Writing a run: entries come ascending, one file goes out from front to back.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use millstream_core::message::EpochMs;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    BLOCK_BYTES, BLOCK_ENTRIES, CHECKSUM_BYTES, FILTER_BLOCK_BYTES, Footer, Run, block_checksum,
};
use crate::entry::Entry;
use crate::filter::{BITS_A_KEY, Filter};
use crate::folder::{Folder, draft_of};
use crate::trouble::Trouble;

/// What goes to the system at once.
const WRITE_BYTES: usize = 256 * 1024;

/// A run that is being written. Dropped before it is finished it is removed.
pub(crate) struct RunWriter {
    path: PathBuf,
    draft: Draft,
    file: BufWriter<File>,
    block: Vec<u8>,
    block_entries: usize,
    footer: Footer,
    firsts: Vec<u64>,
    filter: Filter,
}

struct Draft(Option<PathBuf>);

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // What stays is removed when the index opens.
            std::fs::remove_file(path).ok();
        }
    }
}

impl RunWriter {
    /// Begins run `number` of at most so many entries, with a filter of at most so many bytes.
    pub(crate) fn create(
        folder: &Folder,
        number: u64,
        entries_max: u64,
        filter_bytes_max: u64,
    ) -> Result<Self, Trouble> {
        let path = folder.run(number);
        let draft = draft_of(&path);
        let file =
            File::create(&draft).map_err(|error| Trouble::Io { path: draft.clone(), error })?;
        let filter = Filter::new(entries_max, BITS_A_KEY, filter_bytes_max);
        let footer = Footer {
            run: number,
            entries: 0,
            filter_blocks: filter.bytes() / FILTER_BLOCK_BYTES as u64,
            expires_min: EpochMs::MAX,
            expires_max: EpochMs::MIN,
            checksum: 0,
        };
        Ok(Self {
            path,
            draft: Draft(Some(draft)),
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            block: Vec::with_capacity(BLOCK_BYTES),
            block_entries: 0,
            footer,
            firsts: Vec::new(),
            filter,
        })
    }

    /// What its filter takes.
    pub(crate) fn filter_bytes(&self) -> u64 {
        self.filter.bytes()
    }

    /// Takes the next entry; its digest is larger than the last one's.
    pub(crate) fn push(&mut self, entry: &Entry) -> Result<(), Trouble> {
        if self.block_entries == 0 {
            self.firsts.push(entry.digest.high);
        }
        entry.encode_into(&mut self.block);
        self.block_entries += 1;
        self.filter.insert(entry.digest);
        self.footer.entries += 1;
        self.footer.expires_min = self.footer.expires_min.min(entry.expires);
        self.footer.expires_max = self.footer.expires_max.max(entry.expires);
        if self.block_entries == BLOCK_ENTRIES {
            self.close_block().map_err(|error| self.trouble(error))?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.block_entries == 0 {
            return Ok(());
        }
        self.block.resize(BLOCK_BYTES - CHECKSUM_BYTES, 0);
        let number = self.firsts.len() as u64 - 1;
        let checksum = block_checksum(&self.block, self.footer.run, number);
        self.block.extend_from_slice(&checksum.to_le_bytes());
        self.file.write_all(&self.block)?;
        self.block.clear();
        self.block_entries = 0;
        Ok(())
    }

    /// The run, on the disk and open; `None` if it has no entry.
    pub(crate) fn finish(mut self, folder: &Folder) -> Result<Option<Run>, Trouble> {
        if self.footer.entries == 0 {
            return Ok(None);
        }
        let file = self.close().map_err(|error| self.trouble(error))?;
        let Self { path, mut draft, footer, firsts, filter, .. } = self;
        let named = draft.0.as_ref().map_or(Ok(()), |draft| std::fs::rename(draft, &path));
        let synced = named.and_then(|()| {
            draft.0 = Some(path.clone());
            folder.sync()
        });
        synced.map_err(|error| Trouble::Io { path: path.clone(), error })?;
        draft.0 = None;
        Ok(Some(Run { path, file, footer, firsts, filter }))
    }

    fn close(&mut self) -> io::Result<File> {
        self.close_block()?;
        let mut bytes = Vec::new();
        bytes.extend(self.firsts.iter().flat_map(|first| first.to_le_bytes()));
        self.filter.encode_into(&mut bytes);
        self.footer.checksum = xxh3_64(&bytes);
        bytes.extend(self.footer.encode());
        self.file.write_all(&bytes)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let draft = self.draft.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
        File::open(draft)
    }

    fn trouble(&self, error: io::Error) -> Trouble {
        Trouble::Io { path: self.path.clone(), error }
    }
}
