//! The member's thread: rebalances, commits and releases, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use millstream_core::log::{Commits, Event, LogError, source_of};
use millstream_core::message::{Partition, Topic};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::commit_metadata;
use crate::committer::{CommitAnswer, Committer};
use crate::errors::{self, Class};
use crate::records;

use super::group_events::{Happened, MemberContext, assign, list_of, unassign};
use super::{Command, CommitCall, Shared};

/// librdkafka is polled at least so often; `max.poll.interval.ms` is never smaller than a second.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// A partition that was released after a failure is told again after this, so that a failure that stays
/// does not spin.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// How long a release waits for a commit that is under way: longer, and the broker has given up too.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// How long a member that leaves waits until it is in its group: longer than others take to hear of a
/// rebalance. If they drain for longer, or died, it leaves unheard.
const JOIN_BEFORE_LEAVING: Duration = Duration::from_secs(10);

/// How long leaving may take; librdkafka gives up before.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// Partitions that the group wants back.
pub(super) struct Revoking {
    all: Vec<Partition>,
    /// Not released yet.
    left: BTreeSet<Partition>,
}

/// The commit under way.
pub(super) struct Committing {
    calls: Vec<CommitCall>,
    since: Instant,
}

/// The thread.
pub(super) struct Worker {
    pub(super) consumer: Arc<BaseConsumer<MemberContext>>,
    pub(super) committer: Committer,
    pub(super) shared: Arc<Shared>,
    pub(super) pipeline: String,
    pub(super) cluster_id: String,
    pub(super) topics: Vec<Topic>,
    pub(super) revoking: Option<Revoking>,
    pub(super) commits: Vec<CommitCall>,
    pub(super) committing: Option<Committing>,
    /// Released, waiting for a commit that names them.
    pub(super) releases: Vec<(Vec<Partition>, oneshot::Sender<()>)>,
    /// Released after a failure and still ours: told again at this time.
    pub(super) tell_again: BTreeMap<Partition, Instant>,
    pub(super) closed: Vec<oneshot::Sender<()>>,
    /// Since when it wants to leave.
    pub(super) leaving: Option<Instant>,
    /// Whether it keeps its place in the group while it is away.
    pub(super) is_static: bool,
    /// Whether librdkafka says where the member is on its way into the group; the new group protocol has
    /// no such wait.
    pub(super) tells_join_state: bool,
}

