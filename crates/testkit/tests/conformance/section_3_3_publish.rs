//! Section 3.3: PUBLISH, and what the broker does with it.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Ack, OutPublish, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, out_publish};

use crate::pair::{ACKNOWLEDGED, QOS, options, pairs, pairs_of, pairs_v5};
use crate::script::Rules;
use crate::wire;

/// [MQTT-3.3.1-1] [MQTT3-3.3.1-1] [MQTT-4.4.0-1] [MQTT3-4.4.0-1]
#[test]
fn dup_is_set_when_a_publish_is_sent_again_under_its_identifier() {
    for qos in ACKNOWLEDGED {
        for mut pair in pairs() {
            pair.reader.subscribe("t", qos);
            pair.publisher.publish("t", qos, b"m");
            let first = pair.reader.next_packet();
            assert!(!first.publish().dup);
            for _ in 0..2 {
                pair.cut();
                pair.come_back();
                let again = pair.reader.next_packet();
                let (first, again) = (first.publish(), again.publish());
                assert!(again.dup && again.qos == qos);
                assert_eq!((again.packet_id, again.topic, again.payload), (first.packet_id, "t", &b"m"[..]));
                pair.reader.expect_nothing();
            }
        }
    }
}

/// [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
#[test]
fn dup_with_qos_0_ends_the_connection_but_in_mqtt_31() {
    for mut pair in pairs() {
        pair.publisher.send(&wire::publish(pair.version, 0x38, b"t", 0, b"m"));
        if pair.version == Version::V31 {
            assert!(!pair.publisher.is_closed());
        } else {
            pair.publisher.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
}

/// [MQTT-3.3.1-2] [MQTT3-3.3.1-2] [MQTT-4.3.1-1] [MQTT3-4.3.1-1]
#[test]
fn deliveries_of_qos_0_have_neither_dup_nor_an_identifier() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtMostOnce);
        for first in [0x30, 0x32, 0x3A, 0x34, 0x3C] {
            pair.publisher.send(&wire::publish(pair.version, first, b"t", u16::from(first), b"m"));
            assert_eq!(pair.reader.receive(), wire::publish(pair.version, 0x30, b"t", 0, b"m"));
        }
    }
}

/// [MQTT-3.3.1-3] [MQTT3-3.3.1-3]
#[test]
fn dup_of_the_publisher_is_not_passed_on() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        for (first, qos) in [(0x3A, QoS::AtLeastOnce), (0x3C, QoS::ExactlyOnce)] {
            pair.publisher.send(&wire::publish(pair.version, first, b"t", 9, b"m"));
            let message = pair.reader.message();
            assert_eq!((message.publish().dup, message.publish().qos), (false, qos));
        }
    }
}

/// [MQTT-3.3.1-4] [MQTT3-3.3.1-4]
#[test]
fn qos_3_ends_the_connection_and_reaches_nobody() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        pair.publisher.send(&wire::publish(pair.version, 0x36, b"t", 1, b"m"));
        pair.publisher.expect_disconnect(ReasonCode::MalformedPacket);
        pair.reader.expect_nothing();
    }
}

/// [MQTT-3.3.2-1] [MQTT3-3.3.2-1] [MQTT-3.3.2-3] [MQTT3-3.3.2-3]
#[test]
fn topic_is_delivered_as_it_was_published_and_matches_the_filter() {
    let topics = ["a", "/", "a/b", "a//b", "ä/€/😀", " a b ", "a/B", "$a/b"];
    for filter in ["a", "#", "+/+", "a/+/b", "a/#", "ä/€/😀", "/", " a b ", "$a/#"] {
        for mut pair in pairs() {
            pair.reader.subscribe(filter, QoS::AtMostOnce);
            for topic in topics {
                pair.publisher.publish(topic, QoS::AtMostOnce, topic.as_bytes());
            }
            let expected: Vec<&[u8]> =
                topics.iter().filter(|topic| breakwater_proto::matches(filter, topic)).map(|t| t.as_bytes()).collect();
            assert!(!expected.is_empty());
            for payload in expected {
                let message = pair.reader.message();
                assert_eq!(message.publish().topic.as_bytes(), payload);
                assert_eq!(message.publish().payload, payload);
            }
            pair.reader.expect_nothing();
        }
    }
}

