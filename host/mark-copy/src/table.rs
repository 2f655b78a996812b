//! Table: marks in memory that are not on the disk yet.
//!
//! A hash table whose slots are in the order of the digests: an entry's place follows from the first bits of its
//! digest, what collides is kept sorted behind it. So it is written out sorted and never sorted, a question for
//! what is not there ends at the first larger digest, and random keys cost what ascending ones do.
//!
//! Invariant: entries stand in ascending order, none before its place, with no empty slot between its place and itself.

use crate::digest::Digest;
use crate::entry::Entry;

/// Of so many slots ...
const LOAD_SLOTS: usize = 8;
/// ... at most so many are taken: beyond it rows of taken slots grow long.
const LOAD_TAKEN: usize = 5;
/// The fewest slots, as a power of two.
const SLOTS_LOG2_MIN: u32 = 4;

/// See the module.
pub(crate) struct Table {
    /// A power of two, and behind them what was pushed beyond the last.
    slots: Vec<Entry>,
    slots_log2: u32,
    len: usize,
}

impl Table {
    /// A table that takes so many entries without growing.
    pub(crate) fn with_room_for(entries: usize) -> Self {
        let slots = entries.saturating_mul(LOAD_SLOTS) / LOAD_TAKEN;
        let slots_log2 = slots.max(1).next_power_of_two().trailing_zeros().max(SLOTS_LOG2_MIN);
        Self { slots: vec![Entry::default(); 1 << slots_log2], slots_log2, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many entries it takes without growing.
    pub(crate) fn room(&self) -> usize {
        (1 << self.slots_log2) / LOAD_SLOTS * LOAD_TAKEN
    }

    /// Takes a mark; one of the same key is replaced.
    pub(crate) fn insert(&mut self, entry: Entry) {
        if self.len >= self.room() {
            self.grow();
        }
        let mut at = self.place(entry.digest);
        let mut carried = entry;
        loop {
            let Some(slot) = self.slots.get_mut(at) else {
                self.slots.push(carried);
                break;
            };
            if slot.is_none() {
                *slot = carried;
                break;
            }
            if slot.digest == carried.digest {
                // Only the new one can meet its like: what is carried on has none behind it.
                *slot = carried;
                return;
            }
            if slot.digest > carried.digest {
                std::mem::swap(slot, &mut carried);
            }
            at += 1;
        }
        self.len += 1;
    }

    pub(crate) fn get(&self, digest: Digest) -> Option<&Entry> {
        let row = self.slots.get(self.place(digest)..)?;
        let not_below = |entry: &&Entry| entry.is_none() || entry.digest >= digest;
        row.iter().find(not_below).filter(|entry| !entry.is_none() && entry.digest == digest)
    }

    /// All entries, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter(|entry| !entry.is_none())
    }

    /// Empties it; its room stays.
    pub(crate) fn clear(&mut self) {
        self.slots.truncate(1 << self.slots_log2);
        self.slots.fill(Entry::default());
        self.len = 0;
    }

    fn place(&self, digest: Digest) -> usize {
        usize::try_from(digest.high >> (u64::BITS - self.slots_log2)).unwrap_or(usize::MAX)
    }

    fn grow(&mut self) {
        let mut larger = Self::with_room_for(self.room() + 1);
        for entry in self.iter() {
            larger.insert(*entry);
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(high: u64, turn: u64) -> Entry {
        Entry { digest: Digest { high, low: 7 }, turn, expires: 1, scope: 1 }
    }

    proptest! {
        // Few places on purpose: rows of taken slots, also behind the last place.
        #[test]
        fn it_is_a_sorted_map(puts in proptest::collection::vec((prop_oneof![0..9_u64, u64::MAX - 9..=u64::MAX, any::<u64>()], any::<u64>()), 0..300), room in 0..40_usize) {
            let mut table = Table::with_room_for(room);
            let mut model = BTreeMap::new();
            for (high, turn) in puts {
                table.insert(entry(high, turn));
                model.insert(high, turn);
                prop_assert_eq!(table.len(), model.len());
                for around in [high.wrapping_sub(1), high, high.wrapping_add(1)] {
                    let found = table.get(entry(around, 0).digest).map(|entry| entry.turn);
                    prop_assert_eq!(found, model.get(&around).copied());
                }
            }
            let all: Vec<_> = table.iter().map(|entry| (entry.digest.high, entry.turn)).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
            table.clear();
            prop_assert!(table.is_empty() && table.iter().next().is_none());
        }
    }
}
