//! Sessions over a restart: a row of the tables in docs/store.md each, over a simulated disk that loses what was not synced.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Connect, Packet, PacketKind, QoS, ReasonCode, SubscribeOptions, Version};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Client};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn on(disk: &SimulatedDisk) -> Broker {
    Broker::new().shards(3).on_disk(disk)
}

/// The broker after a power cut, so much later.
fn after(disk: &SimulatedDisk, seconds: u64) -> Broker {
    Broker::new().shards(3).later(Duration::from_secs(seconds)).on_disk(&disk.after(Crash::Nothing))
}

/// What a broker says of a client's session when it comes back.
fn is_present(broker: &Broker, id: &str, version: Version) -> bool {
    let (_, connack) = broker.client(id).version(version).persistent().attempt();
    connack.expect("CONNACK").connack().session_present
}

fn listening(broker: &Broker, id: &str, version: Version, filters: &[&str]) -> Client {
    let mut client = broker.client(id).version(version).persistent().connect();
    for filter in filters {
        client.subscribe(filter, QoS::AtLeastOnce);
    }
    client
}

fn fill(disk: &SimulatedDisk) {
    disk.set_faults(vec![Fault { first: disk.steps(), steps: u64::MAX / 2, kind: FaultKind::NoRoom }]);
}

#[test]
fn connack_waits_until_a_session_that_lasts_is_stored() {
    for version in VERSIONS {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        broker.halt_store(true);
        let mut client = broker.client("meter").version(version).persistent().start();
        client.send_packet(&Packet::PingReq);
        client.expect_nothing();
        // Nobody else waits.
        broker.client("passer-by").connect().ping();
        broker.halt_store(false);
        assert!(!client.next_of(PacketKind::ConnAck).connack().session_present);
        client.next_of(PacketKind::PingResp);
        if version != Version::V31 {
            assert!(is_present(&after(&disk, 1), "meter", version));
        }
    }
}

#[test]
fn suback_and_unsuback_wait_until_the_store_has_it() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = listening(&broker, "meter", Version::V5, &["stays"]);
    let mut other = broker.client("other").connect();
    broker.halt_store(true);
    client.send_subscribe(&[("room/+", SubscribeOptions::new(QoS::AtLeastOnce))], None);
    client.expect_nothing();
    other.send_publish("room/1", QoS::AtMostOnce, false, b"1");
    client.expect_nothing();
    broker.halt_store(false);
    assert_eq!(client.next_packet().suback().codes, [1]);
    assert_eq!(client.payloads(), [b"1"]);
    let subscribed = after(&disk, 1);
    assert_eq!(subscribed.router().counts().subscriptions, 2);
    client.unsubscribe("room/+");
    client.unsubscribe("never had it");
    let unsubscribed = after(&disk, 1);
    assert_eq!(unsubscribed.router().counts().subscriptions, 1);
}

#[test]
fn sessions_come_back_subscribed_and_without_a_connection() {
    for version in [Version::V311, Version::V5] {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let ids: Vec<String> = (0..10).map(|number| format!("meter {number}")).collect();
        let clients: Vec<Client> =
            ids.iter().map(|id| listening(&broker, id, version, &["room/+", id, "$share/g/work/#"])).collect();
        let again = after(&disk, 60);
        assert_eq!((again.sessions(), again.connections()), (10, 0));
        let mut publisher = again.client("publisher").connect();
        publisher.publish("room/1", QoS::AtLeastOnce, b"for all");
        for id in &ids {
            publisher.publish(id, QoS::AtLeastOnce, id.as_bytes());
            let (mut client, connack) = again.client(id).version(version).resume().attempt();
            assert!(connack.expect("CONNACK").connack().session_present);
            assert_eq!(client.payloads(), [b"for all", id.as_bytes()]);
        }
        publisher.publish("work/1", QoS::AtLeastOnce, b"for one");
        drop(clients);
    }
}

