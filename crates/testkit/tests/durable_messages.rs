//! Messages that wait for sessions which outlive their connection: a row of the tables in docs/store.md each, over a simulated disk
//! that loses what was not synced.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Ack, OutPublish, Packet, PacketKind, QoS, ReasonCode, SubscribeOptions, Version};
use breakwater_shard::ShardId;
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Client, out_publish};

const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const SECOND: Duration = Duration::from_secs(1);

fn on(disk: &SimulatedDisk) -> Broker {
    Broker::new().shards(2).on_disk(disk)
}

/// The broker after a power cut.
fn after(disk: &SimulatedDisk) -> Broker {
    Broker::new().shards(2).on_disk(&disk.after(Crash::Nothing))
}

/// Nothing fits on the disk any more.
fn fill(disk: &SimulatedDisk) {
    disk.set_faults(vec![Fault { first: disk.steps(), steps: u64::MAX / 2, kind: FaultKind::NoRoom }]);
}

fn acknowledgement(qos: QoS) -> PacketKind {
    if qos == QoS::AtLeastOnce { PacketKind::PubAck } else { PacketKind::PubRec }
}

/// A client whose session lasts, subscribed.
fn lasting(broker: &Broker, id: &str, filter: &str, qos: QoS) -> Client {
    let mut client = broker.client(id).persistent().connect();
    client.subscribe(filter, qos);
    client
}

/// A client whose session lasts, subscribed and gone.
fn absent(broker: &Broker, id: &str, filter: &str, qos: QoS) {
    lasting(broker, id, filter, qos).disconnect();
}

/// What a client finds that comes back; all acknowledged.
fn found(broker: &Broker, id: &str) -> Vec<Vec<u8>> {
    broker.client(id).persistent().connect().payloads()
}

fn answer(client: &mut Client, packet: &Packet<'_>) {
    client.send_packet(packet);
}

fn ok(packet_id: u16) -> Ack<'static> {
    Ack::new(packet_id, ReasonCode::Success)
}

/// Publisher and subscriber on one shard, and on two.
const HOMES: [ShardId; 2] = [0, 1];

// PUBACK, PUBREC of a message that a session which outlives its connection wants.

#[test]
fn puback_and_pubrec_wait_until_the_queue_of_a_lasting_session_has_the_message() {
    for (version, qos) in VERSIONS.into_iter().flat_map(|version| ACKNOWLEDGED.map(|qos| (version, qos))) {
        for (home, is_there) in HOMES.into_iter().flat_map(|home| [(home, false), (home, true)]) {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let id = broker.id_at(home, "listener");
            let mut listener = lasting(&broker, &id, "t", QoS::ExactlyOnce);
            if !is_there {
                listener.disconnect();
            }
            let mut publisher = broker.client(&broker.id_at(0, "publisher")).version(version).connect();
            broker.halt_store(true);
            publisher.send_publish("t", qos, false, b"m");
            publisher.expect_nothing();
            assert!(found(&after(&disk), &id).is_empty(), "what is not acknowledged was not promised");
            broker.halt_store(false);
            assert!(!publisher.next_of(acknowledgement(qos)).ack().reason.is_error());
            assert_eq!(found(&after(&disk), &id), [b"m"], "{version:?} {qos:?} at {home}, there: {is_there}");
        }
    }
}

#[test]
fn an_acknowledgement_waits_for_the_queues_of_all_shards() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = Broker::new().shards(3).on_disk(&disk);
        let ids = [0, 1, 2].map(|shard| broker.id_at(shard, "listener"));
        ids.iter().for_each(|id| absent(&broker, id, "t", QoS::ExactlyOnce));
        let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
        broker.halt_store(true);
        publisher.send_publish("t", qos, false, b"m");
        publisher.expect_nothing();
        broker.halt_store(false);
        publisher.next_of(acknowledgement(qos));
        let again = after(&disk);
        ids.iter().for_each(|id| assert_eq!(found(&again, id), [b"m"]));
    }
}

