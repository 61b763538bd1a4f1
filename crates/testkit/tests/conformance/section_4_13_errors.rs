//! Section 4.13 (4.8 in 3.1.1): what errors lead to; and sections 6 and 7.

use std::sync::Arc;

use breakwater_contract::Metric;
use breakwater_proto::{QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Logged};

use crate::script::Rules;
use crate::wire;

/// Broken packets, and the code of 5.0 for each.
fn broken(version: Version) -> Vec<(Vec<u8>, ReasonCode)> {
    let malformed = ReasonCode::MalformedPacket;
    let protocol = ReasonCode::ProtocolError;
    vec![
        (vec![0x00, 0x00], malformed),
        (vec![0x36, 0x00], malformed),
        (vec![0xC0, 0x01, 0x00], malformed),
        (vec![0x40, 0x01, 0x00], malformed),
        (vec![0x82, 0x00], malformed),
        (vec![0x30, 0x02, 0x00, 0x05], malformed),
        (vec![0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], malformed),
        (vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),
        (wire::publish(version, 0x30, b"", 0, b"x"), protocol),
        (wire::publish(version, 0x30, b"a/+", 0, b"x"), ReasonCode::TopicNameInvalid),
        (wire::publish(version, 0x32, b"a", 0, b"x"), protocol),
        (vec![0xD0, 0x00], protocol),
        (vec![0x20, 0x02, 0x00, 0x00], if version.is_v5() { malformed } else { protocol }),
        (wire::connect(version, 0x02, &[b"c"]), protocol),
    ]
}

/// [MQTT-4.13.1-1] [MQTT3-4.8.0-1] [MQTT-4.13.2-1]
#[test]
fn broken_packet_ends_its_connection_with_its_code_and_no_other() {
    for version in Version::ALL {
        for (bytes, reason) in broken(version) {
            let broker = Broker::new();
            let mut bystander = broker.client("b").version(version).connect();
            let mut client = broker.client("c").version(version).connect();
            let _ = broker.events();
            client.send(&bytes);
            assert!(client.is_closed(), "{version} {bytes:02x?}");
            client.expect_disconnect(reason);
            let [Logged::Disconnected { client: name, code, .. }] = &broker.events()[..] else { panic!("one event") };
            assert_eq!((&name[..], *code), ("c", reason.as_u8()), "{version} {bytes:02x?}");
            assert_eq!(broker.counter(Metric::Violations), 1);
            bystander.ping();
        }
    }
}

/// [MQTT-4.13.1-1]
#[test]
fn properties_that_break_their_rules_end_the_connection() {
    let cases: [(&[u8], ReasonCode); 9] = [
        (&[0x01, 2], ReasonCode::ProtocolError),          // Payload Format Indicator 2
        (&[0x01, 0, 0x01, 0], ReasonCode::ProtocolError), // twice
        (&[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1], ReasonCode::ProtocolError),
        (&[0x23, 0, 0], ReasonCode::TopicAliasInvalid), // Topic Alias 0
        (&[0x0B, 1], ReasonCode::ProtocolError),        // Subscription Identifier from a client
        (&[0x08, 0, 3, b'a', b'/', b'#'], ReasonCode::ProtocolError), // Response Topic with a wildcard
        (&[0x11, 0, 0, 0, 1], ReasonCode::MalformedPacket), // belongs to CONNECT
        (&[0x7F, 0], ReasonCode::MalformedPacket),      // unknown
        (&[0x03, 0, 9, b'a'], ReasonCode::MalformedPacket), // cut short
    ];
    for (properties, reason) in cases {
        let broker = Broker::new();
        let mut client = broker.client("c").connect();
        client.send(&wire::publish_with(b"a", properties, b""));
        client.expect_disconnect(reason);
    }
}

/// [MQTT3-4.8.0-2]
#[test]
fn error_of_ours_ends_the_connection_whose_packet_met_it_and_no_other() {
    for version in Version::ALL {
        let broker = Broker::new().authorizer(Arc::new(Rules::default()));
        let mut bystander = broker.client("b").connect();
        let mut client = broker.client("c").version(version).connect();
        client.send_publish("boom", QoS::AtLeastOnce, false, b"");
        client.expect_disconnect(ReasonCode::UnspecifiedError);
        bystander.ping();
        assert_eq!(broker.counter(Metric::Panics), 1);
        broker.client("c").version(version).connect().ping();
    }
}

/// Packets are cut from the stream wherever it is cut itself.
#[test]
fn packets_may_arrive_byte_by_byte() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.version = version;
        let mut bytes = wire::connect(version, 0x02, &[b"c"]);
        bytes.extend(wire::subscribe(version, 1, b"a", 1));
        bytes.extend(wire::publish(version, 0x32, b"a", 7, b"x"));
        bytes.extend([0xC0, 0]);
        for byte in bytes {
            client.send(&[byte]);
            broker.step();
        }
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
        assert_eq!(client.next_packet().suback().codes, [1]);
        assert_eq!(client.message().publish().payload, b"x");
        client.next_of(breakwater_proto::PacketKind::PubAck);
        client.next_of(breakwater_proto::PacketKind::PingResp);
    }
}
