//! Section 3.2: CONNACK, and what it binds the client to.

use std::sync::Arc;

use breakwater_proto::{Connect, Packet, PacketKind, QoS, ReasonCode, SubscribeOptions, Version};
use breakwater_testkit::{Broker, out_publish};

use crate::script::{self, Rules, Script};
use crate::wire;

/// [MQTT-3.2.0-1] [MQTT3-3.2.0-1]
#[test]
fn connack_comes_before_everything_else() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).persistent().connect();
        client.subscribe("a", QoS::AtLeastOnce);
        client.disconnect();
        let mut other = broker.client("o").connect();
        other.publish("a", QoS::AtLeastOnce, b"queued");
        let mut client = broker.client("c").version(version).persistent().start();
        other.publish("a", QoS::AtLeastOnce, b"live");
        assert_eq!(client.next_packet().kind(), PacketKind::ConnAck);
        assert_eq!(client.payloads(), [&b"queued"[..], b"live"]);
    }
}

/// [MQTT-3.2.0-2]
#[test]
fn one_connection_gets_one_connack() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).start();
        client.send_packet(&Packet::Connect(Connect::new(version, "c")));
        client.send_packet(&Packet::PingReq);
        assert!(client.is_closed());
        assert_eq!(client.next_packet().kind(), PacketKind::ConnAck);
        let rest = client.receive();
        assert!(if version.is_v5() { rest[0] == 0xE0 } else { rest.is_empty() });
    }
}

/// [MQTT-3.2.2-1] [MQTT-3.2.2-3]
#[test]
fn connect_acknowledge_flags_hold_session_present_and_nothing_else() {
    for version in Version::ALL {
        let broker = Broker::new();
        let answer = broker.client("c").version(version).persistent().attempt().1;
        assert_eq!(answer.expect("CONNACK").bytes()[2], 0);
        let answer = broker.client("c").version(version).persistent().attempt().1;
        assert_eq!(answer.expect("CONNACK").bytes()[2], u8::from(version != Version::V31));
    }
}

/// The broker goes on with the session that it holds, whatever the client still knows: [MQTT-3.2.2-4]
#[test]
fn client_that_lost_its_state_gets_what_its_session_holds() {
    let broker = Broker::new();
    let mut client = broker.client("c").persistent().connect();
    client.subscribe("a", QoS::AtLeastOnce);
    client.publish("a", QoS::AtLeastOnce, b"unacknowledged");
    let first = client.next_packet();
    client.reset();
    let mut client = broker.client("c").persistent().connect();
    let again = client.message();
    assert_eq!(again.publish().packet_id, first.publish().packet_id);
    assert!(again.publish().dup);
}

/// [MQTT-3.2.2-5]
#[test]
fn acknowledgements_that_the_broker_knows_nothing_of_do_no_harm() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        for (first, answer) in
            [(0x40, None), (0x50, Some(PacketKind::PubRel)), (0x62, Some(PacketKind::PubComp)), (0x70, None)]
        {
            client.send(&[first, 2, 0, 77]);
            if let Some(kind) = answer {
                let received = client.next_of(kind);
                assert_eq!(received.ack().packet_id, 77);
                if version.is_v5() {
                    assert_eq!(received.ack().reason, ReasonCode::PacketIdentifierNotFound);
                }
            }
        }
        client.ping();
        client.expect_nothing();
    }
}

/// [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5] [MQTT3-3.2.2-6] [MQTT-4.13.2-1]
/// [MQTT-4.12.0-4]
#[test]
fn whatever_the_authenticator_refuses_with_connack_says_what_it_may_and_the_connection_ends() {
    for reason in ReasonCode::ALL.iter().copied().filter(|reason| reason.is_error()) {
        for version in Version::ALL {
            let script = Script::of([script::accept(), script::refuse(reason)]);
            let broker = Broker::new().authenticator(script);
            broker.client("c").version(version).persistent().connect().disconnect();
            let (mut client, answer) = broker.client("c").version(version).persistent().attempt();
            assert!(client.is_closed());
            assert!(client.receive().is_empty());
            match answer {
                Some(answer) => {
                    let connack = answer.connack();
                    assert!(!connack.session_present);
                    assert!(connack.reason.is_error() && connack.reason.allowed_in(PacketKind::ConnAck));
                    if version.is_v5() && reason.allowed_in(PacketKind::ConnAck) {
                        assert_eq!(connack.reason, reason);
                    }
                }
                None => assert!(!version.is_v5(), "{reason:?}: 5.0 has a code for everything"),
            }
        }
    }
}

