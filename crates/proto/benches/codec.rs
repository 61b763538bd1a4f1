//! Nanoseconds of the codec's hot paths: `cargo bench -p breakwater-proto`.
//!
//! With a number as argument each path runs that often and nothing is timed, so that `valgrind --tool=callgrind` counts
//! instructions: `valgrind --tool=callgrind target/release/deps/codec-… 100000 decode_v311_64`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use breakwater_proto::{
    ForwardProperties, Message, MessageView, OutPublish, QoS, ReasonCode, Split, Version, decode, decode_publish,
    encode_puback, split, write_user_property,
};

const TOPIC: &str = "building/7/floor/3/temp";

fn publish(version: Version, qos: QoS, payload: usize, properties: &[u8]) -> Vec<u8> {
    let payload = vec![b'x'; payload];
    let mut out = Vec::new();
    OutPublish {
        dup: false,
        qos,
        retain: false,
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 7 },
        topic: TOPIC,
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::from_stripped(properties),
        payload: &payload,
    }
    .encode(version, &mut out);
    out
}

/// `split` and `decode_publish` of one packet out of a buffer with many, as a shard does it.
fn decode_all(version: Version, buffer: &[u8]) -> u64 {
    let mut at = 0;
    let mut sum = 0;
    while let Ok(Split::Packet(frame)) = split(&buffer[at..], 1 << 20) {
        if let Ok(publish) = decode_publish(version, frame.first, frame.body) {
            sum += publish.payload.len() as u64 + publish.topic.len() as u64;
        }
        at += frame.len;
    }
    sum
}

fn decode_any(version: Version, buffer: &[u8]) -> u64 {
    let mut at = 0;
    let mut sum = 0;
    while let Ok(Split::Packet(frame)) = split(&buffer[at..], 1 << 20) {
        sum += u64::from(decode(version, &frame).is_ok());
        at += frame.len;
    }
    sum
}

/// One path: its name, how many packets one call handles, and the call.
type Path = (&'static str, u64, Box<dyn FnMut() -> u64>);

const BATCH: usize = 256;

fn decoding(name: &'static str, version: Version, qos: QoS, payload: usize, properties: &[u8]) -> Path {
    let buffer = publish(version, qos, payload, properties).repeat(BATCH);
    (name, BATCH as u64, Box::new(move || decode_all(version, black_box(&buffer))))
}

fn encoding(name: &'static str, version: Version, qos: QoS, alias: u16, ids: &'static [u32]) -> Path {
    let payload = vec![b'x'; 64];
    let mut out = Vec::with_capacity(1 << 20);
    let run = move || {
        out.clear();
        for _ in 0..BATCH {
            black_box(OutPublish {
                dup: false,
                qos,
                retain: false,
                packet_id: 7,
                topic: TOPIC,
                topic_alias: alias,
                expiry: None,
                subscription_ids: ids,
                properties: ForwardProperties::EMPTY,
                payload: &payload,
            })
            .encode(version, &mut out);
        }
        out.len() as u64
    };
    (name, BATCH as u64, Box::new(run))
}

fn message_view() -> Path {
    let view = MessageView {
        topic: TOPIC,
        payload: &[b'x'; 64],
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: None,
        origin: 1,
    };
    let message = Message::new(&view, &mut Vec::new());
    (
        "message_view",
        BATCH as u64,
        Box::new(move || (0..BATCH).map(|_| black_box(&message).view().payload.len() as u64).sum()),
    )
}

fn paths() -> Vec<Path> {
    let mut user = Vec::new();
    write_user_property("trace", "4711", &mut user);
    write_user_property("unit", "kelvin", &mut user);
    let mut acks = Vec::new();
    for id in 1..=BATCH as u16 {
        encode_puback(Version::V311, id, ReasonCode::Success, &mut acks);
    }
    vec![
        decoding("decode_v311_64", Version::V311, QoS::AtMostOnce, 64, &[]),
        decoding("decode_v311_qos1_64", Version::V311, QoS::AtLeastOnce, 64, &[]),
        decoding("decode_v311_1024", Version::V311, QoS::AtMostOnce, 1024, &[]),
        decoding("decode_v5_64", Version::V5, QoS::AtMostOnce, 64, &[]),
        decoding("decode_v5_64_two_user_properties", Version::V5, QoS::AtMostOnce, 64, &user),
        ("decode_puback", BATCH as u64, Box::new(move || decode_any(Version::V311, black_box(&acks)))),
        encoding("encode_v311_64", Version::V311, QoS::AtMostOnce, 0, &[]),
        encoding("encode_v311_qos1_64", Version::V311, QoS::AtLeastOnce, 0, &[]),
        encoding("encode_v5_64", Version::V5, QoS::AtMostOnce, 0, &[]),
        encoding("encode_v5_64_alias_and_id", Version::V5, QoS::AtMostOnce, 9, &[3]),
        message_view(),
    ]
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let times = words.iter().find_map(|word| word.parse::<u64>().ok());
    let wanted = words.iter().find(|word| word.parse::<u64>().is_err());
    for (name, packets, mut run) in paths() {
        if wanted.is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        match times {
            Some(times) => drop((0..times.div_ceil(packets)).map(|_| run()).collect::<Vec<_>>()),
            None => report(name, packets, &mut run),
        }
    }
}

/// The best of many short rounds: what the path costs when nobody disturbs it.
#[expect(clippy::print_stdout, reason = "the report is the benchmark's output")]
fn report(name: &str, packets: u64, run: &mut dyn FnMut() -> u64) {
    let mut best = Duration::MAX;
    for _ in 0..200 {
        let start = now();
        for _ in 0..20 {
            black_box(run());
        }
        best = best.min(start.elapsed());
    }
    let ns = best.as_nanos() as f64 / (20 * packets) as f64;
    println!("{name:<36} {ns:>8.2} ns");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is what measures time")]
fn now() -> Instant {
    Instant::now()
}
