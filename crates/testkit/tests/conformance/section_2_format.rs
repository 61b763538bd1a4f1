//! Section 2: fixed header, packet identifier, properties.

use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::Broker;

use crate::wire;

/// Packets of a connected client, well-formed but for a reserved bit of the fixed header.
fn wrong_flags(version: Version) -> Vec<Vec<u8>> {
    let mut all = vec![
        wire::packet(0x41, &[0, 1]),
        wire::packet(0x51, &[0, 1]),
        wire::packet(0x60, &[0, 1]),
        wire::packet(0x63, &[0, 1]),
        wire::packet(0x71, &[0, 1]),
        wire::packet(0xC1, &[]),
        wire::packet(0xE1, &[]),
        wire::packet(0xE8, &[]),
    ];
    for first in [0x80, 0x83, 0x86] {
        let mut bytes = wire::subscribe(version, 1, b"a", 0);
        bytes[0] = first;
        all.push(bytes);
    }
    for first in [0xA0, 0xA3, 0xA6] {
        let mut bytes = wire::unsubscribe(version, 1, b"a");
        bytes[0] = first;
        all.push(bytes);
    }
    if version.is_v5() {
        all.push(wire::packet(0xF1, &[]));
    }
    all
}

/// [MQTT-2.1.3-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT-3.14.1-1] [MQTT3-3.14.1-1] [MQTT-3.15.1-1]
#[test]
fn wrong_reserved_flags_end_the_connection() {
    for version in Version::ALL {
        for bytes in wrong_flags(version) {
            let broker = Broker::new();
            let mut client = broker.client("c").version(version).connect();
            client.send(&bytes);
            assert!(client.is_closed(), "{version} {bytes:02x?}");
            client.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
}

/// [MQTT-2.1.3-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2]
#[test]
fn wrong_reserved_flags_of_connect_end_the_connection() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.version = version;
        let mut bytes = wire::connect(version, 0x02, &[b"c"]);
        bytes[0] = 0x11;
        client.send(&bytes);
        assert!(client.is_closed());
        assert_eq!(broker.sessions(), 0);
    }
}

#[test]
fn dup_on_pubrel_and_subscribe_is_fine_in_mqtt_31_alone() {
    let broker = Broker::new();
    let mut client = broker.client("c").v31().connect();
    let mut bytes = wire::subscribe(Version::V31, 1, b"a", 0);
    bytes[0] = 0x8A;
    client.send(&bytes);
    client.next_of(PacketKind::SubAck);
    client.send(&wire::packet(0x6A, &[0, 9]));
    assert_eq!(client.next_of(PacketKind::PubComp).ack().packet_id, 9);
}

/// [MQTT-2.2.1-2] [MQTT3-2.3.1-5]
#[test]
fn qos_0_has_no_packet_identifier_in_either_direction() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        client.subscribe("a", QoS::ExactlyOnce);
        let bytes = wire::publish(version, 0x30, b"a", 0, b"\x00\x07xy");
        client.send(&bytes);
        assert_eq!(client.receive(), bytes);
    }
}

/// [MQTT-2.2.1-3] [MQTT3-2.3.1-1]
#[test]
fn packet_identifier_0_ends_the_connection() {
    for version in Version::ALL {
        for bytes in [
            wire::publish(version, 0x32, b"a", 0, b""),
            wire::publish(version, 0x34, b"a", 0, b""),
            wire::subscribe(version, 0, b"a", 0),
            wire::unsubscribe(version, 0, b"a"),
        ] {
            let broker = Broker::new();
            let mut client = broker.client("c").version(version).connect();
            client.send(&bytes);
            client.expect_disconnect(ReasonCode::ProtocolError);
        }
    }
}

/// What a client gets that uses an identifier twice: [MQTT-2.2.1-3] [MQTT3-2.3.1-2] [MQTT3-2.3.1-3]
#[test]
fn qos_2_publish_under_an_identifier_in_use_is_taken_for_a_resend() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut reader = broker.client("r").connect();
        reader.subscribe("#", QoS::AtMostOnce);
        let mut client = broker.client("c").version(version).connect();
        client.send(&wire::publish(version, 0x34, b"a", 5, b"first"));
        client.send(&wire::publish(version, 0x34, b"b", 5, b"second"));
        for _ in 0..2 {
            let answer = client.next_of(PacketKind::PubRec);
            assert_eq!((answer.ack().packet_id, answer.ack().reason), (5, ReasonCode::Success));
        }
        // The other kinds have their own books: answered as if the identifier were free.
        client.send(&wire::publish(version, 0x32, b"c", 5, b"third"));
        assert_eq!(client.next_of(PacketKind::PubAck).ack().packet_id, 5);
        client.send(&wire::subscribe(version, 5, b"none", 0));
        assert_eq!(client.next_of(PacketKind::SubAck).suback().packet_id, 5);
        assert_eq!(reader.payloads(), [b"first", b"third"]);
    }
}

