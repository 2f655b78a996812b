//! Trim: removes from the retry tiers what is settled and committed.
//!
//! Tiers have no time limit (a retry must not expire before it is due), so without this they would
//! grow for ever. Beside the message's way: nothing waits for it, and a failure is tried again with
//! the next commit.

use super::PartitionTask;

/// A tier is trimmed when so many settled messages lie in it.
const SETTLED_MESSAGES: u64 = 100;

impl PartitionTask {
    /// Starts removing what is settled, if enough is and nothing is being removed.
    pub(super) fn trim_tiers(&mut self) {
        if self.trimming.is_some() {
            return;
        }
        // By what the log has acknowledged, not by the ledger: the next owner reads from there.
        let committed = self.last_commits.iter().skip(1);
        let found = committed.zip(&mut self.trimmed_to).find(|((_, commit), trimmed_to)| {
            commit.next.saturating_sub(**trimmed_to) >= SETTLED_MESSAGES
        });
        let Some(((partition, commit), trimmed_to)) = found else { return };
        *trimmed_to = commit.next;
        let (context, partition, before) = (self.context.clone(), partition.clone(), commit.next);
        self.trimming = Some(Box::pin(async move {
            if let Err(error) = context.ports.log.delete_before(&partition, before).await {
                tracing::warn!(
                    pipeline = %context.spec.name, %partition, before, %error,
                    "settled retries could not be removed; they will be with a later commit"
                );
                context.log_error("delete");
            }
        }));
    }
}