#[test]
fn an_acknowledgement_waits_for_a_lasting_member_of_a_shared_group() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        for is_there in [true, false] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let id = broker.id_at(home, "member");
            let mut member = lasting(&broker, &id, "$share/g/t", QoS::ExactlyOnce);
            if !is_there {
                member.disconnect();
            }
            let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
            broker.halt_store(true);
            publisher.send_publish("t", qos, false, b"m");
            publisher.expect_nothing();
            broker.halt_store(false);
            publisher.next_of(acknowledgement(qos));
            let again = after(&disk);
            let mut got = found(&again, &id);
            // While nobody is there it waits for the group, and that is looked for once a second.
            again.advance(Duration::from_millis(1500));
            got.extend(found(&again, &id));
            assert_eq!(got, [b"m"]);
        }
    }
}

#[test]
fn an_acknowledgement_waits_for_all_of_a_large_fan_out() {
    for (qos, keeps) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let ids: Vec<String> = (0..2500).map(|number| format!("listener-{number}")).collect();
        ids.iter().for_each(|id| absent(&broker, id, "t", QoS::ExactlyOnce));
        let publisher = broker.client("publisher");
        let mut publisher = if keeps { publisher.persistent() } else { publisher }.connect();
        broker.halt_store(true);
        publisher.send_publish("t", qos, false, b"m");
        publisher.expect_nothing();
        broker.halt_store(false);
        publisher.next_of(acknowledgement(qos));
        let again = after(&disk);
        ids.iter().for_each(|id| assert_eq!(found(&again, id), [b"m"]));
    }
}

#[test]
fn an_acknowledgement_waits_for_a_retained_message_that_goes_to_a_lasting_session() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let id = broker.id_at(home, "listener");
        absent(&broker, &id, "t", QoS::ExactlyOnce);
        let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
        broker.halt_store(true);
        publisher.send_publish("t", qos, true, b"m");
        publisher.expect_nothing();
        broker.halt_store(false);
        publisher.next_of(acknowledgement(qos));
        let again = after(&disk);
        assert_eq!((found(&again, &id), again.router().counts().retained), (vec![b"m".to_vec()], 1));
    }
}

#[test]
fn a_retained_message_that_a_lasting_session_was_to_be_sent_comes_after_a_power_cut() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        broker.client("publisher").connect().publish_retained("t", qos, b"kept");
        let mut listener = broker.client("listener").persistent().connect();
        listener.subscribe("t", qos);
        let received = listener.next_packet();
        assert!(received.publish().retain);
        // It is not retained any longer, so that it can only be what was owed.
        broker.client("publisher").connect().publish_retained("t", qos, b"");
        listener.disconnect();
        broker.advance(SECOND);
        let again = after(&disk);
        assert_eq!(again.router().counts().retained, 0);
        let mut listener = again.client("listener").persistent().connect();
        let received = listener.message();
        let publish = received.publish();
        assert_eq!((publish.payload, publish.retain, publish.qos), (&b"kept"[..], true, qos));
    }
}

#[test]
fn subscribers_with_qos_1_do_not_wait_for_the_disk() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut listener = lasting(&broker, &broker.id_at(home, "listener"), "t", QoS::AtLeastOnce);
        let mut passing = broker.client(&broker.id_at(home, "passing")).connect();
        passing.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
        broker.halt_store(true);
        publisher.send_publish("t", qos, false, b"m");
        publisher.expect_nothing();
        assert_eq!(listener.message().publish().payload, b"m");
        assert_eq!(passing.message().publish().payload, b"m");
        publisher.expect_nothing();
        broker.halt_store(false);
        publisher.next_of(acknowledgement(qos));
    }
}

// A QoS 2 PUBLISH of a session that outlives its connection.

