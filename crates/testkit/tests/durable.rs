//! What is durable before what is sent: a row of the table in docs/store.md each, over a simulated disk that loses what was not
//! synced.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{PacketKind, QoS, ReasonCode, SubscribeOptions, Version, encode_pubrel};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Client, out_publish};

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn on(disk: &SimulatedDisk) -> Broker {
    Broker::new().shards(3).on_disk(disk)
}

/// What a broker on what a power cut left of the disk has retained: topics with payloads, sorted.
fn retained_after(disk: &SimulatedDisk) -> Vec<(String, Vec<u8>)> {
    retained_by(&on(&disk.after(Crash::Nothing)))
}

fn retained_by(broker: &Broker) -> Vec<(String, Vec<u8>)> {
    let mut reader = broker.client("a reader of all").connect();
    reader.send_subscribe(&[("#", SubscribeOptions::new(QoS::AtMostOnce))], None);
    reader.next_of(PacketKind::SubAck);
    let mut found = Vec::new();
    while let Some(packet) = reader.try_next() {
        let publish = packet.publish();
        assert!(publish.retain);
        found.push((publish.topic.to_owned(), publish.payload.to_vec()));
    }
    found.sort();
    found
}

fn pair(topic: &str, payload: &[u8]) -> (String, Vec<u8>) {
    (topic.to_owned(), payload.to_vec())
}

/// Nothing fits on the disk any more.
fn fill(disk: &SimulatedDisk) {
    disk.set_faults(vec![Fault { first: disk.steps(), steps: u64::MAX / 2, kind: FaultKind::NoRoom }]);
}

fn acknowledgement(qos: QoS) -> PacketKind {
    if qos == QoS::AtLeastOnce { PacketKind::PubAck } else { PacketKind::PubRec }
}

#[test]
fn a_retained_message_that_is_acknowledged_survives_a_power_cut() {
    for (qos, version) in ACKNOWLEDGED.into_iter().flat_map(|qos| VERSIONS.map(|version| (qos, version))) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut client = broker.client("publisher").version(version).connect();
        broker.halt_store(true);
        client.send_publish("room/1", qos, true, b"21");
        client.expect_nothing();
        assert_eq!(retained_after(&disk), [], "what is not acknowledged was not promised");
        broker.halt_store(false);
        assert!(!client.next_of(acknowledgement(qos)).ack().reason.is_error());
        assert_eq!(retained_after(&disk), [pair("room/1", b"21")]);
    }
}

#[test]
fn a_retained_message_that_is_cleared_stays_cleared() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut client = broker.client("publisher").connect();
        client.publish_retained("stays", qos, b"1");
        client.publish_retained("goes", qos, b"1");
        broker.halt_store(true);
        client.send_publish("goes", qos, true, b"");
        client.expect_nothing();
        broker.halt_store(false);
        client.next_of(acknowledgement(qos));
        assert_eq!(retained_after(&disk), [pair("stays", b"1")]);
    }
}

#[test]
fn a_retained_message_with_qos_0_is_durable_within_a_second() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = broker.client("publisher").connect();
    client.publish_retained("a", QoS::AtMostOnce, b"1");
    client.publish_retained("b", QoS::AtMostOnce, b"2");
    broker.advance(Duration::from_secs(1));
    assert_eq!(retained_after(&disk), [pair("a", b"1"), pair("b", b"2")]);
    client.publish_retained("a", QoS::AtMostOnce, b"");
    broker.advance(Duration::from_secs(1));
    assert_eq!(retained_after(&disk), [pair("b", b"2")]);
}

#[test]
fn a_turn_of_a_shard_is_one_batch_and_what_is_not_retained_is_none() {
    let disk = SimulatedDisk::new();
    let broker = Broker::new().on_disk(&disk);
    let mut client = broker.client("publisher").connect();
    for number in 0..50 {
        client.send_publish(&format!("t/{number}"), QoS::AtLeastOnce, true, b"x");
    }
    broker.step();
    assert_eq!((broker.counter(Metric::StoreBatches), broker.counter(Metric::StoreChanges)), (1, 50));
    assert_eq!(std::iter::from_fn(|| client.try_next()).count(), 50);
    for qos in ALL_QOS {
        client.publish("t/0", qos, b"live");
    }
    assert_eq!(broker.counter(Metric::StoreBatches), 1);
    assert_eq!(retained_after(&disk).len(), 50);
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_publishes() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = broker.client("publisher").connect();
    broker.halt_store(true);
    let ids = [
        client.send_publish("a", QoS::AtLeastOnce, false, b"1"),
        client.send_publish("b", QoS::AtLeastOnce, true, b"1"),
        client.send_publish("c", QoS::AtLeastOnce, false, b"1"),
        client.send_publish("d", QoS::ExactlyOnce, true, b"1"),
        client.send_publish("e", QoS::ExactlyOnce, false, b"1"),
    ];
    assert_eq!(client.next_packet().ack().packet_id, ids[0], "nothing stands in front of it");
    client.expect_nothing();
    client.ping();
    broker.halt_store(false);
    let rest: Vec<u16> = std::iter::from_fn(|| client.try_next()).map(|packet| packet.ack().packet_id).collect();
    assert_eq!(rest, ids[1..]);
}

