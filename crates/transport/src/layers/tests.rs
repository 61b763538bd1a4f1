use std::collections::VecDeque;
use std::io;

use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::tls::pki::pair;
use crate::ws::{Role, code, put_close, put_frame};

const KEY: [u8; 4] = [7, 77, 177, 251];

/// A socket in memory that takes and gives so many bytes at a time.
struct Wire {
    inbound: VecDeque<u8>,
    outbound: Vec<u8>,
    /// Room for output.
    room: usize,
    step: usize,
    ended: bool,
    writes: usize,
}

impl Wire {
    fn new(step: usize) -> Self {
        Self { inbound: VecDeque::new(), outbound: Vec::new(), room: usize::MAX, step, ended: false, writes: 0 }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() {
            return if self.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let most = buffer.len().min(self.step);
        self.inbound.read(&mut buffer[..most])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.step).min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.writes += 1;
        self.outbound.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let first: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(self.step).collect();
        self.write(&first)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end, and the layers under test.
struct Both {
    client: Option<ClientConnection>,
    frames: Option<Decoder>,
    wire: Wire,
    layers: Layers,
    scratch: Scratch,
    /// What the client was told by frames of control.
    answers: Vec<u8>,
}

/// The combinations, and how many bytes move at a time.
fn combinations() -> impl Iterator<Item = (Option<bool>, bool, usize)> {
    let tls = [None, Some(false), Some(true)];
    tls.into_iter()
        .flat_map(|tls| [false, true].map(|ws| (tls, ws)))
        .flat_map(|(tls, ws)| [1, 7, 100_000].map(|step| (tls, ws, step)))
}

impl Both {
    fn new(tls: Option<bool>, ws: bool, step: usize) -> Self {
        let (server, client) = tls.map(|newest| open(if newest { &TLS13 } else { &TLS12 })).unzip();
        let decoder = |role| ws.then(|| Decoder::new(role, 1 << 20, 1 << 20));
        Self {
            client,
            frames: decoder(Role::Client),
            wire: Wire::new(step),
            layers: Layers::new(server, decoder(Role::Server), Vec::new()),
            scratch: Scratch::default(),
            answers: Vec::new(),
        }
    }

    /// The client sends bytes as they are, through TLS if there is any.
    fn send_raw(&mut self, bytes: &[u8]) {
        let Some(client) = &mut self.client else {
            self.wire.inbound.extend(bytes);
            return;
        };
        client.writer().write_all(bytes).expect("a large buffer");
        while client.wants_write() {
            client.write_tls(&mut self.wire.inbound).expect("memory");
        }
    }

    /// The client sends bytes of MQTT, in frames if there are any.
    fn send(&mut self, bytes: &[u8]) {
        let mut framed = Vec::new();
        if self.frames.is_some() {
            bytes.chunks(1000).for_each(|piece| put_frame(&mut framed, OpCode::Binary, piece, Some(KEY)));
        } else {
            framed.extend_from_slice(bytes);
        }
        self.send_raw(&framed);
    }

    /// Reads until there is nothing more.
    fn read_all(&mut self, buffer: usize) -> (Vec<u8>, Took) {
        let (mut stream, mut buffer) = (Vec::new(), vec![0; buffer]);
        loop {
            match self.layers.read(&mut self.wire, &mut self.scratch, &mut buffer) {
                Took::Bytes(count) | Took::More(count) => stream.extend_from_slice(&buffer[..count]),
                end => return (stream, end),
            }
        }
    }

    /// What the client hears, out of all its layers. The room of the socket is set anew.
    fn heard(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.wire.outbound);
        if let Some(client) = &mut self.client {
            let mut plain = Vec::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).expect("memory");
                client.process_new_packets().expect("a server that keeps to the rules");
                let _ = client.reader().read_to_end(&mut plain);
            }
            bytes = plain;
        }
        let Some(frames) = &mut self.frames else { return bytes };
        let decoded = frames.decode(&mut bytes, KEY, &mut self.answers);
        bytes.truncate(decoded.payload);
        bytes
    }

    fn write_all(&mut self, mut bytes: &[u8], room: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while !bytes.is_empty() || self.layers.owes() {
            self.wire.room = room;
            assert!(self.layers.flush(&mut self.wire).is_ok());
            match self.layers.write(&mut self.wire, &mut self.scratch, bytes) {
                Gave::Wrote(count) => bytes = &bytes[count..],
                Gave::WouldBlock => assert!(self.wire.room == 0),
                Gave::Failed => panic!("the wire never fails"),
            }
            assert!(self.layers.waiting.len() <= WAITING_MAX);
            heard.extend(self.heard());
        }
        self.wire.room = usize::MAX;
        heard
    }
}

