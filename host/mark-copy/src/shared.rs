//! Shared: what an index' callers and its thread have in common.
//!
//! Invariants: locks are taken in the order of the fields of [`Shared`]. Buffers, full ones and runs change together
//! under one lock, so a mark is in one of them whenever somebody looks.

use std::collections::BTreeMap;
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
    RwLockWriteGuard,
};

use millstream_core::message::Offset;

use crate::background::Signal;
use crate::digest::Secret;
use crate::entry::ScopeNumber;
use crate::folder::Folder;
use crate::index::{IndexOptions, RUNS_MAX, SEALED_MAX};
use crate::manifest::{Manifest, ScopeEntry, ScopeName};
use crate::run::Run;
use crate::table::Table;
use crate::trouble::{IndexError, Trouble};

/// What callers and the thread have in common. Locks are taken in the order of the fields.
pub(crate) struct Shared {
    pub(crate) folder: Folder,
    pub(crate) options: IndexOptions,
    pub(crate) secret: Secret,
    /// As it is on the disk.
    pub(crate) manifest: Mutex<Manifest>,
    scopes: RwLock<Scopes>,
    pub(crate) signal: Mutex<Signal>,
    pub(crate) state: RwLock<State>,
    pub(crate) changed: Condvar,
    /// Set once, when a run was found to be damaged.
    damaged: OnceLock<String>,
}

/// What is known of scopes now; the manifest has it as of the newest run.
struct Scopes {
    known: BTreeMap<ScopeName, ScopeEntry>,
    next: ScopeNumber,
}

/// Marks and where they are.
pub(crate) struct State {
    pub(crate) buffer: Table,
    /// Checkpoints that were set since the buffer was begun.
    pub(crate) checkpoints: BTreeMap<ScopeName, ScopeEntry>,
    /// The oldest first.
    pub(crate) sealed: Vec<Arc<Sealed>>,
    /// The newest first.
    pub(crate) runs: Arc<Vec<Arc<Run>>>,
    /// A buffer to begin with.
    pub(crate) spare: Option<Table>,
}

/// A buffer that is full.
pub(crate) struct Sealed {
    pub(crate) table: Table,
    pub(crate) checkpoints: BTreeMap<ScopeName, ScopeEntry>,
}

impl State {
    pub(crate) fn has_room(&self, marks: usize, buffer_marks: usize) -> bool {
        let fits = self.buffer.len().saturating_add(marks) <= buffer_marks;
        let may_seal = self.sealed.len() < SEALED_MAX && self.runs.len() < RUNS_MAX;
        fits || may_seal || self.buffer.is_empty()
    }

    /// Begins a new buffer.
    pub(crate) fn seal(&mut self, buffer_marks: usize) {
        let fresh = self.spare.take().unwrap_or_else(|| Table::with_room_for(buffer_marks));
        let table = std::mem::replace(&mut self.buffer, fresh);
        let checkpoints = std::mem::take(&mut self.checkpoints);
        self.sealed.push(Arc::new(Sealed { table, checkpoints }));
    }
}

impl Scopes {
    /// What is known of a scope; one that is new gets a number.
    fn entry(&mut self, name: &ScopeName) -> ScopeEntry {
        if let Some(entry) = self.known.get(name) {
            return *entry;
        }
        let entry = ScopeEntry { number: self.next, checkpoint: None };
        self.next = self.next.saturating_add(1);
        self.known.insert(name.clone(), entry);
        entry
    }
}

