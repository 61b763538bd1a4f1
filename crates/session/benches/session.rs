//! Instruction counts of what a session does per message; see docs/benchmarks.md.
#![expect(clippy::print_stdout, reason = "the answers to --list")]

use std::hint::black_box;

use breakwater_proto::{Ack, Connect, ForwardProperties, Instant, MessageView, Publish, QoS, ReasonCode, Version};
use breakwater_session::{Delivery, Env, Limits, Link, Report, Session, Shared, Terms};

type Scenario = (&'static str, u32, fn(u32));

const SCENARIOS: [Scenario; 11] = [
    ("empty", 1, |_| ()),
    ("deliver_qos0", 100_000, |times| deliver_qos0(Version::V311, 0, times)),
    ("deliver_qos0_v5_alias", 100_000, |times| deliver_qos0(Version::V5, 16, times)),
    ("deliver_qos0_fan_out_1000", 200, fan_out),
    ("deliver_qos1_puback", 50_000, |times| deliver_acknowledged(QoS::AtLeastOnce, times)),
    ("deliver_qos2_full", 50_000, |times| deliver_acknowledged(QoS::ExactlyOnce, times)),
    ("deliver_qos1_window_32_queue_64", 500, windowed),
    ("publish_qos1", 100_000, |times| publish(QoS::AtLeastOnce, times)),
    ("publish_qos2_full", 50_000, |times| publish(QoS::ExactlyOnce, times)),
    ("publish_qos2_100_held", 50_000, publish_with_held_ids),
    ("resume_1000", 50, resume),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => SCENARIOS.iter().for_each(|(name, times, _)| println!("{name} {times}")),
        ["--count", wanted] => {
            let (_, times, run) = SCENARIOS.iter().find(|(name, ..)| *name == wanted).expect("listed");
            run(*times);
        }
        _ => println!("--list | --count <scenario>"),
    }
}

struct Bench {
    session: Session,
    link: Link,
    limits: Limits,
    out: Vec<u8>,
    report: Report,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
}

impl Bench {
    fn new(version: Version, aliases: u16, inflight_max: u16) -> Bench {
        let limits = Limits { inflight_max, ..Limits::default() };
        let mut connect = Connect::new(version, "client");
        connect.topic_alias_maximum = aliases;
        let terms = Terms::agree(&connect, &limits).expect("a plain CONNECT");
        Bench {
            session: Session::new("client", 0),
            link: Link::new(&terms, &limits),
            limits,
            out: Vec::with_capacity(64 * 1024),
            report: Report::default(),
            scratch: Vec::with_capacity(1024),
            encoded: Vec::with_capacity(1024),
        }
    }

    fn deliver(&mut self, qos: QoS) {
        let mut shared = Shared::borrowed(black_box(view()), &mut self.encoded);
        let delivery = Delivery { qos, retain: false, subscription_ids: &[], ..Delivery::default() };
        let mut env = env(&self.limits, &mut self.out, &mut self.report, &mut self.scratch);
        black_box(self.session.deliver(Some(&mut self.link), &mut shared, &delivery, &mut env));
        self.flush();
    }

    fn answer(&mut self, qos: QoS, id: u16) {
        let ack = black_box(Ack::new(id, ReasonCode::Success));
        let mut env = env(&self.limits, &mut self.out, &mut self.report, &mut self.scratch);
        if qos == QoS::AtLeastOnce {
            black_box(self.session.on_puback(&mut self.link, &ack, &mut env));
        } else {
            black_box(self.session.on_pubrec(&mut self.link, &ack, &mut env));
            black_box(self.session.on_pubcomp(&mut self.link, &ack, &mut env));
        }
        self.flush();
    }

    fn pump(&mut self) {
        let mut env = env(&self.limits, &mut self.out, &mut self.report, &mut self.scratch);
        black_box(self.session.pump(&mut self.link, &mut env));
        self.flush();
    }

