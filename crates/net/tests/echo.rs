//! The loop over real sockets, with an engine that echoes instead of a shard.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater_net::{Bind, Engine, Journal, ListenerOptions, Node, Options, Sockets, Transport};
use breakwater_proto::Instant;
use breakwater_shard::{Batch, Clock, Driver as _, Event, Peer, ReadOutcome, Ready, TurnEnd, WriteOutcome};

/// Echoes; a connection that sends `q` is told `bye` and closed with whatever else it sent unread.
#[derive(Default)]
struct Echo {
    open: Vec<bool>,
    ready: VecDeque<u32>,
    stopping: bool,
    patient: bool,
}

impl Echo {
    fn serve(&mut self, sockets: &mut Sockets, slot: u32) {
        let mut buffer = [0; 8];
        loop {
            let close = match sockets.read(slot, &mut buffer) {
                ReadOutcome::Bytes(_) if buffer[0] == b'q' => {
                    assert_eq!(sockets.write(slot, b"bye"), WriteOutcome::Wrote(3));
                    true
                }
                ReadOutcome::Bytes(count) | ReadOutcome::More(count) => {
                    sockets.write(slot, &buffer[..count]) != WriteOutcome::Wrote(count)
                }
                ReadOutcome::WouldBlock => return,
                ReadOutcome::Closed | ReadOutcome::Failed => true,
            };
            if close {
                sockets.close(slot);
                self.open[slot as usize] = false;
                return;
            }
        }
    }
}

impl Engine for Echo {
    fn accept(&mut self, sockets: &mut Sockets, _: Peer, transport: Transport, _: Instant) -> Option<u32> {
        let free = self.open.iter().position(|open| !open).unwrap_or(self.open.len());
        self.open.resize(self.open.len().max(free + 1), false);
        self.open[free] = true;
        let slot = u32::try_from(free).ok()?;
        self.ready.push_back(slot);
        sockets.place(slot, transport).then_some(slot)
    }

    fn ready(&mut self, slot: u32, ready: Ready) {
        if ready.readable {
            self.ready.push_back(slot);
        }
    }

    fn reclaim(&mut self, _: Box<Batch>) {}

    fn turn(&mut self, sockets: &mut Sockets, _: Clock) -> TurnEnd {
        while let Some(slot) = self.ready.pop_front() {
            if self.open[slot as usize] {
                self.serve(sockets, slot);
            }
        }
        TurnEnd { more: false, next: None }
    }

    fn shutdown(&mut self, sockets: &mut Sockets, _: Instant) {
        self.stopping = true;
        for slot in 0..self.open.len() {
            if self.open[slot] && !self.patient {
                let slot = u32::try_from(slot).expect("few");
                // The peer may be gone.
                let _ = sockets.write(slot, b"bye");
                sockets.close(slot);
            }
        }
        if !self.patient {
            self.open.fill(false);
        }
    }

    fn connections(&self) -> usize {
        self.open.iter().filter(|open| **open).count()
    }
}

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Journal for Lines {
    fn event(&mut self, _: u64, event: &Event<'_>) {
        self.0.lock().expect("no panic in here").push(format!("{event:?}"));
    }

    fn end_of_turn(&mut self) {}
}

fn serve(shards: u16, options: &Options, patient: bool) -> (Node, SocketAddr, Lines) {
    let bind = vec![Bind::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
    let (listening, faults) =
        breakwater_net::bind(vec![ListenerOptions { bind, ..ListenerOptions::default() }], shards);
    assert!(faults.is_empty(), "{faults:?}");
    let lines = Lines::default();
    let journal = lines.clone();
    let engine = move |_, _| Echo { patient, ..Echo::default() };
    let node = breakwater_net::start(listening, shards, options, engine, |_| Box::new(journal.clone()))
        .expect("threads can be started");
    let address = node.addresses()[0];
    (node, address, lines)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the node reads");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("the node echoes");
    assert_eq!(back, bytes);
}

#[test]
fn every_connection_is_served_on_whichever_shard_it_lands() {
    let (node, address, _) = serve(3, &Options::default(), false);
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
    for round in 0..3_u8 {
        for stream in &mut streams {
            echo(stream, &[round; 100]);
        }
    }
    drop(streams);
    node.stop(Duration::from_secs(20));
    node.join();
}

#[test]
fn last_words_arrive_although_input_is_left_unread() {
    let (node, address, _) = serve(1, &Options::default(), false);
    let mut stream = connect(address);
    // One write: all of it is in the socket when the first bytes are read.
    stream.write_all(&[b'q'; 20_000]).expect("the node reads");
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("no reset");
    assert_eq!(last, b"bye");
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn last_words_arrive_although_input_goes_on() {
    let options = Options { linger_ms: u64::from(u32::MAX), ..Options::default() };
    let (node, address, _) = serve(1, &options, false);
    let mut stream = connect(address);
    stream.write_all(b"q").expect("the node reads");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut first = [0];
    stream.read_exact(&mut first).expect("no reset");
    // The node has said all it has to say, and takes what comes as long as the peer hasn't seen that.
    for _ in 0..100 {
        stream.write_all(&[0; 20_000]).expect("no reset");
    }
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("no reset");
    assert_eq!(last, b"ye");
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn who_never_closes_is_cut_in_the_end() {
    let options = Options { linger_ms: 1, ..Options::default() };
    let (node, address, _) = serve(1, &options, false);
    let mut stream = connect(address);
    stream.write_all(b"q").expect("the node reads");
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("no reset");
    assert_eq!(last, b"bye");
    // The deadline of the test is that of the run: sooner or later a write meets a closed socket.
    while stream.write_all(b"more").is_ok() {
        std::thread::yield_now();
    }
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn a_stop_says_good_bye_and_closes_the_port() {
    let (node, address, _) = serve(2, &Options::default(), false);
    let mut streams: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    streams.iter_mut().for_each(|stream| echo(stream, b"here"));
    node.stop(Duration::from_secs(20));
    for stream in &mut streams {
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("an orderly end");
        assert_eq!(last, b"bye");
    }
    node.join();
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn those_who_stay_are_cut_when_the_time_is_over() {
    let (node, address, _) = serve(2, &Options::default(), true);
    let mut stream = connect(address);
    echo(&mut stream, b"here");
    node.stop(Duration::from_millis(50));
    node.join();
    let mut last = Vec::new();
    let _ = stream.read_to_end(&mut last);
    assert!(last.is_empty());
}

#[test]
fn a_full_node_closes_what_is_too_much_and_says_so() {
    let options = Options { connections_max: 2, ..Options::default() };
    let (node, address, lines) = serve(1, &options, false);
    let mut kept: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
    kept.iter_mut().for_each(|stream| echo(stream, b"here"));
    let mut refused = connect(address);
    let mut rest = Vec::new();
    let _ = refused.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert!(lines.0.lock().expect("lines").iter().any(|line| line.contains("limits.connections")));
    // One leaves, the next gets its place.
    let mut gone = kept.pop().expect("two are there");
    gone.write_all(b"q").expect("it is served");
    gone.read_to_end(&mut rest).expect("an orderly end");
    echo(&mut connect(address), b"next");
    node.stop(Duration::ZERO);
    node.join();
}
