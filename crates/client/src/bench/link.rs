//! One connection of the generator: a non-blocking socket and its cover, what was read but is no whole packet yet, and what
//! the socket did not take.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::Fault;
use super::cover::Cover;
use super::plan::Client;
use super::wire::{self, Level};

/// How long the broker may take to answer CONNECT or SUBSCRIBE.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A cover may give so much more than was read: what came before of a record or a frame.
const HELD_MAX: usize = 20 * 1024;
/// Buffer for answers to CONNECT and SUBSCRIBE, which come alone.
pub(super) const ANSWER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Link<S = TcpStream> {
    pub(super) stream: S,
    cover: Option<Box<Cover>>,
    tail: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// With a cover: what it has yet to seal.
    unsealed: Vec<u8>,
    /// With a cover: bytes given to it since nothing waited any more.
    given: usize,
}

/// Outcome of one read.
#[derive(Debug)]
pub(super) enum Fill {
    /// `filled` bytes stand in the buffer, `fresh` of them new. `drained`: the socket holds no more.
    Bytes {
        filled: usize,
        fresh: usize,
        drained: bool,
    },
    Blocked,
    Closed,
}

impl<S: Read + Write> Link<S> {
    pub(super) fn new(stream: S, cover: Option<Cover>) -> Self {
        let cover = cover.map(Box::new);
        Self { stream, cover, tail: Vec::new(), out: Vec::new(), sent: 0, unsealed: Vec::new(), given: 0 }
    }

    /// The same connection on another socket.
    pub(super) fn onto<T>(self, stream: impl FnOnce(S) -> T) -> Link<T> {
        let Self { stream: old, cover, tail, out, sent, unsealed, given } = self;
        Link { stream: stream(old), cover, tail, out, sent, unsealed, given }
    }

    /// Reads once into `buf`, behind the incomplete packet of the last read.
    #[inline]
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> io::Result<Fill> {
        let kept = self.tail.len();
        buf[..kept].copy_from_slice(&self.tail);
        // A cover opens what was read at the far end of the buffer into its front.
        let from = match self.cover {
            None => kept,
            Some(_) => buf.len() - ((buf.len() - kept) / 2).saturating_sub(HELD_MAX).max(1),
        };
        let (front, back) = buf.split_at_mut(from);
        loop {
            return match self.stream.read(back) {
                Ok(0) => Ok(Fill::Closed),
                Ok(fresh) => {
                    self.tail.clear();
                    let drained = fresh < back.len();
                    let filled = match &mut self.cover {
                        None => kept + fresh,
                        Some(cover) => kept + cover.open(&mut back[..fresh], &mut front[kept..], &mut self.out)?,
                    };
                    Ok(Fill::Bytes { filled, fresh, drained })
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Fill::Blocked),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
        }
    }

    #[inline]
    pub(super) fn keep_tail(&mut self, rest: &[u8]) {
        self.tail.extend_from_slice(rest);
    }

    /// Nothing waits for the socket to take it.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.out.is_empty() && self.cover.as_ref().is_none_or(|cover| !cover.is_behind())
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        (self.out.len() - self.sent).max(self.given)
    }

    /// Where to append what the next `flush` sends.
    #[inline]
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        if self.cover.is_some() { &mut self.unsealed } else { &mut self.out }
    }

    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(cover) = &mut self.cover {
            if !self.unsealed.is_empty() {
                self.given += self.unsealed.len();
                cover.seal(&self.unsealed, &mut self.out)?;
                self.unsealed.clear();
            }
            cover.push(&mut self.stream)?;
        }
        if !self.out.is_empty() {
            self.sent += write_some(&mut self.stream, &self.out[self.sent..])?;
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
            }
        }
        if self.is_clear() {
            self.given = 0;
        }
        Ok(())
    }

    /// Sends `bytes` in one write where the socket takes them; keeps the rest for `flush`.
    #[inline]
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(cover) = &mut self.cover
            && self.unsealed.is_empty()
        {
            self.given += bytes.len();
            cover.seal(bytes, &mut self.out)?;
            return self.flush();
        }
        if !self.out.is_empty() || self.cover.is_some() {
            self.out().extend_from_slice(bytes);
            return self.flush();
        }
        let written = write_some(&mut self.stream, bytes)?;
        self.out.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.cover.as_ref().is_some_and(|cover| cover.is_resumed())
    }
}

