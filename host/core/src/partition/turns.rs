//! Turns: order of a key across retries (`keep_order`). While a message of a key is put off, later ones of
//! the key wait, and only they.
//!
//! Between `lane` and `dedupe`, at the head of each lane: it is given out only if nothing of its key that is
//! outstanding comes before it. Those behind it wait in the lane, in memory, up to a bound; beyond it, and
//! where memory does not keep them, they are put behind: appended to the tier that the first one is in,
//! without an attempt. There they are due by themselves, and are put behind again, into a longer tier each
//! time, if it still is not their turn. So are those in memory when the commit lags too far for them: it stays below what waits, so all that
//! is handled meanwhile has to be told apart in its metadata (what has no room there is repeated after a
//! crash), and kept in the ledger.
//!
//! Invariants:
//! - what waits in memory takes nothing of the in-flight budget, nor of a tier's slots: it never keeps out
//!   what it waits for; what is put behind keeps its part until the log has it;
//! - a message that is put behind is settled where it was read when the log has acknowledged its copy.
//!
//! Limits: [`PartitionTask::waiting_max`] messages and `waiting_bytes` wait in memory, while the commit is at
//! most [`SPAN_MAX`] messages and three quarters of its metadata behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::Share;
use crate::in_hand::{InHand, ReadFrom};
use crate::lane::{LaneId, WaitsFor};
use crate::ledger::ranges_bytes;
use crate::log::Commit;
use crate::outstanding::First;
use crate::pipeline_spec::Delivery;
use crate::settle::Settling;

use super::PartitionTask;

/// A ledger with so many offsets takes 24 MB.
const SPAN_MAX: usize = 1_000_000;

/// Redriven messages wait in a tier without a delay.
const SHORTEST: Duration = Duration::from_millis(1);

/// What waits in memory for its turn.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Messages.
    pub(super) messages: usize,
    /// Their bytes.
    bytes: usize,
}

impl Waiting {
    /// Takes a message of the source, if there is room for it: it gives back what it has of the budget, so
    /// that intake can go on without it. What has no room keeps its part until it is put behind.
    fn take(&mut self, item: &mut InHand, messages_max: usize, bytes_max: usize, share: &Share) {
        let bytes = self.bytes.saturating_add(item.size_bytes);
        let has_room = self.messages < messages_max && bytes <= bytes_max;
        if item.waits || item.read_from != ReadFrom::Source || !has_room {
            return;
        }
        item.waits = true;
        self.messages += 1;
        self.bytes = bytes;
        share.give_back(1, item.size_bytes);
    }
}

impl PartitionTask {
    /// What the head of a lane has to wait for, if anything.
    pub(super) fn before(&self, head: &InHand) -> Option<First> {
        self.tiers.outstanding.before(head.message.key.as_ref(), head.context.turn)
    }

    /// How many messages may wait in memory: what waits parts the ranges that are settled above the
    /// commit, and in `exactly_once` none may be forgotten. With `at_most_once` a message is committed
    /// already: only a tier keeps it. And a run that ends when nothing is due leaves nothing behind.
    fn waiting_max(&self) -> usize {
        let spec = &self.context.spec;
        match spec.delivery {
            _ if self.context.until_caught_up.load(Ordering::Relaxed) => 0,
            Delivery::AtMostOnce => 0,
            Delivery::ExactlyOnce => {
                let window = self.window.size(self.source.next()).unwrap_or(usize::MAX);
                (window / 4 * 3).min(spec.waiting_messages)
            }
            Delivery::AtLeastOnce => spec.waiting_messages,
        }
    }

    /// The head of a busy lane has to wait for a message before it.
    pub(super) fn lane_waits_for_turn(&mut self, lane: LaneId, before: First) {
        let messages_max = self.waiting_max();
        for item in self.lanes.queue_mut(lane) {
            self.waiting.take(item, messages_max, self.context.spec.waiting_bytes, &self.share);
        }
        self.lanes.wait(lane, Vec::new(), WaitsFor::Turn);
        self.turn_waits.entry(lane).or_insert_with(Instant::now);
        if let First::InTier(tier) = before {
            let behind = self.lanes.take_back(lane, |item| Some(!item.waits));
            self.put_all_behind(behind, tier);
        }
    }

    /// A message came into a lane that waits for a turn.
    pub(super) fn joined_waiting(&mut self, lane: LaneId) {
        let messages_max = self.waiting_max();
        // It may be the only one of thousands that does not wait yet, and mostly is the last.
        for item in self.lanes.queue_mut(lane).rev().take_while(|item| !item.waits) {
            self.waiting.take(item, messages_max, self.context.spec.waiting_bytes, &self.share);
        }
        let before = self.lanes.head(lane).and_then(|head| self.before(head));
        if let Some(First::InTier(tier)) = before {
            let behind = self.lanes.take_back(lane, |item| (!item.waits).then_some(true));
            self.put_all_behind(behind, tier);
        }
    }

    /// Puts behind what waits in memory, if the commit lags too far, or tells too many settled ranges apart.
    pub(super) fn put_behind_if_commit_lags(&mut self, commit: &Commit) {
        let is_full = match self.is_exactly_once() {
            // The window admits by the number of ranges.
            true => commit.settled_above.len() > self.context.ranges_max / 4 * 3,
            false => ranges_bytes(commit) > self.context.ranges_bytes_max / 4 * 3,
        };
        let lags = is_full || self.source.span() > SPAN_MAX;
        if !lags || self.waiting.messages == 0 {
            return;
        }
        let lanes: Vec<LaneId> = self.turn_waits.keys().copied().collect();
        for lane in lanes {
            let before = self.lanes.head(lane).and_then(|head| self.before(head));
            // One that waits for what is in hand goes on in a moment.
            if let Some(First::InTier(tier)) = before {
                let behind = self.lanes.take_back(lane, |_| Some(true));
                self.put_all_behind(behind, tier);
            }
        }
    }

    fn put_all_behind(&mut self, behind: Vec<InHand>, tier: usize) {
        for item in behind {
            self.put_behind(item, tier);
        }
    }

    /// Appends a message to a tier without an attempt: to that of the message it waits for at first, then to
    /// ever longer ones. Else a key that fails for long would have all that waits for it written anew with
    /// each of its delays.
    pub(super) fn put_behind(&mut self, item: InHand, first: usize) {
        let tiers = self.tiers.all().iter();
        let first_delay = self.tiers.all().get(first).map_or(Duration::ZERO, |tier| tier.delay);
        let waits = item.provenance.as_ref().map_or(0, |found| found.waits).min(20);
        let wanted = first_delay.max(SHORTEST).saturating_mul(1 << waits);
        let longer = tiers.clone().filter(|tier| tier.delay >= wanted);
        let chosen = match waits {
            0 => self.tiers.all().get(first),
            _ => longer.min_by_key(|tier| tier.delay).or(tiers.max_by_key(|tier| tier.delay)),
        };
        let Some(tier) = chosen else {
            // There is no such tier; nothing is lost by waiting in memory.
            return self.enqueue(item);
        };
        self.metrics.put_behind.inc();
        let one = Settling::behind(&self.context, item, &tier.partition.topic, tier.delay);
        self.push_outbox(one);
    }

    /// What a message took is free again.
    pub(super) fn stops_waiting(&mut self, item: &InHand) {
        self.waiting.messages -= 1;
        self.waiting.bytes -= item.size_bytes;
    }

    /// How long the lane that has waited longest for a turn has done so.
    pub(super) fn longest_turn_wait(&self) -> Duration {
        let since = self.turn_waits.values().min();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
