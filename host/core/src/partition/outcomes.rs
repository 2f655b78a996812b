//! Outcomes: what becomes of messages when workers hand them back, and when the log has
//! acknowledged what they caused.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::attempt::{Attempted, Returned, Verdict};
use crate::in_hand::{InHand, ReadFrom};
use crate::lane::{LaneId, WaitsFor};
use crate::message::{Offset, Topic};
use crate::metrics::PartitionMetrics;
use crate::outcome::{Fault, FaultKind, Outcome};
use crate::pipeline::PipelineError;
use crate::pipeline_spec::Delivery;
use crate::recent_failures::Failed;
use crate::settle::{self, Acknowledged, Ending, Ruling, Settling};

use super::PartitionTask;

/// Appends under way at once for a partition: one. With two, the second could be in the log before the
/// first that failed and is tried again, and outputs of a key would change places. What is settled
/// meanwhile goes with the next, so batches grow as the log gets slower.
const APPENDS_MAX: usize = 1;

/// While more messages are ready than workers can take, outputs wait so long for others: a request costs
/// both its ends more than a message does, and many partitions make many small ones.
const APPEND_EVERY: Duration = Duration::from_millis(20);

/// So many messages, or bytes of what they caused, do not wait.
const APPEND_MESSAGES: usize = 4096;
const APPEND_BYTES: usize = 1 << 20;

/// How a lane goes on after its part of a batch.
#[derive(Clone, Copy)]
enum Then {
    Next,
    WaitFor(Duration),
    WaitForCommitAnd(Duration),
}

/// Outputs that were acknowledged: told once for each run of one topic.
#[derive(Default)]
struct OutputCount {
    topic: Option<Topic>,
    count: u64,
}

impl OutputCount {
    fn add(&mut self, topic: &Topic, metrics: &PartitionMetrics) {
        if self.topic.as_ref() != Some(topic) {
            self.tell(metrics);
            self.topic = Some(topic.clone());
        }
        self.count += 1;
    }

    fn tell(&mut self, metrics: &PartitionMetrics) {
        if let Some(topic) = self.topic.take() {
            metrics.outputs(&topic, std::mem::take(&mut self.count));
        }
    }
}

impl PartitionTask {
    pub(super) fn on_attempted(&mut self, returned: Returned) {
        let Returned { batch, busy } = returned;
        self.out -= 1;
        self.out_messages -= batch.len();
        self.named_are_back();
        self.is_active();
        let now = self.now();
        let mut attempts = 0u32;
        let mut items = batch.into_iter().peekable();
        while let Some(first) = items.peek() {
            let lane = first.lane;
            let mut back = Vec::new();
            let mut then = Then::Next;
            while let Some(attempted) = items.next_if(|item| item.lane == lane) {
                let Attempted { mut item, verdict, took, .. } = attempted;
                if !matches!(verdict, Verdict::Unattempted) {
                    self.hot_keys.note(item.message.key.as_ref(), took);
                }
                match verdict {
                    Verdict::Unattempted => back.push(item),
                    Verdict::Done(records) => {
                        attempts += 1;
                        self.metrics.done.inc();
                        let one = Settling::done(&self.context, item, records, &self.scope, now);
                        self.push_outbox(one);
                    }
                    Verdict::Failed(outcome) => {
                        attempts += 1;
                        self.metrics.failed(outcome.kind());
                        self.note_failure(&item, &outcome);
                        if let Some(wait) = self.on_failed(&mut item, &outcome) {
                            then = wait;
                            back.push(item);
                        } else {
                            self.put_off_or_bury(item, &outcome);
                        }
                    }
                }
            }
            self.lane_goes_on(lane, back, then);
        }
        if attempts > 0 {
            // A quarter of the new in the old: follows a handler that became slow within a few
            // batches, and is not thrown by a single one.
            self.attempt_cost = (self.attempt_cost * 3 + busy / attempts) / 4;
        }
    }

    fn note_failure(&self, item: &InHand, outcome: &Outcome) {
        let failed = Failed {
            kind: outcome.kind(),
            reason: outcome.reason(),
            partition: &self.partition,
            offset: item.context.turn,
            attempt: item.context.attempt,
        };
        let mut failures =
            self.context.status.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.note(failed, self.now());
    }

