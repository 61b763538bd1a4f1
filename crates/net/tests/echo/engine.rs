//! An engine that echoes, and a node of such engines.
#![allow(dead_code, reason = "each test takes of it what it needs")]

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use breakwater_contract::Completion;
use breakwater_net::{Bind, Engine, Handle, Journal, ListenerOptions, Node, Options, Sockets, Transport};
use breakwater_proto::Instant;
use breakwater_shard::{Batch, Clock, Driver as _, Event, Peer, Profile, ReadOutcome, Ready, TurnEnd, WriteOutcome};

/// Echoes; a connection that sends `q` is told `bye` and closed with whatever else it sent unread.
#[derive(Default)]
pub(crate) struct Echo {
    /// Listener of each connection.
    open: Vec<Option<u16>>,
    ready: VecDeque<u32>,
    stopping: bool,
    pub(crate) patient: bool,
    pub(crate) shard: u16,
    /// Answers of slow planes.
    answers: Vec<u32>,
    lines: Lines,
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
                self.open[slot as usize] = None;
                return;
            }
        }
    }

    /// Says good-bye to some of those that `which` names.
    fn dismiss(&mut self, sockets: &mut Sockets, at_most: usize, which: impl Fn(u16) -> bool) -> usize {
        let mut left = 0;
        let mut ended = 0;
        for slot in 0..self.open.len() {
            if self.open[slot].is_none_or(|listener| !which(listener)) {
                continue;
            }
            if ended == at_most {
                left += 1;
                continue;
            }
            ended += 1;
            self.open[slot] = None;
            let slot = u32::try_from(slot).expect("few");
            // The peer may be gone.
            let _ = sockets.write(slot, b"bye");
            sockets.close(slot);
        }
        left
    }
}

impl Engine for Echo {
    fn accept(&mut self, sockets: &mut Sockets, peer: Peer, transport: Transport, _: Instant) -> Option<u32> {
        let free = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        self.open.resize(self.open.len().max(free + 1), None);
        self.open[free] = Some(peer.listener);
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
        for slot in self.answers.drain(..) {
            sockets.event(Event::Fault { text: &format!("durable {slot} at {}", self.shard) });
        }
        while let Some(slot) = self.ready.pop_front() {
            if self.open[slot as usize].is_some() {
                self.serve(sockets, slot);
            }
        }
        TurnEnd { more: false, next: None }
    }

    fn shutdown(&mut self, sockets: &mut Sockets, _: Instant) {
        self.stopping = true;
        if !self.patient {
            self.dismiss(sockets, usize::MAX, |_| true);
        }
    }

    fn connections(&self) -> usize {
        self.open.iter().flatten().count()
    }

    fn complete(&mut self, completion: Completion) {
        if let Completion::Durable { token, .. } = completion {
            self.answers.push(token.slot);
        }
    }

    fn set_profile(&mut self, listener: u16, _: Arc<Profile>) {
        self.lines.profiles().insert((self.shard, listener));
    }

    fn forget_profile(&mut self, listener: u16) {
        assert!(!self.open.contains(&Some(listener)), "somebody lives by it");
        assert!(self.lines.profiles().remove(&(self.shard, listener)), "it was there");
    }

    fn drain(&mut self, sockets: &mut Sockets, listener: u16, at_most: usize, _: Instant) -> usize {
        self.dismiss(sockets, at_most, |of| of == listener)
    }
}

/// Keeps what it is told; and which shards know the terms of which listeners.
#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) Arc<Mutex<Vec<String>>>, Arc<Mutex<BTreeSet<(u16, u16)>>>);

impl Lines {
    pub(crate) fn profiles(&self) -> MutexGuard<'_, BTreeSet<(u16, u16)>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn about(&self, what: &str) -> usize {
        self.0.lock().expect("no panic in here").iter().filter(|line| line.contains(what)).count()
    }
}

impl Journal for Lines {
    fn event(&mut self, _: u64, event: &Event<'_>) {
        self.0.lock().expect("no panic in here").push(format!("{event:?}"));
    }

    fn end_of_turn(&mut self) {}
}

/// A listener at a free port of this address.
pub(crate) fn listener(name: &str, address: [u8; 4]) -> ListenerOptions {
    let bind = vec![Bind::Address(SocketAddr::from((address, 0)))];
    ListenerOptions { name: name.into(), bind, ..ListenerOptions::default() }
}

pub(crate) fn serve(shards: u16, options: &Options, patient: bool) -> (Node, SocketAddr, Lines) {
    let (listening, faults) = breakwater_net::bind(vec![listener("tcp.first", [127, 0, 0, 1])], shards);
    assert!(faults.is_empty(), "{faults:?}");
    let lines = Lines::default();
    let journal = lines.clone();
    let told = lines.clone();
    let engine = move |shard, _| Echo { patient, shard, lines: told.clone(), ..Echo::default() };
    let node = breakwater_net::start(listening, shards, options, engine, |_| Box::new(journal.clone()))
        .expect("threads can be started");
    let address = node.addresses()[0];
    (node, address, lines)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

pub(crate) fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the node reads");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("the node echoes");
    assert_eq!(back, bytes);
}

/// What is left to read, if the connection ends in good order.
pub(crate) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    rest
}

/// The addresses of a listener.
pub(crate) fn addresses(handle: &Handle, name: &str) -> Vec<SocketAddr> {
    let all = handle.listeners();
    let listener = all.iter().find(|listener| &*listener.options.name == name).expect("it is open");
    let address = |bound: &breakwater_net::BoundTo| match bound {
        breakwater_net::BoundTo::Address(address) => Some(*address),
        breakwater_net::BoundTo::Unix(_) => None,
    };
    listener.bound.iter().filter_map(address).collect()
}