/// [MQTT-3.3.2-2] [MQTT3-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-4.7.1-1]
#[test]
fn wildcard_in_a_topic_name_ends_the_connection() {
    for topic in [&b"#"[..], b"+", b"a/+", b"a/#", b"a+b", b"#a", b"a/+/b"] {
        for first in [0x30, 0x32, 0x34] {
            for mut pair in pairs_of(Version::V5, |_| {}).chain(pairs_of(Version::V311, |_| {})) {
                pair.reader.subscribe("#", QoS::AtMostOnce);
                pair.publisher.send(&wire::publish(pair.version, first, topic, 1, b"m"));
                pair.publisher.expect_disconnect(ReasonCode::TopicNameInvalid);
                pair.reader.expect_nothing();
            }
        }
    }
}

/// [MQTT-3.3.2-5]
#[test]
fn message_that_expires_before_its_delivery_begins_is_dropped() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.cut();
        for (number, expiry) in [(1, Some(5)), (2, None), (3, Some(50))] {
            let publish = out_publish("t", QoS::AtLeastOnce, false, number, b"m");
            pair.publisher.send_out(&OutPublish { expiry, ..publish });
        }
        pair.broker.advance(Duration::from_secs(5));
        pair.come_back();
        assert_eq!(pair.reader.message().publish().expiry, None);
        assert_eq!(pair.reader.message().publish().expiry, Some(45));
        pair.reader.expect_nothing();
        assert_eq!(pair.broker.counter(Metric::DroppedExpired), 1);
    }
}

/// [MQTT-3.3.2-6]
#[test]
fn expiry_interval_shrinks_by_the_time_that_the_broker_held_the_message() {
    for qos in QOS {
        for mut pair in pairs_v5() {
            pair.reader.subscribe("t", qos);
            let publish = out_publish("t", qos, false, u16::from(qos != QoS::AtMostOnce), b"m");
            pair.publisher.send_out(&OutPublish { expiry: Some(100), ..publish });
            assert_eq!(pair.reader.message().publish().expiry, Some(100), "no time has passed");
        }
    }
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.cut();
        let publish = out_publish("t", QoS::AtLeastOnce, false, 1, b"m");
        pair.publisher.send_out(&OutPublish { expiry: Some(100), ..publish });
        pair.broker.advance(Duration::from_secs(30));
        pair.come_back();
        let message = pair.reader.next_packet();
        assert_eq!(message.publish().expiry, Some(70));
    }
}

/// [MQTT-3.3.2-13] [MQTT-3.3.2-19]
#[test]
fn response_topic_or_content_type_that_is_no_utf_8_ends_the_connection() {
    for id in [0x08, 0x03] {
        for bad in [&b"\xFF"[..], b"a\xED\xA0\x80", b"a\0"] {
            for mut pair in pairs_v5() {
                let property = wire::join(&[&[id], &wire::field(bad)]);
                pair.publisher.send(&wire::publish_with(b"t", &property, b"m"));
                pair.publisher.expect_disconnect(ReasonCode::MalformedPacket);
            }
        }
    }
}

/// [MQTT-3.3.2-14]
#[test]
fn response_topic_with_a_wildcard_or_empty_ends_the_connection() {
    for bad in [&b"#"[..], b"a/+", b"a/#", b""] {
        for mut pair in pairs_v5() {
            let property = wire::join(&[&[0x08], &wire::field(bad)]);
            pair.publisher.send(&wire::publish_with(b"t", &property, b"m"));
            pair.publisher.expect_disconnect(ReasonCode::ProtocolError);
        }
    }
}

