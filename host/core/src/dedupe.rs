//! Dedupe: decides at the head of a lane whether a message may be attempted.
//!
//! After `lane`, before `attempt`; one [`Claims`] for each assigned partition. The store is asked
//! ahead, when a message arrives; the decision is made later, against what the store said *and* what
//! is in flight, because a key that was free when it was asked for may have been marked since.
//!
//! Invariants:
//! - of the messages with one key at most one is attempted at a time: it holds the claim;
//! - a message that meets another's claim waits, it is never settled on a promise;
//! - only `done` marks a key; retry and dead letter release the claim, so the first to reach `done`
//!   wins;
//! - an entry lives as long as a message of its key is in hand, so an answer of the store can't be
//!   older than a mark that was made since.
//!
//! Limit: as many entries as messages are in flight.
//!
//! A message carries the place of its entry, so its key is looked for only once: when it comes.

use std::hash::BuildHasher as _;

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table;
use rustc_hash::FxBuildHasher;
use slab::Slab;

use crate::in_hand::ReadFrom;
use crate::lane::LaneId;
use crate::message::Offset;

/// What is to be done with the message at the head of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Attempt it; it holds the claim now.
    Attempt,
    /// Another message with this key was handled, at this turn: settle without an attempt.
    Duplicate(Offset),
    /// This very message was handled: settle without an attempt; nothing was sent twice.
    AlreadyHandled,
    /// Its lane waits; [`Claims`] names it for waking.
    Wait,
}

/// Who asks: a message and the copy of it that is in hand. The copy counts: a retry may come back
/// from its tier before the log has answered that it is there, and must not take over the claim that
/// the answer then releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The message.
    pub turn: Offset,
    /// The copy.
    pub read_from: ReadFrom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked,
    Free,
    Claimed(Holder),
    Marked(Offset),
}

#[derive(Debug)]
struct Entry {
    key: Bytes,
    hash: u64,
    /// Messages in hand with this key.
    holders: usize,
    state: State,
    waiters: Vec<LaneId>,
    /// Tells it from others that had its place before.
    number: u64,
}

/// Where the entry of a key is.
#[derive(Clone, Copy, Debug)]
pub struct EntryId {
    place: usize,
    number: u64,
}

/// The key of a message in hand.
#[derive(Debug)]
pub struct HeldKey {
    /// The key; empty once its mark has it.
    pub key: Bytes,
    /// Where its entry is.
    pub entry: EntryId,
}

/// The idempotency keys of the messages in hand.
#[derive(Debug, Default)]
pub struct Claims {
    entries: Slab<Entry>,
    /// Where the entries are, by the hashes of their keys.
    places: HashTable<usize>,
    /// Entries so far.
    entered: u64,
}

impl Claims {
    /// A message with this key arrived. Returns also whether the store must be asked for it.
    pub fn enter(&mut self, key: Bytes) -> (HeldKey, bool) {
        let hash = FxBuildHasher.hash_one(&*key);
        let entries = &mut self.entries;
        let has_key = |place: &usize| entries.get(*place).is_some_and(|entry| entry.key == key);
        let hash_of = |place: &usize| entries.get(*place).map_or(0, |entry| entry.hash);
        match self.places.entry(hash, has_key, hash_of) {
            hash_table::Entry::Occupied(found) => {
                let place = *found.get();
                let mut number = 0;
                if let Some(entry) = entries.get_mut(place) {
                    entry.holders += 1;
                    number = entry.number;
                }
                (HeldKey { key, entry: EntryId { place, number } }, false)
            }
            hash_table::Entry::Vacant(vacant) => {
                self.entered += 1;
                let (state, number) = (State::Asked, self.entered);
                let waiters = Vec::new();
                let entry = Entry { key: key.clone(), hash, holders: 1, state, waiters, number };
                let place = entries.insert(entry);
                vacant.insert(place);
                (HeldKey { key, entry: EntryId { place, number } }, true)
            }
        }
    }

    /// The key of an entry, while somebody holds it.
    pub fn key(&self, id: EntryId) -> Option<&Bytes> {
        let entry = self.entries.get(id.place).filter(|entry| entry.number == id.number);
        entry.map(|entry| &entry.key)
    }

    /// The store's answer. Returns the lanes to wake.
    pub fn answered(&mut self, entry: EntryId, marked: Option<Offset>) -> Vec<LaneId> {
        match self.entry(entry) {
            Some(entry) if entry.state == State::Asked => {
                entry.state = marked.map_or(State::Free, State::Marked);
                std::mem::take(&mut entry.waiters)
            }
            _ => Vec::new(),
        }
    }

    /// Decides for the message at the head of `lane`.
    pub fn decide(&mut self, held: &HeldKey, holder: Holder, lane: LaneId) -> Decision {
        let Some(entry) = self.entry(held.entry) else { return Decision::Attempt };
        match entry.state {
            State::Free => {
                entry.state = State::Claimed(holder);
                Decision::Attempt
            }
            // The holder itself, handed back unattempted or after a pause.
            State::Claimed(claimed) if claimed == holder => Decision::Attempt,
            State::Asked | State::Claimed(_) => {
                if !entry.waiters.contains(&lane) {
                    entry.waiters.push(lane);
                }
                Decision::Wait
            }
            State::Marked(turn) if turn == holder.turn => Decision::AlreadyHandled,
            State::Marked(turn) => Decision::Duplicate(turn),
        }
    }

    /// The message is done and its mark is acknowledged: it is out of hand. Returns the lanes to wake.
    pub fn marked(&mut self, held: &HeldKey, holder: Holder) -> Vec<LaneId> {
        self.leave(held, holder, State::Marked(holder.turn))
    }

    /// The message is out of hand and was not handled: the next one with the key may try. Returns the lanes to
    /// wake.
    pub fn released(&mut self, held: &HeldKey, holder: Holder) -> Vec<LaneId> {
        self.leave(held, holder, State::Free)
    }

    fn leave(&mut self, held: &HeldKey, holder: Holder, state: State) -> Vec<LaneId> {
        let Some(entry) = self.entry(held.entry) else { return Vec::new() };
        let mut wakes = Vec::new();
        if entry.state == State::Claimed(holder) {
            entry.state = state;
            wakes = std::mem::take(&mut entry.waiters);
        }
        entry.holders -= 1;
        if entry.holders == 0 {
            let (place, hash) = (held.entry.place, entry.hash);
            self.entries.remove(place);
            if let Ok(found) = self.places.find_entry(hash, |other| *other == place) {
                found.remove();
            }
        }
        wakes
    }

    /// A late answer of the store may be for one that has gone.
    fn entry(&mut self, id: EntryId) -> Option<&mut Entry> {
        self.entries.get_mut(id.place).filter(|entry| entry.number == id.number)
    }
}

#[cfg(test)]
mod tests;
