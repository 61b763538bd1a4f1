//! The way down: signals, good-byes, exit codes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::broker::Broker;
use crate::program::{DEADLINE, Signal};

/// CONNECT with an empty client identifier: of 5.0 with clean start, of 3.1.1 with clean session.
const CONNECT_5: &[u8] = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00";
const CONNECT_3: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";

/// A client on a bare socket, let in by the broker.
fn client(broker: &Broker, connect: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream.write_all(connect).expect("the broker reads");
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("CONNACK");
    let mut rest = vec![0; head[1].into()];
    stream.read_exact(&mut rest).expect("CONNACK");
    assert_eq!((head[0], rest[1]), (0x20, 0), "let in");
    stream
}

/// Everything until the broker closes.
fn last_words(mut stream: TcpStream) -> Vec<u8> {
    let mut words = Vec::new();
    stream.read_to_end(&mut words).expect("closed, not reset");
    words
}

fn clients_hear_why(signal: Signal) {
    let broker = Broker::start();
    let (five, three) = (client(&broker, CONNECT_5), client(&broker, CONNECT_3));
    broker.signal(signal);
    let words = last_words(five);
    assert!(matches!(words[..], [0xE0, _, 0x8B, ..]), "{words:x?}");
    assert_eq!(last_words(three), b"", "3.1.1 knows no such packet");
    let ended = broker.finish();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.lines);
}

#[test]
fn sigterm_tells_clients_of_5_that_the_server_shuts_down_and_ends_with_code_0() {
    clients_hear_why(Signal::TERM);
}

#[test]
fn sigint_tells_clients_of_5_that_the_server_shuts_down_and_ends_with_code_0() {
    clients_hear_why(Signal::INT);
}

#[test]
fn sigterm_without_clients_ends_with_code_0() {
    let broker = Broker::start();
    broker.signal(Signal::TERM);
    assert_eq!(broker.finish().status.code(), Some(0));
}

/// SUBSCRIBE to `x` with QoS 0, in 3.1.1.
const SUBSCRIBE: &[u8] = b"\x82\x06\x00\x01\x00\x01x\x00";

/// A broker with a client that reads nothing, and so many bytes for it that no buffer on the way takes them all. One
/// shard: there they are under way to it once the publisher is answered.
fn stuck(flags: &[&str]) -> (Broker, TcpStream) {
    let broker = Broker::start_with(&[&["--shards", "1"], flags].concat());
    let mut stuck = client(&broker, CONNECT_3);
    stuck.write_all(SUBSCRIBE).expect("the broker reads");
    stuck.read_exact(&mut [0; 5]).expect("SUBACK");
    let mut publisher = client(&broker, CONNECT_3);
    let mut publish = b"\x30\x83\x80\x04\x00\x01x".to_vec();
    publish.resize(4 + 3 + 64 * 1024, b'.');
    for _ in 0..512 {
        publisher.write_all(&publish).expect("the broker reads");
    }
    publisher.write_all(b"\xc0\x00").expect("the broker reads");
    publisher.read_exact(&mut [0; 2]).expect("PINGRESP: all has been read");
    broker.signal(Signal::TERM);
    assert_eq!(last_words(publisher), b"", "the broker is stopping");
    (broker, stuck)
}

#[test]
fn a_client_that_never_reads_delays_the_end_by_the_drain_time_at_most() {
    let (broker, stuck) = stuck(&["--set", "limits.drain=200ms"]);
    assert_eq!(broker.finish().status.code(), Some(0));
    drop(stuck);
}

#[test]
fn a_second_signal_ends_the_broker_at_once() {
    let (broker, stuck) = stuck(&["--set", "limits.drain=1h", "--set", "limits.write_stall=1h"]);
    broker.signal(Signal::TERM);
    assert_eq!(broker.finish().status.code(), Some(130));
    drop(stuck);
}
