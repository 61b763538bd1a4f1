//! A match allocates nothing in steady state. One test: the counters are the process's.

use std::alloc::System;

use breakwater_proto::QoS;
use breakwater_router::{Grant, Matches, Router, RouterOptions, Subscriber};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const GRANT: Grant =
    Grant { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 3 };

#[test]
fn matching_allocates_nothing_once_warm() {
    // Remembered answers, and none at all.
    for cache_entries in [1024, 0] {
        let router = Router::new(RouterOptions { cache_entries, ..RouterOptions::default() });
        for slot in 0..200 {
            let who = Subscriber { shard: 0, generation: 0, slot };
            router.subscribe(&format!("t/{}", slot % 50), who, GRANT);
            router.subscribe(&format!("t/+/{}", slot % 20), who, GRANT);
            router.subscribe("t/#", who, GRANT);
            router.subscribe_shared("g", &format!("t/{}", slot % 10), who, GRANT);
        }
        let topics: Vec<String> = (0..100).map(|n| format!("t/{n}")).collect();
        let mut out = Matches::new();
        let mut publish_all = || topics.iter().for_each(|topic| router.matches(0, topic, &mut out));
        publish_all();
        publish_all();
        let region = Region::new(ALLOCATOR);
        publish_all();
        assert_eq!(region.change().allocations + region.change().reallocations, 0);
    }
}
