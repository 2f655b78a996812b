//! Outstanding: which messages of a source partition wait in its retry tiers, and which copy of each
//! counts.
//!
//! The index behind `tiers`. Rebuilt before the source is read, so it knows every retry there is.
//!
//! Invariants:
//! - a crash between writing to a tier and committing, or an answer that was lost, leaves several
//!   copies of a message; the one that has come farthest is current, the others settle unattempted,
//!   also when the current one has ended before they are due (else one succeeds and the other dies: a
//!   dead letter of a handled message);
//! - of copies in one tier that have come equally far the last is current: the others are due before it,
//!   so when it is taken they are settled, also those that only the log knows of. Were it the first, a
//!   crash would leave the others to a next owner that cannot tell that their message was attempted;
//! - no copy is taken while one of its message is being written: only the answer tells which counts;
//! - where order is kept, a message is outstanding for its key from the failure of an attempt until it
//!   has ended: also while its copy is on the way, and until that copy is known.
//!
//! Limit: one entry of about 60 bytes for each retry in the tiers; its key too, where order is kept.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use rustc_hash::FxHasher;

use crate::in_hand::ReadFrom;
use crate::message::Offset;

type Map<K, V> = HashMap<K, V, BuildHasherDefault<FxHasher>>;

/// How far a copy of a message has come. Larger is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// How often it was redriven.
    pub redrives: u32,
    /// How many attempts were made since.
    pub attempts: u32,
    /// How often it was put behind an earlier message of its key since.
    pub waits: u32,
}

/// Where a copy stands: tier and offset.
type Place = (usize, Offset);

/// The copies of one message that are known and not settled.
#[derive(Debug)]
struct Copies {
    /// How far the message has come.
    progress: Progress,
    /// The copy that counts; `None` once it has ended.
    current: Option<Place>,
    /// Whether the current one was taken.
    taken: bool,
    /// The others, to be settled unattempted.
    others: Vec<Place>,
}

/// A copy on its way to a tier.
#[derive(Debug)]
struct OnTheWay {
    tier: usize,
    progress: Progress,
    /// The log has it; where, is not known yet.
    acknowledged: bool,
}

/// Where the first message of a key is, that later ones wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// In this tier, or on its way to it.
    InTier(usize),
    /// Taken: in its lane or with a worker.
    InHand,
}

/// See the module.
#[derive(Debug)]
pub struct Outstanding {
    copies: Map<Offset, Copies>,
    on_the_way: Map<Offset, OnTheWay>,
    /// The turns outstanding of each key, where order is kept.
    keys: Option<Map<Bytes, BTreeSet<Offset>>>,
}

impl Outstanding {
    /// Nothing yet.
    pub fn new(keep_order: bool) -> Self {
        Self {
            copies: Map::default(),
            on_the_way: Map::default(),
            keys: keep_order.then(Map::default),
        }
    }

    /// Notes a copy that was seen or written. The one that has come farthest is current; of equal ones
    /// in a tier the last, unless an earlier one was taken before it was known.
    pub fn note(&mut self, turn: Offset, key: Option<&Bytes>, progress: Progress, place: Place) {
        if self.on_the_way.get(&turn).is_some_and(|w| w.acknowledged && progress >= w.progress) {
            self.on_the_way.remove(&turn);
        }
        match self.copies.get_mut(&turn) {
            None => {
                let (current, others) = (Some(place), Vec::new());
                self.copies.insert(turn, Copies { progress, current, taken: false, others });
            }
            Some(copies) if copies.current == Some(place) || copies.others.contains(&place) => {}
            Some(copies) => {
                let is_later_twin = progress == copies.progress
                    && !copies.taken
                    && copies.current.is_some_and(|(tier, at)| tier == place.0 && at < place.1);
                if progress > copies.progress || is_later_twin {
                    copies.progress = progress;
                    copies.taken = false;
                    copies.others.extend(copies.current.replace(place));
                } else {
                    copies.others.push(place);
                }
            }
        }
        self.index(turn, key);
    }

    /// A copy of this message is on its way to a tier; until [`Outstanding::written`] none is taken.
    pub fn writing(&mut self, turn: Offset, key: Option<&Bytes>, progress: Progress, tier: usize) {
        self.on_the_way.insert(turn, OnTheWay { tier, progress, acknowledged: false });
        self.index(turn, key);
    }

    /// Whether a copy of this message is on its way to a tier, and the log has not answered.
    pub fn is_written(&self, turn: Offset) -> bool {
        self.on_the_way.get(&turn).is_some_and(|way| !way.acknowledged)
    }

    /// The log has answered for it. `goes_on`: it has the copy; else the message has ended.
    pub fn written(&mut self, turn: Offset, key: Option<&Bytes>, goes_on: bool) {
        let Some(way) = self.on_the_way.get_mut(&turn) else { return };
        let known = self.copies.get(&turn).is_some_and(|copies| copies.progress >= way.progress);
        // Where order is kept, it is outstanding until its copy is known.
        if goes_on && !known && self.keys.is_some() {
            way.acknowledged = true;
            return;
        }
        self.on_the_way.remove(&turn);
        self.index(turn, key);
    }

    /// The copy that was read from here is settled: it is outstanding no more.
    pub fn left(&mut self, turn: Offset, key: Option<&Bytes>, read_from: ReadFrom) {
        let ReadFrom::Tier { tier, offset } = read_from else { return };
        let Some(copies) = self.copies.get_mut(&turn) else { return };
        let place = (tier, offset);
        if copies.current == Some(place) {
            copies.current = None;
        }
        copies.others.retain(|other| *other != place);
        if copies.current.is_none() && copies.others.is_empty() {
            self.copies.remove(&turn);
        }
        self.index(turn, key);
    }

    /// Whether the copy at this place counts.
    pub fn is_current(&self, turn: Offset, place: Place) -> bool {
        self.copies.get(&turn).is_none_or(|copies| copies.current == Some(place))
    }

    /// The current copy of this message is taken.
    pub fn take(&mut self, turn: Offset) {
        if let Some(copies) = self.copies.get_mut(&turn) {
            copies.taken = true;
        }
    }

    /// The turns of all outstanding retries, in no order.
    pub fn turns(&self) -> impl Iterator<Item = Offset> + '_ {
        self.copies.keys().copied()
    }

    /// How many retries are outstanding.
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// What a message of this key has to wait for, if anything: an outstanding message before it.
    pub fn before(&self, key: Option<&Bytes>, turn: Offset) -> Option<First> {
        let first = *self.keys.as_ref()?.get(key?)?.first()?;
        if first >= turn {
            return None;
        }
        let way = self.on_the_way.get(&first).map(|way| First::InTier(way.tier));
        let copy = || {
            let copies = self.copies.get(&first)?;
            let (tier, _) = copies.current?;
            Some(if copies.taken { First::InHand } else { First::InTier(tier) })
        };
        way.or_else(copy)
    }

    /// Keeps the turns of a key as they are: outstanding are those with a copy that counts or is on its
    /// way.
    fn index(&mut self, turn: Offset, key: Option<&Bytes>) {
        let (Some(keys), Some(key)) = (&mut self.keys, key) else { return };
        let current = self.copies.get(&turn).is_some_and(|copies| copies.current.is_some());
        if current || self.on_the_way.contains_key(&turn) {
            match keys.get_mut(key) {
                Some(turns) => drop(turns.insert(turn)),
                None => drop(keys.insert(key.clone(), BTreeSet::from([turn]))),
            }
            return;
        }
        if let Some(turns) = keys.get_mut(key) {
            turns.remove(&turn);
            if turns.is_empty() {
                keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