#[test]
fn options_of_subscriptions_come_back() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = broker.client("meter").persistent().connect();
    let exact =
        SubscribeOptions { no_local: true, retain_as_published: true, ..SubscribeOptions::new(QoS::ExactlyOnce) };
    client.subscribe_with(&[("a", exact)], Some(77));
    client.subscribe_with(&[("b", SubscribeOptions::new(QoS::AtMostOnce))], None);
    let again = after(&disk, 1);
    let mut client = again.client("meter").persistent().connect();
    client.send_publish("a", QoS::AtLeastOnce, false, b"own");
    client.next_of(PacketKind::PubAck);
    client.expect_nothing();
    let mut other = again.client("other").connect();
    other.publish_retained("a", QoS::AtLeastOnce, b"1");
    let message = client.message();
    let publish = message.publish();
    assert!(publish.retain && publish.qos == QoS::AtLeastOnce);
    assert_eq!(publish.properties.len(), 0);
    assert!(message.bytes().windows(2).any(|bytes| bytes == [0x0B, 77]), "subscription identifier");
    other.publish("b", QoS::AtLeastOnce, b"2");
    assert_eq!(client.message().publish().qos, QoS::AtMostOnce);
}

#[test]
fn a_session_ends_when_its_time_is_over_whether_or_not_the_broker_runs() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    for (id, seconds) in [("short", 100), ("long", 1000), ("for ever", u32::MAX)] {
        let mut client = broker.client(id).expiry(seconds).connect();
        client.subscribe("#", QoS::AtLeastOnce);
        client.disconnect();
    }
    broker.advance(Duration::from_secs(10));
    let again = after(&disk, 200);
    again.step();
    again.advance(Duration::from_secs(1));
    assert_eq!(again.sessions(), 2);
    again.advance(Duration::from_secs(1000));
    assert_eq!(again.sessions(), 1);
}

#[test]
fn a_session_that_was_connected_at_the_crash_is_as_if_left_at_the_start() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let _connected = broker.client("meter").expiry(100).connect();
    let again = after(&disk, 5000);
    again.advance(Duration::from_secs(99));
    assert_eq!(again.sessions(), 1);
    again.advance(Duration::from_secs(2));
    assert_eq!(again.sessions(), 0);
}

#[test]
fn what_has_ended_does_not_come_back() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    // By clean start, by an expiry of zero at the end, by time, and by an operator.
    drop(listening(&broker, "clean", Version::V5, &["a"]));
    drop(broker.client("clean").clean().connect());
    let mut zero = listening(&broker, "zero", Version::V5, &["a"]);
    zero.send_packet(&Packet::Disconnect(breakwater_proto::Disconnect {
        session_expiry: Some(0),
        ..breakwater_proto::Disconnect::new(ReasonCode::Success)
    }));
    let mut over = broker.client("over").expiry(1).connect();
    over.disconnect();
    drop(listening(&broker, "kicked", Version::V311, &["a"]));
    broker.kick("kicked", ReasonCode::AdministrativeAction, true);
    let _ = broker.client("of one connection").connect();
    broker.advance(Duration::from_secs(3));
    let again = after(&disk, 1);
    assert_eq!((again.sessions(), again.router().counts().subscriptions), (0, 0));
}

#[test]
fn a_clean_start_replaces_what_was_stored() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    drop(listening(&broker, "meter", Version::V5, &["old/#"]));
    let mut client = broker.client("meter").clean().expiry(1000).connect();
    client.subscribe("new/#", QoS::AtLeastOnce);
    let again = after(&disk, 1);
    assert_eq!((again.sessions(), again.router().counts().subscriptions), (1, 1));
    let mut publisher = again.client("publisher").connect();
    assert_eq!(publisher.publish("old/1", QoS::AtLeastOnce, b"1"), ReasonCode::NoMatchingSubscribers);
    assert_eq!(publisher.publish("new/1", QoS::AtLeastOnce, b"1"), ReasonCode::Success);
}

#[test]
fn the_will_of_a_client_that_the_broker_died_with_is_published() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let will = |id: &'static str, delay_s| {
        broker.client(id).expiry(3600).will(id, b"gone", QoS::AtLeastOnce, true).will_delay(delay_s).connect()
    };
    let _at_once = will("at once", 0);
    let _later = will("later", 50);
    let mut left = will("left", 500);
    left.reset();
    let mut well = will("well", 0);
    well.disconnect();
    broker.advance(Duration::from_secs(1));
    let again = after(&disk, 301);
    let retained = |broker: &Broker| {
        let now = broker.now();
        ["at once", "later", "left", "well"].map(|topic| broker.router().retained(topic, now).is_some())
    };
    again.advance(Duration::from_secs(1));
    assert_eq!(retained(&again), [true, false, false, false]);
    again.advance(Duration::from_secs(50));
    assert_eq!(retained(&again), [true, true, false, false]);
    again.advance(Duration::from_secs(160));
    assert_eq!(retained(&again), [true, true, true, false], "counted from when it was left, not from the start");
    assert_eq!(again.counter(Metric::WillsPublished), 3);
}

