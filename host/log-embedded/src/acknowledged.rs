//! Acknowledged: a small file beside the store that says which writes were answered for.
//!
//! The storage library cuts a journal off where it does not understand it, in silence: right for the
//! torn end of an unanswered write, wrong for a damaged byte in front of answered ones. So every
//! write carries a number (the seal), and this file has the number of the last one that was
//! acknowledged, written before the answer leaves. A store that ends below it has lost something.
//!
//! What a power cut may take is another matter: with an interval, acknowledged writes may be gone
//! that were not yet synced. The file names the boot it was written in; after another boot only
//! what had been synced is asked for.
//!
//! Invariant: two slots, written by turns, each with a checksum: a torn write of one leaves the
//! other. The file's blocks exist from the beginning: a full disk does not stop it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const FILE_BYTES: usize = 4096;
const SLOT_BYTES: usize = FILE_BYTES / 2;
const RECORD_BYTES: usize = 44;
const MAGIC: &[u8; 8] = b"MSACKED1";

/// What is known to have been answered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// The number of the last write that was acknowledged.
    pub(crate) written: u64,
    /// The number of the last write known to be on the disk whatever happens.
    pub(crate) synced: u64,
    /// The boot in which it was written; zeros where the system does not tell.
    boot: [u8; 16],
}

impl Acknowledged {
    /// The number of the last write that must be there.
    pub(crate) fn required(&self) -> u64 {
        let boot = boot_id();
        let same_boot = boot == self.boot && boot != [0; 16];
        if same_boot { self.written } else { self.synced.min(self.written) }
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct AcknowledgedFile {
    file: File,
    last: Acknowledged,
    second_slot: bool,
}

impl AcknowledgedFile {
    /// Makes the file, with nothing acknowledged.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(&[0; FILE_BYTES])?;
        let last = Acknowledged { boot: boot_id(), ..Acknowledged::default() };
        let mut this = Self { file, last, second_slot: false };
        this.store()?;
        this.store()?;
        this.file.sync_all()?;
        Ok(this)
    }

    /// Opens the file. `None` says that neither slot can be believed.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        // One byte more than it may have: a longer file is not ours.
        (&mut file).take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() != FILE_BYTES {
            return Ok(None);
        }
        let (first, second) = bytes.split_at(SLOT_BYTES);
        let (first, second) = (decode(first), decode(second));
        let newest = first.into_iter().chain(second).max_by_key(|a| (a.written, a.synced));
        Ok(newest.map(|last| Self { file, last, second_slot: Some(last) == first }))
    }

    /// What the file says.
    pub(crate) fn last(&self) -> Acknowledged {
        self.last
    }

    /// Writes down that write `number` is about to be acknowledged, and whether it is synced.
    pub(crate) fn written(&mut self, number: u64, synced: bool) -> io::Result<()> {
        self.last.written = self.last.written.max(number);
        if synced {
            self.last.synced = self.last.synced.max(number);
        }
        self.store()
    }

    /// Writes down that all writes up to `number` are on the disk.
    pub(crate) fn synced(&mut self, number: u64) -> io::Result<()> {
        self.last.synced = self.last.synced.max(number);
        self.store()
    }

    /// After a power cut took unsynced writes, numbers go on from `number`.
    pub(crate) fn restart_at(&mut self, number: u64) -> io::Result<()> {
        self.last = Acknowledged { written: number, synced: number, boot: boot_id() };
        self.store()?;
        self.store()?;
        self.file.sync_all()
    }

    fn store(&mut self) -> io::Result<()> {
        let at = if self.second_slot { SLOT_BYTES as u64 } else { 0 };
        self.second_slot = !self.second_slot;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(&encode(&self.last))
    }
}

fn encode(acknowledged: &Acknowledged) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&acknowledged.written.to_le_bytes());
    bytes.extend_from_slice(&acknowledged.synced.to_le_bytes());
    bytes.extend_from_slice(&acknowledged.boot);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(slot: &[u8]) -> Option<Acknowledged> {
    let (body, crc) = slot.get(..RECORD_BYTES)?.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let fields = body.strip_prefix(MAGIC)?;
    let (written, fields) = fields.split_first_chunk::<8>()?;
    let (synced, boot) = fields.split_first_chunk::<8>()?;
    Some(Acknowledged {
        written: u64::from_le_bytes(*written),
        synced: u64::from_le_bytes(*synced),
        boot: boot.try_into().ok()?,
    })
}

/// This boot's identity; zeros where the system has none, which counts as another boot each time.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_or([0; 16], u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_believable_slot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acknowledged");
        let mut file = AcknowledgedFile::create(&path).unwrap();
        file.written(7, false).unwrap();
        file.written(8, false).unwrap();
        file.synced(7).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        let opened = AcknowledgedFile::open(&path).unwrap().unwrap().last();
        assert_eq!((opened.written, opened.synced, opened.required()), (8, 7, 8));

        for at in (0..RECORD_BYTES).chain(SLOT_BYTES..SLOT_BYTES + RECORD_BYTES) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let opened = AcknowledgedFile::open(&path).unwrap().unwrap().last();
            assert_eq!(opened.written, 8, "byte {at}: the other slot has the number too");
        }
        std::fs::write(&path, &whole[..100]).unwrap();
        assert!(AcknowledgedFile::open(&path).unwrap().is_none(), "a cut file is not believed");
    }

    #[test]
    fn the_slots_are_written_by_turns_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acknowledged");
        let mut file = AcknowledgedFile::create(&path).unwrap();
        for number in 1..9 {
            file.written(number, true).unwrap();
            drop(file);
            let before = std::fs::read(&path).unwrap();
            file = AcknowledgedFile::open(&path).unwrap().unwrap();
            assert_eq!(file.last().written, number);
            file.synced(number).unwrap();
            let after = std::fs::read(&path).unwrap();
            let newest = decode(&before[..SLOT_BYTES]).max_by_number(decode(&before[SLOT_BYTES..]));
            let kept = [&after[..SLOT_BYTES], &after[SLOT_BYTES..]];
            assert!(kept.iter().filter(|s| decode(s) == newest).count() >= 1);
        }
    }

    trait MaxByNumber {
        fn max_by_number(self, other: Self) -> Self;
    }

    impl MaxByNumber for Option<Acknowledged> {
        fn max_by_number(self, other: Self) -> Self {
            self.into_iter().chain(other).max_by_key(|a| (a.written, a.synced))
        }
    }

    #[test]
    fn after_another_boot_only_what_was_synced_is_required() {
        let acknowledged = Acknowledged { written: 9, synced: 4, boot: [1; 16] };
        assert_eq!(acknowledged.required(), 4);
        let acknowledged = Acknowledged { boot: boot_id(), ..acknowledged };
        assert_eq!(acknowledged.required(), if boot_id() == [0; 16] { 4 } else { 9 });
    }
}
