//! Partition: the task that owns one assigned source partition and walks its messages through the
//! stations: lane, dedupe, attempt (by the pipeline's workers), settle, ledger, commit.
//!
//! Started by `intake` on assignment, one for each partition; it owns the partition's ledgers, lanes,
//! claims and retry tiers alone, so there is no lock on the message's way. It first rebuilds its state
//! (`restore`), then reacts: to batches, to what workers hand back, to what the log acknowledges, to
//! time.
//!
//! Invariants:
//! - it never waits inside a reaction: everything slow is a future that it polls beside its mailbox;
//! - nothing is settled before all that its outcome produced is acknowledged;
//! - dropped (crash, assignment lost), it has committed nothing that is not settled, and cancels what
//!   workers do for it.
//!
//! Limits: batches out are at most as many as workers; records on their way to the log at most the
//! in-flight bytes and what the batches out add to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::attempt::Returned;
use crate::budget::Share;
use crate::dedupe::{Claims, EntryId};
use crate::hot_keys::HotKeys;
use crate::idempotency::Scope;
use crate::in_hand::{InHand, ReadFrom};
use crate::intake::Looked;
use crate::lane::{LaneId, Lanes, WaitsFor};
use crate::ledger::{Delivery, Ledger};
use crate::log::{Batch, Consumer, Room};
use crate::message::{EpochMs, Partition};
use crate::metrics::PartitionMetrics;
use crate::perhaps;
use crate::pipeline::{Context, PipelineError};
use crate::pipeline_spec::{self, KeepOrder};
use crate::settle::{Acknowledged, Settling};
use crate::status::PartitionStatus;
use crate::tiers::{Due, Tiers};
use held_up::Standstill;
use suspicion::Suspicion;
use turns::Waiting;
use watch_lag::Pace;
use window::Window;

mod admit;
mod commit;
mod dispatch;
mod ending;
mod held_up;
mod outcomes;
mod restore;
mod suspicion;
mod trim;
mod turns;
mod watch_lag;
mod window;

pub(crate) use commit::Committed;

/// What intake tells a partition.
#[derive(Debug)]
pub(crate) enum ToPartition {
    /// Messages of the source or of one of its tiers.
    Batch(Batch),
    /// The ends of all partitions, as of the look of this number.
    Ends(u64, Arc<Looked>),
}

/// Answers of the idempotency store: (entry of a key, turn of its mark).
type Answers = Result<Vec<(EntryId, Option<u64>)>, PipelineError>;

/// See the module.
pub(crate) struct PartitionTask {
    context: Arc<Context>,
    consumer: Arc<dyn Consumer>,
    partition: Partition,
    share: Arc<Share>,
    status: Arc<PartitionStatus>,
    metrics: PartitionMetrics,
    mailbox: mpsc::Receiver<ToPartition>,
    drain: watch::Receiver<bool>,

    source: Ledger,
    tiers: Tiers,
    lanes: Lanes<InHand>,
    claims: Claims,
    /// Where its idempotency keys count.
    scope: Arc<Scope>,

    /// Messages that wait for their commit before they may be attempted (`at_most_once`).
    awaiting_commit: Vec<InHand>,
    /// Batches with workers.
    out: usize,
    /// Messages with workers.
    out_messages: usize,
    results: mpsc::Receiver<Returned>,
    results_sender: mpsc::Sender<Returned>,
    /// What one attempt takes, smoothed.
    attempt_cost: Duration,

    /// Settled by outcome, waiting to be appended.
    outbox: Vec<Settling>,
    /// Which messages of the source are admitted now.
    window: Window<InHand>,
    /// Whether a message may have killed the last owners.
    suspicion: Suspicion,
    /// What waits for an earlier message of its key.
    waiting: Waiting,
    hot_keys: HotKeys,
    /// How fast messages are settled.
    pace: Pace,
    /// The lanes that wait for a turn, since when.
    turn_waits: BTreeMap<LaneId, Instant>,
    /// What is in `outbox` is sent then, whatever else comes.
    append_at: Instant,
    /// Tells of the end of a round of transactions (`exactly_once`).
    round: Arc<Notify>,
    /// What was settled since the share was given back to: intake is woken once for all of it.
    freed: Room,
    /// Bytes of records in `outbox` and on their way to the log.
    output_bytes: usize,
    appending: FuturesUnordered<BoxFuture<'static, Result<Acknowledged, PipelineError>>>,
    /// Idempotency keys the store is to be asked for.
    to_ask: Vec<EntryId>,
    lookups: FuturesUnordered<BoxFuture<'static, Answers>>,

