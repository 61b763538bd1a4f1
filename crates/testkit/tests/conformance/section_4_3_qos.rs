//! Section 4.3: the exchanges of QoS 0, 1 and 2, the broker once as sender, once as receiver.

use std::time::Duration;

use breakwater_proto::{Ack, OutPublish, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::{Client, out_publish};

use crate::pair::{ACKNOWLEDGED, pairs, pairs_v5};
use crate::wire;

fn acknowledge(client: &mut Client, packet: fn(Ack<'static>) -> Packet<'static>, id: u16) {
    client.send_packet(&packet(Ack::new(id, ReasonCode::Success)));
}

/// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3] [MQTT3-4.3.2-1]
#[test]
fn qos_1_sender_uses_a_fresh_identifier_until_puback() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        let mut open = Vec::new();
        for number in 0..5_u8 {
            pair.publisher.publish("t", QoS::ExactlyOnce, &[number]);
            let message = pair.reader.next_packet();
            let publish = message.publish();
            assert_eq!((publish.qos, publish.dup, publish.payload), (QoS::AtLeastOnce, false, &[number][..]));
            assert!(publish.packet_id != 0 && !open.contains(&publish.packet_id));
            open.push(publish.packet_id);
        }
        // Only what has its PUBACK is over.
        acknowledge(&mut pair.reader, Packet::PubAck, open[1]);
        acknowledge(&mut pair.reader, Packet::PubAck, open[3]);
        pair.broker.step();
        pair.cut();
        pair.come_back();
        for number in [0, 2, 4] {
            let message = pair.reader.next_packet();
            assert_eq!(
                (message.publish().payload, message.publish().packet_id),
                (&[number][..], open[number as usize])
            );
        }
        pair.reader.expect_nothing();
    }
}

/// [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT3-4.3.2-2]
#[test]
fn qos_1_receiver_answers_puback_and_takes_the_identifier_as_new() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        for (first, payload) in [(0x32, b"1"), (0x3A, b"2"), (0x32, b"2"), (0x3A, b"2")] {
            pair.publisher.send(&wire::publish(pair.version, first, b"t", 7, payload));
            assert_eq!(pair.publisher.receive(), [0x40, 2, 0, 7]);
            assert_eq!(pair.reader.payloads(), [payload]);
        }
    }
}

/// [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT3-4.3.3-1]
#[test]
fn qos_2_sender_resends_publish_until_pubrec_then_pubrel_until_pubcomp() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        pair.publisher.publish("t", QoS::ExactlyOnce, b"m");
        pair.publisher.publish("t", QoS::ExactlyOnce, b"n");
        let message = pair.reader.next_packet();
        let id = message.publish().packet_id;
        assert_eq!((message.publish().qos, message.publish().dup, id != 0), (QoS::ExactlyOnce, false, true));
        let other = pair.reader.next_packet().publish().packet_id;
        assert_ne!(id, other);
        for _ in 0..2 {
            pair.cut();
            pair.come_back();
            assert_eq!(pair.reader.next_packet().publish().packet_id, id);
            assert_eq!(pair.reader.next_packet().publish().packet_id, other);
        }
        acknowledge(&mut pair.reader, Packet::PubRec, other);
        acknowledge(&mut pair.reader, Packet::PubComp, other);
        let release = pair.reader.next_packet();
        assert_eq!((release.kind(), release.ack().packet_id), (PacketKind::PubRel, other));
        acknowledge(&mut pair.reader, Packet::PubRec, id);
        // Each PUBREC gets its PUBREL, as long as there is no PUBCOMP.
        acknowledge(&mut pair.reader, Packet::PubRec, id);
        for _ in 0..2 {
            let release = pair.reader.next_packet();
            assert_eq!((release.bytes()[0], release.ack().packet_id, release.ack().reason.as_u8()), (0x62, id, 0));
        }
        for _ in 0..2 {
            pair.cut();
            pair.come_back();
            let release = pair.reader.next_packet();
            assert_eq!((release.kind(), release.ack().packet_id), (PacketKind::PubRel, id));
            pair.reader.expect_nothing();
        }
        acknowledge(&mut pair.reader, Packet::PubComp, id);
        pair.broker.step();
        pair.cut();
        pair.come_back();
        pair.reader.expect_nothing();
    }
}

/// [MQTT-4.3.3-7]
#[test]
fn a_delivery_of_qos_2_once_begun_does_not_expire() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        let publish = out_publish("t", QoS::ExactlyOnce, false, 1, b"m");
        pair.publisher.send_out(&OutPublish { expiry: Some(5), ..publish });
        let id = pair.reader.next_packet().publish().packet_id;
        pair.cut();
        pair.broker.advance(Duration::from_secs(60));
        pair.come_back();
        let again = pair.reader.next_packet();
        assert_eq!((again.publish().packet_id, again.publish().payload), (id, &b"m"[..]));
        acknowledge(&mut pair.reader, Packet::PubRec, id);
        assert_eq!(pair.reader.next_packet().kind(), PacketKind::PubRel);
        pair.broker.advance(Duration::from_secs(60));
        acknowledge(&mut pair.reader, Packet::PubComp, id);
        pair.reader.expect_nothing();
    }
}

