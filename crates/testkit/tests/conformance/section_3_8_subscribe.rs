//! Sections 3.8 and 3.9: SUBSCRIBE and SUBACK.

use std::sync::Arc;

use breakwater_proto::{PacketKind, QoS, ReasonCode, RetainHandling, SubscribeOptions, Version};
use breakwater_testkit::Broker;

use crate::pair::{ACKNOWLEDGED, Pair, QOS, SHARDS, options, pairs, pairs_of, pairs_v5};
use crate::script::Rules;
use crate::wire;

/// [MQTT-3.8.1-1] [MQTT3-3.8.1-1]
#[test]
fn subscribe_with_other_flags_ends_the_connection() {
    for flags in (0..16).filter(|flags| *flags != 2) {
        for mut pair in pairs() {
            // 3.1 knows a DUP flag here.
            if pair.version == Version::V31 && flags == 0x0A {
                continue;
            }
            let mut bytes = wire::subscribe(pair.version, 1, b"t", 0);
            bytes[0] = 0x80 | flags;
            pair.publisher.send(&bytes);
            pair.publisher.expect_disconnect(ReasonCode::MalformedPacket);
            assert_eq!(pair.broker.router().counts().subscriptions, 0);
        }
    }
}

/// What a client gets that breaks it: [MQTT-3.8.3-1] [MQTT3-3.8.3-1]
#[test]
fn filter_that_is_no_utf_8_ends_the_connection() {
    for filter in [&b"\xFF"[..], b"a/\xC0\x80", b"\xED\xA0\x80", b"a\0b"] {
        for mut pair in pairs() {
            pair.reader.send(&wire::subscribe(pair.version, 1, filter, 0));
            pair.reader.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
}

/// What a client gets that breaks it: [MQTT-3.8.3-2] [MQTT3-3.8.3-3]
#[test]
fn subscribe_without_a_filter_ends_the_connection() {
    for mut pair in pairs() {
        let body = wire::join(&[&[0, 1], wire::no_properties(pair.version)]);
        pair.reader.send(&wire::packet(0x82, &body));
        pair.reader.expect_disconnect(ReasonCode::ProtocolError);
    }
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    for qos in QOS {
        for filter in ["t", "+", "#"] {
            for mut pair in pairs_v5() {
                pair.reader.subscribe_with(&[(filter, options(qos, |options| options.no_local = true))], None);
                pair.reader.publish("t", qos, b"own");
                pair.reader.expect_nothing();
                pair.publisher.publish("t", qos, b"other");
                assert_eq!(pair.reader.payloads(), [b"other"]);
                // The session stays who it is over a reconnect.
                pair.cut();
                pair.come_back();
                pair.reader.publish("t", qos, b"own");
                pair.reader.expect_nothing();
                // Another subscription without the option is served as it asks.
                pair.reader.subscribe("t/#", qos);
                pair.reader.publish("t", qos, b"own");
                assert_eq!(pair.reader.payloads(), [b"own"]);
            }
        }
    }
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_keeps_a_clients_own_retained_messages_from_it() {
    for mut pair in pairs_v5() {
        pair.reader.publish_retained("own", QoS::AtLeastOnce, b"own");
        pair.publisher.publish_retained("other", QoS::AtLeastOnce, b"other");
        let no_local = options(QoS::AtLeastOnce, |options| options.no_local = true);
        pair.reader.subscribe_with(&[("own", no_local), ("other", no_local)], None);
        assert_eq!(pair.reader.payloads(), [b"other"]);
        pair.reader.subscribe("own", QoS::AtLeastOnce);
        assert_eq!(pair.reader.payloads(), [b"own"]);
    }
}

/// What a client gets that breaks it: [MQTT-3.8.3-4]
#[test]
fn no_local_on_a_shared_subscription_ends_the_connection() {
    for mut pair in pairs_v5() {
        let no_local = options(QoS::AtLeastOnce, |options| options.no_local = true);
        pair.reader.send_subscribe(&[("fine", no_local), ("$share/g/t", no_local)], None);
        pair.reader.expect_disconnect(ReasonCode::ProtocolError);
        assert_eq!(pair.broker.router().counts().subscriptions, 0);
    }
}

/// [MQTT-3.8.3-5]
#[test]
fn reserved_bits_of_the_subscription_options_end_the_connection() {
    for byte in 0..=255_u8 {
        let broker = Broker::new();
        let mut client = broker.client("c").connect();
        client.send(&wire::subscribe(Version::V5, 1, b"t", byte));
        if byte & 0xC0 != 0 {
            client.expect_disconnect(ReasonCode::MalformedPacket);
        } else if byte & 3 == 3 || byte >> 4 == 3 {
            client.expect_disconnect(ReasonCode::ProtocolError);
        } else {
            assert_eq!(client.next_packet().suback().codes, [byte & 3]);
        }
    }
}

/// [MQTT3-3.8.3-4]
#[test]
fn requested_qos_with_reserved_bits_or_3_ends_the_connection() {
    for byte in 0..=255_u8 {
        let broker = Broker::new();
        let mut client = broker.client("c").v311().connect();
        client.send(&wire::subscribe(Version::V311, 1, b"t", byte));
        if byte > 2 {
            client.expect_disconnect(ReasonCode::MalformedPacket);
        } else {
            assert_eq!(client.next_packet().suback().codes, [byte]);
        }
    }
}

/// [MQTT3-3.8.3-2]
#[test]
fn filters_with_wildcards_are_refused_where_they_are_not_available() {
    for version in Version::ALL {
        for mut pair in pairs_of(version, |options| options.limits.wildcard_available = false) {
            let refused = match version {
                Version::V5 => 0xA2,
                Version::V311 => 0x80,
                Version::V31 => 1,
            };
            let asked = ["a", "a/+", "#", "b"].map(|filter| (filter, SubscribeOptions::new(QoS::AtLeastOnce)));
            let codes = pair.reader.subscribe_with(&asked, None);
            assert_eq!(codes.suback().codes, [1, refused, refused, 1]);
            for topic in ["a", "a/b", "b", "c"] {
                pair.publisher.publish(topic, QoS::AtLeastOnce, topic.as_bytes());
            }
            assert_eq!(pair.reader.payloads(), [b"a", b"b"]);
        }
    }
}

/// [MQTT-3.8.4-1] [MQTT3-3.8.4-1] [MQTT-3.8.4-2] [MQTT3-3.8.4-2]
#[test]
fn subscribe_is_answered_by_one_suback_with_its_identifier() {
    for mut pair in pairs() {
        for id in [1_u16, 0x0102, u16::MAX] {
            pair.reader.send(&wire::subscribe(pair.version, id, b"t", 1));
            let [high, low] = id.to_be_bytes();
            if pair.version.is_v5() {
                assert_eq!(pair.reader.receive(), [0x90, 4, high, low, 0, 1]);
            } else {
                assert_eq!(pair.reader.receive(), [0x90, 3, high, low, 1]);
            }
        }
    }
}

/// [MQTT-3.8.4-3] [MQTT3-3.8.4-3]
#[test]
fn subscribing_again_to_the_same_filter_replaces_the_subscription() {
    for filter in ["t/1", "t/+", "#"] {
        for mut pair in pairs() {
            for qos in [QoS::ExactlyOnce, QoS::AtMostOnce, QoS::AtLeastOnce] {
                assert_eq!(pair.reader.subscribe(filter, qos).suback().codes, [qos.as_u8()]);
                pair.publisher.publish("t/1", QoS::ExactlyOnce, b"m");
                assert_eq!(pair.reader.message().publish().qos, qos);
                pair.reader.expect_nothing();
                assert_eq!(pair.broker.router().counts().subscriptions, 1);
            }
            pair.reader.unsubscribe(filter);
            pair.publisher.publish("t/1", QoS::ExactlyOnce, b"m");
            pair.reader.expect_nothing();
        }
    }
}

/// [MQTT-3.8.4-4] [MQTT3-3.8.4-3]
#[test]
fn replacing_sends_retained_messages_again_and_loses_no_message() {
    for filter in ["t", "+"] {
        for mut pair in pairs() {
            pair.publisher.publish_retained("t", QoS::AtLeastOnce, b"retained");
            pair.reader.subscribe(filter, QoS::AtLeastOnce);
            assert_eq!(pair.reader.payloads(), [b"retained"]);
            let mut retained = 0;
            let mut live = Vec::new();
            for number in 0..30_u8 {
                // Turns of the two clients fall together as they come.
                pair.publisher.send_publish("t", QoS::AtLeastOnce, false, &[number]);
                let qos = ACKNOWLEDGED[usize::from(number) % 2];
                pair.reader.send_subscribe(&[(filter, SubscribeOptions::new(qos))], None);
                pair.publisher.send_publish("t", QoS::AtLeastOnce, false, &[number]);
                pair.reader.next_of(PacketKind::SubAck);
                for payload in pair.reader.payloads() {
                    match payload.as_slice() {
                        b"retained" => retained += 1,
                        [number] => live.push(*number),
                        other => panic!("nobody sent {other:?}"),
                    }
                }
            }
            assert_eq!(retained, 30);
            assert_eq!(live, (0..30).flat_map(|number| [number, number]).collect::<Vec<_>>());
        }
    }
}

/// [MQTT-3.8.4-5] [MQTT3-3.8.4-4] [MQTT-3.8.4-6] [MQTT3-3.8.4-5] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT3-3.9.3-1]
/// [MQTT-3.9.3-2] [MQTT3-3.9.3-2]
#[test]
fn many_filters_act_like_many_subscribes_with_one_code_each_in_their_order() {
    let asked = [("a", 0), ("b/#", 1), ("c/#/d", 2), ("denied", 1), ("d", 2), ("$share/g", 0), ("e+", 0), ("a", 2)];
    let asked = asked.map(|(filter, qos)| (filter, SubscribeOptions::new(QOS[qos])));
    for version in [Version::V311, Version::V5] {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards).authorizer(Arc::new(Rules::default()));
            let mut pair = Pair::of(broker, shards, version);
            pair.publisher.publish_retained("b", QoS::AtLeastOnce, b"retained");
            let answer = pair.reader.subscribe_with(&asked, None);
            match version {
                Version::V5 => assert_eq!(answer.suback().codes, [0, 1, 0x8F, 0x87, 2, 0x8F, 0x8F, 2]),
                _ => assert_eq!(answer.suback().codes, [0, 1, 0x80, 0x80, 2, 0x80, 0x80, 2]),
            }
            assert_eq!(pair.broker.router().counts().subscriptions, 3);
            assert_eq!(pair.reader.payloads(), [b"retained"]);
            for (topic, qos) in [("a", 2), ("b/x", 1), ("d", 2)] {
                pair.publisher.publish(topic, QoS::ExactlyOnce, topic.as_bytes());
                let message = pair.reader.message();
                assert_eq!((message.publish().topic, message.publish().qos), (topic, QOS[qos]));
            }
            pair.publisher.publish("e", QoS::ExactlyOnce, b"");
            pair.reader.expect_nothing();
        }
    }
}

/// MQTT 3.1 has no code for a refusal: what may not be read is answered as if it could be, what makes no sense ends the
/// connection.
#[test]
fn mqtt_31_has_no_failure_code_in_suback() {
    let broker = Broker::new().authorizer(Arc::new(Rules::default()));
    let mut client = broker.client("c").v31().connect();
    let asked = [("denied", SubscribeOptions::new(QoS::ExactlyOnce)), ("fine", SubscribeOptions::new(QoS::AtMostOnce))];
    assert_eq!(client.subscribe_with(&asked, None).suback().codes, [2, 0]);
    assert_eq!(broker.router().counts().subscriptions, 1);
    client.publish_retained("good", QoS::AtMostOnce, b"m");
    let asked = ["good", "a/#/b", "good"].map(|filter| (filter, SubscribeOptions::new(QoS::AtMostOnce)));
    client.send_subscribe(&asked, None);
    assert!(client.is_closed());
    assert_eq!(client.receive(), []);
}

#[test]
fn subscribe_that_ends_its_connection_leaves_no_work_behind() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let broker = Broker::new().authorizer(Arc::new(Rules::default()));
    let mut client = broker.client("c").persistent().connect();
    client.publish_retained("good", QoS::AtMostOnce, b"m");
    let asked = ["good", "boom"].map(|filter| (filter, SubscribeOptions::new(QoS::AtMostOnce)));
    client.send_subscribe(&asked, None);
    assert!(client.is_closed());
    std::panic::set_hook(quiet);
    assert!(!broker.has_work(0));
    broker.client("other").connect().ping();
}

