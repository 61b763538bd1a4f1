//! Sections 4.5 and 4.6: who gets a message, and in which order.

use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::Broker;

use crate::pair::{ACKNOWLEDGED, QOS, SHARDS, pairs, pairs_with};
use crate::wire;

/// [MQTT-4.5.0-1] [MQTT3-4.5.0-1]
#[test]
fn message_goes_into_every_session_with_a_matching_subscription() {
    for version in Version::ALL {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut publisher = broker.client("p").version(version).connect();
            let filters = ["a/b", "a/+", "a/#", "#", "+/b", "a/c", "b/#", "$share/g/a/b", "a"];
            let mut readers = Vec::new();
            for (number, filter) in filters.iter().enumerate() {
                for away in [false, true] {
                    let id = format!("{number}{away}");
                    let mut reader = broker.client(&id).version(version).persistent().connect();
                    // The group has one member.
                    if !(away && filter.starts_with('$')) {
                        reader.subscribe(filter, QoS::ExactlyOnce);
                    }
                    if away {
                        reader.reset();
                    }
                    readers.push((id, *filter, away, reader));
                }
            }
            broker.step();
            for qos in ACKNOWLEDGED {
                publisher.publish("a/b", qos, &[qos.as_u8()]);
            }
            for (id, filter, away, mut reader) in readers {
                if away {
                    reader = broker.client(&id).version(version).persistent().connect();
                }
                let plain = filter.trim_start_matches("$share/g/");
                let expected = breakwater_proto::matches(plain, "a/b") && !(away && filter.starts_with('$'));
                let expected: &[[u8; 1]] = if expected { &[[1], [2]] } else { &[] };
                assert_eq!(reader.payloads(), expected, "{filter} {away}");
            }
        }
    }
}

/// What is not acknowledged keeps its place; the rest waits, and the bounds of the queue apply: [MQTT-4.5.0-2]
/// [MQTT3-4.5.0-2]
#[test]
fn client_that_acknowledges_nothing_fills_its_window_and_then_its_queue() {
    for mut pair in pairs_with(|options| {
        options.limits.inflight_max = 4;
        options.limits.queue_messages_max = 3;
    }) {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        for number in 0..20_u8 {
            pair.publisher.publish("t", QoS::AtLeastOnce, &[number]);
        }
        let window: Vec<_> = std::iter::from_fn(|| pair.reader.try_next()).collect();
        assert_eq!(window.len(), 4);
        for (number, message) in (0..).zip(window) {
            assert_eq!(message.publish().payload, [number]);
            let id = message.publish().packet_id;
            pair.reader.send_packet(&Packet::PubAck(Ack::new(id, ReasonCode::Success)));
        }
        assert_eq!(pair.reader.payloads(), [[17], [18], [19]], "the oldest gave way");
    }
}

/// What a client gets that resends in another order: [MQTT-4.6.0-1]
#[test]
fn messages_are_forwarded_in_the_order_of_their_arrival() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        for id in [5, 3, 9, 1] {
            pair.publisher.send(&wire::publish(pair.version, 0x3A, b"t", id, &[id as u8]));
        }
        assert_eq!(pair.reader.payloads(), [[5], [3], [9], [1]]);
    }
}

/// [MQTT3-4.6.0-1]
#[test]
fn publishes_are_sent_again_in_their_original_order() {
    for qos in ACKNOWLEDGED {
        for mut pair in pairs() {
            pair.reader.subscribe("t", qos);
            for number in 0..10_u8 {
                pair.publisher.publish("t", qos, &[number]);
            }
            for _ in 0..2 {
                let seen: Vec<u8> = (0..10).map(|_| pair.reader.next_packet().publish().payload[0]).collect();
                assert_eq!(seen, (0..10).collect::<Vec<_>>());
                pair.cut();
                pair.come_back();
            }
        }
    }
}

/// [MQTT3-4.6.0-2] [MQTT3-4.6.0-3] [MQTT3-4.6.0-4]
#[test]
fn answers_leave_in_the_order_of_what_they_answer() {
    for mut pair in pairs() {
        // The broker as receiver: PUBACK and PUBREC.
        let ids = [109_u16, 102, 140, 107, 101];
        for (index, id) in ids.iter().enumerate() {
            let first = if index % 2 == 0 { 0x34 } else { 0x32 };
            pair.publisher.send(&wire::publish(pair.version, first, b"none", *id, b"m"));
        }
        for id in ids {
            assert_eq!(pair.publisher.next_packet().ack().packet_id, id);
        }
        // As sender: PUBREL in the order of the PUBRECs.
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        for number in 0..5_u8 {
            pair.publisher.publish("t", QoS::ExactlyOnce, &[number]);
        }
        let mut ids: Vec<u16> = (0..5).map(|_| pair.reader.next_packet().publish().packet_id).collect();
        ids.rotate_left(2);
        for id in &ids {
            pair.reader.send_packet(&Packet::PubRec(Ack::new(*id, ReasonCode::Success)));
        }
        for id in &ids {
            let release = pair.reader.next_packet();
            assert_eq!((release.kind(), release.ack().packet_id), (PacketKind::PubRel, *id));
        }
    }
}

