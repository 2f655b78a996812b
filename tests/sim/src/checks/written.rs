//! What became readable in one moment: sorted to the checks of each kind.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_core::idempotency::{Mark, Marked, Scope, mark_record};
use millstream_core::log::Commit;
use millstream_core::message::{Message, Partition};
use millstream_core::pipeline_spec::Delivery;
use millstream_log_simulated::HostId;

use crate::book::{Book, Carrier, Kind};
use crate::facts::{UID, Uid, number};

impl Book {
    /// Records, marks and commits that became true together, in this order of cause.
    pub(crate) fn on_written(
        &mut self,
        at: Duration,
        host: Option<(HostId, bool)>,
        transaction: bool,
        messages: &[Message],
        marks: &[Mark],
        commits: &[(Partition, Commit)],
    ) {
        let mut touched: BTreeSet<Uid> = BTreeSet::new();
        let mut borne = Vec::new();
        for message in messages {
            if let Some(mark) = self.mark_in(message) {
                borne.push(mark);
                continue;
            }
            let uid = number(&message.headers, UID);
            let Some(uid) = uid.filter(|uid| self.messages.contains_key(uid)) else {
                self.violate("only outcomes of messages are written", message.position());
                continue;
            };
            match host {
                None => self.on_produced(at, uid, message),
                Some(host) => {
                    touched.insert(uid);
                    self.on_sent(at, host, transaction, uid, message);
                }
            }
        }
        for mark in marks.iter().chain(&borne) {
            self.check_mark(mark);
        }
        let settled = self.check_commits(commits);
        if self.delivery() == Delivery::ExactlyOnce {
            for uid in touched.difference(&settled) {
                let what = format!(
                    "{} has records in a transaction that does not settle it",
                    self.name(*uid)
                );
                self.violate("exactly once: effects and settling are one", what);
            }
        }
    }

    /// The mark that a message bears, if it is in a topic of marks.
    fn mark_in(&self, message: &Message) -> Option<Mark> {
        let group = &self.scenario.spec.group;
        let mut sources = self.scenario.spec.topics.iter();
        let source = sources.find(|s| mark_record::topic(s, group) == message.topic)?;
        let (key, Marked { turn, expires }) = mark_record::decode(message)?;
        let partition = Partition::new(source.clone(), message.partition);
        Some(Mark {
            scope: Scope { group: group.as_str().into(), partition }.into(),
            key,
            turn,
            expires,
        })
    }

    fn on_produced(&mut self, at: Duration, uid: Uid, message: &Message) {
        self.at.entry(message.source()).or_default().insert(message.offset, uid);
        if let Some(book) = self.messages.get_mut(&uid) {
            book.facts.offset = Some(message.offset);
            book.carriers.push(Carrier {
                partition: message.source(),
                offset: message.offset,
                attempts: 0,
                waits: 0,
                writer: None,
                late: false,
                removed: false,
                written: at,
                timestamp: message.timestamp,
            });
        }
    }

    fn on_sent(
        &mut self,
        at: Duration,
        (host, late): (HostId, bool),
        transaction: bool,
        uid: Uid,
        message: &Message,
    ) {
        if self.delivery() == Delivery::ExactlyOnce && !transaction {
            let what = format!("{} was written outside of a transaction", message.position());
            self.violate("exactly once: effects are in transactions", what);
        }
        let source = self.messages.get(&uid).map(|m| m.facts.partition.clone());
        // A transaction is refused when it begins under a dead epoch, and may end after it.
        let knows = source.is_some_and(|source| self.told.contains_key(&(host, source)));
        if !knows && !transaction && !late {
            let what = format!(
                "{host} wrote {} for {} after it was told that the partition is not its own",
                message.position(),
                self.name(uid)
            );
            self.violate("nothing of a dead epoch is sent", what);
        }
        match self.kind(&message.topic) {
            Kind::Output => self.check_output(host, uid, message),
            Kind::Tier(source) => self.check_copy(at, (host, late), uid, &source, message),
            Kind::DeadLetters(source) => self.check_dead_letter(uid, &source, message),
            Kind::Source | Kind::Unknown => {
                let what = format!("{host} wrote {}", message.position());
                self.violate("only named topics are written to", what);
            }
        }
    }
}
