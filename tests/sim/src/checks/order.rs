//! Order: first attempts of a lane in the order of offsets, one after the other.

use millstream_core::pipeline_spec::{Delivery, KeepOrder, MissingKey};

use crate::book::Book;
use crate::facts::{End, Facts, Uid};
use crate::runs::{Ended, Run};

impl Book {
    /// Whether this attempt may begin now, before it is noted.
    pub(crate) fn check_order(&mut self, facts: &Facts, run: &Run) {
        let (Some(lane), Some(offset)) = (self.lane(facts), facts.offset) else { return };
        let beside = self.running.iter().filter_map(|id| self.runs.get(id)).find(|other| {
            other.host == run.host
                && other.epoch == run.epoch
                && self.messages.get(&other.uid).and_then(|m| self.lane(&m.facts)).as_ref()
                    == Some(&lane)
        });
        if let Some(other) = beside {
            let what = format!(
                "{} begins on {} while {} of its lane is under way",
                self.name(facts.uid),
                run.host,
                self.name(other.uid)
            );
            return self.violate("one message of a lane at a time", what);
        }
        // At most once, what was committed is still handled by a host that has lost the partition
        // and does not know, or goes on in a copy that landed since; the next owner does not wait for it.
        let (_, late) = self.copies_for(facts.uid, run.number);
        let is_zombie = self.delivery() == Delivery::AtMostOnce
            && (late || self.holds(run.host, &facts.partition).is_none());
        if is_zombie {
            return;
        }
        // What is put behind another and refused is a dead letter that nobody attempted; uncommitted, it comes again.
        let is_first =
            self.messages.get(&facts.uid).is_some_and(|m| m.runs.is_empty() && !m.refused);
        if !is_first {
            return;
        }
        let last = self.first_attempts.get(&lane).copied();
        if let Some(last) = last.filter(|last| *last > offset) {
            let what = format!(
                "{} is first attempted after offset {last} of the same lane",
                self.name(facts.uid)
            );
            return self.violate("first attempts of a lane are in order", what);
        }
        if let Some(waits) = self.waits_by_turn(facts, run, offset) {
            let what = format!("{} overtakes {waits}", self.name(facts.uid));
            return self.violate("a message waits for the earlier ones of its key", what);
        }
        if let Some(last) = last
            && let Some(waits) = self.waits_in_place(facts, run, last)
        {
            let what = format!("{} overtakes {waits}", self.name(facts.uid));
            return self.violate("a partition waits for a retry in place", what);
        }
        self.first_attempts.insert(lane, offset);
    }

    /// With retries in place: the message at `last`, if its attempts have not come to an end.
    fn waits_in_place(&self, facts: &Facts, run: &Run, last: u64) -> Option<String> {
        let spec = &self.scenario.spec;
        if spec.retry.keep_order != KeepOrder::OfPartition {
            return None;
        }
        let uid = self.at.get(&facts.partition)?.get(&last)?;
        self.has_not_ended(*uid, run).then(|| self.name(*uid))
    }

    /// Where order is kept: an earlier message of the key whose attempts have not come to an end.
    fn waits_by_turn(&self, facts: &Facts, run: &Run, offset: u64) -> Option<String> {
        if self.scenario.spec.retry.keep_order != KeepOrder::OfKey || facts.key.is_none() {
            return None;
        }
        let mut earlier = self.at.get(&facts.partition)?.range(..offset);
        let first = earlier.find(|(_, uid)| {
            self.messages.get(uid).is_some_and(|m| m.facts.key == facts.key)
                && self.has_not_ended(**uid, run)
        });
        first.map(|(_, uid)| self.name(*uid))
    }

    /// Whether this message may still be attempted, as far as this attempt at another has to know.
    fn has_not_ended(&self, uid: Uid, run: &Run) -> bool {
        let Some(message) = self.messages.get(&uid) else { return false };
        if message.dead_letters > 0 || message.removed {
            return false;
        }
        let idempotency = self.scenario.spec.idempotency.as_ref();
        if idempotency.is_some_and(|i| i.missing == MissingKey::Reject)
            && message.facts.idempotency.is_none()
        {
            // Never attempted.
            return false;
        }
        let limit = self.scenario.attempts_max();
        let has_ended = message.runs.iter().filter_map(|id| self.runs.get(id)).any(|run| {
            matches!(&run.ended, Some((_, Ended::Did(End::Done(_) | End::Reject))))
                || (run.has_failed() && run.number == limit)
        });
        // At most once: what a host had in hand when it ended is lost, and waited for by nobody.
        let last = message.runs.last().and_then(|id| self.runs.get(id));
        let lost = self.delivery() == Delivery::AtMostOnce
            && last.is_none_or(|last| last.host != run.host || last.epoch != run.epoch);
        // One that kills its host is dead without another word of the handler.
        let is_dead = message.dead_letters > 0;
        !has_ended && !is_dead && !lost && !self.is_duplicate(uid)
    }
}
