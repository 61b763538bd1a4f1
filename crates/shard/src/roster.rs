//! What the store calls the sessions of all shards.

use std::sync::{PoisonError, RwLock};

use breakwater_contract::store::{Durability, SessionNumber};
use breakwater_router::Subscriber;
use hashbrown::HashTable;

use crate::driver::ShardId;

/// What the store calls the sessions of all shards, and what they are promised. Written by the shard of a session when it is made, comes
/// back or ends, read by others for QoS 2 publishes.
#[derive(Debug, Default)]
pub(crate) struct Roster(Vec<RwLock<HashTable<Known>>>);

/// In 16 bytes: there is one of each session that outlasts the process.
#[derive(Debug)]
struct Known {
    slot: u32,
    generation: u16,
    promised: Durability,
    number: SessionNumber,
}

impl Known {
    /// Slots are small numbers: a multiplication spreads them over both ends.
    fn hash(slot: u32) -> u64 {
        u64::from(slot).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Roster {
    pub(crate) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| RwLock::default()).collect())
    }

    pub(crate) fn enter(&self, who: Subscriber, number: SessionNumber, promised: Durability) {
        let Some(shard) = self.0.get(usize::from(who.shard)) else { return };
        let known = Known { slot: who.slot, generation: who.generation, promised, number };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let hash = Known::hash(who.slot);
        match shard.find_mut(hash, |known| known.slot == who.slot) {
            Some(old) => *old = known,
            None => drop(shard.insert_unique(hash, known, |known| Known::hash(known.slot))),
        }
    }

    pub(crate) fn strike(&self, shard: ShardId, slot: u32) {
        let Some(shard) = self.0.get(usize::from(shard)) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(entry) = shard.find_entry(Known::hash(slot), |known| known.slot == slot) {
            entry.remove();
        }
        if shard.capacity() > 64 && shard.len() * 8 < shard.capacity() {
            let most = shard.len() * 2;
            shard.shrink_to(most, |known| Known::hash(known.slot));
        }
    }

    pub(crate) fn find(&self, who: Subscriber) -> Option<(SessionNumber, Durability)> {
        let shard = self.0.get(usize::from(who.shard))?.read().unwrap_or_else(PoisonError::into_inner);
        let known = shard.find(Known::hash(who.slot), |known| known.slot == who.slot)?;
        (known.generation == who.generation).then_some((known.number, known.promised))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_by_their_full_names_until_they_end() {
        assert_eq!(size_of::<Known>(), 16);
        let roster = Roster::new(2);
        let who = |shard, slot, generation| Subscriber { shard, slot, generation };
        for slot in 0..1000 {
            roster.enter(who(1, slot, 3), SessionNumber(u64::from(slot)), Durability::Os);
            roster.enter(who(1, slot, 4), SessionNumber(u64::from(slot) + 7), Durability::Fsync);
        }
        for slot in 0..1000 {
            let found = roster.find(who(1, slot, 4));
            assert_eq!(found, Some((SessionNumber(u64::from(slot) + 7), Durability::Fsync)));
            assert_eq!((roster.find(who(1, slot, 3)), roster.find(who(0, slot, 4))), (None, None));
            roster.strike(1, slot);
            roster.strike(1, slot);
            assert_eq!(roster.find(who(1, slot, 4)), None);
        }
    }
}