    /// Lanes that go on at a time.
    wakes: BinaryHeap<Reverse<(Instant, LaneId)>>,
    /// The same, once the commit that keeps their attempts is acknowledged.
    wakes_after_commit: Vec<(Instant, LaneId)>,
    committing: Option<BoxFuture<'static, Result<Committed, PipelineError>>>,
    /// Removes settled messages of a tier.
    trimming: Option<BoxFuture<'static, ()>>,
    /// For each tier, what was removed last; the start of the tier at first.
    trimmed_to: Vec<u64>,
    /// When what is settled must be committed; `None` if nothing is new.
    commit_at: Option<Instant>,
    /// When what was committed last is committed again.
    refresh_at: Instant,
    /// The commit that counts this owner was sent.
    counted: bool,
    /// The commit is to say that this owner ended in order.
    signed_off: bool,
    /// What was committed last.
    last_commits: crate::log::Commits,
    /// The next offset of the source as last acknowledged.
    committed: u64,
    /// How long it has been that.
    standstill: Standstill,
}

impl PartitionTask {
    pub(crate) fn new(
        context: Arc<Context>,
        consumer: Arc<dyn Consumer>,
        partition: Partition,
        share: Arc<Share>,
        status: Arc<PartitionStatus>,
        mailbox: mpsc::Receiver<ToPartition>,
        drain: watch::Receiver<bool>,
    ) -> Self {
        let (results_sender, results) = mpsc::channel(context.spec.instances.max(1));
        let metrics = context.ports.metrics.partition(&context.spec.name, &partition);
        let group = context.spec.group.clone();
        let ordering = context.spec.ordering;
        let keep_order = context.spec.retry.keep_order == KeepOrder::OfKey;
        let exactly_once = context.spec.delivery == pipeline_spec::Delivery::ExactlyOnce;
        let round = context.rounds.subscribe();
        let scope = context.scope(&partition);
        let window = Window::new(exactly_once.then_some(context.ranges_max));
        let suspicion = Suspicion::new(&context.spec, 0, 0);
        Self {
            tiers: Tiers::new(&group, partition.clone(), Vec::new(), keep_order),
            context,
            consumer,
            partition,
            share,
            status,
            metrics,
            mailbox,
            drain,
            source: Ledger::restore(&crate::log::Commit::default()),
            lanes: Lanes::new(ordering, keep_order.then_some(|item: &InHand| item.context.turn)),
            claims: Claims::default(),
            scope,
            awaiting_commit: Vec::new(),
            out: 0,
            out_messages: 0,
            results,
            results_sender,
            attempt_cost: Duration::ZERO,
            outbox: Vec::new(),
            window,
            suspicion,
            append_at: Instant::now(),
            waiting: Waiting::default(),
            hot_keys: HotKeys::new(Instant::now()),
            pace: Pace::default(),
            turn_waits: BTreeMap::new(),
            round,
            freed: Room { messages: 0, bytes: 0 },
            output_bytes: 0,
            appending: FuturesUnordered::new(),
            to_ask: Vec::new(),
            lookups: FuturesUnordered::new(),
            wakes: BinaryHeap::new(),
            wakes_after_commit: Vec::new(),
            committing: None,
            trimming: None,
            trimmed_to: Vec::new(),
            refresh_at: Instant::now(),
            commit_at: None,
            counted: false,
            signed_off: false,
            last_commits: Vec::new(),
            committed: 0,
            standstill: Standstill::new(Instant::now()),
        }
    }

    /// Runs until it has drained, or must stop.
    pub(crate) async fn run(mut self) -> Result<(), PipelineError> {
        let ended = self.work().await;
        // Who must stop has not died. (In `exactly_once` the ledger is ahead of the log then.)
        if matches!(ended, Err(PipelineError::Stopped(_))) && !self.is_exactly_once() {
            self.leave_in_order().await;
        }
        ended
    }

