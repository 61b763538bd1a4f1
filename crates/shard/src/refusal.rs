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
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use breakwater_contract::Metric;
use breakwater_proto::{MessageView, QoS};
use breakwater_router::{GroupRef, Matches, Subscriber, Target};
use breakwater_session::{Delivery, QueueFull};

use crate::conn::NONE;
use crate::driver::{Driver, ShardId};
use crate::mail::{GroupTry, Receipt};
use crate::route::Tried;
use crate::shard::Shard;
use crate::totals::Total;

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

/// How a session stands that has others refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stand {
    /// A bound of its queue is reached.
    full: bool,
    /// Its client is not there, or has something waiting: it is full as well while the queues of its user, or all of them, hold as much
    /// as they may.
    waits: bool,
}

/// A session that has others refused.
#[derive(Clone, Debug)]
struct Standing {
    generation: u16,
    stand: Stand,
    user: Option<Arc<Total>>,
}

type Standings = HashMap<u32, Standing>;

/// Those of all shards. Written by the shard of a session, at its comings and goings and when its queue becomes full or has room again.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// How many are full, and how many totals are reached.
    pub(crate) reasons: AtomicU32,
    shards: Vec<RwLock<Standings>>,
}

impl Refusals {
    pub(crate) fn new(shards: u16) -> Self {
        Self { reasons: AtomicU32::new(0), shards: (0..shards).map(|_| RwLock::default()).collect() }
    }