/// [MQTT-3.8.4-8] [MQTT3-3.8.4-6]
#[test]
fn delivery_has_the_lower_of_published_and_granted_qos() {
    for granted in QOS {
        for published in QOS {
            for mut pair in pairs() {
                pair.reader.subscribe("t", granted);
                pair.publisher.publish("t", published, b"m");
                assert_eq!(pair.reader.message().publish().qos, granted.min(published));
                pair.publisher.publish_retained("r", published, b"m");
                pair.reader.subscribe("r", granted);
                assert_eq!(pair.reader.message().publish().qos, granted.min(published));
            }
        }
    }
}

/// [MQTT-3.8.4-7]
#[test]
fn granted_qos_is_bounded_by_the_maximum() {
    for maximum in QOS {
        for mut pair in pairs_of(Version::V5, move |options| options.limits.maximum_qos = maximum) {
            for asked in QOS {
                assert_eq!(pair.reader.subscribe("t", asked).suback().codes, [asked.min(maximum).as_u8()]);
            }
        }
    }
}

/// [MQTT-3.9.2-1] [MQTT-3.9.2-2]
#[test]
fn suback_has_neither_reason_string_nor_user_properties() {
    for maximum in [20, 200_000] {
        let broker = Broker::new().authorizer(Arc::new(Rules::default()));
        let mut client = broker.client("c").set(|connect| connect.maximum_packet_size = Some(maximum)).connect();
        client.send(&wire::subscribe(Version::V5, 1, b"denied", 0));
        assert_eq!(client.receive(), [0x90, 4, 0, 1, 0, 0x87]);
    }
}

