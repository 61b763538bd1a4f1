//! Several shards at once, on real threads: bounded work, no timing.
#![allow(clippy::disallowed_methods, reason = "the ban on threads is for the crate, not for its tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use breakwater_proto::{ForwardProperties, Instant, Message, MessageView, QoS};
use breakwater_router::{
    Grant, Matches, PickTicket, Progress, RetainedCursor, Router, RouterOptions, Strategy, Subscriber,
};

const PLAIN: Grant =
    Grant { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 0 };

fn router() -> Router {
    Router::new(RouterOptions { shards: 4, strategy: Strategy::RoundRobin, ..RouterOptions::default() })
}

fn session(shard: u16, slot: u32) -> Subscriber {
    Subscriber { shard, generation: 0, slot }
}

/// Runs `work` on four shards at once.
fn on_four_shards(work: impl Fn(u16) + Sync) {
    thread::scope(|scope| {
        for shard in 0..4 {
            let work = &work;
            scope.spawn(move || work(shard));
        }
    });
}

#[test]
fn a_shard_sees_its_own_changes_at_once_whatever_others_do() {
    let router = router();
    on_four_shards(|shard| {
        let mut out = Matches::new();
        for round in 0..2000u32 {
            let who = session(shard, round % 50);
            let (exact, wild) = (format!("t/{}/x", round % 7), format!("t/{}/+", round % 5));
            let topic = format!("t/{}/x", round % 35);
            let sees = |out: &Matches| out.few.iter().any(|target| target.subscriber == who);
            for filter in [&exact, &wild, &"t/#".to_owned()] {
                let id = router.subscribe(filter, who, PLAIN).id;
                router.matches(shard, &topic, &mut out);
                assert_eq!(sees(&out), breakwater_proto::matches(filter, &topic));
                router.matches(shard, &topic, &mut out);
                assert_eq!(sees(&out), breakwater_proto::matches(filter, &topic));
                assert!(router.remove(id, who));
                router.matches(shard, &topic, &mut out);
                assert!(!sees(&out));
                assert!(out.few.windows(2).all(|pair| pair[0].subscriber < pair[1].subscriber));
            }
        }
    });
    assert_eq!(router.counts(), Router::new(RouterOptions::default()).counts());
}

#[test]
fn a_subscription_that_stays_is_matched_by_everybody_all_the_time() {
    let router = router();
    router.subscribe("stay/exact", session(0, 1), PLAIN);
    router.subscribe("stay/+", session(0, 2), PLAIN);
    router.subscribe_shared("g", "stay/#", session(0, 3), PLAIN);
    on_four_shards(|shard| {
        let mut out = Matches::new();
        for round in 0..5000u32 {
            let who = session(shard, 100 + round % 10);
            let filter = ["stay/exact", "stay/+", "stay/#", "+/exact"][round as usize % 4];
            let id = router.subscribe(filter, who, PLAIN).id;
            let member = router.subscribe_shared("g", "stay/#", who, PLAIN).id;
            router.matches(shard, "stay/exact", &mut out);
            for slot in [1, 2] {
                assert!(out.few.iter().any(|target| target.subscriber == session(0, slot)));
            }
            let ticket = PickTicket { shard, topic_hash: 0, client_hash: 0, random: 0, tried: &[] };
            assert_eq!(out.groups.len(), 1);
            assert!(router.pick(out.groups[0], &ticket).is_some());
            assert!(router.remove(id, who) && router.remove(member, who));
        }
    });
}

#[test]
fn a_large_set_is_consistent_while_members_come_and_go() {
    let router = router();
    for slot in 0..8000 {
        router.subscribe("news", session((slot % 4) as u16, slot), PLAIN);
    }
    on_four_shards(|shard| {
        let mut out = Matches::new();
        for round in 0..400u32 {
            let who = session(shard, 100_000 + round % 13);
            let id = router.subscribe("news", who, PLAIN).id;
            router.matches(shard, "news", &mut out);
            let mut stayed = 0;
            for set in &out.large {
                let mut position = 0;
                while !set.walk(&mut position, 777, |target| stayed += usize::from(target.subscriber.slot < 100_000)) {}
            }
            assert_eq!(stayed, 8000);
            assert!(router.remove(id, who));
        }
    });
}

#[test]
fn the_last_revision_is_the_one_that_is_kept() {
    let router = router();
    let newest: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                router.sweep_retained(Instant(10), 8, |_, _| {});
                let mut cursor = RetainedCursor::new("r/+");
                let mut out = Vec::new();
                while router.retained_next(&mut cursor, Instant(10), 3, &mut out) == Progress::More {}
            }
        });
        on_four_shards(|shard| {
            for round in 0..4000usize {
                let topic = round * 7 % 16;
                let payload: &[u8] = if (round + usize::from(shard)).is_multiple_of(5) { b"" } else { b"x" };
                let outcome = router.retain(message(&format!("r/{topic}"), payload, (round % 3 == 0).then_some(5)));
                newest[topic].fetch_max(outcome.revision, Ordering::Relaxed);
            }
        });
        done.store(true, Ordering::Relaxed);
    });
    let mut out = Vec::new();
    while router.retained_next(&mut RetainedCursor::new("r/+"), Instant(0), 100, &mut out) == Progress::More {}
    for (message, revision) in &out {
        let topic: usize = message.topic()[2..].parse().unwrap();
        assert_eq!(*revision, newest[topic].load(Ordering::Relaxed), "{}", message.topic());
    }
    let bytes: usize = out.iter().map(|(message, _)| message.byte_len()).sum();
    assert_eq!((router.counts().retained, router.counts().retained_bytes), (out.len() as u64, bytes as u64));
}

fn message(topic: &str, payload: &[u8], expires_at: Option<u64>) -> Message {
    let view = MessageView {
        topic,
        payload,
        qos: QoS::AtMostOnce,
        retain: true,
        properties: ForwardProperties::EMPTY,
        expires_at: expires_at.map(Instant),
        origin: 0,
    };
    Message::new(&view, &mut Vec::new())
}
