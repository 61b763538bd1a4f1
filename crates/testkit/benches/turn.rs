//! Instructions of a whole turn, counted by `cargo xtask counts`: a read, routing, and one write per subscriber, over the
//! virtual network (whose own part is a few copies).
#![expect(clippy::print_stdout, reason = "this is how xtask reads it")]

use std::hint::black_box;

use breakwater_proto::{QoS, Version, encode_puback};
use breakwater_testkit::{Broker, Client, out_publish};

/// Name, iterations, scenario. An iteration is one turn with one read.
type Scenario = (&'static str, u64, fn(u64));

const SCENARIOS: [Scenario; 9] = [
    ("empty", 1, |_| ()),
    ("qos0_read_of_1", 10_000, |turns| qos0(turns, 1, 1, 1)),
    ("qos0_read_of_50", 5000, |turns| qos0(turns, 50, 1, 1)),
    ("qos0_read_of_50_topics", 1000, |turns| qos0(turns, 50, 50, 1)),
    ("qos0_read_of_1_to_10", 5000, |turns| qos0(turns, 1, 1, 10)),
    ("qos0_read_of_1_across", 10_000, |turns| across(turns, 1)),
    ("qos0_read_of_50_across", 5000, |turns| across(turns, 50)),
    ("qos1_read_of_1", 5000, |turns| qos1(turns, 1)),
    ("qos1_read_of_50", 500, |turns| qos1(turns, 50)),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => SCENARIOS.iter().for_each(|(name, iterations, _)| println!("{name} {iterations}")),
        ["--count", wanted] => {
            let (_, iterations, run) = SCENARIOS.iter().find(|(name, ..)| *name == wanted).expect("listed");
            run(*iterations);
        }
        _ => println!("--list | --count <scenario>"),
    }
}

fn broker(shards: u16) -> Broker {
    let broker = Broker::with(|options, _| options.sys_interval_s = 0).shards(shards);
    broker.forget_events();
    broker
}

fn publishes(qos: QoS, count: usize, topics: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let topic = format!("site/{}/temperature", number % topics);
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { 1 + number as u16 };
        out_publish(&topic, qos, false, packet_id, &[7; 64]).encode(Version::V311, &mut bytes);
    }
    bytes
}

fn reader(broker: &Broker, shard: u16, number: usize, qos: QoS) -> Client {
    let id = broker.id_at(shard, &format!("reader{number}-"));
    let mut reader = broker.client(&id).v311().connect();
    reader.subscribe("site/+/temperature", qos);
    reader
}

fn qos0(turns: u64, messages: usize, topics: usize, readers: usize) {
    let broker = broker(1);
    let mut readers: Vec<Client> = (0..readers).map(|number| reader(&broker, 0, number, QoS::AtMostOnce)).collect();
    let mut publisher = broker.client("publisher").v311().connect();
    let bytes = publishes(QoS::AtMostOnce, messages, topics);
    for _ in 0..turns {
        publisher.send(&bytes);
        broker.turn(0);
        readers.iter_mut().for_each(|reader| assert_eq!(black_box(reader.discard()), bytes.len()));
    }
}

/// From one shard to another: a turn of each.
fn across(turns: u64, messages: usize) {
    let broker = broker(2);
    let mut reader = reader(&broker, 1, 0, QoS::AtMostOnce);
    let id = broker.id_at(0, "publisher");
    let mut publisher = broker.client(&id).v311().connect();
    let bytes = publishes(QoS::AtMostOnce, messages, 1);
    for _ in 0..turns {
        publisher.send(&bytes);
        broker.turn(0);
        broker.turn(1);
        assert_eq!(black_box(reader.discard()), bytes.len());
    }
}

/// QoS 1 in and out, with the reader's acknowledgements in the next turn.
fn qos1(turns: u64, messages: usize) {
    let broker = Broker::with(|options, _| {
        options.sys_interval_s = 0;
        options.limits.inflight_max = 100;
    });
    broker.forget_events();
    let mut reader = reader(&broker, 0, 0, QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").v311().connect();
    let bytes = publishes(QoS::AtLeastOnce, messages, 1);
    let mut next_id = 0_u16;
    let mut acks = Vec::new();
    for _ in 0..turns {
        publisher.send(&bytes);
        reader.send(&acks);
        broker.turn(0);
        assert_eq!(black_box(reader.discard()), bytes.len());
        assert_eq!(black_box(publisher.discard()), 4 * messages);
        acks.clear();
        for _ in 0..messages {
            next_id = next_id.checked_add(1).unwrap_or(1);
            encode_puback(Version::V311, next_id, breakwater_proto::ReasonCode::Success, &mut acks);
        }
    }
    drop(broker);
}
