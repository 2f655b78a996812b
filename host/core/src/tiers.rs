//! Tiers: the retry topics of one source partition, read by holding the head of each.
//!
//! Beside `intake`: what is due goes into the lanes. One [`Tiers`] for each assigned partition; all
//! tiers of a pipeline are read by its one consumer.
//!
//! Invariants:
//! - due = append time + the tier's delay, so a tier's messages become due in offset order and only
//!   its head is looked at; a clock that jumps makes nobody wait longer than the delay;
//! - of several copies of a message one counts, and where order is kept a retry that is due while an
//!   earlier message of its key is outstanding is put behind that one (`outstanding`, `turns`);
//! - where order is kept, a retry is not taken before the source was read up to its turn: what the last owner
//!   kept in memory before it is in its lane then;
//! - a message of another group is never handled; what cannot be understood becomes a dead letter.
//!
//! Limits: per tier `work_max` messages are in work, and [`HELD_MESSAGES_MAX`] messages or [`HELD_BYTES_MAX`] bytes are held or in work
//! before its reading pauses.

use std::collections::VecDeque;
use std::time::Duration;

use crate::headers::{self, CompanionHeaders};
use crate::in_hand::{InHand, ReadFrom};
use crate::ledger::{Delivery, Ledger};
use crate::message::{EpochMs, Message, Offset, Partition};
use crate::outstanding::{First, Outstanding, Progress};
use crate::plugin::AttemptContext;

/// A tier with so many messages held or in work is paused, and resumed at half of it.
pub const HELD_MESSAGES_MAX: usize = 256;

/// A tier with so many bytes held is paused, and resumed at half of it.
pub const HELD_BYTES_MAX: usize = 4 << 20;

/// A message of a tier, understood or not.
#[derive(Debug)]
pub enum Arrived {
    /// A retry of this group.
    Retry(Box<InHand>),
    /// No retry at all: to become a dead letter, for this reason.
    Unreadable(Box<InHand>, String),
    /// Another group's: not ours to handle.
    OtherGroup(Offset),
}

/// What is to be done with the next due message of a tier.
#[derive(Debug)]
pub enum Due {
    /// Attempt it.
    Attempt(Box<InHand>),
    /// Put it behind an earlier message of its key, into the tier of this number.
    Behind(Box<InHand>, usize),
    /// Make it a dead letter, for this reason.
    Unreadable(Box<InHand>, String),
    /// Settle it in the tier's ledger without an attempt, for this reason.
    Settle(usize, Offset, &'static str),
}

#[derive(Debug)]
struct Held {
    due: EpochMs,
    offset: Offset,
    size_bytes: usize,
    arrived: Arrived,
}

/// One retry tier beside the source partition.
#[derive(Debug)]
pub struct Tier {
    /// Its topic, and the source's partition number.
    pub partition: Partition,
    /// Its delay.
    pub delay: Duration,
    /// What of it is settled.
    pub ledger: Ledger,
    /// Whether its reading is paused.
    pub paused: bool,
    held: VecDeque<Held>,
    held_bytes: usize,
    in_work: usize,
    work_max: usize,
}

impl Tier {
    /// A tier that goes on from what was committed of it, and of which at most `work_max` messages
    /// are in work.
    pub fn new(partition: Partition, delay: Duration, ledger: Ledger, work_max: usize) -> Self {
        let (held, held_bytes, in_work) = (VecDeque::new(), 0, 0);
        Self { partition, delay, ledger, paused: false, held, held_bytes, in_work, work_max }
    }

    /// How many messages were taken and did not come back.
    pub fn in_work(&self) -> usize {
        self.in_work
    }

    /// Whether its reading should pause, or (when it is paused) stay so.
    pub fn is_full(&self) -> bool {
        let part = if self.paused { 2 } else { 1 };
        // Not by the ledger: with `at_most_once` messages are settled when they are taken.
        self.held.len() + self.in_work >= HELD_MESSAGES_MAX / part
            || self.held_bytes >= HELD_BYTES_MAX / part
    }

    /// Whether everything that was read of it and is not settled waits for its time.
    pub fn only_waits(&self, now: EpochMs) -> bool {
        self.in_work == 0 && self.held.front().is_none_or(|h| h.due > now)
    }

    /// How many of the messages held are due.
    pub fn held_due(&self, now: EpochMs) -> usize {
        self.held.partition_point(|held| held.due <= now)
    }

