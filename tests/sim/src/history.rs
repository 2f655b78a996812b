//! History: hears of everything, keeps the book and has it checked at every step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_core::message::Message;
use millstream_core::plugin::AttemptContext;
use millstream_log_simulated::{Happening, HostId, Observer};
use tokio::time::Instant;

use crate::book::{Book, Told};
use crate::describe::describe;
use crate::facts::{UID, number};
use crate::runs::{Begun, Ended, Run, RunId};
use crate::scenario::Scenario;

/// See the module.
pub struct History {
    book: Mutex<Book>,
    begin: Instant,
}

impl History {
    /// An empty history. Needs a tokio runtime around it, for its clock.
    pub fn new(scenario: Arc<Scenario>) -> Self {
        Self { book: Mutex::new(Book::new(scenario)), begin: Instant::now() }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something that neither the cluster nor the handler tells.
    pub fn note(&self, text: &str) {
        let at = self.begin.elapsed();
        self.book().trace.line(at, text);
    }

    /// The first promise that was broken.
    pub fn violation(&self) -> Option<String> {
        self.book().violation.clone()
    }

    /// An attempt begins, or `None` if there is no such message.
    pub fn attempt_started(
        &self,
        host: HostId,
        message: &Message,
        context: AttemptContext,
    ) -> Option<Begun> {
        let at = self.begin.elapsed();
        let mut book = self.book();
        let uid = number(&message.headers, UID);
        let Some((uid, facts)) =
            uid.and_then(|uid| Some((uid, book.messages.get(&uid)?.facts.clone())))
        else {
            book.violate("only messages are handled", message.position());
            return None;
        };
        let text = format!("{host} attempt {} of {}", context.attempt, book.name(uid));
        book.trace.line(at, &text);
        book.check_message(&facts, message, context);
        let told = book.told.get(&(host, facts.partition.clone())).copied();
        let run = Run {
            uid,
            host,
            epoch: told.filter(|told| told.attached).map(|told| told.epoch),
            number: context.attempt,
            started: at,
            ended: None,
            outputs: std::collections::BTreeMap::new(),
        };
        book.check_attempt(&facts, &run);
        book.check_order(&facts, &run);
        book.check_waits(&facts, &run);
        let id = RunId(book.runs.len() as u64 + 1);
        if let Some(lane) = book.lane(&facts) {
            book.last_in_lane.insert((host, lane), id);
        }
        book.runs.insert(id, run);
        book.running.insert(id);
        book.last_activity = at;
        let script = facts.script;
        let act = script.act(context.attempt)?.clone();
        let message = book.messages.get_mut(&uid)?;
        message.runs.push(id);
        let pauses = message.paused < script.pauses;
        message.paused += u32::from(pauses);
        Some(Begun { run: id, act, pause_ms: pauses.then_some(script.pause_ms) })
    }

    /// A message has killed its host.
    pub fn host_killed(&self, message: &Message) {
        let uid = number(&message.headers, UID).unwrap_or_default();
        let mut book = self.book();
        book.trace.line(self.begin.elapsed(), &format!("KILLED by message {uid}"));
        book.check_kill(uid);
    }

    /// An attempt ended.
    pub fn attempt_ended(&self, id: RunId, ended: Ended) {
        let at = self.begin.elapsed();
        let mut book = self.book();
        book.running.remove(&id);
        book.last_activity = at;
        let Some(run) = book.runs.get_mut(&id) else { return };
        let text = format!("{} attempt {} of message {}: {ended:?}", run.host, run.number, run.uid);
        run.ended = Some((at, ended));
        book.trace.line(at, &text);
    }
}

impl Observer for History {
    fn observe(&self, at: Duration, happening: &Happening<'_>) {
        let mut book = self.book();
        if let Some(text) = describe(happening) {
            book.trace.line(at, &text);
        }
        match happening {
            Happening::Called { .. } => {}
            Happening::ToldRevoked { host, partition } => {
                book.revoked.entry((*host, (*partition).clone())).or_insert(at);
            }
            Happening::Attached { host, partition, .. } => {
                if let Some(told) = book.told.get_mut(&(*host, (*partition).clone())) {
                    told.attached = true;
                }
            }
            Happening::Given { host, partition, epoch } => {
                book.owners.insert((*partition).clone(), (*host, *epoch));
            }
            Happening::Taken { host, partition, .. } => {
                book.owners.remove(*partition);
                // Not given back, but taken from a host that may have had messages in hand.
                book.lossy |= book.told.contains_key(&(*host, (*partition).clone()));
            }
            Happening::ToldAssigned { host, partition, epoch } => {
                let told = Told { epoch: *epoch, at, attached: false };
                book.told.insert((*host, (*partition).clone()), told);
                book.forget_in_flight(*host, Some(partition));
            }
            Happening::ToldLost { host, partition } | Happening::Released { host, partition } => {
                let revoked = book.revoked.remove(&(*host, (*partition).clone()));
                let drain = book.scenario.spec.drain;
                // Released too late: something was cut short.
                book.lossy |= revoked.is_some_and(|since| at >= since + drain);
                book.told.remove(&(*host, (*partition).clone()));
                book.forget_in_flight(*host, Some(partition));
            }
            Happening::Crashed { host } => {
                book.revoked.retain(|(h, _), _| h != host);
                book.told.retain(|(h, _), _| h != host);
                book.forget_in_flight(*host, None);
            }
            Happening::Delivered { host, batch } => book.check_delivered(*host, batch),
            Happening::Written { host, late, transaction, messages, commits, marks } => {
                // A commit that stands already is only refreshed.
                let same =
                    |(partition, commit): &(_, _)| book.commits.get(partition) == Some(commit);
                if !(messages.is_empty() && marks.is_empty() && commits.iter().all(same)) {
                    book.last_activity = at;
                }
                let host = host.map(|host| (host, *late));
                book.on_written(at, host, *transaction, messages, marks, commits);
            }
            Happening::Refused { record, error, .. } => book.on_refused(record, error),
            Happening::Removed { partition, offsets } => book.on_removed(partition, offsets),
            Happening::Forgotten { partition } => book.on_forgotten(partition),
            Happening::CallOfTheDead { host, call } => {
                let what = format!("{host} called {call} after its root was dropped");
                book.violate("nothing outlives the root", what);
            }
        }
    }
}