/// Acknowledgements in another order than the deliveries are matched by identifier: [MQTT-4.6.0-2] [MQTT-4.6.0-3]
/// [MQTT-4.6.0-4]
#[test]
fn acknowledgements_are_matched_by_identifier_in_any_order() {
    for mut pair in pairs() {
        pair.reader.subscribe("#", QoS::ExactlyOnce);
        for number in 0..6_u8 {
            pair.publisher.publish("t", ACKNOWLEDGED[usize::from(number % 2)], &[number]);
        }
        let mut open: Vec<(u16, QoS)> = (0..6)
            .map(|_| {
                let message = pair.reader.next_packet();
                (message.publish().packet_id, message.publish().qos)
            })
            .collect();
        open.reverse();
        for (id, qos) in &open {
            let ack = Ack::new(*id, ReasonCode::Success);
            let packet = if *qos == QoS::AtLeastOnce { Packet::PubAck(ack) } else { Packet::PubRec(ack) };
            pair.reader.send_packet(&packet);
        }
        open.sort_unstable();
        for (id, _) in open.iter().filter(|(_, qos)| *qos == QoS::ExactlyOnce) {
            pair.reader.next_of(PacketKind::PubRel);
            pair.reader.send_packet(&Packet::PubComp(Ack::new(*id, ReasonCode::Success)));
        }
        pair.broker.step();
        pair.cut();
        pair.come_back();
        pair.reader.expect_nothing();
        // Releases of the client's own publishes too.
        for id in 1..=3 {
            pair.publisher.send(&wire::publish(pair.version, 0x34, b"none", id, b"m"));
            pair.publisher.next_of(PacketKind::PubRec);
        }
        for id in [3, 1, 2] {
            pair.publisher.send(&[0x62, 2, 0, id]);
            assert_eq!(pair.publisher.receive(), [0x70, 2, 0, id]);
        }
    }
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT3-4.6.0-5] [MQTT3-4.6.0-6]
#[test]
fn messages_of_one_topic_and_qos_from_one_client_keep_their_order() {
    for qos in QOS {
        for mut pair in pairs_with(|options| {
            options.limits.inflight_max = 3;
            options.turn.read_bytes = 512;
        }) {
            pair.reader.subscribe("t/#", QoS::ExactlyOnce);
            for number in 0..100_u16 {
                let topic = format!("t/{}", number % 3);
                pair.publisher.send_publish(&topic, qos, false, &number.to_be_bytes());
            }
            let mut got: [Vec<u16>; 3] = Default::default();
            while let Some(message) = pair.reader.try_next() {
                let publish = message.publish();
                let number = u16::from_be_bytes([publish.payload[0], publish.payload[1]]);
                got[usize::from(number % 3)].push(number);
                let ack = Ack::new(publish.packet_id, ReasonCode::Success);
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => pair.reader.send_packet(&Packet::PubAck(ack)),
                    QoS::ExactlyOnce => {
                        pair.reader.send_packet(&Packet::PubRec(ack));
                        pair.reader.next_of(PacketKind::PubRel);
                        pair.reader.send_packet(&Packet::PubComp(ack));
                    }
                }
            }
            for (rest, numbers) in (0..).zip(got) {
                let expected: Vec<u16> = (0..100).filter(|number| number % 3 == rest).collect();
                assert_eq!(numbers, expected);
            }
        }
    }
}

/// [MQTT-4.6.0-5] [MQTT3-4.6.0-6]
#[test]
fn order_holds_between_queue_and_live_messages_over_a_reconnect() {
    for qos in ACKNOWLEDGED {
        for mut pair in pairs() {
            pair.reader.subscribe("t", qos);
            let mut sent = 0..u8::MAX;
            let mut got = Vec::new();
            for _ in 0..4 {
                for number in sent.by_ref().take(5) {
                    pair.publisher.publish("t", qos, &[number]);
                }
                got.extend(pair.reader.payloads().into_iter().flatten());
                pair.cut();
                for number in sent.by_ref().take(40) {
                    pair.publisher.publish("t", qos, &[number]);
                }
                pair.come_back();
            }
            got.extend(pair.reader.payloads().into_iter().flatten());
            assert_eq!(got, (0..180).collect::<Vec<_>>());
        }
    }
}
