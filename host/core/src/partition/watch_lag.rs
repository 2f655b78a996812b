//! Lag and status of a partition: what it shows of itself, and whether it is caught up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::log::Ends;
use crate::message::Partition;

use super::PartitionTask;

impl PartitionTask {
    /// Shows what changed; called after each round.
    pub(super) fn show(&mut self) {
        self.metrics.end_to_end.flush();
        let status = &self.status;
        status.position.store(self.source.position(), Ordering::Relaxed);
        status.committed.store(self.committed, Ordering::Relaxed);
        status.in_flight.store(self.share.messages(), Ordering::Relaxed);
        status.retries.store(self.tiers.outstanding.len(), Ordering::Relaxed);
        status.waiting_lanes.store(self.lanes.waiting(), Ordering::Relaxed);
        status.waiting_messages.store(self.waiting.messages, Ordering::Relaxed);
    }

    /// Sets the lag metrics by the ends of the log.
    pub(super) fn on_ends(&mut self, look: u64, ends: &BTreeMap<Partition, Ends>) {
        let now = self.now();
        self.refresh_commit();
        let Some(source) = ends.get(&self.partition) else { return };
        let lag = source.end.saturating_sub(self.committed.max(source.start));
        self.watch_standstill(source.end);
        // What waits for its turn cannot be handled now.
        let mut due = lag.saturating_sub(self.waiting.messages as u64);
        let mut nothing_due = self.source.position() >= source.end
            && self.source.unsettled() == 0
            && self.committed >= source.end;
        for tier in self.tiers.all() {
            let Some(tier_ends) = ends.get(&tier.partition) else { continue };
            let next = tier.ledger.next().max(tier_ends.start);
            let depth = tier_ends.end.saturating_sub(next);
            self.metrics.retry_depth(&tier.partition.topic, depth);
            let held_due = tier.held_due(now);
            let in_work = tier.in_work();
            // If all that is held is due, so may be what lies behind it: an upper bound.
            let all_due = held_due == tier.held();
            due += if all_due { depth } else { (held_due + in_work) as u64 };
            let waits = tier.only_waits(now);
            let read_all = tier.ledger.position() >= tier_ends.end || tier.held() > 0;
            nothing_due &= waits && read_all;
        }
        let spec = &self.context.spec;
        let dead = spec.dead_letter.topic.topic(&self.partition.topic, &spec.group, None);
        let dead = Partition { topic: dead, number: self.partition.number };
        if let Some(dead_ends) = ends.get(&dead) {
            let depth = dead_ends.end.saturating_sub(dead_ends.start);
            self.metrics.dead_letter_depth(&dead.topic, depth);
        }
        self.metrics.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.metrics.due_lag.set(i64::try_from(due).unwrap_or(i64::MAX));
        let age = match self.source.oldest_unsettled() {
            Some(timestamp) => now.saturating_sub(timestamp).max(0) as f64 / 1e3,
            None => 0.0,
        };
        self.metrics.oldest_unsettled_age.set(age);
        let paused = self.lanes.waiting().saturating_sub(self.turn_waits.len());
        self.metrics.paused_lanes.set(i64::try_from(paused).unwrap_or(i64::MAX));
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.waiting_keys.set(count(self.turn_waits.len()));
        self.metrics.waiting_messages.set(count(self.waiting.messages));
        self.metrics.longest_wait.set(self.longest_turn_wait().as_secs_f64());
        let idle = self.out == 0
            && self.outbox.is_empty()
            && self.appending.is_empty()
            && self.lanes.queued() == 0
            && !self.suspicion.has(|_| true)
            && self.awaiting_commit.is_empty();
        if nothing_due && idle && self.commit_at.is_none() && self.committing.is_none() {
            self.status.caught_up_at.store(look, Ordering::Release);
        }
    }
}
