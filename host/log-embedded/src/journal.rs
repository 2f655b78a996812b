//! Journal: a look at the storage library's journals before the library opens them.
//!
//! fjall replays its journals when it opens a store, and cuts one off at the first byte it does not
//! understand, without a word. At the end of the youngest journal that is how a write looks that was
//! under way when the process was killed; anywhere else acknowledged messages would vanish. Here
//! each journal is read with stricter eyes: every write complete, its checksum right, its seal the
//! successor of the one before. A journal may end torn (an older one too: the library begins a new
//! one behind a write that failed on a full disk) if no number is missing behind it; whether one is
//! missing at the very end the caller decides by the acknowledged number.
//!
//! Boundary: knows fjall's journal format of store version 3 (`FJL\x03`), uncompressed, as this
//! crate writes it. The store's version marker is checked before.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::entries::{SEAL_KEY, Seal};
use crate::record_batch::Damage;

const TAG_START: u8 = 1;
const TAG_ITEM: u8 = 2;
const TAG_END: u8 = 3;
const TRAILER: &[u8; 4] = b"FJL\x03";
/// How far the library's sequence number may be ahead of the seal's: other threads take a few.
const SEQUENCE_AHEAD_MAX: u64 = 4096;

/// How much is written again at a time.
const AGAIN_BYTES: u64 = 1024 * 1024;

/// What the journals hold.
#[derive(Debug, Default)]
pub(crate) struct Journals {
    /// The number of the last complete write; `None` if they hold none.
    pub(crate) last: Option<u64>,
    /// The journals that end in something else than a complete write.
    pub(crate) torn: Vec<Torn>,
    /// The parts of them that may be in memory only.
    pub(crate) unsynced: Vec<Unsynced>,
}

/// A journal whose end is not a complete write.
#[derive(Debug)]
pub(crate) struct Torn {
    /// The file.
    pub(crate) path: PathBuf,
    /// The end of its last complete write.
    pub(crate) at: u64,
    /// What stands there instead of a write.
    pub(crate) damage: Damage,
}

impl Torn {
    /// Cuts the journal after its last complete write.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.at)?;
        file.sync_all()
    }
}

/// Complete writes at the end of a journal of which nobody knows that they are on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsynced {
    /// The file.
    pub(crate) path: PathBuf,
    /// Where they stand.
    pub(crate) range: Range<u64>,
}

impl Unsynced {
    /// Writes them once more where they stand, and syncs.
    ///
    /// A sync alone is not enough. If one has failed before the process ended, the system keeps what it could
    /// not write, takes it for written, and the next sync leaves it out: it could be read until the power is
    /// cut, and what was written and acknowledged behind it would then stand behind a hole.
    pub(crate) fn write_again(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let mut bytes = Vec::new();
        let mut at = self.range.start;
        while at < self.range.end {
            bytes.clear();
            file.seek(SeekFrom::Start(at))?;
            let count = AGAIN_BYTES.min(self.range.end - at);
            if (&mut file).take(count).read_to_end(&mut bytes)? as u64 != count {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&bytes)?;
            at += count;
        }
        file.sync_all()
    }
}

/// Why journals cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is damaged at byte {at}: {damage}", path = path.display())]
    Damaged { path: PathBuf, at: u64, damage: Damage },
}

/// Reads all journals of the store in `folder`, in which writes up to the number `synced` are on the disk.
pub(crate) fn inspect(folder: &Path, synced: u64) -> Result<Journals, JournalError> {
    let io_error = |error| JournalError::Io { path: folder.to_owned(), error };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jnl")) {
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let id = id.ok_or_else(|| JournalError::Damaged {
                path: path.clone(),
                at: 0,
                damage: Damage("its name is not that of a journal".to_owned()),
            })?;
            paths.push((id, path));
        }
    }
    paths.sort();
    if paths.is_empty() {
        let damage = Damage("it has no journal".to_owned());
        return Err(JournalError::Damaged { path: folder.to_owned(), at: 0, damage });
    }
    let mut journals = Journals::default();
    let mut before: Option<u64> = None;
    for (id, path) in paths {
        if before.is_some_and(|before| id != before + 1) {
            let damage = Damage(format!("the journal before {id}.jnl is missing"));
            return Err(JournalError::Damaged { path, at: 0, damage });
        }
        before = Some(id);
        inspect_one(path, synced, &mut journals)?;
    }
    Ok(journals)
}

