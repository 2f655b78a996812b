//! Index: idempotency marks by digest, in memory and in sorted runs on the disk.
//!
//! ```text
//! put ──▶ buffer ──▶ sealed buffers ──▶ runs of level 0 ──▶ runs of level 1 ──▶ …
//!                    (a full buffer)    (written)           (each of eight merged)
//! ```
//!
//! What is put is in memory; a thread of the index (`background`) writes full buffers as sorted runs and merges those. A
//! question looks into the buffers, then into the runs, the newest first, most of which their filters answer for.
//!
//! Invariants:
//! - an index is a cache of marks that lie in a log, and keeps no journal. A checkpoint that is read after opening covers
//!   what was put before it was set, and nothing put after it is in the runs without a later one: what one `put` brings
//!   and its checkpoint are in one buffer, and buffers become runs in order;
//! - marks are found by whoever asks after `put` has returned;
//! - a discarded scope gets a new number, and marks of another number than its scope has now are nobody's, so no mark of the old
//!   one is ever found again; that is on the disk before `discard` returns;
//! - whatever is wrong with the folder when it is opened, it is thrown away. What is wrong with a run that is open
//!   (`Damaged`) is never passed over: the manifest is removed, and who opens the index again finds none.
//!
//! Bounds: [`IndexOptions::buffer_marks`] marks a buffer and [`SEALED_MAX`] full ones; [`RUNS_MAX`] runs; the filters have
//! [`IndexOptions::filter_bytes_max`]. Who puts more than the thread can write waits ([`MarkIndex::wait_for_room`]).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use millstream_core::clock::WallClock;
use millstream_core::idempotency::Scope;
use millstream_core::message::Offset;

use crate::asking::{Batch, Place};
use crate::background;
use crate::digest::Secret;
use crate::folder::Folder;
use crate::manifest::{Manifest, RunEntry, ScopeName};
use crate::run::Run;
use crate::shared::{Shared, lock};
use crate::table::Table;
use crate::trouble::{IndexError, OpenError, Trouble};

/// Full buffers that wait for the disk.
pub const SEALED_MAX: usize = 2;
/// Runs, beyond which nothing is taken until some were merged.
pub const RUNS_MAX: usize = 64;

/// How an index is opened.
#[derive(Clone)]
pub struct IndexOptions {
    /// Of which log the marks are: an index of another one is thrown away.
    pub identity: String,
    /// What digests are made with, if the log has digests: an index with others is thrown away. Else the index makes one.
    pub secret: Option<Secret>,
    /// The time of day, for expiry.
    pub clock: Arc<dyn WallClock>,
    /// Marks of a buffer: 66 to 130 bytes each. As many again wait for the disk twice over. A larger put makes a larger buffer.
    pub buffer_marks: usize,
    /// Memory for all filters, in bytes; while runs are merged theirs come on top. They take 4 bytes a mark while it lasts;
    /// a new one takes half of what is left at most, so beyond it more questions are read for.
    pub filter_bytes_max: u64,
    /// Nothing is merged that would leave less space than this on the disk. Buffers are written down to half of it.
    pub reserve_bytes: u64,
}

