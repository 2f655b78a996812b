//! Sweep: removes marks that have expired, and those of discarded generations. Beside everything else, on a
//! thread of its own, a step at a time.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::clock::WallClock;
use millstream_core::log::LogError;

use crate::Store;
use crate::entries::{ScopeEntry, decode_mark, scope_of};

/// Marks that are looked at before others have their turn at the disk.
pub const SWEEP_STEP: usize = 10_000;

/// From one sweep to the next.
const EVERY: Duration = Duration::from_secs(600);

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread; it ends when this is dropped or stopped.
pub(crate) struct Sweeper(Mutex<Option<SyncSender<()>>>);

impl Sweeper {
    pub(crate) fn start(store: Arc<Store>, clock: Arc<dyn WallClock>) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(1);
        let stops_within = move |time: Duration| {
            !matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
        };
        let sweep = move || {
            while !stops_within(EVERY) {
                if let Err(error) = store.sweep(clock.now(), || !stops_within(PAUSE)) {
                    tracing::warn!(%error, "expired idempotency marks were not removed; they are with the next sweep");
                }
            }
        };
        std::thread::Builder::new().name("mark-sweep".to_owned()).spawn(sweep)?;
        Ok(Self(Mutex::new(Some(stop))))
    }

    pub(crate) fn stop(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Store {
    /// `goes_on` is asked after each step.
    pub(crate) fn sweep(&self, now: i64, goes_on: impl Fn() -> bool) -> Result<(), LogError> {
        let mut scopes: HashMap<Vec<u8>, Option<ScopeEntry>> = HashMap::new();
        let mut from = Bound::Unbounded;
        loop {
            let mut last = None;
            let mut gone = Vec::new();
            for entry in self.marks.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(SWEEP_STEP) {
                let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
                if !self.counts(&key, &value, now, &mut scopes)? {
                    gone.push(key.to_vec());
                }
                last = Some(key.to_vec());
            }
            let Some(last) = last else { return Ok(()) };
            from = Bound::Excluded(last);
            self.remove(gone, now)?;
            if !goes_on() {
                return Ok(());
            }
        }
    }

    fn counts(
        &self,
        key: &[u8],
        value: &[u8],
        now: i64,
        scopes: &mut HashMap<Vec<u8>, Option<ScopeEntry>>,
    ) -> Result<bool, LogError> {
        let (Some((scope, generation)), Some(marked)) = (scope_of(key), decode_mark(value)) else {
            return Ok(false);
        };
        if !scopes.contains_key(scope) {
            let stored = self.scopes.get(scope).map_err(|error| self.failed(&error))?;
            scopes.insert(scope.to_vec(), stored.and_then(|stored| ScopeEntry::decode(&stored)));
        }
        // A scope without an entry was never discarded.
        let current = scopes.get(scope).copied().flatten().unwrap_or_default().generation;
        // A later one was begun after the sweep.
        Ok(generation >= current && marked.expires > now)
    }

    /// Removes them unless they were written anew meanwhile.
    fn remove(&self, keys: Vec<Vec<u8>>, now: i64) -> Result<(), LogError> {
        for key in keys {
            let _writing = self.writing();
            let stands = self.marks.get(&key).map_err(|error| self.failed(&error))?;
            let live =
                stands.and_then(|value| decode_mark(&value)).is_some_and(|m| m.expires > now);
            let current = scope_of(&key).is_some_and(|(scope, generation)| {
                let entry = self.scopes.get(scope).ok().flatten();
                let entry = entry.and_then(|entry| ScopeEntry::decode(&entry)).unwrap_or_default();
                generation >= entry.generation
            });
            if !(live && current) {
                self.marks.remove(key).map_err(|error| self.failed(&error))?;
            }
        }
        Ok(())
    }
}