fn inspect_one(path: PathBuf, synced: u64, journals: &mut Journals) -> Result<(), JournalError> {
    let io_error = |error| JournalError::Io { path: path.clone(), error };
    let file = File::open(&path).map_err(io_error)?;
    let length = file.metadata().map_err(io_error)?.len();
    let mut source =
        Source { reader: BufReader::with_capacity(256 * 1024, file), at: 0, length, item: vec![] };
    let mut sequence = 0;
    let mut unsynced: Option<Range<u64>> = None;
    loop {
        let at = source.at;
        match source.write() {
            Ok(Some(write)) => {
                let number = write.seal.number;
                let expected = journals.last.map_or(number, |last| last + 1);
                if number != expected {
                    // What is missing stood at the torn end before, or was cut out here.
                    let damage = Damage(format!("write {number} follows where {expected} belongs"));
                    return Err(match journals.torn.pop() {
                        Some(Torn { path, at, damage }) => {
                            JournalError::Damaged { path, at, damage }
                        }
                        None => JournalError::Damaged { path, at, damage },
                    });
                }
                if !write.sequence_is_plausible(sequence) {
                    let damage = format!("write {number} has sequence number {}", write.sequence);
                    return Err(JournalError::Damaged { path, at, damage: Damage(damage) });
                }
                journals.last = Some(number);
                sequence = write.sequence;
                if number > synced {
                    unsynced.get_or_insert(at..at).end = source.at;
                }
            }
            // The rest of the file is reserved space.
            Ok(None) => break,
            Err(ReadError::Io(error)) => return Err(io_error(error)),
            Err(ReadError::Damage(damage)) => {
                journals.torn.push(Torn { path: path.clone(), at, damage });
                break;
            }
        }
    }
    journals.unsynced.extend(unsynced.map(|range| Unsynced { path, range }));
    Ok(())
}

struct Write {
    sequence: u64,
    seal: Seal,
}

impl Write {
    // The library's checksum leaves the sequence number out, and a wrong one hides a write behind
    // an older one, or behind what was flushed.
    fn sequence_is_plausible(&self, before: u64) -> bool {
        let floor = self.seal.sequence_floor;
        self.sequence >= floor
            && self.sequence - floor <= SEQUENCE_AHEAD_MAX
            && (before == 0 || self.sequence > before)
    }
}

enum ReadError {
    Io(io::Error),
    Damage(Damage),
}

impl From<Damage> for ReadError {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

struct Source<R> {
    reader: R,
    at: u64,
    length: u64,
    item: Vec<u8>,
}

impl<R: Read> Source<R> {
    /// The next write, or `None` if only zeros follow.
    fn write(&mut self) -> Result<Option<Write>, ReadError> {
        if self.at == self.length {
            return Ok(None);
        }
        match self.u8()? {
            TAG_START => {}
            0 => return self.only_zeros().map(|()| None),
            tag => return Err(damage(format!("{tag} is no beginning of a write"))),
        }
        let count = self.u32()?;
        let sequence = self.u64()?;
        let mut checksum = xxhash_rust::xxh3::Xxh3::new();
        let mut seal = None;
        for index in 0..count {
            let found = self.item(&mut checksum)?;
            if index == 0 {
                seal = found;
            }
        }
        if self.u8()? != TAG_END {
            return Err(damage("a write is longer than it says"));
        }
        let stored = self.u64()?;
        if self.array::<4>()? != *TRAILER {
            return Err(damage("a write has no end mark"));
        }
        if checksum.digest() != stored {
            return Err(damage("the checksum of a write does not match"));
        }
        let seal = seal.ok_or_else(|| damage("a write has no seal"))?;
        Ok(Some(Write { sequence, seal }))
    }

    /// Reads an item into the checksum; tells the seal if it is one.
    fn item(&mut self, checksum: &mut xxhash_rust::xxh3::Xxh3) -> Result<Option<Seal>, ReadError> {
        if self.u8()? != TAG_ITEM {
            return Err(damage("a write is shorter than it says"));
        }
        let value_type = self.u8()?;
        let compression = self.u8()?;
        if compression != 0 {
            return Err(damage(format!("compression {compression} is not ours")));
        }
        let keyspace = self.u64()?;
        let key_bytes = self.array::<2>()?;
        let value_bytes = self.array::<4>()?;
        let stored_bytes = self.array::<4>()?;
        checksum.update(&[TAG_ITEM, value_type, compression]);
        checksum.update(&keyspace.to_le_bytes());
        checksum.update(&key_bytes);
        checksum.update(&value_bytes);
        checksum.update(&stored_bytes);
        let key_bytes = usize::from(u16::from_le_bytes(key_bytes));
        let value_bytes = u32::from_le_bytes(stored_bytes) as usize;
        let total = key_bytes + value_bytes;
        if total as u64 > self.length - self.at {
            return Err(damage("a write ends behind the end of the file"));
        }
        self.item.resize(total, 0);
        self.reader.read_exact(&mut self.item).map_err(ReadError::Io)?;
        self.at += total as u64;
        checksum.update(&self.item);
        match self.item.split_at_checked(key_bytes) {
            Some((SEAL_KEY, value)) => Ok(Seal::decode(value).ok()),
            _ => Ok(None),
        }
    }

    fn only_zeros(&mut self) -> Result<(), ReadError> {
        let mut chunk = vec![0; 256 * 1024];
        loop {
            let read = self.reader.read(&mut chunk).map_err(ReadError::Io)?;
            if read == 0 {
                return Ok(());
            }
            if chunk.iter().take(read).any(|byte| *byte != 0) {
                return Err(damage("bytes stand in the reserved space"));
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        if N as u64 > self.length - self.at {
            return Err(damage("the file ends within a write"));
        }
        self.reader.read_exact(&mut array).map_err(ReadError::Io)?;
        self.at += N as u64;
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn damage(text: impl Into<String>) -> ReadError {
    ReadError::Damage(Damage(text.into()))
}
