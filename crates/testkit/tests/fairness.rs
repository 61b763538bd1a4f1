//! No peer holds a shard for long, and large fan-outs keep their order.

use breakwater_contract::Metric;
use breakwater_proto::{Packet, QoS, Version};
use breakwater_testkit::{Broker, Client, out_publish};

/// More than the router copies: such a set is walked in chunks.
const LARGE: usize = 5000;

fn publishes(topic: &str, version: Version, payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        out_publish(topic, QoS::AtMostOnce, false, 0, &payload).encode(version, &mut bytes);
    }
    bytes
}

fn crowd(broker: &Broker, filter: &str, size: usize) -> Vec<Client> {
    (0..size)
        .map(|index| {
            let mut client = broker.client(&format!("member{index}")).v311().connect();
            client.subscribe(filter, QoS::AtMostOnce);
            client
        })
        .collect()
}

#[test]
fn one_busy_publisher_does_not_keep_others_waiting() {
    let broker = Broker::with(|options, _| options.turn.read_bytes = 16 * 1024);
    let mut reader = broker.client("reader").connect();
    reader.subscribe("flood", QoS::AtMostOnce);
    let mut busy = broker.client("busy").connect();
    let mut quiet = broker.client("quiet").connect();
    busy.send(&publishes("flood", Version::V5, (0..20_000_u32).map(|n| n.to_be_bytes().to_vec())));
    quiet.send_packet(&Packet::PingReq);
    broker.turn(0);
    assert!(busy.unread() > 0, "one turn must not read it all");
    assert_eq!(quiet.waiting(), 2, "the ping is answered in the first turn");
    assert_eq!(reader.payloads().len(), 20_000);
}

#[test]
fn a_publisher_uses_its_budget_of_deliveries_and_goes_on_in_the_next_turn() {
    let broker = Broker::with(|options, _| options.turn.deliveries = 100);
    let mut members = crowd(&broker, "all", 50);
    let mut publisher = broker.client("publisher").connect();
    // QoS 1, so that messages are routed one by one.
    for number in 0..40_u8 {
        publisher.send_publish("all", QoS::AtLeastOnce, false, &[number]);
    }
    broker.turn(0);
    let sent = broker.counter(Metric::PublishSent);
    assert!((50..=200).contains(&sent), "{sent} deliveries in one turn");
    let expected: Vec<Vec<u8>> = (0..40).map(|number| vec![number]).collect();
    members.iter_mut().for_each(|member| assert_eq!(member.payloads(), expected));
}

#[test]
fn later_publishes_do_not_overtake_a_large_fan_out() {
    for shards in [1, 3] {
        // A small share per turn, so that the fan-out takes many turns.
        let broker = Broker::with(|options, _| options.turn.appended_bytes = 20_000).shards(shards);
        let mut members = crowd(&broker, "all/#", LARGE * usize::from(shards));
        let id = broker.id_at(0, "publisher");
        let mut publisher = broker.client(&id).connect();
        let mut expected = Vec::new();
        for number in 0..5_u8 {
            publisher.send(&publishes("all/1", Version::V5, [vec![number, 0]]));
            // Another QoS would not be bound to the order; the same one is, on a run and on single messages.
            publisher.send(&publishes("all/2", Version::V5, [vec![number, 1], vec![number, 2]]));
            expected.extend([vec![number, 0], vec![number, 1], vec![number, 2]]);
        }
        publisher.send_packet(&Packet::PingReq);
        broker.turn(0);
        assert_eq!(publisher.waiting(), 0, "the publisher waits until its fan-out is done");
        for member in &mut members {
            assert_eq!(member.payloads(), expected);
        }
        publisher.expect(&Packet::PingResp);
    }
}

#[test]
fn others_are_served_while_a_large_fan_out_goes_on() {
    let broker = Broker::with(|options, _| options.turn.appended_bytes = 20_000);
    let _members = crowd(&broker, "all", LARGE);
    let mut publisher = broker.client("publisher").connect();
    let mut other = broker.client("other").connect();
    publisher.send(&publishes("all", Version::V5, [vec![0; 100]]));
    broker.turn(0);
    other.send_packet(&Packet::PingReq);
    broker.turn(0);
    assert_eq!(other.waiting(), 2);
    assert!(broker.has_work(0), "the fan-out goes on");
}

#[test]
fn a_publisher_that_leaves_during_its_large_fan_out_does_not_stop_it() {
    let broker = Broker::with(|options, _| options.turn.appended_bytes = 20_000);
    let mut members = crowd(&broker, "all", LARGE);
    let mut publisher = broker.client("publisher").connect();
    publisher.send(&publishes("all", Version::V5, [b"last words".to_vec()]));
    broker.turn(0);
    publisher.reset();
    for member in &mut members {
        assert_eq!(member.payloads(), [b"last words"]);
    }
}

#[test]
fn members_that_leave_during_a_large_fan_out_are_skipped() {
    let broker = Broker::with(|options, _| options.turn.appended_bytes = 20_000);
    let mut members = crowd(&broker, "all", LARGE);
    let mut publisher = broker.client("publisher").connect();
    publisher.send(&publishes("all", Version::V5, [b"x".to_vec()]));
    broker.turn(0);
    members.iter_mut().skip(1).step_by(2).for_each(Client::reset);
    for member in members.iter_mut().step_by(2) {
        assert_eq!(member.payloads(), [b"x"]);
    }
    assert_eq!(broker.connections(), LARGE / 2 + 1);
}

#[test]
fn spurious_edges_are_harmless() {
    let broker = Broker::new().shards(2);
    let mut connecting = broker.connect();
    let mut client = broker.client("nervous").connect();
    client.send_packet(&Packet::PingReq);
    for _ in 0..10 {
        connecting.nudge();
        client.nudge();
        broker.step();
    }
    client.expect(&Packet::PingResp);
    client.expect_nothing();
    assert_eq!(broker.connections(), 2);
}

#[test]
fn bytes_before_a_half_close_are_all_read() {
    let broker = Broker::with(|options, _| options.turn.read_bytes = 16 * 1024);
    let mut reader = broker.client("reader").connect();
    reader.subscribe("t", QoS::AtMostOnce);
    let mut client = broker.client("leaving").connect();
    client.send(&publishes("t", Version::V5, (0..5000_u32).map(|n| n.to_be_bytes().to_vec())));
    client.half_close();
    assert!(client.is_closed());
    assert_eq!(reader.payloads().len(), 5000);
}
