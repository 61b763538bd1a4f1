//! Memory comes back. One test: the counters are the process's.

use std::alloc::System;
use std::time::Duration;

use breakwater_proto::QoS;
use breakwater_testkit::Broker;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENTS: usize = 3000;
const ROUNDS: usize = 10;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Clients come, subscribe, publish, and leave: some in good order, some not, some with a session that ends later.
fn round(broker: &Broker) {
    let mut clients = Vec::with_capacity(CLIENTS);
    for index in 0..CLIENTS {
        let id = format!("device-{index}");
        let connecting = broker.client(&id).keep_alive(60).will("gone", b"x", QoS::AtMostOnce, false);
        let mut client = if index % 3 == 0 { connecting.resume().expiry(30).connect() } else { connecting.connect() };
        client.subscribe(&format!("site/{index}/#"), QoS::AtLeastOnce);
        client.subscribe("all", QoS::AtMostOnce);
        clients.push(client);
    }
    for (index, client) in clients.iter_mut().enumerate().step_by(10) {
        client.send_publish(&format!("site/{}/x", index + 1), QoS::AtLeastOnce, false, &[1; 500]);
        client.send_publish("all", QoS::AtMostOnce, false, &[2; 20]);
    }
    broker.step();
    for (index, client) in clients.iter_mut().enumerate() {
        if index % 2 == 0 { client.disconnect() } else { client.reset() }
    }
    drop(clients);
    // Sessions end, and every timer that was set has fired.
    broker.advance(Duration::from_secs(200));
    assert_eq!((broker.connections(), broker.sessions(), broker.held_bytes()), (0, 0, 0));
    broker.release_spares();
}

#[test]
fn memory_is_back_where_it_was_after_thousands_have_come_and_gone() {
    let broker = Broker::new().shards(2);
    broker.forget_events();
    // The first two rounds grow what is kept for good: slabs, the wheel, hash tables, buffers of the virtual network.
    (0..2).for_each(|_| round(&broker));
    let before = live_bytes();
    (0..ROUNDS).for_each(|_| round(&broker));
    let after = live_bytes();
    assert!(after <= before + before / 100, "{before} bytes before, {after} after {ROUNDS} rounds");
}
