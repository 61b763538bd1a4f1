//! Section 3.1: a CONNECT that breaks the format.

use breakwater_proto::{ReasonCode, Version};
use breakwater_testkit::Broker;

use crate::wire;

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS_1: u8 = 0x08;
const WILL_QOS_2: u8 = 0x10;
const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;

/// Sends it; 5.0 must be told `reason`, 3.x must be closed in silence.
fn refused(version: Version, bytes: &[u8], reason: ReasonCode) {
    let broker = Broker::new();
    let mut client = broker.connect();
    client.version = version;
    client.send(bytes);
    assert!(client.is_closed(), "{version} {bytes:02x?}");
    if version.is_v5() {
        assert_eq!(client.next_packet().connack().reason, reason, "{bytes:02x?}");
    }
    assert!(client.receive().is_empty());
    assert_eq!(broker.sessions(), 0);
}

fn malformed(version: Version, bytes: &[u8]) {
    refused(version, bytes, ReasonCode::MalformedPacket);
}

/// A CONNECT with a will, and fields behind it.
fn with_will(version: Version, flags: u8, will: &[&[u8]], rest: &[&[u8]]) -> Vec<u8> {
    let fields = |all: &[&[u8]]| all.iter().flat_map(|bytes| wire::field(bytes)).collect::<Vec<u8>>();
    let body = [
        &wire::connect_header(version, flags)[..],
        &wire::field(b"c"),
        wire::no_properties(version),
        &fields(will),
        &fields(rest),
    ]
    .concat();
    wire::packet(0x10, &body)
}

/// 3.1 leaves these bits to the client; the newer versions do not.
const STRICT: [Version; 2] = [Version::V311, Version::V5];

/// [MQTT-3.1.2-3] [MQTT3-3.1.2-3] [MQTT-3.1.4-1] [MQTT3-3.1.4-1]
#[test]
fn reserved_connect_flag_ends_the_connection() {
    for version in STRICT {
        malformed(version, &wire::connect(version, CLEAN | 1, &[b"c"]));
    }
}

/// [MQTT-3.1.2-9] [MQTT3-3.1.2-9] [MQTT-3.1.4-1] [MQTT3-3.1.4-1]
#[test]
fn will_flag_without_its_fields_ends_the_connection() {
    for version in Version::ALL {
        malformed(version, &wire::connect(version, CLEAN | WILL, &[b"c"]));
        malformed(version, &with_will(version, CLEAN | WILL, &[], &[]));
        malformed(version, &with_will(version, CLEAN | WILL, &[b"topic"], &[]));
    }
}

/// [MQTT-3.1.2-11] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13]
#[test]
fn will_qos_without_a_will_ends_the_connection() {
    for version in STRICT {
        for qos in [WILL_QOS_1, WILL_QOS_2, WILL_QOS_1 | WILL_QOS_2] {
            malformed(version, &wire::connect(version, CLEAN | qos, &[b"c"]));
        }
    }
}

/// [MQTT3-3.1.2-11]
#[test]
fn will_fields_without_the_flag_end_the_connection() {
    for version in STRICT {
        malformed(version, &wire::connect(version, CLEAN, &[b"c", b"topic", b"gone"]));
    }
}

/// [MQTT-3.1.2-12] [MQTT3-3.1.2-14]
#[test]
fn will_qos_3_ends_the_connection() {
    for version in Version::ALL {
        malformed(version, &with_will(version, CLEAN | WILL | WILL_QOS_1 | WILL_QOS_2, &[b"topic", b"gone"], &[]));
    }
}

/// [MQTT-3.1.2-13] [MQTT3-3.1.2-11] [MQTT3-3.1.2-15]
#[test]
fn will_retain_without_a_will_ends_the_connection() {
    for version in STRICT {
        malformed(version, &wire::connect(version, CLEAN | WILL_RETAIN, &[b"c"]));
    }
}

/// [MQTT-3.1.2-16] [MQTT3-3.1.2-18] [MQTT-3.1.2-18] [MQTT3-3.1.2-20]
#[test]
fn user_name_or_password_without_its_flag_ends_the_connection() {
    for version in Version::ALL {
        malformed(version, &wire::connect(version, CLEAN, &[b"c", b"user"]));
        malformed(version, &wire::connect(version, CLEAN | USER_NAME, &[b"c", b"user", b"password"]));
    }
    malformed(Version::V5, &wire::connect(Version::V5, CLEAN | PASSWORD, &[b"c", b"user", b"password"]));
}

/// [MQTT-3.1.2-17] [MQTT3-3.1.2-19] [MQTT-3.1.2-19] [MQTT3-3.1.2-21]
#[test]
fn flag_without_its_user_name_or_password_ends_the_connection() {
    for version in STRICT {
        malformed(version, &wire::connect(version, CLEAN | USER_NAME, &[b"c"]));
        malformed(version, &wire::connect(version, CLEAN | USER_NAME | PASSWORD, &[b"c", b"user"]));
    }
}

