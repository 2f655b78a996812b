//! Table: marks in memory that are not on the disk yet.
//!
//! A hash table whose slots are in the order of the digests: an entry's place follows from the first bits of its
//! digest, what collides is kept sorted behind it. So it is written out sorted and never sorted, and random keys cost what
//! ascending ones do. Most questions are for what is not there: a filter answers them, which the processor has in its cache,
//! as it has not the slots.
//!
//! Invariant: entries stand in ascending order, none before its place, with no empty slot between its place and itself;
//! the filter lets all of them pass.

use crate::digest::Digest;
use crate::entry::Entry;
use crate::filter::Filter;

/// Of so many slots ...
const LOAD_SLOTS: usize = 8;
/// ... at most so many are taken: beyond it rows of taken slots grow long.
const LOAD_TAKEN: usize = 5;
/// The fewest slots, as a power of two.
const SLOTS_LOG2_MIN: u32 = 4;
/// Marks whose places are fetched together.
const INSERTED_AT_ONCE: usize = 64;
/// Of the filter: it lets one of 1,000 keys pass that are not there.
const FILTER_BITS_A_KEY: u64 = 16;

/// See the module.
pub(crate) struct Table {
    /// A power of two, and behind them what was pushed beyond the last.
    slots: Vec<Entry>,
    slots_log2: u32,
    len: usize,
    filter: Filter,
}

impl Table {
    /// A table that takes so many entries without growing.
    pub(crate) fn with_room_for(entries: usize) -> Self {
        let slots = entries.saturating_mul(LOAD_SLOTS) / LOAD_TAKEN;
        let slots_log2 = slots.max(1).next_power_of_two().trailing_zeros().max(SLOTS_LOG2_MIN);
        let slots = vec![Entry::default(); 1 << slots_log2];
        let filter = Filter::new(room(slots_log2) as u64, FILTER_BITS_A_KEY, u64::MAX);
        Self { slots, slots_log2, len: 0, filter }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many entries it takes without growing.
    pub(crate) fn room(&self) -> usize {
        room(self.slots_log2)
    }

    /// Takes marks; those of the same keys are replaced, unless their scope has a larger number.
    pub(crate) fn insert_all(&mut self, entries: &[Entry]) {
        for entries in entries.chunks(INSERTED_AT_ONCE) {
            let is_taken = |entry: &Entry| {
                self.slots.get(self.place(entry.digest)).is_some_and(|slot| !slot.is_none())
            };
            // For nothing but the looking: the processor fetches all these places at once instead of one after the other.
            std::hint::black_box(entries.iter().filter(|entry| is_taken(entry)).count());
            for entry in entries {
                self.insert(*entry);
            }
        }
    }

    /// Takes a mark, as above.
    pub(crate) fn insert(&mut self, entry: Entry) {
        if self.len >= self.room() {
            self.grow();
        }
        self.filter.insert(entry.digest);
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
                // Only the new one can meet its like: what is carried on has none behind it. A mark of a scope that was discarded
                // while it was on its way must not replace one that counts.
                if slot.scope <= carried.scope {
                    *slot = carried;
                }
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
        if !self.filter.passes(digest) {
            return None;
        }
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
        self.filter.clear();
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

fn room(slots_log2: u32) -> usize {
    (1 << slots_log2) / LOAD_SLOTS * LOAD_TAKEN
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
                match turn % 3 {
                    0 => table.insert_all(&[entry(high, turn ^ 1), entry(high, turn)]),
                    _ => table.insert(entry(high, turn)),
                }
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

    #[test]
    fn what_is_late_for_a_discarded_scope_replaces_nothing() {
        let mut table = Table::with_room_for(10);
        let counts = Entry { scope: 2, ..entry(5, 1) };
        table.insert(counts);
        table.insert(entry(5, 9));
        assert_eq!(table.get(counts.digest), Some(&counts));
        let newer = Entry { scope: 3, ..entry(5, 2) };
        table.insert(newer);
        assert_eq!((table.get(newer.digest), table.len()), (Some(&newer), 1));
    }
}
