//! Filters with so many subscribers that a match hands out snapshots.

use breakwater_proto::QoS;
use breakwater_router::{Grant, Matches, Router, RouterOptions, Subscriber};

const PLAIN: Grant =
    Grant { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 0 };

fn session(slot: u32) -> Subscriber {
    Subscriber { shard: (slot % 4) as u16, generation: (slot % 7) as u16, slot }
}

fn router() -> Router {
    Router::new(RouterOptions { shards: 4, ..RouterOptions::default() })
}

fn walk(out: &Matches) -> Vec<u32> {
    let mut seen = Vec::new();
    for set in &out.large {
        let mut position = 0;
        while !set.walk(&mut position, 1000, |target| {
            assert_eq!(target.subscriber.shard, set.shard);
            seen.push(target.subscriber.slot);
        }) {}
    }
    seen.sort_unstable();
    seen
}

#[test]
fn a_large_set_is_walked_once_per_member() {
    for filter in ["news", "news/#", "+"] {
        let router = router();
        for slot in 0..20_000 {
            router.subscribe(filter, session(slot), Grant { durable: slot == 777, ..PLAIN });
        }
        let mut out = Matches::new();
        router.matches(1, "news", &mut out);
        assert_eq!(out.large.len(), 4);
        assert!(out.few.is_empty() && out.any_durable);
        assert_eq!(walk(&out), (0..20_000).collect::<Vec<_>>());
        for slot in 0..20_000 {
            assert!(router.unsubscribe(filter, session(slot)).is_some());
        }
        assert_eq!(walk(&out).len(), 20_000, "the snapshot holds");
        router.matches(1, "news", &mut out);
        assert!(out.is_empty());
    }
}

#[test]
fn a_member_with_another_subscription_is_reached_once() {
    for (large, small) in [("news", "news/#"), ("news/#", "news"), ("+", "#")] {
        let router = router();
        for slot in 0..6000 {
            router.subscribe(large, session(slot), Grant { subscription_id: 1, ..PLAIN });
        }
        let twice = Grant { qos: QoS::ExactlyOnce, subscription_id: 2, ..PLAIN };
        for slot in [5, 4000, 9999] {
            router.subscribe(small, session(slot), twice);
        }
        let mut out = Matches::new();
        router.matches(0, "news", &mut out);
        let mut few: Vec<u32> = out.few.iter().map(|target| target.subscriber.slot).collect();
        few.sort_unstable();
        assert_eq!(few, [5, 4000, 9999]);
        let at = out.few.iter().position(|target| target.subscriber.slot == 5).unwrap();
        let mut ids = Vec::new();
        out.subscription_ids(at, false, &mut ids);
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        assert_eq!(out.grant(at, false).unwrap().qos(), QoS::ExactlyOnce);
        let walked = walk(&out);
        assert_eq!(walked.len(), 5998);
        assert!(!walked.contains(&5) && !walked.contains(&4000));
    }
}
