//! Section 4.9: flow control.

use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Version};

use crate::pair::{ACKNOWLEDGED, pairs, pairs_of, pairs_v5};
use crate::wire;

/// [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-3.3.4-9]
#[test]
fn send_quota_is_the_receive_maximum_or_our_own_bound() {
    // What the client says, what we allow, what holds.
    for (client, ours, holds) in [(None, 32, 32), (Some(1), 32, 1), (Some(10), 32, 10), (Some(65_535), 3, 3)] {
        for pair in pairs_of(Version::V5, move |options| options.limits.inflight_max = ours) {
            let (broker, mut publisher) = (pair.broker, pair.publisher);
            let mut reader = broker.client("r").set(|connect| connect.receive_maximum = client).connect();
            reader.subscribe("t", QoS::ExactlyOnce);
            for number in 0..50_u8 {
                publisher.publish("t", ACKNOWLEDGED[usize::from(number) % 2], &[number]);
            }
            let sent = std::iter::from_fn(|| reader.try_next()).count();
            assert_eq!(sent, holds);
        }
    }
}

/// [MQTT-4.9.0-1]
#[test]
fn send_quota_begins_anew_with_each_connection_and_counts_what_is_sent_again() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        for number in 0..10_u8 {
            pair.publisher.publish("t", QoS::AtLeastOnce, &[number]);
        }
        pair.cut();
        for maximum in [3, 2, 5] {
            let mut reader = pair.again().receive_maximum(maximum).connect();
            let sent: Vec<u8> = std::iter::from_fn(|| reader.try_next()).map(|m| m.publish().payload[0]).collect();
            assert_eq!(sent, (0..maximum as u8).collect::<Vec<_>>());
            reader.reset();
            pair.broker.step();
        }
        let mut reader = pair.again().receive_maximum(1).connect();
        assert_eq!(reader.payloads().into_iter().flatten().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}

/// [MQTT-4.9.0-3] [MQTT-3.3.4-10]
#[test]
fn at_zero_quota_every_other_packet_is_handled_and_answered() {
    for mut pair in pairs_v5() {
        let mut reader = pair.broker.client("r").receive_maximum(1).connect();
        reader.subscribe("t", QoS::ExactlyOnce);
        for _ in 0..3 {
            pair.publisher.publish("t", QoS::ExactlyOnce, b"m");
        }
        let id = reader.next_packet().publish().packet_id;
        reader.expect_nothing();
        reader.ping();
        assert_eq!(reader.subscribe("zero", QoS::AtMostOnce).suback().codes, [0]);
        pair.publisher.publish("zero", QoS::AtMostOnce, b"0");
        assert_eq!(reader.message().publish().payload, b"0");
        assert_eq!(reader.unsubscribe("zero").unsuback().codes, [0]);
        reader.send(&wire::publish(Version::V5, 0x32, b"none", 1, b""));
        assert_eq!(reader.next_packet().kind(), PacketKind::PubAck);
        reader.send(&wire::publish(Version::V5, 0x34, b"none", 1, b""));
        assert_eq!(reader.next_packet().kind(), PacketKind::PubRec);
        reader.send(&[0x62, 2, 0, 1]);
        assert_eq!(reader.next_packet().kind(), PacketKind::PubComp);
        // PUBREC does not give the quota back, PUBCOMP does.
        reader.send_packet(&Packet::PubRec(Ack::new(id, ReasonCode::Success)));
        assert_eq!(reader.next_packet().kind(), PacketKind::PubRel);
        reader.expect_nothing();
        reader.send_packet(&Packet::PubComp(Ack::new(id, ReasonCode::Success)));
        assert_eq!(reader.next_packet().publish().payload, b"m");
        // Nor does an acknowledgement of nothing: the window stays what it is.
        for id in [500, 501] {
            reader.send_packet(&Packet::PubAck(Ack::new(id, ReasonCode::Success)));
            reader.send_packet(&Packet::PubComp(Ack::new(id, ReasonCode::Success)));
        }
        reader.expect_nothing();
    }
}

/// Old clients are not told of a bound, and are not held to the one of 5.0.
#[test]
fn old_clients_may_have_as_many_exchanges_open_as_the_limit_for_them_says() {
    for mut pair in pairs().filter(|pair| !pair.version.is_v5()) {
        for id in 1..=2000_u16 {
            pair.publisher.send(&wire::publish(pair.version, 0x34, b"none", id, b"m"));
        }
        assert!(!pair.publisher.is_closed());
        for _ in 0..2000 {
            assert_eq!(pair.publisher.next_packet().kind(), PacketKind::PubRec);
        }
    }
}
