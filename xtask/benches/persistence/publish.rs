//! Publishers with QoS 1 and a window each: how many messages per second are acknowledged, and how soon.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use breakwater_proto::Packet;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::{Words, quantiles, wire};

struct Publisher {
    stream: TcpStream,
    topic: String,
    input: Vec<u8>,
    out: Vec<u8>,
    online: bool,
    /// When what is not acknowledged was sent; acknowledgements come in that order.
    sent: VecDeque<Instant>,
    last_id: u16,
}

struct Plan {
    window: usize,
    retain: bool,
    /// `%n` in the topic stands for the number of the message.
    numbered: bool,
    payload: Vec<u8>,
    /// How many messages may still leave.
    left: u64,
    number: u64,
}

pub(crate) fn run(words: &Words) {
    let topic = words.text("topic").unwrap_or("keep/a").to_owned();
    let mut plan = Plan {
        window: words.number("window", 20),
        retain: words.text("retain").is_some(),
        numbered: topic.contains("%n"),
        payload: vec![b'x'; words.number("size", 64)],
        left: words.number("total", u64::MAX),
        number: 0,
    };
    let total = plan.left;
    let rate: f64 = words.number("rate", 0.0);
    let (warmup, span) = (words.seconds("warmup", 0.5), words.seconds("seconds", 2.0));
    let mut poll = Poll::new().unwrap();
    let mut publishers = open(words, &topic, &poll);
    let mut events = Events::with_capacity(1024);
    let (mut latencies, mut acknowledged, mut counted) = (Vec::new(), 0_u64, 0_u64);
    let began = Instant::now();
    let (from, until) = (began + warmup, began + warmup + span);
    let mut due = began;
    loop {
        let now = Instant::now();
        if if total == u64::MAX { now >= until } else { acknowledged >= total } {
            break;
        }
        if rate > 0.0 && now >= due && publishers[0].online {
            due += Duration::from_secs_f64(1.0 / rate);
            publishers[0].publish(&mut plan, now);
            publishers[0].flush();
        }
        let wait = if rate > 0.0 { due.saturating_duration_since(Instant::now()) } else { Duration::from_millis(100) };
        if let Err(fault) = poll.poll(&mut events, Some(wait)) {
            assert_eq!(fault.kind(), ErrorKind::Interrupted, "{fault}");
        }
        for event in &events {
            let publisher = &mut publishers[event.token().0];
            publisher.read();
            let now = Instant::now();
            let (mut online, mut input) = (publisher.online, std::mem::take(&mut publisher.input));
            wire::packets(&mut input, |packet| match packet {
                Packet::ConnAck(_) => online = true,
                Packet::PubAck(_) => {
                    let sent = publisher.sent.pop_front().expect("nothing is acknowledged twice");
                    acknowledged += 1;
                    if total != u64::MAX || (now >= from && now < until) {
                        counted += 1;
                        latencies.push((now - sent).as_micros() as u32);
                    }
                }
                other => panic!("{other:?}"),
            });
            (publisher.online, publisher.input) = (online, input);
            while rate == 0.0 && online && publisher.sent.len() < plan.window && plan.left > 0 {
                publisher.publish(&mut plan, now);
            }
            publisher.flush();
        }
    }
    let seconds = if total == u64::MAX { span } else { began.elapsed() }.as_secs_f64();
    let (p50, p99) = quantiles(latencies);
    println!(
        "{{\"messages\":{counted},\"all\":{acknowledged},\"seconds\":{seconds},\"per_second\":{},\"p50_us\":{p50},\"p99_us\":{p99}}}",
        counted as f64 / seconds
    );
}

fn open(words: &Words, topic: &str, poll: &Poll) -> Vec<Publisher> {
    let count: usize = words.number("publishers", 1);
    (0..count)
        .map(|number| {
            let stream = wire::dial(words.port());
            stream.set_nonblocking(true).unwrap();
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE).unwrap();
            let mut out = Vec::new();
            wire::connect(&format!("keeper-publisher-{number}"), true, &mut out);
            let topic = topic.to_owned();
            let (input, sent) = (Vec::new(), VecDeque::new());
            let mut publisher = Publisher { stream, topic, input, out, online: false, sent, last_id: 0 };
            publisher.flush();
            publisher
        })
        .collect()
}

impl Publisher {
    fn publish(&mut self, plan: &mut Plan, now: Instant) {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let numbered = plan.numbered.then(|| self.topic.replace("%n", &plan.number.to_string()));
        let topic = numbered.as_deref().unwrap_or(&self.topic);
        wire::publish(topic, self.last_id, plan.retain, &plan.payload, &mut self.out);
        self.sent.push_back(now);
        plan.number += 1;
        plan.left -= 1;
    }

    fn read(&mut self) {
        let mut scratch = [0; 16 << 10];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => panic!("the broker has ended a connection"),
                Ok(read) => self.input.extend_from_slice(&scratch[..read]),
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return,
                Err(fault) => panic!("{fault}"),
            }
        }
    }

    fn flush(&mut self) {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(count) => written += count,
                Err(fault) if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                Err(fault) => panic!("{fault}"),
            }
        }
        self.out.drain(..written);
    }
}
