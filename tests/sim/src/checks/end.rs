//! The end: once faults stop everything settles, and nothing is lost.

use std::time::Duration;

use millstream_core::message::Partition;
use millstream_core::pipeline_spec::Delivery;

use crate::book::Book;
use crate::facts::Uid;

/// How long nothing happens before a message that is committed unhandled counts as lost.
const QUIET: Duration = Duration::from_secs(15);

impl Book {
    /// Whether everything is settled and committed.
    pub(crate) fn is_settled(&self, at: Duration) -> bool {
        self.running.is_empty()
            && self.messages.keys().all(|uid| self.is_all_covered(*uid))
            && (self.first_unfinished().is_none() || at > self.last_activity + QUIET)
    }

    fn first_unfinished(&self) -> Option<Uid> {
        self.messages.keys().copied().find(|uid| !self.is_terminal(*uid))
    }

    /// The verdict on a simulation that came to its end.
    pub(crate) fn check_end(&mut self) {
        let at_most_once = self.delivery() == Delivery::AtMostOnce;
        // What was committed and not handled when a host died is lost, as promised.
        let loss_excused = at_most_once && self.scenario.repeats_excused;
        if let Some(uid) = self.first_unfinished().filter(|_| !loss_excused) {
            let what = format!("{} is neither handled nor dead nor a duplicate", self.name(uid));
            self.violate("no message is lost", what);
        }
        let uncovered = self.messages.values().flat_map(|m| m.carriers.iter()).find(|carrier| {
            !self.is_covered(&carrier.partition, carrier.offset)
        });
        if let Some(carrier) = uncovered {
            let what = format!("{}@{} is not committed", carrier.partition, carrier.offset);
            self.violate("a clean shutdown leaves everything settled committed", what);
        }
    }

    /// Everything settled that is not committed, of partitions that a host gave up in order.
    pub(crate) fn check_stopped(&mut self, partitions: &[Partition]) {
        let settled = self.messages.values().find_map(|message| {
            let uid = message.facts.uid;
            let ended = partitions.contains(&message.facts.partition)
                && (self.is_done(uid) || message.dead_letters > 0);
            let left = message.carriers.iter().find(|c| !self.is_covered(&c.partition, c.offset));
            left.filter(|_| ended).map(|c| format!("{} at {}@{}", self.name(uid), c.partition, c.offset))
        });
        if let Some(what) = settled {
            self.violate("a clean stop leaves everything settled committed", what);
        }
    }
}
