//! Room in the pool: every pipeline's share is reserved when its plugin is loaded.
//!
//! A pipeline gets what its instances need, twice, because a deploy holds two versions for a while:
//! its versions share one claim, the largest of theirs. What does not fit is refused at load, not at
//! the first message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many versions of a plugin a pipeline may hold at a time.
pub(crate) const VERSIONS_MAX: u32 = 2;

/// Slots of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
}

impl Slots {
    fn max(self, other: Self) -> Self {
        Self {
            instances: self.instances.max(other.instances),
            memories: self.memories.max(other.memories),
            tables: self.tables.max(other.tables),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(other.instances),
            memories: self.memories.saturating_add(other.memories),
            tables: self.tables.saturating_add(other.tables),
        }
    }
}

/// Who holds what of the pool.
pub(crate) struct Room {
    total: Slots,
    /// The claims of each pipeline's loaded plugins, by a number of their own.
    claims: Mutex<Claims>,
}

#[derive(Default)]
struct Claims {
    next: u64,
    of_pipeline: BTreeMap<String, BTreeMap<u64, Slots>>,
}

impl Room {
    pub(crate) fn new(total: Slots) -> Arc<Self> {
        Arc::new(Self { total, claims: Mutex::default() })
    }

    /// Reserves `slots` for the pipeline, until the reservation is dropped.
    ///
    /// # Errors
    /// A sentence: what is missing and what to do.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        pipeline: &str,
        slots: Slots,
    ) -> Result<Reservation, String> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let share =
            |held: &BTreeMap<u64, Slots>| held.values().copied().fold(Slots::default(), Slots::max);
        let mut taken = Slots::default();
        let mut own = slots;
        for (name, held) in &claims.of_pipeline {
            if name == pipeline {
                own = own.max(share(held));
            } else {
                taken = taken.plus(share(held));
            }
        }
        let wanted = taken.plus(own);
        for (what, wanted, own, total) in [
            ("instances", wanted.instances, own.instances, self.total.instances),
            ("memories", wanted.memories, own.memories, self.total.memories),
            ("tables", wanted.tables, own.tables, self.total.tables),
        ] {
            if wanted > total {
                return Err(format!(
                    "it needs room for {own} {what} ({VERSIONS_MAX} versions at a time), other \
                     pipelines hold {}, the sandbox has {total}: lower `instances` of a pipeline or \
                     raise the sandbox's",
                    wanted - own
                ));
            }
        }
        let number = claims.next;
        claims.next += 1;
        claims.of_pipeline.entry(pipeline.to_owned()).or_default().insert(number, slots);
        Ok(Reservation { room: self.clone(), pipeline: pipeline.to_owned(), number })
    }
}

/// A plugin's claim on the pool.
pub(crate) struct Reservation {
    room: Arc<Room>,
    pipeline: String,
    number: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut claims = self.room.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = claims.of_pipeline.get_mut(&self.pipeline) {
            held.remove(&self.number);
            if held.is_empty() {
                claims.of_pipeline.remove(&self.pipeline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(instances: u32) -> Slots {
        Slots { instances, memories: instances, tables: 2 * instances }
    }

    #[test]
    fn a_deploy_shares_its_pipelines_room_and_others_are_refused_beyond_the_total() {
        let room = Room::new(slots(10));
        let old = room.reserve("orders", slots(6)).unwrap();
        let new = room.reserve("orders", slots(6)).unwrap();
        let refused = room.reserve("billing", slots(5)).err().unwrap();
        assert!(refused.contains("room for 5 instances"), "{refused}");
        assert!(refused.contains("other pipelines hold 6, the sandbox has 10"), "{refused}");
        let _fits = room.reserve("billing", slots(4)).unwrap();
        drop(old);
        assert!(room.reserve("third", slots(1)).is_err(), "the new version still holds its room");
        drop(new);
        assert!(room.reserve("third", slots(6)).is_ok());
    }

    #[test]
    fn the_scarcest_slot_decides() {
        let room = Room::new(Slots { instances: 10, memories: 10, tables: 3 });
        let refused = room.reserve("orders", slots(2)).err().unwrap();
        assert!(refused.contains("4 tables"), "{refused}");
    }
}