#[test]
fn a_qos_2_publish_of_a_lasting_session_reaches_nobody_before_it_is_stored() {
    for (version, home) in VERSIONS.into_iter().flat_map(|version| HOMES.map(|home| (version, home))) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let kept = broker.id_at(home, "kept");
        let mut stays = lasting(&broker, &kept, "t", QoS::ExactlyOnce);
        let mut passing = broker.client(&broker.id_at(home, "passing")).connect();
        passing.subscribe("t", QoS::AtMostOnce);
        let id = broker.id_at(0, "publisher");
        let mut publisher = broker.client(&id).version(version).persistent().connect();
        broker.halt_store(true);
        let packet_id = publisher.send_publish("t", QoS::ExactlyOnce, false, b"m");
        publisher.expect_nothing();
        stays.expect_nothing();
        passing.expect_nothing();
        broker.halt_store(false);
        assert_eq!(publisher.next_of(PacketKind::PubRec).ack().packet_id, packet_id);
        assert_eq!(stays.next_of(PacketKind::Publish).publish().payload, b"m");
        assert_eq!(passing.next_of(PacketKind::Publish).publish().payload, b"m");
        // After a power cut the same publish is known: it is answered and goes to nobody once more.
        let again = after(&disk);
        let mut publisher = again.client(&id).version(version).persistent().connect();
        publisher.send_out(&OutPublish { dup: true, ..out_publish("t", QoS::ExactlyOnce, false, packet_id, b"m") });
        assert_eq!(publisher.next_of(PacketKind::PubRec).ack().packet_id, packet_id);
        assert_eq!(found(&again, &kept), [b"m"]);
        answer(&mut publisher, &Packet::PubRel(ok(packet_id)));
        publisher.next_of(PacketKind::PubComp);
    }
}

#[test]
fn pubcomp_to_a_lasting_session_waits_until_the_identifier_is_free() {
    for version in VERSIONS {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        absent(&broker, "listener", "t", QoS::ExactlyOnce);
        let mut publisher = broker.client("publisher").version(version).persistent().connect();
        let packet_id = publisher.send_publish("t", QoS::ExactlyOnce, false, b"1");
        publisher.next_of(PacketKind::PubRec);
        broker.halt_store(true);
        answer(&mut publisher, &Packet::PubRel(ok(packet_id)));
        publisher.expect_nothing();
        broker.halt_store(false);
        publisher.next_of(PacketKind::PubComp);
        // Under the same identifier after a power cut it is another message.
        let again = after(&disk);
        let mut publisher = again.client("publisher").version(version).persistent().connect();
        publisher.send_out(&out_publish("t", QoS::ExactlyOnce, false, packet_id, b"2"));
        publisher.next_of(PacketKind::PubRec);
        assert_eq!(found(&again, "listener"), [b"1", b"2"]);
    }
}

// Deliveries of QoS 2 to a session that outlives its connection.

#[test]
fn publish_and_pubrel_with_qos_2_to_a_lasting_session_wait_for_the_store() {
    for home in HOMES {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let id = broker.id_at(home, "listener");
        let mut listener = lasting(&broker, &id, "t", QoS::ExactlyOnce);
        let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
        broker.halt_store(true);
        publisher.send_publish("t", QoS::ExactlyOnce, false, b"m");
        listener.expect_nothing();
        broker.halt_store(false);
        let packet_id = listener.next_of(PacketKind::Publish).publish().packet_id;
        // The identifier is in the store with the message.
        let again = after(&disk);
        let mut back = again.client(&id).persistent().connect();
        let sent_again = back.next_packet();
        assert_eq!((sent_again.publish().packet_id, sent_again.publish().dup), (packet_id, true));

        broker.halt_store(true);
        answer(&mut listener, &Packet::PubRec(ok(packet_id)));
        listener.expect_nothing();
        broker.halt_store(false);
        assert_eq!(listener.next_of(PacketKind::PubRel).ack().packet_id, packet_id);
        // From here on the message does not come again, but PUBREL does.
        let again = after(&disk);
        let mut back = again.client(&id).persistent().connect();
        let released = back.next_packet();
        assert_eq!((released.kind(), released.ack().packet_id), (PacketKind::PubRel, packet_id));
        back.expect_nothing();
    }
}