/// Properties of a PUBLISH that reach the subscriber as they are.
fn travelling() -> Vec<u8> {
    wire::join(&[
        &wire::user_property(b"z", b"1"),
        &[0x01, 1],
        &wire::join(&[&[0x03], &wire::field(b"text/plain")]),
        &wire::user_property(b"a", b"2"),
        &wire::join(&[&[0x08], &wire::field("answers/ö".as_bytes())]),
        &wire::user_property(b"z", b"1"),
        &wire::join(&[&[0x09], &wire::field(b"\x00\xFF\x01")]),
        &wire::user_property(b"", b""),
    ])
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn properties_of_a_publish_are_forwarded_unchanged_and_in_order() {
    let properties = travelling();
    for qos in QOS {
        for retained in [false, true] {
            for mut pair in pairs_v5() {
                let publish = OutPublish {
                    properties: breakwater_proto::ForwardProperties::from_stripped(&properties),
                    ..out_publish("t", qos, retained, u16::from(qos != QoS::AtMostOnce), b"m")
                };
                if retained {
                    pair.publisher.send_out(&publish);
                    pair.broker.step();
                }
                pair.reader.subscribe("t", qos);
                if !retained {
                    pair.publisher.send_out(&publish);
                }
                let message = pair.reader.message();
                let got = message.publish().properties;
                assert_eq!(got.payload_format(), Some(1));
                assert_eq!(got.content_type(), Some("text/plain"));
                assert_eq!(got.response_topic(), Some("answers/ö"));
                assert_eq!(got.correlation(), Some(&b"\x00\xFF\x01"[..]));
                let user: Vec<_> = got.user_properties().collect();
                assert_eq!(user, [("z", "1"), ("a", "2"), ("z", "1"), ("", "")]);
            }
        }
    }
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-17]
#[test]
fn properties_go_to_clients_that_can_read_them_only() {
    let broker = Broker::new().shards(2);
    let mut publisher = broker.client("p").connect();
    let mut readers: Vec<_> =
        Version::ALL.iter().map(|version| broker.client(version.name()).version(*version).connect()).collect();
    for reader in &mut readers {
        reader.subscribe("t", QoS::AtMostOnce);
    }
    publisher.send(&wire::publish_with(b"t", &travelling(), b"m"));
    for reader in &mut readers {
        let message = reader.message();
        assert_eq!(message.publish().payload, b"m");
        assert_eq!(message.publish().properties.is_empty(), !reader.version.is_v5());
    }
}

#[test]
fn payload_format_and_the_payload_itself_are_not_compared() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::AtMostOnce);
        pair.publisher.send(&wire::publish_with(b"t", &[0x01, 1], b"\xFF\xFE"));
        assert_eq!(pair.reader.payloads(), [b"\xFF\xFE"]);
        pair.publisher.send(&wire::publish_with(b"t", &[0x01, 2], b"m"));
        pair.publisher.expect_disconnect(ReasonCode::ProtocolError);
    }
}

/// [MQTT-3.3.4-1] [MQTT3-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8]
#[test]
fn publish_is_answered_as_its_qos_asks_for() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtMostOnce);
        let version = pair.version;
        pair.publisher.send(&wire::publish(version, 0x30, b"t", 0, b"m"));
        assert_eq!(pair.publisher.receive(), []);
        pair.publisher.send(&wire::publish(version, 0x32, b"t", 0x0102, b"m"));
        assert_eq!(pair.publisher.receive(), [0x40, 2, 1, 2]);
        pair.publisher.send(&wire::publish(version, 0x34, b"t", 0x0304, b"m"));
        assert_eq!(pair.publisher.receive(), [0x50, 2, 3, 4]);
        pair.publisher.send(&[0x62, 2, 3, 4]);
        assert_eq!(pair.publisher.receive(), [0x70, 2, 3, 4]);
        assert_eq!(pair.reader.payloads().len(), 3);
    }
}

/// [MQTT-3.3.4-2] [MQTT3-3.3.5-1] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn overlapping_subscriptions_make_one_copy_with_the_highest_qos_and_all_identifiers() {
    let all = [("a/b", 0, 7), ("a/+", 2, 5), ("#", 1, 9), ("+/b", 0, 5), ("a/b/#", 1, 0)];
    for mut pair in pairs() {
        for (filter, qos, id) in all {
            let id = (pair.version.is_v5() && id > 0).then_some(id);
            pair.reader.subscribe_with(&[(filter, options(QOS[qos], |_| {}))], id);
        }
        for (sent, got) in [(0, 0), (1, 1), (2, 2)] {
            pair.publisher.publish("a/b", QOS[sent], b"m");
            let message = pair.reader.message();
            assert_eq!(message.publish().qos, QOS[got]);
            let mut ids: Vec<u32> = message.publish().subscription_identifiers().collect();
            ids.sort_unstable();
            assert_eq!(ids, if pair.version.is_v5() { &[5, 5, 7, 9][..] } else { &[] });
            pair.reader.expect_nothing();
        }
        pair.publisher.publish("a/c", QoS::ExactlyOnce, b"m");
        let message = pair.reader.message();
        assert_eq!(message.publish().qos, QoS::ExactlyOnce);
        let mut ids: Vec<u32> = message.publish().subscription_identifiers().collect();
        ids.sort_unstable();
        assert_eq!(ids, if pair.version.is_v5() { &[5, 9][..] } else { &[] });
    }
}

/// [MQTT-3.3.4-3]
#[test]
fn subscription_identifier_comes_with_live_kept_and_retained_messages_until_it_is_replaced() {
    for mut pair in pairs_v5() {
        pair.publisher.publish_retained("t", QoS::AtLeastOnce, b"retained");
        for (round, id) in [Some(268_435_455), Some(1), None].into_iter().enumerate() {
            pair.reader.subscribe_with(&[("t", options(QoS::AtLeastOnce, |_| {}))], id);
            pair.publisher.publish("t", QoS::AtLeastOnce, b"live");
            let mut messages = vec![pair.reader.message(), pair.reader.message()];
            pair.cut();
            pair.publisher.publish("t", QoS::AtLeastOnce, b"kept");
            pair.come_back();
            messages.push(pair.reader.message());
            for message in messages {
                let ids: Vec<u32> = message.publish().subscription_identifiers().collect();
                assert_eq!(ids, id.into_iter().collect::<Vec<_>>(), "{round} {message:?}");
            }
        }
    }
}

