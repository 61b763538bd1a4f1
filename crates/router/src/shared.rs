//! Shared subscriptions: groups and the choice of a member.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::locks::Padded;
use crate::options::Strategy;
use crate::subscriber::{Subscriber, Target};

/// Names a shared group that a message goes to. Goes stale, harmlessly, when the group's last member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRef {
    pub(crate) id: u32,
    pub(crate) generation: u32,
}

/// What the choice of a member depends on.
#[derive(Clone, Copy, Debug)]
pub struct PickTicket<'a> {
    /// The publisher's shard.
    pub shard: u16,
    pub topic_hash: u64,
    pub client_hash: u64,
    pub random: u64,
    /// Members that bounced this message already.
    pub tried: &'a [Subscriber],
}

/// The members of one share name on one filter. Changed only by a writer that holds every lane; the counters may move
/// under a reader's lock.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) name: Box<str>,
    /// The filter's number in the trie, and this group's place in that filter's list.
    pub(crate) filter: u32,
    pub(crate) place: u32,
    pub(crate) generation: u32,
    strategy: Strategy,
    /// Both sorted by subscriber: who is found by bisection, and the members of one shard lie together. Joining moves what
    /// lies behind: 0.1 ms at 100,000 members.
    online: Vec<Target>,
    offline: Vec<Target>,
    /// Whose turn it is, per publishing shard; only for [`Strategy::RoundRobin`].
    turns: Box<[Padded<AtomicU32>]>,
    turn: AtomicU32,
    /// The member that sticks, packed; [`NOBODY`] at first.
    sticky: AtomicU64,
}

const NOBODY: u64 = u64::MAX;

impl Group {
    pub(crate) fn new(name: &str, filter: u32, generation: u32, strategy: Strategy, lanes: usize) -> Self {
        let lanes = if strategy == Strategy::RoundRobin { lanes } else { 0 };
        Self {
            name: name.into(),
            filter,
            generation,
            strategy,
            // Each shard starts with another member.
            turns: (0u32..).take(lanes).map(|lane| Padded(AtomicU32::new(lane))).collect(),
            sticky: AtomicU64::new(NOBODY),
            ..Self::default()
        }
    }

    /// True: `target` is new. It counts as online either way: only a connected client subscribes.
    pub(crate) fn insert(&mut self, target: Target) -> bool {
        let was_offline = take(&mut self.offline, target.subscriber).is_some();
        match place(&self.online, target.subscriber) {
            Ok(index) => {
                self.online[index] = target;
                false
            }
            Err(index) => {
                self.online.insert(index, target);
                !was_offline
            }
        }
    }

    pub(crate) fn remove(&mut self, who: Subscriber) -> bool {
        take(&mut self.online, who).or_else(|| take(&mut self.offline, who)).is_some()
    }

    pub(crate) fn get(&self, who: Subscriber) -> Option<Target> {
        [&self.online, &self.offline].into_iter().find_map(|list| Some(list[place(list, who).ok()?]))
    }

