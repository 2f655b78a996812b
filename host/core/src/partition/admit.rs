//! Admitting messages: their idempotency key, the question to the store, their lane.

use bytes::Bytes;

use crate::in_hand::InHand;
use crate::lane::WaitsFor;
use crate::pipeline_spec::{Delivery, MissingKey};

use super::PartitionTask;

impl PartitionTask {
    /// Takes a message on its way, or (`at_most_once`) has it committed first.
    pub(super) fn admit(&mut self, item: InHand) {
        if self.context.spec.delivery == Delivery::AtMostOnce {
            self.settle_in_ledger(item.read_from, item.message.offset);
            self.awaiting_commit.push(item);
            self.commit_now();
        } else {
            self.enqueue(item);
        }
    }

    /// Admits what waits for its place in the window.
    pub(super) fn admit_next(&mut self) {
        while let Some(item) = self.window.admit(self.source.next()) {
            self.admit(item);
        }
    }

    /// Puts a message into its lane.
    pub(super) fn enqueue(&mut self, mut item: InHand) {
        if let Some(idempotency) = &self.context.spec.idempotency {
            match idempotency.key.key_of(&item.message) {
                Some(key) => {
                    if self.claims.enter(&key) {
                        self.to_ask.push(key.clone());
                    }
                    item.key = Some(key);
                }
                None if idempotency.missing == MissingKey::Handle => {}
                None => {
                    // Not at once: it has its place in its lane like any other.
                    let why = format!("the message has no idempotency key ({:?})", idempotency.key);
                    item.refused = Some(why);
                }
            }
        }
        let key = item.message.key.clone();
        if let Some(lane) = self.lanes.push(key.as_ref(), item) {
            self.joined_waiting(lane);
        }
    }

    /// Asks the idempotency store for all keys that came in since the last time, in one call.
    pub(super) fn ask_store(&mut self) {
        if self.to_ask.is_empty() {
            return;
        }
        let keys = std::mem::take(&mut self.to_ask);
        let context = self.context.clone();
        let scope = context.scope(&self.partition);
        self.lookups.push(Box::pin(async move {
            let store = context.store()?;
            let turns = context
                .until_available("idempotency lookup", || {
                    store.lookup(&scope, &keys, context.ports.clock.now())
                })
                .await?;
            Ok(keys.into_iter().zip(turns).collect())
        }));
    }

    pub(super) fn on_answers(&mut self, answers: Vec<(Bytes, Option<u64>)>) {
        for (key, turn) in answers {
            for lane in self.claims.answered(&key, turn) {
                self.lanes.wake(lane, WaitsFor::Claim);
            }
        }
    }
}