#[test]
fn acknowledgements_of_a_subscriber_wait_for_nothing_and_are_stored_within_a_second() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut listener = broker.client("listener").persistent().receive_maximum(1).connect();
        listener.subscribe("t", qos);
        let mut publisher = broker.client("publisher").connect();
        for payload in [b"1", b"2"] {
            publisher.publish("t", qos, payload);
        }
        let first = listener.next_of(PacketKind::Publish).publish().packet_id;
        if qos == QoS::ExactlyOnce {
            answer(&mut listener, &Packet::PubRec(ok(first)));
            listener.next_of(PacketKind::PubRel);
        } else {
            broker.halt_store(true);
        }
        let done = if qos == QoS::ExactlyOnce { Packet::PubComp(ok(first)) } else { Packet::PubAck(ok(first)) };
        answer(&mut listener, &done);
        assert_eq!(listener.next_of(PacketKind::Publish).publish().payload, b"2");
        broker.halt_store(false);
        broker.advance(SECOND);
        assert_eq!(found(&after(&disk), "listener"), [b"2"]);
    }
}

// What comes back, and how.

#[test]
fn a_queue_comes_back_in_order_and_as_it_was_to_go_out() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut listener = broker.client("listener").persistent().connect();
    let as_published = |qos: QoS| SubscribeOptions { retain_as_published: true, ..SubscribeOptions::new(qos) };
    listener.subscribe_with(&[("a/+", as_published(QoS::ExactlyOnce))], Some(7));
    listener.subscribe_with(&[("a/1", as_published(QoS::AtLeastOnce))], Some(9));
    listener.subscribe_with(&[("b", SubscribeOptions::new(QoS::AtLeastOnce))], None);
    listener.disconnect();
    let mut publisher = broker.client("publisher").connect();
    let sent = [("a/1", QoS::ExactlyOnce, true), ("b", QoS::ExactlyOnce, true), ("a/2", QoS::AtLeastOnce, false)];
    for (round, (topic, qos, retain)) in (0..8_u8).flat_map(|round| sent.map(|sent| (round, sent))) {
        let id = publisher.next_id();
        let payload = [round];
        let publish = OutPublish { expiry: Some(1000), ..out_publish(topic, qos, retain, id, &payload) };
        publisher.send_out(&publish);
        publisher.next_of(acknowledgement(qos));
        if qos == QoS::ExactlyOnce {
            answer(&mut publisher, &Packet::PubRel(ok(id)));
            publisher.next_of(PacketKind::PubComp);
        }
    }
    let again = Broker::new().shards(2).later(SECOND * 100).on_disk(&disk.after(Crash::Nothing));
    let mut listener = again.client("listener").persistent().connect();
    for round in 0..8_u8 {
        for (topic, qos, retain, ids) in [
            ("a/1", QoS::ExactlyOnce, true, vec![7, 9]),
            ("b", QoS::AtLeastOnce, false, vec![]),
            ("a/2", QoS::AtLeastOnce, false, vec![7]),
        ] {
            let received = listener.message();
            let publish = received.publish();
            assert_eq!((publish.topic, publish.payload), (topic, &[round][..]));
            assert_eq!((publish.qos, publish.retain, publish.dup), (qos, retain, false), "{topic}");
            assert_eq!(publish.expiry, Some(900));
            let mut found: Vec<u32> = publish.subscription_identifiers().collect();
            found.sort_unstable();
            assert_eq!(found, ids, "{topic}");
        }
    }
    listener.expect_nothing();
}

#[test]
fn messages_expire_while_the_broker_is_down() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    absent(&broker, "listener", "#", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    for (topic, expiry) in [("minute", 60), ("hour", 3600)] {
        let id = publisher.next_id();
        publisher
            .send_out(&OutPublish { expiry: Some(expiry), ..out_publish(topic, QoS::AtLeastOnce, false, id, b"") });
        publisher.next_of(PacketKind::PubAck);
    }
    let again = Broker::new().later(SECOND * 100).on_disk(&disk.after(Crash::Nothing));
    let mut listener = again.client("listener").persistent().connect();
    assert_eq!(listener.message().publish().topic, "hour");
    listener.expect_nothing();
    assert_eq!(again.counter(Metric::DroppedExpired), 1);
}

