//! Section 3.1: the will, from CONNECT to its publication.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{ForwardProperties, Property, QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Client};

use crate::wire;

const WILL: (&str, &[u8]) = ("gone", b"c");

fn watcher(broker: &Broker) -> Client {
    let mut watcher = broker.client("w").connect();
    watcher.subscribe("gone", QoS::ExactlyOnce);
    watcher
}

type Ending = (&'static str, fn(&Broker, &mut Client));

/// Ways in which a connection ends without DISCONNECT 0x00.
const ENDINGS: [Ending; 5] = [
    ("FIN", |_, client| client.half_close()),
    ("RST", |_, client| client.reset()),
    ("protocol error", |_, client| client.send(&[0xD0, 0])),
    ("keep-alive", |broker, _| broker.advance(Duration::from_secs(20))),
    ("take-over", |broker, client| drop(broker.client("c").version(client.version).connect())),
];

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT3-3.1.2-8] [MQTT3-3.1.2-10] [MQTT-3.1.2-20] [MQTT3-3.1.2-23]
#[test]
fn will_is_published_once_however_the_connection_ends() {
    for version in Version::ALL {
        for persistent in [false, true] {
            for (name, end) in ENDINGS {
                let broker = Broker::new();
                let mut watcher = watcher(&broker);
                let connecting = broker.client("c").version(version).keep_alive(10);
                let connecting = if persistent { connecting.persistent() } else { connecting };
                let mut client = connecting.will(WILL.0, WILL.1, QoS::AtLeastOnce, false).connect();
                watcher.expect_nothing();
                end(&broker, &mut client);
                assert_eq!(watcher.payloads(), [b"c"], "{version} {name}");
                broker.client("c").version(version).connect().reset();
                watcher.expect_nothing();
                assert_eq!(broker.counter(Metric::WillsPublished), 1);
            }
        }
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT3-3.1.2-8] [MQTT3-3.1.2-10] [MQTT3-3.14.4-3]
#[test]
fn disconnect_discards_the_will() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut watcher = watcher(&broker);
        let connecting = broker.client("c").version(version).persistent();
        let mut client = connecting.will(WILL.0, WILL.1, QoS::AtLeastOnce, false).connect();
        client.disconnect();
        broker.client("c").version(version).persistent().connect().reset();
        broker.advance(Duration::from_secs(8 * 3600));
        watcher.expect_nothing();
        assert_eq!(broker.counter(Metric::WillsPublished), 0);
    }
}

/// [MQTT-3.1.2-8]
#[test]
fn disconnect_with_any_other_code_publishes_the_will() {
    for reason in [ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError, ReasonCode::QuotaExceeded] {
        let broker = Broker::new();
        let mut watcher = watcher(&broker);
        let mut client = broker.client("c").will(WILL.0, WILL.1, QoS::AtLeastOnce, false).connect();
        client.disconnect_with(reason);
        assert_eq!(watcher.payloads(), [b"c"]);
    }
}

/// [MQTT3-3.1.2-12]
#[test]
fn nothing_is_published_for_a_client_without_a_will() {
    for version in Version::ALL {
        for (_, end) in ENDINGS {
            let broker = Broker::new();
            let mut watcher = broker.client("w").connect();
            watcher.subscribe("#", QoS::AtMostOnce);
            let mut client = broker.client("c").version(version).keep_alive(10).connect();
            end(&broker, &mut client);
            watcher.expect_nothing();
        }
    }
}

/// [MQTT-3.1.2-7] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT3-3.1.2-16] [MQTT3-3.1.2-17]
#[test]
fn will_is_published_with_the_qos_and_retain_of_connect() {
    for version in Version::ALL {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for retain in [false, true] {
                let broker = Broker::new();
                let mut watcher = watcher(&broker);
                broker.client("c").version(version).will(WILL.0, WILL.1, qos, retain).connect().reset();
                assert_eq!(watcher.message().publish().qos, qos);
                watcher.subscribe("gone", QoS::ExactlyOnce);
                let kept = watcher.payloads();
                assert_eq!(kept.len(), usize::from(retain));
            }
        }
    }
}