    fn publish(&mut self, qos: QoS, id: u16) {
        let publish = black_box(Publish {
            dup: false,
            qos,
            retain: false,
            topic: "sensors/building/7",
            packet_id: id,
            topic_alias: None,
            expiry: None,
            subscription_ids: false,
            properties: ForwardProperties::EMPTY,
            payload: &[0; 64],
        });
        let received = self.session.on_publish(&mut self.link, &publish, &self.limits, &mut self.out);
        black_box(received.is_ok());
        self.session.acknowledge(&mut self.link, qos, id, ReasonCode::Success, &mut self.out);
        self.flush();
    }

    fn release(&mut self, id: u16) {
        self.session.on_pubrel(&mut self.link, black_box(id), &mut self.out);
        self.flush();
    }

    fn flush(&mut self) {
        if self.out.len() > 60 * 1024 {
            black_box(&self.out);
            self.out.clear();
        }
    }
}

fn env<'a>(limits: &'a Limits, out: &'a mut Vec<u8>, report: &'a mut Report, scratch: &'a mut Vec<u8>) -> Env<'a> {
    Env { now: Instant(1_000_000), limits, out, room: 1 << 20, report, scratch }
}

fn view() -> MessageView<'static> {
    MessageView {
        topic: "sensors/building/7",
        payload: &[0; 64],
        qos: QoS::ExactlyOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: None,
        origin: 1,
    }
}

fn id_of(time: u32) -> u16 {
    (time % 65_535 + 1) as u16
}

fn deliver_qos0(version: Version, aliases: u16, times: u32) {
    let mut bench = Bench::new(version, aliases, 32);
    (0..times).for_each(|_| bench.deliver(QoS::AtMostOnce));
}

fn deliver_acknowledged(qos: QoS, times: u32) {
    let mut bench = Bench::new(Version::V311, 0, 32);
    for time in 0..times {
        bench.deliver(qos);
        bench.answer(qos, id_of(time));
    }
}

/// 96 messages at once: 32 go out, 64 wait, and each acknowledgement lets one go.
fn windowed(times: u32) {
    let mut bench = Bench::new(Version::V311, 0, 32);
    for round in 0..times {
        (0..96).for_each(|_| bench.deliver(QoS::AtLeastOnce));
        for index in 0..96 {
            bench.answer(QoS::AtLeastOnce, id_of(round * 96 + index));
            bench.pump();
        }
    }
}

/// One message to 1,000 sessions of the same version.
fn fan_out(times: u32) {
    let mut bench = Bench::new(Version::V311, 0, 32);
    for _ in 0..times {
        let mut shared = Shared::borrowed(black_box(view()), &mut bench.encoded);
        let delivery = Delivery { qos: QoS::AtMostOnce, retain: false, subscription_ids: &[], ..Delivery::default() };
        for _ in 0..1000 {
            let mut env = env(&bench.limits, &mut bench.out, &mut bench.report, &mut bench.scratch);
            black_box(bench.session.deliver(Some(&mut bench.link), &mut shared, &delivery, &mut env));
            bench.out.clear();
        }
    }
}

fn publish(qos: QoS, times: u32) {
    let mut bench = Bench::new(Version::V311, 0, 32);
    for time in 0..times {
        bench.publish(qos, id_of(time));
        if qos == QoS::ExactlyOnce {
            bench.release(id_of(time));
        }
    }
}

fn publish_with_held_ids(times: u32) {
    let mut bench = Bench::new(Version::V311, 0, 32);
    (0..100).for_each(|time| bench.publish(QoS::ExactlyOnce, id_of(time)));
    for time in 100..100 + times {
        bench.publish(QoS::ExactlyOnce, id_of(time));
        bench.release(id_of(time - 100));
    }
}

/// A connection that comes back to 1,000 unacknowledged deliveries.
fn resume(times: u32) {
    let mut bench = Bench::new(Version::V311, 0, 1000);
    (0..1000).for_each(|_| bench.deliver(QoS::AtLeastOnce));
    for _ in 0..times {
        bench.out.clear();
        let mut env = env(&bench.limits, &mut bench.out, &mut bench.report, &mut bench.scratch);
        black_box(bench.session.resume(&mut bench.link, &mut env));
    }
}
