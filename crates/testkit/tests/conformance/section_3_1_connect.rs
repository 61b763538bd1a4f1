//! Section 3.1: CONNECT. What a CONNECT that breaks the format gets stands in `section_3_1_format.rs`, wills in
//! `section_3_1_will.rs`.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Connect, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Connecting, Received};

use crate::script::{self, Script};
use crate::wire;

/// What CONNACK of this version says if a session was there.
fn present(version: Version) -> bool {
    version != Version::V31
}

fn session_present(answer: &Option<Received>) -> bool {
    answer.as_ref().expect("CONNACK").connack().session_present
}

fn persistent(broker: &Broker, id: &'static str, version: Version) -> Connecting<'static> {
    broker.client(id).version(version).persistent()
}

/// [MQTT-3.1.0-1] [MQTT3-3.1.0-1]
#[test]
fn first_packet_other_than_connect_ends_the_connection_unread() {
    let later = [0x20, 0x30, 0x32, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0, 0x00];
    for first in later {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.send(&[first]);
        assert!(client.is_closed(), "{first:#x}");
        assert!(client.receive().is_empty());
    }
}

/// [MQTT-3.1.0-2] [MQTT3-3.1.0-2]
#[test]
fn second_connect_ends_the_connection() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        client.send_packet(&Packet::Connect(Connect::new(version, "c")));
        client.expect_disconnect(ReasonCode::ProtocolError);
        assert!(client.receive().is_empty(), "no second CONNACK");
        assert_eq!(broker.sessions(), 0);
    }
}

/// [MQTT-3.1.2-1] [MQTT3-3.1.2-1]
#[test]
fn unknown_protocol_name_ends_the_connection() {
    for name in [&b"MQTX"[..], b"mqtt", b"MQTT ", b"", b"MQIsd", b"HTTP/1.1"] {
        for level in [3, 4, 5] {
            let broker = Broker::new();
            let mut client = broker.connect();
            let body = [&wire::field(name)[..], &[level, 2, 0, 0, 0], &wire::field(b"c")].concat();
            client.send(&wire::packet(0x10, &body));
            assert!(client.is_closed());
            assert!(client.receive().is_empty());
            assert_eq!(broker.sessions(), 0);
        }
    }
}

/// [MQTT-3.1.2-2] [MQTT3-3.1.2-2]
#[test]
fn unknown_protocol_level_is_refused_in_the_form_that_its_client_can_read() {
    let old: [(&[u8], u8); 5] = [(b"MQTT", 0), (b"MQTT", 3), (b"MQIsdp", 2), (b"MQIsdp", 4), (b"MQTT", 0x83)];
    let new: [(&[u8], u8); 3] = [(b"MQTT", 6), (b"MQTT", 0x7F), (b"MQTT", 0x85)];
    for (name, level) in old.into_iter().chain(new) {
        let broker = Broker::new();
        let mut client = broker.connect();
        let body = [&wire::field(name)[..], &[level, 2, 0, 0, 0], &wire::field(b"c")].concat();
        client.send(&wire::packet(0x10, &body));
        client.version = if level >= 6 && level != 0x83 { Version::V5 } else { Version::V311 };
        let expect: &[u8] = if level >= 6 && level != 0x83 { &[0x20, 3, 0, 0x84, 0] } else { &[0x20, 2, 0, 1] };
        assert_eq!(client.receive(), expect, "{name:?} {level:#x}");
        assert!(client.is_closed());
    }
}

/// [MQTT-3.1.2-2] [MQTT3-3.1.2-2]
#[test]
fn version_that_is_turned_off_is_refused() {
    for version in Version::ALL {
        let broker = Broker::with(|options, _| options.limits.versions = options.limits.versions.without(version));
        let (client, answer) = broker.client("c").version(version).attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::UnsupportedProtocolVersion);
        assert!(client.is_closed());
    }
}

#[test]
fn bridge_bit_of_the_older_levels_is_taken() {
    for (name, level) in [(&b"MQTT"[..], 0x84), (b"MQIsdp", 0x83)] {
        let broker = Broker::new();
        let mut client = broker.connect();
        client.version = Version::V311;
        let body = [&wire::field(name)[..], &[level, 2, 0, 0], &wire::field(b"c")].concat();
        client.send(&wire::packet(0x10, &body));
        assert_eq!(client.receive(), [0x20, 2, 0, 0]);
    }
}

