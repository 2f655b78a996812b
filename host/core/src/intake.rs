//! Intake: polls the log, bounds what is in flight, and owns the assignment.
//!
//! After the log, before `lane`; one task for each pipeline. It starts a partition task when a
//! partition is assigned, hands each batch to the partition that owns it (retries beside their
//! source), and gives the partition up when its task has drained.
//!
//! Invariants:
//! - polling never waits for a handler: when the budget is used up the sources are paused and polling
//!   goes on, for assignments and for retry tiers;
//! - no partition takes more than its part of the budget, so one that stands still (a retry in place,
//!   a dependency that is down) never starves the others;
//! - a partition is released only after its task has ended.
//!
//! Limits: in-flight messages and bytes of the pipeline (`budget`); a mailbox has room for every
//! batch the budget and the tiers allow.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use prometheus::IntCounter;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::budget::{Budget, Share};
use crate::dead_letter::OpenLetters;
use crate::log::{Batch, Consumer, Event, LogError, Room};
use crate::message::{Message, Partition};
use crate::partition::{PartitionTask, ToPartition};
use crate::perhaps;
use crate::pipeline::{Context, PipelineError};
use crate::shutdown::Shutdown;
use crate::status::{PartitionStatus, Trouble};
use crate::tiers::{HELD_BYTES_MAX, HELD_MESSAGES_MAX};

pub(crate) use look::Looked;

/// How often the ends of the partitions are looked at, for lag.
const ENDS_EVERY: Duration = Duration::from_secs(1);

/// The same in a run that ends when it is caught up, where the end waits for it.
const ENDS_EVERY_UNTIL_CAUGHT_UP: Duration = Duration::from_millis(20);

/// How long to wait after the log was unavailable; doubled up to the longest.
const UNAVAILABLE_WAIT: Duration = Duration::from_millis(50);
const UNAVAILABLE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Batches without messages (gaps) that a mailbox has room for beside the budget's.
const MAILBOX_EXTRA: usize = 1024;

struct Owned {
    mailbox: mpsc::Sender<ToPartition>,
    drain: watch::Sender<bool>,
    share: Arc<Share>,
    status: Arc<PartitionStatus>,
    task: AbortHandle,
    paused: bool,
    pauses: IntCounter,
    /// It was aborted and will be started over; what still comes for it comes again.
    given_up: bool,
}

impl Owned {
    /// Whether the source is attached.
    fn is_started(&self) -> bool {
        self.status.started.load(Ordering::Acquire)
    }
}

/// See the module.
pub(crate) struct Intake {
    context: Arc<Context>,
    consumer: Arc<dyn Consumer>,
    budget: Arc<Budget>,
    owned: BTreeMap<Partition, Owned>,
    /// Given up though the group has not asked for them: they are told again, and until then nobody
    /// knows whether they are caught up.
    given_up: BTreeSet<Partition>,
    tasks: JoinSet<(Partition, Result<(), PipelineError>)>,
    budget_full: bool,
    look: u64,
    /// Asks for the ends; beside the polling, since a log may take long to answer.
    looking: Option<BoxFuture<'static, Result<Looked, LogError>>>,
    /// What became of dead letters, as far as it was read; used by one look at a time.
    open_letters: Arc<Mutex<OpenLetters>>,
    /// What the last poll or look came to, while it failed.
    trouble: Option<Trouble>,
}

impl Intake {
    /// An intake that owns nothing yet.
    pub(crate) fn new(context: Arc<Context>, consumer: Arc<dyn Consumer>) -> Self {
        let spec = &context.spec;
        let budget = Arc::new(Budget::new(spec.in_flight_messages, spec.in_flight_bytes));
        Self {
            context,
            consumer,
            budget,
            owned: BTreeMap::new(),
            given_up: BTreeSet::new(),
            tasks: JoinSet::new(),
            budget_full: false,
            look: 0,
            looking: None,
            open_letters: Arc::default(),
            trouble: None,
        }
    }

