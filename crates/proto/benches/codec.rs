//! The codec's hot paths: `cargo bench -p breakwater-proto [-- part-of-a-name]` prints nanoseconds; `--list` and
//! `--count NAME` serve `cargo xtask counts`.

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

/// One path: its name and a call that handles `BATCH` packets.
type Path = (&'static str, Box<dyn FnMut() -> u64>);

const BATCH: usize = 256;
/// Calls per instruction count: enough that setting up weighs nothing.
const COUNTED: usize = 200;

fn decoding(name: &'static str, version: Version, qos: QoS, payload: usize, properties: &[u8]) -> Path {
    let buffer = publish(version, qos, payload, properties).repeat(BATCH);
    (name, Box::new(move || decode_all(version, black_box(&buffer))))
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
    (name, Box::new(run))
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
    ("message_view", Box::new(move || (0..BATCH).map(|_| black_box(&message).view().payload.len() as u64).sum()))
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
        ("decode_puback", Box::new(move || decode_any(Version::V311, black_box(&acks)))),
        encoding("encode_v311_64", Version::V311, QoS::AtMostOnce, 0, &[]),
        encoding("encode_v311_qos1_64", Version::V311, QoS::AtLeastOnce, 0, &[]),
        encoding("encode_v5_64", Version::V5, QoS::AtMostOnce, 0, &[]),
        encoding("encode_v5_64_alias_and_id", Version::V5, QoS::AtMostOnce, 9, &[3]),
        message_view(),
    ]
}

#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            println!("empty 1");
            paths().iter().for_each(|(name, ..)| println!("{name} {}", COUNTED * BATCH));
        }
        ["--count", "empty"] => {}
        ["--count", wanted] => {
            let (.., mut run) = paths().into_iter().find(|(name, ..)| *name == wanted).expect("a listed name");
            for _ in 0..COUNTED {
                black_box(run());
            }
        }
        _ => {
            let wanted = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
            paths().iter_mut().filter(|(name, ..)| name.contains(wanted)).for_each(|(name, run)| report(name, run));
        }
    }
}

/// The best of many short rounds: what the path costs when nobody disturbs it.
#[expect(clippy::print_stdout, reason = "the report is the benchmark's output")]
fn report(name: &str, run: &mut dyn FnMut() -> u64) {
    let mut best = Duration::MAX;
    for _ in 0..200 {
        let start = now();
        for _ in 0..20 {
            black_box(run());
        }
        best = best.min(start.elapsed());
    }
    let ns = best.as_nanos() as f64 / (20 * BATCH) as f64;
    println!("{name:<36} {ns:>8.2} ns");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is what measures time")]
fn now() -> Instant {
    Instant::now()
}
