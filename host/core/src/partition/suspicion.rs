//! Suspicion: finds the message that kills its host, by whatever means, so that it becomes a dead letter instead
//! of killing one host after the other.
//!
//! Around `dispatch`. A partition's commit counts its owners in a row that have not said that they ended in
//! order, since a host that dies says nothing. The next owner goes by what it reads there:
//!
//! - 0: it handles messages as usual (**trusted**);
//! - 1 (**careful**): at most [`UNCOMMITTED_MAX`] messages are handled and not committed, so that if this owner
//!   dies too, the next one begins close to what it died of;
//! - more (**naming**): a few messages at a time, and before they are handled the commit names them. If the host dies,
//!   the next owner reads those names, and handles what is named one at a time; named often enough, a message becomes a
//!   dead letter without another attempt.
//!
//! Invariants:
//! - messages are handled only when the commit that names them is acknowledged, and what those before them
//!   caused is in the log;
//! - what is named already is handled alone, and a message is never dead for being named beside others only;
//! - of a host's partitions that are under suspicion one at a time handles messages, so that no message is named for what
//!   a neighbour did;
//! - a partition is trusted again when what the dead owner may have had in hand was handled, or nothing is left
//!   to be handled; that is committed, with this owner alone in the count.
//!
//! Whoever loses a partition without dying (its session expired) is counted too. A message is therefore not named by
//! one such loss alone: see [`DeadLetterSpec::after_host_crashes`].

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::in_hand::{InHand, ReadFrom};
use crate::lane::LaneId;
use crate::ledger::Ledger;
use crate::log::Batch;
use crate::message::Offset;
use crate::outcome::{Fault, FaultKind, Outcome};
use crate::pipeline_spec::{DeadLetterSpec, Delivery, PipelineSpec};

use super::PartitionTask;

/// How many messages are handled and not committed while an owner is careful; so many are named.
const UNCOMMITTED_MAX: usize = 256;

/// How many messages are named at once. Their names take at most a tenth of a commit's metadata.
const NAMED_MAX: usize = 32;

/// How long an owner is careful at least, if there is always something to be handled.
const CAREFUL_FOR: Duration = Duration::from_secs(10);

/// Nothing has been handed over for so long: nothing was left that the dead owner could read.
const NOTHING_LEFT: Duration = Duration::from_secs(2);

/// A partition that has the right and gets no message, because others have all that may be in flight, gives it
/// to them after so long.
const KEPT_OUT: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Trusted,
    Careful,
    Naming,
}

/// Messages that are to be handled with nothing beside them.
struct Named {
    /// Where each was read from, and its offset in the source.
    places: Vec<(ReadFrom, Offset)>,
    /// Until they are with a worker.
    batch: Vec<(LaneId, InHand)>,
    /// The commit that names them is acknowledged.
    acknowledged: bool,
}

/// See the module.
pub(super) struct Suspicion {
    stage: Stage,
    /// What the commit says; 0 where nothing is counted.
    owners: u32,
    /// Where the source ended when the partition was taken over.
    high: Offset,
    begun: Instant,
    /// When something happened to a message last.
    active: Instant,
    /// Messages that were decided (handled, put off, dropped) since then, those that the log has
    /// acknowledged, and those that are committed.
    decided: u64,
    settled: u64,
    committed: u64,
    named: Option<Named>,
    /// Messages of the source that come after those in hand; the in-flight budget bounds them.
    held_back: VecDeque<Batch>,
    right: Option<OwnedSemaphorePermit>,
    /// Waits for the right.
    pub(super) asking: Option<BoxFuture<'static, OwnedSemaphorePermit>>,
}

impl Suspicion {
    /// What an owner that reads `owners` in the commit goes by.
    pub(super) fn new(spec: &PipelineSpec, owners: u32, high: Offset) -> Self {
        let counts = spec.dead_letter.after_host_crashes.is_some()
            // Committed before it is handled, a message kills one host and is gone.
            && spec.delivery != Delivery::AtMostOnce;
        let stage = match owners {
            _ if !counts => Stage::Trusted,
            0 => Stage::Trusted,
            n if n < DeadLetterSpec::UNNAMED_HOST_CRASHES => Stage::Careful,
            _ => Stage::Naming,
        };
        let now = Instant::now();
        Self {
            stage,
            owners: if counts { owners.saturating_add(1) } else { 0 },
            high,
            begun: now,
            active: now,
            decided: 0,
            settled: 0,
            committed: 0,
            named: None,
            held_back: VecDeque::new(),
            right: None,
            asking: None,
        }
    }

