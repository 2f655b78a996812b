//! Folder: one log's directory, who owns it, and what its format is.
//!
//! ```text
//! host.lock      locked by the process that owns the folder; says which (JSON)
//! format         what this folder is (JSON): written first as "creating", last as "ready"
//! acknowledged   which writes were answered for
//! marks/         the index of idempotency marks: may be missing, is made from the store then
//! store/         the storage library's
//! ```
//!
//! Invariants: nothing is touched in a folder that is not ours or that another process owns. The
//! operating system frees the lock when the owner dies, however it dies. Before the library opens
//! the store the files are checked without which it would quietly begin anew.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use millstream_mark_copy::Secret;
use serde::{Deserialize, Serialize};

use crate::manifest;
use crate::options::OpenError;

/// The version this program writes, and the only one it reads: what wrote versions 1 to 3 was never released.
const VERSION: u64 = 4;
const KIND: &str = "millstream-embedded-log";
const LOCK_FILE: &str = "host.lock";
const FORMAT_FILE: &str = "format";
const LOCK_TEXT_BYTES: usize = 512;
/// `FJL` and the version of the storage library's own format.
const STORE_VERSION: &[u8] = b"FJL\x03";

/// A folder this process owns.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

/// What the folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Format {
    format: String,
    version: u64,
    state: State,
    /// Which log it is.
    pub(crate) identity: Identity,
    /// The store's subfolders that must be there.
    pub(crate) keyspaces: Vec<String>,
    crc: u32,
}

/// What a log has of its own from the beginning on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// Tells it from others.
    pub(crate) cluster_id: String,
    /// What the digests of its idempotency keys are made with: without it no mark is found again.
    pub(crate) marks_secret: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The folder is being made: nothing in it was ever answered for.
    Creating,
    /// It is in use.
    Ready,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Owner {
    pid: Option<u32>,
    admin: Option<String>,
}

#[derive(Deserialize)]
struct AnyVersion {
    format: String,
    version: u64,
}

/// Where the host that has (or had) the log in `dir` answers its admin API, by what it announced.
/// Says nothing about whether it still runs, and takes no lock: a starting host is not disturbed.
pub fn announced(dir: &Path) -> Option<String> {
    let mut lock = std::fs::File::open(dir.join(LOCK_FILE)).ok()?;
    read_owner(&mut lock).admin
}