    /// Runs until shutdown, until caught up (if asked for), or until the pipeline must stop.
    pub(crate) async fn run(
        mut self,
        mut shutdown: Shutdown,
        until_caught_up: bool,
    ) -> Result<(), PipelineError> {
        let every = if until_caught_up { ENDS_EVERY_UNTIL_CAUGHT_UP } else { ENDS_EVERY };
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wait = UNAVAILABLE_WAIT;
        let mut not_before = Instant::now();
        let ended = loop {
            self.bound();
            let room = self.room();
            tokio::select! {
                biased;
                () = shutdown.requested() => break Ok(()),
                Some(task) = self.tasks.join_next() => {
                    if let Err(error) = self.task_ended(task).await {
                        break Err(error);
                    }
                }
                _ = looks.tick(), if self.looking.is_none() => {
                    if until_caught_up && self.is_caught_up() {
                        break Ok(());
                    }
                    self.look_at_ends();
                }
                looked = perhaps::ended(self.looking.as_mut()), if self.looking.is_some() => {
                    self.looking = None;
                    self.on_ends(looked);
                }
                () = self.budget.freed(), if self.anything_paused() => {}
                event = next_event(&*self.consumer, room, not_before) => match event {
                    Ok(event) => {
                        wait = UNAVAILABLE_WAIT;
                        self.trouble = None;
                        self.on_event(event).await;
                    }
                    Err(LogError::Unavailable(reason)) => {
                        tracing::warn!(pipeline = %self.context.spec.name, %reason, "the log is unavailable; waiting");
                        self.trouble = Some(self.context.status.trouble(format!("log: poll: {reason}")));
                        self.context.log_error("poll");
                        not_before = Instant::now() + wait;
                        wait = (wait * 2).min(UNAVAILABLE_WAIT_MAX);
                    }
                    // Fenced: this member is out of its group; nothing of it may be settled.
                    Err(error) => {
                        self.abandon_all();
                        break Err(self.context.stopped(error));
                    }
                },
            }
        };
        self.trouble = None;
        let drained = self.drain_all().await;
        self.consumer.close().await;
        ended.and(drained)
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Assigned(partitions) => {
                self.count_rebalance("assigned");
                for partition in partitions {
                    self.start(partition);
                }
            }
            Event::Revoked(partitions) => {
                self.count_rebalance("revoked");
                for partition in partitions {
                    self.given_up.remove(&partition);
                    match self.owned.get(&partition) {
                        Some(owned) => {
                            owned.drain.send_replace(true);
                        }
                        None => self.consumer.release(&[partition]).await,
                    }
                }
            }
            Event::Lost(partitions) => {
                self.count_rebalance("lost");
                for partition in partitions {
                    self.given_up.remove(&partition);
                    if let Some(owned) = self.owned.get(&partition) {
                        // What it has in hand is abandoned uncommitted; the next owner repeats it.
                        owned.task.abort();
                    }
                    self.forget(&partition);
                }
            }
            Event::Messages(batch) => self.route(batch),
        }
    }

    fn count_rebalance(&self, event: &str) {
        let labels = [self.context.spec.name.as_str(), event];
        self.context.ports.metrics.rebalances.with_label_values(&labels).inc();
    }

    fn start(&mut self, partition: Partition) {
        if self.owned.contains_key(&partition) {
            return;
        }
        self.given_up.remove(&partition);
        let spec = &self.context.spec;
        let room = spec.in_flight_messages.saturating_add(MAILBOX_EXTRA);
        let (mailbox, receiver) = mpsc::channel(room);
        let (drain, drain_receiver) = watch::channel(false);
        let share = Arc::new(Share::new(Arc::clone(&self.budget)));
        let status = self.context.status.add(partition.clone());
        let task = PartitionTask::new(
            Arc::clone(&self.context),
            Arc::clone(&self.consumer),
            partition.clone(),
            Arc::clone(&share),
            Arc::clone(&status),
            receiver,
            drain_receiver,
        );
        let pauses = self.context.ports.metrics.paused_by_in_flight(&spec.name, &partition);
        let name = partition.clone();
        let task = self.tasks.spawn(async move { (name, task.run().await) });
        let (paused, given_up) = (false, false);
        let owned = Owned { mailbox, drain, share, status, task, paused, pauses, given_up };
        self.owned.insert(partition, owned);
    }

    fn route(&mut self, batch: Batch) {
        let owner = match self.context.spec.topics.contains(&batch.partition.topic) {
            true => Some(batch.partition.clone()),
            false => self.owner_of_tier(&batch.partition),
        };
        // A batch of a partition that was given up since: it is uncommitted and comes again.
        let Some(owned) = owner.as_ref().and_then(|owner| self.owned.get_mut(owner)) else {
            return;
        };
        if owned.given_up {
            return;
        }
        if owner.as_ref() == Some(&batch.partition) {
            let bytes = batch.messages.iter().map(Message::size_bytes).sum();
            owned.share.take(batch.messages.len(), bytes);
        }
        if let Err(mpsc::error::TrySendError::Full(ToPartition::Batch(batch))) =
            owned.mailbox.try_send(ToPartition::Batch(batch))
            && !batch.messages.is_empty()
        {
            // The mailbox has room for the whole budget, so this partition has stopped reading it:
            // give it up and start it over from its commit.
            tracing::error!(pipeline = %self.context.spec.name, partition = %batch.partition, "the partition takes no messages; starting it over from its commit");
            owned.given_up = true;
            owned.task.abort();
        }
    }

    fn owner_of_tier(&self, tier: &Partition) -> Option<Partition> {
        let spec = &self.context.spec;
        let source = spec
            .topics
            .iter()
            .find(|source| spec.retry.topic.delay_of(&tier.topic, source, &spec.group).is_some())?;
        Some(Partition { topic: source.clone(), number: tier.number })
    }

    /// How much the next poll may take.
    fn room(&self) -> Room {
        if self.budget_full {
            if self.owned.values().any(|owned| !owned.is_started()) {
                // A source that is attached just now is not paused yet, and would bring in more.
                return Room { messages: 0, bytes: 0 };
            }
            // Only tiers are not paused now, and they have bounds of their own.
            return Room { messages: HELD_MESSAGES_MAX, bytes: HELD_BYTES_MAX };
        }
        let room = self.budget.room();
        let batch = self.batch();
        Room { messages: room.messages.min(batch.messages), bytes: room.bytes.min(batch.bytes) }
    }

    /// How much a batch has at most: with what its partition holds, never more than its part.
    fn batch(&self) -> Room {
        let part = self.part();
        Room { messages: (part.messages / 2).max(1), bytes: (part.bytes / 2).max(1) }
    }

    /// The part of the budget that one partition may hold.
    fn part(&self) -> Room {
        let spec = &self.context.spec;
        let partitions = self.owned.len().max(1);
        let part = spec.in_flight_messages / partitions;
        let bytes = (spec.in_flight_bytes / partitions).max(1);
        Room { messages: part.max(1), bytes }
    }

    /// Pauses and resumes sources by the budget and each partition's part of it.
    fn bound(&mut self) {
        let room = self.budget.room();
        let spec = &self.context.spec;
        self.budget_full = match self.budget_full {
            // Hysteresis: pausing at each message would cost more than it saves.
            true => room.messages <= spec.in_flight_messages / 4,
            false => room.messages == 0,
        };
        let (part, batch) = (self.part(), self.batch());
        let left =
            Room { messages: part.messages - batch.messages, bytes: part.bytes - batch.bytes };
        for (partition, owned) in &mut self.owned {
            if !owned.is_started() {
                // Not attached yet: there is nothing to pause.
                continue;
            }
            // Another batch must fit into its part.
            let part = if owned.paused { 2 } else { 1 };
            let pause = self.budget_full
                || owned.share.messages() > left.messages / part
                || owned.share.bytes() > left.bytes / part;
            if pause != owned.paused {
                owned.paused = pause;
                owned.share.set_paused(pause);
                match pause {
                    true => {
                        owned.pauses.inc();
                        self.consumer.pause(std::slice::from_ref(partition));
                    }
                    false => self.consumer.resume(std::slice::from_ref(partition)),
                }
            }
        }
        let (messages, bytes) = self.budget.taken();
        self.context.in_flight(messages, bytes);
    }

    fn anything_paused(&self) -> bool {
        self.budget_full || self.owned.values().any(|owned| owned.paused)
    }

    async fn task_ended(
        &mut self,
        task: Result<(Partition, Result<(), PipelineError>), tokio::task::JoinError>,
    ) -> Result<(), PipelineError> {
        match task {
            Ok((partition, Ok(()))) => {
                self.forget(&partition);
                self.consumer.release(&[partition]).await;
                Ok(())
            }
            Ok((partition, Err(PipelineError::Fenced(reason)))) => {
                tracing::warn!(pipeline = %self.context.spec.name, %partition, %reason, "the partition is given up; what was in hand is left to its next owner");
                self.give_up(&partition);
                self.consumer.release(&[partition]).await;
                Ok(())
            }
            Ok((partition, Err(error))) => {
                self.forget(&partition);
                self.consumer.release(&[partition]).await;
                Err(error)
            }
            Err(join) if join.is_cancelled() => {
                let ended: Vec<Partition> = self
                    .owned
                    .iter()
                    .filter(|(_, owned)| owned.task.is_finished())
                    .map(|(partition, _)| partition.clone())
                    .collect();
                for partition in ended {
                    self.give_up(&partition);
                    self.consumer.release(&[partition]).await;
                }
                Ok(())
            }
            Err(join) => Err(PipelineError::Bug(join.to_string())),
        }
    }

    /// Forgets a partition that the group has not asked back, or not yet.
    fn give_up(&mut self, partition: &Partition) {
        if self.owned.get(partition).is_some_and(|owned| !*owned.drain.borrow()) {
            self.given_up.insert(partition.clone());
        }
        self.forget(partition);
    }

    fn forget(&mut self, partition: &Partition) {
        self.owned.remove(partition);
        self.context.status.remove(partition);
    }

    fn abandon_all(&mut self) {
        self.tasks.abort_all();
    }

    /// Lets every partition drain, then gives them up. Polling is not needed meanwhile: nothing is
    /// taken any more.
    async fn drain_all(&mut self) -> Result<(), PipelineError> {
        for owned in self.owned.values() {
            owned.drain.send_replace(true);
        }
        let mut ended = Ok(());
        while let Some(task) = self.tasks.join_next().await {
            let one = self.task_ended(task).await;
            if ended.is_ok() {
                ended = one;
            }
        }
        let left: Vec<Partition> = self.owned.keys().cloned().collect();
        for partition in left {
            self.forget(&partition);
            self.consumer.release(&[partition]).await;
        }
        self.context.in_flight(0, 0);
        ended
    }
}

async fn next_event(
    consumer: &dyn Consumer,
    room: Room,
    not_before: Instant,
) -> Result<Event, LogError> {
    if Instant::now() < not_before {
        tokio::time::sleep_until(not_before).await;
    }
    consumer.next(room).await
}