    pub(crate) fn set_online(&mut self, who: Subscriber, online: bool) {
        let (from, to) =
            if online { (&mut self.offline, &mut self.online) } else { (&mut self.online, &mut self.offline) };
        if let Some(target) = take(from, who)
            && let Err(index) = place(to, who)
        {
            to.insert(index, target);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.online.is_empty() && self.offline.is_empty()
    }

    /// The member that gets the message: one that is online and was not tried, else one that is offline (its queue gets
    /// it); and whether it is. The work is bounded by the number of members tried, not by that of members.
    pub(crate) fn pick(&self, ticket: &PickTicket<'_>) -> Option<(Target, bool)> {
        let online = self.pick_online(ticket).map(|target| (target, true));
        online.or_else(|| from(&self.offline, ticket.random, ticket.tried).map(|target| (target, false)))
    }

    /// The first member that `wanted` says yes to, those that are online first.
    pub(crate) fn find(&self, mut wanted: impl FnMut(Target) -> bool) -> Option<Target> {
        self.online.iter().chain(&self.offline).copied().find(|target| wanted(*target))
    }

    pub(crate) fn has_online(&self) -> bool {
        !self.online.is_empty()
    }

    fn pick_online(&self, ticket: &PickTicket<'_>) -> Option<Target> {
        let start = match self.strategy {
            Strategy::Random => ticket.random,
            Strategy::RoundRobin => {
                let turn = self.turns.get(usize::from(ticket.shard)).or(self.turns.first());
                turn.map_or(0, |turn| u64::from(turn.0.fetch_add(1, Ordering::Relaxed)))
            }
            Strategy::RoundRobinPerGroup => u64::from(self.turn.fetch_add(1, Ordering::Relaxed)),
            Strategy::Sticky => return self.pick_sticky(ticket),
            Strategy::Local => {
                let first = self.online.partition_point(|target| target.subscriber.shard < ticket.shard);
                let local = &self.online[first..];
                let local = &local[..local.partition_point(|target| target.subscriber.shard == ticket.shard)];
                if let Some(target) = from(local, ticket.random, ticket.tried) {
                    return Some(target);
                }
                ticket.random
            }
            Strategy::HashTopic => ticket.topic_hash,
            Strategy::HashClientId => ticket.client_hash,
        };
        from(&self.online, start, ticket.tried)
    }

    fn pick_sticky(&self, ticket: &PickTicket<'_>) -> Option<Target> {
        let packed = self.sticky.load(Ordering::Relaxed);
        if packed != NOBODY {
            let who = Subscriber::from_u64(packed);
            if let Ok(index) = place(&self.online, who)
                && !ticket.tried.contains(&who)
            {
                return Some(self.online[index]);
            }
        }
        let target = from(&self.online, ticket.random, ticket.tried)?;
        // Two shards may choose at the same time; the later one sticks.
        self.sticky.store(target.subscriber.as_u64(), Ordering::Relaxed);
        Some(target)
    }
}

fn place(list: &[Target], who: Subscriber) -> Result<usize, usize> {
    list.binary_search_by_key(&who, |target| target.subscriber)
}

fn take(list: &mut Vec<Target>, who: Subscriber) -> Option<Target> {
    place(list, who).ok().map(|index| list.remove(index))
}

/// The first member from `start` on, around the end, that was not tried.
fn from(list: &[Target], start: u64, tried: &[Subscriber]) -> Option<Target> {
    let count = list.len() as u64;
    let start = start.checked_rem(count)?;
    // Of tried + 1 members at least one was not tried.
    let looks = count.min(tried.len() as u64 + 1);
    (start..start + looks)
        .map(|index| list[(index % count) as usize])
        .find(|target| !tried.contains(&target.subscriber))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriber::Grant;
    use breakwater_proto::QoS;

    fn target(shard: u16, slot: u32) -> Target {
        let grant = Grant {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            durable: false,
            subscription_id: 0,
        };
        Target { subscriber: Subscriber { shard, generation: 0, slot }, grant: grant.into() }
    }

    fn group(strategy: Strategy) -> Group {
        let mut group = Group::new("g", 0, 0, strategy, 2);
        for slot in 0..6 {
            assert!(group.insert(target((slot % 2) as u16, slot)));
        }
        group
    }

    const TICKET: PickTicket<'static> =
        PickTicket { shard: 0, topic_hash: 11, client_hash: 22, random: 33, tried: &[] };

    fn slots(group: &Group, tickets: impl IntoIterator<Item = PickTicket<'static>>) -> Vec<u32> {
        tickets.into_iter().map(|ticket| group.pick(&ticket).unwrap().0.subscriber.slot).collect()
    }

    #[test]
    fn round_robin_serves_each_member_once_per_round_on_each_shard() {
        let group = group(Strategy::RoundRobin);
        for shard in [0, 1] {
            let mut seen = slots(&group, [PickTicket { shard, ..TICKET }; 6]);
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn round_robin_per_group_counts_over_all_shards() {
        let group = group(Strategy::RoundRobinPerGroup);
        let mut seen = slots(&group, (0..6).map(|n| PickTicket { shard: n % 2, ..TICKET }));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn sticky_stays_until_the_member_goes_offline() {
        let mut group = group(Strategy::Sticky);
        let seen = slots(&group, (0..20).map(|n| PickTicket { random: n, ..TICKET }));
        assert!(seen.iter().all(|slot| *slot == seen[0]));
        group.set_online(target((seen[0] % 2) as u16, seen[0]).subscriber, false);
        let after = slots(&group, (0..20).map(|n| PickTicket { random: n, ..TICKET }));
        assert!(after.iter().all(|slot| *slot == after[0] && *slot != seen[0]));
    }

    #[test]
    fn local_prefers_members_of_the_publishers_shard() {
        let mut group = group(Strategy::Local);
        let seen = slots(&group, (0..20).map(|n| PickTicket { shard: 1, random: n, ..TICKET }));
        assert!(seen.iter().all(|slot| slot % 2 == 1));
        for slot in [1, 3, 5] {
            group.remove(target(1, slot).subscriber);
        }
        assert_eq!(slots(&group, [PickTicket { shard: 1, ..TICKET }]).len(), 1);
    }

    #[test]
    fn hashes_choose_the_same_member_every_time() {
        for strategy in [Strategy::HashTopic, Strategy::HashClientId] {
            let group = group(strategy);
            let seen = slots(&group, (0..20).map(|n| PickTicket { random: n, ..TICKET }));
            assert!(seen.iter().all(|slot| *slot == seen[0]));
        }
    }

    #[test]
    fn members_tried_and_members_offline_are_passed_over() {
        for strategy in [
            Strategy::Random,
            Strategy::RoundRobin,
            Strategy::RoundRobinPerGroup,
            Strategy::Sticky,
            Strategy::Local,
            Strategy::HashTopic,
            Strategy::HashClientId,
        ] {
            let mut group = group(strategy);
            let tried: Vec<Subscriber> = [0, 1, 2].map(|slot| target((slot % 2) as u16, slot).subscriber).into();
            group.set_online(target(1, 3).subscriber, false);
            group.set_online(target(0, 4).subscriber, false);
            for random in 0..50 {
                let picked = group.pick(&PickTicket { random, tried: &tried, ..TICKET }).unwrap();
                assert_eq!((picked.0.subscriber.slot, picked.1), (5, true), "{strategy:?}");
            }
        }
    }

    #[test]
    fn a_group_that_is_all_offline_still_has_a_taker_until_all_were_tried() {
        let mut group = group(Strategy::Random);
        let all: Vec<Subscriber> = (0..6).map(|slot| target((slot % 2) as u16, slot).subscriber).collect();
        for who in &all {
            group.set_online(*who, false);
        }
        assert!(group.pick(&TICKET).is_some());
        assert!(group.pick(&PickTicket { tried: &all[..5], ..TICKET }).is_some());
        assert!(group.pick(&PickTicket { tried: &all, ..TICKET }).is_none());
    }

    #[test]
    fn a_member_that_subscribes_again_is_not_new_and_is_online() {
        let mut group = group(Strategy::Random);
        let who = target(0, 0);
        group.set_online(who.subscriber, false);
        assert!(!group.insert(who));
        assert!(!group.insert(who));
        assert_eq!(group.online.len() + group.offline.len(), 6);
    }
}