#[test]
fn age_goes_on_in_the_store_and_while_the_broker_is_down() {
    for cut in [false, true] {
        let disk = SimulatedDisk::new();
        let aging = || {
            Broker::with(|options, _| {
                options.limits.queue_age_max_s = 60;
                options.limits.queue_memory_messages = 2;
            })
        };
        let broker = aging().on_disk(&disk);
        absent(&broker, "listener", "t", QoS::ExactlyOnce);
        let mut publisher = broker.client("publisher").connect();
        for payload in 0..10_u8 {
            publisher.publish("t", QoS::ExactlyOnce, &[payload]);
            broker.advance(SECOND * 10);
        }
        let mut too_old = 0;
        let broker = if cut {
            let left = disk.after(Crash::Nothing);
            too_old = broker.counter(Metric::DroppedTooOld);
            aging().later(SECOND * 120).on_disk(&left)
        } else {
            broker.advance(SECOND * 20);
            broker
        };
        // The last one came 30 seconds before.
        assert_eq!(found(&broker, "listener"), [[6], [7], [8], [9]], "after a power cut: {cut}");
        assert_eq!(too_old + broker.counter(Metric::DroppedTooOld), 6);
        broker.advance(SECOND * 2);
        assert_eq!(broker.held_bytes(), 0);
        assert!(found(&broker, "listener").is_empty());
    }
}

#[test]
fn dup_stands_only_where_it_may_have_been_sent() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut listener = broker.client("listener").persistent().receive_maximum(3).connect();
    listener.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    for number in 0..5_u8 {
        publisher.publish("t", QoS::AtLeastOnce, &[number]);
    }
    for number in 0..3 {
        assert_eq!(listener.next_packet().publish().payload, [number]);
    }
    listener.expect_nothing();
    listener.disconnect();
    publisher.publish("t", QoS::AtLeastOnce, &[5]);
    broker.advance(SECOND);
    let again = after(&disk);
    let mut listener = again.client("listener").persistent().connect();
    for number in 0..6 {
        let received = listener.message();
        let publish = received.publish();
        assert_eq!((publish.payload, publish.dup), (&[number][..], number < 3));
    }
    listener.expect_nothing();
}

#[test]
fn what_is_acknowledged_is_forgotten_within_a_second() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let ids = HOMES.map(|home| broker.id_at(home, "listener"));
        let mut listeners = HOMES.map(|home| lasting(&broker, &ids[usize::from(home)], "t", qos));
        let mut publisher = broker.client("publisher").connect();
        for number in 0..50_u8 {
            publisher.publish("t", qos, &[number]);
        }
        let expected: Vec<Vec<u8>> = (0..50).map(|number| vec![number]).collect();
        for listener in &mut listeners {
            assert_eq!(listener.payloads(), expected);
        }
        broker.step();
        broker.advance(SECOND);
        let again = after(&disk);
        for id in &ids {
            assert!(found(&again, id).is_empty());
        }
    }
}

#[test]
fn what_is_acknowledged_does_not_come_again_after_a_stop() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let id = broker.id_at(home, "listener");
        let mut listener = lasting(&broker, &id, "t", qos);
        broker.client(&broker.id_at(0, "publisher")).connect().publish("t", qos, b"m");
        assert_eq!(listener.payloads(), [b"m"]);
        // At once: nobody waits until it is stored.
        broker.shutdown();
        broker.step();
        assert_eq!(found(&after(&disk), &id), [[0; 0]; 0], "{qos:?}");
    }
    // Nothing else is left to store.
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut listener = lasting(&broker, "listener", "t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    broker.halt_store(true);
    publisher.send_publish("t", QoS::AtLeastOnce, false, b"m");
    assert_eq!(listener.payloads(), [b"m"]);
    listener.disconnect();
    broker.advance(SECOND);
    broker.halt_store(false);
    broker.step();
    broker.shutdown();
    broker.step();
    assert_eq!(found(&after(&disk), "listener"), [[0; 0]; 0]);
}

#[test]
fn qos_0_that_waits_is_in_memory_only() {
    let disk = SimulatedDisk::new();
    let broker = Broker::with(|options, _| options.limits.queue_qos0 = true).shards(2).on_disk(&disk);
    absent(&broker, "listener", "t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    for (qos, payload) in [(QoS::AtLeastOnce, b"1"), (QoS::AtMostOnce, b"2"), (QoS::AtLeastOnce, b"3")] {
        publisher.publish("t", qos, payload);
    }
    broker.advance(SECOND);
    assert_eq!(found(&after(&disk), "listener"), [b"1", b"3"]);
    assert_eq!(found(&broker, "listener"), [b"1", b"2", b"3"]);
}

