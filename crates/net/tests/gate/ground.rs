//! A node whose engine echoes, and clients of every kind.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater_contract::{Handoff, Visit};
use breakwater_net::{
    Bind, Ending, Engine, Journal, ListenerOptions, ListenerStatus, Node, Options, Protocols, Refusal, Sockets,
    Transport,
};
use breakwater_proto::Instant;
use breakwater_shard::{Batch, Clock, Driver as _, Event, Peer, ReadOutcome, Ready, TurnEnd, WriteOutcome};
use breakwater_transport::upgrade;
use breakwater_transport::ws::{Decoder, End, OpCode, Role, put_close, put_frame};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::authority::Authority;

/// Sends back what it is sent, in order, however slowly the peer reads. A line `?` is answered with what is known of the
/// peer, `!` with a megabyte, `q` with `bye` and the end. What follows `###` counts as what a shard can't make sense of.
#[derive(Default)]
struct Echo {
    connections: Vec<Option<Connection>>,
    ready: VecDeque<u32>,
    heard: Heard,
}

struct Connection {
    peer: Peer,
    out: Vec<u8>,
    leaving: bool,
}

/// What `!` is answered with.
pub(crate) fn much() -> Vec<u8> {
    (0..1_000_000_u32).map(|at| (at * 31 + at / 251) as u8).collect()
}

impl Echo {
    fn serve(&mut self, sockets: &mut Sockets, slot: u32) {
        let mut buffer = [0; 1000];
        let goes_on = loop {
            let Some(connection) = &mut self.connections[slot as usize] else { return };
            match sockets.read(slot, &mut buffer) {
                ReadOutcome::Bytes(count) | ReadOutcome::More(count) => match &buffer[..count] {
                    b"?" => {
                        let Peer { address, direct, .. } = connection.peer;
                        let name = sockets.identity(slot).map(|identity| identity.certificate.common_name.clone());
                        let words = format!("{address} {direct} {}", name.unwrap_or_default());
                        connection.out.extend_from_slice(words.as_bytes());
                    }
                    // Several may come in one read.
                    all if all.iter().all(|byte| *byte == b'!') => {
                        all.iter().for_each(|_| connection.out.extend(much()));
                    }
                    b"q" => {
                        connection.out.extend_from_slice(b"bye");
                        connection.leaving = true;
                    }
                    [b'#', b'#', b'#', first @ ..] => {
                        sockets.misled(slot, connection.peer, first);
                        connection.leaving = true;
                    }
                    bytes => connection.out.extend_from_slice(bytes),
                },
                ReadOutcome::WouldBlock => break true,
                ReadOutcome::Closed => break false,
                ReadOutcome::Failed => {
                    let fault = sockets.fault(slot).unwrap_or_default();
                    sockets.event(Event::Fault { text: &fault });
                    break false;
                }
            }
        };
        if !(self.flush(sockets, slot) && goes_on) {
            sockets.close(slot);
            self.connections[slot as usize] = None;
        }
    }

    /// False: it is over.
    fn flush(&mut self, sockets: &mut Sockets, slot: u32) -> bool {
        let Some(connection) = &mut self.connections[slot as usize] else { return true };
        while !connection.out.is_empty() {
            match sockets.write(slot, &connection.out) {
                WriteOutcome::Wrote(count) | WriteOutcome::Held(count) => drop(connection.out.drain(..count)),
                WriteOutcome::WouldBlock => return true,
                WriteOutcome::Failed => return false,
            }
        }
        !connection.leaving
    }
}

impl Engine for Echo {
    fn accept(&mut self, sockets: &mut Sockets, peer: Peer, transport: Transport, _: Instant) -> Option<u32> {
        let free = self.connections.iter().position(Option::is_none).unwrap_or(self.connections.len());
        self.connections.resize_with(self.connections.len().max(free + 1), || None);
        self.connections[free] = Some(Connection { peer, out: Vec::new(), leaving: false });
        let slot = u32::try_from(free).ok()?;
        self.ready.push_back(slot);
        sockets.place(slot, transport).then_some(slot)
    }

    fn ready(&mut self, slot: u32, _: Ready) {
        self.ready.push_back(slot);
    }

    fn reclaim(&mut self, _: Box<Batch>) {}

    fn turn(&mut self, sockets: &mut Sockets, _: Clock) -> TurnEnd {
        while let Some(slot) = self.ready.pop_front() {
            self.serve(sockets, slot);
        }
        self.heard.buffers.fetch_max(sockets.buffer_bytes(), Ordering::Relaxed);
        TurnEnd { more: false, next: None }
    }