    /// What the commit is to say.
    pub(super) fn owners(&self) -> u32 {
        self.owners
    }

    /// Whether owners are counted at all.
    pub(super) fn counts(&self) -> bool {
        self.owners > 0
    }

    /// Whether messages are named before they are handled.
    pub(super) fn is_naming(&self) -> bool {
        self.stage == Stage::Naming
    }

    /// Whether messages wait for the commit that names them.
    pub(super) fn waits_for_commit(&self) -> bool {
        self.named.as_ref().is_some_and(|named| !named.acknowledged)
    }

    /// Whether the commit names messages that no worker has yet.
    pub(super) fn may_go(&self) -> bool {
        self.named.as_ref().is_some_and(|named| named.acknowledged && !named.batch.is_empty())
    }

    /// Whether such a message waits for the commit that names it.
    pub(super) fn has(&self, wanted: impl Fn(&InHand) -> bool) -> bool {
        let mut batch = self.named.iter().flat_map(|named| &named.batch);
        batch.any(|(_, item)| wanted(item))
    }

    /// What becomes of a message is known.
    pub(super) fn decided(&mut self) {
        self.decided += 1;
    }

    /// A message is settled.
    pub(super) fn settled(&mut self) {
        self.settled += 1;
    }

    /// How many messages a commit that is made now has settled.
    pub(super) fn settled_count(&self) -> u64 {
        self.settled
    }

    /// A commit is acknowledged (or is what was committed before): it has so many messages settled, and those
    /// named that are to be handled next, if any were.
    pub(super) fn committed(&mut self, settled: u64, names: bool) {
        self.committed = self.committed.max(settled);
        if let Some(named) = self.named.as_mut().filter(|_| names) {
            named.acknowledged = true;
        }
    }

    /// The partition is handed over in order, or left in order: its next owner is told nothing of this one.
    pub(super) fn sign_off(&mut self) {
        self.owners = match self.stage {
            Stage::Trusted => 0,
            Stage::Careful | Stage::Naming => self.owners.saturating_sub(1),
        };
    }
}

impl PartitionTask {
    /// How many more messages may be given to workers before more is committed.
    pub(super) fn uncommitted_room(&mut self) -> usize {
        let suspicion = &self.suspicion;
        if suspicion.stage != Stage::Careful {
            return usize::MAX;
        }
        let decided = suspicion.decided.saturating_sub(suspicion.committed);
        let uncommitted = usize::try_from(decided).unwrap_or(usize::MAX);
        let uncommitted = uncommitted.saturating_add(self.out_messages);
        if uncommitted >= UNCOMMITTED_MAX / 2 && suspicion.settled > suspicion.committed {
            self.commit_now();
        }
        UNCOMMITTED_MAX.saturating_sub(uncommitted)
    }

    /// Notes that something is handled.
    pub(super) fn is_active(&mut self) {
        self.suspicion.active = Instant::now();
    }

    /// Messages of the source came in. What is in hand is handled before them, since the dead owner may have had it
    /// in hand.
    pub(super) fn on_source_batch(&mut self, batch: Batch) {
        self.suspicion.held_back.push_back(batch);
        self.take_held_back();
    }

    pub(super) fn take_held_back(&mut self) {
        while (!self.suspicion.is_naming() || self.suspicion.right.is_none() || self.is_quiet())
            && let Some(batch) = self.suspicion.held_back.pop_front()
        {
            self.on_batch(batch);
        }
    }

    /// Whether nothing is in hand that could be handled now.
    fn is_quiet(&self) -> bool {
        self.out == 0
            && self.suspicion.named.is_none()
            && self.outbox.is_empty()
            && self.appending.is_empty()
            && self.lookups.is_empty()
            && self.to_ask.is_empty()
            && !self.lanes.any_ready()
    }

    /// Whether others have all that may be in flight, so that no more of the source comes in.
    fn is_kept_out(&self) -> bool {
        self.share.is_paused() && self.source.position() < self.suspicion.high
    }

    /// Whether a lane waits for anything but a turn: for time, mostly, after a `pause`.
    fn has_waiting_lanes(&self) -> bool {
        self.lanes.waiting() > self.turn_waits.len()
    }

    /// When the right goes to another partition, which may have to handle something before this one can.
    fn gives_right_on(&self) -> Option<Instant> {
        let waits = self.is_kept_out() || self.has_waiting_lanes();
        let waits = self.suspicion.right.is_some() && self.is_quiet() && waits;
        waits.then(|| self.suspicion.active + KEPT_OUT)
    }