impl IndexOptions {
    /// What fits most: 32 MiB for buffers, and filters that suffice for ten million marks and more.
    pub fn new(identity: impl Into<String>, clock: Arc<dyn WallClock>) -> Self {
        Self {
            identity: identity.into(),
            secret: None,
            clock,
            buffer_marks: 160_000,
            filter_bytes_max: 64 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}

/// See the module. Dropping it closes it.
pub struct MarkIndex {
    pub(crate) shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MarkIndex {
    /// Opens the index in `folder`, or makes it. Whatever lies there that is no index of this log is removed.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(folder: &Path, options: IndexOptions) -> Result<Self, OpenError> {
        let failed = |error| OpenError { folder: folder.to_owned(), error };
        let owned = Folder::own(folder).map_err(failed)?;
        let (manifest, runs) = match load(&owned, &options) {
            Ok(Some(found)) => found,
            Ok(None) => (begin(&owned, &options).map_err(failed)?, Vec::new()),
            Err(Trouble::Io { error, .. }) => return Err(failed(error)),
            Err(damage @ Trouble::Damage { .. }) => {
                tracing::warn!(folder = %folder.display(), reason = %damage, "the index of idempotency marks is unusable: it is made anew and restored from the log");
                (begin(&owned, &options).map_err(failed)?, Vec::new())
            }
        };
        let mut kept: Vec<_> = runs.iter().map(|run: &Arc<Run>| run.path().to_owned()).collect();
        kept.push(owned.manifest());
        owned.remove_all_but(&kept).map_err(failed)?;
        let shared = Arc::new(Shared::new(owned, options, manifest, runs));
        let thread = background::start(Arc::clone(&shared)).map_err(failed)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Up to where the log is in the index, by what was said with [`MarkIndex::put`].
    pub fn checkpoint(&self, scope: &Scope) -> Option<Offset> {
        self.shared.checkpoint(&scope.into())
    }

    /// Where the keys of a scope are.
    pub fn place(&self, scope: &Scope) -> Place {
        let name = ScopeName::from(scope);
        Place::new(self.shared.scope(&name).number, self.shared.secret.of_scope(&name))
    }

    /// Whether so many marks can be put now.
    pub fn has_room(&self, marks: usize) -> bool {
        self.shared.state().has_room(marks, self.shared.options.buffer_marks)
    }

    /// Waits until so many marks can be put. Blocks.
    ///
    /// # Errors
    /// When the index cannot be written: there is room when it can.
    pub fn wait_for_room(&self, marks: usize) -> Result<(), IndexError> {
        if self.has_room(marks) {
            return Ok(());
        }
        let shared = &*self.shared;
        let mut signal = lock(&shared.signal);
        loop {
            if shared.state().has_room(marks, shared.options.buffer_marks) {
                return Ok(());
            }
            if let Some(refusal) = shared.refusal(&signal) {
                return Err(refusal);
            }
            signal = shared.changed.wait(signal).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes marks and a checkpoint, at once. Never waits: who has not seen to it that there is room makes the buffer grow.
    pub fn put(&self, batch: Batch, checkpoint: Option<(&Scope, Offset)>) {
        let shared = &*self.shared;
        let checkpoint = checkpoint.map(|(scope, at)| shared.set_checkpoint(scope.into(), at));
        let mut state = shared.state_mut();
        let marks = shared.options.buffer_marks;
        let full = state.buffer.len().saturating_add(batch.len()) > marks;
        let seals = full && !state.buffer.is_empty() && state.sealed.len() < SEALED_MAX;
        if seals {
            state.seal(marks);
        }
        if !batch.is_empty() && state.buffer.is_empty() && state.buffer.room() < marks {
            state.buffer = Table::with_room_for(marks);
        }
        state.buffer.insert_all(batch.entries());
        state.checkpoints.extend(checkpoint);
        drop(state);
        if seals {
            shared.changed();
        }
    }

    /// Forgets everything about a scope. Blocks while that is written down.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn discard(&self, scope: &Scope) -> Result<(), IndexError> {
        self.shared.discard(vec![ScopeName::from(scope)])
    }

    /// Forgets everything. Blocks while that is written down.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn discard_all(&self) -> Result<(), IndexError> {
        self.shared.discard(self.shared.all_scopes())
    }

    /// Writes what is in memory. Blocks.
    ///
    /// # Errors
    /// When the disk fails; it stays in memory, and is tried again.
    pub fn flush(&self) -> Result<(), IndexError> {
        let shared = &*self.shared;
        let mut signal = lock(&shared.signal);
        loop {
            {
                let mut state = shared.state_mut();
                let unwritten = !state.buffer.is_empty() || !state.checkpoints.is_empty();
                if !unwritten && state.sealed.is_empty() {
                    return Ok(());
                }
                if unwritten && state.sealed.len() < SEALED_MAX {
                    state.seal(shared.options.buffer_marks);
                }
            }
            shared.changed.notify_all();
            if let Some(refusal) = shared.refusal(&signal) {
                return Err(refusal);
            }
            signal = shared.changed.wait(signal).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back the space of marks that have expired, as far as that is worth it: runs of which all have, and those of which
    /// most have. The thread does it by itself now and then. Blocks.
    pub fn sweep(&self) {
        let shared = &*self.shared;
        let mut signal = lock(&shared.signal);
        signal.sweeps_asked += 1;
        let asked = signal.sweeps_asked;
        shared.changed.notify_all();
        while signal.sweeps_done < asked && signal.failing.is_none() && !signal.ended {
            signal = shared.changed.wait(signal).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The bytes of the runs on the disk.
    pub fn size_bytes(&self) -> u64 {
        self.shared.state().runs.iter().map(|run| run.file_bytes()).sum()
    }

    /// Writes what is in memory, and ends the thread. Blocks. What could not be written is restored from the log.
    pub fn close(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the newest idempotency marks are restored from the log at the next start");
        }
        lock(&self.shared.signal).stopping = true;
        self.shared.changed.notify_all();
        // One that panicked has said so.
        thread.join().ok();
    }
}

impl Drop for MarkIndex {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
impl MarkIndex {
    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        self.shared.state().runs.to_vec()
    }
}

/// What a manifest names, open.
type Loaded = (Manifest, Vec<Arc<Run>>);

/// The index that lies in a folder, if one does.
fn load(folder: &Folder, options: &IndexOptions) -> Result<Option<Loaded>, Trouble> {
    let path = folder.manifest();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Trouble::of(&path, error)),
    };
    let manifest = Manifest::decode(&bytes).map_err(|what| Trouble::damage(&path, what))?;
    if manifest.identity != options.identity {
        let what = format!("it is of the log {}, not of {}", manifest.identity, options.identity);
        return Err(Trouble::damage(&path, what));
    }
    if options.secret.as_ref().is_some_and(|secret| *secret != manifest.secret) {
        return Err(Trouble::damage(&path, "its digests are made with another secret"));
    }
    let open = |entry: &RunEntry| Ok(Arc::new(Run::open(&folder.run(entry.number), entry.number)?));
    let runs = manifest.runs.iter().map(open).collect::<Result<_, Trouble>>()?;
    Ok(Some((manifest, runs)))
}

fn begin(folder: &Folder, options: &IndexOptions) -> std::io::Result<Manifest> {
    folder.remove_all_but(&[])?;
    let secret = options.secret.clone().map_or_else(Secret::random, Ok)?;
    let manifest = Manifest::new(&options.identity, secret);
    let written = folder.write(&folder.manifest(), &manifest.encode()?);
    written.map(|()| manifest).map_err(|trouble| match trouble {
        Trouble::Io { error, .. } => error,
        damage @ Trouble::Damage { .. } => std::io::Error::other(damage),
    })
}

#[cfg(test)]
mod tests;
