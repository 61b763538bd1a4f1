//! Sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Unsubscribe, UnsubscribeFilters, Version};
use breakwater_testkit::{Broker, Client, Received};

use crate::pair::{ACKNOWLEDGED, pairs, pairs_of};
use crate::wire;

fn unsubscribe_all(client: &mut Client, filters: &[&str]) -> Received {
    let id = client.next_id();
    let mut raw = Vec::new();
    filters.iter().for_each(|filter| UnsubscribeFilters::write(filter, &mut raw));
    client.send_packet(&Packet::Unsubscribe(Unsubscribe::new(id, UnsubscribeFilters::from_encoded(&raw))));
    let answer = client.next_packet();
    assert_eq!(answer.unsuback().packet_id, id);
    answer
}

/// [MQTT-3.10.1-1] [MQTT3-3.10.1-1]
#[test]
fn unsubscribe_with_other_flags_ends_the_connection() {
    for flags in (0..16).filter(|flags| *flags != 2) {
        for mut pair in pairs() {
            // 3.1 knows a DUP flag here.
            if pair.version == Version::V31 && flags == 0x0A {
                continue;
            }
            pair.reader.subscribe("t", QoS::AtMostOnce);
            let mut bytes = wire::unsubscribe(pair.version, 1, b"t");
            bytes[0] = 0xA0 | flags;
            pair.reader.send(&bytes);
            pair.reader.expect_disconnect(ReasonCode::MalformedPacket);
            assert_eq!(pair.broker.router().counts().subscriptions, 1);
        }
    }
}

/// What a client gets that breaks it: [MQTT-3.10.3-1] [MQTT3-3.10.3-1] [MQTT-3.10.3-2] [MQTT3-3.10.3-2]
#[test]
fn unsubscribe_without_a_filter_or_with_one_that_is_no_utf_8_ends_the_connection() {
    for mut pair in pairs() {
        pair.reader.send(&wire::unsubscribe(pair.version, 1, b"\xFF"));
        pair.reader.expect_disconnect(ReasonCode::MalformedPacket);
        let body = wire::join(&[&[0, 1], wire::no_properties(pair.version)]);
        pair.publisher.send(&wire::packet(0xA2, &body));
        pair.publisher.expect_disconnect(ReasonCode::ProtocolError);
    }
}

/// [MQTT-3.10.4-1] [MQTT3-3.10.4-1]
#[test]
fn filters_are_compared_character_by_character() {
    for (held, others) in [
        ("a/+", ["a/b", "a/#", "A/+", "a/+/", "/a/+", "+/+", "#", "$share/g/a/+"]),
        ("a/b", ["a/+", "a/B", "a", "a/b/", "a/b/#", "#", " a/b", "$queue/a/b"]),
        ("é", ["e\u{301}", "É", "e", "é/", "+", "#", "/é", "é "]),
        ("$share/g/t", ["t", "$share/h/t", "$share/g/+", "$share/G/t", "$queue/t", "g/t", "#", "$share/g/t/"]),
    ] {
        for mut pair in pairs() {
            pair.reader.subscribe(held, QoS::AtMostOnce);
            for other in others {
                let answer = pair.reader.unsubscribe(other);
                assert_eq!(answer.unsuback().codes, if pair.version.is_v5() { &[0x11][..] } else { &[] });
            }
            let topic = held.trim_start_matches("$share/g/").replace('+', "b");
            pair.publisher.publish(&topic, QoS::AtMostOnce, b"m");
            assert_eq!(pair.reader.payloads(), [b"m"]);
            let answer = pair.reader.unsubscribe(held);
            assert_eq!(answer.unsuback().codes, if pair.version.is_v5() { &[0][..] } else { &[] });
            let counts = pair.broker.router().counts();
            assert_eq!((counts.subscriptions, counts.shared_subscriptions), (0, 0));
        }
    }
}

/// [MQTT-3.10.4-2] [MQTT3-3.10.4-2]
#[test]
fn nothing_new_is_delivered_or_queued_after_unsubscribe() {
    for filter in ["t", "+", "$share/g/t"] {
        for mut pair in pairs() {
            pair.reader.subscribe(filter, QoS::AtLeastOnce);
            pair.publisher.publish("t", QoS::AtLeastOnce, b"before");
            pair.reader.unsubscribe(filter);
            pair.publisher.publish("t", QoS::AtLeastOnce, b"after");
            assert_eq!(pair.reader.payloads(), [b"before"]);
            pair.cut();
            pair.publisher.publish("t", QoS::AtLeastOnce, b"after");
            pair.come_back();
            pair.reader.expect_nothing();
        }
    }
}

