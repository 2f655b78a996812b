//! Restore: rebuilds a partition's state before its first message is handled.
//!
//! The order matters: commits first, *then* the high watermarks of the tiers, then the tiers up to
//! them, then the idempotency marks, then the source. A retry written by the last owner is below that watermark, so no source
//! message is handled of which a later copy waits in a tier.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::companions;
use crate::ledger::Ledger;
use crate::log::{Commit, Ends, LogError, Room};
use crate::message::{Offset, Partition};
use crate::pipeline::PipelineError;
use crate::pipeline_spec::{KeepOrder, Start};
use crate::tiers::{HELD_BYTES_MAX, HELD_MESSAGES_MAX, Tier, Tiers};

use super::PartitionTask;
use super::suspicion::Suspicion;

/// How long to wait for a transaction of an earlier owner that hides the end of a tier.
const HIDDEN_END_WAIT: Duration = Duration::from_millis(20);

/// What was found.
pub(super) struct Restored {
    /// Where reading of the source begins.
    pub(super) from: Offset,
}

/// After an assignment what is committed is committed again in this part of the usual time.
const REFRESH_AT_START: u32 = 24;

impl PartitionTask {
    pub(super) async fn restore(&mut self) -> Result<Restored, PipelineError> {
        let context = self.context.clone();
        let log = &context.ports.log;
        // A partition that was added to a running source needs them too.
        context
            .until_available("create companion topics", || {
                companions::ensure(&**log, &context.spec, Some(&self.partition))
            })
            .await?;
        let topics = context.until_available("list topics", || log.topics()).await?;
        let (group, template) = (&context.spec.group, &context.spec.retry.topic);
        // By name, not by configuration: a delay that was taken out is drained all the same.
        let mut found: Vec<(Partition, Duration)> = topics
            .iter()
            .filter(|topic| topic.partitions > self.partition.number)
            .filter_map(|topic| {
                let delay = template.delay_of(&topic.name, &self.partition.topic, group)?;
                Some((Partition::new(topic.name.clone(), self.partition.number), delay))
            })
            .collect();
        found.sort_by_key(|(_, delay)| *delay);

        let mut all = vec![self.partition.clone()];
        all.extend(found.iter().map(|(partition, _)| partition.clone()));
        let consumer = self.consumer.clone();
        let committed =
            context.until_available("fetch commits", || consumer.committed(&all)).await?;
        let ends = context.until_available("fetch ends", || log.ends(&all)).await?;
        let mut states = committed.into_iter().zip(ends);
        let (source_commit, source_ends) =
            states.next().ok_or_else(|| PipelineError::Bug("the log knows no ends".into()))?;

        *self.status.tiers.lock().unwrap_or_else(PoisonError::into_inner) =
            found.iter().map(|(partition, _)| partition.clone()).collect();
        let work_max = context.tier_work_max();
        let mut highs = Vec::new();
        let mut tiers = Vec::new();
        for ((partition, delay), (commit, ends)) in found.into_iter().zip(states) {
            let commit = commit.unwrap_or_default();
            let commit = Commit { next: commit.next.max(ends.start), ..commit };
            self.trimmed_to.push(ends.start);
            tiers.push(Tier::new(partition, delay, Ledger::restore(&commit), work_max));
            highs.push(ends.high);
        }
        let keep_order = context.spec.retry.keep_order == KeepOrder::OfKey;
        self.tiers = Tiers::new(group, self.partition.clone(), tiers, keep_order);
        let mut attach_at = Vec::new();
        for (number, high) in highs.into_iter().enumerate() {
            attach_at.extend(self.read_tier(number, high).await?);
        }

        if context.spec.idempotency.is_some() {
            let (store, scope) = (context.store()?, Arc::clone(&self.scope));
            context.until_available("restore idempotency marks", || store.restore(&scope)).await?;
        }

        let is_new = source_commit.is_none();
        let commit = self.source_begin(source_commit, source_ends)?;
        self.source = Ledger::restore(&commit);
        // What waits in a tier was written there before the last owner could commit. It is retried from
        // there, and is settled in the source now: when the source hands it over, that retry may
        // have ended long ago.
        let mut turns: Vec<_> = self.tiers.outstanding.turns().collect();
        // Each is put behind the one before it then; in no order each would move half of the others.
        turns.sort_unstable();
        for turn in turns {
            // A turn beyond the source's end is a stranger's: nothing of ours can have written it.
            if turn < source_ends.high && self.source.settle_ahead(turn) {
                self.metrics.superseded.inc();
            }
        }
        self.tiers.restored(source_ends.high);
        self.window.restore(&self.source);
        self.committed = commit.next;
        self.suspicion = Suspicion::new(&context.spec, commit.owners, source_ends.high);
        self.tell_suspicion();
        self.last_commits = self.commits();
        if is_new || self.suspicion.counts() {
            // Where a new group begins is decided once: without this commit "latest" would be decided
            // again after a restart, and what came meanwhile would never be handled. And if this owner dies, the
            // next one is to know.
            self.counted = self.suspicion.counts();
            let first = &self.last_commits;
            context.until_available("first commit", || consumer.commit(first.clone())).await?;
        }
        // Only now, and the source last: nothing is handed over while this task does not listen.
        attach_at.push((self.partition.clone(), commit.next));
        for (partition, from) in &attach_at {
            context.until_available("attach", || consumer.attach(partition, *from)).await?;
        }
        // Soon, since nobody knows how old the commit is; not at once, since hosts may come and go often.
        self.refresh_at = Instant::now() + context.spec.commit_refresh / REFRESH_AT_START;
        self.commit_soon();
        Ok(Restored { from: commit.next })
    }

