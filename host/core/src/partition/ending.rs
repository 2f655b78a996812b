//! Ending: when a partition has drained, and what it tells the next owner before it goes.
//!
//! The end of `partition`'s loop: nothing new begins; what is in hand is finished, or left to the next owner when the
//! deadline has passed. The last commit says that this owner ended in order (`suspicion`).

use std::time::Duration;

use crate::pipeline::PipelineError;

use super::PartitionTask;

/// How long the last commit may take after the drain deadline has passed.
const LAST_COMMIT: Duration = Duration::from_millis(500);

impl PartitionTask {
    pub(super) fn has_drained(&self) -> bool {
        self.out == 0
            && self.outbox.is_empty()
            && self.appending.is_empty()
            && self.committing.is_none()
            && self.commit_at.is_none()
            && (!self.committed_first()
                || (self.awaiting_commit.is_empty() && self.lanes.queued() == 0))
    }

    /// Drained, the next owner is told that this one ended in order. Whether that is still to be committed.
    pub(super) fn has_to_sign_off(&mut self) -> bool {
        if !self.suspicion.counts() || !self.sign_off() {
            return false;
        }
        self.commit_now();
        true
    }

    /// Returns whether it was not signed off before.
    pub(super) fn sign_off(&mut self) -> bool {
        if std::mem::replace(&mut self.signed_off, true) {
            return false;
        }
        self.suspicion.sign_off();
        true
    }

    /// The same at once, if it can be: one try.
    pub(super) async fn leave_in_order(&mut self) {
        // Before the first commit of this owner there is nothing to take back.
        if self.counted && self.sign_off() {
            self.named_are_cancelled();
            let commits = self.commits();
            let _ = tokio::time::timeout(LAST_COMMIT, self.consumer.commit(commits)).await;
        }
    }

    /// The deadline of a drain has passed: commit what is settled, leave the rest to the next owner.
    pub(super) async fn give_up(&mut self) -> Result<(), PipelineError> {
        if self.committed_first() {
            tracing::error!(
                pipeline = %self.context.spec.name, partition = %self.partition,
                lost = self.out_messages + self.lanes.queued(), drain = ?self.context.spec.drain,
                "the drain deadline has passed: handlers are cancelled; with at_most_once their messages are committed and lost"
            );
            return Ok(());
        }
        tracing::warn!(
            pipeline = %self.context.spec.name, partition = %self.partition,
            abandoned = self.out_messages, drain = ?self.context.spec.drain,
            "the drain deadline has passed: handlers are cancelled, their messages stay uncommitted and come again"
        );
        // The ledger is ahead of the log while a transaction is under way.
        if !self.is_exactly_once() || self.appending.is_empty() {
            // One try: whoever waits for the partition has waited long enough.
            self.named_are_cancelled();
            self.sign_off();
            let commits = self.commits();
            let _ = tokio::time::timeout(LAST_COMMIT, self.consumer.commit(commits)).await;
        }
        Ok(())
    }
}
