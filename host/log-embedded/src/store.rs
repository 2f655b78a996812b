//! Store: the storage library as this log uses it, opened with distrust and closed in order.
//!
//! Three keyspaces: `messages` (record batches), `state` (topics, starts, commits, the seal) and
//! `marks` (idempotency marks, an entry a write). Batches and marks of 4 KiB and more lie in blob files, which are
//! written once; what moves when tables are merged are keys and small entries. Beside them lies the index of the marks.
//!
//! What the library does when the disk fails it: the write that failed and all after it are refused
//! (it calls itself poisoned), since what is on the disk is not known any more; only opening it
//! again finds out. So a full disk is noticed before the write (`writer::space`), and what fails
//! nevertheless is fatal. Opening it again must not believe that what can be read is on the disk: what no
//! sync is known to have brought there is written again (`journal::Unsynced`).

use std::panic::AssertUnwindSafe;
use std::path::Path;

use bytes::Bytes;
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use millstream_core::log::LogError;
use millstream_mark_copy::{MarkIndex, Secret};
use tokio::sync::oneshot;

use crate::acknowledged::AcknowledgedFile;
use crate::entries::{SEAL_KEY, Seal};
use crate::folder::{Folder, Identity, open_error};
use crate::journal::{self, JournalError};
use crate::marks;
use crate::options::{EmbeddedOptions, OpenError};

const KEYSPACES: [&str; 3] = ["messages", "state", "marks"];
/// Journals beyond this make the library write tables. They are read when the log opens.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Values from here on go to blob files.
const BLOB_BYTES_MIN: u32 = 4 * 1024;
/// The library stops writers for 100 ms at 4; waiting before that keeps the pause short.
const SEALED_MEMTABLES_MAX: usize = 2;
/// The library stops writers at 30, for as long as merging takes.
const L0_RUNS_MAX: usize = 24;
/// Threads of the library that write and merge tables. With two, the first, which is kept free for writing, spins
/// for as long as the second merges and another merge is queued (fjall 3.1, `worker_tick`); with one, merging would
/// hold up writing.
const WORKERS: usize = 4;

/// The open store. Dropping the last reference closes it and gives the folder up.
pub(crate) struct Store {
    /// Record batches.
    pub(crate) messages: Keyspace,
    /// Topics, starts, commits, the seal.
    pub(crate) state: Keyspace,
    /// Idempotency marks, an entry a write.
    pub(crate) marks: Keyspace,
    /// The library's handle.
    pub(crate) db: Database,
    /// What is asked for marks.
    pub(crate) index: MarkIndex,
    write_buffer_bytes: u64,
    /// Last, so that the folder is given up when all else is closed.
    pub(crate) folder: std::sync::Mutex<Folder>,
    /// Tells that all is closed; behind the folder.
    released: Option<Released>,
}

struct Released(Option<oneshot::Sender<()>>);

impl Drop for Released {
    fn drop(&mut self) {
        if let Some(released) = self.0.take() {
            released.send(()).ok();
        }
    }
}

/// A store as it was found or made.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) acknowledged: AcknowledgedFile,
    pub(crate) cluster_id: String,
    /// The number of the last write in the store.
    pub(crate) sealed: u64,
}

impl Store {
    /// Opens the store of `folder`, or makes it.
    pub(crate) fn open(path: &Path, options: &EmbeddedOptions) -> Result<Opened, OpenError> {
        let folder = Folder::own(path)?;
        match folder.format()? {
            None => Self::create(folder, options),
            Some(format) => Self::recover(folder, &format.identity, options),
        }
    }

    fn create(folder: Folder, options: &EmbeddedOptions) -> Result<Opened, OpenError> {
        let secret = Secret::random().map_err(|error| open_error(folder.path(), error))?;
        let identity = Identity { cluster_id: new_cluster_id(), marks_secret: secret };
        folder.begin(&identity)?;
        let path = folder.acknowledged();
        let acknowledged =
            AcknowledgedFile::create(&path).map_err(|error| open_error(&path, error))?;
        let store = Self::open_library(folder, &identity, options)?;
        marks::bring_up(&store, 0, options.clock.now())?;
        let folder = crate::locks::lock(&store.folder);
        let mut keyspaces = vec!["0".to_owned()];
        for keyspace in [&store.messages, &store.state, &store.marks] {
            let name = keyspace.path().file_name().unwrap_or_default();
            keyspaces.push(name.to_string_lossy().into_owned());
        }
        folder.ready(&identity, keyspaces)?;
        drop(folder);
        Ok(Opened { store, acknowledged, cluster_id: identity.cluster_id, sealed: 0 })
    }

