//! One member of a consumer group: events, messages, commits and transactions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_core::log::{
    Batch, Commit, Commits, Consumer, Event, LogError, Room, TransactError, Transaction,
};
use millstream_core::message::{Offset, Partition};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cluster::{State, sleep_or};
use crate::group::{Group, Member, MemberId, Reader};
use crate::happening::{Fate, Happening};
use crate::log::SimLog;
use crate::transaction::Known;

/// The most messages a redelivery goes back.
const REDELIVERED_MAX: usize = 6;

pub(crate) struct SimConsumer {
    log: SimLog,
    group: String,
    member: MemberId,
    /// Transactions of one member happen one after the other, in the order they were asked for.
    transaction: Mutex<()>,
}

/// What a look for an event came to.
enum Look {
    Found(Result<Event, LogError>),
    /// Nothing before this time, unless something changes.
    Nothing(Option<Instant>),
    Away,
    Dead,
}

impl SimConsumer {
    pub(crate) fn new(log: SimLog, group: String, member: MemberId) -> Self {
        Self { log, group, member, transaction: Mutex::new(()) }
    }

    fn known<'a>(&self, partitions: impl Iterator<Item = &'a Partition>) -> Known {
        let state = self.log.shared().lock();
        let group = state.groups.get(&self.group);
        partitions.map(|p| (p.clone(), group.and_then(|g| g.told(self.member, p)))).collect()
    }

    fn with_readers(&self, partitions: &[Partition], change: impl Fn(&mut Reader)) {
        self.log.shared().change(|state| {
            let Some(member) = state.member_mut(&self.group, self.member) else { return };
            for partition in partitions {
                if let Some(reader) = member.readers.get_mut(partition) {
                    change(reader);
                }
            }
        });
    }
}

impl State {
    fn member_mut(&mut self, group: &str, member: MemberId) -> Option<&mut Member> {
        self.groups.get_mut(group)?.members.get_mut(&member)
    }

    fn look(&mut self, consumer: &SimConsumer, room: Room) -> Look {
        let (group, id, host) = (&consumer.group, consumer.member, consumer.log.host());
        if !self.hosts.get(&host).is_some_and(|h| h.alive) {
            // Told as a call of the dead if it is one.
            let _ = self.fate(host, "next", false);
            return Look::Dead;
        }
        if self.outage {
            return Look::Away;
        }
        let now = Instant::now();
        let Some(member) = self.groups.get(group).and_then(|g| g.members.get(&id)) else {
            return Look::Nothing(None);
        };
        if member.expelled {
            let gone = "next: this member is not in the group any more".to_owned();
            return Look::Found(Err(LogError::Fenced(gone)));
        }
        let notice_at = member.notices.front().map(|(at, ..)| *at);
        let mut wake = notice_at;
        let mut ready = Vec::new();
        if room.messages > 0 {
            for (partition, reader) in member.readers.iter().filter(|(_, r)| !r.paused) {
                let log = self.topics.partition(partition);
                if !log.is_ok_and(|log| reader.next.max(log.start()) < log.readable_bound()) {
                    continue;
                }
                if reader.ready_at <= now {
                    ready.push(partition.clone());
                } else {
                    wake = Some(wake.map_or(reader.ready_at, |w| w.min(reader.ready_at)));
                }
            }
        }
        let told = notice_at.is_some_and(|at| at <= now);
        if !told && ready.is_empty() {
            let due = self.agenda.first().map(|(at, _)| *at);
            return Look::Nothing(wake.into_iter().chain(due).min());
        }
        match self.fate(host, "next", false) {
            None => return Look::Dead,
            Some(Fate::Answered) => {}
            Some(Fate::Refused | Fate::AnswerLost) => {
                let away = "next: the simulated broker is away".to_owned();
                return Look::Found(Err(LogError::Unavailable(away)));
            }
            Some(Fate::CrashBefore | Fate::CrashAfter) => {
                self.crash(host);
                return Look::Dead;
            }
        }
        if told && let Some(event) = self.next_notice(group, id) {
            return Look::Found(Ok(event));
        }
        match self.draw.pick(&ready).cloned().and_then(|p| self.deliver(consumer, p, room)) {
            Some(batch) => Look::Found(Ok(Event::Messages(batch))),
            None => Look::Nothing(Some(now + Duration::from_millis(1))),
        }
    }