/// [MQTT-3.10.4-3] [MQTT3-3.10.4-3]
#[test]
fn deliveries_begun_before_unsubscribe_are_completed() {
    for qos in ACKNOWLEDGED {
        for again in [false, true] {
            for mut pair in pairs() {
                pair.reader.subscribe("t", qos);
                pair.publisher.publish("t", qos, b"m");
                let mut id = pair.reader.next_packet().publish().packet_id;
                pair.reader.unsubscribe("t");
                if again {
                    pair.cut();
                    pair.come_back();
                    let resent = pair.reader.next_packet();
                    assert!(resent.publish().dup);
                    id = resent.publish().packet_id;
                }
                if qos == QoS::AtLeastOnce {
                    pair.reader.send_packet(&Packet::PubAck(Ack::new(id, ReasonCode::Success)));
                } else {
                    pair.reader.send_packet(&Packet::PubRec(Ack::new(id, ReasonCode::Success)));
                    let release = pair.reader.next_packet();
                    assert_eq!((release.kind(), release.ack().packet_id), (PacketKind::PubRel, id));
                    assert_eq!(release.ack().reason, ReasonCode::Success);
                    pair.reader.send_packet(&Packet::PubComp(Ack::new(id, ReasonCode::Success)));
                }
                pair.broker.step();
                pair.cut();
                pair.come_back();
                pair.reader.expect_nothing();
            }
        }
    }
}

/// [MQTT-3.10.4-4] [MQTT3-3.10.4-4] [MQTT-3.10.4-5] [MQTT3-3.10.4-5]
#[test]
fn unsubscribe_is_answered_with_its_identifier_whether_or_not_anything_was_removed() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtMostOnce);
        for (id, code) in [(0x0102_u16, 0), (u16::MAX, 0x11), (1, 0x11)] {
            pair.reader.send(&wire::unsubscribe(pair.version, id, b"t"));
            let [high, low] = id.to_be_bytes();
            if pair.version.is_v5() {
                assert_eq!(pair.reader.receive(), [0xB0, 4, high, low, 0, code]);
            } else {
                assert_eq!(pair.reader.receive(), [0xB0, 2, high, low]);
            }
        }
    }
}

/// [MQTT-3.10.4-6] [MQTT3-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
#[test]
fn many_filters_act_like_many_unsubscribes_with_one_code_each_in_their_order() {
    for mut pair in pairs() {
        for filter in ["a", "b/+", "$share/g/c", "d"] {
            pair.reader.subscribe(filter, QoS::AtMostOnce);
        }
        let answer = unsubscribe_all(&mut pair.reader, &["a", "x", "b/+", "bad/#/x", "$share/g/c", "a", "$share/g"]);
        let codes: &[u8] = if pair.version.is_v5() { &[0, 0x11, 0, 0x8F, 0, 0x11, 0x8F] } else { &[] };
        assert_eq!(answer.unsuback().codes, codes);
        for topic in ["a", "b/x", "c", "d"] {
            pair.publisher.publish(topic, QoS::AtMostOnce, topic.as_bytes());
        }
        assert_eq!(pair.reader.payloads(), [b"d"]);
    }
}

/// [MQTT-3.11.2-1] [MQTT-3.11.2-2]
#[test]
fn unsuback_has_neither_reason_string_nor_user_properties() {
    for maximum in [20, 200_000] {
        let broker = Broker::new();
        let mut client = broker.client("c").set(|connect| connect.maximum_packet_size = Some(maximum)).connect();
        client.send(&wire::unsubscribe(Version::V5, 1, b"none"));
        assert_eq!(client.receive(), [0xB0, 4, 0, 1, 0, 0x11]);
    }
}

#[test]
fn unsuback_larger_than_the_client_takes_ends_the_connection() {
    let broker = Broker::new();
    let mut client = broker.client("c").set(|connect| connect.maximum_packet_size = Some(20)).connect();
    unsubscribe_all(&mut client, &["a"; 15]);
    let mut raw = Vec::new();
    (0..16).for_each(|_| UnsubscribeFilters::write("a", &mut raw));
    client.send_packet(&Packet::Unsubscribe(Unsubscribe::new(9, UnsubscribeFilters::from_encoded(&raw))));
    client.expect_disconnect(ReasonCode::PacketTooLarge);
}

#[test]
fn unsubscribing_frees_the_place_of_a_subscription() {
    for mut pair in pairs_of(Version::V5, |options| options.limits.subscriptions_max = 2) {
        for (filter, code) in [("a", 0), ("b", 0), ("c", 0x97), ("a", 0)] {
            assert_eq!(pair.reader.subscribe(filter, QoS::AtMostOnce).suback().codes, [code]);
        }
        pair.reader.unsubscribe("a");
        assert_eq!(pair.reader.subscribe("c", QoS::AtMostOnce).suback().codes, [0]);
    }
}
