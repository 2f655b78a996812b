//! Merging runs: several become one, in which each key stands once, without what has expired or is nobody's.

use std::sync::Arc;

use millstream_core::message::EpochMs;

use crate::digest::Digest;
use crate::entry::{Entry, ScopeNumber};
use crate::run::{Cursor, Run};
use crate::trouble::Trouble;

/// The entries of several runs, ascending. Of equal digests the newest run's counts; when it has expired an older mark
/// of the key may count again that has not: it is true as well.
pub(crate) struct Merge {
    /// The newest first.
    inputs: Vec<Cursor>,
}

impl Merge {
    /// Of these runs, the newest first.
    pub(crate) fn of(runs: &[Arc<Run>]) -> Self {
        Self { inputs: runs.iter().map(|run| Cursor::new(Arc::clone(run))).collect() }
    }

    /// The next entry that counts: of a scope whose number is `live` (sorted), and not expired.
    pub(crate) fn next(
        &mut self,
        now: EpochMs,
        live: &[ScopeNumber],
    ) -> Result<Option<Entry>, Trouble> {
        loop {
            let mut smallest: Option<(usize, Digest)> = None;
            for (number, input) in self.inputs.iter_mut().enumerate() {
                let Some(head) = input.head()? else { continue };
                if smallest.is_none_or(|(_, digest)| head.digest < digest) {
                    smallest = Some((number, head.digest));
                }
            }
            let Some((newest, digest)) = smallest else { return Ok(None) };
            let entry = self.inputs.get_mut(newest).and_then(Cursor::take);
            for older in self.inputs.iter_mut().skip(newest + 1) {
                while older.head()?.is_some_and(|head| head.digest == digest) {
                    older.take();
                }
            }
            let counts =
                |entry: &Entry| entry.expires > now && live.binary_search(&entry.scope).is_ok();
            if let Some(entry) = entry.filter(counts) {
                return Ok(Some(entry));
            }
        }
    }
}
