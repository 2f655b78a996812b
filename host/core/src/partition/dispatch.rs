//! Dispatch: forms batches of what is ready and gives them to the workers, deciding about
//! duplicates at the head of each lane on the way.

use std::time::Duration;

use crate::attempt::Work;
use crate::dedupe::Decision;
use crate::in_hand::InHand;
use crate::lane::{LaneId, WaitsFor};
use crate::outcome::Outcome;
use crate::outstanding::First;

use super::PartitionTask;

/// How much work a batch should hold, by what attempts took lately: large enough that the hand-over
/// does not matter, small enough that other workers do not stand idle.
const BATCH_TARGET: Duration = Duration::from_millis(1);

/// The largest batch.
const BATCH_MESSAGES_MAX: usize = 256;

/// Cheap attempts are not spread over workers below so many messages a batch.
const BATCH_MESSAGES_CHEAP: usize = 32;

/// Why no more was taken of a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// All of it, or enough.
    Taken,
    /// It, or the next one, is handled with nothing beside it.
    Suspect,
    /// The next one waits for a claim, or for the store's answer.
    Claim,
    /// The next one has to wait for a message of its key before it.
    Turn(First),
}

impl PartitionTask {
    /// Gives ready messages to workers, as many batches as there are workers.
    pub(super) fn dispatch(&mut self) {
        if self.suspicion.is_naming() {
            return self.dispatch_named();
        }
        let workers = self.context.spec.instances;
        while self.out < workers && self.output_bytes < self.context.spec.in_flight_bytes {
            let most = self.batch_messages_max().min(self.uncommitted_room());
            let batch = self.form_batch(most);
            if batch.is_empty() {
                return;
            }
            self.give_to_worker(batch);
        }
    }

    pub(super) fn give_to_worker(&mut self, batch: Vec<(LaneId, InHand)>) {
        self.out += 1;
        self.out_messages += batch.len();
        self.is_active();
        self.context.queue.offer(Work { batch, reply: self.results_sender.clone() });
    }

    fn batch_messages_max(&self) -> usize {
        let nanos = self.attempt_cost.as_nanos().max(1);
        let most = usize::try_from(BATCH_TARGET.as_nanos() / nanos).unwrap_or(BATCH_MESSAGES_MAX);
        let most = most.clamp(1, BATCH_MESSAGES_MAX);
        let spread = self.lanes.queued().div_ceil(self.context.spec.instances);
        spread.max(most.min(BATCH_MESSAGES_CHEAP)).min(most)
    }

    pub(super) fn form_batch(&mut self, most: usize) -> Vec<(LaneId, InHand)> {
        let mut batch = Vec::new();
        while batch.len() < most {
            let Some(lane) = self.lanes.next_ready() else { break };
            let before = batch.len();
            let stop = self.take_from(lane, most, &mut batch);
            match stop {
                // It stays busy until the batch is back, and is looked at again then.
                _ if batch.len() > before => _ = self.turn_waits.remove(&lane),
                Stop::Claim => self.lanes.wait(lane, Vec::new(), WaitsFor::Claim),
                Stop::Turn(before) => self.lane_waits_for_turn(lane, before),
                Stop::Taken | Stop::Suspect => {
                    self.turn_waits.remove(&lane);
                    self.lanes.hand_back(lane, Vec::new());
                }
            }
            if stop == Stop::Suspect {
                break;
            }
        }
        batch
    }

    /// Takes messages of a lane as long as they may be attempted.
    fn take_from(&mut self, lane: LaneId, most: usize, batch: &mut Vec<(LaneId, InHand)>) -> Stop {
        while batch.len() < most {
            let Some(head) = self.lanes.head(lane) else { return Stop::Taken };
            if let Some(before) = self.before(head) {
                return Stop::Turn(before);
            }
            if let Some(reason) = head.refused.clone() {
                if let Some(item) = self.lanes.pop(lane) {
                    self.fail_for_good(item, &Outcome::Reject { reason });
                }
                continue;
            }
            if let Some(died) = self.is_convicted(head) {
                if let Some(item) = self.lanes.pop(lane) {
                    self.bury_convicted(item, died);
                }
                continue;
            }
            let is_suspect = self.is_suspect(head);
            if is_suspect && !batch.is_empty() {
                return Stop::Suspect;
            }
            let decision = match &head.key {
                Some(held) => self.claims.decide(held, head.holder(), lane),
                None => Decision::Attempt,
            };
            if decision == Decision::Wait {
                return Stop::Claim;
            }
            let Some(item) = self.lanes.pop(lane) else { return Stop::Taken };
            match decision {
                Decision::Attempt => {
                    batch.push((lane, item));
                    if is_suspect {
                        return Stop::Suspect;
                    }
                }
                Decision::Duplicate(of) => self.drop_duplicate(item, of),
                Decision::AlreadyHandled => {
                    self.metrics.already_handled.inc();
                    self.settle_unattempted(item);
                }
                Decision::Wait => return Stop::Claim,
            }
        }
        Stop::Taken
    }

    fn drop_duplicate(&mut self, item: InHand, of: u64) {
        self.metrics.duplicate.inc();
        tracing::debug!(
            pipeline = %self.context.spec.name, partition = %self.partition,
            offset = item.context.turn, duplicate_of = of,
            trace_id = item.trace_id().map(tracing::field::display),
            "duplicate dropped: a message with its idempotency key was handled"
        );
        self.settle_unattempted(item);
    }
}