#[test]
fn mqtt_31_may_promise_user_name_and_password_and_leave_them_out() {
    for (flags, payload) in [(USER_NAME, 1), (USER_NAME | PASSWORD, 1), (USER_NAME | PASSWORD, 2)] {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.version = Version::V31;
        client.send(&wire::connect(Version::V31, CLEAN | flags, &[&b"c"[..], b"user"][..payload]));
        assert_eq!(client.receive(), [0x20, 2, 0, 0]);
    }
}

/// [MQTT3-3.1.2-22]
#[test]
fn password_without_a_user_name_is_for_mqtt_5_alone() {
    for version in [Version::V31, Version::V311] {
        malformed(version, &wire::connect(version, CLEAN | PASSWORD, &[b"c", b"password"]));
    }
    let broker = Broker::new();
    let mut client = broker.connect();
    client.send(&wire::connect(Version::V5, CLEAN | PASSWORD, &[b"c", b"password"]));
    assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
}

/// [MQTT-3.1.3-1] [MQTT3-3.1.3-1]
#[test]
fn payload_is_read_in_the_order_of_the_specification() {
    for version in Version::ALL {
        let script = crate::script::Script::of([]);
        let broker = Broker::new().authenticator(script.clone());
        let mut watcher = broker.client("w").connect();
        watcher.subscribe("topic", breakwater_proto::QoS::AtMostOnce);
        let mut client = broker.connect();
        client.version = version;
        let flags = CLEAN | WILL | USER_NAME | PASSWORD;
        client.send(&with_will(version, flags, &[b"topic", b"gone"], &[b"user", b"password"]));
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
        let asked = script.last();
        assert_eq!(asked.client_id, "c");
        assert_eq!(asked.username.as_deref(), Some("user"));
        assert_eq!(asked.password.as_deref(), Some(&b"password"[..]));
        client.reset();
        assert_eq!(watcher.payloads(), [b"gone"]);
    }
}

/// [MQTT-3.1.3-3] [MQTT3-3.1.3-3] [MQTT-3.1.4-1] [MQTT3-3.1.4-1] [MQTT3-3.2.2-6]
#[test]
fn connect_without_an_identifier_field_ends_the_connection() {
    for version in Version::ALL {
        malformed(version, &wire::connect(version, CLEAN, &[]));
    }
}

/// [MQTT-3.1.4-1] [MQTT3-3.1.4-1]
#[test]
fn connect_that_is_cut_short_or_too_long_ends_the_connection() {
    for version in Version::ALL {
        let whole = wire::connect(version, CLEAN, &[b"client"]);
        let header = wire::connect_header(version, CLEAN).len();
        for cut in header..whole.len() - 2 {
            malformed(version, &wire::packet(0x10, &whole[2..2 + cut]));
        }
        malformed(version, &wire::packet(0x10, &[&whole[2..], &[0]].concat()));
    }
}

/// [MQTT-3.1.4-1] [MQTT3-3.1.4-1]
#[test]
fn will_topic_that_no_publish_may_have_ends_the_connection() {
    for version in Version::ALL {
        for topic in [&b""[..], b"a/+", b"#"] {
            refused(version, &with_will(version, CLEAN | WILL, &[topic, b""], &[]), ReasonCode::TopicNameInvalid);
        }
    }
}

/// A CONNECT of 5.0 with these encoded properties.
fn with_properties(properties: &[u8]) -> Vec<u8> {
    let header = b"\x00\x04MQTT\x05\x02\x00\x00";
    wire::packet(0x10, &[&header[..], &wire::section(properties), &wire::field(b"c")].concat())
}

/// [MQTT-3.1.4-1] [MQTT-4.13.1-1]
#[test]
fn connect_with_a_bad_property_is_refused() {
    let protocol: [&[u8]; 12] = [
        &[0x21, 0, 0],                         // Receive Maximum 0
        &[0x27, 0, 0, 0, 0],                   // Maximum Packet Size 0
        &[0x17, 2],                            // Request Problem Information 2
        &[0x19, 2],                            // Request Response Information 2
        &[0x16, 0, 1, 7],                      // Authentication Data without a method
        &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], // each of these twice
        &[0x21, 0, 1, 0x21, 0, 1],
        &[0x27, 0, 0, 1, 0, 0x27, 0, 0, 1, 0],
        &[0x22, 0, 1, 0x22, 0, 1],
        &[0x17, 1, 0x17, 1],
        &[0x19, 1, 0x19, 1],
        &[0x15, 0, 1, b'm', 0x15, 0, 1, b'm'],
    ];
    for properties in protocol {
        refused(Version::V5, &with_properties(properties), ReasonCode::ProtocolError);
    }
    let malformed_ones: [&[u8]; 5] = [
        &[0x01, 0],          // Payload Format Indicator belongs to PUBLISH
        &[0x18, 0, 0, 0, 1], // Will Delay Interval belongs to the will
        &[0x7F, 0],          // unknown
        &[0x21, 0],          // cut short
        &[0x11, 0, 0, 0],
    ];
    for properties in malformed_ones {
        malformed(Version::V5, &with_properties(properties));
    }
}
