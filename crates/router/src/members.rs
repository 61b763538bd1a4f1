//! The subscribers of one filter.

use crate::keyed_hash::HashKey;
use crate::matches::Matches;
use crate::snapshot::LargeSet;
use crate::subscriber::{Subscriber, Target};

/// The subscribers of one filter, in a form that fits their number. Most filters have one: it lies inline.
#[derive(Default)]
pub(crate) enum Members {
    #[default]
    None,
    One(Target),
    /// Sorted by subscriber.
    Few(Vec<Target>),
    Large(Box<LargeSet>),
}

/// Up to here a match copies the members (64 KiB), beyond it takes a snapshot.
pub(crate) const FEW_MAX: usize = 4096;
/// A large set that shrinks below this becomes a small one; far enough below [`FEW_MAX`] not to go back and forth.
const LARGE_MIN: usize = FEW_MAX / 2;

impl Members {
    /// True: `target` is new; else its grant was replaced [MQTT-3.8.4-3].
    pub(crate) fn insert(&mut self, key: &HashKey, target: Target) -> bool {
        match self {
            Members::None => {
                *self = Members::One(target);
                true
            }
            Members::One(one) if one.subscriber == target.subscriber => {
                *one = target;
                false
            }
            Members::One(one) => {
                let mut pair = vec![*one, target];
                pair.sort_unstable_by_key(|target| target.subscriber);
                *self = Members::Few(pair);
                true
            }
            Members::Few(few) => match few.binary_search_by_key(&target.subscriber, |target| target.subscriber) {
                Ok(index) => {
                    few[index] = target;
                    false
                }
                Err(index) => {
                    few.insert(index, target);
                    if few.len() > FEW_MAX {
                        *self = Members::Large(Box::new(LargeSet::new(key, few)));
                    }
                    true
                }
            },
            Members::Large(set) => set.insert(key, target),
        }
    }

    pub(crate) fn remove(&mut self, key: &HashKey, who: Subscriber) -> bool {
        match self {
            Members::One(one) if one.subscriber == who => {
                *self = Members::None;
                true
            }
            Members::None | Members::One(_) => false,
            Members::Few(few) => {
                let Ok(index) = few.binary_search_by_key(&who, |target| target.subscriber) else { return false };
                few.remove(index);
                if let [one] = few[..] {
                    *self = Members::One(one);
                } else if few.len() * 4 <= few.capacity() {
                    few.shrink_to(few.len() * 2);
                }
                true
            }
            Members::Large(set) => {
                let removed = set.remove(key, who).is_some();
                if set.len() < LARGE_MIN {
                    let mut few: Vec<Target> = set.targets().collect();
                    few.sort_unstable_by_key(|target| target.subscriber);
                    *self = Members::Few(few);
                }
                removed
            }
        }
    }

    pub(crate) fn get(&self, key: &HashKey, who: Subscriber) -> Option<Target> {
        match self {
            Members::None => None,
            Members::One(one) => (one.subscriber == who).then_some(*one),
            Members::Few(few) => {
                few.binary_search_by_key(&who, |target| target.subscriber).ok().map(|index| few[index])
            }
            Members::Large(set) => set.get(key, who),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Members::None)
    }

    /// Copies small sets into `out.few`; large ones are returned for later, when all small ones are known.
    #[inline]
    pub(crate) fn append_to(&self, out: &mut Matches) -> Option<&LargeSet> {
        match self {
            Members::None => {}
            Members::One(one) => out.few.push(*one),
            Members::Few(few) => out.few.extend_from_slice(few),
            Members::Large(set) => return Some(set),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriber::Grant;
    use breakwater_proto::QoS;

    fn target(shard: u16, slot: u32, id: u32) -> Target {
        let grant = Grant {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            durable: false,
            subscription_id: id,
        };
        Target { subscriber: Subscriber { shard, generation: 0, slot }, grant: grant.into() }
    }

    #[test]
    fn one_member_needs_no_more_room_than_a_vector() {
        assert_eq!(size_of::<Members>(), 24);
    }

    #[test]
    fn a_set_grows_large_and_small_again_and_keeps_its_members() {
        let key = HashKey::new(7);
        let mut members = Members::default();
        let all = FEW_MAX as u32 * 3;
        for n in 0..all {
            assert!(members.insert(&key, target((n % 3) as u16, n, n + 1)));
        }
        for n in 0..all {
            assert!(!members.insert(&key, target((n % 3) as u16, n, n + 2)));
        }
        assert!(matches!(members, Members::Large(_)));
        for n in 0..all {
            let who = target((n % 3) as u16, n, 0).subscriber;
            assert_eq!(members.get(&key, who).unwrap().grant.subscription_id(), n + 2);
            assert!(members.remove(&key, who));
            assert!(!members.remove(&key, who));
        }
        assert!(members.is_empty());
    }

    #[test]
    fn a_snapshot_does_not_change_while_members_come_and_go() {
        let key = HashKey::new(7);
        let mut set = LargeSet::new(&key, &[]);
        for n in 0..2000 {
            set.insert(&key, target(0, n, 1));
        }
        let snapshot = set.snapshots().next().unwrap();
        for n in 0..1000 {
            set.remove(&key, target(0, n * 2, 1).subscriber);
            set.insert(&key, target(0, 10_000 + n, 1));
        }
        let mut seen = Vec::new();
        let mut position = 0;
        while !snapshot.walk(&mut position, 333, |target| seen.push(target.subscriber.slot)) {}
        assert_eq!(seen, (0..2000).collect::<Vec<u32>>());
    }
}
