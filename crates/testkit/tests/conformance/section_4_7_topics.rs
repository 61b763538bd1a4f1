//! Section 4.7: Topic Names and Topic Filters.

use breakwater_proto::{QoS, ReasonCode, Version, matches};
use breakwater_testkit::Broker;

use crate::pair::{SHARDS, pairs, pairs_with};
use crate::wire;

/// Code of a filter that makes no sense; 3.1 closes.
fn invalid(version: Version) -> u8 {
    if version.is_v5() { 0x8F } else { 0x80 }
}

/// [MQTT-4.7.1-1] [MQTT3-4.7.1-2] [MQTT-4.7.1-2] [MQTT3-4.7.1-3]
#[test]
fn wildcards_stand_alone_in_a_level_and_the_number_sign_last() {
    let good = ["#", "+", "a/#", "+/#", "+/+", "a/+/b", "/#", "/+", "+/", "a/+/#", "//#"];
    let bad = ["##", "#/", "#/a", "a#", "a/#/", "a/#/b", "#a", "a/b#", "++", "a+", "+a", "a/+b/c", "a/b+", "+#", "#+"];
    for mut pair in pairs() {
        for filter in good {
            let answer = pair.reader.subscribe(filter, QoS::AtMostOnce);
            assert_eq!(answer.suback().codes, [0], "{filter}");
        }
        for filter in bad {
            if pair.version == Version::V31 {
                let mut client = pair.broker.client("c").v31().connect();
                client.send(&wire::subscribe(Version::V31, 1, filter.as_bytes(), 0));
                assert!(client.is_closed());
                continue;
            }
            let answer = pair.reader.subscribe(filter, QoS::AtMostOnce);
            assert_eq!(answer.suback().codes, [invalid(pair.version)], "{filter}");
        }
    }
}

/// [MQTT-4.7.0-1] [MQTT3-4.7.1-1]
#[test]
fn wildcard_in_the_topic_of_a_will_is_refused() {
    for version in Version::ALL {
        for topic in ["a/#", "+", "a+"] {
            let broker = Broker::new();
            let connecting = broker.client("c").version(version).will(topic, b"m", QoS::AtMostOnce, false);
            let (client, answer) = connecting.attempt();
            assert!(client.is_closed());
            assert!(answer.is_none_or(|answer| answer.connack().reason != ReasonCode::Success));
        }
    }
}

/// [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
#[test]
fn leading_wildcards_do_not_match_topics_that_begin_with_a_dollar_sign() {
    for mut pair in pairs() {
        for filter in ["#", "+/x", "+/#", "+"] {
            pair.reader.subscribe(filter, QoS::AtMostOnce);
        }
        for topic in ["$a/x", "$a", "$/x", "$"] {
            pair.publisher.publish(topic, QoS::AtMostOnce, b"m");
            pair.publisher.publish_retained(topic, QoS::AtMostOnce, b"m");
        }
        pair.reader.subscribe("#", QoS::AtMostOnce);
        pair.reader.expect_nothing();
        for (filter, count) in [("$a/#", 2), ("$a/+", 1), ("$/x", 1), ("$", 1)] {
            pair.reader.subscribe(filter, QoS::AtMostOnce);
            assert_eq!(pair.reader.payloads().len(), count, "{filter}");
        }
        pair.publisher.publish("a/$x", QoS::AtMostOnce, b"inside");
        assert_eq!(pair.reader.payloads(), [b"inside"]);
    }
}

/// [MQTT-4.7.3-1] [MQTT3-4.7.3-1]
#[test]
fn empty_topics_and_filters_are_refused() {
    for mut pair in pairs() {
        pair.publisher.send(&wire::publish(pair.version, 0x30, b"", 0, b"m"));
        pair.publisher.expect_disconnect(ReasonCode::ProtocolError);
        if pair.version == Version::V31 {
            pair.reader.send(&wire::subscribe(Version::V31, 1, b"", 0));
            assert!(pair.reader.is_closed());
        } else {
            assert_eq!(pair.reader.subscribe("", QoS::AtMostOnce).suback().codes, [invalid(pair.version)]);
        }
    }
}

