//! Marks: the index of idempotency marks beside the store, and how it is brought up to the log.
//!
//! The log has the marks of each write as one entry, in the same write as what they mark, with digests in place of the keys
//! (`entries::packed_marks`). Questions go to the index (`millstream-mark-copy`) in the folder `marks`. The writer indexes the
//! marks of a write when it is on the disk, before it answers.
//!
//! Invariants:
//! - the index' checkpoint is the number of the last write that is in it. When the log opens, the marks of all later writes
//!   are read from the store and put into it, before the first question;
//! - an index that is ahead of the log has marks of writes that a power cut took (it syncs what it writes, the log by
//!   interval). What they marked was never handled, as far as anybody knows, so the index begins anew;
//! - what cannot be indexed is not written: its transaction is `Unavailable`.
//!
//! Limit: an index that is lost costs reading all marks that have not expired, once.

use std::path::Path;

use millstream_core::idempotency::Scope;
use millstream_core::message::{EpochMs, Partition};
use millstream_mark_copy::{Batch, IndexError, IndexOptions, MarkIndex};

use crate::entries::packed_marks::{self, MarksKey};
use crate::folder::{Identity, open_error};
use crate::options::{EmbeddedOptions, OpenError};
use crate::store::Store;

/// Marks that are put into the index at once while it is brought up to the log.
const AT_ONCE: usize = 10_000;

/// Where the index keeps how far it is: no group has an empty name.
pub(crate) fn whole_log() -> Scope {
    Scope { group: Default::default(), partition: Partition::new("", 0) }
}

/// Opens the index in `folder`, as it was left.
pub(crate) fn open(
    folder: &Path,
    identity: &Identity,
    options: &EmbeddedOptions,
) -> Result<MarkIndex, OpenError> {
    let mut index_options = IndexOptions::new(&identity.cluster_id, options.clock.clone());
    index_options.secret = Some(identity.marks_secret.clone());
    index_options.reserve_bytes = options.reserve_bytes;
    MarkIndex::open(folder, index_options).map_err(|error| open_error(folder, error.error))
}

/// Puts into the index what the log has and it has not. `sealed` is the number of the log's last write.
pub(crate) fn bring_up(store: &Store, sealed: u64, now: EpochMs) -> Result<(), OpenError> {
    let folder = crate::locks::lock(&store.folder).path().to_owned();
    let failed = |error: IndexError| OpenError::Io {
        path: folder.clone(),
        error: std::io::Error::other(error),
    };
    let damaged = |what: String| OpenError::Damaged { folder: folder.clone(), what };
    let whole = whole_log();
    let mut from =
        store.index.checkpoint(&whole).map_or(0, |checkpoint| checkpoint.saturating_add(1));
    if from > sealed.saturating_add(1) {
        tracing::warn!(
            folder = %folder.display(), indexed = from - 1, written = sealed,
            "the index of idempotency marks is ahead of the log, which lost its end in a power cut: it is made anew from the log"
        );
        store.index.discard_all().map_err(failed)?;
        from = 0;
    }
    let (mut marks, mut batch) = (0, Batch::default());
    let put = |batch: &mut Batch, write: u64| {
        store.index.wait_for_room(batch.len()).map_err(failed)?;
        store.index.put(std::mem::take(batch), Some((&whole, write)));
        Ok::<(), OpenError>(())
    };
    let mut last = 0;
    for entry in store.marks.range(MarksKey::lower(from)..) {
        let (key, value) = entry
            .into_inner()
            .map_err(|error| damaged(store.read_error("idempotency marks", &error).to_string()))?;
        let of = |damage: crate::record_batch::Damage| {
            damaged(format!("the idempotency marks of a write: {damage}"))
        };
        let marks_key = MarksKey::decode(&key).map_err(of)?;
        if marks_key.expires <= now {
            continue;
        }
        packed_marks::decode(&key, &value, |scope, found| {
            let place = store.index.place(scope);
            for (digest, marked) in found {
                batch.add(&place, digest, marked);
                marks += 1;
            }
        })
        .map_err(of)?;
        last = marks_key.write;
        if batch.len() >= AT_ONCE {
            put(&mut batch, last)?;
        }
    }
    if !batch.is_empty() {
        put(&mut batch, last)?;
    }
    if marks > 0 {
        tracing::info!(folder = %folder.display(), marks, "idempotency marks indexed that the log had and its index had not");
    }
    Ok(())
}