/// A server and a client after their handshake.
fn open(version: &'static rustls::SupportedProtocolVersion) -> (Box<Tls>, ClientConnection) {
    let (server, client) = pair(&[version]);
    let mut client = ClientConnection::new(client, ServerName::try_from("localhost").expect("a name"))
        .expect("a good configuration");
    client.set_buffer_limit(None);
    let mut server = Tls::server(server).expect("a good configuration");
    let mut plain = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut there).expect("memory");
        }
        server.on_bytes(&mut there, &mut plain, &mut back).expect("a good client");
        let mut rest = back.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets().expect("a good server");
        }
    }
    (Box::new(server), client)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn bytes_arrive_through_every_combination_of_layers_in_any_pieces() {
    for (tls, ws, step) in combinations() {
        let mut both = Both::new(tls, ws, step);
        let bytes = pattern(if step == 1 { 3000 } else { 100_000 });
        both.send(&bytes);
        for buffer in [100_000, 64] {
            let (stream, end) = both.read_all(buffer);
            assert!(stream == if buffer == 64 { &bytes[..50] } else { &bytes[..] }, "{tls:?} {ws} {step} {buffer}");
            assert_eq!(end, Took::WouldBlock);
            both.send(&bytes[..50]);
        }
        both.read_all(1000);
        assert_eq!(both.layers.buffer_bytes(), 0, "nothing is kept");
    }
}

#[test]
fn a_short_buffer_loses_nothing() {
    for (tls, ws, _) in combinations().filter(|(.., step)| *step == 100_000) {
        let mut both = Both::new(tls, ws, 100_000);
        let bytes = pattern(50_000);
        both.send(&bytes);
        assert!(both.read_all(10).0 == bytes, "{tls:?} {ws}");
        assert_eq!(both.layers.buffer_bytes(), 0);
    }
}

#[test]
fn what_a_full_socket_does_not_take_waits_and_arrives_in_order() {
    for (tls, ws, step) in combinations().filter(|(.., step)| *step > 1) {
        for room in [1, 1500, 40_000] {
            if room == 1 && step == 7 {
                continue;
            }
            let mut both = Both::new(tls, ws, step);
            let bytes = pattern(if step == 7 { 5000 } else { room * 5 + 500 });
            assert!(both.write_all(&bytes, room) == bytes, "{tls:?} {ws} {step} {room}");
            assert_eq!(both.layers.buffer_bytes(), 0, "nothing is kept");
        }
    }
}

#[test]
fn one_large_write_to_a_websocket_is_one_frame() {
    let mut both = Both::new(None, true, 100_000);
    assert_eq!(both.layers.write(&mut both.wire, &mut both.scratch, &pattern(60_000)), Gave::Wrote(60_000));
    assert_eq!(both.wire.outbound.len(), 60_000 + 4);
}

#[test]
fn what_was_read_too_early_comes_first() {
    let mut framed = Vec::new();
    put_frame(&mut framed, OpCode::Binary, b"first", Some(KEY));
    let mut both = Both::new(None, true, 100_000);
    both.layers.unread = framed.split_off(3);
    both.layers.unread.splice(..0, framed);
    both.send(b"second");
    assert_eq!(both.read_all(4), (b"firstsecond".to_vec(), Took::WouldBlock));
    let mut both = Both::new(Some(true), false, 100_000);
    both.layers.unread = b"first".to_vec();
    both.send(b"second");
    assert_eq!(both.read_all(4), (b"firstsecond".to_vec(), Took::WouldBlock));
    assert_eq!(both.layers.buffer_bytes(), 0);
}

/// Layers that owe the client a record, which says `owed`.
fn owing() -> Both {
    let mut both = Both::new(Some(true), false, 100_000);
    let mut record = Vec::new();
    both.layers.tls.as_mut().expect("TLS").encrypt(b"owed ", &mut record).expect("an open connection");
    both.layers = both.layers.owing(record);
    both
}

#[test]
fn the_end_of_a_handshake_leaves_with_the_first_answer() {
    let mut both = owing();
    both.send(b"CONNECT");
    let mut buffer = [0; 100];
    let took = both.layers.read(&mut both.wire, &mut both.scratch, &mut buffer);
    assert!(matches!(took, Took::Bytes(7)), "{took:?}");
    assert_eq!(both.layers.write(&mut both.wire, &mut both.scratch, b"CONNACK"), Gave::Wrote(7));
    assert_eq!(both.wire.writes, 1);
    assert_eq!(both.heard(), b"owed CONNACK");
    assert_eq!(both.write_all(&pattern(100_000), 40_000), pattern(100_000));
    assert_eq!(both.layers.buffer_bytes(), 0);
}

#[test]
fn the_end_of_a_handshake_waits_for_nothing_that_has_not_come() {
    let mut both = owing();
    assert_eq!(both.read_all(100), (vec![], Took::WouldBlock));
    assert_eq!(both.heard(), b"owed ");
    // A long answer goes its usual way, behind it.
    let mut both = owing();
    both.send(b"CONNECT");
    assert!(matches!(both.layers.read(&mut both.wire, &mut both.scratch, &mut [0; 100]), Took::Bytes(7)));
    assert_eq!(both.write_all(&pattern(10_000), 5000), [b"owed ", pattern(10_000).as_slice()].concat());
}

