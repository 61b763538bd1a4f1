//! Routing, for the instruction counter (`--list`, `--count CASE`; see docs/benchmarks.md) and, without those, by the clock.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, and times itself without callgrind"
)]

use std::hint::black_box;
use std::time::Instant;

use breakwater_proto::QoS;
use breakwater_router::{Grant, Matches, PickTicket, Router, RouterOptions, Subscriber};

const GRANT: Grant =
    Grant { qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 0 };

const CASES: &[&str] =
    &["remembered", "exact", "wildcard", "nobody", "fan_out_1000", "shared", "subscribe_exact", "subscribe_wildcard"];

fn session(slot: u32) -> Subscriber {
    Subscriber { shard: (slot % 2) as u16, generation: 0, slot }
}

/// Rounds of a counted run: enough that setting the router up, which is counted too, is a small part.
const COUNTED: u32 = 200_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            println!("empty 1");
            CASES.iter().for_each(|case| println!("{case} {}", rounds_of(case, COUNTED)));
        }
        ["--count", "empty"] => {}
        ["--count", wanted] => {
            assert!(CASES.contains(&wanted), "a listed name");
            run(wanted, COUNTED);
        }
        _ => {
            let wanted = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
            for case in CASES.iter().filter(|case| case.contains(wanted)) {
                println!("{case:<20} {:>8.1} ns", run(case, COUNTED));
            }
        }
    }
}

/// A fan-out does a thousand times as much per round.
fn rounds_of(case: &str, rounds: u32) -> u32 {
    if case == "fan_out_1000" { rounds / 100 } else { rounds }
}

/// Runs a case over 10,000 filters and 64 topics; returns nanoseconds per round.
fn run(case: &str, rounds: u32) -> f64 {
    let cache_entries = if case == "remembered" { 4096 } else { 0 };
    let router = Router::new(RouterOptions { shards: 2, hash_seed: 1, cache_entries, ..RouterOptions::default() });
    let topics: Vec<String> = (0..64).map(|n| format!("plant/{n}/line/7/temperature")).collect();
    let mut out = Matches::new();
    match case {
        "subscribe_exact" | "subscribe_wildcard" => {
            let wild = if case == "subscribe_exact" { "x" } else { "+" };
            for n in 0..10_000 {
                router.subscribe(&format!("plant/{n}/line/7/{wild}"), session(n), GRANT);
            }
            let filters: Vec<String> = (0..1000).map(|n| format!("plant/{n}/line/8/{wild}")).collect();
            let begin = Instant::now();
            for round in 0..rounds {
                let filter = &filters[round as usize % filters.len()];
                let id = router.subscribe(filter, session(round), GRANT).id;
                router.remove(id, session(round));
            }
            return begin.elapsed().as_nanos() as f64 / f64::from(rounds);
        }
        "fan_out_1000" => (0..1000).for_each(|n| {
            router.subscribe("plant/#", session(n), GRANT);
        }),
        "shared" => (0..100).for_each(|n| {
            router.subscribe_shared("g", "plant/#", session(n), GRANT);
        }),
        "nobody" => {
            router.subscribe("other/+", session(0), GRANT);
        }
        _ => {
            for n in 0..10_000 {
                let wild = if case == "exact" { "temperature" } else { "+" };
                router.subscribe(&format!("plant/{n}/line/7/{wild}"), session(n), GRANT);
            }
        }
    }
    let begin = Instant::now();
    let rounds = rounds_of(case, rounds);
    for round in 0..rounds {
        router.matches(0, &topics[round as usize % topics.len()], &mut out);
        for group in &out.groups {
            let random = u64::from(round);
            let ticket = PickTicket { shard: 0, topic_hash: out.topic_hash, client_hash: 0, random, tried: &[] };
            black_box(router.pick(*group, &ticket));
        }
        black_box(out.few.len());
    }
    begin.elapsed().as_nanos() as f64 / f64::from(rounds)
}
