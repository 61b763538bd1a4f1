//! Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP.

use std::sync::Arc;

use breakwater_contract::Metric;
use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::Broker;

use crate::pair::{QOS, pairs, pairs_v5};
use crate::script::Rules;
use crate::wire;

const KINDS: [(PacketKind, u8); 4] =
    [(PacketKind::PubAck, 0x40), (PacketKind::PubRec, 0x50), (PacketKind::PubRel, 0x62), (PacketKind::PubComp, 0x70)];

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
#[test]
fn reason_codes_of_other_packets_end_the_connection() {
    for (kind, first) in KINDS {
        for code in 0..=255 {
            let broker = Broker::new();
            let mut client = broker.client("c").connect();
            client.send(&[first, 3, 0, 1, code]);
            match ReasonCode::from_u8(code) {
                Some(reason) if reason.allowed_in(kind) => assert!(!client.is_closed(), "{} {code:02x}", kind.name()),
                Some(_) => client.expect_disconnect(ReasonCode::ProtocolError),
                None => client.expect_disconnect(ReasonCode::MalformedPacket),
            }
        }
    }
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1]
#[test]
fn acknowledgement_of_a_publish_says_what_became_of_it() {
    let broker = Broker::new().authorizer(Arc::new(Rules::default()));
    let mut reader = broker.client("r").connect();
    reader.subscribe("t", QoS::AtMostOnce);
    let mut client = broker.client("c").connect();
    for qos in &QOS[1..] {
        assert_eq!(client.publish("t", *qos, b""), ReasonCode::Success);
        assert_eq!(client.publish("nobody", *qos, b""), ReasonCode::NoMatchingSubscribers);
        assert_eq!(client.publish("denied", *qos, b""), ReasonCode::NotAuthorized);
        assert_eq!(client.publish("$SYS/x", *qos, b""), ReasonCode::NotAuthorized);
    }
}

/// Whatever the broker answers on these, it fits a client that takes packets of no more than 20 bytes, and is the code
/// alone. [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2]
/// [MQTT-3.7.2-3] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
#[test]
fn acknowledgements_have_neither_reason_string_nor_user_properties() {
    let broker = Broker::new().authorizer(Arc::new(Rules::default()));
    for maximum in [20, 200_000] {
        let mut client = broker.client("c").set(|connect| connect.maximum_packet_size = Some(maximum)).connect();
        client.send(&wire::publish(Version::V5, 0x32, b"denied", 1, b""));
        assert_eq!(client.receive(), [0x40, 3, 0, 1, 0x87]);
        client.send(&wire::publish(Version::V5, 0x34, b"denied", 2, b""));
        assert_eq!(client.receive(), [0x50, 3, 0, 2, 0x87]);
        client.send_packet(&Packet::PubRec(Ack::new(3, ReasonCode::Success)));
        assert_eq!(client.receive(), [0x62, 3, 0, 3, 0x92]);
        client.send_packet(&Packet::PubRel(Ack::new(4, ReasonCode::Success)));
        assert_eq!(client.receive(), [0x70, 3, 0, 4, 0x92]);
        client.reset();
    }
    assert_eq!(broker.counter(Metric::AckUnknownId), 2);
}

#[test]
fn reason_strings_and_user_properties_of_a_client_are_taken() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        let user = wire::user_property(b"why", b"because");
        let reason = wire::join(&[&[0x1F], &wire::field(b"full")]);
        let with = |first: u8, id: u16, code: u8| {
            let section = wire::section(&wire::join(&[&user, &reason]));
            wire::packet(first, &wire::join(&[&id.to_be_bytes(), &[code], &section]))
        };
        pair.publisher.publish("t", QoS::ExactlyOnce, b"m");
        let id = pair.reader.next_packet().publish().packet_id;
        pair.reader.send(&with(0x50, id, 0));
        assert_eq!(pair.reader.next_packet().kind(), PacketKind::PubRel);
        pair.reader.send(&with(0x70, id, 0));
        pair.publisher.publish("t", QoS::AtLeastOnce, b"m");
        let id = pair.reader.next_packet().publish().packet_id;
        pair.reader.send(&with(0x40, id, 0x80));
        pair.reader.ping();
        pair.cut();
        pair.come_back();
        pair.reader.expect_nothing();
    }
}

/// [MQTT-3.6.1-1] [MQTT3-3.6.1-1]
#[test]
fn pubrel_with_other_flags_ends_the_connection() {
    for flags in (0..16).filter(|flags| *flags != 2) {
        for mut pair in pairs() {
            // 3.1 knows a DUP flag here.
            if pair.version == Version::V31 && flags == 0x0A {
                continue;
            }
            pair.publisher.send(&[0x60 | flags, 2, 0, 1]);
            pair.publisher.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
}

#[test]
fn acknowledgements_of_unknown_identifiers_are_counted_and_harmless() {
    for mut pair in pairs() {
        for first in [0x40, 0x70] {
            pair.reader.send(&[first, 2, 0, 77]);
        }
        pair.reader.ping();
        assert_eq!(pair.broker.counter(Metric::AckUnknownId), 2);
    }
}

/// The wrong kind of acknowledgement for a delivery does not end it.
#[test]
fn puback_does_not_end_a_qos_2_delivery_nor_pubrec_a_qos_1_delivery() {
    for mut pair in pairs() {
        pair.reader.subscribe("#", QoS::ExactlyOnce);
        pair.publisher.publish("one", QoS::AtLeastOnce, b"1");
        pair.publisher.publish("two", QoS::ExactlyOnce, b"2");
        let one = pair.reader.next_packet().publish().packet_id;
        let two = pair.reader.next_packet().publish().packet_id;
        pair.reader.send_packet(&Packet::PubRec(Ack::new(one, ReasonCode::Success)));
        pair.reader.send_packet(&Packet::PubAck(Ack::new(two, ReasonCode::Success)));
        pair.reader.send_packet(&Packet::PubComp(Ack::new(two, ReasonCode::Success)));
        pair.broker.step();
        pair.cut();
        pair.come_back();
        assert_eq!(pair.reader.payloads(), [b"1", b"2"]);
    }
}
