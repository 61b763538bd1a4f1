//! Section 1.5: how strings and integers stand on the wire.

use breakwater_proto::{ForwardProperties, Property, QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, out_publish};

use crate::wire;

/// Over-long forms, surrogates, beyond U+10FFFF, cut short, never valid.
const ILL_FORMED: [&[u8]; 6] =
    [b"\xC0\x80", b"a\xED\xA0\x80", b"\xED\xBF\xBF", b"\xF4\x90\x80\x80", b"a\xE2\x82", b"\xFF"];

/// Every packet of a connected client in which `text` stands as a string.
fn packets_with(version: Version, text: &[u8]) -> Vec<Vec<u8>> {
    vec![
        wire::publish(version, 0x30, text, 0, b"x"),
        wire::publish(version, 0x32, text, 1, b"x"),
        wire::subscribe(version, 1, text, 0),
        wire::unsubscribe(version, 1, text),
    ]
}

/// Every CONNECT in which `text` stands as a string: client identifier, will topic, user name.
fn connects_with(version: Version, text: &[u8]) -> Vec<Vec<u8>> {
    vec![wire::connect(version, 0x02, &[text]), wire_will(version, text), wire::connect(version, 0x82, &[b"id", text])]
}

fn wire_will(version: Version, topic: &[u8]) -> Vec<u8> {
    let payload = [&wire::field(b"id")[..], wire::no_properties(version), &wire::field(topic), &wire::field(b"gone")];
    wire::packet(0x10, &wire::join(&[&wire::connect_header(version, 0x06), &payload.concat()]))
}

fn ends_with_malformed(version: Version, text: &[u8]) {
    for bytes in packets_with(version, text) {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        client.send(&bytes);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
    for bytes in connects_with(version, text) {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.version = version;
        client.send(&bytes);
        assert!(client.is_closed(), "{version} {bytes:02x?}");
        match client.try_next() {
            Some(answer) => assert_eq!(answer.connack().reason, ReasonCode::MalformedPacket),
            None => assert!(!version.is_v5(), "5.0 is told why"),
        }
        assert_eq!(broker.sessions(), 0);
    }
}

/// [MQTT-1.5.4-1] [MQTT3-1.5.3-1] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT3-3.1.3-4] [MQTT3-3.1.3-10]
/// [MQTT3-3.1.3-11]
#[test]
fn ill_formed_utf8_ends_the_connection_wherever_it_stands() {
    for version in Version::ALL {
        for text in ILL_FORMED {
            ends_with_malformed(version, text);
        }
    }
}

/// [MQTT-1.5.4-2] [MQTT3-1.5.3-2]
#[test]
fn nul_in_a_string_ends_the_connection_wherever_it_stands() {
    for version in Version::ALL {
        for text in [&b"\0"[..], b"a\0b"] {
            ends_with_malformed(version, text);
        }
    }
}

/// [MQTT-1.5.4-3] [MQTT3-1.5.3-3]
#[test]
fn byte_order_mark_is_a_character_like_any_other() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("\u{FEFF}c").version(version).connect();
        client.subscribe("\u{FEFF}a/\u{FEFF}b\u{FEFF}", QoS::AtMostOnce);
        client.publish("a/b", QoS::AtMostOnce, b"without");
        client.publish("\u{FEFF}a/\u{FEFF}b\u{FEFF}", QoS::AtMostOnce, b"with");
        let message = client.message();
        assert_eq!(message.publish().topic.as_bytes(), b"\xEF\xBB\xBFa/\xEF\xBB\xBFb\xEF\xBB\xBF");
        assert_eq!(message.publish().payload, b"with");
        client.expect_nothing();
    }
}

/// [MQTT-1.5.5-1]
#[test]
fn variable_byte_integer_that_is_not_the_shortest_ends_the_connection() {
    let ping_in_two_bytes = [0xC0, 0x80, 0x00];
    let five_bytes = [0xC0, 0x80, 0x80, 0x80, 0x80, 0x01];
    // A property length, and a subscription identifier, in two bytes for one.
    let property_length = wire::packet(0x82, b"\x00\x01\x80\x00\x00\x01a\x00");
    let subscription_id = wire::packet(0x82, b"\x00\x01\x03\x0B\x81\x00\x00\x01a\x00");
    for bytes in [&ping_in_two_bytes[..], &five_bytes, &property_length, &subscription_id] {
        let broker = Broker::new();
        let mut client = broker.client("c").connect();
        client.send(bytes);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

/// [MQTT-1.5.5-1]
#[test]
fn lengths_that_the_broker_writes_are_the_shortest() {
    let broker = Broker::new();
    let mut client = broker.client("c").connect();
    client.subscribe("a", QoS::AtMostOnce);
    for length in [0, 123, 124, 125, 126, 127, 128, 16_380, 16_384] {
        client.publish("a", QoS::AtMostOnce, &vec![b'x'; length]);
        let message = client.message(); // refuses to cut a packet whose length is not the shortest
        let remaining = 4 + length;
        let bytes_of_length = if remaining < 128 {
            1
        } else if remaining < 16_384 {
            2
        } else {
            3
        };
        assert_eq!(message.bytes().len(), 1 + bytes_of_length + remaining);
    }
}

/// [MQTT-1.5.7-1]
#[test]
fn both_halves_of_a_user_property_obey_the_rules_for_strings() {
    for bad in [&b"\xED\xA0\x80"[..], b"a\0"] {
        for property in [wire::user_property(bad, b"ok"), wire::user_property(b"ok", bad)] {
            let broker = Broker::new();
            let mut client = broker.client("c").connect();
            client.send(&wire::publish_with(b"t", &property, b""));
            client.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
    let broker = Broker::new();
    let mut client = broker.client("c").connect();
    client.subscribe("t", QoS::AtMostOnce);
    let pair = wire::user_property("näme".as_bytes(), "wért".as_bytes());
    let properties = ForwardProperties::from_stripped(&pair);
    client.send_out(&breakwater_proto::OutPublish { properties, ..out_publish("t", QoS::AtMostOnce, false, 0, b"") });
    let message = client.message();
    let received: Vec<_> = message.publish().properties.iter().collect();
    assert_eq!(received, [Property::UserProperty("näme", "wért")]);
}