/// [MQTT3-3.2.2-6]
#[test]
fn refusal_without_a_return_code_of_its_own_closes_in_silence_in_311() {
    for reason in [ReasonCode::UnspecifiedError, ReasonCode::PacketTooLarge, ReasonCode::QosNotSupported] {
        let broker = Broker::new().authenticator(Script::of([script::refuse(reason)]));
        let (client, answer) = broker.client("c").v311().attempt();
        assert!(answer.is_none() && client.is_closed());
    }
}

/// [MQTT-3.2.2-8]
#[test]
fn broker_that_shuts_down_refuses_with_a_code_that_connack_may_carry() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.connect();
        broker.step();
        broker.shutdown();
        client.send_packet(&Packet::Connect(Connect::new(version, "late")));
        if let Some(answer) = client.try_next() {
            assert_eq!(answer.connack().reason, ReasonCode::ServerUnavailable);
        }
        assert!(client.is_closed());
        assert_eq!(broker.sessions(), 0);
    }
}

fn with_maximum_qos(qos: QoS) -> Broker {
    Broker::with(|options, _| options.limits.maximum_qos = qos)
}

/// [MQTT-3.2.2-9]
#[test]
fn maximum_qos_is_announced_when_it_is_below_2() {
    for (qos, told) in [(QoS::AtMostOnce, Some(0)), (QoS::AtLeastOnce, Some(1)), (QoS::ExactlyOnce, None)] {
        let client = with_maximum_qos(qos).client("c").connect();
        assert_eq!(client.connack.as_ref().expect("CONNACK").connack().maximum_qos, told);
    }
}

/// [MQTT-3.2.2-10]
#[test]
fn subscribe_above_the_maximum_qos_is_granted_the_maximum() {
    for version in Version::ALL {
        for maximum in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let broker = with_maximum_qos(maximum);
            let mut client = broker.client("c").version(version).connect();
            for asked in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                assert_eq!(client.subscribe("a", asked).suback().codes, [asked.min(maximum).as_u8()]);
            }
        }
    }
}

/// [MQTT-3.2.2-11]
#[test]
fn publish_above_the_maximum_qos_ends_the_connection() {
    for version in Version::ALL {
        for (maximum, qos) in [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (QoS::from_bits(a), QoS::from_bits(b))) {
            let broker = with_maximum_qos(maximum.expect("a QoS"));
            let mut client = broker.client("c").version(version).connect();
            client.send_publish("a", qos.expect("a QoS"), false, b"");
            client.expect_disconnect(ReasonCode::QosNotSupported);
        }
    }
}

/// [MQTT-3.2.2-12]
#[test]
fn will_above_the_maximum_qos_is_refused() {
    for version in Version::ALL {
        let broker = with_maximum_qos(QoS::AtLeastOnce);
        let connecting = broker.client("c").version(version).will("gone", b"", QoS::ExactlyOnce, false);
        let (client, answer) = connecting.attempt();
        if version.is_v5() {
            assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::QosNotSupported);
        }
        assert!(client.is_closed());
    }
}

fn without_retain() -> Broker {
    Broker::with(|options, _| options.limits.retain_available = false)
}

/// [MQTT-3.2.2-13]
#[test]
fn retained_will_is_refused_where_retain_is_not_available() {
    for version in Version::ALL {
        let broker = without_retain();
        let connecting = broker.client("c").version(version).will("gone", b"", QoS::AtMostOnce, true);
        let (client, answer) = connecting.attempt();
        if version.is_v5() {
            assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::RetainNotSupported);
        }
        assert!(client.is_closed());
    }
}

/// [MQTT-3.2.2-14]
#[test]
fn retained_publish_ends_the_connection_where_retain_is_not_available() {
    for version in Version::ALL {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let broker = without_retain();
            let mut client = broker.client("c").version(version).connect();
            if version.is_v5() {
                assert_eq!(client.connack.as_ref().expect("CONNACK").connack().retain_available, Some(false));
            }
            client.send_publish("a", qos, true, b"x");
            client.expect_disconnect(ReasonCode::RetainNotSupported);
        }
    }
}