    /// How many messages are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tiers {
    group: String,
    source: Partition,
    tiers: Vec<Tier>,
    /// Which retries there are.
    pub outstanding: Outstanding,
    /// Messages of the source from here on may not be in the lanes yet.
    admitted: Offset,
    /// From here on the source had nothing when its retries were restored.
    high: Offset,
    keep_order: bool,
    /// What the clock said last.
    looked_at: EpochMs,
}

impl Tiers {
    /// The tiers of `source`, as they were found.
    pub fn new(group: &str, source: Partition, tiers: Vec<Tier>, keep_order: bool) -> Self {
        let outstanding = Outstanding::new(keep_order);
        Self {
            group: group.to_owned(),
            source,
            tiers,
            outstanding,
            admitted: 0,
            high: 0,
            keep_order,
            looked_at: EpochMs::MIN,
        }
    }

    /// Every tier.
    pub fn all(&self) -> &[Tier] {
        &self.tiers
    }

    /// Every tier, to be changed.
    pub fn all_mut(&mut self) -> &mut [Tier] {
        &mut self.tiers
    }

    /// The number of the tier of this topic.
    pub fn number_of(&self, topic: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| &*tier.partition.topic == topic)
    }

    /// Notes the copy in a message that a tier has, without taking it in hand. One that is settled counts
    /// no more: it will not be handed over again, and must not supersede another.
    pub fn index(&mut self, tier: usize, message: &Message) {
        if self.tiers.get(tier).is_some_and(|tier| tier.ledger.is_settled(message.offset)) {
            return;
        }
        if let Belongs::Ours(found) = belongs(&self.group, &self.source, message) {
            let place = (tier, message.offset);
            self.outstanding.note(found.turn, message.key.as_ref(), progress(&found), place);
        }
    }

    /// A message that was taken from a tier is out of hand.
    pub fn gave_back(&mut self, read_from: ReadFrom) {
        if let ReadFrom::Tier { tier, .. } = read_from
            && let Some(tier) = self.tiers.get_mut(tier)
        {
            tier.in_work = tier.in_work.saturating_sub(1);
        }
    }

    /// Takes a message that a tier handed over; it is held until it is due.
    pub fn hold(&mut self, number: usize, message: Message, now: EpochMs) {
        self.look_at_clock(now);
        let Some(tier) = self.tiers.get_mut(number) else { return };
        if tier.ledger.deliver(message.offset, message.timestamp) == Delivery::Known {
            return;
        }
        let delay = EpochMs::try_from(tier.delay.as_millis()).unwrap_or(EpochMs::MAX);
        let due = message.timestamp.saturating_add(delay).min(now.saturating_add(delay));
        let (offset, size_bytes) = (message.offset, message.size_bytes());
        let made = tier.ledger.attempts(offset);
        let arrived = arrive(&self.group, &self.source, number, message, made);
        tier.held_bytes += size_bytes;
        tier.held.push_back(Held { due, offset, size_bytes, arrived });
        if let Some(Held { arrived: Arrived::Retry(item), .. }) = tier.held.back()
            && let Some(found) = &item.provenance
        {
            let (key, place) = (item.message.key.as_ref(), (number, offset));
            self.outstanding.note(found.turn, key, progress(found), place);
        }
    }

    /// When the next message becomes due.
    pub fn next_due(&self) -> Option<EpochMs> {
        self.heads().map(|(_, held)| held.due).min()
    }

    /// The head of each tier that may be taken when it is due. Messages are taken in the tier's order,
    /// so settled ranges lie among those in work only, and `work_max` bounds them.
    fn heads(&self) -> impl Iterator<Item = (usize, &Held)> {
        let tiers = self.tiers.iter().enumerate();
        tiers
            .filter(|(_, tier)| tier.in_work < tier.work_max)
            .filter_map(|(number, tier)| Some((number, tier.held.front()?)))
            .filter(|(_, held)| !self.is_written(held) && !self.is_early(held))
    }

    /// The source of a partition that is taken over ends here.
    pub fn restored(&mut self, high: Offset) {
        self.high = high;
    }

    /// Messages of the source below this are in the lanes, or have ended.
    pub fn admitted(&mut self, below: Offset) {
        self.admitted = below;
    }

    /// Whether an earlier message of its key may still be in the source: the last owner kept it in memory,
    /// and put this one behind it.
    fn is_early(&self, held: &Held) -> bool {
        let Arrived::Retry(item) = &held.arrived else { return false };
        let turn = item.context.turn;
        self.keep_order
            && item.message.key.is_some()
            && turn >= self.admitted
            // A turn beyond the source's end is a stranger's: it would wait for ever.
            && turn < self.high
    }

    fn is_written(&self, held: &Held) -> bool {
        match &held.arrived {
            Arrived::Retry(item) => self.outstanding.is_written(item.context.turn),
            Arrived::Unreadable(..) | Arrived::OtherGroup(_) => false,
        }
    }

