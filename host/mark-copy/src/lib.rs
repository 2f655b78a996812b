//! Mark copy: a host's copy of the idempotency marks that lie in a topic, on disk.
//!
//! Below `dedupe`, on logs that keep nothing but messages. What it is asked for is answered from memory and
//! the disk, never by the log; it may be lost at any time, and a damaged one is thrown away by whoever opens it.
//!
//! ```text
//! keyspace `scopes`: scope                    ──▶ generation, checkpoint
//! keyspace `marks`:  scope, generation, key   ──▶ turn, expiry
//! ```
//!
//! Invariants:
//! - marks and the checkpoint that covers them are one write; nothing is synced, so after a power cut the end may be
//!   missing, but never a mark below the checkpoint;
//! - discarding a scope begins a new generation, so no mark of the old one is ever seen again, however far its
//!   removal has come;
//! - memory is bounded by the caches, whatever the number of keys.
//!
//! Limit: a sweep looks at [`SWEEP_STEP`] marks at a time.

mod entries;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod sweep;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use millstream_core::clock::WallClock;
use millstream_core::idempotency::{MarkCopy, Marked, Scope};
use millstream_core::log::LogError;
use millstream_core::message::Offset;

use entries::ScopeEntry;
pub use sweep::SWEEP_STEP;

/// Blocks in memory.
const CACHE_BYTES: u64 = 32 << 20;
/// Writes in memory, in each of two buffers as a rule.
const BUFFER_BYTES: u64 = 16 << 20;
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Threads of the library. With two, one of them spins while the other merges tables (fjall 3.1, `worker_tick`).
const WORKERS: usize = 4;

/// Why a copy cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the copy of idempotency marks in {folder} cannot be opened: {reason}; check the disk and the folder's rights, or remove the folder: it is restored from the cluster", folder = folder.display())]
pub struct OpenError {
    folder: PathBuf,
    reason: String,
}

struct Store {
    db: Database,
    scopes: Keyspace,
    marks: Keyspace,
    folder: PathBuf,
    /// Held while something is written, so that no generation comes back and the sweep removes nothing that was
    /// written anew.
    writing: Mutex<()>,
    /// What stands in `scopes`, as far as it was asked for.
    known: Mutex<HashMap<Scope, ScopeEntry>>,
}

/// See the module.
pub struct DiskCopy {
    store: Arc<Store>,
    sweeper: sweep::Sweeper,
}

impl DiskCopy {
    /// Opens the copy in `folder`, which is this process' alone, or makes it. One that is damaged is made anew.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(folder: &Path, clock: Arc<dyn WallClock>) -> Result<Self, OpenError> {
        let error = |reason: String| OpenError { folder: folder.to_owned(), reason };
        let store = match open(folder) {
            Ok(store) => store,
            Err(Unopened { reason, damaged: false }) => return Err(error(reason)),
            Err(Unopened { reason, damaged: true }) => {
                tracing::warn!(folder = %folder.display(), reason, "the copy of idempotency marks is unusable: it is made anew and restored from the cluster");
                match std::fs::remove_dir_all(folder) {
                    Err(gone) if gone.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error(format!("{reason}, nor removed: {gone}")));
                    }
                    _ => open(folder).map_err(|unopened| error(unopened.reason))?,
                }
            }
        };
        let store = Arc::new(store);
        let sweeper = sweep::Sweeper::start(Arc::clone(&store), clock)
            .map_err(|cause| error(format!("no thread: {cause}")))?;
        Ok(Self { store, sweeper })
    }

    /// Removes marks that have expired by `now`, epoch milliseconds, or were discarded; the sweeper does it by itself.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sweep(&self, now: i64) -> Result<(), LogError> {
        self.store.sweep(now, || true)
    }

    /// Ends the sweeper; what is under way ends by itself.
    pub fn close(&self) {
        self.sweeper.stop();
    }
}

/// Why a copy did not open, and whether it is to blame itself.
struct Unopened {
    reason: String,
    damaged: bool,
}

fn open(folder: &Path) -> Result<Store, Unopened> {
    // The library panics on some damage.
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| -> Result<Store, fjall::Error> {
        let db = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(BUFFER_BYTES);
        let (scopes, marks) = (db.keyspace("scopes", options)?, db.keyspace("marks", options)?);
        Ok(Store {
            db,
            scopes,
            marks,
            folder: folder.to_owned(),
            writing: Mutex::default(),
            known: Mutex::default(),
        })
    }));
    match opened {
        Ok(opened) => opened.map_err(|error| Unopened {
            reason: format!("{error:?}"),
            damaged: !matches!(error, fjall::Error::Locked) && !is_passing(&error),
        }),
        Err(_) => {
            Err(Unopened { reason: "the storage library gave up on it".to_owned(), damaged: true })
        }
    }
}