#[test]
fn reading_goes_on_up_to_receive_maximum() {
    let disk = SimulatedDisk::new();
    let broker = Broker::with(|options, _| options.limits.receive_maximum = 4).on_disk(&disk);
    let mut client = broker.client("publisher").connect();
    let mut reader = broker.client("reader").connect();
    reader.subscribe("#", QoS::AtMostOnce);
    broker.halt_store(true);
    for number in 0..4 {
        client.send_publish(&format!("t/{number}"), QoS::AtLeastOnce, true, b"x");
    }
    client.ping();
    assert_eq!(reader.payloads().len(), 4, "subscribers don't wait for the disk");
    client.send_publish("t/5", QoS::AtLeastOnce, true, b"x");
    client.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn a_3_x_client_that_was_told_of_no_bound_is_not_read_from_beyond_it() {
    let disk = SimulatedDisk::new();
    let broker = Broker::with(|options, _| options.limits.awaiting_release_max = 4).on_disk(&disk);
    let mut client = broker.client("publisher").v311().connect();
    broker.halt_store(true);
    let ids: Vec<u16> =
        (0..20).map(|number| client.send_publish(&format!("t/{number}"), QoS::AtLeastOnce, true, b"x")).collect();
    client.expect_nothing();
    broker.halt_store(false);
    let acknowledged: Vec<u16> = std::iter::from_fn(|| client.try_next()).map(|ack| ack.ack().packet_id).collect();
    assert_eq!(acknowledged, ids);
    assert_eq!(retained_after(&disk).len(), 20);
}

#[test]
fn a_full_disk_refuses_retained_messages_and_nothing_else() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut client = broker.client("publisher").connect();
        let mut old = broker.client("of 3.1.1").v311().persistent().connect();
        client.publish_retained("t", qos, b"kept");
        fill(&disk);
        assert_eq!(client.publish_retained("t", qos, b"lost"), ReasonCode::QuotaExceeded);
        assert_eq!(client.publish_retained("t", QoS::AtMostOnce, b"lost too"), ReasonCode::Success);
        broker.advance(Duration::from_secs(1));
        assert_eq!(client.publish("t", qos, b"live"), ReasonCode::NoMatchingSubscribers);
        client.ping();
        old.send_publish("old", qos, true, b"1");
        assert!(old.is_closed(), "there is no code to say it with");
        assert_eq!(old.receive(), [], "least of all an acknowledgement");
        // One each; the packet identifier of QoS 2 of a session that lasts is another one.
        assert_eq!(broker.counter(Metric::StoreUnstored), 3 + u64::from(qos == QoS::ExactlyOnce));
        // Room again: the client goes on as if nothing had been, and publishes what was not acknowledged under the same
        // identifier.
        disk.set_faults(Vec::new());
        broker.advance(Duration::from_secs(2));
        assert!(!client.publish_retained("t", qos, b"new").is_error());
        let mut again = broker.client("of 3.1.1").v311().resume().connect();
        again.send_out(&out_publish("old", qos, true, 1, b"1"));
        assert_eq!(again.next_of(acknowledgement(qos)).ack().packet_id, 1);
        assert_eq!(retained_after(&disk), [pair("old", b"1"), pair("t", b"new")]);
    }
}

#[test]
fn an_answer_that_comes_after_the_connection_has_ended_is_for_nobody() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut client = broker.client("publisher").v311().persistent().connect();
        broker.halt_store(true);
        client.send_publish("t", qos, true, b"1");
        broker.step();
        client.reset();
        broker.step();
        let mut again = broker.client("publisher").v311().resume().start();
        again.send_out(&out_publish("other", QoS::AtLeastOnce, true, 7, b"2"));
        again.expect_nothing();
        broker.halt_store(false);
        again.next_of(PacketKind::ConnAck);
        assert_eq!(again.next_packet().ack().packet_id, 7);
        again.expect_nothing();
        // The publish that was not acknowledged comes once more.
        let mut bytes = Vec::new();
        breakwater_proto::OutPublish { dup: true, ..out_publish("t", qos, true, 1, b"1") }
            .encode(Version::V311, &mut bytes);
        again.send(&bytes);
        assert_eq!(again.next_of(acknowledgement(qos)).ack().packet_id, 1);
        if qos == QoS::ExactlyOnce {
            bytes.clear();
            encode_pubrel(Version::V311, 1, ReasonCode::Success, &mut bytes);
            again.send(&bytes);
            again.next_of(PacketKind::PubComp);
        }
    }
}