    /// If the message stays at the head of its lane, says how the lane waits.
    fn on_failed(&mut self, item: &mut InHand, outcome: &Outcome) -> Option<Then> {
        let retry = &self.context.spec.retry;
        if let Outcome::Pause { reason, pause } = outcome {
            let grown = pause.saturating_mul(1 << item.pauses.min(10));
            let wait = grown.clamp(retry.pause_min, retry.pause_max);
            item.pauses = item.pauses.saturating_add(1);
            self.metrics.paused_by_plugin.inc();
            tracing::warn!(
                pipeline = %self.context.spec.name, partition = %self.partition,
                offset = item.context.turn, %reason, ?wait,
                trace_id = item.trace_id().map(tracing::field::display),
                "the plugin paused this lane; no attempt is counted"
            );
            return Some(Then::WaitFor(wait));
        }
        item.pauses = 0;
        let Ruling::InPlace(delay) = settle::rule(retry, item.context.attempt, outcome) else {
            return None;
        };
        self.metrics.retry(delay);
        self.tell_retry(item, outcome, delay);
        let made = item.context.attempt;
        item.context.attempt = made.saturating_add(1);
        match item.read_from {
            // Committed already, so nobody will ask for the count.
            _ if self.committed_first() => {}
            ReadFrom::Source => self.source.attempted(item.message.offset, made),
            ReadFrom::Tier { tier, offset } => {
                if let Some(tier) = self.tiers.all_mut().get_mut(tier) {
                    tier.ledger.attempted(offset, made);
                }
            }
        }
        Some(Then::WaitForCommitAnd(delay))
    }

    fn put_off_or_bury(&mut self, item: InHand, outcome: &Outcome) {
        match settle::rule(&self.context.spec.retry, item.context.attempt, outcome) {
            Ruling::Tier(delay) | Ruling::InPlace(delay) => {
                self.tell_retry(&item, outcome, delay);
                let one = Settling::retry(&self.context, item, outcome, delay);
                self.push_outbox(one);
            }
            Ruling::DeadLetter => self.fail_for_good(item, outcome),
        }
    }

    fn tell_retry(&self, item: &InHand, outcome: &Outcome, delay: Duration) {
        tracing::debug!(
            pipeline = %self.context.spec.name, partition = %self.partition,
            offset = item.message.offset, attempt = item.context.attempt, kind = outcome.kind(),
            reason = outcome.reason(), again_in = ?delay,
            trace_id = item.trace_id().map(tracing::field::display),
            "an attempt failed; the message is tried again"
        );
    }

    /// Makes a dead letter of a message, whatever attempts are left.
    pub(super) fn fail_for_good(&mut self, item: InHand, outcome: &Outcome) {
        let one = Settling::dead(&self.context, item, outcome);
        self.push_outbox(one);
    }

    /// Makes a dead letter of something in a tier that is no retry.
    pub(super) fn bury_unreadable(&mut self, item: InHand, reason: String) {
        let fault = Fault { kind: FaultKind::Decode, reason, backtrace: None };
        self.fail_for_good(item, &Outcome::Fault(fault));
    }

    fn lane_goes_on(&mut self, lane: LaneId, back: Vec<InHand>, then: Then) {
        match then {
            Then::Next => self.lanes.hand_back(lane, back),
            Then::WaitFor(wait) => {
                self.lanes.wait(lane, back, WaitsFor::Time);
                self.wake_at(Instant::now() + wait, lane);
            }
            Then::WaitForCommitAnd(delay) => {
                self.lanes.wait(lane, back, WaitsFor::Time);
                self.wake_after_commit(delay, lane);
            }
        }
    }

    pub(super) fn push_outbox(&mut self, one: Settling) {
        if let Some(progress) = one.progress()
            && let Some(tier) = one.records.first().and_then(|r| self.tiers.number_of(&r.topic))
        {
            let (turn, key) = (one.item.context.turn, one.item.message.key.as_ref());
            self.tiers.outstanding.writing(turn, key, progress, tier);
        }
        self.suspicion.decided();
        if one.item.read_from == ReadFrom::Source {
            self.window.decided();
        }
        if self.outbox.is_empty() {
            self.append_at = self.context.tick(APPEND_EVERY, Instant::now());
        }
        self.output_bytes += settle::output_bytes(std::slice::from_ref(&one));
        self.outbox.push(one);
    }

    /// Starts bringing to the log what outcomes caused.
    pub(super) async fn append_outbox(&mut self, draining: bool) -> Result<(), PipelineError> {
        let mut appending = if self.context.spec.delivery == Delivery::ExactlyOnce {
            if !self.appending.is_empty()
                || (self.outbox.is_empty() && !self.commit_is_due(draining))
                || !(draining || self.may_transact())
            {
                return Ok(());
            }
            let settling = std::mem::take(&mut self.outbox);
            for one in &settling {
                // Settled by the very transaction that carries this commit: both happen or none.
                let offset = one.item.message.offset;
                self.settle_in_ledger(one.item.read_from, offset);
            }
            let Some(committed) = self.take_commit(settling.len()) else { return Ok(()) };
            let (context, consumer) = (self.context.clone(), self.consumer.clone());
            Box::pin(settle::transact(context, consumer, settling, Some(committed))) as _
        } else {
            if !self.has_to_append() || !(draining || self.may_append()) {
                return Ok(());
            }
            let settling = std::mem::take(&mut self.outbox);
            let (context, consumer) = (self.context.clone(), self.consumer.clone());
            Box::pin(settle::append(context, consumer, settling))
                as futures::future::BoxFuture<'static, _>
        };
        match futures::poll!(&mut appending) {
            std::task::Poll::Ready(acknowledged) => self.on_acknowledged(acknowledged?),
            std::task::Poll::Pending => self.appending.push(appending),
        }
        Ok(())
    }