/// [MQTT-3.1.2-4] [MQTT3-3.1.2-6] [MQTT-3.1.4-4] [MQTT3-3.1.4-3] [MQTT-3.2.2-2] [MQTT3-3.2.2-1]
#[test]
fn clean_start_throws_the_stored_session_away() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = persistent(&broker, "c", version).connect();
        client.subscribe("a", QoS::AtLeastOnce);
        client.disconnect();
        let mut other = broker.client("o").connect();
        other.publish("a", QoS::AtLeastOnce, b"queued");
        let (mut client, answer) = broker.client("c").version(version).clean().attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::Success);
        other.publish("a", QoS::AtLeastOnce, b"live");
        client.expect_nothing();
        assert_eq!(broker.sessions(), 2);
        let answer = persistent(&broker, "c", version).attempt().1;
        assert!(!session_present(&answer), "the session of the clean start ended with its connection");
    }
}

/// [MQTT-3.2.2-2] [MQTT3-3.2.2-1]
#[test]
fn clean_start_is_answered_with_session_present_0() {
    for version in Version::ALL {
        let broker = Broker::new();
        persistent(&broker, "c", version).connect().disconnect();
        let answer = broker.client("c").version(version).clean().attempt().1;
        assert!(!session_present(&answer));
    }
}

/// [MQTT3-3.1.2-6]
#[test]
fn session_of_a_clean_connection_is_never_used_again() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).clean().connect();
        client.subscribe("a", QoS::AtLeastOnce);
        client.disconnect();
        assert_eq!(broker.sessions(), 0);
        let (mut client, answer) = persistent(&broker, "c", version).attempt();
        assert!(!session_present(&answer));
        client.publish("a", QoS::AtMostOnce, b"nobody");
        client.expect_nothing();
    }
}

/// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.1.3-2] [MQTT-3.2.2-3] [MQTT3-3.1.2-4] [MQTT3-3.1.2-5]
/// [MQTT3-3.1.3-2] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3]
#[test]
fn stored_session_is_taken_up_by_its_client_identifier() {
    for version in Version::ALL {
        let broker = Broker::new();
        let (mut client, answer) = persistent(&broker, "c", version).attempt();
        assert!(!session_present(&answer), "there was none");
        client.subscribe("a", QoS::ExactlyOnce);
        client.disconnect();
        let mut other = broker.client("o").connect();
        other.publish("a", QoS::AtLeastOnce, b"one");
        other.publish("a", QoS::ExactlyOnce, b"two");
        let answer = persistent(&broker, "C", version).attempt().1;
        assert!(!session_present(&answer), "another identifier is another session");
        let (mut client, answer) = persistent(&broker, "c", version).attempt();
        assert_eq!(session_present(&answer), present(version));
        assert_eq!(client.payloads(), [b"one", b"two"]);
        other.publish("a", QoS::AtLeastOnce, b"six");
        assert_eq!(client.payloads(), [b"six"]);
    }
}

/// [MQTT-3.1.2-23] [MQTT3-3.1.2-4]
#[test]
fn session_lasts_as_long_as_its_expiry_interval() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let broker = Broker::with(|options, _| options.limits.session_expiry_default_s = 3600);
        persistent(&broker, "c", version).connect().disconnect();
        broker.advance(Duration::from_secs(3590));
        assert_eq!(broker.sessions(), 1);
        broker.advance(Duration::from_secs(20));
        assert_eq!(broker.sessions(), 0);
        assert_eq!(broker.counter(Metric::SessionsExpired), 1);
    }
}

/// [MQTT-3.1.2-23]
#[test]
fn session_without_an_expiry_interval_ends_with_its_connection() {
    for ends in [true, false] {
        let broker = Broker::new();
        let mut client = broker.client("c").resume().connect();
        if ends {
            client.disconnect()
        } else {
            client.reset()
        }
        broker.step();
        assert_eq!(broker.sessions(), 0);
    }
}

#[test]
fn session_expiry_above_our_bound_is_cut_and_the_client_is_told() {
    let broker = Broker::with(|options, _| options.limits.session_expiry_max_s = 60);
    let client = broker.client("c").expiry(u32::MAX).connect();
    assert_eq!(client.connack.as_ref().expect("CONNACK").connack().session_expiry, Some(60));
    let client = broker.client("d").expiry(60).connect();
    assert_eq!(client.connack.as_ref().expect("CONNACK").connack().session_expiry, None);
}

/// [MQTT3-3.1.2-7]
#[test]
fn retained_messages_survive_the_session_that_published_them() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        client.publish_retained("a", QoS::AtLeastOnce, b"kept");
        client.disconnect();
        let mut client = broker.client("c").version(version).connect();
        client.subscribe("a", QoS::AtMostOnce);
        assert_eq!(client.payloads(), [b"kept"]);
    }
}

