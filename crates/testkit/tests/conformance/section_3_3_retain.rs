//! Section 3.3.1.3: the RETAIN flag, and what is kept of a topic.

use std::time::Duration;

use breakwater_proto::{OutPublish, QoS};
use breakwater_testkit::out_publish;

use crate::pair::{QOS, options, pairs, pairs_v5};

/// [MQTT-3.3.1-5] [MQTT3-3.3.1-5] [MQTT3-3.3.1-6] [MQTT3-3.3.1-8]
#[test]
fn the_last_retained_message_of_a_topic_is_kept_with_its_qos_and_sent_with_retain() {
    for qos in QOS {
        for mut pair in pairs() {
            pair.publisher.publish_retained("t", QoS::AtLeastOnce, b"old");
            pair.publisher.publish_retained("t", qos, b"new");
            pair.publisher.publish_retained("other", qos, b"other");
            pair.reader.subscribe("t", QoS::ExactlyOnce);
            let message = pair.reader.message();
            let publish = message.publish();
            assert_eq!((publish.payload, publish.qos, publish.retain, publish.dup), (&b"new"[..], qos, true, false));
            pair.reader.expect_nothing();
            pair.reader.subscribe("+", QoS::ExactlyOnce);
            let mut payloads = pair.reader.payloads();
            payloads.sort();
            assert_eq!(payloads, [&b"new"[..], b"other"]);
        }
    }
}

/// [MQTT3-3.3.1-7] [MQTT-3.3.1-5]
#[test]
fn retained_message_of_qos_0_replaces_one_of_higher_qos() {
    for mut pair in pairs() {
        pair.publisher.publish_retained("t", QoS::ExactlyOnce, b"old");
        pair.publisher.publish_retained("t", QoS::AtMostOnce, b"new");
        pair.reader.subscribe("t", QoS::ExactlyOnce);
        assert_eq!(pair.reader.payloads(), [b"new"]);
    }
}

/// [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT3-3.3.1-10] [MQTT3-3.3.1-11]
#[test]
fn empty_retained_message_is_delivered_and_removes_the_one_kept() {
    for qos in QOS {
        for mut pair in pairs() {
            pair.publisher.publish_retained("t", QoS::AtLeastOnce, b"old");
            pair.reader.subscribe("#", QoS::ExactlyOnce);
            assert_eq!(pair.reader.payloads(), [b"old"]);
            pair.publisher.publish_retained("t", qos, b"");
            let message = pair.reader.message();
            let publish = message.publish();
            assert_eq!((publish.topic, publish.payload, publish.qos), ("t", &b""[..], qos));
            assert!(!publish.retain);
            let mut late = pair.broker.client("late").version(pair.version).connect();
            late.subscribe("#", QoS::ExactlyOnce);
            late.expect_nothing();
            assert_eq!(pair.broker.router().counts().retained, 0);
        }
    }
}

/// [MQTT-3.3.1-8] [MQTT3-3.3.1-12]
#[test]
fn message_without_retain_leaves_the_retained_one_alone() {
    for mut pair in pairs() {
        pair.publisher.publish("t", QoS::AtLeastOnce, b"passing");
        assert_eq!(pair.broker.router().counts().retained, 0);
        pair.publisher.publish_retained("t", QoS::AtLeastOnce, b"kept");
        for payload in [&b"passing"[..], b""] {
            pair.publisher.publish("t", QoS::AtLeastOnce, payload);
        }
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        assert_eq!(pair.reader.payloads(), [b"kept"]);
    }
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    use breakwater_proto::RetainHandling::{AtSubscribe, IfNew, Never};
    // Handling of a new subscription, then of two more to the same filter.
    for (handling, sent) in [(AtSubscribe, [1, 1, 1]), (IfNew, [1, 0, 0]), (Never, [0, 0, 0])] {
        for filter in ["t/1", "t/+", "#"] {
            for mut pair in pairs_v5() {
                pair.publisher.publish_retained("t/1", QoS::AtLeastOnce, b"kept");
                for count in sent {
                    let with = options(QoS::AtLeastOnce, |options| options.retain_handling = handling);
                    pair.reader.subscribe_with(&[(filter, with)], None);
                    assert_eq!(pair.reader.payloads().len(), count, "{handling:?} {filter}");
                }
                pair.reader.unsubscribe(filter);
                let with = options(QoS::AtLeastOnce, |options| options.retain_handling = handling);
                pair.reader.subscribe_with(&[(filter, with)], None);
                assert_eq!(pair.reader.payloads().len(), sent[0], "{handling:?} {filter}, new again");
            }
        }
    }
}

/// [MQTT-3.3.1-12] [MQTT3-3.3.1-9]
#[test]
fn retain_is_cleared_on_the_way_to_an_established_subscription() {
    for qos in QOS {
        for mut pair in pairs() {
            pair.reader.subscribe("t", qos);
            pair.publisher.publish_retained("t", qos, b"m");
            assert!(!pair.reader.message().publish().retain);
            // Also on the way out of the queue.
            pair.cut();
            pair.publisher.publish_retained("t", qos, b"m");
            pair.come_back();
            if qos > QoS::AtMostOnce {
                assert!(!pair.reader.message().publish().retain);
            }
        }
    }
}

/// [MQTT-3.3.1-13] [MQTT-3.3.1-12]
#[test]
fn retain_as_published_keeps_the_flag() {
    for qos in QOS {
        for mut pair in pairs_v5() {
            pair.reader.subscribe_with(&[("t", options(qos, |options| options.retain_as_published = true))], None);
            for retain in [true, false, true] {
                pair.publisher.send_publish("t", qos, retain, b"m");
                assert_eq!(pair.reader.message().publish().retain, retain);
            }
            pair.cut();
            pair.publisher.send_publish("t", qos, true, b"m");
            pair.come_back();
            if qos > QoS::AtMostOnce {
                assert!(pair.reader.message().publish().retain);
            }
        }
    }
}

#[test]
fn retained_message_lasts_as_long_as_its_expiry() {
    for mut pair in pairs_v5() {
        let publish = out_publish("t", QoS::AtLeastOnce, true, 1, b"m");
        pair.publisher.send_out(&OutPublish { expiry: Some(10), ..publish });
        pair.broker.advance(Duration::from_secs(4));
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        assert_eq!(pair.reader.message().publish().expiry, Some(6));
        pair.broker.advance(Duration::from_secs(6));
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.reader.expect_nothing();
        pair.broker.advance(Duration::from_secs(2));
        assert_eq!(pair.broker.router().counts().retained, 0, "swept");
    }
}