#[test]
fn pings_are_answered_though_nobody_writes() {
    for tls in [None, Some(false), Some(true)] {
        let mut both = Both::new(tls, true, 100_000);
        let mut ping = Vec::new();
        put_frame(&mut ping, OpCode::Ping, b"there?", Some(KEY));
        both.send_raw(&ping);
        assert_eq!(both.read_all(100), (vec![], Took::WouldBlock));
        assert_eq!(both.heard(), b"");
        assert!(both.answers.is_empty(), "a pong asks for nothing");
        assert!(!both.layers.owes());
        if tls.is_none() {
            both.send_raw(&ping);
            both.read_all(100);
            assert_eq!(both.wire.outbound, b"\x8A\x06there?");
        }
    }
}

#[test]
fn who_asks_and_never_reads_the_answers_is_cut() {
    let mut both = Both::new(None, true, 100_000);
    both.wire.room = 0;
    let mut ping = Vec::new();
    put_frame(&mut ping, OpCode::Ping, &[0; 125], Some(KEY));
    for _ in 0..10_000 {
        both.send_raw(&ping);
        match both.read_all(100).1 {
            Took::WouldBlock => assert!(both.layers.waiting.len() <= WAITING_MAX),
            end => {
                assert_eq!(end, Took::Failed(LayerFault::Deaf));
                return;
            }
        }
    }
    panic!("never cut");
}

#[test]
fn what_comes_before_the_end_is_read_before_the_end_is_told() {
    for tls in [None, Some(false), Some(true)] {
        for (said, end) in
            [(Some(code::NORMAL), Took::Closed), (None, Took::Failed(LayerFault::WebSocket(ws::Fault::Text)))]
        {
            let mut both = Both::new(tls, true, 100_000);
            let mut bytes = Vec::new();
            put_frame(&mut bytes, OpCode::Binary, b"DISCONNECT", Some(KEY));
            match said {
                Some(code) => put_close(&mut bytes, code, "", Some(KEY)),
                None => put_frame(&mut bytes, OpCode::Text, b"text", Some(KEY)),
            }
            both.send_raw(&bytes);
            assert_eq!(both.read_all(100), (b"DISCONNECT".to_vec(), end.clone()));
            assert_eq!(both.layers.write(&mut both.wire, &mut both.scratch, b"late"), Gave::Wrote(4));
            assert_eq!(both.heard(), b"", "nothing follows a close frame");
            let answered = both.frames.as_ref().expect("frames").has_ended();
            assert!(answered, "the close is answered, or said");
            assert_eq!(both.read_all(100), (vec![], end));
        }
    }
}

#[test]
fn an_end_of_tls_or_of_the_socket_is_an_end() {
    for (tls, ws) in [(None, true), (Some(false), false), (Some(true), false), (Some(true), true)] {
        let mut both = Both::new(tls, ws, 100_000);
        both.send(b"last");
        match &mut both.client {
            Some(client) => {
                client.send_close_notify();
                client.write_tls(&mut both.wire.inbound).expect("memory");
            }
            None => both.wire.ended = true,
        }
        assert_eq!(both.read_all(100), (b"last".to_vec(), Took::Closed));
        let mut both = Both::new(tls, ws, 100_000);
        both.send(b"last");
        both.wire.ended = true;
        assert_eq!(both.read_all(100), (b"last".to_vec(), Took::Closed), "cut off without a word");
    }
}

#[test]
fn damaged_ciphertext_ends_the_connection_and_the_peer_is_told() {
    for newest in [false, true] {
        let mut both = Both::new(Some(newest), false, 100_000);
        both.send(b"hello");
        *both.wire.inbound.back_mut().expect("a record") ^= 1;
        let (_, end) = both.read_all(100);
        assert!(matches!(&end, Took::Failed(LayerFault::Tls(fault)) if **fault == TlsFault::BadRecord), "{end:?}");
        assert!(!both.wire.outbound.is_empty(), "an alert");
        assert_eq!(both.layers.write(&mut both.wire, &mut both.scratch, b"late"), Gave::Failed);
    }
}

#[test]
fn last_words_close_every_layer() {
    for (tls, ws) in [(None, true), (Some(false), false), (Some(true), true)] {
        let mut both = Both::new(tls, ws, 100_000);
        both.wire.room = 10;
        assert_eq!(both.layers.write(&mut both.wire, &mut both.scratch, b"DISCONNECT"), Gave::Wrote(10));
        let words = both.layers.last_words(&mut both.scratch);
        both.wire.outbound.extend(words);
        assert_eq!(both.heard(), b"DISCONNECT");
        assert!(both.frames.as_ref().is_none_or(Decoder::has_ended));
        if let Some(client) = &mut both.client {
            assert!(client.process_new_packets().expect("in order").peer_has_closed());
        }
    }
}

#[test]
fn a_websocket_costs_few_bytes() {
    assert!(size_of::<Layers>() <= 136, "{}", size_of::<Layers>());
}
