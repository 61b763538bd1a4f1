//! The ceiling: a poller loop that copies bytes from publishers to subscribers.
//!
//! It answers CONNECT, SUBSCRIBE and PINGREQ so that the same generator can load it, remembers who subscribed to which
//! topic, reads the topic of a publisher's first message, and from then on only copies. All messages of a publisher
//! must have the length of its first (the generator's have), so that bytes of several publishers can be interleaved at
//! packet bounds. QoS 0 only: nobody acknowledges.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;

use super::Fault;
use super::cover;
use super::link::{Fill, Link};
use super::options;
use super::wire;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 256 * 1024;
const PINGREQ: u8 = 12;

pub(super) fn serve(options: &options::Relay) -> Result<(), Fault> {
    let fault = |e: io::Error| Fault::io(&format!("relay on {}", options.listen), &e);
    let tls =
        options.cert.as_ref().zip(options.key.as_ref()).map(|(cert, key)| cover::server(cert, key)).transpose()?;
    let mut relay = Relay::bind(options.listen, tls).map_err(fault)?;
    let address = relay.address().map_err(fault)?;
    if let Some(path) = &options.port_file {
        std::fs::write(path, address.port().to_string()).map_err(fault)?;
    }
    let _ = writeln!(io::stdout(), "relaying bytes on {address}; this is no broker: QoS 0, equal topics only");
    relay.run().map_err(fault)
}

pub(super) struct Relay {
    poll: Poll,
    listener: TcpListener,
    /// None for bare TCP.
    tls: Option<Arc<ServerConfig>>,
    ends: Vec<Option<End>>,
    free: Vec<usize>,
    subscribers: HashMap<Vec<u8>, Vec<usize>>,
    /// Publishers with more to read that will raise no event.
    unread: Vec<usize>,
    buf: Vec<u8>,
}

/// One connection.
struct End {
    link: Link,
    role: Role,
    v5: bool,
}

enum Role {
    /// CONNECT is awaited.
    New,
    /// Connected; what it does next decides.
    Undecided,
    Subscriber {
        topic: Vec<u8>,
        /// Publishers that wait until this one has taken what was written.
        waiters: Vec<usize>,
    },
    Publisher {
        packet_len: usize,
        targets: Vec<usize>,
        blocked_by: usize,
    },
}

