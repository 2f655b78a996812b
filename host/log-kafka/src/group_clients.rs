//! Clients that ask for the commits of a group, kept for who asks again: a new one connects, authenticates
//! and looks for the group's coordinator first, which `lag --watch` and the scaler would wait for each time.

use std::sync::{Mutex, PoisonError};

use crate::polled::Polled;

/// How many are kept, of as many groups; of more the oldest goes.
const KEPT_MAX: usize = 64;

/// See the module. A client is with one caller at a time.
#[derive(Default)]
pub(crate) struct GroupClients {
    kept: Mutex<Vec<(String, Polled)>>,
}

impl GroupClients {
    /// A client of the group, if one is kept that nobody has.
    pub(crate) fn take(&self, group: &str) -> Option<Polled> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|(of, _)| of == group)?;
        Some(kept.remove(index).1)
    }

    /// Keeps a client. What has no room is dropped by the caller's thread, since that may block.
    pub(crate) fn keep(&self, group: String, client: Polled) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = match kept.iter().position(|(of, _)| *of == group) {
            Some(index) => Some(kept.remove(index)),
            None => (kept.len() >= KEPT_MAX).then(|| kept.remove(0)),
        };
        kept.push((group, client));
        drop(kept);
        drop(surplus);
    }
}
