//! What an idle client costs: a million sessions with a connection and one subscription each, over the virtual network, so
//! that sockets don't blur the figure. Counts bytes asked of the allocator.
//!
//! `cargo run --release -p breakwater-testkit --example million_sessions [clients]`
#![expect(clippy::print_stdout, reason = "it talks to the terminal")]

use std::alloc::System;
use std::fmt::Write as _;
use std::time::Duration;

use breakwater_proto::{Connect, Filters, QoS, Subscribe, SubscribeOptions, Version};
use breakwater_testkit::{Broker, Client};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    for (version, wildcard) in [(Version::V311, false), (Version::V5, false), (Version::V5, true)] {
        measure(count, version, wildcard);
    }
}

fn measure(count: usize, version: Version, wildcard: bool) {
    let broker = Broker::with(|options, _| {
        options.limits.session_expiry_default_s = 7 * 24 * 3600;
        options.sys_interval_s = 0;
    })
    .shards(2);
    broker.forget_events();
    broker.reserve(count);
    let mut clients: Vec<Client> = Vec::with_capacity(count);
    broker.step();
    let empty = live_bytes();
    let (mut id, mut filter) = (String::new(), String::new());
    let mut bytes = Vec::new();
    for number in 0..count {
        id.clear();
        filter.clear();
        let _ = write!(id, "device-{number:08}");
        let _ = write!(filter, "site/{number:08}/{}", if wildcard { "+" } else { "command" });
        bytes.clear();
        connect_and_subscribe(version, &id, &filter, &mut bytes);
        let mut client = broker.connect();
        client.send(&bytes);
        clients.push(client);
        if number % 1000 == 999 || number + 1 == count {
            broker.step();
            let from = number - number % 1000;
            // CONNACK and SUBACK.
            clients[from..].iter_mut().for_each(|client| assert!(client.discard() > 5, "the client is let in"));
        }
    }
    drop((bytes, id, filter));
    // A ping, and past the keep-alive check behind it, at which idle buffers are given back.
    broker.advance(Duration::from_secs(80));
    for some in clients.chunks_mut(1000) {
        some.iter_mut().for_each(|client| client.send(&[0xC0, 0]));
        broker.step();
        some.iter_mut().for_each(|client| assert_eq!(client.discard(), 2));
    }
    broker.advance(Duration::from_secs(30));
    assert_eq!((broker.connections(), broker.sessions()), (count, count));
    let connected = live_bytes() - empty;
    clients.iter_mut().for_each(Client::reset);
    broker.advance(Duration::from_secs(130));
    assert_eq!((broker.connections(), broker.sessions()), (0, count));
    let offline = live_bytes() - empty;
    let kind = if wildcard { "a wildcard" } else { "an exact" };
    println!(
        "{count} clients of {version} with {kind} filter: {} bytes each connected, {} offline",
        connected / count,
        offline / count
    );
}

fn connect_and_subscribe(version: Version, id: &str, filter: &str, out: &mut Vec<u8>) {
    let connect = Connect {
        clean_start: false,
        keep_alive_s: 60,
        session_expiry: version.is_v5().then_some(7 * 24 * 3600),
        ..Connect::new(version, id)
    };
    connect.encode(version, out);
    let mut raw = Vec::new();
    Filters::write(filter, SubscribeOptions::new(QoS::AtLeastOnce), &mut raw);
    Subscribe::new(1, Filters::from_encoded(&raw)).encode(version, out);
}
