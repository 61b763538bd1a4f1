//! What has gone holds no memory. One test: the counters are the process's.

use std::alloc::System;

use breakwater_proto::{ForwardProperties, Message, MessageView, QoS};
use breakwater_router::{Grant, Router, RouterOptions, Subscriber};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const GRANT: Grant =
    Grant { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 3 };

/// Live bytes that `work` leaves behind.
fn left_by(work: impl FnOnce()) -> isize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.bytes_allocated as isize - change.bytes_deallocated as isize
}

#[test]
fn what_comes_and_goes_leaves_no_memory_behind() {
    for kind in ["exact/{}", "wild/{}/+", "one/#", "one", "shared/{}"] {
        let router = Router::new(RouterOptions::default());
        let who = |slot| Subscriber { shard: 0, generation: 0, slot };
        let left = left_by(|| {
            let subscribe = |slot: u32| {
                let filter = kind.replace("{}", &slot.to_string());
                match kind {
                    "shared/{}" => router.subscribe_shared("g", &filter, who(slot), GRANT).id,
                    _ => router.subscribe(&filter, who(slot), GRANT).id,
                }
            };
            let ids: Vec<_> = (0..20_000).map(subscribe).collect();
            assert!((0..).zip(ids).all(|(slot, id)| router.remove(id, who(slot))));
        });
        // The trie's root and its page remain.
        assert!(left <= 2048, "{kind} leaves {left} bytes");
    }
    let router = Router::new(RouterOptions::default());
    let left = left_by(|| {
        let topics: Vec<String> = (0..20_000).map(|n| format!("t/{n}")).collect();
        for topic in &topics {
            let view = MessageView {
                topic,
                payload: b"x",
                qos: QoS::AtMostOnce,
                retain: true,
                properties: ForwardProperties::EMPTY,
                expires_at: None,
                origin: 0,
            };
            router.retain(Message::new(&view, &mut Vec::new()));
        }
        assert!(topics.iter().all(|topic| router.clear_retained(topic).replaced));
    });
    assert!(left <= 2048, "retained messages leave {left} bytes");
}
