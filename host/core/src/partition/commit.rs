//! Commit: tells the log what is settled, source and tiers in one request, one request at a time.

use std::time::Duration;

use tokio::time::Instant;

use crate::in_hand::InHand;
use crate::lane::LaneId;
use crate::log::Commits;
use crate::pipeline_spec::Delivery;

use super::PartitionTask;

/// A commit that the log acknowledged, and what waited for it.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// What was committed.
    pub(crate) commits: Commits,
    /// Lanes that go on at a time, now that their attempts are kept.
    wakes: Vec<(Instant, LaneId)>,
    /// Messages that may be attempted now (`at_most_once`).
    admitted: Vec<InHand>,
    /// How many messages of this owner it has settled.
    settled: u64,
    /// Whether it names a message that is to be handled alone.
    names: bool,
}

impl PartitionTask {
    /// Something was settled: commit it with the next interval.
    pub(super) fn commit_soon(&mut self) {
        if self.commit_at.is_none() {
            self.commit_at = Some(Instant::now() + self.context.spec.commit_interval);
        }
    }

    /// A commit is forgotten at last (see `commit_refresh`): this one is brought to mind in time.
    pub(super) fn refresh_commit(&mut self) {
        if self.is_refresh_due() {
            self.commit_soon();
        }
    }

    fn is_refresh_due(&self) -> bool {
        Instant::now() >= self.refresh_at
    }

    /// Something waits for the commit.
    pub(super) fn commit_now(&mut self) {
        self.commit_at = Some(Instant::now());
    }

    /// What is settled now, of the source and all tiers.
    pub(super) fn commits(&self) -> Commits {
        let bytes_max = self.context.ranges_bytes_max;
        let mut source = self.source.commit(bytes_max);
        source.owners = self.suspicion.owners();
        let source = (self.partition.clone(), source);
        let tiers = self
            .tiers
            .all()
            .iter()
            .map(|tier| (tier.partition.clone(), tier.ledger.commit(bytes_max)));
        std::iter::once(source).chain(tiers).collect()
    }

    /// Whether a commit is due. Draining, it is due at once.
    pub(super) fn commit_is_due(&self, draining: bool) -> bool {
        self.commit_at.is_some_and(|at| draining || at <= Instant::now())
    }

    /// Takes what is to be committed together with what waits for it; `None` if nothing is new.
    /// The messages whose records go with it are taken even so.
    pub(super) fn take_commit(&mut self, with: usize) -> Option<Committed> {
        self.commit_at = None;
        let commits = self.commits();
        if let Some((_, source)) = commits.first() {
            self.put_behind_if_commit_lags(source);
        }
        let wakes = std::mem::take(&mut self.wakes_after_commit);
        let admitted = std::mem::take(&mut self.awaiting_commit);
        let nothing_new = commits == self.last_commits
            && wakes.is_empty()
            && admitted.is_empty()
            && !self.is_refresh_due();
        let settled = self.suspicion.settled_count() + with as u64;
        let names = self.suspicion.waits_for_commit();
        if with == 0 && nothing_new {
            // It is as the log has it.
            self.suspicion.committed(settled, names);
            return None;
        }
        Some(Committed { commits, wakes, admitted, settled, names })
    }

    /// Starts a commit if one is due and none is under way (`exactly_once` commits with its records
    /// instead).
    pub(super) fn start_commit(&mut self, draining: bool) {
        if self.context.spec.delivery == Delivery::ExactlyOnce
            || self.committing.is_some()
            || !self.commit_is_due(draining)
        {
            return;
        }
        let Some(committed) = self.take_commit(0) else { return };
        let context = self.context.clone();
        let consumer = self.consumer.clone();
        self.committing = Some(Box::pin(async move {
            context
                .until_available("commit", || consumer.commit(committed.commits.clone()))
                .await?;
            Ok(committed)
        }));
    }

    pub(super) fn on_committed(&mut self, committed: Committed) {
        self.metrics.commits.inc();
        if let Some((_, commit)) = committed.commits.first() {
            self.committed = commit.next;
        }
        self.suspicion.committed(committed.settled, committed.names);
        self.last_commits = committed.commits;
        self.refresh_at = Instant::now() + self.context.spec.commit_refresh;
        self.trim_tiers();
        for (at, lane) in committed.wakes {
            self.wake_at(at, lane);
        }
        for item in committed.admitted {
            self.enqueue(item);
        }
    }

    /// Lets a waiting lane go on at a time.
    pub(super) fn wake_at(&mut self, at: Instant, lane: LaneId) {
        self.wakes.push(std::cmp::Reverse((at, lane)));
    }

    /// Lets a waiting lane go on after a delay, and not before the next commit is acknowledged.
    pub(super) fn wake_after_commit(&mut self, delay: Duration, lane: LaneId) {
        self.wakes_after_commit.push((Instant::now() + delay, lane));
        self.commit_now();
    }
}
