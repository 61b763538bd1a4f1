//! One million distinct filters, 20% of them with wildcards: bytes each, time per match and per subscription, and what
//! publishing loses while 1,000 filters per second come and go.
//!
//! `cargo run --release -p breakwater-router --example million_filters`
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "an example measures time, uses threads and prints"
)]

use std::alloc::System;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use breakwater_proto::QoS;
use breakwater_router::{FilterId, Grant, Matches, Router, RouterOptions, Subscriber};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FILTERS: u32 = 1_000_000;
const SHARDS: u16 = 2;
const GRANT: Grant =
    Grant { qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 0 };

/// CPU time of this thread, so that a busy machine doesn't count; wall time where the system doesn't tell.
fn cpu(begin: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).map_or_else(|| begin.elapsed(), Duration::from_nanos)
}

fn session(number: u32) -> Subscriber {
    Subscriber { shard: (number % u32::from(SHARDS)) as u16, generation: 0, slot: number }
}

/// Every fifth filter has wildcards, of three kinds.
fn filter(number: u32) -> String {
    match number % 15 {
        0 => format!("site/{}/device/{number:07}/+", number % 100),
        5 => format!("site/{}/device/{number:07}/#", number % 100),
        10 => format!("site/+/device/{number:07}/state"),
        _ => topic(number),
    }
}

fn topic(number: u32) -> String {
    format!("site/{}/device/{number:07}/state", number % 100)
}

fn main() {
    let options = RouterOptions { shards: SHARDS, hash_seed: 0x5eed, ..RouterOptions::default() };
    let router = Router::new(options);
    let filters: Vec<String> = (0..FILTERS).map(filter).collect();
    let text: usize = filters.iter().map(String::len).sum();

    let region = Region::new(ALLOCATOR);
    // What a session keeps per subscription: the id, counted with the rest.
    let mut ids: Vec<FilterId> = Vec::with_capacity(FILTERS as usize);
    let mut slowest = Duration::ZERO;
    let origin = Instant::now();
    let begin = cpu(origin);
    for (number, filter) in (0..).zip(&filters) {
        let one = Instant::now();
        ids.push(router.subscribe(filter, session(number), GRANT).id);
        slowest = slowest.max(one.elapsed());
    }
    let took = cpu(origin) - begin;
    let change = region.change();
    let live = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    let allocations = change.allocations as i64 - change.deallocations as i64;
    println!("filters                 {FILTERS}, of them {} in the trie", router.counts().trie_filters);
    println!(
        "live heap               {:.1} bytes each, {:.1} without the filter's text ({:.1})",
        live as f64 / f64::from(FILTERS),
        (live - text as i64) as f64 / f64::from(FILTERS),
        text as f64 / f64::from(FILTERS)
    );
    println!(
        "                        in {:.2} allocations each; at 8 bytes of overhead per allocation {:.1} without text",
        allocations as f64 / f64::from(FILTERS),
        (live - text as i64 + allocations * 8) as f64 / f64::from(FILTERS)
    );
    println!(
        "subscribe               {:.0} ns each, {:.2} M/s, slowest {slowest:?}",
        took.as_nanos() as f64 / f64::from(FILTERS),
        f64::from(FILTERS) / took.as_secs_f64() / 1e6
    );

    measure_matches(&router);
    measure_churn(&router);

    let begin = cpu(origin);
    for (number, id) in (0..).zip(&ids) {
        assert!(router.remove(*id, session(number)));
    }
    println!("unsubscribe             {:.0} ns each", (cpu(origin) - begin).as_nanos() as f64 / f64::from(FILTERS));
    drop(ids);
    let change = region.change();
    let left = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    println!("left after unsubscribe  {left} bytes");
}

fn measure_matches(router: &Router) {
    let mut out = Matches::new();
    for (name, step, count) in
        [("every topic in turn", 1, FILTERS), ("topics at random", 7919, FILTERS), ("100 topics", 10_000, 100)]
    {
        let topics: Vec<String> =
            (0..count).map(|n| topic((u64::from(n) * step % u64::from(FILTERS)) as u32)).collect();
        let mut targets = 0;
        let rounds = 1_000_000 / topics.len();
        let origin = Instant::now();
        let begin = cpu(origin);
        for _ in 0..rounds {
            for topic in &topics {
                router.matches(0, topic, &mut out);
                targets += out.few.len();
            }
        }
        let matches = rounds * topics.len();
        println!(
            "match, {name:<16} {:.0} ns, {:.2} targets",
            (cpu(origin) - begin).as_nanos() as f64 / matches as f64,
            targets as f64 / matches as f64
        );
    }
}

/// Publishing on one thread, with and without another that subscribes and unsubscribes 1,000 new filters per second, half
/// of them with wildcards under the first level that all topics have. Interleaved, and the median is taken.
fn measure_churn(router: &Router) {
    let topics: Vec<String> = (0..100).map(|n| topic(n * 10_001)).collect();
    let publish = |window: Duration| {
        let mut out = Matches::new();
        let origin = Instant::now();
        let begin = cpu(origin);
        let mut matches = 0u64;
        while origin.elapsed() < window {
            for topic in &topics {
                router.matches(0, topic, &mut out);
                matches += black_box(out.few.len()) as u64;
            }
        }
        matches as f64 / (cpu(origin) - begin).as_secs_f64()
    };
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        quiet.push(publish(Duration::from_millis(300)));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| come_and_go(router, &stop));
            busy.push(publish(Duration::from_millis(300)));
            stop.store(true, Ordering::Relaxed);
        });
    }
    quiet.sort_by(f64::total_cmp);
    busy.sort_by(f64::total_cmp);
    println!(
        "matches/s, 100 topics   {:.2} M quiet, {:.2} M while 1,000 filters/s come and go: {:+.1}%",
        quiet[4] / 1e6,
        busy[4] / 1e6,
        (busy[4] / quiet[4] - 1.0) * 100.0
    );
}

fn come_and_go(router: &Router, stop: &AtomicBool) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..10 {
            number += 1;
            let text = if number % 2 == 0 { format!("site/x/{number}/+") } else { format!("site/x/{number}") };
            let id = router.subscribe(&text, session(1), GRANT).id;
            router.remove(id, session(1));
        }
        thread::sleep(Duration::from_millis(10));
    }
}
