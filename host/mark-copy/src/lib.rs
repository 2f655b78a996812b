//! Mark copy: idempotency marks that lie in a log, where a host can ask for them.
//!
//! Below `dedupe`. The log has the marks in the order in which they were made, which is cheap to write and useless to
//! ask; an index beside it ([`MarkIndex`]) answers. The embedded log has one of its own; on a cluster each host
//! keeps [`DiskCopy`], the same index behind the port that the core asks.
//!
//! ```text
//! index        what it promises; asking, shared              table: a buffer, sorted by digest
//! background   writes buffers, merges runs, sweeps           run, merge: sorted runs on the disk
//! digest       what stands for a key                         filter: what need not be looked into
//! folder, manifest                                           what lies where, what counts
//! ```
//!
//! It may be lost at any time, and a damaged one is thrown away by whoever opens it: the log has everything in it.
//! Memory is bounded, whatever the number of keys.

mod asking;
mod background;
mod digest;
mod entry;
mod filter;
mod folder;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod index;
mod manifest;
mod merge;
mod run;
mod shared;
mod table;
mod trouble;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millstream_core::idempotency::{MarkCopy, Marked, Scope};
use millstream_core::log::LogError;
use millstream_core::message::Offset;

pub use asking::{Asked, Batch, Place};
pub use digest::{DIGEST_BYTES, Digest, Secret};
pub use index::{IndexOptions, MarkIndex, RUNS_MAX, SEALED_MAX};
pub use trouble::{IndexError, OpenError};

/// A host's copy of the marks that lie in a cluster's topics.
pub struct DiskCopy {
    index: Arc<MarkIndex>,
}

impl DiskCopy {
    /// Opens the copy in `folder`, which is this process' alone, or makes it. One that is damaged is made anew.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(folder: &Path, options: IndexOptions) -> Result<Self, OpenError> {
        Ok(Self { index: Arc::new(MarkIndex::open(folder, options)?) })
    }

    /// Writes what is in memory, so that less has to be read from the log at the next start. Blocks.
    pub fn close(&self) {
        self.index.close();
    }

    /// Where it may wait for the disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        call: impl FnOnce(&MarkIndex) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, LogError> {
        let index = Arc::clone(&self.index);
        let done = tokio::task::spawn_blocking(move || call(&index)).await;
        done.map_err(|error| LogError::Unavailable(error.to_string()))?.map_err(LogError::from)
    }
}

#[async_trait]
impl MarkCopy for DiskCopy {
    async fn checkpoint(&self, scope: &Scope) -> Result<Option<Offset>, LogError> {
        Ok(self.index.checkpoint(scope))
    }

    async fn get(&self, scope: &Scope, keys: &[Bytes]) -> Result<Vec<Option<Marked>>, LogError> {
        match self.index.ask(scope, keys).known() {
            Ok(answers) => Ok(answers),
            Err(asked) => self.on_disk(move |index| index.read(asked)).await,
        }
    }

    async fn put(
        &self,
        scope: &Scope,
        marks: Vec<(Bytes, Marked)>,
        checkpoint: Option<Offset>,
    ) -> Result<(), LogError> {
        let count = marks.len();
        if !self.index.has_room(count) {
            self.on_disk(move |index| index.wait_for_room(count)).await?;
        }
        let place = self.index.place(scope);
        let mut batch = Batch::default();
        for (key, marked) in &marks {
            batch.add(&place, place.digest(key), *marked);
        }
        self.index.put(batch, checkpoint.map(|checkpoint| (scope, checkpoint)));
        Ok(())
    }

    async fn discard(&self, scope: &Scope) -> Result<(), LogError> {
        let scope = scope.clone();
        self.on_disk(move |index| index.discard(&scope)).await
    }
}

#[cfg(test)]
mod tests;
