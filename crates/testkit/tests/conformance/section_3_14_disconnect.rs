//! Section 3.14: DISCONNECT, from either side.

use breakwater_proto::{Connect, Disconnect, Packet, PacketKind, QoS, ReasonCode, Version, write_user_property};
use breakwater_testkit::{Broker, Client};

use crate::script::{self, Script};
use crate::wire;

/// [MQTT-3.14.0-1]
#[test]
fn no_disconnect_is_sent_before_connack() {
    let beginnings: [Vec<u8>; 4] = [
        vec![0xC0, 0],
        vec![0xE0, 0],
        wire::connect(Version::V5, 0x03, &[b"c"]),
        [wire::connect(Version::V5, 0x02, &[b"", b""]), vec![0xC0, 0]].concat(),
    ];
    for bytes in beginnings {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.send(&bytes);
        assert!(client.is_closed());
        while let Some(packet) = client.try_next() {
            assert_eq!(packet.kind(), PacketKind::ConnAck);
            assert!(packet.connack().reason.is_error());
        }
    }
}

/// [MQTT-3.14.0-1]
#[test]
fn no_disconnect_is_sent_while_authentication_is_under_way() {
    let ends: [fn(&Broker, &mut Client); 3] = [
        |_, client| client.send(&[0xC0, 0]),
        |broker, _| broker.advance(std::time::Duration::from_secs(60)),
        |broker, _| broker.shutdown(),
    ];
    for end in ends {
        let broker = Broker::new().authenticator(Script::of([script::challenge(b"?")]));
        let mut client = broker.client("c").set(|connect| connect.auth_method = Some("SCRIPT")).start();
        assert_eq!(client.next_packet().kind(), PacketKind::Auth);
        end(&broker, &mut client);
        assert!(client.is_closed());
        while let Some(packet) = client.try_next() {
            assert_eq!(packet.kind(), PacketKind::ConnAck);
        }
    }
}

/// [MQTT-3.14.2-1]
#[test]
fn disconnect_with_a_code_that_it_may_not_carry_is_an_error() {
    for code in 0..=255u8 {
        let broker = Broker::new();
        let mut client = broker.client("c").connect();
        client.send(&[0xE0, 1, code]);
        assert!(client.is_closed());
        let allowed = ReasonCode::from_u8(code).is_some_and(|reason| reason.allowed_in(PacketKind::Disconnect));
        match client.try_next() {
            None => assert!(allowed, "{code:#x}"),
            Some(answer) => {
                assert!(!allowed, "{code:#x}");
                let known = ReasonCode::from_u8(code).is_some();
                let expect = if known { ReasonCode::ProtocolError } else { ReasonCode::MalformedPacket };
                assert_eq!(answer.disconnect().reason, expect);
            }
        }
    }
}

/// [MQTT-3.14.2-1]
#[test]
fn code_that_disconnect_may_not_carry_is_replaced_by_one_that_it_may() {
    // The second CONNECT cannot be read; its code belongs to CONNACK.
    for (name, level) in [(&b"MQTX"[..], 5), (b"MQTT", 9)] {
        let broker = Broker::new();
        let mut client = broker.client("c").connect();
        client.send(&wire::packet(0x10, &[&wire::field(name)[..], &[level, 2, 0, 0, 0, 0, 0]].concat()));
        client.expect_disconnect(ReasonCode::ProtocolError);
    }
    for reason in ReasonCode::ALL.iter().copied().filter(|reason| reason.is_error()) {
        let script = Script::of([script::accept(), script::refuse(reason)]);
        let broker = Broker::new().authenticator(script);
        let mut client = broker.client("c").set(|connect| connect.auth_method = Some("SCRIPT")).connect();
        let reauthenticate = [&[0x19][..], &wire::section(&[&[0x15][..], &wire::field(b"SCRIPT")].concat())].concat();
        client.send(&wire::packet(0xF0, &reauthenticate));
        assert!(client.is_closed());
        let told = client.next_packet().disconnect().reason;
        assert!(told.is_error() && told.allowed_in(PacketKind::Disconnect));
        if reason.allowed_in(PacketKind::Disconnect) {
            assert_eq!(told, reason);
        }
    }
}

/// Ways in which the broker ends a connection.
const ENDINGS: [fn(&Broker, &mut Client); 5] = [
    |_, client| client.send(&[0xD0, 0]),
    |_, client| client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
    |broker, _| broker.advance(std::time::Duration::from_secs(20)),
    |broker, _| drop(broker.client("c").connect()),
    |broker, _| broker.shutdown(),
];

/// [MQTT-3.14.2-2] [MQTT-3.14.2-1] [MQTT-4.13.2-1]
#[test]
fn disconnect_from_the_broker_has_no_session_expiry() {
    for end in ENDINGS {
        let broker = Broker::new();
        let mut client = broker.client("c").persistent().keep_alive(10).connect();
        end(&broker, &mut client);
        assert!(client.is_closed());
        let goodbye = client.next_packet();
        assert_eq!(goodbye.disconnect().session_expiry, None);
        assert!(goodbye.disconnect().reason.is_error());
        assert!(goodbye.disconnect().reason_string.is_some());
    }
}