#[test]
fn a_store_that_never_answers_is_given_up() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = broker.client("publisher").connect();
    broker.halt_store(true);
    client.send_publish("t", QoS::AtLeastOnce, true, b"1");
    broker.advance(Duration::from_secs(20));
    client.expect_nothing();
    broker.advance(Duration::from_secs(12));
    assert_eq!(client.next_packet().ack().reason, ReasonCode::QuotaExceeded);
    broker.halt_store(false);
    client.expect_nothing();
    client.ping();
}

#[test]
fn a_retained_will_is_durable_and_so_is_what_a_stop_publishes() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut gone = broker.client("gone").will("wills/gone", b"gone", QoS::AtLeastOnce, true).connect();
    let _stopped = broker.client("stopped").will("wills/stopped", b"stopped", QoS::AtMostOnce, true).connect();
    gone.reset();
    broker.step();
    assert_eq!(retained_after(&disk), [pair("wills/gone", b"gone")]);
    broker.shutdown();
    broker.step();
    assert_eq!(retained_after(&disk), [pair("wills/gone", b"gone"), pair("wills/stopped", b"stopped")]);
}

#[test]
fn expiry_goes_on_while_the_broker_is_down() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = broker.client("publisher").connect();
    let mut send = |topic: &str, seconds: u32| {
        let id = client.next_id();
        let publish = out_publish(topic, QoS::AtLeastOnce, true, id, b"1");
        client.send_out(&breakwater_proto::OutPublish { expiry: Some(seconds), ..publish });
        client.next_of(PacketKind::PubAck);
    };
    send("minute", 60);
    send("hour", 3600);
    let left = disk.after(Crash::Nothing);
    let later = Broker::new().shards(3).later(Duration::from_secs(600)).on_disk(&left);
    let mut reader = later.client("reader").connect();
    reader.send_subscribe(&[("#", SubscribeOptions::new(QoS::AtMostOnce))], None);
    reader.next_of(PacketKind::SubAck);
    let packet = reader.next_packet();
    assert_eq!((packet.publish().topic, packet.publish().expiry), ("hour", Some(3000)));
    reader.expect_nothing();
    // What expires while the broker runs, and what had expired at its start, goes from the store too.
    later.advance(Duration::from_secs(3100));
    let much_later = Broker::new().later(Duration::from_secs(601)).on_disk(&left.after(Crash::Nothing));
    assert_eq!(retained_by(&much_later), []);
}

#[test]
fn what_is_set_after_a_restart_outlasts_what_was_cleared_before_it() {
    let mut disk = SimulatedDisk::new();
    for life in 0..4_u8 {
        let broker = on(&disk);
        let mut client = broker.client("publisher").connect();
        for _ in 0..3 {
            client.publish_retained("t", QoS::AtLeastOnce, b"old");
            client.publish_retained("t", QoS::AtLeastOnce, b"");
        }
        if life % 2 == 1 {
            client.publish_retained("t", QoS::AtLeastOnce, &[life]);
        }
        disk = disk.after(Crash::Nothing);
        let expected = if life % 2 == 1 { vec![pair("t", &[life])] } else { Vec::new() };
        assert_eq!(retained_after(&disk), expected);
    }
}

#[test]
fn topics_below_a_mountpoint_come_back_below_it() {
    let mounted = |disk: &SimulatedDisk| {
        Broker::new().shards(2).profile(1, |profile| profile.mountpoint = "tenant/".into()).on_disk(disk)
    };
    let disk = SimulatedDisk::new();
    let broker = mounted(&disk);
    let mut client: Client = broker.client("publisher").on(1).connect();
    client.publish_retained("t", QoS::AtLeastOnce, b"1");
    let again = mounted(&disk.after(Crash::Nothing));
    let mut reader = again.client("reader").on(1).connect();
    reader.subscribe("#", QoS::AtMostOnce);
    assert_eq!(reader.next_packet().publish().topic, "t");
    assert_eq!(retained_by(&again), [pair("tenant/t", b"1")]);
}

#[test]
fn limits_on_retained_messages_hold_at_a_start_too() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut client = broker.client("publisher").connect();
    for number in 0..10 {
        client.publish_retained(&format!("t/{number}"), QoS::AtLeastOnce, b"x");
    }
    let narrow = Broker::with(|_, router| router.retained.count_max = 3).on_disk(&disk.after(Crash::Nothing));
    assert_eq!(retained_by(&narrow).len(), 3);
    let mut client = narrow.client("publisher").connect();
    assert_eq!(client.publish_retained("t/new", QoS::AtLeastOnce, b"x"), ReasonCode::Success);
    assert_eq!(narrow.counter(Metric::RetainedRefused), 1);
}

#[test]
fn without_a_disk_nothing_is_submitted() {
    let broker = Broker::new();
    let mut client = broker.client("publisher").connect();
    assert_eq!(client.publish_retained("t", QoS::AtLeastOnce, b"1"), ReasonCode::NoMatchingSubscribers);
    broker.advance(Duration::from_secs(2));
    assert_eq!(broker.counter(Metric::StoreBatches), 0);
}