/// [MQTT-3.3.4-5]
#[test]
fn several_copies_carry_the_identifier_of_their_own_subscription_each() {
    /// More than the router copies: members of such sets may get one copy for each.
    const MANY: usize = 4100;
    let broker = Broker::new();
    let mut readers: Vec<_> = (0..MANY).map(|number| broker.client(&format!("r{number}")).connect()).collect();
    for reader in &mut readers {
        reader.subscribe_with(&[("a/+", options(QoS::AtMostOnce, |_| {}))], Some(1));
        reader.subscribe_with(&[("a/#", options(QoS::AtMostOnce, |_| {}))], Some(2));
    }
    let mut publisher = broker.client("p").connect();
    publisher.publish("a/b", QoS::AtLeastOnce, b"m");
    for reader in &mut readers {
        let mut ids = Vec::new();
        while let Some(message) = reader.try_next() {
            ids.extend(message.publish().subscription_identifiers());
        }
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
    }
}

/// What a client gets that does so: [MQTT-3.3.4-6]
#[test]
fn subscription_identifier_from_a_client_ends_the_connection() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("#", QoS::AtMostOnce);
        pair.publisher.send(&wire::publish_with(b"t", &[0x0B, 1], b"m"));
        pair.publisher.expect_disconnect(ReasonCode::ProtocolError);
        pair.reader.expect_nothing();
    }
}

/// What a client gets that does so: [MQTT-3.3.4-7]
#[test]
fn more_unfinished_publishes_than_the_receive_maximum_end_the_connection() {
    for mut pair in pairs_of(Version::V5, |options| options.limits.receive_maximum = 3) {
        let announced = pair.publisher.connack.as_ref().expect("connected").connack().receive_maximum;
        assert_eq!(announced, Some(3));
        for id in 1..=3 {
            pair.publisher.send(&wire::publish(Version::V5, 0x34, b"t", id, b"m"));
        }
        // Neither a repetition nor a finished exchange counts, and QoS 1 is finished at once.
        pair.publisher.send(&wire::publish(Version::V5, 0x3C, b"t", 3, b"m"));
        pair.publisher.send_packet(&Packet::PubRel(Ack::new(2, ReasonCode::Success)));
        pair.publisher.send(&wire::publish(Version::V5, 0x32, b"t", 9, b"m"));
        pair.publisher.send(&wire::publish(Version::V5, 0x34, b"t", 4, b"m"));
        assert!(!pair.publisher.is_closed());
        pair.publisher.send(&wire::publish(Version::V5, 0x34, b"t", 5, b"m"));
        pair.publisher.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
    }
}

/// A client whose window is full, or that believes so, is served on: [MQTT-3.3.4-8]
#[test]
fn client_with_a_full_send_window_is_answered_on_everything_else() {
    for mut pair in pairs_of(Version::V5, |options| options.limits.receive_maximum = 1) {
        pair.publisher.send(&wire::publish(Version::V5, 0x34, b"t", 1, b"m"));
        pair.publisher.next_of(PacketKind::PubRec);
        pair.publisher.ping();
        assert_eq!(pair.publisher.subscribe("t", QoS::AtMostOnce).suback().codes, [0]);
        pair.publisher.publish("t", QoS::AtMostOnce, b"echo");
        assert_eq!(pair.publisher.payloads(), [b"echo"]);
    }
}