    fn recover(
        folder: Folder,
        identity: &Identity,
        options: &EmbeddedOptions,
    ) -> Result<Opened, OpenError> {
        let path = folder.acknowledged();
        let mut acknowledged = AcknowledgedFile::open(&path)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    folder.damaged("the file `acknowledged` is missing")
                }
                _ => open_error(&path, error),
            })?
            .ok_or_else(|| folder.damaged("the file `acknowledged` makes no sense"))?;
        let required = acknowledged.last().required();
        let synced = acknowledged.last().synced;
        let journals = journal::inspect(&folder.store(), synced).map_err(|error| match error {
            JournalError::Io { path, error } => open_error(&path, error),
            damaged @ JournalError::Damaged { .. } => folder.damaged(damaged.to_string()),
        })?;
        let mut kept = Vec::new();
        for torn in &journals.torn {
            if journals.last.is_some_and(|last| last < required) {
                return Err(folder.damaged(torn_text(torn, required)));
            }
            // Without a complete write in the journals only the tables tell whether this cut loses
            // anything, and they can be asked when the store is open: keep what is cut until then.
            if journals.last.is_none() && required > 0 {
                let copy = torn.path.with_extension("torn");
                std::fs::copy(&torn.path, &copy).map_err(|error| open_error(&copy, error))?;
                kept.push((copy, torn));
            }
            tracing::info!(
                journal = %torn.path.display(),
                at = torn.at,
                reason = %torn.damage,
                "cut off a write that was under way when the process ended"
            );
            torn.cut().map_err(|error| open_error(&torn.path, error))?;
        }
        for unsynced in &journals.unsynced {
            unsynced.write_again().map_err(|error| open_error(&unsynced.path, error))?;
        }
        let store = Self::open_library(folder, identity, options)?;
        let seal = store.seal()?;
        let written = journals.last.unwrap_or(required);
        let complete = seal >= required && journals.last.is_none_or(|last| last == seal);
        if !complete {
            let folder = store.close_for_damage();
            let mut what = format!(
                "its last write is number {seal}, though number {written} was written and \
                 {required} acknowledged"
            );
            for (copy, torn) in kept {
                std::fs::rename(copy, &torn.path).map_err(|error| open_error(&torn.path, error))?;
                what = torn_text(torn, required);
            }
            return Err(OpenError::Damaged { folder, what });
        }
        for (copy, _) in kept {
            std::fs::remove_file(&copy).map_err(|error| open_error(&copy, error))?;
        }
        if seal < acknowledged.last().written {
            tracing::warn!(
                writes = acknowledged.last().written - seal,
                "the last writes before the machine stopped had not been synced and are gone; \
                 durability \"always\" would have kept them"
            );
        }
        marks::bring_up(&store, seal, options.clock.now())?;
        acknowledged.restart_at(seal).map_err(|error| open_error(&path, error))?;
        Ok(Opened { store, acknowledged, cluster_id: identity.cluster_id.clone(), sealed: seal })
    }

    // The library's threads end with it.
    fn close_for_damage(self) -> std::path::PathBuf {
        crate::locks::lock(&self.folder).path().to_owned()
    }

    fn seal(&self) -> Result<u64, OpenError> {
        let damaged = |what: String| crate::locks::lock(&self.folder).damaged(what);
        let stored = self
            .state
            .get(SEAL_KEY)
            .map_err(|error| damaged(format!("its seal cannot be read ({error:?})")))?;
        let seal = stored.map_or(Ok(Seal { number: 0, sequence_floor: 0 }), |s| Seal::decode(&s));
        seal.map(|seal| seal.number)
            .map_err(|damage| damaged(format!("its seal makes no sense: {damage}")))
    }

    fn open_library(
        folder: Folder,
        identity: &Identity,
        options: &EmbeddedOptions,
    ) -> Result<Self, OpenError> {
        let path = folder.store();
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let db = Database::builder(&path)
                .cache_size(options.cache_bytes)
                .journal_compression(fjall::CompressionType::None)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .worker_threads(WORKERS)
                .open()?;
            let fresh = db.keyspace_count() == 0;
            let complete = KEYSPACES.iter().all(|name| db.keyspace_exists(name));
            if !fresh && !complete {
                return Err(fjall::Error::Unrecoverable);
            }
            let buffer = options.write_buffer_bytes.max(1024 * 1024);
            let [messages, state, marks] = KEYSPACES;
            let in_blobs = || {
                KeyspaceCreateOptions::default().with_kv_separation(Some(
                    KvSeparationOptions::default()
                        .separation_threshold(BLOB_BYTES_MIN)
                        .compression(fjall::CompressionType::None),
                ))
            };
            let messages = db.keyspace(messages, in_blobs)?;
            let state = db.keyspace(state, KeyspaceCreateOptions::default)?;
            let marks = db.keyspace(marks, in_blobs)?;
            Ok((db, messages, state, marks, buffer))
        }));
        match opened {
            Ok(Ok((db, messages, state, marked, write_buffer_bytes))) => {
                let index = marks::open(&folder.marks(), identity, options)?;
                let folder = std::sync::Mutex::new(folder);
                Ok(Self {
                    messages,
                    state,
                    marks: marked,
                    db,
                    index,
                    write_buffer_bytes,
                    folder,
                    released: None,
                })
            }
            Ok(Err(fjall::Error::Io(error))) if !is_damage(&error) => Err(open_error(&path, error)),
            Ok(Err(fjall::Error::Storage(fjall::LsmError::Io(error)))) if !is_damage(&error) => {
                Err(open_error(&path, error))
            }
            Ok(Err(error)) => Err(folder.damaged(format!("the storage library says {error:?}"))),
            Err(_) => Err(folder.damaged("the storage library gave up on it")),
        }
    }

    /// Tells `released` when everything is closed and the folder given up.
    pub(crate) fn with_release(mut self, released: oneshot::Sender<()>) -> Self {
        self.released = Some(Released(Some(released)));
        self
    }

    /// Starts to write the write buffers that are full to tables. The library would do so by
    /// itself, but with a size it forgets when the store is opened again.
    pub(crate) fn rotate_full_buffers(&self) -> Result<(), fjall::Error> {
        for keyspace in [&self.messages, &self.state, &self.marks] {
            if keyspace.tree.active_memtable().size() > self.write_buffer_bytes {
                keyspace.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Whether the library is so far behind with its tables that it would block the next write,
    /// where it does not notice if it never catches up.
    pub(crate) fn is_behind(&self) -> bool {
        [&self.messages, &self.state, &self.marks].iter().any(|keyspace| {
            keyspace.tree.sealed_memtable_count() > SEALED_MEMTABLES_MAX
                || keyspace.tree.l0_run_count() > L0_RUNS_MAX
        })
    }

    /// What stands under `key` of a keyspace.
    pub(crate) fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>, LogError> {
        let found = keyspace.get(key).map_err(|error| self.read_error("an entry", &error))?;
        Ok(found.map(Bytes::from))
    }

    /// What a failed read of `what` means.
    pub(crate) fn read_error(&self, what: &str, error: &fjall::Error) -> LogError {
        let path = crate::locks::lock(&self.folder).path().to_owned();
        let path = path.display();
        match error {
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io))
                if !is_damage(io) =>
            {
                LogError::Unavailable(format!(
                    "{what} of the log in {path} cannot be read ({io}): it is asked for again; \
                     check the disk and the limit on open files"
                ))
            }
            error => self.damage_error(what, &format!("{error:?}")),
        }
    }

    /// What `what` was found to be damaged means.
    pub(crate) fn damage_error(&self, what: &str, how: &str) -> LogError {
        let path = crate::locks::lock(&self.folder).path().to_owned();
        LogError::Fatal(format!(
            "{what} of the log in {path} is damaged: {how}. Nothing is skipped by itself: check \
             the disk, then restore the folder from a copy, or delete the records up to the \
             damaged ones",
            path = path.display()
        ))
    }
}

fn torn_text(torn: &journal::Torn, required: u64) -> String {
    format!(
        "{} makes no sense from byte {} on ({}), though what stood there was acknowledged (up to \
         write {required})",
        torn.path.display(),
        torn.at,
        torn.damage,
    )
}

// A file that ends early or holds nonsense will not get better.
fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
}

// Random enough to tell two logs apart; it guards no secret.
fn new_cluster_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || RandomState::new().hash_one(std::process::id());
    format!("embedded-{:016x}{:016x}", half(), half())
}
