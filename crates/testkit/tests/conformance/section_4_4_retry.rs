//! Section 4.4: when something is sent again.

use std::time::Duration;

use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Version};

use crate::pair::{ACKNOWLEDGED, pairs, pairs_v5};
use crate::wire;

/// [MQTT-4.4.0-1] [MQTT3-4.4.0-1]
#[test]
fn nothing_is_sent_again_but_on_reconnect() {
    for mut pair in pairs() {
        pair.reader.subscribe("#", QoS::ExactlyOnce);
        pair.publisher.publish("one", QoS::AtLeastOnce, b"1");
        pair.publisher.publish("two", QoS::ExactlyOnce, b"2");
        pair.publisher.publish("three", QoS::ExactlyOnce, b"3");
        let ids: Vec<u16> = (0..3).map(|_| pair.reader.next_packet().publish().packet_id).collect();
        pair.reader.send_packet(&Packet::PubRec(Ack::new(ids[2], ReasonCode::Success)));
        pair.reader.next_of(PacketKind::PubRel);
        for _ in 0..3 {
            pair.broker.advance(Duration::from_secs(3600));
            pair.reader.ping();
            pair.reader.expect_nothing();
        }
        pair.cut();
        pair.come_back();
        for (index, id) in ids.iter().enumerate() {
            let again = pair.reader.next_packet();
            if index < 2 {
                assert_eq!((again.publish().packet_id, again.publish().dup), (*id, true));
            } else {
                assert_eq!((again.kind(), again.ack().packet_id), (PacketKind::PubRel, *id));
            }
        }
        pair.reader.expect_nothing();
    }
}

/// [MQTT-4.4.0-1] [MQTT3-4.4.0-1]
#[test]
fn clean_start_gets_nothing_of_what_was_unfinished() {
    for version in Version::ALL {
        let broker = breakwater_testkit::Broker::new();
        let mut publisher = broker.client("p").connect();
        let mut reader = broker.client("r").version(version).persistent().connect();
        reader.subscribe("t", QoS::ExactlyOnce);
        for qos in ACKNOWLEDGED {
            publisher.publish("t", qos, b"m");
        }
        reader.reset();
        let mut reader = broker.client("r").version(version).clean().connect();
        reader.expect_nothing();
        reader.send(&wire::publish(version, 0x30, b"t", 0, b"m"));
        reader.expect_nothing();
    }
}

/// [MQTT-4.4.0-2]
#[test]
fn refused_delivery_is_over() {
    for qos in ACKNOWLEDGED {
        for code in [0x80, 0x83, 0x87, 0x90, 0x97, 0x99] {
            for mut pair in pairs_v5() {
                pair.reader.subscribe("t", qos);
                pair.publisher.publish("t", qos, b"m");
                let id = pair.reader.next_packet().publish().packet_id.to_be_bytes();
                let first = if qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
                pair.reader.send(&[first, 3, id[0], id[1], code]);
                pair.reader.expect_nothing();
                pair.cut();
                pair.come_back();
                pair.reader.expect_nothing();
            }
        }
    }
}
