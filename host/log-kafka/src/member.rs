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
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::log::{Commits, Event, LogError, Subscription, source_of};
use millstream_core::message::{Partition, Topic};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::{Notify, oneshot};

use crate::client::{self, Context};
use crate::committer::{CommitAnswer, Committer};
use crate::errors;

pub(crate) use group_events::{MemberContext, partition_of};
use worker::Worker;

mod group_events;
mod worker;

/// Commits, releases and wake-ups on their way to the thread.
const COMMANDS_MAX: usize = 4096;

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
        let context = MemberContext::new(context);
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
            leaving: None,
            is_static: config.get("group.instance.id").is_some(),
            tells_join_state: config.get(client::JOIN_STATE_EVERY).is_some(),
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

    /// How many partitions are owned.
    pub(crate) fn owned(&self) -> usize {
        self.shared.owned().len()
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