/// [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
fn broker_keeps_within_the_clients_receive_maximum_and_delays_nothing_else() {
    for qos in ACKNOWLEDGED {
        for maximum in [1_u16, 2, 5] {
            for mut pair in pairs_v5() {
                let mut reader = pair.broker.client("r").receive_maximum(maximum).connect();
                reader.subscribe("t", qos);
                reader.subscribe("zero", QoS::AtMostOnce);
                for number in 0..10_u8 {
                    pair.publisher.publish("t", qos, &[number]);
                }
                let mut open: Vec<u16> = (0..maximum).map(|_| reader.next_packet().publish().packet_id).collect();
                reader.expect_nothing();
                // Everything but such a PUBLISH goes on.
                reader.ping();
                pair.publisher.publish("zero", QoS::AtMostOnce, b"0");
                assert_eq!(reader.message().publish().payload, b"0");
                assert_eq!(reader.publish("none", QoS::ExactlyOnce, b""), ReasonCode::NoMatchingSubscribers);
                assert_eq!(reader.unsubscribe("none").unsuback().codes, [0x11]);
                for number in maximum..10 {
                    let id = open.remove(0);
                    if qos == QoS::AtLeastOnce {
                        reader.send_packet(&Packet::PubAck(Ack::new(id, ReasonCode::Success)));
                    } else {
                        reader.send_packet(&Packet::PubRec(Ack::new(id, ReasonCode::Success)));
                        assert_eq!(reader.next_packet().kind(), PacketKind::PubRel);
                        reader.expect_nothing();
                        reader.send_packet(&Packet::PubComp(Ack::new(id, ReasonCode::Success)));
                    }
                    let next = reader.next_packet();
                    assert_eq!(next.publish().payload, [number as u8]);
                    open.push(next.publish().packet_id);
                    reader.expect_nothing();
                }
            }
        }
    }
}

/// [MQTT3-3.3.5-2]
#[test]
fn denied_publish_of_an_old_client_is_acknowledged_and_goes_nowhere() {
    for version in [Version::V31, Version::V311] {
        let broker = Broker::new().authorizer(std::sync::Arc::new(Rules::default()));
        let mut reader = broker.client("r").connect();
        reader.subscribe("#", QoS::ExactlyOnce);
        let mut client = broker.client("c").version(version).connect();
        for qos in QOS {
            assert_eq!(client.publish("denied", qos, b"m"), ReasonCode::Success);
            assert_eq!(client.publish_retained("denied", qos, b"m"), ReasonCode::Success);
        }
        client.ping();
        reader.expect_nothing();
        reader.subscribe("+", QoS::ExactlyOnce);
        reader.expect_nothing();
        assert_eq!(broker.counter(Metric::PublishDenied), 6);
    }
}

/// [MQTT-4.3.3-9]
#[test]
fn denied_publish_of_a_new_client_is_told_so_and_goes_nowhere() {
    let broker = Broker::new().authorizer(std::sync::Arc::new(Rules::default()));
    let mut reader = broker.client("r").connect();
    reader.subscribe("#", QoS::ExactlyOnce);
    let mut client = broker.client("c").connect();
    for qos in ACKNOWLEDGED {
        assert_eq!(client.publish("denied", qos, b"m"), ReasonCode::NotAuthorized);
        assert_eq!(client.publish_retained("denied", qos, b"m"), ReasonCode::NotAuthorized);
    }
    client.publish("denied", QoS::AtMostOnce, b"m");
    client.ping();
    reader.expect_nothing();
    assert_eq!(broker.router().counts().retained, 0);
    // The identifier of the refused exchange is free: this is a new message.
    client.send(&wire::publish(Version::V5, 0x34, b"denied", 7, b"1"));
    assert_eq!(client.next_of(PacketKind::PubRec).ack().reason, ReasonCode::NotAuthorized);
    client.send(&wire::publish(Version::V5, 0x34, b"fine", 7, b"2"));
    assert_eq!(client.next_of(PacketKind::PubRec).ack().reason, ReasonCode::Success);
    assert_eq!(reader.payloads(), [b"2"]);
}

#[test]
fn publish_whose_verdict_comes_later_waits_for_it() {
    use breakwater_contract::{Completion, Verdict};
    for allowed in [true, false] {
        let rules = std::sync::Arc::new(Rules::default());
        let broker = Broker::new().authorizer(rules.clone());
        let mut reader = broker.client("r").connect();
        reader.subscribe("#", QoS::ExactlyOnce);
        let mut client = broker.client("c").connect();
        client.send_publish("asked", QoS::AtLeastOnce, false, b"1");
        client.send_publish("fine", QoS::AtLeastOnce, false, b"2");
        client.expect_nothing();
        reader.expect_nothing();
        let questions = rules.questions();
        assert_eq!(questions.len(), 1);
        let verdict = if allowed { Verdict::Allow } else { Verdict::Deny(ReasonCode::NotAuthorized) };
        broker.complete(Completion::Authorized { token: questions[0], verdict });
        let expected = if allowed { ReasonCode::Success } else { ReasonCode::NotAuthorized };
        assert_eq!(client.next_packet().ack().reason, expected);
        assert_eq!(client.next_packet().ack().reason, ReasonCode::Success);
        assert_eq!(reader.payloads(), if allowed { vec![b"1", b"2"] } else { vec![b"2"] });
    }
}