#[test]
fn a_will_that_was_published_is_not_published_at_the_next_start() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client =
        broker.client("meter").expiry(3600).will("w", b"gone", QoS::AtLeastOnce, false).will_delay(5).connect();
    client.reset();
    broker.advance(Duration::from_secs(10));
    assert_eq!(broker.counter(Metric::WillsPublished), 1);
    let again = after(&disk, 20);
    again.advance(Duration::from_secs(100));
    assert_eq!((again.counter(Metric::WillsPublished), again.sessions()), (0, 1));
}

#[test]
fn a_session_below_a_mountpoint_comes_back_below_it() {
    let mounted = |disk: &SimulatedDisk| {
        Broker::new().shards(2).profile(1, |profile| profile.mountpoint = "tenant/".into()).on_disk(disk)
    };
    let disk = SimulatedDisk::new();
    let broker = mounted(&disk);
    let mut client = broker.client("meter").on(1).persistent().connect();
    client.subscribe("room/+", QoS::AtLeastOnce);
    let again = mounted(&disk.after(Crash::Nothing));
    let mut publisher = again.client("publisher").connect();
    publisher.publish("tenant/room/1", QoS::AtLeastOnce, b"1");
    let (mut client, connack) = again.client("meter").on(1).persistent().attempt();
    assert!(connack.expect("CONNACK").connack().session_present);
    assert_eq!(client.message().publish().topic, "room/1");
}

#[test]
fn a_full_disk_refuses_what_it_would_have_to_keep_and_lets_the_others_in() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut known = listening(&broker, "known", Version::V5, &["a"]);
    known.disconnect();
    broker.advance(Duration::from_secs(1));
    fill(&disk);
    let (_, connack) = broker.client("new").persistent().attempt();
    assert_eq!(connack.expect("CONNACK").connack().reason, ReasonCode::QuotaExceeded);
    let (client, connack) = broker.client("new of 3.1.1").v311().persistent().attempt();
    assert!(connack.expect("CONNACK").connack().reason.is_error() && client.is_closed());
    assert_eq!(broker.sessions(), 1, "nothing is left of them");
    // A session that the store has is served, and so is one that ends with its connection.
    let (mut known, connack) = broker.client("known").persistent().attempt();
    assert!(connack.expect("CONNACK").connack().session_present);
    broker.client("passer-by").connect().ping();
    known.send_subscribe(&[("b", SubscribeOptions::new(QoS::AtLeastOnce))], None);
    known.expect_disconnect(ReasonCode::QuotaExceeded);
}

#[test]
fn who_connects_again_before_the_store_has_answered_takes_over() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    broker.halt_store(true);
    let mut first = broker.client("meter").persistent().start();
    first.expect_nothing();
    let mut second = broker.client("meter").persistent().start();
    second.expect_nothing();
    assert!(first.is_closed());
    assert_eq!(first.receive(), [], "it was never told that it is let in");
    broker.halt_store(false);
    assert_eq!(second.next_of(PacketKind::ConnAck).connack().reason, ReasonCode::Success);
    second.ping();
    assert_eq!(broker.sessions(), 1);
}

#[test]
fn a_stop_keeps_sessions_and_a_start_after_it_finds_them() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let _client = listening(&broker, "meter", Version::V311, &["a"]);
    broker.shutdown();
    broker.step();
    assert!(is_present(&after(&disk, 1), "meter", Version::V311));
}

#[test]
fn without_a_disk_connack_waits_for_nothing() {
    let broker = Broker::new();
    let mut client = broker.connect();
    client.send_packet(&Packet::Connect(Connect { session_expiry: Some(100), ..Connect::new(Version::V5, "meter") }));
    assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
    assert_eq!(broker.counter(Metric::StoreBatches), 0);
}

#[test]
fn a_session_that_the_store_never_confirmed_does_not_count_as_stored() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    broker.halt_store(true);
    let mut first = broker.client("meter").persistent().start();
    first.expect_nothing();
    let mut second = broker.client("meter").persistent().start();
    second.expect_nothing();
    fill(&disk);
    broker.halt_store(false);
    assert_eq!(second.next_of(PacketKind::ConnAck).connack().reason, ReasonCode::QuotaExceeded);
    assert!(second.is_closed());
}