/// [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT3-4.3.3-2]
#[test]
fn qos_2_receiver_delivers_once_until_pubrel_and_then_takes_the_identifier_as_new() {
    for mut pair in pairs() {
        pair.publisher.subscribe("t", QoS::AtMostOnce);
        let mut sender = pair.broker.client("sender").version(pair.version).persistent().connect();
        for round in 0..3 {
            for first in [0x34, 0x3C, 0x34] {
                sender.send(&wire::publish(pair.version, first, b"t", 0x0107, b"m"));
                assert_eq!(sender.receive(), [0x50, 2, 1, 7]);
            }
            sender.reset();
            pair.broker.step();
            sender = pair.broker.client("sender").version(pair.version).persistent().connect();
            sender.send(&wire::publish(pair.version, 0x3C, b"t", 0x0107, b"m"));
            assert_eq!(sender.receive(), [0x50, 2, 1, 7]);
            assert_eq!(pair.publisher.payloads(), [b"m"], "round {round}");
            sender.send(&[0x62, 2, 1, 7]);
            assert_eq!(sender.receive(), [0x70, 2, 1, 7]);
            // Again, because the answer may have been lost.
            sender.send(&[0x62, 2, 1, 7]);
            assert_eq!(sender.next_packet().kind(), PacketKind::PubComp);
        }
        pair.publisher.expect_nothing();
    }
}

/// [MQTT-4.3.3-9]
#[test]
fn after_a_refusing_pubrec_the_identifier_is_free() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("#", QoS::ExactlyOnce);
        pair.publisher.send(&wire::publish(Version::V5, 0x34, b"$SYS/x", 7, b"refused"));
        assert_eq!(pair.publisher.receive(), [0x50, 3, 0, 7, 0x87]);
        pair.publisher.send(&wire::publish(Version::V5, 0x34, b"t", 7, b"new"));
        assert_eq!(pair.publisher.receive(), [0x50, 2, 0, 7]);
        assert_eq!(pair.reader.payloads(), [b"new"]);
    }
}

/// [MQTT-4.3.3-13]
#[test]
fn exchange_is_finished_for_a_message_that_has_expired() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        pair.cut();
        let publish = out_publish("t", QoS::ExactlyOnce, false, 7, b"m");
        pair.publisher.send_out(&OutPublish { expiry: Some(1), ..publish });
        assert_eq!(pair.publisher.receive(), [0x50, 2, 0, 7]);
        pair.broker.advance(Duration::from_secs(60));
        pair.publisher.send(&wire::publish(Version::V5, 0x3C, b"t", 7, b"m"));
        assert_eq!(pair.publisher.receive(), [0x50, 2, 0, 7]);
        pair.publisher.send(&[0x62, 2, 0, 7]);
        assert_eq!(pair.publisher.receive(), [0x70, 2, 0, 7]);
        pair.come_back();
        pair.reader.expect_nothing();
    }
}

#[test]
fn every_message_comes_exactly_once_over_many_reconnects() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        let mut got = Vec::new();
        for number in 0..40_u8 {
            pair.publisher.publish("t", QoS::ExactlyOnce, &[number]);
            if number % 3 == 0 {
                pair.cut();
            }
            if number % 3 == 1 {
                pair.come_back();
            }
            if number % 3 == 2 {
                got.extend(pair.reader.payloads().into_iter().flatten());
            }
        }
        pair.cut();
        pair.come_back();
        got.extend(pair.reader.payloads().into_iter().flatten());
        assert_eq!(got, (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn every_message_comes_at_least_once_and_new_ones_in_order() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        let mut got = Vec::new();
        for number in 0..40_u8 {
            pair.publisher.publish("t", QoS::AtLeastOnce, &[number]);
            // Seen, but not acknowledged, each fourth time.
            if number % 4 == 3 {
                while pair.reader.try_next().is_some() {}
                pair.cut();
                pair.come_back();
            }
        }
        got.extend(pair.reader.payloads().into_iter().flatten());
        assert_eq!(got, (0..40).collect::<Vec<_>>());
    }
}

#[test]
fn qos_of_both_levels_reach_readers_of_every_version() {
    for qos in ACKNOWLEDGED {
        for mut pair in pairs() {
            let mut others: Vec<_> = Version::ALL
                .iter()
                .map(|version| pair.broker.client(version.name()).version(*version).connect())
                .collect();
            others.iter_mut().for_each(|other| drop(other.subscribe("t", qos)));
            for number in 0..5_u8 {
                pair.publisher.publish("t", qos, &[number]);
            }
            for other in &mut others {
                assert_eq!(other.payloads(), [[0], [1], [2], [3], [4]]);
            }
        }
    }
}
