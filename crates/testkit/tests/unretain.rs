//! What an operator does to retained messages, and how long they live.

use std::sync::Arc;
use std::time::Duration;

use breakwater_proto::{PacketKind, QoS};
use breakwater_router::{Progress, RetainedCursor, RetainedLife};
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::Broker;

/// Topics and revisions of what is retained.
fn retained(broker: &Broker, filter: &str) -> Vec<(Box<str>, u64)> {
    let (mut cursor, mut found) = (RetainedCursor::new(filter), Vec::new());
    while broker.router().retained_next(&mut cursor, broker.now(), 64, &mut found) == Progress::More {}
    let mut topics: Vec<_> = found.iter().map(|(message, revision)| (message.topic().into(), *revision)).collect();
    topics.sort();
    topics
}

#[test]
fn removed_retained_messages_do_not_come_back_with_a_restart() {
    let disk = SimulatedDisk::new();
    let broker = Broker::new().shards(2).on_disk(&disk);
    let mut publisher = broker.client("publisher").receive_maximum(1000).connect();
    for number in 0..300 {
        publisher.send_publish(&format!("t/{number}"), QoS::AtMostOnce, true, b"m");
    }
    publisher.send_publish("u", QoS::AtMostOnce, true, b"m");
    publisher.ping();
    let found = retained(&broker, "t/#");
    assert_eq!((found.len(), broker.unretain(&found)), (300, 300));
    broker.step();
    assert_eq!(broker.router().counts().retained, 1);
    assert_eq!(broker.unretain(&found), 0, "they are gone");
    broker.step();
    let after = Broker::new().shards(2).on_disk(&disk.after(Crash::Nothing));
    assert!(retained(&after, "t/#").is_empty());
}

#[test]
fn a_message_that_was_set_anew_meanwhile_stays() {
    let broker = Broker::new();
    let mut publisher = broker.client("publisher").connect();
    publisher.send_publish("t", QoS::AtMostOnce, true, b"old");
    publisher.ping();
    let found = retained(&broker, "#");
    publisher.send_publish("t", QoS::AtMostOnce, true, b"new");
    publisher.ping();
    assert_eq!((broker.unretain(&found), broker.router().counts().retained), (0, 1));
    assert_eq!(broker.unretain(&retained(&broker, "#")), 1);
}

fn life(default_s: Option<u32>, rules: &[(&str, u32)]) -> Arc<RetainedLife> {
    Arc::new(RetainedLife { default_s, rules: rules.iter().map(|(filter, most)| ((*filter).into(), *most)).collect() })
}

#[test]
fn retained_messages_live_as_long_as_the_rule_for_their_topics_says() {
    let disk = SimulatedDisk::new();
    let broker = Broker::new().on_disk(&disk);
    broker.router().set_retained_life(life(Some(100), &[("short/#", 10), ("#", 50)]));
    let mut publisher = broker.client("publisher").connect();
    let mut live = broker.client("live").connect();
    live.subscribe("#", QoS::AtMostOnce);
    let mut will = broker.client("will").will("short/will", b"w", QoS::AtMostOnce, true).connect();
    publisher.send_publish("short/1", QoS::AtMostOnce, true, b"m");
    publisher.send_publish("long", QoS::AtMostOnce, true, b"m");
    publisher.ping();
    will.reset();
    broker.step();
    // Who has subscribed before is sent what the publisher said.
    assert!((0..3).all(|_| live.next_of(PacketKind::Publish).publish().expiry.is_none()));
    let expiry = |broker: &Broker, topic: &str| {
        let mut reader = broker.client("reader").connect();
        reader.subscribe(topic, QoS::AtMostOnce);
        let packet = reader.try_next();
        packet.map(|packet| packet.publish().expiry)
    };
    assert_eq!(expiry(&broker, "short/1"), Some(Some(10)));
    assert_eq!(expiry(&broker, "short/will"), Some(Some(10)));
    assert_eq!(expiry(&broker, "long"), Some(Some(50)));
    // New rules are for what is retained from then on.
    broker.router().set_retained_life(life(Some(5), &[]));
    publisher.send_publish("default", QoS::AtMostOnce, true, b"m");
    publisher.ping();
    assert_eq!((expiry(&broker, "default"), expiry(&broker, "long")), (Some(Some(5)), Some(Some(50))));
    broker.advance(Duration::from_secs(11));
    assert_eq!((expiry(&broker, "short/1"), expiry(&broker, "default")), (None, None));
    broker.advance(Duration::from_secs(2));
    assert_eq!(broker.router().counts().retained, 1);
    let after = Broker::new().later(Duration::from_secs(20)).on_disk(&disk.after(Crash::Nothing));
    assert_eq!(expiry(&after, "long"), Some(Some(30)), "it goes on where it was");
}
