//! Member: one host's membership in a consumer group; it owns partitions and commits, and reads nothing.
//!
//! A thread of its own polls librdkafka, never behind a handler, so a handler that takes a minute does not
//! cost the membership. Rebalances, commits and releases all run on that thread: so "is this partition
//! still ours" and "commit it" are one step.
//!
//! ```text
//! assigned ──▶ told ──▶ (revoked: drained by the core) ──▶ released ──▶ unassigned
//!                 └──▶ lost: told, unassigned at once
//! ```
//!
//! Invariants:
//! - librdkafka's callback only records; `unassign` comes when the core has released everything, so no
//!   other member owns a partition that is still being drained;
//! - one commit is under way at a time; a partition is released only when no commit names it: a late
//!   one would move the next owner's commit back;
//! - a commit for a partition that is not ours (any more) is refused here, though a broker would take it
//!   from any valid member.
//!
//! Limits: commands wait in a channel of [`COMMANDS_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::log::{Commits, Event, LogError, Subscription, source_of};
use millstream_core::message::{Partition, Topic};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::client::Context;
use crate::commit_metadata;
use crate::committer::{CommitAnswer, Committer};
use crate::errors::{self, Class};
use crate::records;

/// Commits, releases and wake-ups on their way to the thread.
const COMMANDS_MAX: usize = 4096;

/// librdkafka is polled at least so often; `max.poll.interval.ms` is never smaller than a second.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// A partition that was released after a failure is told again after this, so that a failure that stays
/// does not spin.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// How long a release waits for a commit that is under way: longer, and the broker has given up too.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// What librdkafka told in a callback.
enum Happened {
    Assigned(Vec<Partition>),
    Revoked { partitions: Vec<Partition>, lost: bool },
}

/// Context of the member's client: records what happens.
pub(crate) struct MemberContext {
    client: Context,
    happened: Mutex<VecDeque<Happened>>,
    /// The client is being closed: nobody is left to release anything.
    closing: AtomicBool,
}

impl MemberContext {
    fn record(&self, happened: Happened) {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push_back(happened);
    }
}

impl ClientContext for MemberContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.client.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.client.generate_oauth_token(config)
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = partitions_of(list);
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.record(Happened::Assigned(partitions));
            return;
        }
        if self.closing.load(Ordering::Acquire) {
            unassign(consumer, list);
            return;
        }
        self.record(Happened::Revoked { partitions, lost: consumer.assignment_lost() });
    }
}

/// The partition that librdkafka means.
pub(crate) fn partition_of(topic: &str, number: i32) -> Partition {
    Partition::new(topic, u32::try_from(number).unwrap_or(u32::MAX))
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|e| partition_of(e.topic(), e.partition())).collect()
}

fn list_of<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, records::raw_partition(partition.number));
    }
    list
}

fn unassign(consumer: &BaseConsumer<MemberContext>, list: &TopicPartitionList) {
    let unassigned = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    };
    if let Err(error) = unassigned {
        tracing::warn!(%error, "partitions could not be given back to the group");
    }
}

/// A commit on its way.
pub(crate) struct CommitCall {
    commits: Commits,
    reply: oneshot::Sender<Result<(), LogError>>,
}

