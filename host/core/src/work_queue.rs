//! Work queue: hands batches of messages from the partitions to the pipeline's workers.
//!
//! Between `lane` and `attempt`. First in, first out, so partitions take turns. A lock per batch,
//! never per message.
//!
//! Limit: a partition has at most as many batches here and in work as the pipeline has workers, so
//! `offer` never has to refuse or wait.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::attempt::Work;

/// See the module.
#[derive(Debug, Default)]
pub struct WorkQueue {
    waiting: Mutex<VecDeque<Work>>,
    added: Notify,
}

impl WorkQueue {
    /// Puts a batch at the end.
    pub fn offer(&self, work: Work) {
        // A poisoned lock means a panic between push and pop; the queue itself is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(work);
        self.added.notify_one();
    }

    /// Takes the first batch, waiting for one. Cancel-safe.
    pub async fn take(&self) -> Work {
        loop {
            let (work, more) = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                (waiting.pop_front(), !waiting.is_empty())
            };
            if let Some(work) = work {
                if more {
                    // One permit is stored at most: pass it on, or a second batch that was
                    // offered before anybody waited would lie here beside an idle worker.
                    self.added.notify_one();
                }
                return work;
            }
            self.added.notified().await;
        }
    }
}