    /// Whether something may be sent that is not on its way (but in `exactly_once`).
    pub(super) fn has_to_append(&self) -> bool {
        !self.outbox.is_empty() && self.appending.len() < APPENDS_MAX
    }

    /// Whether the outbox is worth a request, or nothing else is about to come into it.
    fn may_append(&self) -> bool {
        !self.lanes.any_ready()
            || self.suspicion.is_naming()
            || self.outbox.len() >= APPEND_MESSAGES
            || self.output_bytes >= APPEND_BYTES
            || Instant::now() >= self.append_at
    }

    /// Whether it is time for a transaction, or nothing more comes in to wait for.
    fn may_transact(&self) -> bool {
        let all_in_outbox = self.share.is_paused() && self.out == 0 && !self.lanes.any_ready();
        // Nothing goes on before that either, where messages are named.
        self.context.rounds.may_begin(all_in_outbox || self.suspicion.is_naming())
    }

    pub(super) fn on_acknowledged(&mut self, acknowledged: Acknowledged) {
        self.standstill.appended = Instant::now();
        self.is_active();
        let now = self.now();
        let Acknowledged { settled, copies, output_bytes, committed } = acknowledged;
        self.output_bytes -= output_bytes;
        let mut copies = copies.into_iter().peekable();
        let mut outputs = OutputCount::default();
        for (index, one) in settled.into_iter().enumerate() {
            let copy = copies.next_if(|(owner, _)| *owner == index).map(|(_, copy)| copy.offset);
            self.index_ended(&one, copy);
            let Settling { item, ending, records, .. } = one;
            if let Some(tracer) = &self.context.tracer {
                tracer.settled(&item, &ending, &records);
            }
            match &ending {
                Ending::Done => {
                    for record in &records {
                        outputs.add(&record.topic, &self.metrics);
                    }
                    let age = now.saturating_sub(item.context.timestamp).max(0);
                    self.metrics.end_to_end.observe(age as f64 / 1e3);
                }
                Ending::Retry(delay) => self.metrics.retry(*delay),
                Ending::Behind => {}
                Ending::Dead(kind) => {
                    self.metrics.dead_letter(kind);
                    tracing::warn!(
                        pipeline = %self.context.spec.name, partition = %self.partition,
                        offset = item.message.offset, attempts = item.context.attempt, kind,
                        trace_id = item.trace_id().map(tracing::field::display),
                        "message became a dead letter"
                    );
                }
            }
            let done = ending == Ending::Done;
            self.leave(item, done);
        }
        outputs.tell(&self.metrics);
        if let Some(committed) = committed {
            self.on_committed(committed);
        }
    }

    /// The log has taken what a message caused: it has ended, or goes on as its copy, at this offset if the
    /// log has told it.
    fn index_ended(&mut self, one: &Settling, copy: Option<Offset>) {
        let (turn, key) = (one.item.context.turn, one.item.message.key.as_ref());
        let tier = one.records.first().and_then(|record| self.tiers.number_of(&record.topic));
        let outstanding = &mut self.tiers.outstanding;
        outstanding.left(turn, key, one.item.read_from);
        outstanding.written(turn, key, one.goes_on());
        if let (Some(progress), Some(tier), Some(offset)) = (one.progress(), tier, copy) {
            outstanding.note(turn, key, progress, (tier, offset));
        }
    }

    /// Settles a message for which nothing had to be done.
    pub(super) fn settle_unattempted(&mut self, item: InHand) {
        self.suspicion.decided();
        if item.read_from == ReadFrom::Source {
            self.window.decided();
        }
        let (turn, key) = (item.context.turn, item.message.key.as_ref());
        self.tiers.outstanding.left(turn, key, item.read_from);
        self.leave(item, false);
    }

    /// The message is out of hand: its claim, its place in the ledger, its part of the budget.
    fn leave(&mut self, item: InHand, done: bool) {
        self.suspicion.settled();
        if let Some(held) = &item.key {
            let waiting = match done {
                true => self.claims.marked(held, item.holder()),
                false => self.claims.released(held, item.holder()),
            };
            for lane in waiting {
                self.lanes.wake(lane, WaitsFor::Claim);
            }
        }
        self.settle_in_ledger(item.read_from, item.message.offset);
        self.tiers.gave_back(item.read_from);
        match item.read_from {
            ReadFrom::Source if item.waits => self.stops_waiting(&item),
            ReadFrom::Source => self.free(item.size_bytes),
            ReadFrom::Tier { .. } => {}
        }
        if let Some(key) = item.message.key.as_ref().filter(|_| !self.turn_waits.is_empty()) {
            self.lanes.wake_key(key);
        }
    }
}
