//! A client that comes back to its session and takes what has waited, acknowledging each message.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use breakwater_proto::{Packet, ReasonCode, encode_puback};

use crate::{Words, wire};

pub(crate) fn run(words: &Words) {
    let (id, expected) = (words.text("id").unwrap_or("keeper"), words.number("expect", 1_u64));
    let mut stream = wire::dial(words.port());
    stream.set_read_timeout(Some(words.seconds("patience", 60.0))).unwrap();
    let (mut out, mut input, mut scratch) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
    wire::connect(id, false, &mut out);
    stream.write_all(&out).unwrap();
    let (mut received, mut present) = (0_u64, false);
    let mut began = Instant::now();
    while received < expected {
        let read = stream.read(&mut scratch).expect("what waits comes");
        assert!(read > 0, "the broker has ended the connection after {received}");
        input.extend_from_slice(&scratch[..read]);
        out.clear();
        wire::packets(&mut input, |packet| match packet {
            Packet::ConnAck(connack) => (present, began) = (connack.session_present, Instant::now()),
            Packet::Publish(publish) => {
                received += 1;
                encode_puback(wire::VERSION, publish.packet_id, ReasonCode::Success, &mut out);
            }
            other => panic!("{other:?}"),
        });
        stream.write_all(&out).unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    let per_second = received as f64 / seconds;
    println!(
        "{{\"messages\":{received},\"seconds\":{seconds},\"per_second\":{per_second},\"session_present\":{present}}}"
    );
}
