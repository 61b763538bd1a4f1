//! `queue.when_full = "refuse"`: a publish with QoS 1 or 2 that a session wants whose queue is full is refused as a whole, so that nobody
//! gets it twice when its client tries again.
//!
//! - Sessions that outlive their connection and live by such terms stand in a table that all shards read. Its home shard says there
//!   when the queue of one becomes full, and when it has room again. A publish looks at one number while none is full.
//! - What was let in is not dropped any more, since its publisher was told so: what is in the mail or waits for the store when a queue
//!   becomes full joins it beyond its bounds. `limits.mailbox` and the bound of held publishes limit how much that can be.
//! - Nobody can tell a 3.x client, the client of a will or of a delayed message, or who publishes with QoS 0: for these a full
//!   session misses the message, which is counted, and the others get it.
//! - For a shared group it is enough that one member has room, or that the group's pool has.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use breakwater_contract::Metric;
use breakwater_proto::{MessageView, QoS};
use breakwater_router::{GroupRef, Matches, Subscriber, Target};
use breakwater_session::{Delivery, QueueFull};

use crate::conn::NONE;
use crate::driver::{Driver, ShardId};
use crate::mail::{GroupTry, Receipt};
use crate::route::Tried;
use crate::shard::Shard;

/// What its publisher was told of a message that is being delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing that a full queue would have to heed.
    #[default]
    None,
    /// That it is taken: it was looked whether there is room. A shared group may choose another member.
    Given,
    /// The same, and its group has chosen: there is nobody else.
    Binding,
}

/// A session that has others refused.
#[derive(Clone, Copy, Debug)]
struct Standing {
    generation: u16,
    full: bool,
}

type Standings = HashMap<u32, Standing>;

/// Those of all shards. Written by the shard of a session, at its comings and goings and when its queue becomes full or has room again.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// How many are full.
    full: AtomicU32,
    shards: Vec<RwLock<Standings>>,
}

impl Refusals {
    pub(crate) fn new(shards: u16) -> Self {
        Self { full: AtomicU32::new(0), shards: (0..shards).map(|_| RwLock::default()).collect() }
    }

    /// Whether there is nobody for whom anything would be refused.
    #[inline]
    fn is_idle(&self) -> bool {
        self.full.load(Ordering::Relaxed) == 0
    }

    fn read(&self, shard: ShardId) -> Option<RwLockReadGuard<'_, Standings>> {
        Some(self.shards.get(usize::from(shard))?.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, shard: ShardId) -> Option<RwLockWriteGuard<'_, Standings>> {
        Some(self.shards.get(usize::from(shard))?.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, who: Subscriber, was: bool, full: bool) {
        if let Some(mut shard) = self.write(who.shard) {
            shard.insert(who.slot, Standing { generation: who.generation, full });
        }
        self.count(was, full);
    }

    fn strike(&self, shard: ShardId, slot: u32, was: bool) {
        if let Some(mut shard) = self.write(shard) {
            shard.remove(&slot);
            if shard.capacity() > 64 && shard.len() * 8 < shard.capacity() {
                let most = shard.len() * 2;
                shard.shrink_to(most);
            }
        }
        self.count(was, false);
    }

    fn count(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => _ = self.full.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.full.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Whether a session is full; None: it has nobody refused.
    fn is_full(&self, who: Subscriber) -> Option<bool> {
        stands(&*self.read(who.shard)?, who)
    }
}

fn stands(shard: &Standings, who: Subscriber) -> Option<bool> {
    shard.get(&who.slot).filter(|standing| standing.generation == who.generation).map(|standing| standing.full)
}

/// Sessions of one shard that stand in the table, by slot, and whether they are full.
#[derive(Debug, Default)]
pub(crate) struct Standers {
    by_slot: BTreeMap<u32, bool>,
    full: u32,
}

impl Standers {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Whether any of them is full.
    #[inline]
    pub(crate) fn any_full(&self) -> bool {
        self.full > 0
    }

    fn set(&mut self, slot: u32, full: Option<bool>) -> Option<bool> {
        let was = match full {
            Some(full) => self.by_slot.insert(slot, full),
            None => self.by_slot.remove(&slot),
        };
        self.full = self.full + u32::from(full == Some(true)) - u32::from(was == Some(true));
        was
    }
}

impl<T: Send> Shard<T> {
    /// The terms of a session have changed, or it begins: whether it has others refused.
    pub(crate) fn stand(&mut self, session: u32) {
        let Some(resident) = self.sessions.get(session) else { return };
        let limits = self.profiles.limits(resident.profile);
        if !(resident.session.is_durable() && limits.queue_full == QueueFull::Refuse) {
            return self.stand_down(session);
        }
        let full = resident.session.queue_is_full(limits, false);
        let was = self.standers.set(session, Some(full));
        self.pages.refusals.set(self.subscriber_of(session), was == Some(true), full);
    }

    /// A session ends.
    pub(crate) fn stand_down(&mut self, session: u32) {
        if let Some(was) = self.standers.set(session, None) {
            self.pages.refusals.strike(self.id, session, was);
        }
    }

    /// The queue of a session has changed.
    pub(crate) fn note_full(&mut self, session: u32) {
        let Some(was) = self.standers.by_slot.get(&session).copied() else { return };
        let Some(resident) = self.sessions.get(session) else { return };
        let full = resident.session.queue_is_full(self.profiles.limits(resident.profile), was);
        if full != was {
            self.standers.set(session, Some(full));
            self.pages.refusals.set(self.subscriber_of(session), was, full);
        }
    }