    /// When something changes by time alone.
    pub(super) fn suspicion_wakes(&self) -> Option<Instant> {
        if self.suspicion.stage == Stage::Trusted {
            return None;
        }
        let trusted = self.is_quiet().then(|| self.suspicion.active + NOTHING_LEFT);
        // What is past waits for a commit, whose answer wakes.
        let now = Instant::now();
        [self.gives_right_on(), trusted].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Gives the next messages to a worker, and no others, once the commit names them.
    pub(super) fn dispatch_named(&mut self) {
        if self.suspicion.right.is_none() {
            if self.suspicion.asking.is_none() {
                let right = self.context.ports.suspicion.0.clone();
                self.suspicion.asking = Some(Box::pin(async move {
                    match right.acquire_owned().await {
                        Ok(right) => right,
                        // Nobody closes it.
                        Err(_) => std::future::pending().await,
                    }
                }));
            }
            return;
        }
        // What came before is in the log; it may have been made a dead letter on the way to this one.
        if self.out > 0 || !self.outbox.is_empty() || !self.appending.is_empty() {
            return;
        }
        if let Some(named) = &mut self.suspicion.named {
            if named.acknowledged && !named.batch.is_empty() {
                let batch = std::mem::take(&mut named.batch);
                self.give_to_worker(batch);
            }
            return;
        }
        let batch = self.form_batch(self.named_at_once());
        if !batch.is_empty() {
            self.name(batch);
        }
    }

    /// How often a message is to be named before it is dead.
    fn names_to_death(&self) -> Option<u32> {
        let after = self.context.spec.dead_letter.after_host_crashes?;
        Some(after.saturating_sub(DeadLetterSpec::UNNAMED_HOST_CRASHES).max(1))
    }

    /// How many messages are named at once. Beside others a message is named once at most, which leaves two times that
    /// it is named alone: one may be a death of something else.
    fn named_at_once(&self) -> usize {
        if self.names_to_death().is_some_and(|names| names > 2) { NAMED_MAX } else { 1 }
    }

    /// Whether this message was named by an owner that died, so that it is handled alone.
    pub(super) fn is_suspect(&self, item: &InHand) -> bool {
        self.suspicion.is_naming() && self.hosts_died_of(item) > 0
    }

    fn hosts_died_of(&self, item: &InHand) -> u32 {
        match item.read_from {
            ReadFrom::Source => self.source.hosts_died_of(item.message.offset),
            ReadFrom::Tier { tier, offset } => {
                self.tiers.all().get(tier).map_or(0, |tier| tier.ledger.hosts_died_of(offset))
            }
        }
    }

    /// The right to handle messages is this partition's.
    pub(super) fn has_right(&mut self, right: OwnedSemaphorePermit) {
        self.suspicion.right = Some(right);
        self.is_active();
    }

    /// How many hosts have died of this message, if that is enough.
    pub(super) fn is_convicted(&self, item: &InHand) -> Option<u32> {
        let died = self.hosts_died_of(item);
        (died >= self.names_to_death()?).then_some(died)
    }

    /// Makes a dead letter of a message that kills its host.
    pub(super) fn bury_convicted(&mut self, item: InHand, died: u32) {
        let reason = format!(
            "{died} hosts died while they handled this message, the last of them with nothing else of the partition in hand, after others had died here; see why before it is redriven"
        );
        tracing::error!(
            pipeline = %self.context.spec.name, partition = %self.partition,
            offset = item.message.offset, hosts = died,
            trace_id = item.trace_id().map(tracing::field::display),
            "a message that kills its host becomes a dead letter"
        );
        let fault = Fault { kind: FaultKind::HostCrash, reason, backtrace: None };
        self.fail_for_good(item, &Outcome::Fault(fault));
    }

    fn name(&mut self, batch: Vec<(LaneId, InHand)>) {
        let places: Vec<_> =
            batch.iter().map(|(_, item)| (item.read_from, item.message.offset)).collect();
        self.names_change(&places, |died| died.saturating_add(1));
        self.suspicion.named = Some(Named { places, batch, acknowledged: false });
        self.commit_now();
    }

    /// The messages that were named are back, and the host lives.
    pub(super) fn named_are_back(&mut self) {
        if let Some(named) = self.suspicion.named.take() {
            self.names_change(&named.places, |_| 0);
        }
    }

    /// The partition is given up: messages that no worker has yet go back to their lanes.
    pub(super) fn put_named_back(&mut self) {
        let waits = |named: &mut Named| !named.batch.is_empty();
        let Some(named) = self.suspicion.named.take_if(waits) else { return };
        self.names_change(&named.places, |died| died.saturating_sub(1));
        let mut batch = named.batch.into_iter().peekable();
        while let Some((lane, first)) = batch.next() {
            let mut items = vec![first];
            while let Some((_, item)) = batch.next_if(|(of, _)| *of == lane) {
                items.push(item);
            }
            self.lanes.hand_back(lane, items);
        }
    }

    /// Who cancels a handler is alive: its messages are not named for that.
    pub(super) fn named_are_cancelled(&mut self) {
        if let Some(named) = self.suspicion.named.take() {
            self.names_change(&named.places, |died| died.saturating_sub(1));
        }
    }

    fn names_change(&mut self, places: &[(ReadFrom, Offset)], change: impl Fn(u32) -> u32) {
        for (place, source_offset) in places {
            if let Some((ledger, offset)) = self.ledger_of(*place, *source_offset) {
                let died = ledger.hosts_died_of(offset);
                ledger.suspect(offset, change(died));
            }
        }
    }

    /// The ledger that a message is settled in, and its offset there.
    fn ledger_of(
        &mut self,
        place: ReadFrom,
        source_offset: Offset,
    ) -> Option<(&mut Ledger, Offset)> {
        match place {
            ReadFrom::Source => Some((&mut self.source, source_offset)),
            ReadFrom::Tier { tier, offset } => {
                self.tiers.all_mut().get_mut(tier).map(|tier| (&mut tier.ledger, offset))
            }
        }
    }

    /// Trusts the partition again, if what the dead owner may have had in hand was handled.
    pub(super) fn trust_again(&mut self) {
        let suspicion = &self.suspicion;
        let handled = usize::try_from(suspicion.decided).unwrap_or(usize::MAX);
        let nothing_left = || {
            self.is_quiet()
                && !self.has_waiting_lanes()
                && suspicion.held_back.is_empty()
                && self.mailbox.is_empty()
                && (self.source.position() >= suspicion.high
                    || (!self.is_kept_out() && suspicion.active.elapsed() >= NOTHING_LEFT))
        };
        let over = match suspicion.stage {
            _ if self.signed_off => return,
            Stage::Trusted => return,
            Stage::Careful => {
                let enough = handled >= self.context.spec.in_flight_messages
                    && suspicion.begun.elapsed() >= CAREFUL_FOR;
                enough || nothing_left()
            }
            Stage::Naming => {
                suspicion.right.is_some()
                    && (nothing_left() || (handled >= UNCOMMITTED_MAX && self.is_quiet()))
            }
        };
        let gives_on = self.gives_right_on().is_some_and(|at| at <= Instant::now());
        if !over && !gives_on {
            return;
        }
        if self.is_named_in_the_log() {
            // If a message of another partition kills the host next, this one's must not be named for it.
            return self.commit_now();
        }
        if !over {
            self.suspicion.right = None;
            return;
        }
        tracing::info!(
            pipeline = %self.context.spec.name, partition = %self.partition, handled,
            "the partition is trusted again: this host lives after what may have killed the last ones, if it was a message"
        );
        let suspicion = &mut self.suspicion;
        (suspicion.stage, suspicion.owners) = (Stage::Trusted, 1);
        (suspicion.right, suspicion.asking) = (None, None);
        self.commit_soon();
    }

    /// Whether the last commit still names a message that was handled since.
    fn is_named_in_the_log(&self) -> bool {
        let kept =
            self.source.suspects().chain(self.tiers.all().iter().flat_map(|t| t.ledger.suspects()));
        let named =
            self.last_commits.iter().flat_map(|(_, commit)| commit.suspects.iter().copied());
        !kept.eq(named)
    }

    /// Says how the partition is taken over.
    pub(super) fn tell_suspicion(&self) {
        let owners = self.suspicion.owners.saturating_sub(1);
        let how = match self.suspicion.stage {
            Stage::Trusted => return,
            Stage::Careful => {
                "commits come more often until it is known that no message was the cause"
            }
            Stage::Naming => {
                "the commit names messages before they are handled, so that one that kills its host is found and becomes a dead letter"
            }
        };
        tracing::warn!(
            pipeline = %self.context.spec.name, partition = %self.partition, owners,
            "the last owners of the partition ended without a word: {how}"
        );
    }
}
