//! The `$SYS` tree.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Client};

use crate::pair::{ACKNOWLEDGED, SHARDS, pairs, pairs_v5};

fn topics(client: &mut Client) -> Vec<(String, String)> {
    std::iter::from_fn(|| client.try_next())
        .map(|message| {
            let publish = message.publish();
            (publish.topic.to_owned(), String::from_utf8(publish.payload.to_vec()).expect("values are text"))
        })
        .collect()
}

#[test]
fn sys_tree_has_the_topics_of_mosquitto_and_emqx() {
    for version in Version::ALL {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut client = broker.client("c").version(version).connect();
            broker.advance(Duration::from_secs(2));
            client.subscribe("$SYS/#", QoS::AtLeastOnce);
            let tree: std::collections::HashMap<_, _> = topics(&mut client).into_iter().collect();
            assert_eq!(tree["$SYS/broker/clients/connected"], "1");
            assert_eq!(tree["$SYS/broker/uptime"], "2 seconds");
            assert_eq!(tree["$SYS/brokers/breakwater/stats/connections/count"], "1");
            for topic in [
                "$SYS/broker/version",
                "$SYS/broker/bytes/received",
                "$SYS/broker/publish/messages/sent",
                "$SYS/broker/retained messages/count",
                "$SYS/broker/subscriptions/count",
                "$SYS/brokers",
                "$SYS/brokers/breakwater/sysdescr",
                "$SYS/brokers/breakwater/datetime",
                "$SYS/brokers/breakwater/metrics/messages/received",
            ] {
                assert!(!tree[topic].is_empty(), "{topic}");
            }
        }
    }
}

#[test]
fn sys_is_published_at_its_interval_to_those_who_read_it() {
    for shards in SHARDS {
        let broker = Broker::with(|options, _| options.sys_interval_s = 10).shards(shards);
        let mut client = broker.client(&broker.id_at(shards - 1, "c")).connect();
        let one = "$SYS/broker/clients/connected";
        client.subscribe(one, QoS::AtMostOnce);
        assert_eq!(topics(&mut client).len(), 1, "the present value at once");
        for _ in 0..3 {
            broker.advance(Duration::from_secs(10));
            let got = topics(&mut client);
            assert_eq!(got, [(one.to_owned(), "1".to_owned())]);
        }
        client.unsubscribe(one);
        let sent = broker.counter(Metric::PublishSent);
        broker.advance(Duration::from_secs(60));
        client.expect_nothing();
        assert_eq!(broker.counter(Metric::PublishSent), sent, "nobody reads, nothing is sent");
    }
}

#[test]
fn sys_is_read_from_loopback_only_unless_configured() {
    for (address, for_all, granted) in [
        ("127.0.0.9", false, true),
        ("::1", false, true),
        ("::ffff:127.0.0.1", false, true),
        ("192.0.2.1", false, false),
        ("2001:db8::1", false, false),
        ("192.0.2.1", true, true),
    ] {
        for version in [Version::V311, Version::V5] {
            let broker = Broker::with(|options, _| options.sys_for_all = for_all)
                .peers_from(address.parse().expect("an address"));
            let mut client = broker.client("c").version(version).connect();
            let refused = if version.is_v5() { 0x87 } else { 0x80 };
            for filter in ["$SYS/#", "$SYS/broker/uptime", "$share/g/$SYS/#"] {
                let answer = client.subscribe(filter, QoS::AtMostOnce);
                assert_eq!(answer.suback().codes, [if granted { 0 } else { refused }], "{address} {filter}");
            }
            broker.advance(Duration::from_secs(120));
            assert_eq!(topics(&mut client).is_empty(), !granted);
        }
    }
}

#[test]
fn sys_is_silent_with_an_interval_of_0() {
    let broker = Broker::with(|options, _| options.sys_interval_s = 0);
    let mut client = broker.client("c").connect();
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    topics(&mut client);
    broker.advance(Duration::from_secs(600));
    client.expect_nothing();
}

#[test]
fn sys_does_not_reach_leading_wildcards() {
    for mut pair in pairs() {
        pair.reader.subscribe("#", QoS::AtMostOnce);
        pair.reader.subscribe("+/broker/#", QoS::AtMostOnce);
        pair.broker.advance(Duration::from_secs(120));
        pair.reader.expect_nothing();
    }
}

#[test]
fn clients_cannot_publish_to_sys() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("$SYS/fake", QoS::AtMostOnce);
        for qos in ACKNOWLEDGED {
            for topic in ["$SYS/fake", "$SYS", "$share/g/t", "$queue/t"] {
                assert_eq!(pair.publisher.publish(topic, qos, b"m"), ReasonCode::NotAuthorized);
                assert_eq!(pair.publisher.publish_retained(topic, qos, b"m"), ReasonCode::NotAuthorized);
            }
        }
        pair.publisher.publish_retained("$SYS/fake", QoS::AtMostOnce, b"m");
        pair.reader.expect_nothing();
        assert_eq!(pair.broker.router().counts().retained, 0);
        let connecting = pair.broker.client("w").will("$SYS/fake", b"m", QoS::AtMostOnce, false);
        let (_, answer) = connecting.attempt();
        assert_eq!(answer.expect("it is told why").connack().reason, ReasonCode::NotAuthorized);
    }
    for mut pair in pairs().filter(|pair| !pair.version.is_v5()) {
        pair.reader.subscribe("$SYS/fake", QoS::AtMostOnce);
        pair.publisher.publish("$SYS/fake", QoS::AtLeastOnce, b"m");
        pair.reader.expect_nothing();
        // Other topics that begin with a dollar sign are anybody's.
        pair.reader.subscribe("$SYSTEM/x", QoS::AtMostOnce);
        pair.publisher.publish("$SYSTEM/x", QoS::AtLeastOnce, b"m");
        assert_eq!(pair.reader.payloads(), [b"m"]);
    }
}