#[inline]
fn write_some(stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        return match stream.write(bytes) {
            Ok(n) => Ok(n),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
    }
}

/// A socket bound to `source`, not connected yet. Closing it leaves no TIME_WAIT when the broker closed first.
pub(super) fn socket(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    Ok(socket)
}

/// How a client introduces itself.
#[derive(Debug)]
pub(super) struct Hello<'a> {
    pub(super) level: Level,
    pub(super) client: &'a Client,
    pub(super) keep_alive_s: u16,
    pub(super) inflight: u16,
    /// QoS of the subscription to the client's topic; `None` for publishers.
    pub(super) subscribe: Option<u8>,
}

/// Connects and subscribes, one step after the other, so that brokers see clients in the order of their numbers.
/// Returns the link and the Receive Maximum that the broker told.
pub(super) fn open(
    address: SocketAddr,
    source: Option<SocketAddr>,
    cover: Option<Cover>,
    hello: &Hello<'_>,
) -> Result<(Link, Option<u16>), Fault> {
    let (link, receive_maximum) = greet(address, source, cover, hello)?;
    link.stream.set_nonblocking(true).map_err(|e| Fault::io("socket", &e))?;
    Ok((link.onto(TcpStream::from_std), receive_maximum))
}

/// The same with a blocking socket.
pub(super) fn greet(
    address: SocketAddr,
    source: Option<SocketAddr>,
    cover: Option<Cover>,
    hello: &Hello<'_>,
) -> Result<(Link<Blocking>, Option<u16>), Fault> {
    let fault = |e: io::Error| Fault::io(&format!("{address}, client {}", hello.client.id), &e);
    let socket = socket(address, source).map_err(fault)?;
    socket.connect_timeout(&address.into(), HANDSHAKE_TIMEOUT).map_err(fault)?;
    let stream = Blocking::from(socket);
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT)).map_err(fault)?;
    let mut link = Link::new(stream, cover);
    let mut buf = vec![0; ANSWER_BYTES];

    link.send(&wire::connect(hello.level, &hello.client.id, hello.keep_alive_s, hello.inflight)).map_err(fault)?;
    let body = answer(&mut link, &mut buf, wire::CONNACK).map_err(fault)?;
    let (code, receive_maximum) = wire::connack(hello.level, &body).map_err(|e| Fault::new(e.to_string()))?;
    if code != 0 {
        return Err(Fault::new(format!("{address} refused client {} with code {code:#04x}", hello.client.id)));
    }
    if let Some(qos) = hello.subscribe {
        link.send(&wire::subscribe(hello.level, 1, &[&hello.client.topic], qos)).map_err(fault)?;
        let body = answer(&mut link, &mut buf, wire::SUBACK).map_err(fault)?;
        if body.last() != Some(&qos) {
            return Err(Fault::new(format!("{address} did not grant QoS {qos} to {}", hello.client.id)));
        }
    }
    Ok((link, receive_maximum))
}

/// Waits for a packet of this kind; what stands behind it stays in the link.
fn answer(link: &mut Link<Blocking>, buf: &mut [u8], kind: u8) -> io::Result<Vec<u8>> {
    loop {
        let filled = match link.fill(buf)? {
            Fill::Bytes { filled, .. } => filled,
            Fill::Blocked => return Err(ErrorKind::TimedOut.into()),
            Fill::Closed => return Err(ErrorKind::UnexpectedEof.into()),
        };
        // What a handshake has to say.
        link.flush()?;
        let mut at = 0;
        let mut wanted = None;
        while let (None, Some((first, body, len))) = (
            &wanted,
            wire::first_packet(&buf[at..filled]).map_err(|e| io::Error::new(ErrorKind::InvalidData, e.to_string()))?,
        ) {
            at += len;
            wanted = (first >> 4 == kind).then(|| body.to_vec());
        }
        link.keep_tail(&buf[at..filled]);
        if let Some(body) = wanted {
            return Ok(body);
        }
    }
}
