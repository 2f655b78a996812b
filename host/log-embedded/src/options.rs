//! Options: how an embedded log is opened, and why it may not open.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::{SystemClock, WallClock};

/// What an answered write has survived.
///
/// With either, killing the process loses nothing that was answered for. They differ in what a power
/// cut (or a crash of the operating system) may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A write is answered once the disk has it. Costs a sync for each group of writes.
    Always,
    /// The disk is synced this often; a power cut may take what was written since. The end of the
    /// log is cut there: records, commits and marks of one transaction go or stay together.
    Interval(Duration),
}

/// How a log is opened. `EmbeddedOptions::default()` is right for most.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// What an answered write has survived. Default: an interval of one second.
    pub durability: Durability,
    /// The time of day: append times, retention, expiry. Default: the machine's.
    pub clock: Arc<dyn WallClock>,
    /// How often old messages and expired marks are looked for. Default: 30 seconds.
    pub sweep_interval: Duration,
    /// Memory for blocks read from the disk, in bytes. Default: 32 MiB.
    pub cache_bytes: u64,
    /// Memory for the newest messages of all partitions, in bytes, from which consumers that keep
    /// up are served. Default: 32 MiB.
    pub tail_bytes: usize,
    /// Memory for writes before they go to tables, in bytes, at least 1 MiB. As much again waits for
    /// the disk at most three times over. Default: 32 MiB.
    pub write_buffer_bytes: u64,
    /// Writes are refused while the disk has less free space than this: the storage library cannot
    /// go on after a write that failed half-way. Default: 128 MiB.
    pub reserve_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Interval(Duration::from_secs(1)),
            clock: Arc::new(SystemClock),
            sweep_interval: Duration::from_secs(30),
            cache_bytes: 32 * 1024 * 1024,
            tail_bytes: 32 * 1024 * 1024,
            write_buffer_bytes: 32 * 1024 * 1024,
            reserve_bytes: 128 * 1024 * 1024,
        }
    }
}

/// Why a log did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the folder.
    #[error(
        "{folder} is in use by {who}: stop it first, or {reach}",
        folder = folder.display(),
        who = owner(*pid),
        reach = reach(admin.as_deref())
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that has it, if it says so.
        pid: Option<u32>,
        /// Where that process answers its admin API, if it does.
        admin: Option<String>,
    },
    /// A folder stands there that is not an embedded log.
    #[error(
        "{folder} is not an embedded log ({found} stands in it): give an empty folder, or one that \
         does not exist yet",
        folder = folder.display()
    )]
    NotOurs {
        /// The folder.
        folder: PathBuf,
        /// A file that does not belong there.
        found: String,
    },
    /// Something else than a folder stands there.
    #[error("{path} is not a folder: give the path of a folder", path = path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder was written by a newer version.
    #[error(
        "{folder} has format version {found}, and this program knows up to {known}: use the newer \
         program that wrote it, or another folder",
        folder = folder.display()
    )]
    NewerFormat {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The folder was written by a version that was never released.
    #[error(
        "{folder} has format version {found}, and this program knows version {known} only: finish \
         with the program that wrote it, or begin with another folder",
        folder = folder.display()
    )]
    OlderFormat {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The folder cannot be written.
    #[error(
        "{path} cannot be written ({error}): the log needs a folder it may write; check its owner \
         and mode, and that the file system is not mounted read-only",
        path = path.display()
    )]
    NotWritable {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The disk has too little space to begin with.
    #[error(
        "the disk of {folder} is full ({error}): free some space, then start again",
        folder = folder.display()
    )]
    DiskFull {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// What is stored is not what was written.
    #[error(
        "the log in {folder} is damaged: {what}. Nothing was changed. Check the disk; restore the \
         folder from a copy, or move it away to begin with an empty log",
        folder = folder.display()
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is damaged, and how that was noticed.
        what: String,
    },
    /// The system refused something else.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn reach(admin: Option<&str>) -> String {
    admin.map_or_else(
        || "use another folder".to_owned(),
        |admin| format!("reach it through its admin API at {admin}"),
    )
}
