//! What was written and is not on the disk: dirty until the next sync, and lost from one that fails on. Written
//! again, and synced, it is there after all.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

/// By inode.
type Ranges = BTreeMap<u64, Vec<Range<u64>>>;

struct Disk {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dirty: Ranges,
    lost: Ranges,
}

thread_local! {
    /// This thread writes down what is lost: that itself is not looked at.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

fn disk() -> Option<&'static Disk> {
    static DISK: OnceLock<Option<Disk>> = OnceLock::new();
    if WRITING.get() {
        return None;
    }
    let disk = DISK.get_or_init(|| {
        let folder = PathBuf::from(std::env::var_os("FAILING_DISK")?);
        let mut state = State::default();
        for line in std::fs::read_to_string(folder.join("lost")).unwrap_or_default().lines() {
            let mut numbers = line.split(' ').filter_map(|number| number.parse().ok());
            let (inode, from, to) = (numbers.next()?, numbers.next()?, numbers.next()?);
            state.lost.entry(inode).or_default().push(from..to);
        }
        Some(Disk { folder, state: Mutex::new(state) })
    });
    disk.as_ref()
}

/// Whether syncs fail.
pub(crate) fn fails() -> bool {
    disk().is_some_and(|disk| disk.folder.join("fails").exists())
}

/// This was written.
pub(crate) fn written(inode: u64, range: Range<u64>) {
    let Some(disk) = disk() else { return };
    let Ok(mut state) = disk.state.lock() else { return };
    let dirty = state.dirty.entry(inode).or_default();
    match dirty.last_mut().filter(|last| last.end == range.start) {
        Some(last) => last.end = range.end,
        None => dirty.push(range),
    }
}

/// A sync of this file has failed.
pub(crate) fn failed(inode: u64) {
    let Some(disk) = disk() else { return };
    let Ok(mut state) = disk.state.lock() else { return };
    if let Some(dirty) = state.dirty.remove(&inode) {
        state.lost.entry(inode).or_default().extend(dirty);
        save(disk, &state);
    }
}

/// What a sync that begins now brings to the disk.
pub(crate) fn begin(inode: u64) -> Vec<Range<u64>> {
    let state = disk().and_then(|disk| disk.state.lock().ok());
    state.and_then(|mut state| state.dirty.remove(&inode)).unwrap_or_default()
}

/// That sync has succeeded.
pub(crate) fn synced(inode: u64, written: &[Range<u64>]) {
    let Some(disk) = disk() else { return };
    let Ok(mut state) = disk.state.lock() else { return };
    let Some(lost) = state.lost.get_mut(&inode) else { return };
    for there in written {
        let rest = |gone: Range<u64>| {
            let before = gone.start..gone.end.min(there.start);
            let behind = gone.start.max(there.end)..gone.end;
            [before, behind].into_iter().filter(|range| !range.is_empty())
        };
        *lost = std::mem::take(lost).into_iter().flat_map(rest).collect();
    }
    save(disk, &state);
}

fn save(disk: &Disk, state: &State) {
    let mut lines = String::new();
    for (inode, ranges) in &state.lost {
        for Range { start, end } in ranges {
            let _ = writeln!(lines, "{inode} {start} {end}");
        }
    }
    WRITING.set(true);
    let saved = std::fs::write(disk.folder.join("lost"), lines);
    WRITING.set(false);
    assert!(saved.is_ok(), "{saved:?}");
}
