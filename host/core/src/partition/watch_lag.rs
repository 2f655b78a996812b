//! Lag and status of a partition: what it shows of itself, and whether it is caught up.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::hot_keys::HotKey;
use crate::intake::Looked;
use crate::message::{Offset, Partition};

use super::PartitionTask;

/// No time to drain is shown as longer: a partition that stands still would take for ever.
const TO_DRAIN_MAX: Duration = Duration::from_secs(86_400);
/// What the pace is smoothed over.
const PACE_OVER: Duration = Duration::from_secs(60);

/// How fast a partition's commit moves, smoothed over the last minute.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<(Instant, Offset)>,
    /// Messages a second; `None` until the first two looks.
    rate: Option<f64>,
}

impl Pace {
    /// How long `lag` messages take at this pace.
    fn drains_in(&mut self, now: Instant, committed: Offset, lag: u64) -> Duration {
        let last = self.last.replace((now, committed));
        if let Some((then, before)) = last {
            let elapsed = now.duration_since(then).as_secs_f64();
            if elapsed > 0.0 {
                let rate = committed.saturating_sub(before) as f64 / elapsed;
                let weight = 1.0 - (-elapsed / PACE_OVER.as_secs_f64()).exp();
                self.rate = Some(self.rate.map_or(rate, |old| old + weight * (rate - old)));
            }
        }
        if lag == 0 {
            return Duration::ZERO;
        }
        let seconds = self.rate.map_or(f64::INFINITY, |rate| lag as f64 / rate);
        // Never infinite, never NaN.
        if seconds < TO_DRAIN_MAX.as_secs_f64() {
            Duration::from_secs_f64(seconds)
        } else {
            TO_DRAIN_MAX
        }
    }
}

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

    fn show_hot_keys(&mut self) {
        self.hot_keys.look_at_clock(Instant::now());
        let top = self.hot_keys.top();
        let largest = |share: fn(&HotKey) -> f64| top.iter().map(share).fold(0.0, f64::max);
        self.metrics.hot_key_of_attempts.set(largest(|hot| hot.of_attempts));
        self.metrics.hot_key_of_time.set(largest(|hot| hot.of_time));
        *self.status.hot_keys.lock().unwrap_or_else(PoisonError::into_inner) = top;
    }

    /// Sets the lag metrics by the ends of the log.
    pub(super) fn on_ends(&mut self, look: u64, looked: &Looked) {
        let ends = &looked.ends;
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
            let closed = looked.closed_letters.get(&dead).copied().unwrap_or_default();
            let depth = dead_ends.end.saturating_sub(dead_ends.start).saturating_sub(closed);
            self.metrics.dead_letter_depth(&dead.topic, depth);
        }
        let drains_in = self.pace.drains_in(Instant::now(), self.committed, lag);
        self.metrics.time_to_drain.set(drains_in.as_secs_f64());
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
        self.show_hot_keys();
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_caught_up_drains_in_no_time_and_what_stands_still_in_a_day() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        assert_eq!(pace.drains_in(begin, 100, 0), Duration::ZERO);
        assert_eq!(pace.drains_in(begin, 100, 5), TO_DRAIN_MAX, "no pace is known");
        for n in 1..=10 {
            assert_eq!(pace.drains_in(begin + SECOND * n, 100, u64::MAX), TO_DRAIN_MAX);
        }
        assert_eq!(pace.drains_in(begin + SECOND * 11, 100, 0), Duration::ZERO);
    }

    #[test]
    fn the_time_follows_the_pace() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        for n in 0..10 {
            pace.drains_in(begin + SECOND * n, u64::from(n) * 50, 1);
        }
        assert_eq!(pace.drains_in(begin + SECOND * 10, 500, 1_000).as_secs(), 20);
        for n in 11..400_u32 {
            pace.drains_in(begin + SECOND * n, 500 + u64::from(n - 10) * 500, 1);
        }
        let now = pace.drains_in(begin + SECOND * 400, 500 + 390 * 500, 1_000);
        assert!(now > SECOND * 19 / 10 && now < SECOND * 21 / 10, "{now:?}");
    }

    // A commit that went back (a topic made anew) is no pace.
    #[test]
    fn an_offset_that_goes_back_counts_nothing() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        pace.drains_in(begin, 1_000, 1);
        assert_eq!(pace.drains_in(begin + SECOND, 0, 1), TO_DRAIN_MAX);
    }
}
