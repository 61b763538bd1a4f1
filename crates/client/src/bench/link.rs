//! One connection of the generator: a non-blocking socket, what was read but is no whole packet yet, and what the
//! socket did not take.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::Fault;
use super::plan::Client;
use super::wire::{self, Level};

/// How long the broker may take to answer CONNECT or SUBSCRIBE.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    tail: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
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

impl Link {
    pub(super) fn new(stream: TcpStream, tail: Vec<u8>) -> Link {
        Link { stream, tail, out: Vec::new(), sent: 0 }
    }

    /// Reads once into `buf`, behind the incomplete packet of the last read.
    #[inline]
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> io::Result<Fill> {
        let kept = self.tail.len();
        buf[..kept].copy_from_slice(&self.tail);
        loop {
            return match self.stream.read(&mut buf[kept..]) {
                Ok(0) => Ok(Fill::Closed),
                Ok(fresh) => {
                    self.tail.clear();
                    Ok(Fill::Bytes { filled: kept + fresh, fresh, drained: kept + fresh < buf.len() })
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
        self.out.is_empty()
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Where to append what the next `flush` sends.
    #[inline]
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    #[inline]
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.sent += write_some(&mut self.stream, &self.out[self.sent..])?;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Sends `bytes` in one write where the socket takes them; keeps the rest for `flush`.
    #[inline]
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return self.flush();
        }
        let written = write_some(&mut self.stream, bytes)?;
        self.out.extend_from_slice(&bytes[written..]);
        Ok(())
    }
}

#[inline]
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
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
    hello: &Hello<'_>,
) -> Result<(Link, Option<u16>), Fault> {
    let (stream, receive_maximum, tail) = greet(address, source, hello)?;
    stream.set_nonblocking(true).map_err(|e| Fault::io("socket", &e))?;
    Ok((Link::new(TcpStream::from_std(stream), tail), receive_maximum))
}

/// The same with a blocking socket, and what has been read beyond the answers.
pub(super) fn greet(
    address: SocketAddr,
    source: Option<SocketAddr>,
    hello: &Hello<'_>,
) -> Result<(Blocking, Option<u16>, Vec<u8>), Fault> {
    let fault = |e: io::Error| Fault::io(&format!("{address}, client {}", hello.client.id), &e);
    let socket = socket(address, source).map_err(fault)?;
    socket.connect_timeout(&address.into(), HANDSHAKE_TIMEOUT).map_err(fault)?;
    let mut stream = Blocking::from(socket);
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT)).map_err(fault)?;
    let mut tail = Vec::new();

    let connect = wire::connect(hello.level, &hello.client.id, hello.keep_alive_s, hello.inflight);
    stream.write_all(&connect).map_err(fault)?;
    let body = answer(&mut stream, &mut tail, wire::CONNACK).map_err(fault)?;
    let (code, receive_maximum) = wire::connack(hello.level, &body).map_err(|e| Fault::new(e.to_string()))?;
    if code != 0 {
        return Err(Fault::new(format!("{address} refused client {} with code {code:#04x}", hello.client.id)));
    }
    if let Some(qos) = hello.subscribe {
        let subscribe = wire::subscribe(hello.level, 1, &[&hello.client.topic], qos);
        stream.write_all(&subscribe).map_err(fault)?;
        let body = answer(&mut stream, &mut tail, wire::SUBACK).map_err(fault)?;
        if body.last() != Some(&qos) {
            return Err(Fault::new(format!("{address} did not grant QoS {qos} to {}", hello.client.id)));
        }
    }
    Ok((stream, receive_maximum, tail))
}

fn answer(stream: &mut Blocking, buf: &mut Vec<u8>, kind: u8) -> io::Result<Vec<u8>> {
    let mut chunk = [0; 512];
    loop {
        let found = wire::first_packet(buf).map_err(|e| io::Error::new(ErrorKind::InvalidData, e.to_string()))?;
        if let Some((first, body, len)) = found {
            let body = body.to_vec();
            buf.drain(..len);
            if first >> 4 == kind {
                return Ok(body);
            }
            continue;
        }
        match stream.read(&mut chunk)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => buf.extend_from_slice(&chunk[..n]),
        }
    }
}