#[test]
fn a_will_that_a_lasting_session_wants_and_what_a_stop_publishes_survive() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    HOMES.iter().for_each(|home| absent(&broker, &broker.id_at(*home, "listener"), "will/#", QoS::ExactlyOnce));
    let mut gone = broker.client("gone").will("will/gone", b"gone", QoS::AtLeastOnce, false).connect();
    let _stopped = broker.client("stopped").will("will/stopped", b"stopped", QoS::ExactlyOnce, false).connect();
    gone.reset();
    broker.step();
    let again = after(&disk);
    for home in HOMES {
        assert_eq!(found(&again, &broker.id_at(home, "listener")), [b"gone"]);
    }
    broker.shutdown();
    broker.step();
    let again = after(&disk);
    for home in HOMES {
        assert_eq!(found(&again, &broker.id_at(home, "listener")), [&b"gone"[..], b"stopped"]);
    }
}

#[test]
fn what_comes_twice_to_a_session_comes_twice_after_a_power_cut() {
    // Through a subscription of its own and as the member of a group, one acknowledged [MQTT-4.8.2-4].
    for (qos, keeps) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut listener = broker.client("listener").persistent().receive_maximum(1).connect();
        listener.subscribe("t", qos);
        listener.subscribe("$share/g/t", qos);
        let publisher = broker.client("publisher");
        let mut publisher = if keeps { publisher.persistent() } else { publisher }.connect();
        publisher.publish("t", qos, b"m");
        assert_eq!(listener.message().publish().payload, b"m");
        broker.step();
        broker.advance(SECOND);
        assert_eq!(listener.next_of(PacketKind::Publish).publish().payload, b"m");
        assert_eq!(found(&after(&disk), "listener"), [b"m"], "{qos:?}, the publisher's session lasts: {keeps}");
    }
}

#[test]
fn deliveries_of_one_message_that_are_under_way_to_one_session_go_on_after_a_power_cut() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut listener = lasting(&broker, "listener", "t", QoS::ExactlyOnce);
    listener.subscribe("$share/g/t", QoS::ExactlyOnce);
    let mut publisher = broker.client("publisher").persistent().connect();
    publisher.publish("t", QoS::ExactlyOnce, b"m");
    let under_way = [(); 2].map(|()| listener.next_of(PacketKind::Publish).publish().packet_id);
    let again = after(&disk);
    let mut listener = again.client("listener").persistent().connect();
    for packet_id in under_way {
        let received = listener.message();
        assert_eq!((received.publish().packet_id, received.publish().dup), (packet_id, true));
    }
    let mut publisher = again.client("another").connect();
    publisher.publish("t", QoS::ExactlyOnce, b"next");
    assert_eq!(listener.payloads(), [b"next", b"next"], "nothing stands in its way");
}

// Long queues.

#[test]
fn a_long_queue_is_read_on_as_its_client_acknowledges() {
    for (qos, cut) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        const MESSAGES: u32 = 10_000;
        let long = |disk: &SimulatedDisk| {
            let broker = Broker::with(|options, _| {
                options.limits.queue_messages_max = MESSAGES;
                options.limits.queue_bytes_max = u32::MAX;
                options.limits.queue_memory_messages = 100;
            });
            broker.shards(2).on_disk(disk)
        };
        let disk = SimulatedDisk::new();
        let broker = long(&disk);
        absent(&broker, "listener", "t", qos);
        let mut publisher = broker.client("publisher").connect();
        for hundred in 0..MESSAGES / 100 {
            for number in hundred * 100..(hundred + 1) * 100 {
                let mut payload = number.to_be_bytes().to_vec();
                payload.resize(200, 0);
                publisher.send_publish("t", QoS::AtLeastOnce, false, &payload);
            }
            while publisher.try_next().is_some() {}
        }
        assert!(broker.held_bytes() < 100 * 400, "{}", broker.held_bytes());
        let broker = if cut { long(&disk.after(Crash::Nothing)) } else { broker };
        let mut listener = broker.client("listener").persistent().connect();
        let mut got = Vec::new();
        let mut most = 0;
        while got.len() < MESSAGES as usize {
            most = most.max(broker.held_bytes());
            let before = got.len();
            got.extend(
                listener.payloads().iter().map(|payload| u32::from_be_bytes(*payload.first_chunk().expect("a number"))),
            );
            if got.len() == before {
                broker.advance(SECOND);
                assert!(listener.waiting() > 0, "{before} came, and no more");
            }
        }
        assert_eq!(got, (0..MESSAGES).collect::<Vec<u32>>());
        assert!(most < 1 << 20, "{most}");
        listener.expect_nothing();
        broker.advance(SECOND * 2);
        assert_eq!((broker.held_bytes(), broker.counter(Metric::DroppedQueueFull)), (0, 0));
    }
}