/// [MQTT-2.2.1-4] [MQTT3-2.3.1-1] [MQTT3-2.3.1-4]
#[test]
fn identifiers_of_deliveries_under_way_are_neither_0_nor_equal() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut reader = broker.client("r").version(version).connect();
        reader.subscribe("#", QoS::ExactlyOnce);
        let mut client = broker.client("c").connect();
        for number in 0..20u8 {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            client.publish("a", qos, &[number]);
        }
        let mut ids: Vec<u16> = (0..20).map(|_| reader.next_packet().publish().packet_id).collect();
        assert!(!ids.contains(&0));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 20);
    }
}

/// [MQTT-2.2.1-4] [MQTT3-2.3.1-4]
#[test]
fn identifiers_start_over_without_0_and_without_those_in_use() {
    let broker = Broker::new();
    let mut reader = broker.client("r").connect();
    reader.subscribe("#", QoS::AtLeastOnce);
    let mut client = broker.client("c").connect();
    let mut acks = Vec::new();
    let mut held = 0;
    for _ in 0..66_000 / 30 {
        client.send(&[0x32, 6, 0, 1, b'a', 0, 1, 0].repeat(30));
        client.receive();
        acks.clear();
        let before = held;
        for _ in 0..30 {
            let id = reader.next_packet().publish().packet_id;
            assert!(id != before && id != 0);
            if held != before {
                breakwater_proto::encode_puback(Version::V5, held, ReasonCode::Success, &mut acks);
            }
            held = id;
        }
        if before != 0 {
            breakwater_proto::encode_puback(Version::V5, before, ReasonCode::Success, &mut acks);
        }
        reader.send(&acks);
    }
}

/// [MQTT-2.2.1-5] [MQTT3-2.3.1-6]
#[test]
fn acknowledgements_repeat_the_identifier_of_the_publish() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        for id in [1, 7, 0x0100, 0xFFFF] {
            client.send(&wire::publish(version, 0x32, b"a", id, b""));
            assert_eq!(client.next_of(PacketKind::PubAck).ack().packet_id, id);
            client.send(&wire::publish(version, 0x34, b"a", id, b""));
            assert_eq!(client.next_of(PacketKind::PubRec).ack().packet_id, id);
            client.send_packet(&Packet::PubRel(Ack::new(id, ReasonCode::Success)));
            assert_eq!(client.next_of(PacketKind::PubComp).ack().packet_id, id);
        }
        client.subscribe("b", QoS::ExactlyOnce);
        client.publish("b", QoS::ExactlyOnce, b"");
        let delivery = client.next_of(PacketKind::Publish);
        let id = delivery.publish().packet_id;
        client.send_packet(&Packet::PubRec(Ack::new(id, ReasonCode::Success)));
        assert_eq!(client.next_of(PacketKind::PubRel).ack().packet_id, id);
    }
}

/// [MQTT-2.2.1-6] [MQTT3-2.3.1-7]
#[test]
fn suback_and_unsuback_repeat_the_identifier_of_the_request() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        for id in [1, 7, 0x0100, 0xFFFF] {
            client.send(&wire::subscribe(version, id, b"a", 0));
            assert_eq!(client.next_packet().suback().packet_id, id);
            client.send(&wire::unsubscribe(version, id, b"a"));
            assert_eq!(client.next_packet().unsuback().packet_id, id);
        }
    }
}

/// [MQTT-2.2.2-1]
#[test]
fn no_properties_are_written_as_length_0() {
    let broker = Broker::new();
    let mut client = broker.client("c").connect();
    client.send(&wire::subscribe(Version::V5, 1, b"a", 0));
    assert_eq!(client.receive(), [0x90, 4, 0, 1, 0, 0]);
    client.send(&[0x30, 4, 0, 1, b'a', 0]);
    assert_eq!(client.receive(), [0x30, 4, 0, 1, b'a', 0]);
    client.send(&wire::unsubscribe(Version::V5, 2, b"a"));
    assert_eq!(client.receive(), [0xB0, 4, 0, 2, 0, 0]);
}

/// [MQTT-2.2.2-1]
#[test]
fn missing_property_length_ends_the_connection() {
    let publish = wire::packet(0x30, &wire::field(b"a"));
    let subscribe = wire::packet(0x82, b"\x00\x01\x00\x01a\x00");
    let connect = wire::packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x00");
    for bytes in [publish, subscribe] {
        let broker = Broker::new();
        let mut client = broker.client("c").connect();
        client.send(&bytes);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
    let broker = Broker::new();
    let mut client = broker.connect();
    client.send(&connect);
    assert_eq!(client.next_packet().connack().reason, ReasonCode::MalformedPacket);
    assert!(client.is_closed());
}