    async fn work(&mut self) -> Result<(), PipelineError> {
        let mut drain = self.drain.clone();
        let restored = tokio::select! {
            biased;
            // Nothing is in hand yet, so there is nothing to drain.
            () = asked(&mut drain) => {
                self.leave_in_order().await;
                return Ok(());
            }
            restored = self.restore() => restored?,
        };
        tracing::info!(
            pipeline = %self.context.spec.name, partition = %self.partition,
            from = restored.from, retries = self.tiers.outstanding.len(), "partition started"
        );
        self.status.started.store(true, Ordering::Release);
        let mut deadline: Option<Instant> = None;
        loop {
            self.advance(deadline.is_some()).await?;
            self.show();
            if deadline.is_some() && self.has_drained() && !self.has_to_sign_off() {
                return Ok(());
            }
            let next_wake = self.next_wake(deadline);
            tokio::select! {
                biased;
                () = asked(&mut drain), if deadline.is_none() => {
                    deadline = Some(Instant::now() + self.context.spec.drain);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return self.give_up().await;
                }
                Some(attempted) = self.results.recv() => self.on_attempted(attempted),
                Some(acknowledged) = self.appending.next(), if !self.appending.is_empty() => {
                    self.on_acknowledged(acknowledged?);
                }
                committed = perhaps::ended(self.committing.as_mut()), if self.committing.is_some() => {
                    self.committing = None;
                    self.on_committed(committed?);
                }
                () = perhaps::ended(self.trimming.as_mut()), if self.trimming.is_some() => {
                    self.trimming = None;
                }
                Some(answers) = self.lookups.next(), if !self.lookups.is_empty() => {
                    self.on_answers(answers?);
                }
                right = perhaps::ended(self.suspicion.asking.as_mut()), if self.suspicion.asking.is_some() => {
                    self.suspicion.asking = None;
                    self.has_right(right);
                }
                Some(message) = self.mailbox.recv(), if deadline.is_none() => match message {
                    ToPartition::Batch(batch) if batch.partition == self.partition => {
                        self.on_source_batch(batch);
                    }
                    ToPartition::Batch(batch) => self.on_batch(batch),
                    ToPartition::Ends(look, ends) => self.on_ends(look, &ends),
                },
                // Who waits for it goes on.
                () = self.round.notified() => {}
                () = perhaps::reached(next_wake) => {}
            }
        }
    }

    /// Moves everything on that can move; starts what is slow, waits for nothing.
    async fn advance(&mut self, draining: bool) -> Result<(), PipelineError> {
        while let Ok(attempted) = self.results.try_recv() {
            self.on_attempted(attempted);
        }
        if draining {
            self.put_named_back();
        } else {
            self.take_held_back();
            self.take_due();
        }
        if !draining || self.committed_first() {
            self.wake_lanes();
            self.admit_next();
            self.ask_store().await?;
            self.dispatch();
        }
        self.append_outbox(draining).await?;
        self.trust_again();
        self.start_commit(draining);
        if self.suspicion.may_go() && !draining {
            // The last commit named it already, so no answer comes that would wake this task.
            self.dispatch();
        }
        self.bound_tiers();
        self.give_back();
        Ok(())
    }

    fn on_batch(&mut self, batch: Batch) {
        let now = self.now();
        if batch.partition != self.partition {
            let Some(number) = self.tiers.number_of(&batch.partition.topic) else { return };
            for message in batch.messages {
                self.tiers.hold(number, message, now);
            }
            if let Some(tier) = self.tiers.all_mut().get_mut(number) {
                tier.ledger.read_to(batch.next);
                // Gaps may move the commit by themselves.
                self.commit_soon();
            }
            return;
        }
        for message in batch.messages {
            let size_bytes = message.size_bytes();
            if self.source.deliver(message.offset, message.timestamp) == Delivery::Known {
                self.free(size_bytes);
            } else {
                let attempts = self.source.attempts(message.offset);
                let item = InHand::of_source(message, attempts);
                if let Some(item) = self.window.enter(item) {
                    self.admit(item);
                }
            }
        }
        self.source.read_to(batch.next);
        self.commit_soon();
    }

