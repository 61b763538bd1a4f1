//! Section 4.1: how long session state lasts.

use std::time::Duration;

use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::Broker;

use crate::pair::{SHARDS, pairs, pairs_with};
use crate::wire;

/// [MQTT-4.1.0-1] [MQTT3-4.1.0-2]
#[test]
fn session_lasts_as_long_as_its_connection() {
    for version in Version::ALL {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut publisher = broker.client("p").connect();
            let mut clean = broker.client("clean").version(version).connect();
            clean.subscribe("t", QoS::AtLeastOnce);
            let mut short = broker.client("short").resume().expiry(1).connect();
            short.subscribe("t", QoS::AtLeastOnce);
            broker.advance(Duration::from_secs(30 * 24 * 3600));
            publisher.publish("t", QoS::AtLeastOnce, b"m");
            assert_eq!(clean.payloads(), [b"m"]);
            assert_eq!(short.payloads(), [b"m"]);
        }
    }
}

/// [MQTT-4.1.0-2]
#[test]
fn session_is_discarded_when_its_time_after_the_connection_is_over() {
    for shards in SHARDS {
        let broker = Broker::new().shards(shards);
        let mut publisher = broker.client("p").connect();
        for (expiry, wait_s, present) in [(None, 0, false), (Some(10), 9, true), (Some(10), 11, false)] {
            let mut client = broker.client("c").set(|connect| connect.session_expiry = expiry).connect();
            client.subscribe("t", QoS::AtLeastOnce);
            client.reset();
            broker.step();
            publisher.publish("t", QoS::AtLeastOnce, b"m");
            broker.advance(Duration::from_secs(wait_s));
            let mut again = broker.client("c").resume().connect();
            assert_eq!(again.connack.as_ref().expect("connected").connack().session_present, present);
            assert_eq!(again.payloads().len(), usize::from(present));
            again.disconnect();
            assert_eq!((broker.sessions(), broker.router().counts().subscriptions), (1, 0));
        }
    }
}

/// [MQTT3-4.1.0-1]
#[test]
fn stored_session_keeps_subscriptions_and_everything_unfinished() {
    for mut pair in pairs() {
        pair.reader.subscribe("one", QoS::AtLeastOnce);
        pair.reader.subscribe("two/#", QoS::ExactlyOnce);
        // Under way in both directions, at every stage.
        pair.reader.send(&wire::publish(pair.version, 0x34, b"none", 77, b"m"));
        pair.reader.next_of(PacketKind::PubRec);
        pair.publisher.publish("one", QoS::AtLeastOnce, b"1");
        pair.publisher.publish("two", QoS::ExactlyOnce, b"2");
        pair.publisher.publish("two/x", QoS::ExactlyOnce, b"3");
        let released = {
            pair.reader.next_packet();
            pair.reader.next_packet().publish().packet_id
        };
        pair.reader.send_packet(&Packet::PubRec(Ack::new(released, ReasonCode::Success)));
        pair.broker.step();
        pair.cut();
        pair.publisher.publish("one", QoS::AtLeastOnce, b"4");
        pair.broker.advance(Duration::from_secs(1800));
        pair.come_back();
        let first = pair.reader.next_packet();
        assert_eq!((first.publish().payload, first.publish().dup), (&b"1"[..], true));
        let second = pair.reader.next_packet();
        assert_eq!((second.kind(), second.ack().packet_id), (PacketKind::PubRel, released));
        let third = pair.reader.next_packet();
        assert_eq!((third.publish().payload, third.publish().dup), (&b"3"[..], true));
        let fourth = pair.reader.next_packet();
        assert_eq!((fourth.publish().payload, fourth.publish().dup), (&b"4"[..], false));
        // The broker remembers what it has taken.
        pair.reader.send(&wire::publish(pair.version, 0x3C, b"two/echo", 77, b"m"));
        pair.reader.next_of(PacketKind::PubRec);
        pair.reader.expect_nothing();
        pair.reader.send_packet(&Packet::PubRel(Ack::new(77, ReasonCode::Success)));
        assert_eq!(pair.reader.next_of(PacketKind::PubComp).ack().reason, ReasonCode::Success);
    }
}

#[test]
fn an_old_clients_session_lasts_as_configured() {
    for mut pair in pairs_with(|options| options.limits.session_expiry_default_s = 60) {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.cut();
        pair.broker.advance(Duration::from_secs(61));
        let left = usize::from(pair.version.is_v5());
        assert_eq!(pair.broker.router().counts().subscriptions as usize, left);
    }
}