impl Relay {
    pub(super) fn bind(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<Relay> {
        let mut listener = TcpListener::bind(address)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Relay {
            poll,
            listener,
            tls,
            ends: Vec::new(),
            free: Vec::new(),
            subscribers: HashMap::new(),
            unread: Vec::new(),
            buf: vec![0; READ_BYTES],
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = (!self.unread.is_empty()).then_some(std::time::Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for index in std::mem::take(&mut self.unread) {
                self.read(index);
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                if event.is_writable() {
                    self.flush(event.token().0);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(event.token().0);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.ends.push(None);
                self.ends.len() - 1
            });
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let cover = self.tls.as_ref().map(cover::accept).transpose()?;
            self.ends[index] = Some(End { link: Link::new(stream, cover), role: Role::New, v5: false });
        }
    }

    fn read(&mut self, index: usize) {
        let Some(end) = self.ends[index].as_mut() else { return };
        if matches!(end.role, Role::Publisher { blocked_by: 1.., .. }) {
            return; // read again when the last of them has caught up
        }
        match end.link.fill(&mut self.buf) {
            Ok(Fill::Bytes { filled, drained, .. }) => {
                if !drained {
                    self.unread.push(index);
                }
                // What a handshake has to say.
                if end.link.flush().is_err() {
                    return self.close(index);
                }
                self.take(index, filled);
            }
            Ok(Fill::Blocked) => {}
            Ok(Fill::Closed) | Err(_) => self.close(index),
        }
    }

    /// Greets a connection until its role is known, then copies.
    fn take(&mut self, index: usize, filled: usize) {
        let mut at = 0;
        loop {
            let Some(end) = self.ends[index].as_mut() else { return };
            match end.role {
                Role::Publisher { packet_len, .. } => {
                    let whole = at + (filled - at) / packet_len * packet_len;
                    end.link.keep_tail(&self.buf[whole..filled]);
                    self.copy(index, at, whole);
                    return;
                }
                // Subscribers of QoS 0 say nothing but goodbye.
                Role::Subscriber { .. } if self.buf[at..filled].first() == Some(&wire::DISCONNECT_PACKET[0]) => {
                    return self.close(index);
                }
                Role::Subscriber { .. } => return,
                Role::New | Role::Undecided => match wire::first_packet(&self.buf[at..filled]) {
                    Ok(Some((first, body, len))) => {
                        let greeted = end.greet(first, body, len, &self.subscribers);
                        if let Role::Subscriber { topic, .. } = &end.role {
                            self.subscribers.entry(topic.clone()).or_default().push(index);
                        }
                        if greeted.is_none() {
                            return self.close(index);
                        }
                        // A first message stays in the buffer: it is copied like the rest.
                        if !matches!(end.role, Role::Publisher { .. }) {
                            at += len;
                        }
                    }
                    Ok(None) => return end.link.keep_tail(&self.buf[at..filled]),
                    Err(_) => return self.close(index),
                },
            }
        }
    }

    fn copy(&mut self, index: usize, from: usize, to: usize) {
        let Some(mut end) = self.ends[index].take() else { return };
        if let Role::Publisher { targets, blocked_by, .. } = &mut end.role {
            for target in targets.iter() {
                let Some(Some(End { link, role: Role::Subscriber { waiters, .. }, .. })) = self.ends.get_mut(*target)
                else {
                    continue;
                };
                // A broken subscriber is seen when its own event comes.
                let _ = link.send(&self.buf[from..to]);
                if !link.is_clear() && !waiters.contains(&index) {
                    waiters.push(index);
                    *blocked_by += 1;
                }
            }
        }
        self.ends[index] = Some(end);
    }

    fn flush(&mut self, index: usize) {
        let Some(end) = self.ends[index].as_mut() else { return };
        if end.link.flush().is_ok() && !end.link.is_clear() {
            return;
        }
        if let Role::Subscriber { waiters, .. } = &mut end.role {
            let waiters = std::mem::take(waiters);
            self.release(&waiters);
        }
    }

    fn release(&mut self, waiters: &[usize]) {
        for waiter in waiters {
            if let Some(Some(End { role: Role::Publisher { blocked_by, .. }, .. })) = self.ends.get_mut(*waiter) {
                *blocked_by = blocked_by.saturating_sub(1);
                self.unread.push(*waiter);
            }
        }
    }

    fn close(&mut self, index: usize) {
        let Some(end) = self.ends[index].take() else { return };
        self.free.push(index);
        self.unread.retain(|other| *other != index);
        match end.role {
            Role::Subscriber { topic, waiters } => {
                if let Some(list) = self.subscribers.get_mut(&topic) {
                    list.retain(|other| *other != index);
                    if list.is_empty() {
                        self.subscribers.remove(&topic);
                    }
                }
                self.release(&waiters);
            }
            Role::Publisher { .. } => {
                for other in self.ends.iter_mut().flatten() {
                    if let Role::Subscriber { waiters, .. } = &mut other.role {
                        waiters.retain(|waiter| *waiter != index);
                    }
                }
            }
            Role::New | Role::Undecided => {}
        }
    }
}

impl End {
    /// Answers a packet of a connection without a role; `None` ends the connection.
    fn greet(&mut self, first: u8, body: &[u8], len: usize, subscribers: &HashMap<Vec<u8>, Vec<usize>>) -> Option<()> {
        match (&self.role, first >> 4) {
            (Role::New, 1) => {
                self.v5 = *body.get(6)? == 5;
                self.role = Role::Undecided;
                self.reply(if self.v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] })
            }
            (Role::Undecided, 8) => {
                let [high, low] = wire::packet_id(body).ok()?.to_be_bytes();
                let rest = body.get(2 + usize::from(self.v5)..)?;
                let topic = name(rest)?.to_vec();
                let qos = rest.get(2 + topic.len())? & 3;
                self.role = Role::Subscriber { topic, waiters: Vec::new() };
                match self.v5 {
                    true => self.reply(&[0x90, 4, high, low, 0, qos]),
                    false => self.reply(&[0x90, 3, high, low, qos]),
                }
            }
            (Role::Undecided, wire::PUBLISH) => {
                let targets = subscribers.get(name(body)?).cloned().unwrap_or_default();
                self.role = Role::Publisher { packet_len: len, targets, blocked_by: 0 };
                Some(())
            }
            (Role::Undecided, PINGREQ) => self.reply(&[0xd0, 0]),
            _ => None,
        }
    }

    fn reply(&mut self, bytes: &[u8]) -> Option<()> {
        self.link.send(bytes).ok()
    }
}

/// The length-prefixed text at the start of `bytes`.
fn name(bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::from(wire::packet_id(bytes).ok()?);
    bytes.get(2..2 + length)
}