    /// Takes what is due out of the tiers.
    fn take_due(&mut self) {
        let now = self.now();
        let beyond = self.window.first().map(|item| item.message.offset);
        self.tiers.admitted(beyond.unwrap_or_else(|| self.source.position()));
        while let Some(due) = self.tiers.take_due(now) {
            match due {
                Due::Attempt(item) => self.admit(*item),
                Due::Behind(item, tier) => self.put_behind(*item, tier),
                Due::Unreadable(item, reason) => self.bury_unreadable(*item, reason),
                Due::Settle(tier, offset, reason) => {
                    if reason == "superseded" {
                        self.metrics.superseded.inc();
                    }
                    self.settle_in_ledger(ReadFrom::Tier { tier, offset }, 0);
                }
            }
        }
    }

    /// Settles in the ledger that the message was read from, and gives back what it took.
    fn settle_in_ledger(&mut self, read_from: ReadFrom, source_offset: u64) {
        match read_from {
            ReadFrom::Source => self.source.settle(source_offset),
            ReadFrom::Tier { tier, offset } => {
                if let Some(tier) = self.tiers.all_mut().get_mut(tier) {
                    tier.ledger.settle(offset);
                }
            }
        }
        self.commit_soon();
    }

    /// A message of the source is out of hand.
    fn free(&mut self, size_bytes: usize) {
        self.freed.messages += 1;
        self.freed.bytes += size_bytes;
    }

    fn give_back(&mut self) {
        let Room { messages, bytes } = std::mem::take(&mut self.freed);
        if messages > 0 {
            self.share.give_back(messages, bytes);
        }
    }

    fn wake_lanes(&mut self) {
        let now = Instant::now();
        while self.wakes.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, lane))) = self.wakes.pop() {
                self.lanes.wake(lane, WaitsFor::Time);
            }
        }
    }

    /// Pauses and resumes the reading of tiers by what is held of them.
    fn bound_tiers(&mut self) {
        for tier in self.tiers.all_mut() {
            let full = tier.is_full();
            if full != tier.paused {
                tier.paused = full;
                match full {
                    true => {
                        self.metrics.paused_by_retries.inc();
                        self.consumer.pause(std::slice::from_ref(&tier.partition));
                    }
                    false => self.consumer.resume(std::slice::from_ref(&tier.partition)),
                }
            }
        }
    }

    fn next_wake(&self, deadline: Option<Instant>) -> Option<Instant> {
        let lane = self.wakes.peek().map(|Reverse((at, _))| *at);
        if deadline.is_some() {
            // Draining, nothing new begins, but what is committed already is nobody else's; and the
            // commit is not put off.
            let lane = lane.filter(|_| self.committed_first());
            // A transaction that was answered at once has left a commit behind it that nothing else starts.
            let under_way = self.committing.is_some() || !self.appending.is_empty();
            let commit = self.commit_at.filter(|_| !under_way).map(|_| Instant::now());
            return lane.into_iter().chain(commit).min();
        }
        let due = self.tiers.next_due().map(|due| {
            let wait = u64::try_from(due.saturating_sub(self.now())).unwrap_or(0);
            // The wall clock has steps of a millisecond: never wake in the one before.
            Instant::now() + Duration::from_millis(wait.max(1))
        });
        let exactly_once = self.is_exactly_once();
        let append = (!exactly_once && self.has_to_append()).then_some(self.append_at);
        let under_way = self.committing.is_some() || (exactly_once && !self.appending.is_empty());
        let commit = match exactly_once {
            _ if under_way => None,
            true if !self.outbox.is_empty() => self.context.rounds.next(),
            true => self.commit_at.zip(self.context.rounds.next()).map(|(at, next)| at.max(next)),
            false => self.commit_at,
        };
        [due, lane, append, commit, self.suspicion_wakes()].into_iter().flatten().min()
    }

    fn is_exactly_once(&self) -> bool {
        self.context.spec.delivery == pipeline_spec::Delivery::ExactlyOnce
    }

    /// Whether what was admitted is committed already, so that nobody else will handle it.
    fn committed_first(&self) -> bool {
        self.context.spec.delivery == pipeline_spec::Delivery::AtMostOnce
    }

    fn now(&self) -> EpochMs {
        self.context.ports.clock.now()
    }
}

/// Waits until the partition is to be drained; that intake is gone counts as well.
async fn asked(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}
