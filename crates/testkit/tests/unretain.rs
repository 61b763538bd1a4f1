//! What an operator does to retained messages.

use breakwater_proto::QoS;
use breakwater_router::{Progress, RetainedCursor};
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