    /// Indexes a tier up to `high` and holds its head; reading goes on behind what is held.
    async fn read_tier(
        &mut self,
        number: usize,
        high: Offset,
    ) -> Result<Option<(Partition, Offset)>, PipelineError> {
        let context = self.context.clone();
        let log = &context.ports.log;
        let Some(tier) = self.tiers.all().get(number) else { return Ok(None) };
        let partition = tier.partition.clone();
        let mut next = tier.ledger.next();
        let mut attach_at = None;
        let room = Room { messages: HELD_MESSAGES_MAX, bytes: HELD_BYTES_MAX };
        while next < high {
            let batch =
                context.until_available("read tier", || log.fetch(&partition, next, room)).await?;
            if batch.next <= next {
                tokio::time::sleep(HIDDEN_END_WAIT).await;
                continue;
            }
            next = batch.next;
            let now = self.now();
            for message in batch.messages {
                let full = self.tiers.all().get(number).is_some_and(Tier::is_full);
                if full || attach_at.is_some() {
                    // Only its place in the index is kept; it is read again when there is room.
                    attach_at.get_or_insert(message.offset);
                    self.tiers.index(number, &message);
                } else {
                    self.tiers.hold(number, message, now);
                }
            }
            if attach_at.is_none()
                && let Some(tier) = self.tiers.all_mut().get_mut(number)
            {
                tier.ledger.read_to(next);
            }
        }
        Ok(Some((partition, attach_at.unwrap_or(next))))
    }

    /// Whether the partition was added to its topic while the pipeline ran.
    fn was_added_later(&self) -> bool {
        let counts = self.context.partitions_at_start.get();
        let count = counts.and_then(|counts| counts.get(&self.partition.topic));
        count.is_some_and(|count| self.partition.number >= *count)
    }

    /// Where the source begins: at the commit, else where the pipeline says a new group begins.
    fn source_begin(&self, commit: Option<Commit>, ends: Ends) -> Result<Commit, PipelineError> {
        let name = &self.context.spec.name;
        let Some(commit) = commit else {
            let next = match self.context.spec.start {
                // What came before the partition was noticed is nobody's past: it is all to be handled.
                Start::Latest if !self.was_added_later() => ends.end,
                Start::Latest | Start::Earliest => ends.start,
            };
            return Ok(Commit { next, ..Commit::default() });
        };
        if commit.next > ends.high {
            let error = LogError::Fatal(format!(
                "group {} has committed offset {} in {}, which ends at {}: the topic was made anew or cut off; reset the group's offset or use another group",
                self.context.spec.group, commit.next, self.partition, ends.high,
            ));
            return Err(self.context.stopped(error));
        }
        if commit.next < ends.start {
            let skipped = ends.start - commit.next;
            tracing::error!(
                pipeline = %name, partition = %self.partition, skipped,
                from = commit.next, to = ends.start,
                "retention removed messages before they were handled; going on at the first that is left"
            );
            self.metrics.skipped(skipped);
            return Ok(Commit { next: ends.start, ..commit });
        }
        Ok(commit)
    }
}