/// [MQTT-3.1.2-8]
#[test]
fn will_waits_for_its_delay_or_for_the_end_of_the_session() {
    for (delay, expiry, due) in [(10, 100, 10), (100, 10, 10), (10, 0, 0), (0, 100, 0), (10, 10, 10)] {
        let broker = Broker::new();
        let mut watcher = watcher(&broker);
        let connecting = broker.client("c").expiry(expiry).will(WILL.0, WILL.1, QoS::AtLeastOnce, false);
        connecting.will_delay(delay).connect().reset();
        if due > 0 {
            broker.advance(Duration::from_secs(due - 1));
            watcher.expect_nothing();
            broker.advance(Duration::from_secs(2));
        }
        assert_eq!(watcher.payloads(), [b"c"], "delay {delay}, expiry {expiry}");
        broker.advance(Duration::from_secs(1000));
        watcher.expect_nothing();
    }
}

/// [MQTT-3.1.3-9] [MQTT-3.1.2-8]
#[test]
fn reconnect_within_the_delay_suppresses_the_will() {
    let broker = Broker::new();
    let mut watcher = watcher(&broker);
    let connecting = broker.client("c").persistent().will(WILL.0, WILL.1, QoS::AtLeastOnce, false);
    connecting.will_delay(10).connect().reset();
    broker.advance(Duration::from_secs(5));
    let mut client = broker.client("c").persistent().connect();
    broker.advance(Duration::from_secs(100));
    watcher.expect_nothing();
    client.reset();
    broker.advance(Duration::from_secs(100));
    watcher.expect_nothing();
}

/// The session ends at once, and the will with it: [MQTT-3.1.2-8]
#[test]
fn clean_start_within_the_delay_publishes_the_will() {
    let broker = Broker::new();
    let mut watcher = watcher(&broker);
    let connecting = broker.client("c").persistent().will(WILL.0, WILL.1, QoS::AtLeastOnce, false);
    connecting.will_delay(10).connect().reset();
    let _client = broker.client("c").clean().connect();
    assert_eq!(watcher.payloads(), [b"c"]);
}

/// [MQTT-3.1.3-10]
#[test]
fn properties_of_the_will_are_forwarded_and_user_properties_in_their_order() {
    let mut raw = Vec::new();
    let properties = [
        Property::PayloadFormatIndicator(1),
        Property::ContentType("text/plain"),
        Property::UserProperty("b", "1"),
        Property::UserProperty("a", "2"),
        Property::UserProperty("b", "1"),
        Property::ResponseTopic("answer"),
        Property::CorrelationData(b"id"),
        Property::UserProperty("a", "0"),
    ];
    properties.iter().for_each(|property| property.encode(&mut raw));
    let broker = Broker::new();
    let mut watcher = watcher(&broker);
    let connecting = broker.client("c").will(WILL.0, WILL.1, QoS::AtLeastOnce, false);
    let forward = ForwardProperties::from_stripped(&raw);
    let connecting = connecting.set(|connect| {
        let will = connect.will.as_mut().expect("it was set");
        will.properties = forward;
        will.expiry = Some(60);
    });
    connecting.connect().reset();
    let message = watcher.message();
    assert!(message.publish().properties.iter().eq(properties));
    assert_eq!(message.publish().expiry, Some(60));
}

/// What a client gets that sends will fields under a cleared flag stands with the format; this is a will with nothing in
/// it [MQTT-3.1.2-9] [MQTT3-3.1.2-9].
#[test]
fn will_without_a_payload_is_published_empty() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut watcher = watcher(&broker);
        let mut client = broker.connect();
        client.version = version;
        let body = [
            &wire::connect_header(version, 0x06)[..],
            &wire::field(b"c"),
            wire::no_properties(version),
            &wire::field(b"gone"),
            &wire::field(b""),
        ];
        client.send(&wire::packet(0x10, &body.concat()));
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
        client.reset();
        assert_eq!(watcher.payloads(), [b""]);
    }
}