impl Worker {
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while self.closed.is_empty() || self.joins_before_it_leaves() {
            let mut command = match commands.recv_timeout(POLL_EVERY) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            while let Some(next) = command {
                self.on_command(next);
                command = commands.try_recv().ok();
            }
            self.poll();
            self.check_lost();
            self.start_commit();
            self.finish_releases();
            self.tell_again();
        }
        self.consumer.context().closing.store(true, Ordering::Release);
        self.shared.owned().clear();
        for call in self.commits.drain(..) {
            let _ = call.reply.send(Err(LogError::Fenced("this member has left".to_owned())));
        }
        self.leave();
        for reply in self.closed.drain(..) {
            let _ = reply.send(());
        }
    }

    /// Leaves the group now: who drops the client last, and whether before the process ends, nobody knows.
    fn leave(&self) {
        // Closed without an assignment in a steady group, librdkafka 2.12 does not leave. A static member
        // must not.
        if !self.is_static {
            self.consumer.unsubscribe();
        }
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(pipeline = %self.pipeline, %error, "leaving the group");
            return;
        }
        let begun = Instant::now();
        while !self.consumer.closed() && begun.elapsed() < LEAVES_WITHIN {
            let _ = self.consumer.poll(POLL_EVERY);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Poll => {}
            Command::Commit(call) => self.commits.push(call),
            Command::Committed(answer) => self.on_committed(&answer),
            Command::Release(partitions, reply) => {
                for partition in &partitions {
                    self.released(partition);
                }
                self.releases.push((partitions, reply));
            }
            Command::Close(reply) => {
                self.closed.push(reply);
                self.leave_soon();
            }
        }
    }

    /// Nothing is told any more, and nothing waited for.
    fn leave_soon(&mut self) {
        self.leaving = Some(Instant::now());
        // From now on nothing of it may be committed, also not by a transaction under way.
        self.shared.owned().clear();
        self.tell_again.clear();
        if let Some(revoking) = &mut self.revoking {
            revoking.left.clear();
        }
    }

    /// While a member joins, the broker answers nothing else on its connection. If it left now, nobody would
    /// hear of it: the group would wait for it until its session has timed out, and no other member could
    /// commit meanwhile.
    fn joins_before_it_leaves(&self) -> bool {
        let Some(since) = self.leaving else { return false };
        let context = self.consumer.context();
        let state = *context.join_state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = state.is_some_and(|state| state.said >= since && !state.is_joining);
        self.tells_join_state && !is_in && since.elapsed() < JOIN_BEFORE_LEAVING
    }

    fn released(&mut self, partition: &Partition) {
        let revoked = self.revoking.as_mut().is_some_and(|r| r.left.remove(partition));
        if !revoked && self.shared.owned().contains(partition) {
            self.tell_again.insert(partition.clone(), Instant::now() + TELL_AGAIN);
        }
    }

    /// Serves librdkafka until it has nothing more to say.
    fn poll(&mut self) {
        loop {
            let polled = match self.consumer.poll(Duration::ZERO) {
                Some(Err(error)) => Some(Some(error)),
                // Its partitions are paused; what was fetched before is the reader's to read.
                Some(Ok(_)) => Some(None),
                None => None,
            };
            if let Some(Some(error)) = &polled {
                self.on_error(error);
            }
            let happened: Vec<Happened> = {
                let context = self.consumer.context();
                let mut happened = context.happened.lock().unwrap_or_else(PoisonError::into_inner);
                happened.drain(..).collect()
            };
            let quiet = polled.is_none() && happened.is_empty();
            for one in happened {
                match one {
                    Happened::Assigned(partitions) => self.on_assigned(partitions),
                    Happened::Revoked { partitions, lost } => self.on_revoked(partitions, lost),
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn on_error(&mut self, error: &KafkaError) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if !fatal && errors::class(code) == Class::Passing {
            tracing::debug!(pipeline = %self.pipeline, %error, "the group's member");
            return;
        }
        let operation = format!("pipeline {}: reading {}", self.pipeline, self.topics.join(", "));
        let error = match errors::log_error(&operation, error) {
            LogError::Unavailable(text) => LogError::Fatal(text),
            error => error,
        };
        self.shared.fail(error);
    }

    fn on_assigned(&mut self, partitions: Vec<Partition>) {
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            let number = records::raw_partition(partition.number);
            // Any offset: nothing is read here.
            let offset = rdkafka::Offset::Offset(0);
            let _ = list.add_partition_offset(&partition.topic, number, offset);
        }
        assign(&self.consumer, &list);
        if partitions.is_empty() || self.leaving.is_some() {
            return;
        }
        tracing::info!(pipeline = %self.pipeline, partitions = %named(&partitions), "assigned");
        self.shared.owned().extend(partitions.iter().cloned());
        self.shared.tell(Event::Assigned(partitions));
    }

    fn on_revoked(&mut self, partitions: Vec<Partition>, lost: bool) {
        for partition in &partitions {
            self.tell_again.remove(partition);
        }
        if partitions.is_empty() {
            unassign(&self.consumer, &list_of(&partitions));
            return;
        }
        let text = named(&partitions);
        let owned = self.shared.owned().clone();
        let left: BTreeSet<Partition> =
            partitions.iter().filter(|p| owned.contains(*p)).cloned().collect();
        self.revoking = Some(Revoking { all: partitions.clone(), left });
        if self.leaving.is_some() {
            // Nobody is left to drain; a commit under way is waited for.
        } else if lost {
            tracing::warn!(pipeline = %self.pipeline, partitions = %text, "assignment lost: what is in hand is left to the next owner");
            self.lose();
        } else {
            tracing::info!(pipeline = %self.pipeline, partitions = %text, "revoked: draining");
            self.shared.tell(Event::Revoked(partitions));
        }
    }

    /// A group that waits for us may take the partitions from us meanwhile.
    fn check_lost(&mut self) {
        let waits = self.revoking.as_ref().is_some_and(|revoking| !revoking.left.is_empty());
        if waits && self.consumer.assignment_lost() {
            self.lose();
        }
    }

    fn lose(&mut self) {
        let Some(revoking) = &mut self.revoking else { return };
        let lost: Vec<Partition> = std::mem::take(&mut revoking.left).into_iter().collect();
        {
            let mut owned = self.shared.owned();
            for partition in &revoking.all {
                owned.remove(partition);
            }
        }
        if !lost.is_empty() {
            self.shared.tell(Event::Lost(lost));
        }
    }

    /// Answers releases, and gives revoked partitions back when all of them were released.
    fn finish_releases(&mut self) {
        let names = |partitions: &[Partition]| {
            let committing = self.committing.iter().filter(|c| c.since.elapsed() < COMMIT_WAIT);
            committing.flat_map(|c| &c.calls).flat_map(|call| &call.commits).any(
                |(committed, _)| {
                    let source = source_of(&committed.topic, &self.topics);
                    partitions.iter().any(|partition| {
                        partition.number == committed.number && source == Some(&partition.topic)
                    })
                },
            )
        };
        let (later, now): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.releases).into_iter().partition(|(p, _)| names(p));
        let given_back = self
            .revoking
            .as_ref()
            .is_some_and(|revoking| revoking.left.is_empty() && !names(&revoking.all));
        self.releases = later;
        if given_back && let Some(Revoking { all, .. }) = self.revoking.take() {
            {
                let mut owned = self.shared.owned();
                for partition in &all {
                    owned.remove(partition);
                }
            }
            unassign(&self.consumer, &list_of(&all));
        }
        for (_, reply) in now {
            let _ = reply.send(());
        }
    }

    fn tell_again(&mut self) {
        let now = Instant::now();
        let due: Vec<Partition> =
            self.tell_again.iter().filter(|(_, at)| **at <= now).map(|(p, _)| p.clone()).collect();
        for partition in due {
            self.tell_again.remove(&partition);
            if self.shared.owned().contains(&partition) {
                self.shared.tell(Event::Assigned(vec![partition]));
            }
        }
    }

    /// Starts the next commit: all that wait, as one request.
    fn start_commit(&mut self) {
        if self.committing.is_some() || self.commits.is_empty() {
            return;
        }
        let mut merged: BTreeMap<Partition, millstream_core::log::Commit> = BTreeMap::new();
        let mut calls = Vec::new();
        for call in std::mem::take(&mut self.commits) {
            if call.reply.is_closed() {
                // Its task is gone: a dead assignment commits nothing.
                continue;
            }
            if let Err(error) = self.check_owned(&call.commits) {
                let _ = call.reply.send(Err(error));
                continue;
            }
            merged.extend(call.commits.iter().cloned());
            calls.push(call);
        }
        let mut list = TopicPartitionList::with_capacity(merged.len());
        for (partition, commit) in &merged {
            let number = records::raw_partition(partition.number);
            let mut element = list.add_partition(&partition.topic, number);
            let _ = element.set_offset(rdkafka::Offset::Offset(records::raw_offset(commit.next)));
            element.set_metadata(commit_metadata::encode(&self.cluster_id, partition, commit));
        }
        if calls.is_empty() {
            return;
        }
        self.committer.commit(list);
        self.committing = Some(Committing { calls, since: Instant::now() });
    }

    fn check_owned(&self, commits: &Commits) -> Result<(), LogError> {
        let owned = self.shared.owned();
        for (partition, _) in commits {
            let source = source_of(&partition.topic, &self.topics)
                .map(|topic| Partition { topic: topic.clone(), number: partition.number });
            if !source.is_some_and(|source| owned.contains(&source)) {
                let text = format!("commit of {partition}: it is not assigned to this member");
                return Err(LogError::Fenced(text));
            }
        }
        Ok(())
    }

    fn on_committed(&mut self, answer: &CommitAnswer) {
        let Some(Committing { calls, .. }) = self.committing.take() else { return };
        for call in calls {
            let own = call.commits.iter().find_map(|(partition, _)| {
                let failed = answer.partitions.iter().find(|(failed, _)| failed == partition);
                failed.map(|(_, code)| (partition.clone(), *code))
            });
            let own = own.or_else(|| Some((call.commits.first()?.0.clone(), answer.error?)));
            let answer = match own {
                None => Ok(()),
                Some((partition, code)) => {
                    let operation = format!("commit of {partition}");
                    Err(errors::of_code(&operation, code, &code.to_string()))
                }
            };
            let _ = call.reply.send(answer);
        }
    }
}

fn named(partitions: &[Partition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