/// [MQTT-3.1.2-22] [MQTT3-3.1.2-24] [MQTT-3.1.2-20] [MQTT3-3.1.2-23] [MQTT-3.2.2-22]
#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut watcher = broker.client("w").connect();
        watcher.subscribe("gone", QoS::AtMostOnce);
        let mut client =
            broker.client("c").version(version).keep_alive(10).will("gone", b"c", QoS::AtMostOnce, false).connect();
        broker.advance(Duration::from_millis(14_900));
        client.ping();
        broker.advance(Duration::from_millis(14_900));
        assert!(!client.is_closed());
        broker.advance(Duration::from_millis(300));
        client.expect_disconnect(ReasonCode::KeepAliveTimeout);
        assert_eq!(watcher.payloads(), [b"c"]);
    }
}

/// [MQTT-3.1.2-21] [MQTT-3.2.2-21]
#[test]
fn server_keep_alive_is_announced_and_counted_by() {
    let broker = Broker::with(|options, _| options.limits.server_keep_alive_s = Some(10));
    let mut client = broker.client("c").keep_alive(1000).connect();
    assert_eq!(client.connack.as_ref().expect("CONNACK").connack().server_keep_alive, Some(10));
    broker.advance(Duration::from_secs(14));
    assert!(!client.is_closed());
    broker.advance(Duration::from_millis(1_300));
    client.expect_disconnect(ReasonCode::KeepAliveTimeout);
}

#[test]
fn keep_alive_above_our_bound_is_replaced() {
    let broker = Broker::with(|options, _| options.limits.keep_alive_max_s = 60);
    for (asked, told) in [(0, Some(60)), (61, Some(60)), (60, None), (5, None)] {
        let client = broker.client("c").keep_alive(asked).connect();
        assert_eq!(client.connack.as_ref().expect("CONNACK").connack().server_keep_alive, told);
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn message_above_the_clients_maximum_packet_size_is_dropped_and_counts_as_sent() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let broker = Broker::new();
        let connecting = broker.client("r").persistent().receive_maximum(1);
        let mut reader = connecting.set(|connect| connect.maximum_packet_size = Some(100)).connect();
        reader.subscribe("a", qos);
        let mut client = broker.client("c").connect();
        client.publish("a", qos, &[b'x'; 200]);
        client.publish("a", qos, b"small");
        assert_eq!(reader.payloads(), [b"small"]);
        assert_eq!(broker.counter(Metric::DroppedTooLarge), 1);
        reader.disconnect();
        let mut reader = broker.client("r").persistent().connect();
        reader.expect_nothing();
    }
}

/// [MQTT-3.1.2-24]
#[test]
fn client_that_takes_no_connack_gets_none_and_is_not_let_in() {
    for (most, told) in [(4, false), (5, true), (15, true)] {
        let broker = Broker::new();
        let mut old = broker.client("c").persistent().connect();
        let connecting = broker.client("c").persistent().set(|connect| connect.maximum_packet_size = Some(most));
        let (client, answer) = connecting.attempt();
        assert_eq!(answer.map(|answer| answer.connack().reason), told.then_some(ReasonCode::PacketTooLarge));
        assert!(client.is_closed());
        old.ping(); // and nothing is taken over
    }
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27]
#[test]
fn topic_aliases_to_the_client_stay_below_its_maximum() {
    for maximum in [0u16, 1, 3] {
        let broker = Broker::new();
        let mut reader = broker.client("r").set(|connect| connect.topic_alias_maximum = maximum).connect();
        reader.subscribe("#", QoS::AtMostOnce);
        let mut client = broker.client("c").connect();
        let mut seen = 0;
        for round in 0..3 {
            for number in 0..6 {
                client.publish(&format!("long/enough/topic/name/{number}"), QoS::AtMostOnce, &[round]);
                let message = reader.message();
                let alias = message.publish().topic_alias;
                assert!(alias.unwrap_or(0) <= maximum, "{alias:?}");
                seen = seen.max(alias.unwrap_or(0));
            }
        }
        assert_eq!(seen > 0, maximum > 0);
    }
}

/// [MQTT-3.1.2-28]
#[test]
fn response_information_is_given_only_to_who_asks() {
    let broker = Broker::with(|options, _| options.limits.response_information = Some("answers/".into()));
    for (asks, told) in [(false, None), (true, Some("answers/"))] {
        let client = broker.client("c").set(|connect| connect.request_response_information = asks).connect();
        assert_eq!(client.connack.as_ref().expect("CONNACK").connack().response_information, told);
    }
    let client = Broker::new().client("c").set(|connect| connect.request_response_information = true).connect();
    assert_eq!(client.connack.as_ref().expect("CONNACK").connack().response_information, None);
}

