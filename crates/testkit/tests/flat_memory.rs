//! What bad input costs in live memory, by the allocator's own count.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use breakwater_proto::{Connect, Packet, QoS, ReasonCode, SubscribeOptions, Version, encode_pubrel};
use breakwater_testkit::{Broker, Client, out_publish};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counters are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live_bytes() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Runs `round` some times to warm up, then more often, and answers by how many bytes the second part grew. Timers of what
/// has gone lie in the wheel until their time, a minute at most, so that much passes before each look.
fn growth(broker: &Broker, warm: usize, rounds: usize, mut round: impl FnMut(usize)) -> isize {
    (0..warm).for_each(&mut round);
    broker.advance(Duration::from_secs(61));
    let before = live_bytes();
    (warm..warm + rounds).for_each(&mut round);
    broker.advance(Duration::from_secs(61));
    live_bytes() - before
}

fn connect_bytes(connect: Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::Connect(connect).encode(Version::V5, &mut bytes);
    bytes
}

/// CVE-2017-7654, CVE-2021-34431 (Mosquitto): crafted CONNECTs leaked.
#[test]
fn bad_connects_leave_nothing() {
    let _alone = alone();
    let broker = Broker::new();
    broker.forget_events();
    let whole =
        connect_bytes(Connect { username: Some("user"), password: Some(b"pass"), ..Connect::new(Version::V5, "x") });
    let grown = growth(&broker, 20_000, 100_000, |round| {
        let mut bytes = whole.clone();
        let at = round % bytes.len();
        bytes[at] ^= 1 << (round % 8);
        let mut client = broker.connect();
        client.send(&bytes);
        client.half_close();
        assert!(client.is_closed());
        client.receive();
    });
    assert!(grown < 32 << 10, "{grown} bytes grown");
    // Those that were let in after all are gone as well.
    assert_eq!((broker.connections(), broker.sessions()), (0, 0));
}

/// GHSA-r72h (NATS): bytes of half a CONNECT cost a small multiple of themselves, and a promised length nothing.
#[test]
fn half_a_connect_costs_no_more_than_twice_its_bytes() {
    let _alone = alone();
    let password = vec![7; 60_000];
    let bytes =
        connect_bytes(Connect { username: Some("u"), password: Some(&password), ..Connect::new(Version::V5, "x") });
    for (sent, most) in [(0, 600), (2, 700), (1000, 3_000), (40_000, 120_000)] {
        let broker = Broker::new();
        broker.forget_events();
        broker.reserve(4000);
        let count = 1000;
        // The pool lends buffers that stay with the first few.
        let mut strangers: Vec<Client> = Vec::with_capacity(2 * count);
        let mut connect = |_| {
            let mut stranger = broker.connect();
            stranger.send(&bytes[..sent]);
            broker.step();
            strangers.push(stranger);
        };
        (0..count).for_each(&mut connect);
        let before = live_bytes();
        (0..count).for_each(&mut connect);
        let each = (live_bytes() - before) / count as isize;
        assert!(each <= most, "{each} bytes for {sent}");
    }
}

/// CVE-2023-28366, CVE-2024-8376 (Mosquitto): QoS 2 without PUBREL, and sequences of CONNECT, DISCONNECT, SUBSCRIBE,
/// UNSUBSCRIBE and PUBLISH, leaked.
#[test]
fn random_sequences_of_packets_leave_nothing() {
    let _alone = alone();
    let broker = Broker::new().shards(2);
    broker.forget_events();
    let mut state = 3_u64;
    let ids: Vec<String> = (0..4).map(|number| format!("client-{number}")).collect();
    let grown = growth(&broker, 2_000, 10_000, |_| {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        let version = [Version::V31, Version::V311, Version::V5][next() % 3];
        let connecting = broker.client(&ids[next() % 4]).version(version);
        let connecting = if next() % 2 == 0 { connecting.persistent() } else { connecting.clean() };
        let mut client = connecting.will("will", b"will", QoS::AtLeastOnce, next() % 2 == 0).start();
        for _ in 0..next() % 12 {
            let filter = ["a/+", "#", "a/b", "$share/g/a/#", "$share/bad", "a/#/b"][next() % 6];
            match next() % 8 {
                0 => drop(client.send_subscribe(&[(filter, SubscribeOptions::new(QoS::ExactlyOnce))], None)),
                1 => drop(client.send_publish("a/b", QoS::ExactlyOnce, false, b"x")),
                2 => drop(client.send_publish("a/b", QoS::AtLeastOnce, true, if next() % 2 == 0 { b"" } else { b"x" })),
                3 => client.send_out(&out_publish("a/c", QoS::ExactlyOnce, false, 7, b"same id")),
                4 => {
                    let mut bytes = Vec::new();
                    encode_pubrel(version, 7, ReasonCode::Success, &mut bytes);
                    client.send(&bytes);
                }
                5 => client.send(&[0xA2, 7, 0, 1, 0, 3, b'a', b'/', b'+']),
                6 => client.send(&[0xE0, 0]),
                _ => {
                    let (from, length) = (next() as u8, next() % 3);
                    client.send(&vec![from; length]);
                }
            }
        }
        client.reset();
        broker.step();
        // What the four sessions keep is bounded, not constant: let them go before anybody counts.
        for id in &ids {
            broker.client(id).clean().connect().disconnect();
        }
        broker.client("cleaner").connect().publish_retained("will", QoS::AtLeastOnce, b"");
        broker.client("cleaner").connect().publish_retained("a/b", QoS::AtLeastOnce, b"");
    });
    assert!(grown < 16 << 10, "{grown} bytes grown");
    assert_eq!(broker.router().counts().subscriptions + broker.router().counts().retained, 0);
}

#[test]
fn clients_that_come_and_go_with_long_intervals_leave_nothing() {
    let _alone = alone();
    let broker = Broker::new();
    broker.forget_events();
    let grown = growth(&broker, 5_000, 20_000, |round| {
        let client_id = if round % 2 == 0 { "same" } else { "other" };
        let mut client = broker
            .client(client_id)
            .resume()
            .expiry(604_800 - round as u32)
            .keep_alive(u16::MAX)
            .will("will", b"x", QoS::AtMostOnce, false)
            .will_delay(300_000)
            .connect();
        client.reset();
        broker.advance(Duration::from_millis(50));
    });
    // 20,000 times four timers of 16 bytes would be more than a megabyte.
    assert!(grown < 64 << 10, "{grown} bytes grown");
}

#[test]
fn topics_without_subscribers_leave_nothing() {
    let _alone = alone();
    let broker = Broker::new();
    let mut reader = broker.client("reader").connect();
    reader.subscribe("other/+", QoS::AtMostOnce);
    let mut client = broker.client("chatty").connect();
    let grown = growth(&broker, 50_000, 200_000, |round| {
        let topic = format!("topic/{round}/of/many");
        client.send_out(&out_publish(&topic, QoS::AtMostOnce, false, 0, b"x"));
        if round % 100 == 0 {
            broker.step();
        }
    });
    assert!(grown < 256 << 10, "{grown} bytes grown");
}

#[test]
fn subscriptions_that_come_and_go_leave_nothing() {
    let _alone = alone();
    let broker = Broker::new();
    let mut client = broker.client("fickle").connect();
    let grown = growth(&broker, 5_000, 20_000, |round| {
        let filter = format!("f/{round}/+");
        client.subscribe(&filter, QoS::AtMostOnce);
        client.unsubscribe(&filter);
    });
    assert!(grown < 64 << 10, "{grown} bytes grown");
}