    fn shutdown(&mut self, sockets: &mut Sockets, _: Instant) {
        for slot in 0..self.connections.len() {
            if self.connections[slot].take().is_some() {
                sockets.close(u32::try_from(slot).expect("few"));
            }
        }
    }

    fn connections(&self) -> usize {
        self.connections.iter().flatten().count()
    }
}

/// What was told, and what turned out to be HTTP.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) visits: Arc<Mutex<Vec<(SocketAddr, bool, bool)>>>,
    /// Largest sum of the buffers that all connections of a shard had at the end of a turn, since it was last set to 0.
    pub(crate) buffers: Arc<AtomicUsize>,
}

impl Journal for Heard {
    fn event(&mut self, _: u64, event: &Event<'_>) {
        self.lines.lock().expect("no panic in here").push(format!("{event:?}"));
    }

    fn end_of_turn(&mut self) {}
}

/// Answers one request with its own head.
impl Handoff for Heard {
    fn http(&self, visit: Visit) {
        let Visit { mut stream, peer, direct, encrypted, .. } = visit;
        self.visits.lock().expect("no panic in here").push((peer, direct, encrypted));
        // Whoever serves HTTP does so elsewhere: nothing here may wait.
        std::thread::spawn(move || {
            stream.socket().set_nonblocking(false).expect("a socket");
            let mut head = Vec::new();
            let mut buffer = [0; 7];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => head.extend_from_slice(&buffer[..count]),
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("the client reads");
            stream.write_all(&head).expect("the client reads");
            stream.flush().expect("the client reads");
        });
    }
}

/// A node with one listener on a free port.
pub(crate) struct Ground {
    node: Option<Node>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) heard: Heard,
}

/// What one listener speaks.
pub(crate) fn speaks(change: impl FnOnce(&mut Protocols)) -> Protocols {
    let mut protocols = Protocols::NONE;
    change(&mut protocols);
    protocols
}

impl Ground {
    pub(crate) fn new(protocols: Protocols) -> Self {
        Self::with(protocols, |_, _| {})
    }

    pub(crate) fn with(protocols: Protocols, change: impl FnOnce(&mut ListenerOptions, &Authority)) -> Self {
        let authority = Authority::new();
        let mut options = ListenerOptions {
            name: "any.test".into(),
            bind: vec![Bind::Address(SocketAddr::from(([127, 0, 0, 1], 0)))],
            protocols,
            handshake_timeout_ms: 60_000,
            ..ListenerOptions::default()
        };
        if protocols.mqtts || protocols.wss || protocols.https {
            options.tls = Some(authority.server());
        }
        change(&mut options, &authority);
        let (listening, faults) = breakwater_net::bind(vec![options], 2);
        assert!(faults.is_empty(), "{faults:?}");
        let heard = Heard::default();
        let (journal, engine) = (heard.clone(), heard.clone());
        let node = breakwater_net::start(
            listening,
            2,
            &Options::default(),
            move |_, _| Echo { heard: engine.clone(), ..Echo::default() },
            |_| Box::new(journal.clone()),
        )
        .expect("threads can be started");
        let address = node.addresses()[0];
        Self { node: Some(node), address, authority, heard }
    }

    /// Lets somebody serve HTTP.
    pub(crate) fn serve_http(&self) {
        let handle = self.node.as_ref().expect("it runs").handle();
        assert!(handle.set_handoff(Arc::new(self.heard.clone())));
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
    }

    /// A client in TLS.
    pub(crate) fn secure(&self, alpn: &[&str]) -> StreamOwned<ClientConnection, TcpStream> {
        secure(self.connect(), self.authority.client(None, alpn))
    }

    /// A client in WebSocket.
    pub(crate) fn web(&self) -> Web<TcpStream> {
        Web::open(self.connect(), "")
    }

    /// Changes the options of the listener.
    pub(crate) fn change(&self, change: impl FnOnce(&mut ListenerOptions)) {
        let mut options = self.status().options;
        change(&mut options);
        self.node.as_ref().expect("it runs").handle().change(options, Ending::Keep).expect("a good change");
    }

    pub(crate) fn status(&self) -> ListenerStatus {
        self.node.as_ref().expect("it runs").handle().listeners().remove(0)
    }

    /// Waits until so many were turned away for this reason, and all that it told of them.
    pub(crate) fn refused(&self, refusal: Refusal, count: u64) -> String {
        loop {
            let refused = self.status().refused;
            if refused.iter().any(|(found, times)| *found == refusal && *times >= count) {
                break;
            }
            std::thread::yield_now();
        }
        // The count comes just before the line.
        self.told(refusal.text())
    }