// The disk is full.

#[test]
fn what_a_lasting_session_wants_is_refused_while_the_disk_is_full_and_nothing_else() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let id = broker.id_at(home, "listener");
        absent(&broker, &id, "t", QoS::ExactlyOnce);
        let mut passing = broker.client("passing").connect();
        passing.subscribe("#", QoS::AtMostOnce);
        let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
        let mut old = broker.client(&broker.id_at(0, "old")).v311().connect();
        fill(&disk);
        assert_eq!(publisher.publish("t", qos, b"refused"), ReasonCode::QuotaExceeded);
        assert_eq!(passing.message().publish().payload, b"refused");
        assert_eq!(publisher.publish("live", qos, b"live"), ReasonCode::Success);
        assert_eq!(passing.message().publish().payload, b"live");
        publisher.ping();
        old.send_publish("t", qos, false, b"from 3.1.1");
        assert!(old.is_closed(), "there is no code to say it with");
        assert_eq!(old.receive(), [], "least of all an acknowledgement");
        disk.set_faults(Vec::new());
        broker.advance(SECOND * 2);
        assert_eq!(publisher.publish("t", qos, b"taken"), ReasonCode::Success);
        assert_eq!(found(&after(&disk), &id), [b"taken"]);
    }
}

#[test]
fn a_qos_2_publish_of_a_lasting_session_ends_its_connection_while_the_disk_is_full() {
    for version in VERSIONS {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut passing = broker.client("passing").connect();
        passing.subscribe("#", QoS::AtMostOnce);
        let mut publisher = broker.client("publisher").version(version).persistent().connect();
        fill(&disk);
        let packet_id = publisher.send_publish("t", QoS::ExactlyOnce, false, b"m");
        publisher.expect_disconnect(ReasonCode::QuotaExceeded);
        passing.expect_nothing();
        disk.set_faults(Vec::new());
        broker.advance(SECOND * 2);
        // It comes back and sends it again.
        let mut publisher = broker.client("publisher").version(version).persistent().connect();
        publisher.send_out(&OutPublish { dup: true, ..out_publish("t", QoS::ExactlyOnce, false, packet_id, b"m") });
        assert_eq!(publisher.next_of(PacketKind::PubRec).ack().packet_id, packet_id);
        assert_eq!(passing.message().publish().payload, b"m");
    }
}

// What has nothing to do with the store.

#[test]
fn sessions_that_end_with_their_connection_never_touch_the_store() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut listeners: Vec<Client> = HOMES
        .iter()
        .map(|home| {
            let mut listener = broker.client(&broker.id_at(*home, "listener")).connect();
            listener.subscribe("t", QoS::ExactlyOnce);
            listener
        })
        .collect();
    let mut publisher = broker.client("publisher").will("t", b"will", QoS::ExactlyOnce, false).connect();
    broker.halt_store(true);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(publisher.publish("t", qos, b"m"), ReasonCode::Success);
        listeners.iter_mut().for_each(|listener| assert_eq!(listener.payloads(), [b"m"]));
    }
    publisher.reset();
    listeners.iter_mut().for_each(|listener| assert_eq!(listener.payloads(), [b"will"]));
    broker.advance(SECOND * 2);
    assert_eq!((broker.counter(Metric::StoreBatches), broker.counter(Metric::StoreChanges)), (0, 0));
}
