//! Makes sessions that outlive their connection, with one subscription each.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use breakwater_proto::Packet;

use crate::{Words, wire};

/// Connections at a time.
const AT_ONCE: usize = 64;

pub(crate) fn run(words: &Words) {
    let (from, count) = (words.number("from", 0_u64), words.number("count", 1_u64));
    let (id, filter) = (words.text("id").unwrap_or("keeper"), words.text("filter").unwrap_or("keep/#"));
    let next = AtomicU64::new(from);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(count as usize) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= from + count {
                        return;
                    }
                    let text = number.to_string();
                    make(words.port(), &id.replace("%i", &text), &filter.replace("%i", &text));
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"sessions\":{count},\"seconds\":{seconds},\"per_second\":{}}}", count as f64 / seconds);
}

fn make(port: u16, id: &str, filter: &str) {
    let (mut stream, mut input, mut out) = (wire::dial(port), Vec::new(), Vec::new());
    wire::connect(id, false, &mut out);
    stream.write_all(&out).unwrap();
    wire::await_packet(&mut stream, &mut input, |packet| matches!(packet, Packet::ConnAck(_)));
    out.clear();
    wire::subscribe(filter, &mut out);
    stream.write_all(&out).unwrap();
    wire::await_packet(&mut stream, &mut input, |packet| matches!(packet, Packet::SubAck(_)));
    out.clear();
    wire::disconnect(&mut out);
    stream.write_all(&out).unwrap();
}