#[test]
fn suback_larger_than_the_client_takes_ends_the_connection() {
    let broker = Broker::new();
    for (count, fits) in [(15, true), (16, false)] {
        let mut client = broker.client("c").set(|connect| connect.maximum_packet_size = Some(20)).connect();
        let asked: Vec<_> = (0..count).map(|_| ("a", SubscribeOptions::new(QoS::AtMostOnce))).collect();
        client.send_subscribe(&asked, None);
        if fits {
            assert_eq!(client.next_packet().bytes().len(), 20);
        } else {
            assert!(client.is_closed());
            let last = client.try_next();
            assert_eq!(last.expect("it is told why").disconnect().reason, ReasonCode::PacketTooLarge);
        }
    }
}

#[test]
fn retain_handling_and_retain_as_published_are_part_of_what_is_replaced() {
    for mut pair in pairs_v5() {
        pair.publisher.publish_retained("t", QoS::AtMostOnce, b"kept");
        let with = |handling, kept: bool| {
            options(QoS::AtMostOnce, |options| {
                options.retain_handling = handling;
                options.retain_as_published = kept;
            })
        };
        pair.reader.subscribe_with(&[("t", with(RetainHandling::Never, true))], None);
        pair.publisher.publish_retained("t", QoS::AtMostOnce, b"1");
        assert!(pair.reader.message().publish().retain);
        pair.reader.subscribe_with(&[("t", with(RetainHandling::IfNew, false))], None);
        pair.publisher.publish_retained("t", QoS::AtMostOnce, b"2");
        let message = pair.reader.message();
        assert_eq!((message.publish().payload, message.publish().retain), (&b"2"[..], false));
    }
}

#[test]
fn subscribe_then_publish_in_one_read_sees_itself() {
    for mut pair in pairs() {
        let bytes = wire::join(&[
            &wire::subscribe(pair.version, 1, b"t", 1),
            &wire::publish(pair.version, 0x30, b"t", 0, b"m"),
            &wire::unsubscribe(pair.version, 2, b"t"),
            &wire::publish(pair.version, 0x30, b"t", 0, b"late"),
        ]);
        pair.reader.send(&bytes);
        pair.reader.next_of(PacketKind::SubAck);
        pair.reader.next_of(PacketKind::UnsubAck);
        assert_eq!(pair.reader.payloads(), [b"m"]);
    }
}
