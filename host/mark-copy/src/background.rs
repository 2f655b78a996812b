//! Background: the thread of an index. It writes full buffers as runs, merges runs, and gives back what has expired.
//!
//! Writing goes before merging, also in the middle of it: who puts marks waits for the one, never for the other. A
//! file that could not be written is tried again, under another name and from the beginning, so a failed sync leaves
//! nothing behind that would be believed.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::manifest::{Manifest, RunEntry};
use crate::merge::Merge;
use crate::run::{Run, RunWriter, bytes_of};
use crate::shared::{Sealed, Shared, lock};
use crate::trouble::Trouble;

/// Runs of a level that become one of the next. With fewer a mark is written more often, which is most of what the index costs, with more it is
/// asked for in more runs, which their filters make cheap as long as there is memory for them.
pub(crate) const FAN_IN: usize = 8;
/// From one sweep to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Until what failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long merging is left alone when it failed: it needs the most space.
const MERGE_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Marks that are merged between two looks at what is more urgent.
const MERGE_STEP: usize = 4_096;

/// What the thread and its callers tell each other.
#[derive(Default)]
pub(crate) struct Signal {
    /// The index is being closed.
    pub(crate) stopping: bool,
    /// The thread has ended.
    pub(crate) ended: bool,
    /// Why a buffer could not be written, until one could.
    pub(crate) failing: Option<String>,
    pub(crate) sweeps_asked: u64,
    pub(crate) sweeps_done: u64,
}

pub(crate) fn start(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let work = move || {
        // Also if it panics, so that nobody waits for it for ever.
        let _ended = Ended(Arc::clone(&shared));
        let now = Instant::now();
        let sweep_at = now + SWEEP_EVERY;
        let merging = Cell::new(0);
        Background { shared, merge_at: now, sweep_at, sweeps: 0, merging }.run();
    };
    std::thread::Builder::new().name("mark-index".to_owned()).spawn(work)
}

struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut signal = lock(&self.0.signal);
        signal.ended = true;
        signal.stopping = true;
        drop(signal);
        self.0.changed.notify_all();
    }
}

struct Background {
    shared: Arc<Shared>,
    /// When merging may be tried.
    merge_at: Instant,
    sweep_at: Instant,
    /// Sweeps that were asked for and done.
    sweeps: u64,
    /// The filter of the run that is being merged, in bytes.
    merging: Cell<u64>,
}

/// Why a merge came to no end.
enum Unmerged {
    /// The index is being closed.
    Stopping,
    Trouble(Trouble),
}

impl From<Trouble> for Unmerged {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Background {
    fn run(mut self) {
        loop {
            let written = self.write_sealed();
            if lock(&self.shared.signal).stopping {
                return;
            }
            if !written {
                self.wait(RETRY_AFTER);
                continue;
            }
            let asked = lock(&self.shared.signal).sweeps_asked;
            if asked > self.sweeps || self.sweep_at <= Instant::now() {
                self.sweep();
                self.sweep_at = Instant::now() + SWEEP_EVERY;
                self.sweeps = asked;
                lock(&self.shared.signal).sweeps_done = asked;
                self.shared.changed.notify_all();
            }
            let merge = (self.merge_at <= Instant::now()).then(|| self.level_to_merge()).flatten();
            match merge {
                Some(inputs) => self.try_merge(&inputs),
                None => self.wait(SWEEP_EVERY.min(MERGE_AGAIN_AFTER)),
            }
        }
    }

