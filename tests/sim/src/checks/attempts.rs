//! Attempts: whole messages, counted right, not again once they are settled.

use millstream_core::message::Message;
use millstream_core::pipeline_spec::Delivery;
use millstream_core::plugin::AttemptContext;

use crate::book::Book;
use crate::facts::{Facts, Uid, is_hosts};
use crate::runs::{Ended, Run};

impl Book {
    /// The handler sees the message as it stands in the source, also in a retry.
    pub(crate) fn check_message(
        &mut self,
        facts: &Facts,
        message: &Message,
        context: AttemptContext,
    ) {
        let headers = |headers: &[millstream_core::message::Header]| {
            headers.iter().filter(|h| !is_hosts(h)).cloned().collect::<Vec<_>>()
        };
        let same = message.source() == facts.partition
            && Some(message.offset) == facts.offset
            && message.key == facts.key
            && message.value == facts.value
            && context.timestamp == facts.timestamp
            && message.timestamp == facts.timestamp
            && headers(&message.headers) == headers(&facts.headers);
        if !same {
            let what = format!("expected {facts:?}, the handler got {message:?} with {context:?}");
            self.violate("the handler gets the message as it was", what);
        }
        if Some(context.turn) != facts.offset {
            let what = format!("{} has turn {}", self.name(facts.uid), context.turn);
            self.violate("the turn is the source offset", what);
        }
    }

    /// Whether this attempt may begin, before it is noted.
    pub(crate) fn check_attempt(&mut self, facts: &Facts, run: &Run) {
        let name = format!("attempt {} of {} on {}", run.number, self.name(facts.uid), run.host);
        let limit = self.scenario.attempts_max();
        if run.number == 0 || run.number > limit {
            let what = format!("{name}, and the limit is {limit}");
            return self.violate("attempts are bounded", what);
        }
        let Some(message) = self.messages.get(&facts.uid) else { return };
        let earlier = message.runs.iter().filter_map(|id| self.runs.get(id));
        let highest = earlier.clone().map(|r| r.number).max().unwrap_or(0);
        let same_number: Vec<Run> = earlier.filter(|r| r.number == run.number).cloned().collect();
        if run.number > highest + 1 {
            let what = format!("{name}, after attempt {highest}");
            return self.violate("attempts are counted one by one", what);
        }
        for other in &same_number {
            if let Some(why) = self.repeats_without_reason(facts, other, run) {
                let what = format!("{name} is a repetition: {why}");
                return self.violate("attempts are not repeated", what);
            }
        }
        let source_covered =
            facts.offset.is_some_and(|offset| self.is_covered(&facts.partition, offset));
        if self.delivery() == Delivery::AtMostOnce {
            if !source_covered {
                let what = format!("{name} before its commit");
                self.violate("at most once: committed before it is handled", what);
            }
            return;
        }
        let told = self.holds(run.host, &facts.partition);
        let Some(told) = told.filter(|told| told.attached) else { return };
        if self.is_all_covered(facts.uid) {
            return self.violate("not attempted again once a commit that covers it held", name);
        }
        if self.may_forget() {
            // The source's range is forgotten after the copies were committed: handled from anew.
            return;
        }
        let Some(message) = self.messages.get(&facts.uid) else { return };
        // What was durable when this assignment began, or was written under it, must be known.
        let known = message
            .carriers
            .iter()
            .filter(|carrier| carrier.written <= told.at || !carrier.is_foreign(run.host));
        // A copy that a zombie wrote since comes on top, and cannot be told from a retry.
        let from_zombie = message.carriers.iter().any(|carrier| {
            // One that landed late begins all over again, with the copies that come of it.
            let next = carrier.attempts + 1 == run.number;
            let begins = carrier.late && carrier.attempts < run.number;
            begins || (next && carrier.written > told.at && carrier.is_foreign(run.host))
        });
        if from_zombie {
            return;
        }
        let in_tiers = known.map(|carrier| carrier.attempts).max().unwrap_or(0);
        let in_place = self.commits.get(&facts.partition).and_then(|commit| {
            let made = commit.attempts.iter().find(|(offset, _)| Some(*offset) == facts.offset);
            made.map(|(_, attempts)| *attempts)
        });
        let durable = in_tiers.max(in_place.unwrap_or(0));
        if run.number <= durable {
            let what = format!("{name}, though attempt {durable} is written");
            self.violate("attempts are never forgotten", what);
        }
    }

    /// Whether a copy that landed late, when its message had gone on, led to attempt `number`: it begins all over
    /// again, with the copies that come of it.
    fn begins_anew(&self, uid: Uid, number: u32) -> bool {
        let mut carriers =
            self.messages.get(&uid).into_iter().flat_map(|message| &message.carriers);
        carriers.any(|carrier| carrier.late && carrier.attempts < number)
    }

    /// Why nothing excuses that `run` repeats the number of `other`.
    fn repeats_without_reason(&self, facts: &Facts, other: &Run, run: &Run) -> Option<String> {
        let same_assignment = other.host == run.host && other.epoch == run.epoch;
        let at_most_once = self.delivery() == Delivery::AtMostOnce;
        match &other.ended {
            Some((_, Ended::Paused)) => None,
            // Nobody knows of an append without an answer whether to repeat it, and a repetition that lands when its
            // writer is gone comes too late to be seen as one.
            _ if at_most_once && matches!(self.copies_for(facts.uid, run.number), (2.., true)) => {
                None
            }
            _ if at_most_once && self.begins_anew(facts.uid, run.number) => None,
            _ if at_most_once => Some("at most once, and it was attempted before".to_owned()),
            None if same_assignment => Some("the same is under way".to_owned()),
            Some((_, Ended::Cancelled)) => None,
            // A handler that was cut short may take with it what stood in one batch with it.
            _ if !self.scenario.repeats_excused && !self.lossy => {
                Some(format!("nothing went wrong since {other:?}"))
            }
            _ if !same_assignment => None,
            _ => {
                // The same copy may be in a tier twice when an answer was lost. They collapse,
                // unless the second came when the first was through.
                let ended = other.ended.as_ref().map(|(at, _)| *at);
                let mut copies = self.messages.get(&facts.uid)?.carriers.iter();
                // So it is when a zombie, which reads the same tiers, has put one behind another.
                let told = self.holds(run.host, &facts.partition).map(|told| told.at);
                let late = copies.any(|c| {
                    let from_zombie =
                        c.is_foreign(run.host) && told.is_some_and(|at| c.written >= at);
                    c.attempts + 1 == run.number
                        && (from_zombie || (c.attempts > 0 && Some(c.written) > ended))
                });
                (!late).then(|| format!("under the same assignment as {other:?}"))
            }
        }
    }
}
