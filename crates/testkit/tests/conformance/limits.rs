//! Bounds of our own on what a client may use: each is enforced, in every version.

use breakwater_proto::{ForwardProperties, OutPublish, QoS, ReasonCode, UserProperties, Version, write_user_property};
use breakwater_testkit::{Broker, out_publish};

use crate::wire;

fn user_properties(count: usize) -> Vec<u8> {
    let mut raw = Vec::new();
    (0..count).for_each(|number| write_user_property(&number.to_string(), "", &mut raw));
    raw
}

fn at_most_three() -> Broker {
    Broker::with(|options, _| options.limits.user_properties_max = 3)
}

#[test]
fn publish_with_more_user_properties_than_allowed_ends_the_connection() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for retain in [false, true] {
            for (count, fine) in [(3, true), (4, false)] {
                let broker = at_most_three();
                let mut client = broker.client("c").connect();
                let raw = user_properties(count);
                let properties = ForwardProperties::from_stripped(&raw);
                let id = u16::from(qos != QoS::AtMostOnce);
                client.send_out(&OutPublish { properties, ..out_publish("a", qos, retain, id, b"x") });
                assert_eq!(client.is_closed(), !fine, "{qos:?} {count}");
                if !fine {
                    client.expect_disconnect(ReasonCode::QuotaExceeded);
                }
            }
        }
    }
}

#[test]
fn connect_with_more_user_properties_than_allowed_is_refused() {
    for (count, fine) in [(3, true), (4, false)] {
        let raw = user_properties(count);
        let user = UserProperties::from_encoded(&raw);
        let forward = ForwardProperties::from_stripped(&raw);
        let in_connect = at_most_three().client("c").set(|connect| connect.user_properties = user).attempt();
        let with_will = at_most_three().client("c").will("gone", b"", QoS::AtMostOnce, false);
        let in_will =
            with_will.set(|connect| connect.will.as_mut().expect("it was set").properties = forward).attempt();
        for (client, answer) in [in_connect, in_will] {
            let expect = if fine { ReasonCode::Success } else { ReasonCode::QuotaExceeded };
            assert_eq!(answer.expect("CONNACK").connack().reason, expect);
            assert_eq!(client.is_closed(), !fine);
        }
    }
}

#[test]
fn connect_above_its_own_size_limit_ends_the_connection_before_it_arrives() {
    let broker = Broker::with(|options, _| options.limits.connect_bytes_max = 1000);
    for version in Version::ALL {
        let header = wire::connect(version, 0x02, &[b"c"]).len();
        let mut client = broker.connect();
        client.version = version;
        let password_at_most = 1000 - header - 1 - 2 - 3; // one more byte of length; the user name; its own length
        let fitting = wire::connect(version, 0xC2, &[b"c", b"u", &vec![b'x'; password_at_most]]);
        assert_eq!(fitting.len(), 1001 - 1);
        client.send(&fitting);
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
        let mut client = broker.connect();
        client.send(&[0x10, 0xE6, 0x07]);
        assert!(client.is_closed());
        assert!(client.receive().is_empty());
    }
}

#[test]
fn topic_above_the_limits_of_length_and_depth_is_refused() {
    let broker = Broker::with(|options, _| {
        options.limits.topic.bytes_max = 10;
        options.limits.topic.levels_max = 3;
    });
    for topic in ["0123456789a", "a/b/c/d"] {
        for version in Version::ALL {
            let mut client = broker.client("c").version(version).connect();
            client.send_publish(topic, QoS::AtMostOnce, false, b"");
            client.expect_disconnect(ReasonCode::TopicNameInvalid);
            let (client, answer) =
                broker.client("c").version(version).will(topic, b"", QoS::AtMostOnce, false).attempt();
            assert!(client.is_closed());
            assert!(answer.is_none_or(|answer| answer.connack().reason == ReasonCode::TopicNameInvalid));
        }
        let mut client = broker.client("c").connect();
        assert_eq!(client.subscribe(topic, QoS::AtMostOnce).suback().codes, [ReasonCode::TopicFilterInvalid.as_u8()]);
    }
    let mut client = broker.client("c").connect();
    client.publish("0123456789", QoS::AtMostOnce, b"");
    client.publish("a/b/c", QoS::AtMostOnce, b"");
    client.ping();
}

#[test]
fn more_filters_or_subscriptions_than_allowed_are_refused_one_by_one() {
    let broker = Broker::with(|options, _| {
        options.limits.filters_per_subscribe_max = 2;
        options.limits.subscriptions_max = 3;
    });
    let mut client = broker.client("c").connect();
    let options = breakwater_proto::SubscribeOptions::default();
    let quota = ReasonCode::QuotaExceeded.as_u8();
    let answer = client.subscribe_with(&[("a", options), ("b", options), ("c", options)], None);
    assert_eq!(answer.suback().codes, [0, 0, quota]);
    assert_eq!(client.subscribe_with(&[("c", options), ("d", options)], None).suback().codes, [0, quota]);
    assert_eq!(client.subscribe("a", QoS::AtLeastOnce).suback().codes, [1]);
    client.unsubscribe("b");
    assert_eq!(client.subscribe("d", QoS::AtMostOnce).suback().codes, [0]);
}

#[test]
fn more_unfinished_publishes_than_allowed_end_the_connection() {
    let broker = Broker::with(|options, _| {
        options.limits.receive_maximum = 3;
        options.limits.awaiting_release_max = 5;
    });
    for (version, allowed) in [(Version::V31, 5), (Version::V311, 5), (Version::V5, 3)] {
        let mut client = broker.client("c").version(version).connect();
        for _ in 0..allowed {
            client.send_publish("a", QoS::ExactlyOnce, false, b"");
        }
        client.ping();
        client.send_publish("a", QoS::ExactlyOnce, false, b"");
        client.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
    }
}