    /// Until something is to be done, or so long.
    fn wait(&self, time: Duration) {
        let signal = lock(&self.shared.signal);
        let failing = signal.failing.is_some();
        let idle = |signal: &mut Signal| {
            let sealed = !failing && !self.shared.state().sealed.is_empty();
            !sealed && !signal.stopping && (failing || signal.sweeps_asked <= self.sweeps)
        };
        let waited = self.shared.changed.wait_timeout_while(signal, time, idle);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes all full buffers. False if one could not be written.
    fn write_sealed(&self) -> bool {
        loop {
            let sealed = self.shared.state().sealed.first().cloned();
            let Some(sealed) = sealed else { return true };
            let written = self.write_one(&sealed);
            let mut signal = lock(&self.shared.signal);
            let failed = written.is_err();
            if let Err(trouble) = written {
                if signal.failing.is_none() {
                    tracing::warn!(%trouble, "idempotency marks are not written to their index; they are in memory and in the log, and it is tried again");
                }
                self.shared.troubled(&trouble);
                signal.failing = Some(trouble.to_string());
            } else {
                signal.failing = None;
            }
            drop(signal);
            self.shared.changed.notify_all();
            if failed {
                return false;
            }
            drop_or_reuse(&self.shared, sealed);
        }
    }

    fn write_one(&self, sealed: &Sealed) -> Result<(), Trouble> {
        let shared = &self.shared;
        let count = sealed.table.len() as u64;
        let half = shared.options.reserve_bytes / 2;
        self.check_space(bytes_of(count), half)?;
        let number = self.next_run();
        let mut writer = RunWriter::create(&shared.folder, number, count, self.filter_room(&[]))?;
        for entry in sealed.table.iter() {
            writer.push(entry)?;
        }
        // One with checkpoints only makes no run.
        let run = writer.finish(&shared.folder)?;
        let mut manifest = lock(&shared.manifest);
        let mut changed = manifest.clone();
        changed.next_run = number + 1;
        if run.is_some() {
            changed.runs.insert(0, RunEntry { number, level: 0 });
        }
        shared.scopes_for(&mut changed, &sealed.checkpoints);
        self.write_manifest(&changed, run.as_ref())?;
        *manifest = changed;
        drop(manifest);
        let mut state = shared.state_mut();
        let mut runs = state.runs.to_vec();
        if let Some(run) = run {
            runs.insert(0, Arc::new(run));
        }
        state.runs = Arc::new(runs);
        state.sealed.remove(0);
        Ok(())
    }

    /// The runs to be merged next, the newest first.
    fn level_to_merge(&self) -> Option<Vec<Arc<Run>>> {
        let levels: Vec<_> = lock(&self.shared.manifest).runs.clone();
        let full = levels.chunk_by(|a, b| a.level == b.level).find(|runs| runs.len() >= FAN_IN)?;
        let chosen = |run: &&Arc<Run>| full.iter().any(|entry| entry.number == run.number());
        Some(self.shared.state().runs.iter().filter(chosen).cloned().collect())
    }

    fn try_merge(&mut self, inputs: &[Arc<Run>]) {
        let merged = self.merge(inputs);
        self.merging.set(0);
        match merged {
            Ok(()) | Err(Unmerged::Stopping) => {}
            Err(Unmerged::Trouble(trouble)) => {
                if matches!(trouble, Trouble::Damage { .. }) {
                    self.shared.troubled(&trouble);
                }
                tracing::warn!(%trouble, "runs of idempotency marks were not merged; it is tried again");
                self.merge_at = Instant::now() + MERGE_AGAIN_AFTER;
            }
        }
    }

    /// Replaces neighbouring runs by one of the next level, or by none.
    fn merge(&self, inputs: &[Arc<Run>]) -> Result<(), Unmerged> {
        let shared = &self.shared;
        let count = inputs.iter().map(|run| run.footer().entries).sum();
        self.check_space(bytes_of(count), shared.options.reserve_bytes)?;
        let (now, live) = (shared.options.clock.now(), shared.live_scopes());
        let number = self.next_run();
        // Buffers that are written meanwhile take the numbers behind it.
        lock(&shared.manifest).next_run = number + 1;
        let room = self.filter_room(inputs);
        let mut writer = RunWriter::create(&shared.folder, number, count, room)?;
        self.merging.set(writer.filter_bytes());
        let mut merge = Merge::of(inputs);
        let mut step = 0;
        while let Some(entry) = merge.next(now, &live)? {
            writer.push(&entry)?;
            step += 1;
            if step == MERGE_STEP {
                step = 0;
                if lock(&shared.signal).stopping {
                    return Err(Unmerged::Stopping);
                }
                if lock(&shared.signal).failing.is_none() {
                    self.write_sealed();
                }
            }
        }
        let run = writer.finish(&shared.folder)?.map(Arc::new);
        let is_input = |number: u64| inputs.iter().any(|input| input.number() == number);
        let mut manifest = lock(&shared.manifest);
        let mut changed = manifest.clone();
        let at = changed.runs.iter().position(|entry| is_input(entry.number)).unwrap_or(0);
        let level = changed.runs.get(at).map_or(0, |entry| entry.level);
        changed.runs.retain(|entry| !is_input(entry.number));
        if run.is_some() {
            let level = if inputs.len() > 1 { level.saturating_add(1) } else { level };
            changed.runs.insert(at, RunEntry { number, level });
        }
        self.write_manifest(&changed, run.as_deref())?;
        *manifest = changed;
        drop(manifest);
        let mut state = shared.state_mut();
        let mut runs = state.runs.to_vec();
        runs.retain(|run| !is_input(run.number()));
        runs.splice(at..at, run);
        state.runs = Arc::new(runs);
        drop(state);
        for input in inputs {
            // Who has it open reads on. What stays is removed when the index opens.
            std::fs::remove_file(input.path()).ok();
        }
        shared.changed();
        Ok(())
    }

    /// Removes runs all of whose marks have expired, and writes those anew of which most have, by when the first and the last do.
    fn sweep(&mut self) {
        let now = self.shared.options.clock.now();
        let runs = self.shared.state().runs.to_vec();
        for run in runs {
            let footer = run.footer();
            let (first, last) = (footer.expires_min, footer.expires_max);
            let middle = first.midpoint(last);
            if last <= now || (first < last && middle <= now) {
                self.try_merge(&[run]);
            }
            if lock(&self.shared.signal).stopping {
                return;
            }
        }
    }

    /// Makes a manifest count that names this run. If it cannot be written, the run is removed again.
    fn write_manifest(&self, manifest: &Manifest, run: Option<&Run>) -> Result<(), Trouble> {
        let written = self.shared.write_manifest(manifest);
        if let (Err(_), Some(run)) = (&written, run) {
            std::fs::remove_file(run.path()).ok();
        }
        written
    }

    fn next_run(&self) -> u64 {
        lock(&self.shared.manifest).next_run
    }

    /// How large the next filter may be, of a run in place of these.
    fn filter_room(&self, inputs: &[Arc<Run>]) -> u64 {
        let stays = |run: &&Arc<Run>| inputs.iter().all(|input| input.number() != run.number());
        let state = self.shared.state();
        let runs: u64 = state.runs.iter().filter(stays).map(|run| run.filter_bytes()).sum();
        self.shared.options.filter_bytes_max.saturating_sub(runs + self.merging.get()) / 2
    }

    fn check_space(&self, bytes: u64, reserve: u64) -> Result<(), Trouble> {
        // With its filter: 4 bytes for an entry of 36.
        let bytes = bytes.saturating_add(bytes / 8);
        let folder = &self.shared.folder;
        folder
            .check_space(bytes, reserve)
            .map_err(|error| Trouble::Io { path: folder.path().to_owned(), error })
    }
}

/// A buffer nobody reads any more is the next one.
fn drop_or_reuse(shared: &Shared, sealed: Arc<Sealed>) {
    let Ok(sealed) = Arc::try_unwrap(sealed) else { return };
    if sealed.table.len() > shared.options.buffer_marks {
        return;
    }
    let mut table = sealed.table;
    table.clear();
    let mut state = shared.state_mut();
    state.spare = Some(table);
}
