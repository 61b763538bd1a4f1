//! What a subscriber is owed of retained messages: when it comes, and next to what.

use std::collections::BTreeMap;
use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{PacketKind, QoS, SubscribeOptions};
use breakwater_testkit::Broker;

#[test]
fn retained_messages_of_many_filters_need_no_other_event_to_arrive() {
    let broker = Broker::with(|options, _| options.limits.filters_per_subscribe_max = 1000);
    let mut publisher = broker.client("publisher").connect();
    let topics: Vec<String> = (0..500).map(|number| format!("t/{number}")).collect();
    for topic in &topics {
        publisher.publish_retained(topic, QoS::AtMostOnce, b"kept");
    }
    let mut client = broker.client("client").connect();
    let filters: Vec<_> = topics.iter().map(|topic| (topic.as_str(), SubscribeOptions::new(QoS::AtMostOnce))).collect();
    client.subscribe_with(&filters, None);
    assert_eq!(client.payloads().len(), 500);
}

#[test]
fn a_retained_message_never_comes_behind_a_newer_one() {
    let broker = Broker::with(|options, _| options.retained_per_turn = 1);
    let mut publisher = broker.client("publisher").connect();
    for topic in ["t/1", "t/2", "t/3"] {
        publisher.publish_retained(topic, QoS::AtMostOnce, b"old");
    }
    let mut client = broker.client("client").connect();
    client.send_subscribe(&[("t/+", SubscribeOptions::new(QoS::AtMostOnce))], None);
    broker.turn(0);
    for topic in ["t/1", "t/2", "t/3"] {
        publisher.send_publish(topic, QoS::AtMostOnce, true, b"new");
    }
    client.next_of(PacketKind::SubAck);
    let mut last = BTreeMap::new();
    while let Some(received) = client.try_next() {
        let publish = received.publish();
        last.insert(publish.topic.to_owned(), publish.payload.to_vec());
    }
    assert_eq!(last.len(), 3);
    assert!(last.values().all(|payload| payload == b"new"), "{last:?}");
}

#[test]
fn topics_that_only_look_like_those_of_the_broker_are_retained_like_others() {
    let broker = Broker::new();
    let mut publisher = broker.client("publisher").connect();
    publisher.publish_retained("$SYSTEM/a", QoS::AtMostOnce, b"kept");
    let mut client = broker.client("client").connect();
    client.subscribe("$SYSTEM/#", QoS::AtMostOnce);
    assert_eq!(client.payloads(), [b"kept"]);
}

#[test]
fn what_a_client_is_owed_waits_for_it_while_it_is_away_and_wakes_nobody() {
    let broker = Broker::with(|options, _| options.limits.queue_messages_max = 2);
    let mut publisher = broker.client("publisher").connect();
    for number in 0..10 {
        publisher.publish_retained(&format!("t/{number}"), QoS::AtLeastOnce, b"kept");
    }
    let mut client = broker.client("client").persistent().connect();
    client.send_subscribe(&[("t/+", SubscribeOptions::new(QoS::AtLeastOnce))], None);
    client.disconnect();
    let before = broker.counter(Metric::Turns);
    broker.advance(Duration::from_secs(60));
    let turns = broker.counter(Metric::Turns) - before;
    assert!(turns < 200, "{turns} turns in a minute in which nothing happens");
    let mut client = broker.client("client").persistent().connect();
    assert_eq!(client.payloads().len(), 10);
}
