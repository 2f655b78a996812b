//! Admitting messages: their idempotency key, the question to the store, their lane.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::dedupe::EntryId;
use crate::in_hand::InHand;
use crate::lane::WaitsFor;
use crate::message::Offset;
use crate::pipeline::PipelineError;
use crate::pipeline_spec::{Delivery, MissingKey};

use super::{Answers, PartitionTask};

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
                    let (held, is_unknown) = self.claims.enter(key);
                    if is_unknown {
                        self.to_ask.push(held.entry);
                    }
                    item.key = Some(held);
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
    /// What the store answers at once is known at once.
    pub(super) async fn ask_store(&mut self) -> Result<(), PipelineError> {
        if self.to_ask.is_empty() {
            return Ok(());
        }
        let asked = self.to_ask.drain(..);
        let asked = asked.filter_map(|entry| Some((entry, self.claims.key(entry)?)));
        let (entries, keys): (Vec<EntryId>, Vec<&Bytes>) = asked.unzip();
        let context = self.context.clone();
        let bytes: Vec<&[u8]> = keys.iter().map(|key| &***key).collect();
        if let Some(turns) = context.store()?.known(&self.scope, &bytes, context.ports.clock.now())
        {
            self.on_answers(entries.into_iter().zip(turns));
            return Ok(());
        }
        let keys: Vec<Bytes> = keys.into_iter().cloned().collect();
        let scope = Arc::clone(&self.scope);
        let mut asking: BoxFuture<'static, Answers> = Box::pin(async move {
            let store = context.store()?;
            let turns = context
                .until_available("idempotency lookup", || {
                    store.lookup(&scope, &keys, context.ports.clock.now())
                })
                .await?;
            Ok(entries.into_iter().zip(turns).collect())
        });
        match futures::poll!(&mut asking) {
            Poll::Ready(answers) => self.on_answers(answers?),
            Poll::Pending => self.lookups.push(asking),
        }
        Ok(())
    }

    pub(super) fn on_answers(
        &mut self,
        answers: impl IntoIterator<Item = (EntryId, Option<Offset>)>,
    ) {
        for (entry, turn) in answers {
            for lane in self.claims.answered(entry, turn) {
                self.lanes.wake(lane, WaitsFor::Claim);
            }
        }
    }
}