/// [MQTT-3.2.2-15]
#[test]
fn packet_above_our_maximum_ends_the_connection_before_its_body_arrives() {
    for version in Version::ALL {
        let broker = Broker::with(|options, _| options.limits.packet_bytes_max = 1000);
        let mut client = broker.client("c").version(version).connect();
        if version.is_v5() {
            assert_eq!(client.connack.as_ref().expect("CONNACK").connack().maximum_packet_size, Some(1000));
        }
        let fitting = wire::publish(version, 0x30, b"a", 0, &vec![b'x'; 1000 - 6 - wire::no_properties(version).len()]);
        assert_eq!(fitting.len(), 1000);
        client.send(&fitting);
        client.ping();
        client.send(&[0x30, 0xE6, 0x07]); // 998 behind a header of 3: 1001
        client.expect_disconnect(ReasonCode::PacketTooLarge);
    }
}

/// [MQTT-3.2.2-17] [MQTT-3.2.2-18]
#[test]
fn topic_alias_above_our_maximum_ends_the_connection() {
    for (maximum, alias, fine) in [(4, 4, true), (4, 5, false), (0, 1, false), (4, u16::MAX, false)] {
        let broker = Broker::with(|options, _| options.limits.topic_alias_in_max = maximum);
        let mut client = broker.client("c").connect();
        let told = client.connack.as_ref().expect("CONNACK").connack().topic_alias_maximum;
        assert_eq!(told.unwrap_or(0), maximum);
        client.subscribe("a", QoS::AtMostOnce);
        let publish =
            breakwater_proto::OutPublish { topic_alias: alias, ..out_publish("a", QoS::AtMostOnce, false, 0, b"x") };
        client.send_out(&publish);
        if fine {
            client.send_out(&breakwater_proto::OutPublish { topic: "", ..publish });
            assert_eq!(client.payloads(), [b"x", b"x"]);
        } else {
            client.expect_disconnect(ReasonCode::TopicAliasInvalid);
        }
    }
}

/// [MQTT-3.2.2-19] [MQTT-3.2.2-20]
#[test]
fn reason_string_and_user_properties_are_left_out_of_a_connack_that_would_be_too_large() {
    for (most, told) in [(5, false), (16, false), (17, true), (200, true)] {
        let broker = Broker::new().authenticator(Script::of([script::refuse(ReasonCode::Banned)]));
        let (client, answer) = broker.client("c").set(|connect| connect.maximum_packet_size = Some(most)).attempt();
        let answer = answer.expect("CONNACK");
        assert!(answer.bytes().len() <= most as usize);
        assert_eq!(answer.connack().reason, ReasonCode::Banned);
        assert_eq!(answer.connack().reason_string, told.then_some("not today"), "{most}: {}", answer.bytes().len());
        assert!(answer.connack().user_properties.is_empty());
        assert!(client.is_closed());
    }
}

#[test]
fn connack_announces_every_limit_that_binds_the_client() {
    let broker = Broker::with(|options, _| {
        let limits = &mut options.limits;
        limits.receive_maximum = 7;
        limits.wildcard_available = false;
        limits.shared_available = false;
        limits.subscription_ids_available = false;
    });
    let mut client = broker.client("c").connect();
    let connack = client.connack.clone().expect("CONNACK");
    let connack = connack.connack();
    assert_eq!(connack.receive_maximum, Some(7));
    assert_eq!(connack.wildcard_available, Some(false));
    assert_eq!(connack.shared_available, Some(false));
    assert_eq!(connack.subscription_ids_available, Some(false));
    assert_eq!(client.subscribe("a", QoS::AtMostOnce).suback().codes, [0]);
    client.send_subscribe(&[("a", SubscribeOptions::default())], Some(1));
    client.expect_disconnect(ReasonCode::SubscriptionIdentifiersNotSupported);
    let client = Broker::new().client("c").connect();
    let connack = client.connack.as_ref().expect("CONNACK").connack();
    assert_eq!((connack.maximum_qos, connack.retain_available, connack.wildcard_available), (None, None, None));
    assert_eq!((connack.shared_available, connack.subscription_ids_available), (None, None));
}

/// [MQTT-3.2.2-7] [MQTT3-3.2.2-5]
#[test]
fn denied_will_ends_the_connection_in_every_version() {
    for version in Version::ALL {
        let broker = Broker::new().authorizer(Arc::new(Rules::default()));
        let connecting = broker.client("c").version(version).will("denied", b"", QoS::AtMostOnce, false);
        let (mut client, answer) = connecting.attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::NotAuthorized);
        assert!(client.is_closed());
        assert!(client.receive().is_empty());
    }
}
