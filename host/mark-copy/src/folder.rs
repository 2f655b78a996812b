//! Folder: one index' directory.
//!
//! ```text
//! lock       locked by the process that has the index
//! manifest   which runs count, and everything else that must outlive the process
//! N.run      a sorted run
//! *.new      what was being written when the process ended
//! ```
//!
//! Invariant: a file gets its name when all of it is on the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::trouble::Trouble;

const LOCK_FILE: &str = "lock";
const MANIFEST_FILE: &str = "manifest";

/// A folder that this process has alone.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder, which is made if it does not exist.
    pub(crate) fn own(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let lock = path.join(LOCK_FILE);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(lock)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process has it: stop that one first",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.path.join(MANIFEST_FILE)
    }

    pub(crate) fn run(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number}.run"))
    }

    /// Removes everything but the lock and what is named.
    pub(crate) fn remove_all_but(&self, kept: &[PathBuf]) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name() == LOCK_FILE || kept.contains(&path) {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(&path)?,
                false => std::fs::remove_file(&path)?,
            }
        }
        Ok(())
    }

    /// Writes a small file, all of it or nothing.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
        let draft = draft_of(path);
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&draft, path)?;
            self.sync()
        };
        write().map_err(|error| Trouble::Io { path: path.to_owned(), error })
    }

    /// Names that were given or taken away are on the disk.
    #[cfg(unix)]
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the other systems can fail")]
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Fails unless so many bytes can be written with `reserve` left.
    pub(crate) fn check_space(&self, bytes: u64, reserve: u64) -> io::Result<()> {
        let free = fs4::available_space(&self.path)?;
        if free >= reserve.saturating_add(bytes) {
            return Ok(());
        }
        let text = format!(
            "{free} bytes of the disk are free, {reserve} are kept, {bytes} are to be written: free some space"
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }
}

/// What a file is called while it is written.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Reads exactly these bytes of a file.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
pub(crate) fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
        at += read as u64;
    }
    Ok(())
}