    fn deliver(
        &mut self,
        consumer: &SimConsumer,
        partition: Partition,
        mut room: Room,
    ) -> Option<Batch> {
        let again = self.draw.chance(self.faults.redelivered);
        let back = self.draw.count(1, REDELIVERED_MAX);
        if self.draw.chance(300) {
            room.messages = self.draw.count(1, room.messages);
        }
        let over_gap = self.draw.chance(500);
        let pause = Duration::from_millis(self.draw.between(0, self.faults.latency_ms_max));
        let member = self.groups.get_mut(&consumer.group)?.members.get_mut(&consumer.member)?;
        let reader = member.readers.get_mut(&partition)?;
        let log = self.topics.partition(&partition).ok()?;
        let from = if again { log.back_from(reader.next, back, reader.floor) } else { reader.next };
        let (messages, next) = log.read(from, room, over_gap);
        reader.next = next;
        reader.ready_at = Instant::now() + pause;
        let end = log.ends().end;
        let batch = Batch { partition, messages, next, end };
        self.tell(&Happening::Delivered { host: consumer.log.host(), batch: &batch });
        Some(batch)
    }
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&self, room: Room) -> Result<Event, LogError> {
        loop {
            let changed = self.log.shared().changed.notified();
            let look = self.log.shared().lock().look(self, room);
            match look {
                Look::Found(event) => return event,
                Look::Nothing(wake) => sleep_or(wake, changed).await,
                Look::Away => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let away = "next: the simulated broker is away".to_owned();
                    return Err(LogError::Unavailable(away));
                }
                Look::Dead => return self.log.die().await,
            }
        }
    }

    async fn attach(&self, partition: &Partition, from: Offset) -> Result<(), LogError> {
        let known = self.known(std::iter::once(partition));
        self.log
            .ask("attach", |state, _| {
                if let Some(lost) = state.lost(&self.group, self.member, &known).first() {
                    return Err(Group::fenced(lost));
                }
                state.topics.partition(partition)?;
                let ready_ms = state.draw.between(0, state.faults.latency_ms_max);
                let ready_at = Instant::now() + Duration::from_millis(ready_ms);
                let host = self.log.host();
                if let Some(member) = state.member_mut(&self.group, self.member)
                    && let Some(source) = member.source_of(partition)
                {
                    let reader = member.readers.entry(partition.clone()).or_insert(Reader {
                        source,
                        next: from,
                        floor: from,
                        paused: false,
                        ready_at,
                    });
                    (reader.next, reader.floor) = (from, from);
                }
                state.tell(&Happening::Attached { host, partition, from });
                Ok(())
            })
            .await
    }

    fn pause(&self, partitions: &[Partition]) {
        self.with_readers(partitions, |reader| reader.paused = true);
    }

    fn resume(&self, partitions: &[Partition]) {
        self.with_readers(partitions, |reader| reader.paused = false);
    }

    async fn committed(&self, partitions: &[Partition]) -> Result<Vec<Option<Commit>>, LogError> {
        // What an open transaction commits is waited for: a new owner that did not see it would
        // handle again what a transaction of the old one settles a moment later.
        let stable = |state: &mut State| {
            let open = partitions.iter().any(|p| state.open.touches(&self.group, p));
            (!open).then(|| state.committed(&self.group, partitions))
        };
        self.log.ask("committed", |_, _| Ok::<_, LogError>(())).await?;
        Ok(self.log.shared().wait_for(stable).await)
    }

    async fn commit(&self, commits: Commits) -> Result<(), LogError> {
        let known = self.known(commits.iter().map(|(p, _)| p));
        self.log
            .ask("commit", |state, _| {
                let lost = state.lost(&self.group, self.member, &known);
                let in_part = state.draw.chance(state.faults.commit_in_part);
                let accepted: Commits = match lost.is_empty() || in_part {
                    true => commits.into_iter().filter(|(p, _)| !lost.contains(p)).collect(),
                    false => Vec::new(),
                };
                if !accepted.is_empty() {
                    state.write_commits(&self.group, &accepted);
                    state.tell(&Happening::Written {
                        host: Some(self.log.host()),
                        late: false,
                        transaction: false,
                        messages: &[],
                        commits: &accepted,
                        marks: &[],
                    });
                }
                lost.first().map_or(Ok(()), |lost| Err(Group::fenced(lost)))
            })
            .await
    }

    async fn transact(&self, transaction: Arc<Transaction>) -> Result<(), TransactError> {
        let commits = transaction.commits.iter().map(|(p, _)| p);
        let marks = transaction.marks.iter().map(|mark| &mark.scope.partition);
        let known = self.known(commits.chain(marks));
        let _one_at_a_time = self.transaction.lock().await;
        let who = (self.group.as_str(), self.member, self.log.host());
        let id = self
            .log
            .ask("transact", |state, fate| state.transact(who, &known, &transaction, fate))
            .await?;
        let ended = |state: &mut State| (!state.open.is_open(id)).then_some(());
        self.log.shared().wait_for(ended).await;
        self.log.shared().change(|state| state.transaction_answered(&self.group, self.member, id));
        Ok(())
    }

    async fn release(&self, partitions: &[Partition]) {
        let done = self.log.ask("release", |state, _| {
            state.release(&self.group, self.member, partitions);
            Ok::<_, LogError>(())
        });
        if done.await.is_err() {
            // A release has no error to give: an adapter's goes through in the end.
            self.log.shared().change(|state| {
                state.release(&self.group, self.member, partitions);
            });
        }
    }

    async fn close(&self) {
        let done = self.log.ask("close", |state, _| {
            state.leave(&self.group, self.member);
            Ok::<_, LogError>(())
        });
        if done.await.is_err() {
            self.log.shared().change(|state| state.leave(&self.group, self.member));
        }
    }
}