    /// Waits until the listener has so many connections: one that is turned away is counted before it has left.
    pub(crate) fn holds(&self, connections: u32) {
        while self.status().connections != connections {
            std::thread::yield_now();
        }
    }

    /// Waits until something with these words is told; all that was told by then.
    pub(crate) fn told(&self, words: &str) -> String {
        loop {
            let lines = self.heard.lines.lock().expect("no panic in there").join("\n");
            if lines.contains(words) {
                return lines;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let node = self.node.take().expect("it ends once");
        node.stop(Duration::ZERO);
        node.join();
    }
}

pub(crate) fn secure(
    stream: TcpStream,
    config: impl Into<Arc<ClientConfig>>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(config.into(), name).expect("a good configuration"), stream)
}

/// Sends and expects the same back.
pub(crate) fn echo(stream: &mut (impl Read + Write), bytes: &[u8]) {
    assert!(ask(stream, bytes, bytes.len()) == bytes);
}

/// Sends, and reads an answer of that length.
pub(crate) fn ask(stream: &mut (impl Read + Write), bytes: &[u8], length: usize) -> Vec<u8> {
    stream.write_all(bytes).expect("the node reads");
    stream.flush().expect("the node reads");
    let mut back = vec![0; length];
    stream.read_exact(&mut back).expect("the node answers");
    back
}

/// What the node knows of a peer.
pub(crate) fn who(stream: &mut (impl Read + Write)) -> String {
    stream.write_all(b"?").expect("the node reads");
    stream.flush().expect("the node reads");
    let mut buffer = [0; 200];
    let count = stream.read(&mut buffer).expect("the node answers");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

/// All that comes until the end, be it orderly or not.
pub(crate) fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

/// A WebSocket client over any stream: reads and writes the bytes of MQTT.
pub(crate) struct Web<S> {
    pub(crate) stream: S,
    decoder: Decoder,
    got: VecDeque<u8>,
    pub(crate) end: Option<End>,
    /// Longest payload of a frame that is sent.
    pub(crate) frame: usize,
}

const KEY: [u8; 4] = [1, 2, 3, 4];

impl<S: Read + Write> Web<S> {
    /// Connects, with these header lines besides.
    pub(crate) fn open(mut stream: S, lines: &str) -> Self {
        let answer = request(&mut stream, lines, b"");
        let answered = upgrade::check_answer(&answer, "mqtt", [9; 16]).expect("an upgrade").expect("all of it");
        assert_eq!(answered.used, answer.len());
        let decoder = Decoder::new(Role::Client, 1 << 20, 1 << 20);
        Self { stream, decoder, got: VecDeque::new(), end: None, frame: usize::MAX }
    }

    pub(crate) fn put(&mut self, opcode: OpCode, payload: &[u8]) {
        let mut out = Vec::new();
        put_frame(&mut out, opcode, payload, Some(KEY));
        self.stream.write_all(&out).expect("the node reads");
    }

    pub(crate) fn close(&mut self) {
        let mut out = Vec::new();
        put_close(&mut out, 1000, "", Some(KEY));
        self.stream.write_all(&out).expect("the node reads");
    }
}

/// Asks for an upgrade; the head of the answer.
pub(crate) fn request(stream: &mut (impl Read + Write), lines: &str, behind: &[u8]) -> Vec<u8> {
    let mut asked = Vec::new();
    upgrade::put_request(&mut asked, "localhost", "/mqtt", "mqtt", [9; 16]);
    asked.truncate(asked.len() - 2);
    asked.extend_from_slice(lines.as_bytes());
    asked.extend_from_slice(b"\r\n");
    asked.extend_from_slice(behind);
    stream.write_all(&asked).expect("the node reads");
    stream.flush().expect("the node reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the node answers");
        answer.extend_from_slice(&byte);
    }
    answer
}

impl<S: Read + Write> Read for Web<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.got.is_empty() && self.end.is_none() {
            let mut bytes = [0; 5000];
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut answers = Vec::new();
            let decoded = self.decoder.decode(&mut bytes[..count], KEY, &mut answers);
            self.got.extend(&bytes[..decoded.payload]);
            self.end = decoded.end;
        }
        self.got.read(buffer)
    }
}

impl<S: Read + Write> Write for Web<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.frame);
        self.put(OpCode::Binary, &bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// A stream that sends one byte at a time.
pub(crate) struct Drops<S>(pub(crate) S);

impl<S: Write> Write for Drops<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.0.write(&bytes[..1])?;
        self.0.flush()?;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl<S: Read> Read for Drops<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}