pub(crate) enum Command {
    /// Something is in librdkafka's queue.
    Poll,
    Commit(CommitCall),
    Committed(CommitAnswer),
    Release(Vec<Partition>, oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// What the thread and the member's user both see.
struct Shared {
    events: Mutex<VecDeque<Event>>,
    failed: Mutex<Option<LogError>>,
    /// Source partitions that are ours, as far as we know.
    owned: Mutex<BTreeSet<Partition>>,
    wake: Arc<Notify>,
}

impl Shared {
    fn tell(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.wake.notify_one();
    }

    fn fail(&self, error: LogError) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.wake.notify_one();
    }

    fn owned(&self) -> std::sync::MutexGuard<'_, BTreeSet<Partition>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct Member {
    consumer: Arc<BaseConsumer<MemberContext>>,
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    topics: Vec<Topic>,
    group: String,
}

impl Member {
    /// Joins the group; what it is assigned comes as events. `wake` is told of each.
    pub(crate) fn join(
        config: &ClientConfig,
        context: Context,
        subscription: &Subscription,
        cluster_id: &str,
        wake: Arc<Notify>,
    ) -> Result<Self, LogError> {
        let operation =
            format!("pipeline {}: joining group {}", subscription.pipeline, subscription.group);
        let failed = |error: &KafkaError| errors::log_error(&operation, error);
        let closing = AtomicBool::new(false);
        let context = MemberContext { client: context, happened: Mutex::default(), closing };
        let mut consumer: BaseConsumer<MemberContext> =
            config.create_with_context(context).map_err(|error| failed(&error))?;
        let (commands, receiver) = sync_channel(COMMANDS_MAX);
        let tell = commands.clone();
        consumer.set_nonempty_callback(move || {
            // A full channel wakes the thread as well.
            let _ = tell.try_send(Command::Poll);
        });
        let topics: Vec<&str> = subscription.topics.iter().map(|topic| &**topic).collect();
        consumer.subscribe(&topics).map_err(|error| failed(&error))?;
        let consumer = Arc::new(consumer);
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            failed: Mutex::default(),
            owned: Mutex::default(),
            wake,
        });
        let committer = Committer::start(Arc::clone(&consumer), commands.clone())?;
        let worker = Worker {
            consumer: Arc::clone(&consumer),
            committer,
            shared: Arc::clone(&shared),
            pipeline: subscription.pipeline.clone(),
            cluster_id: cluster_id.to_owned(),
            topics: subscription.topics.clone(),
            revoking: None,
            commits: Vec::new(),
            committing: None,
            releases: Vec::new(),
            tell_again: BTreeMap::new(),
            closed: Vec::new(),
        };
        std::thread::Builder::new()
            .name("kafka-member".to_owned())
            .spawn(move || worker.run(&receiver))
            .map_err(|error| LogError::Unavailable(format!("{operation}: no thread: {error}")))?;
        let (topics, group) = (subscription.topics.clone(), subscription.group.clone());
        Ok(Self { consumer, commands, shared, topics, group })
    }

    /// The next event, if there is one.
    pub(crate) fn take_event(&self) -> Result<Option<Event>, LogError> {
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
    }

    /// The group.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// The group's consumer, for calls that any thread may make.
    pub(crate) fn consumer(&self) -> &Arc<BaseConsumer<MemberContext>> {
        &self.consumer
    }

    /// The source partition that `partition` is, or is a companion of.
    pub(crate) fn source_of(&self, partition: &Partition) -> Option<Partition> {
        let topic = source_of(&partition.topic, &self.topics)?;
        Some(Partition { topic: topic.clone(), number: partition.number })
    }

    /// Whether a partition (or the source it accompanies) is ours.
    pub(crate) fn owns(&self, partition: &Partition) -> bool {
        self.source_of(partition).is_some_and(|source| self.shared.owned().contains(&source))
    }

    pub(crate) async fn commit(&self, commits: Commits) -> Result<(), LogError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Commit(CommitCall { commits, reply })).await?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    pub(crate) async fn release(&self, partitions: Vec<Partition>) {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Release(partitions, reply)).await.is_ok() {
            // An error: the thread has ended, and with it the membership.
            let _ = answer.await;
        }
    }

    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Close(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, mut command: Command) -> Result<(), LogError> {
        loop {
            match self.commands.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(self.gone()),
                Err(TrySendError::Full(back)) => command = back,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn gone(&self) -> LogError {
        LogError::Fenced(format!("group {}: this member has left", self.group))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A member that just vanishes (its task was dropped) must not keep its partitions.
        let (reply, _) = oneshot::channel();
        let _ = self.commands.try_send(Command::Close(reply));
    }
}

/// Partitions that the group wants back.
struct Revoking {
    all: Vec<Partition>,
    /// Not released yet.
    left: BTreeSet<Partition>,
}

/// The commit under way.
struct Committing {
    calls: Vec<CommitCall>,
    since: Instant,
}

/// The thread.
struct Worker {
    consumer: Arc<BaseConsumer<MemberContext>>,
    committer: Committer,
    shared: Arc<Shared>,
    pipeline: String,
    cluster_id: String,
    topics: Vec<Topic>,
    revoking: Option<Revoking>,
    commits: Vec<CommitCall>,
    committing: Option<Committing>,
    /// Released, waiting for a commit that names them.
    releases: Vec<(Vec<Partition>, oneshot::Sender<()>)>,
    /// Released after a failure and still ours: told again at this time.
    tell_again: BTreeMap<Partition, Instant>,
    closed: Vec<oneshot::Sender<()>>,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        while self.closed.is_empty() {
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
        let closed = std::mem::take(&mut self.closed);
        // Dropped here, mostly as the last: the client leaves the group, which takes a round trip.
        drop(self);
        for reply in closed {
            let _ = reply.send(());
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
            Command::Close(reply) => self.closed.push(reply),
        }
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
        let assigned = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.assign(&list),
        };
        if let Err(error) = assigned.and_then(|()| self.consumer.pause(&list)) {
            tracing::warn!(pipeline = %self.pipeline, %error, "an assignment could not be taken");
        }
        if partitions.is_empty() {
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
        if lost {
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