    /// If the clock went back, what is held would wait for as much longer.
    fn look_at_clock(&mut self, now: EpochMs) {
        if std::mem::replace(&mut self.looked_at, now) <= now {
            return;
        }
        for tier in &mut self.tiers {
            let delay = EpochMs::try_from(tier.delay.as_millis()).unwrap_or(EpochMs::MAX);
            let latest = now.saturating_add(delay);
            tier.held.iter_mut().for_each(|held| held.due = held.due.min(latest));
        }
    }

    /// The next message that is due, if any.
    pub fn take_due(&mut self, now: EpochMs) -> Option<Due> {
        self.look_at_clock(now);
        let due = self.heads().filter(|(_, held)| held.due <= now);
        let (number, _) = due.min_by_key(|(_, held)| held.due)?;
        let tier = self.tiers.get_mut(number)?;
        let held = tier.held.pop_front()?;
        tier.held_bytes -= held.size_bytes;
        if !matches!(held.arrived, Arrived::OtherGroup(_)) {
            tier.in_work += 1;
        }
        Some(match held.arrived {
            Arrived::OtherGroup(offset) => Due::Settle(number, offset, "other_group"),
            Arrived::Unreadable(item, reason) => Due::Unreadable(item, reason),
            Arrived::Retry(item) => {
                let (turn, place) = (item.context.turn, (number, held.offset));
                let key = item.message.key.as_ref();
                if !self.outstanding.is_current(turn, place) {
                    self.outstanding.left(turn, key, item.read_from);
                    self.gave_back(item.read_from);
                    return Some(Due::Settle(number, held.offset, "superseded"));
                }
                let before = self.outstanding.before(key, turn);
                self.outstanding.take(turn);
                match before {
                    Some(First::InTier(tier)) => Due::Behind(item, tier),
                    Some(First::InHand) | None => Due::Attempt(item),
                }
            }
        })
    }
}

/// How far the copy with these headers has come.
pub fn progress(found: &CompanionHeaders) -> Progress {
    Progress { redrives: found.redrive_count(), attempts: found.attempt, waits: found.waits }
}

/// What a message in one of our tiers is.
enum Belongs {
    /// A retry of this group and source partition.
    Ours(Box<CompanionHeaders>),
    /// A retry of another group.
    OtherGroup,
    /// Anything else, and why.
    Unreadable(String),
}

/// Nothing a stranger may have written is acted on: it could point to another partition's messages.
fn belongs(group: &str, source: &Partition, message: &Message) -> Belongs {
    let found = match headers::decode(&message.headers) {
        Ok(found) => found,
        Err(error) => return Belongs::Unreadable(error.to_string()),
    };
    if found.origin_group != group {
        return Belongs::OtherGroup;
    }
    if *found.origin_topic != *source.topic || found.origin_partition != source.number {
        return Belongs::Unreadable(format!(
            "it says that it comes from {}[{}], not from {source}",
            found.origin_topic, found.origin_partition
        ));
    }
    if found.turn == Offset::MAX || found.origin_offset == Offset::MAX {
        return Belongs::Unreadable("its offset is beyond every log's".to_owned());
    }
    Belongs::Ours(Box::new(found))
}

/// `made`: attempts at it that were made in place.
fn arrive(group: &str, source: &Partition, tier: usize, message: Message, made: u32) -> Arrived {
    let offset = message.offset;
    let read_from = ReadFrom::Tier { tier, offset };
    let size_bytes = message.size_bytes();
    let (message, context, provenance, unreadable) = match belongs(group, source, &message) {
        Belongs::OtherGroup => return Arrived::OtherGroup(offset),
        Belongs::Ours(found) => {
            let context = AttemptContext {
                attempt: found.attempt.max(made).saturating_add(1),
                turn: found.turn,
                timestamp: found.origin_timestamp,
                trace: None,
            };
            let message = Message {
                topic: source.topic.clone(),
                partition: found.origin_partition,
                offset: found.origin_offset,
                timestamp: found.origin_timestamp,
                headers: headers::strip(&message.headers),
                ..message
            };
            (message, context, Some(found), None)
        }
        Belongs::Unreadable(reason) => {
            let timestamp = message.timestamp;
            let context = AttemptContext { attempt: 0, turn: offset, timestamp, trace: None };
            (message, context, None, Some(format!("not a retry of this pipeline: {reason}")))
        }
    };
    let item = Box::new(InHand {
        message,
        context,
        read_from,
        provenance,
        key: None,
        size_bytes,
        waits: false,
        pauses: 0,
        refused: None,
        trace: None,
        attempted_by: None,
    });
    match unreadable {
        Some(reason) => Arrived::Unreadable(item, reason),
        None => Arrived::Retry(item),
    }
}

#[cfg(test)]
mod tests;
