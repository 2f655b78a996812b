//! Space: whether the disk has room for the next write.
//!
//! The storage library cannot go on after a write that failed half-way, and it needs room of its
//! own to write tables and to merge them. So writes are refused while some is still left.

use std::path::PathBuf;
use std::time::Duration;

use millstream_core::log::LogError;
use tokio::time::Instant;

/// How much may be written between two looks: a quarter of the reserve at most, and this at most.
const BYTES_UNCHECKED_MAX: u64 = 4 * 1024 * 1024;
/// How long a look is believed: others write to the disk too.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

pub(super) struct Space {
    path: PathBuf,
    reserve_bytes: u64,
    checked: Option<Instant>,
    written_bytes: u64,
}

impl Space {
    pub(super) fn new(path: PathBuf, reserve_bytes: u64) -> Self {
        Self { path, reserve_bytes, checked: None, written_bytes: 0 }
    }

    /// Whether `bytes` may be written. What frees space may use most of the reserve.
    pub(super) fn check(&mut self, bytes: u64, frees: bool) -> Result<(), LogError> {
        let unchecked_max = BYTES_UNCHECKED_MAX.min(self.reserve_bytes / 4);
        self.written_bytes += bytes;
        let fresh = self.checked.is_some_and(|at| at.elapsed() < CHECK_INTERVAL);
        if fresh && self.written_bytes <= unchecked_max {
            return Ok(());
        }
        self.checked = None;
        let path = self.path.display();
        let free = fs4::available_space(&self.path).map_err(|error| {
            LogError::Unavailable(format!(
                "the free space of the disk of {path} cannot be told ({error}): nothing is written \
                 until it can"
            ))
        })?;
        let reserve = if frees { self.reserve_bytes / 8 } else { self.reserve_bytes };
        if free < reserve.saturating_add(bytes) {
            return Err(LogError::Unavailable(format!(
                "the disk of {path} is full: {free} bytes are free, and {reserve} are kept for the \
                 log's own work; free some space, or shorten the retention of topics; the write \
                 did not happen and may be repeated"
            )));
        }
        self.checked = Some(Instant::now());
        self.written_bytes = 0;
        Ok(())
    }
}