/// [MQTT-3.1.2-29]
#[test]
fn without_problem_information_only_disconnect_says_more_than_its_code() {
    let broker = Broker::new().authorizer(std::sync::Arc::new(script::Rules::default()));
    let mut client = broker.client("c").set(|connect| connect.request_problem_information = false).connect();
    for (qos, kind) in [(QoS::AtLeastOnce, PacketKind::PubAck), (QoS::ExactlyOnce, PacketKind::PubRec)] {
        client.send_publish("denied", qos, false, b"");
        let answer = client.next_of(kind);
        assert_eq!(answer.ack().reason, ReasonCode::NotAuthorized);
        assert_eq!(answer.ack().reason_string, None);
        assert!(answer.ack().user_properties.is_empty());
    }
    let answer = client.subscribe("denied", QoS::AtMostOnce);
    assert_eq!((answer.suback().reason_string, answer.suback().user_properties.count()), (None, 0));
    let answer = client.unsubscribe("unknown");
    assert_eq!((answer.unsuback().reason_string, answer.unsuback().user_properties.count()), (None, 0));
    client.send_packet(&Packet::PingResp);
    client.expect_disconnect(ReasonCode::ProtocolError);
}

/// [MQTT-3.1.3-5] [MQTT3-3.1.3-5]
#[test]
fn every_identifier_of_1_to_23_letters_and_digits_is_allowed() {
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in Version::ALL {
        let broker = Broker::new();
        for length in 1..=23 {
            broker.client(&letters[..length]).version(version).connect().disconnect();
            broker.client(&letters[letters.len() - length..]).version(version).connect().disconnect();
        }
    }
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
#[test]
fn empty_identifier_gets_a_unique_one_that_works_as_if_it_had_been_sent() {
    let broker = Broker::new().shards(2);
    let mut first = broker.client("").expiry(60).resume().connect();
    let second = broker.client("").connect();
    let id_of = |client: &breakwater_testkit::Client| {
        let connack = client.connack.as_ref().expect("CONNACK");
        connack.connack().assigned_client_id.expect("an identifier is assigned").to_owned()
    };
    let (one, two) = (id_of(&first), id_of(&second));
    assert!(!one.is_empty() && one != two);
    assert_eq!(broker.sessions(), 2);
    first.subscribe("a", QoS::AtLeastOnce);
    first.disconnect();
    let answer = broker.client(&one).resume().expiry(60).attempt().1;
    assert!(session_present(&answer));
    let named = broker.client("named").connect();
    assert_eq!(named.connack.as_ref().expect("CONNACK").connack().assigned_client_id, None);
}

/// [MQTT3-3.1.3-6]
#[test]
fn empty_identifier_with_a_clean_session_is_fine_in_311() {
    let broker = Broker::new();
    let mut first = broker.client("").v311().connect();
    let mut second = broker.client("").v311().connect();
    first.ping();
    second.ping();
    assert_eq!(broker.sessions(), 2);
}

/// [MQTT3-3.1.3-7] [MQTT3-3.1.3-8] [MQTT3-3.2.2-5]
#[test]
fn empty_identifier_without_a_clean_session_is_refused_in_311() {
    let broker = Broker::new();
    let (mut client, answer) = broker.client("").v311().resume().attempt();
    assert_eq!(answer.expect("CONNACK").bytes(), [0x20, 2, 0, 2]);
    assert!(client.is_closed());
    assert!(client.receive().is_empty());
}

/// [MQTT-3.1.3-8] [MQTT3-3.1.3-9] [MQTT3-3.2.2-5]
#[test]
fn identifier_that_is_not_allowed_is_refused() {
    let long = "x".repeat(257);
    let cases = [
        (Version::V5, &long[..], true),
        (Version::V311, &long[..], true),
        (Version::V31, &long[..24], true),
        (Version::V31, "", true),
        (Version::V5, &long[..256], false),
        (Version::V311, &long[..256], false),
        (Version::V31, &long[..23], false),
    ];
    for (version, id, refused) in cases {
        let broker = Broker::new();
        let (client, answer) = broker.client(id).version(version).attempt();
        let expect = if refused { ReasonCode::ClientIdentifierNotValid } else { ReasonCode::Success };
        assert_eq!(answer.expect("CONNACK").connack().reason, expect, "{version} {}", id.len());
        assert_eq!(client.is_closed(), refused);
    }
    for version in [Version::V5, Version::V311] {
        let broker = Broker::with(|options, _| options.limits.allow_empty_client_id = false);
        let (client, answer) = broker.client("").version(version).attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::ClientIdentifierNotValid);
        assert!(client.is_closed());
    }
}