/// [MQTT-4.7.3-2] [MQTT3-4.7.3-2]
#[test]
fn topics_and_filters_with_a_null_character_end_the_connection() {
    for mut pair in pairs() {
        for text in [&b"\0"[..], b"a\0", b"a/\0/b"] {
            for bytes in [
                wire::publish(pair.version, 0x30, text, 0, b"m"),
                wire::subscribe(pair.version, 1, text, 0),
                wire::unsubscribe(pair.version, 1, text),
            ] {
                let mut client = pair.broker.client("c").version(pair.version).connect();
                client.send(&bytes);
                client.expect_disconnect(ReasonCode::MalformedPacket);
            }
        }
        pair.reader.ping();
    }
}

/// [MQTT-4.7.3-3] [MQTT3-4.7.3-3]
#[test]
fn topics_of_65535_bytes_and_32768_levels_work_where_the_limits_allow_them() {
    for mut pair in pairs_with(|options| {
        options.limits.topic.bytes_max = u16::MAX;
        options.limits.topic.levels_max = u16::MAX;
    }) {
        for topic in ["x".repeat(65_535), "/".repeat(32_767), "ä".repeat(32_767) + "x"] {
            assert_eq!(pair.reader.subscribe(&topic, QoS::AtLeastOnce).suback().codes, [1]);
            pair.publisher.publish(&topic, QoS::AtLeastOnce, b"m");
            let message = pair.reader.message();
            assert_eq!(message.publish().topic, topic);
            pair.reader.unsubscribe(&topic);
        }
    }
}

/// [MQTT-4.7.3-4] [MQTT3-4.7.3-4]
#[test]
fn matching_normalizes_nothing() {
    let names = [
        "caf\u{e9}",
        "cafe\u{301}",
        "CAF\u{c9}",
        "cafe",
        " cafe",
        "cafe ",
        "caf\u{feff}e",
        "cafe/",
        "/cafe",
        "\u{fb01}",
        "fi",
        "ss",
        "ß",
        "%20",
        "a//b",
        "a/b",
        "./a",
        "a",
        "\u{1f600}",
        "cafe\u{200d}",
    ];
    for version in [Version::V311, Version::V5] {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut publisher = broker.client("p").version(version).connect();
            for name in names {
                let mut reader = broker.client("r").version(version).connect();
                reader.subscribe(name, QoS::AtMostOnce);
                for topic in names {
                    publisher.publish(topic, QoS::AtMostOnce, topic.as_bytes());
                }
                assert_eq!(reader.payloads(), [name.as_bytes()]);
                reader.disconnect();
            }
        }
    }
}

#[test]
fn filters_match_what_the_specification_says() {
    let filters = ["a", "a/b", "+", "#", "a/#", "+/b", "a/+", "/+", "+/+", "/#", "a/+/c", "+/+/#", "a/b/#", "/", "//+"];
    let topics = ["a", "a/b", "/a", "a/", "/", "a/b/c", "a//c", "//", "b", "A", "a/b/c/d", "///"];
    for filter in filters {
        for mut pair in pairs() {
            pair.reader.subscribe(filter, QoS::AtMostOnce);
            for topic in topics {
                pair.publisher.publish(topic, QoS::AtMostOnce, topic.as_bytes());
            }
            let expected: Vec<_> =
                topics.iter().filter(|topic| matches(filter, topic)).map(|topic| topic.as_bytes().to_vec()).collect();
            assert_eq!(pair.reader.payloads(), expected, "{filter}");
            // Retained messages are found by the same rules.
            for topic in topics {
                pair.publisher.publish_retained(topic, QoS::AtMostOnce, topic.as_bytes());
            }
            pair.reader.payloads();
            pair.reader.subscribe(filter, QoS::AtMostOnce);
            let mut got = pair.reader.payloads();
            let mut expected = expected;
            got.sort();
            expected.sort();
            assert_eq!(got, expected, "{filter}");
        }
    }
}