/// The disk or the system refused: what lies there may be fine.
fn is_passing(error: &fjall::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, Other, UnexpectedEof};
    let (fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io))) = error else {
        return false;
    };
    !matches!(io.kind(), InvalidData | InvalidInput | NotFound | Other | UnexpectedEof)
}

impl Store {
    fn failed(&self, error: &fjall::Error) -> LogError {
        LogError::Unavailable(format!(
            "the copy of idempotency marks in {}: {error:?}; check the disk",
            self.folder.display()
        ))
    }

    fn scope(&self, scope: &Scope) -> Result<ScopeEntry, LogError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known().get(scope) {
            return Ok(*entry);
        }
        let stored = self.scopes.get(entries::scope_key(scope)).map_err(|e| self.failed(&e))?;
        let entry = stored.and_then(|stored| ScopeEntry::decode(&stored)).unwrap_or_default();
        known().insert(scope.clone(), entry);
        Ok(entry)
    }

    fn get(&self, scope: &Scope, keys: &[Bytes]) -> Result<Vec<Option<Marked>>, LogError> {
        let generation = self.scope(scope)?.generation;
        let mut place = entries::mark_prefix(scope, generation);
        let prefix = place.len();
        let get = |key: &Bytes| {
            place.truncate(prefix);
            place.extend_from_slice(key);
            let found = self.marks.get(&place).map_err(|error| self.failed(&error))?;
            // One that makes no sense is as good as none: whoever wrote it is not this program.
            Ok(found.and_then(|found| entries::decode_mark(&found)))
        };
        keys.iter().map(get).collect()
    }

    fn put(
        &self,
        scope: &Scope,
        marks: Vec<(Bytes, Marked)>,
        checkpoint: Option<Offset>,
    ) -> Result<(), LogError> {
        // From reading the scope's entry on: it may be discarded meanwhile.
        let _writing = self.writing();
        let mut entry = self.scope(scope)?;
        let mut place = entries::mark_prefix(scope, entry.generation);
        let prefix = place.len();
        let mut batch = self.db.batch();
        for (key, marked) in marks {
            place.truncate(prefix);
            place.extend_from_slice(&key);
            batch.insert(&self.marks, place.as_slice(), entries::encode_mark(marked));
        }
        if checkpoint.is_some() {
            entry.checkpoint = checkpoint;
            batch.insert(&self.scopes, entries::scope_key(scope), entry.encode());
        }
        batch.commit().map_err(|error| self.failed(&error))?;
        if checkpoint.is_some() {
            self.know(scope, entry);
        }
        Ok(())
    }

    fn discard(&self, scope: &Scope) -> Result<(), LogError> {
        let _writing = self.writing();
        let generation = self.scope(scope)?.generation.wrapping_add(1);
        let entry = ScopeEntry { generation, checkpoint: None };
        let insert = self.scopes.insert(entries::scope_key(scope), entry.encode());
        insert.map_err(|error| self.failed(&error))?;
        self.know(scope, entry);
        Ok(())
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, scope: &Scope, entry: ScopeEntry) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.clone(), entry);
    }
}

impl DiskCopy {
    /// Where it may wait for the disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || call(&store)).await;
        done.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl MarkCopy for DiskCopy {
    async fn checkpoint(&self, scope: &Scope) -> Result<Option<Offset>, LogError> {
        let scope = scope.clone();
        self.on_disk(move |store| Ok(store.scope(&scope)?.checkpoint)).await
    }

    async fn get(&self, scope: &Scope, keys: &[Bytes]) -> Result<Vec<Option<Marked>>, LogError> {
        let (scope, keys) = (scope.clone(), keys.to_vec());
        self.on_disk(move |store| store.get(&scope, &keys)).await
    }

    async fn put(
        &self,
        scope: &Scope,
        marks: Vec<(Bytes, Marked)>,
        checkpoint: Option<Offset>,
    ) -> Result<(), LogError> {
        let scope = scope.clone();
        self.on_disk(move |store| store.put(&scope, marks, checkpoint)).await
    }

    async fn discard(&self, scope: &Scope) -> Result<(), LogError> {
        let scope = scope.clone();
        self.on_disk(move |store| store.discard(&scope)).await
    }
}

#[cfg(test)]
mod tests;
