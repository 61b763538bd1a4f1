//! One message to many: what a turn spends on it, how much memory it takes, and that order holds while it is under way.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};

use breakwater_contract::Metric;
use breakwater_proto::{QoS, ReasonCode};
use breakwater_testkit::{Broker, Client};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: usize = 1024;

/// The counters are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live_bytes() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

fn subscribers(broker: &Broker, shard: u16, count: usize, filter: &str) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let mut client = broker.client(&broker.id_at(shard, &format!("s{number}-"))).connect();
            client.subscribe(filter, QoS::AtLeastOnce);
            client
        })
        .collect()
}

#[test]
fn a_large_message_of_any_kind_to_many_takes_several_turns() {
    let _alone = alone();
    for (qos, retain) in [(QoS::AtMostOnce, false), (QoS::AtMostOnce, true), (QoS::AtLeastOnce, false)] {
        let broker = Broker::with(|options, _| options.turn.appended_bytes = 256 * KIB as u32);
        let mut clients = subscribers(&broker, 0, 64, "t");
        let mut publisher = broker.client("publisher").connect();
        publisher.send_publish("t", qos, retain, &[b'1'; 32 * KIB]);
        publisher.send_publish("t", qos, retain, b"2");
        // The second turn is for what the first one began.
        (0..2).for_each(|_| broker.turn(0));
        let written: usize = clients.iter().map(Client::waiting).sum();
        assert!(written <= 320 * KIB, "{written} bytes in two turns");
        for client in &mut clients {
            let payloads = client.payloads();
            assert_eq!(payloads.iter().map(|payload| payload[0]).collect::<Vec<_>>(), b"12");
        }
    }
}

#[test]
fn sessions_that_keep_a_message_from_another_shard_share_one_copy() {
    let _alone = alone();
    // The second filter is for a set that is too large to copy.
    for count in [200, 4200] {
        let broker = Broker::new().shards(2);
        broker.forget_events();
        let mut clients = subscribers(&broker, 1, count, "t");
        let mut publisher = broker.client(&broker.id_at(0, "p")).connect();
        for client in &mut clients {
            client.stop_reading();
        }
        let before = live_bytes();
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, &[0; 4 * KIB]), ReasonCode::Success);
        let each = (live_bytes() - before) / count as isize;
        // Its out buffer holds one copy, in a buffer that has grown to the next power of two.
        assert!(each < 9 * KIB as isize, "{each} bytes per session");
    }
}

#[test]
fn a_publisher_that_comes_back_does_not_overtake_what_it_has_begun() {
    let _alone = alone();
    let broker = Broker::with(|options, _| options.turn.appended_bytes = 64 * KIB as u32);
    let mut clients = subscribers(&broker, 0, 64, "t");
    let mut first = broker.client("publisher").persistent().connect();
    first.send_publish("t", QoS::AtMostOnce, false, &[b'1'; 32 * KIB]);
    broker.turn(0);
    let mut second = broker.client("publisher").persistent().start();
    second.send_publish("t", QoS::AtMostOnce, false, b"2");
    broker.turn(0);
    for client in &mut clients {
        let payloads = client.payloads();
        assert_eq!(payloads.iter().map(|payload| payload[0]).collect::<Vec<_>>(), b"12");
    }
}

#[test]
fn the_search_for_subscribers_is_charged_to_the_publisher() {
    let _alone = alone();
    let broker = Broker::with(|options, _| options.turn.deliveries = 1024);
    let mut client = broker.client("client").connect();
    // Every way of writing `a` or `+` at ten levels: each message makes the router look at some 2000 places.
    for number in 0..1000_u32 {
        let level = |bit: u32| if number >> bit & 1 == 0 { "a" } else { "+" };
        let filter: Vec<&str> = (0..10).map(level).collect();
        client.subscribe(&format!("{}/z", filter.join("/")), QoS::AtMostOnce);
    }
    let mut publisher = broker.client("publisher").connect();
    for number in 0..100 {
        publisher.send_publish(&format!("a/a/a/a/a/a/a/a/a/a/{number}"), QoS::AtMostOnce, false, b"x");
    }
    broker.turn(0);
    let taken = broker.counter(Metric::PublishReceived);
    assert!(taken < 10, "{taken} messages in one turn");
    broker.step();
    assert_eq!(broker.counter(Metric::PublishReceived), 100);
}
