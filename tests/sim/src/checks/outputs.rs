//! Outputs: only of attempts that were done, and in exactly once each of them once.

use millstream_core::message::{Message, Partition};
use millstream_core::pipeline_spec::Delivery;
use millstream_log_simulated::HostId;

use crate::book::Book;
use crate::facts::{End, Uid, is_hosts, number};
use crate::handler::{INDEX, RUN};
use crate::runs::{Ended, RunId};

impl Book {
    /// An output became readable.
    pub(crate) fn check_output(&mut self, host: HostId, uid: Uid, message: &Message) {
        let name = format!("{} of {}", message.position(), self.name(uid));
        let id = number(&message.headers, RUN).map(RunId);
        let index = number(&message.headers, INDEX);
        let (Some(id), Some(index)) = (id, index) else {
            return self.violate("an output keeps its headers", name);
        };
        if message.headers.iter().any(is_hosts) {
            self.violate("an output carries none of the host's headers", name.clone());
        }
        let exactly_once = self.delivery() == Delivery::ExactlyOnce;
        let others = self.messages.get(&uid).into_iter().flat_map(|m| m.runs.iter());
        let another = others
            .filter(|other| **other != id)
            .any(|other| self.runs.get(other).is_some_and(|run| !run.outputs.is_empty()));
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.uid == uid) else {
            return self.violate("an output belongs to an attempt", name);
        };
        let done =
            matches!(&run.ended, Some((_, Ended::Did(End::Done(count)))) if index < *count as u64);
        let own = run.host == host;
        let count = run.outputs.entry(index).or_default();
        *count += 1;
        let repeated = *count > 1;
        if !done || !own {
            let what = format!("{name}, made by {:?}", self.runs.get(&id));
            self.violate("only what a handled message sent is sent", what);
        }
        if !repeated {
            self.check_output_order(uid, &message.source(), &name);
        }
        if exactly_once && (repeated || another) {
            self.violate("exactly once: each output once", name);
        } else if repeated && !self.scenario.repeats_excused {
            self.violate("without trouble each output once", name);
        }
    }

    /// Messages of a lane that succeed at once send in their order; across retries that is not
    /// promised yet.
    fn check_output_order(&mut self, uid: Uid, to: &Partition, name: &str) {
        let Some(message) = self.messages.get(&uid) else { return };
        let (lane, offset) = (self.lane(&message.facts), message.facts.offset);
        let runs = message.runs.iter().filter_map(|id| self.runs.get(id));
        let at_once = runs.clone().all(|run| run.number == 1);
        let first = runs.filter(|run| !run.outputs.is_empty()).count() <= 1;
        let (Some(lane), Some(offset)) = (lane, offset) else { return };
        // At most once nothing is handled again, so what a host sent just before it lost the partition
        // may land after what its successor sent.
        let partition = &message.facts.partition;
        let is_late = self.delivery() == Delivery::AtMostOnce
            && message.runs.last().and_then(|id| self.runs.get(id)).is_some_and(|run| {
                self.holds(run.host, partition).is_none_or(|told| Some(told.epoch) != run.epoch)
            });
        // Refused, it was a dead letter first: that frees what comes after it. Removed, nobody sends it again, so what was
        // on the wire may be the first.
        if !at_once || !first || is_late || message.refused || message.removed {
            return;
        }
        let last = self.sent_up_to.entry((lane, to.clone())).or_insert(offset);
        if *last <= offset {
            *last = offset;
            return;
        }
        let what = format!("{name}, after those of offset {last}");
        self.violate("outputs of a lane are in order", what);
    }
}