impl Folder {
    /// Takes the folder, which is made if it does not exist.
    pub(crate) fn own(path: &Path) -> Result<Self, OpenError> {
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(OpenError::NotAFolder { path: path.to_owned() });
            }
            Ok(_) => refuse_foreign(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(path).map_err(|error| open_error(path, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(OpenError::NotAFolder { path: path.to_owned() });
            }
            Err(error) => return Err(open_error(path, error)),
        }
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| open_error(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = read_owner(&mut lock);
                return Err(OpenError::InUse {
                    folder: path.to_owned(),
                    pid: owner.pid,
                    admin: owner.admin,
                });
            }
            Err(TryLockError::Error(error)) => return Err(open_error(&lock_path, error)),
        }
        let mut folder = Self { path: path.to_owned(), lock };
        folder.announce(None).map_err(|error| open_error(&lock_path, error))?;
        Ok(folder)
    }

    /// Writes down who owns the folder, for a second process to tell its user.
    pub(crate) fn announce(&mut self, admin: Option<&str>) -> io::Result<()> {
        let owner = Owner { pid: Some(std::process::id()), admin: admin.map(str::to_owned) };
        let mut text = serde_json::to_vec(&owner)?;
        // Always the same length, in one write: a reader sees the old text or the new one.
        text.resize(LOCK_TEXT_BYTES.max(text.len()), b' ');
        self.lock.seek(SeekFrom::Start(0))?;
        self.lock.write_all(&text)
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the storage library works.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where the index of idempotency marks lies.
    pub(crate) fn marks(&self) -> PathBuf {
        self.path.join("marks")
    }

    /// Where the acknowledged writes are noted.
    pub(crate) fn acknowledged(&self) -> PathBuf {
        self.path.join("acknowledged")
    }

    /// What the folder is; `None` if it is to be made. What an interrupted making left is removed.
    pub(crate) fn format(&self) -> Result<Option<Format>, OpenError> {
        let path = self.path.join(FORMAT_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(open_error(&path, error)),
        };
        let other = serde_json::from_slice::<AnyVersion>(&text)
            .ok()
            .filter(|any| any.format == KIND && any.version != VERSION);
        if let Some(AnyVersion { version: found, .. }) = other {
            let (folder, known) = (self.path.clone(), VERSION);
            return Err(if found > VERSION {
                OpenError::NewerFormat { folder, found, known }
            } else {
                OpenError::OlderFormat { folder, found, known }
            });
        }
        let format: Format = serde_json::from_slice(&text)
            .map_err(|error| self.damaged(format!("the file `format` cannot be read ({error})")))?;
        if format.crc != format.checksum() || format.format != KIND || format.version != VERSION {
            return Err(self.damaged("the checksum of the file `format` does not match"));
        }
        if format.state == State::Creating {
            let store = self.store();
            match std::fs::remove_dir_all(&store) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(open_error(&store, error));
                }
                _ => return Ok(None),
            }
        }
        self.check_store(&format)?;
        Ok(Some(format))
    }

    /// Begins to make the folder.
    pub(crate) fn begin(&self, identity: &Identity) -> Result<(), OpenError> {
        self.write_format(State::Creating, identity, Vec::new())
    }

    /// The folder is made.
    pub(crate) fn ready(
        &self,
        identity: &Identity,
        keyspaces: Vec<String>,
    ) -> Result<(), OpenError> {
        self.write_format(State::Ready, identity, keyspaces)
    }

    /// An error that says the folder is damaged.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { folder: self.path.clone(), what: what.into() }
    }

    fn write_format(
        &self,
        state: State,
        identity: &Identity,
        keyspaces: Vec<String>,
    ) -> Result<(), OpenError> {
        let mut format = Format {
            format: KIND.to_owned(),
            version: VERSION,
            state,
            identity: identity.clone(),
            keyspaces,
            crc: 0,
        };
        format.crc = format.checksum();
        let path = self.path.join(FORMAT_FILE);
        let draft = self.path.join("format.new");
        let write = || {
            let mut file = File::create(&draft)?;
            serde_json::to_writer(&mut file, &format)?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            sync_folder(&self.path)
        };
        write().map_err(|error| open_error(&path, error))
    }

    // Without these files the library would take the store, or a part of it, for one that was never
    // finished, remove it and begin with an empty one.
    fn check_store(&self, format: &Format) -> Result<(), OpenError> {
        let store = self.store();
        let marker = store.join("version");
        match std::fs::read(&marker) {
            Ok(version) if version == STORE_VERSION => {}
            Ok(_) => return Err(self.damaged("the file `store/version` is not the library's")),
            Err(error) => {
                return Err(self.damaged(format!("{} cannot be read ({error})", marker.display())));
            }
        }
        for keyspace in &format.keyspaces {
            if let Some(damage) = manifest::damage(&store.join("keyspaces").join(keyspace)) {
                return Err(self.damaged(damage));
            }
        }
        Ok(())
    }
}

impl Format {
    fn checksum(&self) -> u32 {
        let Identity { cluster_id, marks_secret } = &self.identity;
        let text = format!(
            "{} {} {:?} {cluster_id} {:?} ",
            self.format, self.version, self.state, self.keyspaces
        );
        crc32fast::hash(&[text.as_bytes(), marks_secret.bytes()].concat())
    }
}

fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    if path.join(FORMAT_FILE).is_file() {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|error| open_error(path, error))?;
    for entry in entries {
        let name = entry.map_err(|error| open_error(path, error))?.file_name();
        if name != LOCK_FILE && name != "format.new" {
            return Err(OpenError::NotOurs {
                folder: path.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

fn read_owner(lock: &mut File) -> Owner {
    let mut text = String::new();
    let read = lock.take(LOCK_TEXT_BYTES as u64 * 4).read_to_string(&mut text);
    // Whoever owns it may not have written yet: then it stays unnamed.
    read.ok().and_then(|_| serde_json::from_str(text.trim()).ok()).unwrap_or_default()
}

/// Sorts what the system said by what the user can do.
pub(crate) fn open_error(path: &Path, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::NotWritable { path, error }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            OpenError::DiskFull { folder: path, error }
        }
        _ => OpenError::Io { path, error },
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems can fail")]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
