//! Held up: the commit of a partition stands still though there is something to commit. Names the message
//! that holds it up and what that waits for: in a metric, in the status, and once in the log.
//!
//! Beside `watch_lag`, with each look at the log's ends. Nothing depends on it: it only looks. Retry tiers
//! have commits of their own and are not looked at: what they wait for is mostly time.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::in_hand::{InHand, ReadFrom};
use crate::lane::{State, WaitsFor};
use crate::message::Offset;
use crate::pipeline_spec::KeepOrder;
use crate::status::{HeldUp, HeldUpBy};

use super::PartitionTask;

/// An append that has made no progress for so long is what is waited for.
const APPEND_IS_SLOW: Duration = Duration::from_secs(5);

/// How long the commit has been where it is.
#[derive(Debug)]
pub(super) struct Standstill {
    committed: Offset,
    since: Instant,
    told: Option<HeldUpBy>,
    /// When the log has acknowledged an append last, or had none to acknowledge.
    pub(super) appended: Instant,
}

impl Standstill {
    pub(super) fn new(now: Instant) -> Self {
        Self { committed: 0, since: now, told: None, appended: now }
    }
}

impl PartitionTask {
    /// `end` is where the log ends now.
    pub(super) fn watch_standstill(&mut self, end: Offset) {
        let now = Instant::now();
        if self.appending.is_empty() {
            self.standstill.appended = now;
        }
        if self.committed != self.standstill.committed || self.committed >= end {
            if self.standstill.told.take().is_some() {
                tracing::info!(
                    pipeline = %self.context.spec.name, partition = %self.partition,
                    committed = self.committed, "the commit moves again"
                );
                self.tell(None);
            }
            (self.standstill.committed, self.standstill.since) = (self.committed, now);
            self.metrics.commit_age.set(0.0);
            return;
        }
        let lasts = now.duration_since(self.standstill.since);
        self.metrics.commit_age.set(lasts.as_secs_f64());
        if lasts < self.context.spec.held_up_after {
            return;
        }
        let (offset, by) = self.held_up_by(now);
        if self.standstill.told != Some(by) {
            tracing::warn!(
                pipeline = %self.context.spec.name, partition = %self.partition,
                committed = self.committed, end, ?offset, reason = by.label(), ?lasts,
                "the commit stands still: its first message waits for {}", by.text()
            );
        }
        self.standstill.told = Some(by);
        self.tell(Some(HeldUp { offset, by, seconds: lasts.as_secs() }));
    }

    fn tell(&mut self, held_up: Option<HeldUp>) {
        self.metrics.held_up(held_up.as_ref());
        *self.status.held_up.lock().unwrap_or_else(PoisonError::into_inner) = held_up;
    }

    /// The first message that is not settled, and what it waits for.
    fn held_up_by(&self, now: Instant) -> (Option<Offset>, HeldUpBy) {
        let Some(offset) = self.source.first_unsettled() else {
            let by = if self.source.next() > self.committed {
                HeldUpBy::Commit
            } else if self.share.is_paused() {
                HeldUpBy::Bounds
            } else {
                HeldUpBy::Fetch
            };
            return (None, by);
        };
        let is_it =
            |item: &InHand| item.read_from == ReadFrom::Source && item.message.offset == offset;
        let not_admitted = self.window.first().is_some_and(|item| item.message.offset <= offset);
        let by = if not_admitted {
            HeldUpBy::Bounds
        } else if self.awaiting_commit.iter().any(is_it) {
            HeldUpBy::Commit
        } else if self.suspicion.has(is_it) {
            HeldUpBy::Suspicion
        } else if let Some(state) = self.lanes.state_of(is_it) {
            self.held_up_in_lane(state)
        } else if self.outbox.iter().any(|one| is_it(&one.item))
            || (!self.appending.is_empty()
                && now.duration_since(self.standstill.appended) > APPEND_IS_SLOW)
        {
            HeldUpBy::Append
        } else {
            HeldUpBy::Plugin
        };
        (Some(offset), by)
    }

    fn held_up_in_lane(&self, state: State) -> HeldUpBy {
        match state {
            State::Ready if self.suspicion.is_naming() => HeldUpBy::Suspicion,
            State::Ready => HeldUpBy::Instances,
            State::Busy => HeldUpBy::Plugin,
            State::Waiting(WaitsFor::Turn) => HeldUpBy::WaitingKey,
            State::Waiting(WaitsFor::Claim)
                if self.lookups.is_empty() && self.to_ask.is_empty() =>
            {
                HeldUpBy::Claim
            }
            State::Waiting(WaitsFor::Claim) => HeldUpBy::Store,
            State::Waiting(WaitsFor::Time)
                if self.context.spec.retry.keep_order == KeepOrder::OfPartition =>
            {
                HeldUpBy::Retry
            }
            State::Waiting(WaitsFor::Time) => HeldUpBy::Pause,
        }
    }
}