    /// Whether a message that its publisher can be told of is refused.
    #[inline]
    pub(crate) fn is_refused(&mut self, view: &MessageView<'_>) -> bool {
        !self.pages.refusals.is_idle() && self.meets_a_full_queue(view)
    }

    #[cold]
    fn meets_a_full_queue(&mut self, view: &MessageView<'_>) -> bool {
        self.router.matches(self.id, view.topic, &mut self.matches);
        let matches = std::mem::take(&mut self.matches);
        let is_refused = self.is_full_for(view, &matches);
        self.matches = matches;
        if is_refused {
            self.counters.bump(Metric::PublishRefused);
        }
        is_refused
    }

    fn is_full_for(&self, view: &MessageView<'_>, matches: &Matches) -> bool {
        let (origin, refusals) = (Subscriber::from_u64(view.origin), &self.pages.refusals);
        let is_full = |who: Subscriber| refusals.is_full(who) == Some(true);
        let few = matches.few.iter().enumerate().any(|(index, target)| {
            let who = target.subscriber;
            let grant = matches.grant(index, who == origin); // [MQTT-3.8.3-3]
            grant.is_some_and(|grant| grant.durable() && grant.qos() > QoS::AtMostOnce) && is_full(who)
        });
        let large = matches.large.iter().filter(|snapshot| snapshot.any_durable).any(|snapshot| {
            let Some(shard) = refusals.read(snapshot.shard) else { return false };
            let mut any = false;
            snapshot.walk(&mut 0, usize::MAX, |Target { subscriber, grant }| {
                let wants = grant.qos() > QoS::AtMostOnce && !(subscriber == origin && grant.no_local());
                any |= wants && stands(&shard, subscriber) == Some(true);
            });
            any
        });
        few || large || matches.groups.iter().any(|group| !self.group_has_room(*group, view))
    }

    /// Whether a member of a group has room for a message, or all of them are away and their pool has.
    fn group_has_room(&self, group: GroupRef, view: &MessageView<'_>) -> bool {
        let refusals = &self.pages.refusals;
        let has_room = |target: Target| {
            let takes = target.grant.durable() && target.grant.qos() > QoS::AtMostOnce;
            !takes || refusals.is_full(target.subscriber) != Some(true)
        };
        self.router.find_member(self.id, group, has_room).is_some()
            || self.router.find_member(self.id, group, |_| true).is_none()
            || (!self.router.has_online(group) && self.pool_has_room(group, view))
    }

    /// A message comes to a session of a shard where queues are full: whether other limits hold for it than for its session, which are
    /// put in place then.
    #[cold]
    pub(crate) fn bend_limits(&mut self, to: Subscriber, delivery: &Delivery<'_>) -> bool {
        if !self.standers.by_slot.contains_key(&to.slot) {
            return false;
        }
        let Some(resident) = self.sessions.get_of(to.slot, to.generation) else { return false };
        let holds = match self.word {
            Word::None => false,
            Word::Given => !delivery.shared,
            Word::Binding => true,
        };
        // Whatever was said, memory has an end.
        if holds && self.held_bytes <= self.options.memory_bytes / 4 * 5 {
            self.profiles.bend(resident.profile, (u32::MAX, u32::MAX), QueueFull::DropNewest);
            return true;
        }
        false
    }

    /// A full queue has dropped a message: where others are refused, this one's publisher could not be told.
    #[cold]
    pub(crate) fn count_untold(&mut self, session: u32) {
        let drops = &mut self.report.drops;
        if drops.queue_full > 0 && self.standers.by_slot.contains_key(&session) {
            drops.queue_full -= 1;
            self.counters.bump(Metric::DroppedUntold);
        }
    }

    /// No member of a group has taken a message that its publisher has our word for: it goes to one that has room, else to one that has
    /// not. Nobody: it was not for want of room.
    pub(crate) fn insist<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        attempt: GroupTry,
        view: &MessageView<'_>,
        receipt: Option<Receipt>,
    ) -> Tried {
        let (router, refusals) = (&self.router, &self.pages.refusals);
        let found = |full: bool| {
            router.find_member(self.id, attempt.group, |target| refusals.is_full(target.subscriber) == Some(full))
        };
        let Some(one_that_is_full) = found(true) else { return Tried::Nobody };
        let target = found(false).unwrap_or(one_that_is_full);
        self.word = Word::Binding;
        let tried = self.give_to_member(driver, view, target, attempt, receipt);
        self.word = Word::Given;
        tried
    }

    /// Whether a client can be told that its publish is refused.
    pub(crate) fn can_be_refused(&self, slot: u32) -> bool {
        slot != NONE && self.conns.get(slot).is_some_and(|conn| conn.link.version.is_v5())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_that_of_full_sessions_whatever_comes_and_goes() {
        let refusals = Refusals::new(2);
        let mut standers = Standers::default();
        let who = |slot| Subscriber { shard: 1, generation: 7, slot };
        let mut state = 5_u64;
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (slot, act) = ((state >> 40) as u32 % 5, state >> 60);
            let full = [Some(false), Some(true), None][act as usize % 3];
            let was = standers.set(slot, full);
            match full {
                Some(full) => refusals.set(who(slot), was == Some(true), full),
                None => refusals.strike(1, slot, was == Some(true)),
            }
            assert_eq!(refusals.is_full(who(slot)), full);
            assert_eq!(refusals.is_full(Subscriber { generation: 8, ..who(slot) }), None, "another session");
            let count = standers.by_slot.values().filter(|full| **full).count() as u32;
            assert_eq!((standers.full, refusals.full.load(Ordering::Relaxed)), (count, count));
            assert_eq!(refusals.is_idle(), !standers.any_full());
        }
    }
}
