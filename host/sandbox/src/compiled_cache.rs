//! Compiled code, cached: one file per component, engine and settings.
//!
//! A Python plugin takes seconds to compile and milliseconds to load. Compiled code is run as it is,
//! so the folder must be its owner's alone (0700), an entry must be its owner's file, and its
//! checksum must hold; anything else is rebuilt or refused, never trusted.
//! Limit: [`ENTRIES_MAX`] entries; the oldest go first.

mod deserialise;

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash as _, Hasher};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// How many entries are kept.
const ENTRIES_MAX: usize = 64;

/// The largest entry read: compiled code is some times the size of its component.
const ENTRY_BYTES_MAX: u64 = 2 << 30;

/// Begins each entry; its number changes with the layout: magic, checksum, code.
const MAGIC: &[u8; 16] = b"millstream-aot-1";

const CHECKSUM_BYTES: usize = 32;

/// The bits of a mode by which group or others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The folder of compiled code is not safe, or not usable.
#[derive(Debug, thiserror::Error)]
#[error("the folder of compiled plugins {folder} {reason}")]
pub struct CacheError {
    folder: String,
    reason: String,
}

/// A folder of compiled code.
pub(crate) struct CompiledCache {
    folder: PathBuf,
}

/// Why an entry was not used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// There is none.
    Absent,
    /// There is one that must not be used.
    Damaged(String),
}

impl CompiledCache {
    /// Opens the folder, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read, or someone else could write into it.
    pub(crate) fn open(folder: &Path) -> Result<Self, CacheError> {
        let cache = Self { folder: folder.to_owned() };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| cache.error(format!("cannot be made: {error}")))?;
        cache.check_folder()?;
        Ok(cache)
    }

    /// Whether only its owner, who is this process's user, can write into the folder.
    pub(crate) fn check_folder(&self) -> Result<(), CacheError> {
        // Not following links: the link itself would be what others can replace.
        let metadata = fs::symlink_metadata(&self.folder)
            .map_err(|error| self.error(format!("cannot be read: {error}")))?;
        if !metadata.is_dir() {
            return Err(self.error("is not a folder: name another, or remove it".to_owned()));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(self.error(format!(
                "has mode {:03o}, so others could plant code in it: run `chmod 700` on it after \
                 emptying it",
                metadata.mode() & 0o777
            )));
        }
        // The owner of a file made here is the user of this process.
        let probe = tempfile::NamedTempFile::new_in(&self.folder)
            .and_then(|probe| probe.as_file().metadata())
            .map_err(|error| self.error(format!("cannot be written: {error}")))?;
        if probe.uid() != metadata.uid() {
            return Err(self.error(format!(
                "belongs to user {}, this process runs as user {}: name a folder of its own",
                metadata.uid(),
                probe.uid()
            )));
        }
        Ok(())
    }

    /// The compiled component, if there is a sound entry.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Result<Component, Miss> {
        let entry = self.entry(engine, digest);
        let code = read_entry(&entry)?;
        deserialise::component(engine, &code).map_err(|error| Miss::Damaged(format!("{error:#}")))
    }

    /// Keeps a compiled component; readers see the whole entry or none.
    pub(crate) fn store(
        &self,
        engine: &Engine,
        digest: &str,
        component: &Component,
    ) -> Result<(), CacheError> {
        let code = component.serialize().map_err(|error| self.error(format!("{error:#}")))?;
        self.write_entry(&self.entry(engine, digest), &code)
            .map_err(|error| self.error(format!("cannot be written: {error}")))?;
        self.remove_oldest();
        Ok(())
    }

    /// The file of a component: its digest, and a digest of everything that compiling depends on.
    fn entry(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = format!("{:x}", hasher.0.finalize());
        let component = digest.trim_start_matches("sha256:");
        let settings = settings.get(..16).unwrap_or(&settings);
        self.folder.join(format!("{component}-{settings}.compiled"))
    }

    fn write_entry(&self, entry: &Path, code: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.flush()?;
        file.persist(entry)?;
        Ok(())
    }

    /// Keeps the newest entries. What cannot be listed or removed is left for the next time.
    fn remove_oldest(&self) {
        let Ok(listing) = fs::read_dir(&self.folder) else { return };
        let mut entries: Vec<_> = listing
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let written = fs::symlink_metadata(&path).ok()?.modified().ok()?;
                path.extension().is_some_and(|e| e == "compiled").then_some((written, path))
            })
            .collect();
        entries.sort_unstable();
        let surplus = entries.len().saturating_sub(ENTRIES_MAX);
        for (_, path) in entries.into_iter().take(surplus) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "compiled plugin was not removed");
            }
        }
    }

    fn error(&self, reason: String) -> CacheError {
        CacheError { folder: self.folder.display().to_string(), reason }
    }
}

/// The code of an entry whose owner, mode, length and checksum are right.
fn read_entry(path: &Path) -> Result<Vec<u8>, Miss> {
    let damaged = |why: &dyn std::fmt::Display| Miss::Damaged(why.to_string());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Miss::Absent),
        Err(error) => return Err(damaged(&error)),
    };
    check_file(path, &file)?;
    let mut bytes = Vec::new();
    file.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    let rest =
        bytes.strip_prefix(MAGIC).ok_or_else(|| damaged(&"it is no entry of this version"))?;
    let (checksum, code) =
        rest.split_at_checked(CHECKSUM_BYTES).ok_or_else(|| damaged(&"it is cut short"))?;
    if Sha256::digest(code).as_slice() != checksum {
        return Err(damaged(&"its checksum does not hold"));
    }
    Ok(code.to_vec())
}

/// The opened file itself is asked, not its path: the folder may be moved between two looks at it.
fn check_file(path: &Path, file: &File) -> Result<(), Miss> {
    let error = |error: std::io::Error| Miss::Damaged(error.to_string());
    let metadata = file.metadata().map_err(error)?;
    let folder = fs::metadata(path.parent().unwrap_or(path)).map_err(error)?;
    let entry = fs::symlink_metadata(path).map_err(error)?;
    let same = (entry.dev(), entry.ino()) == (metadata.dev(), metadata.ino());
    if !entry.is_file() || !same {
        return Err(Miss::Damaged("it is a link or was replaced meanwhile".to_owned()));
    }
    if metadata.uid() != folder.uid() || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(Miss::Damaged("others could have written it".to_owned()));
    }
    Ok(())
}

/// Feeds what is hashed to SHA-256: file names must not depend on a process's random keys.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Asked for by nobody here; the whole digest is taken instead.
        0
    }
}