    /// Whether there is nobody for whom anything would be refused.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.reasons.load(Ordering::Relaxed) == 0
    }

    fn read(&self, shard: ShardId) -> Option<RwLockReadGuard<'_, Standings>> {
        Some(self.shards.get(usize::from(shard))?.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, shard: ShardId) -> Option<RwLockWriteGuard<'_, Standings>> {
        Some(self.shards.get(usize::from(shard))?.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, shard: ShardId, slot: u32, was: bool, standing: Standing) {
        let full = standing.stand.full;
        if let Some(mut shard) = self.write(shard) {
            shard.insert(slot, standing);
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
            (false, true) => _ = self.reasons.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.reasons.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

fn stands(shard: &Standings, who: Subscriber) -> Option<&Standing> {
    shard.get(&who.slot).filter(|standing| standing.generation == who.generation)
}

/// Sessions of one shard that stand in the table, by slot, and whether they are full.
#[derive(Debug, Default)]
pub(crate) struct Standers {
    by_slot: BTreeMap<u32, Stand>,
    /// How many are full; and one more where all queues together have a bound.
    reasons: u32,
}

impl Standers {
    /// `bounded`: what waits in several queues is bounded.
    pub(crate) fn new(bounded: bool) -> Self {
        Self { reasons: bounded.into(), ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Whether a queue may have less room than its own limits say.
    #[inline]
    pub(crate) fn any_reason(&self) -> bool {
        self.reasons > 0
    }

    fn set(&mut self, slot: u32, stand: Option<Stand>) -> Option<Stand> {
        let was = match stand {
            Some(stand) => self.by_slot.insert(slot, stand),
            None => self.by_slot.remove(&slot),
        };
        let full = |stand: Option<Stand>| u32::from(stand.is_some_and(|stand| stand.full));
        self.reasons = self.reasons + full(stand) - full(was);
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
        let was = self.standers.by_slot.get(&session).copied().unwrap_or_default();
        let stand = self.stand_of(session, was);
        self.set_standing(session, was, stand);
    }

    fn set_standing(&mut self, session: u32, was: Stand, stand: Stand) {
        self.standers.set(session, Some(stand));
        let (generation, user) = (self.subscriber_of(session).generation, self.users.get(&session).cloned());
        self.pages.refusals.set(self.id, session, was.full, Standing { generation, stand, user });
    }

    /// That a client which is there has something waiting is only noted while it matters, since it may change with each message.
    fn stand_of(&self, session: u32, was: Stand) -> Stand {
        let Some(resident) = self.sessions.get(session) else { return Stand::default() };
        let full = resident.session.queue_is_full(self.profiles.limits(resident.profile), was.full);
        Stand { full, waits: resident.conn == NONE || self.total_reached(session).is_some() }
    }

    /// A session ends.
    pub(crate) fn stand_down(&mut self, session: u32) {
        if let Some(was) = self.standers.set(session, None) {
            self.pages.refusals.strike(self.id, session, was.full);
        }
    }

    /// The queue of a session has changed.
    pub(crate) fn note_full(&mut self, session: u32) {
        let Some(was) = self.standers.by_slot.get(&session).copied() else { return };
        let stand = self.stand_of(session, was);
        if stand != was {
            self.set_standing(session, was, stand);
        }
    }

    fn has_no_room(&self, standing: &Standing) -> bool {
        let totals = || self.options.queue_totals.reached(&self.pages.totals, standing.user.as_ref());
        standing.stand.full || (standing.stand.waits && totals().is_some())
    }

    /// Whether a session of whatever shard is full; None: it has nobody refused.
    fn is_full(&self, who: Subscriber) -> Option<bool> {
        let shard = self.pages.refusals.read(who.shard)?;
        stands(&shard, who).map(|standing| self.has_no_room(standing))
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
        let is_full = |who: Subscriber| self.is_full(who) == Some(true);
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
                any |= wants && stands(&shard, subscriber).is_some_and(|standing| self.has_no_room(standing));
            });
            any
        });
        few || large || matches.groups.iter().any(|group| !self.group_has_room(*group, view))
    }

    /// Whether a member of a group has room for a message, or all of them are away and their pool has.
    fn group_has_room(&self, group: GroupRef, view: &MessageView<'_>) -> bool {
        let has_room = |target: Target| {
            let takes = target.grant.durable() && target.grant.qos() > QoS::AtMostOnce;
            !takes || self.is_full(target.subscriber) != Some(true)
        };
        self.router.find_member(self.id, group, has_room).is_some()
            || self.router.find_member(self.id, group, |_| true).is_none()
            || (!self.router.has_online(group) && self.pool_has_room(group, view))
    }

    /// A message comes to a session of a shard where queues may be full: whether other limits hold for it than for its session, which are
    /// put in place then.
    #[cold]
    pub(crate) fn bend_limits(&mut self, to: Subscriber, delivery: &Delivery<'_>) -> bool {
        if self.pages.refusals.is_idle() {
            return false;
        }
        let Some(resident) = self.sessions.get_of(to.slot, to.generation) else { return false };
        let profile = resident.profile;
        let tally = resident.session.queue_tally();
        let holds = match self.word {
            _ if delivery.qos == QoS::AtMostOnce || !self.standers.by_slot.contains_key(&to.slot) => false,
            Word::None => false,
            Word::Given => !delivery.shared,
            Word::Binding => true,
        };
        self.bent_from = self.report.drops.queue_full;
        // Whatever was said, memory has an end.
        if holds && self.held_bytes <= self.options.memory_bytes / 4 * 5 {
            self.profiles.bend(profile, (u32::MAX, u32::MAX), QueueFull::DropNewest);
            self.bent_for = None;
            return true;
        }
        self.bent_for = self.total_reached(to.slot);
        if self.bent_for.is_none() {
            return false;
        }
        // Full as it is: where the oldest gives way, only that makes room.
        let limits = self.profiles.limits(profile);
        let at_most = |is: u64, most: u32| most.min(u32::try_from(is).unwrap_or(u32::MAX));
        let most = (at_most(tally.0, limits.queue_messages_max), at_most(tally.1, limits.queue_bytes_max));
        let drops_oldest = limits.queue_full == QueueFull::DropOldest;
        let full = if drops_oldest { QueueFull::DropOldest } else { QueueFull::DropNewest };
        self.profiles.bend(profile, most, full);
        true
    }

    /// What gave way under limits that were bent counts for the total that bent them.
    #[cold]
    pub(crate) fn count_bent(&mut self) {
        let drops = &mut self.report.drops.queue_full;
        if let Some(metric) = self.bent_for {
            let dropped = drops.saturating_sub(self.bent_from);
            *drops -= dropped;
            self.counters.add(metric, dropped);
        }
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
        let found = |full: bool| {
            self.router.find_member(self.id, attempt.group, |target| self.is_full(target.subscriber) == Some(full))
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
            let stand = full.map(|full| Stand { full, waits: true });
            let was = standers.set(slot, stand).unwrap_or_default();
            match stand {
                Some(stand) => refusals.set(1, slot, was.full, Standing { generation: 7, stand, user: None }),
                None => refusals.strike(1, slot, was.full),
            }
            let shard = refusals.read(1).expect("there are two");
            assert_eq!(stands(&shard, who(slot)).map(|standing| standing.stand.full), full);
            assert!(stands(&shard, Subscriber { generation: 8, ..who(slot) }).is_none(), "another session");
            let count = standers.by_slot.values().filter(|stand| stand.full).count() as u32;
            assert_eq!((standers.reasons, refusals.reasons.load(Ordering::Relaxed)), (count, count));
            assert_eq!(refusals.is_idle(), !standers.any_reason());
        }
    }
}