/// [MQTT-3.14.2-3] [MQTT-3.14.2-4]
#[test]
fn disconnect_stays_within_the_clients_maximum_packet_size() {
    let broker = Broker::with(|options, _| {
        options.limits.receive_maximum = u16::MAX;
        options.limits.topic_alias_in_max = 0;
    });
    let mut client = broker.client("c").connect();
    client.send(&[0xD0, 0]);
    let whole = client.next_packet().bytes().len() as u32;
    for most in 20..100 {
        let mut client = broker.client("c").set(|connect| connect.maximum_packet_size = Some(most)).connect();
        client.send(&[0xD0, 0]);
        let goodbye = client.next_packet();
        assert!(goodbye.bytes().len() <= most as usize);
        assert_eq!(goodbye.disconnect().reason, ReasonCode::ProtocolError);
        assert!(goodbye.disconnect().user_properties.is_empty());
        assert_eq!(goodbye.disconnect().reason_string.is_none(), most < whole, "{most}");
    }
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.2-1]
#[test]
fn disconnect_is_the_last_that_the_broker_sends() {
    for end in ENDINGS {
        let broker = Broker::new();
        let mut client = broker.client("c").keep_alive(10).connect();
        client.subscribe("#", QoS::AtLeastOnce);
        let mut other = broker.client("o").connect();
        other.send_publish("a", QoS::AtMostOnce, false, b"x");
        end(&broker, &mut client);
        other.send_publish("a", QoS::AtMostOnce, false, b"y");
        assert!(client.is_closed());
        let mut last = None;
        while let Some(packet) = client.try_next() {
            assert_ne!(last, Some(PacketKind::Disconnect));
            last = Some(packet.kind());
        }
        assert_eq!(last, Some(PacketKind::Disconnect));
    }
}

/// [MQTT-3.14.4-1] [MQTT3-3.14.4-1] [MQTT3-3.14.4-2]
#[test]
fn what_follows_the_clients_disconnect_is_never_read() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut watcher = broker.client("w").connect();
        watcher.subscribe("#", QoS::AtMostOnce);
        let mut client = broker.client("c").version(version).connect();
        let mut bytes = vec![0xE0, 0];
        bytes.extend(wire::publish(version, 0x30, b"a", 0, b"late"));
        client.send(&bytes);
        assert!(client.is_closed());
        assert!(client.receive().is_empty());
        watcher.expect_nothing();
    }
}

/// [MQTT-3.14.4-3] [MQTT3-3.14.4-3]
#[test]
fn will_of_who_disconnects_is_gone_for_good() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut watcher = broker.client("w").connect();
        watcher.subscribe("#", QoS::AtMostOnce);
        let mut client = broker.client("c").version(version).will("gone", b"", QoS::AtMostOnce, true).connect();
        client.disconnect();
        watcher.expect_nothing();
        assert_eq!(broker.router().counts().retained, 0);
    }
}

#[test]
fn session_expiry_may_be_changed_in_disconnect_but_not_raised_from_0() {
    let disconnect = |seconds| Disconnect { session_expiry: Some(seconds), ..Disconnect::default() };
    let broker = Broker::new();
    let mut client = broker.client("c").persistent().connect();
    client.send_packet(&Packet::Disconnect(disconnect(0)));
    assert!(client.is_closed());
    assert_eq!(broker.sessions(), 0);
    let mut client = broker.client("c").expiry(10).resume().connect();
    client.send_packet(&Packet::Disconnect(disconnect(1000)));
    assert!(client.is_closed());
    broker.advance(std::time::Duration::from_secs(900));
    assert_eq!(broker.sessions(), 1);
    let mut client = broker.client("d").connect();
    client.send_packet(&Packet::Disconnect(disconnect(10)));
    client.expect_disconnect(ReasonCode::ProtocolError);
}

#[test]
fn properties_of_a_clients_disconnect_are_taken() {
    let broker = Broker::new();
    let mut client = broker.client("c").connect();
    let mut raw = Vec::new();
    write_user_property("why", "because", &mut raw);
    let user_properties = breakwater_proto::UserProperties::from_encoded(&raw);
    let disconnect = Disconnect { reason_string: Some("bye"), user_properties, ..Disconnect::default() };
    client.send_packet(&Packet::Disconnect(disconnect));
    assert!(client.is_closed());
    assert!(client.receive().is_empty());
    // And 3.x has none to send.
    for version in [Version::V31, Version::V311] {
        let mut client = broker.client("c").version(version).connect();
        client.send_packet(&Packet::Connect(Connect::new(version, "c")));
        assert!(client.is_closed());
        assert!(client.receive().is_empty());
    }
}