/// [MQTT-3.1.4-2] [MQTT3-3.2.2-5]
#[test]
fn connect_that_fails_a_further_check_ends_the_connection() {
    for version in Version::ALL {
        let broker = Broker::new().authenticator(Script::of([script::refuse(ReasonCode::BadUserNameOrPassword)]));
        let (client, answer) = broker.client("c").version(version).attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::BadUserNameOrPassword);
        assert!(client.is_closed());
        assert_eq!(broker.sessions(), 0);
    }
}

/// [MQTT-3.1.4-2]
#[test]
fn will_that_may_not_be_published_is_refused_with_its_client() {
    for (topic, expect) in [
        ("denied/gone", ReasonCode::NotAuthorized),
        ("asked/gone", ReasonCode::NotAuthorized),
        ("$SYS/gone", ReasonCode::NotAuthorized),
        ("fine/gone", ReasonCode::Success),
    ] {
        let broker = Broker::new().authorizer(std::sync::Arc::new(script::Rules::default()));
        let (client, answer) = broker.client("c").will(topic, b"", QoS::AtMostOnce, false).attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, expect);
        assert_eq!(client.is_closed(), expect.is_error());
    }
}

/// [MQTT-3.1.4-3] [MQTT3-3.1.4-2]
#[test]
fn second_connection_of_a_client_identifier_ends_the_first() {
    for old in Version::ALL {
        for new in Version::ALL {
            let broker = Broker::new().shards(2);
            let mut first = broker.client("c").version(old).connect();
            let mut second = broker.client("c").version(new).connect();
            first.expect_disconnect(ReasonCode::SessionTakenOver);
            second.ping();
            assert_eq!(broker.sessions(), 1);
            assert_eq!(broker.counter(Metric::SessionsTakenOver), 1);
        }
    }
}

/// [MQTT-3.1.4-3] [MQTT-3.1.4-2]
#[test]
fn connection_that_is_refused_takes_nothing_over() {
    let broker = Broker::new().authenticator(Script::of([script::accept(), script::refuse(ReasonCode::NotAuthorized)]));
    let mut first = broker.client("c").connect();
    let (second, _) = broker.client("c").clean().attempt();
    assert!(second.is_closed());
    first.ping();
}

/// [MQTT-3.1.4-5] [MQTT3-3.1.4-4]
#[test]
fn good_connect_is_answered_with_connack_0() {
    for version in Version::ALL {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).start();
        let answer = client.next_packet();
        assert_eq!(answer.connack().reason, ReasonCode::Success);
        if !version.is_v5() {
            assert_eq!(answer.bytes(), [0x20, 2, 0, 0]);
        }
        client.expect_nothing();
    }
}

/// [MQTT-3.1.4-6] [MQTT3-3.1.4-5]
#[test]
fn nothing_behind_a_refused_connect_is_processed() {
    for version in Version::ALL {
        let accepted_then_refused = [script::accept(), script::refuse(ReasonCode::NotAuthorized)];
        let broker = Broker::new().authenticator(Script::of(accepted_then_refused));
        let mut reader = broker.client("r").connect();
        reader.subscribe("#", QoS::AtMostOnce);
        let mut client = broker.connect();
        client.version = version;
        let mut bytes = wire::connect(version, 2, &[b"c"]);
        bytes.extend(wire::publish(version, 0x30, b"a", 0, b"smuggled"));
        client.send(&bytes);
        assert_eq!(client.next_packet().connack().reason, ReasonCode::NotAuthorized);
        assert!(client.receive().is_empty());
        assert!(client.is_closed());
        reader.expect_nothing();
    }
}

/// A client need not wait for CONNACK [MQTT-3.1.4-5].
#[test]
fn packets_right_behind_connect_are_processed_once_it_is_let_in() {
    for version in Version::ALL {
        for later in [false, true] {
            let script = if later { Script::of([breakwater_contract::AuthStep::Later]) } else { Script::of([]) };
            let broker = Broker::new().authenticator(script.clone());
            let mut client = broker.connect();
            client.version = version;
            let mut bytes = wire::connect(version, 2, &[b"c"]);
            bytes.extend(wire::subscribe(version, 1, b"a", 0));
            bytes.extend(wire::publish(version, 0x30, b"a", 0, b"early"));
            client.send(&bytes);
            if later {
                client.expect_nothing();
                let token = script.last().token;
                broker.complete(breakwater_contract::Completion::Auth { token, step: script::accept() });
            }
            assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
            client.next_of(PacketKind::SubAck);
            assert_eq!(client.payloads(), [b"early"]);
        }
    }
}