impl Shared {
    /// Of an index that lies in a folder.
    pub(crate) fn new(
        folder: Folder,
        options: IndexOptions,
        manifest: Manifest,
        runs: Vec<Arc<Run>>,
    ) -> Self {
        let state = State {
            // Most commands put nothing: it gets its room with the first mark.
            buffer: Table::with_room_for(0),
            checkpoints: BTreeMap::new(),
            sealed: Vec::new(),
            runs: Arc::new(runs),
            spare: None,
        };
        let scopes = Scopes { known: manifest.scopes.clone(), next: manifest.next_scope };
        Self {
            folder,
            options,
            secret: manifest.secret.clone(),
            manifest: Mutex::new(manifest),
            scopes: RwLock::new(scopes),
            signal: Mutex::default(),
            state: RwLock::new(state),
            changed: Condvar::new(),
            damaged: OnceLock::new(),
        }
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn scopes(&self) -> RwLockReadGuard<'_, Scopes> {
        self.scopes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn scopes_mut(&self) -> RwLockWriteGuard<'_, Scopes> {
        self.scopes.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checkpoint(&self, name: &ScopeName) -> Option<Offset> {
        self.scopes().known.get(name)?.checkpoint
    }

    pub(crate) fn all_scopes(&self) -> Vec<ScopeName> {
        self.scopes().known.keys().cloned().collect()
    }

    pub(crate) fn known_scope(&self, name: &ScopeName) -> Option<ScopeNumber> {
        self.scopes().known.get(name).map(|entry| entry.number)
    }

    pub(crate) fn scope(&self, name: &ScopeName) -> ScopeEntry {
        self.scopes_mut().entry(name)
    }

    pub(crate) fn discard(&self, names: Vec<ScopeName>) -> Result<(), IndexError> {
        let mut manifest = lock(&self.manifest);
        let mut changed = manifest.clone();
        let mut scopes = self.scopes_mut();
        for name in names {
            scopes.known.remove(&name);
            let entry = scopes.entry(&name);
            // One that the disk knows nothing of is a new one after the next start in any case.
            if let Some(on_disk) = changed.scopes.get_mut(&name) {
                *on_disk = entry;
            }
        }
        changed.next_scope = changed.next_scope.max(scopes.next);
        drop(scopes);
        if changed.scopes != manifest.scopes {
            self.write_manifest(&changed).map_err(|trouble| self.troubled(&trouble))?;
            *manifest = changed;
        }
        Ok(())
    }

    pub(crate) fn set_checkpoint(&self, name: ScopeName, at: Offset) -> (ScopeName, ScopeEntry) {
        let mut scopes = self.scopes_mut();
        let entry = ScopeEntry { checkpoint: Some(at), ..scopes.entry(&name) };
        scopes.known.insert(name.clone(), entry);
        (name, entry)
    }

    /// The scopes as the manifest is to have them when these checkpoints are in it: with the numbers of now and the
    /// checkpoints of then.
    pub(crate) fn scopes_for(
        &self,
        manifest: &mut Manifest,
        checkpoints: &BTreeMap<ScopeName, ScopeEntry>,
    ) {
        let scopes = self.scopes();
        let on_disk = std::mem::take(&mut manifest.scopes);
        for (name, now) in &scopes.known {
            let of_now = |entry: &&ScopeEntry| entry.number == now.number;
            let before = on_disk.get(name).filter(of_now).and_then(|entry| entry.checkpoint);
            let set = checkpoints.get(name).filter(of_now).and_then(|entry| entry.checkpoint);
            let checkpoint = set.or(before);
            let entry = ScopeEntry { number: now.number, checkpoint };
            manifest.scopes.insert(name.clone(), entry);
        }
        manifest.next_scope = manifest.next_scope.max(scopes.next);
    }

    /// The numbers of the scopes that are not discarded, ascending.
    pub(crate) fn live_scopes(&self) -> Vec<ScopeNumber> {
        let scopes = self.scopes();
        let mut live: Vec<_> = scopes.known.values().map(|entry| entry.number).collect();
        live.sort_unstable();
        live
    }

    /// Who waits for something looks again.
    pub(crate) fn changed(&self) {
        // Taken, so that nobody is between looking and waiting.
        drop(lock(&self.signal));
        self.changed.notify_all();
    }

    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<(), Trouble> {
        let path = self.folder.manifest();
        if let Some(what) = self.damaged.get() {
            return Err(Trouble::damage(&path, what.clone()));
        }
        let bytes = manifest.encode().map_err(|error| Trouble::damage(&path, error.to_string()))?;
        self.folder.write(&path, &bytes)
    }

    /// What trouble with a file means for who asked.
    pub(crate) fn troubled(&self, trouble: &Trouble) -> IndexError {
        match trouble {
            Trouble::Io { .. } => IndexError::Unavailable(format!(
                "the index of idempotency marks: {trouble}; it is asked again; check the disk and the limit on open files"
            )),
            Trouble::Damage { .. } => {
                let what = self.damaged.get_or_init(|| trouble.to_string());
                // Whoever opens it next must not believe it. If it stays the same damage is found again.
                std::fs::remove_file(self.folder.manifest()).ok();
                self.is_damaged(what)
            }
        }
    }

    /// Why nothing is written, if so.
    pub(crate) fn refusal(&self, signal: &Signal) -> Option<IndexError> {
        let folder = self.folder.path().display();
        if let Some(what) = self.damaged.get() {
            return Some(self.is_damaged(what));
        }
        if let Some(why) = &signal.failing {
            return Some(IndexError::Unavailable(format!(
                "the index of idempotency marks in {folder} cannot be written ({why}): no more marks are taken until it can; it is tried again by itself"
            )));
        }
        let text = format!("the index of idempotency marks in {folder} was closed");
        signal.stopping.then_some(IndexError::Unavailable(text))
    }

    fn is_damaged(&self, what: &str) -> IndexError {
        IndexError::Damaged(format!(
            "the index of idempotency marks in {} is damaged ({what}): check the disk, and start again: it is then restored from the log, nothing is lost",
            self.folder.path().display()
        ))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
