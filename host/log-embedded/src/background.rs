//! Background: the threads that sync by the clock and sweep by the clock.
//!
//! Both stop at once when the log closes. Neither holds the store while it waits.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::locks::lock;
use crate::shared::Shared;
use crate::sweep::{MARKS_PER_ROUND, MarksCursor, sweep_marks, sweep_topics};

/// Tells threads to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// All who wait here end.
    pub(crate) fn stop(&self) {
        *lock(&self.stopped) = true;
        self.changed.notify_all();
    }

    /// Waits for `interval`; false if it is time to end.
    fn wait(&self, interval: Duration) -> bool {
        let stopped = lock(&self.stopped);
        let waited = self.changed.wait_timeout_while(stopped, interval, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Syncs the journal every `interval`, if something was written.
///
/// Through a handle of its own: the library holds its writers up while it syncs. What is written
/// when the library begins a new journal it has synced itself.
pub(crate) fn sync_by_interval(shared: &Shared, stop: &Stop, interval: Duration, store: &Path) {
    while stop.wait(interval) {
        let (written, synced) = shared.progress();
        if written <= synced || shared.broken().is_some() {
            continue;
        }
        if let Err(error) = sync_journal(store) {
            // What the system could not write it may have dropped: a second sync would say all is
            // well, and be wrong.
            shared.break_down(format!(
                "syncing the log in {} to the disk failed ({error}): what was written in the last \
                 {interval:?} may be lost in a power cut; nothing more is written; check the disk, \
                 then start again",
                shared.folder
            ));
            continue;
        }
        if let Err(error) = lock(&shared.acknowledged).synced(written) {
            shared.break_down(format!(
                "the file `acknowledged` in {} cannot be written ({error}): nothing more is \
                 written; check the disk, then start again",
                shared.folder
            ));
        }
    }
}

fn sync_journal(store: &Path) -> io::Result<()> {
    loop {
        let Some(path) = youngest_journal(store)? else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no journal"));
        };
        match File::open(&path) {
            Ok(file) => return file.sync_data(),
            // It was written to tables (and those synced) and removed since we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn youngest_journal(store: &Path) -> io::Result<Option<PathBuf>> {
    let mut youngest = None;
    for entry in std::fs::read_dir(store)? {
        let path = entry?.path();
        let id = path
            .extension()
            .filter(|extension| *extension == "jnl")
            .and_then(|_| path.file_stem()?.to_str()?.parse::<u64>().ok());
        if let Some(id) = id {
            youngest = youngest.max(Some((id, path)));
        }
    }
    Ok(youngest.map(|(_, path)| path))
}

/// Sweeps every `interval`.
pub(crate) fn sweep_by_interval(shared: &Arc<Shared>, stop: &Stop, interval: Duration) {
    let mut cursor = MarksCursor::default();
    while stop.wait(interval) {
        let swept =
            sweep_topics(shared).and_then(|()| sweep_marks(shared, &mut cursor, MARKS_PER_ROUND));
        if let Err(error) = swept
            && !shared.is_closing()
        {
            tracing::warn!(folder = %shared.folder, "old messages were not removed: {error}");
        }
    }
}
