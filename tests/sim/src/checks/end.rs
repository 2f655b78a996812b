//! The end: once faults stop everything settles, and nothing is lost.

use std::time::Duration;

use millstream_core::pipeline_spec::{Delivery, KeepOrder};
use millstream_log_simulated::HostId;

use crate::book::{Book, Carrier, MessageBook};
use crate::facts::Uid;

/// How long nothing happens before a message that is committed unhandled counts as lost.
const QUIET: Duration = Duration::from_secs(15);

impl Book {
    /// Whether everything is settled and committed.
    pub(crate) fn is_settled(&self, at: Duration) -> bool {
        self.running.is_empty()
            && self.first_uncovered().is_none()
            && (self.first_unfinished().is_none() || at > self.last_activity + QUIET)
    }

    /// What is not settled, for a person.
    pub(crate) fn first_left(&self) -> String {
        match self.first_uncovered() {
            Some((message, carrier)) => {
                let name = self.name(message.facts.uid);
                format!("{name} at {}@{} is not committed", carrier.partition, carrier.offset)
            }
            None => match self.first_unfinished() {
                Some(uid) => format!("{} has not ended", self.name(uid)),
                None => format!("{} attempts are under way", self.running.len()),
            },
        }
    }

    /// What stands in the log and is not committed. A message that was not produced yet is not settled either,
    /// but nothing can be said of it.
    fn first_uncovered(&self) -> Option<(&MessageBook, &Carrier)> {
        let carriers = self.messages.values().flat_map(|m| m.carriers.iter().map(move |c| (m, c)));
        let mut standing = carriers.filter(|(_, carrier)| !carrier.removed);
        standing.find(|(_, carrier)| !self.is_covered(&carrier.partition, carrier.offset))
    }

    fn first_unfinished(&self) -> Option<Uid> {
        self.messages.keys().copied().find(|uid| !self.is_terminal(*uid))
    }

    /// The verdict on a simulation that came to its end.
    pub(crate) fn check_end(&mut self) {
        // What was committed and not handled when a host died is lost, as promised.
        let loss_excused = self.delivery() == Delivery::AtMostOnce && self.lossy;
        if let Some(uid) = self.first_unfinished().filter(|_| !loss_excused) {
            let what = format!("{} is neither handled nor dead nor a duplicate", self.name(uid));
            self.violate("no message is lost", what);
        }
        if let Some((_, carrier)) = self.first_uncovered() {
            let what = format!("{}@{} is not committed", carrier.partition, carrier.offset);
            self.violate("a clean shutdown leaves everything settled committed", what);
        }
    }

    /// A host stopped in order and in time, and nothing failed meanwhile: what it had handled
    /// must be committed where it was read from.
    pub(crate) fn check_stopped(&mut self, host: HostId) {
        if self.may_forget() {
            return;
        }
        let left = self.runs.values().find(|run| {
            let Some(message) = self.messages.get(&run.uid) else { return false };
            // In place the source is what is read again.
            let in_place = self.scenario.spec.retry.keep_order == KeepOrder::OfPartition;
            let read_from = message
                .carriers
                .iter()
                .filter(|c| c.attempts + 1 == run.number || (in_place && c.attempts == 0));
            run.host == host
                && run.is_done_and_sent()
                && !read_from.clone().any(|c| self.is_covered(&c.partition, c.offset))
        });
        if let Some(what) = left.map(|run| format!("{host} and {}", self.name(run.uid))) {
            self.violate("a clean stop leaves everything settled committed", what);
        }
    }
}
