//! One at the gate: what stands in front of MQTT is taken away, layer by layer.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use breakwater_contract::Identity;
use breakwater_proto::Instant;
use breakwater_shard::Peer;
use breakwater_transport::layers::Layers;
use breakwater_transport::proxy::{self, Origin};
use breakwater_transport::sniff::{self, Sniffed, sniff};
use breakwater_transport::tls::{ACME_PROTOCOL, Challenges, Tls, TlsFault};
use breakwater_transport::upgrade::{self, Request, Rules};
use breakwater_transport::ws::{Decoder, Role};
use mio::net::TcpStream;

use super::words::{NOT_HTTP, NOT_PLAIN_HTTP, speaks_tls, wrong_inside, wrong_protocol};
use crate::extra::{Extra, Via};
use crate::listener::Protocols;
use crate::pool::{self, Shook};
use crate::refusal::Refusal;
use crate::roll::{Pass, Terms};

/// A connection at the gate.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) peer: Peer,
    pub(super) pass: Pass,
    pub(super) terms: Arc<Terms>,
    pub(super) deadline: Instant,
    /// It stands in the list of those to look at.
    pub(super) called: bool,
    /// Its peer has ended its side: what is missing will not come.
    pub(super) read_closed: bool,
    /// Where it stands among those who wait for a thread that shakes hands.
    pub(super) line: Line,
    /// The end of its handshake was computed here since it was last looked at.
    pub(super) computed: bool,
    stage: Stage,
    /// Read and not understood yet: an HTTP head, or the first bytes in TLS.
    plain: Vec<u8>,
    /// For the peer; its socket was full.
    unsent: Vec<u8>,
    identity: Option<Box<Identity>>,
}

/// A place among those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Not among them.
    None,
    /// Waits.
    Waits,
    /// It is its turn.
    Turn,
}

/// What comes next on the wire.
enum Stage {
    /// A PROXY header.
    Proxy,
    /// Anything that the listener speaks.
    First,
    /// More of a TLS handshake.
    Handshake(Box<Tls>),
    /// Nothing: the handshake is computed elsewhere.
    Away,
    /// Anything that the listener speaks in TLS.
    Inside(Box<Tls>),
    /// The head of an HTTP request, in TLS or not.
    Head(Option<Box<Tls>>),
}

/// What becomes of a guest.
pub(super) enum Step {
    /// Look again at once.
    Again,
    /// Its next edge tells.
    Wait,
    /// It waits for a thread that shakes hands.
    Queue,
    /// A step of its handshake is to be computed.
    Shake { tls: Box<Tls>, bytes: Vec<u8> },
    /// It may come in.
    Admit(Option<Box<Extra>>),
    /// It speaks HTTP, and somebody may want that.
    Http { layers: Box<Layers>, encrypted: bool },
    /// It was an ACME server that has seen what it wanted to see: these bytes are the end.
    Proved(Vec<u8>),
    /// It is turned away, with these bytes as last words.
    Refuse { refusal: Refusal, detail: Cow<'static, str>, words: Vec<u8> },
}

impl Step {
    pub(super) fn refuse(refusal: Refusal, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refuse { refusal, detail: detail.into(), words: Vec::new() }
    }
}

/// Bytes that wait for a full socket, at most: a certificate chain and tickets, or an answer.
const UNSENT_MAX: usize = 128 * 1024;

/// Whether a peer may stand at the gate of a listener at all.
pub(super) fn may_stand(terms: &Terms, peer: Peer) -> Result<(), String> {
    let Some(proxy) = &terms.options.proxy else { return Ok(()) };
    let address = peer.address.ip().to_canonical();
    // Permissions decide who may open a unix socket.
    #[cfg(unix)]
    let by_file = peer.address == crate::unix::PEER;
    #[cfg(not(unix))]
    let by_file = false;
    if by_file || proxy.trusted.iter().any(|network| network.contains(&address)) {
        return Ok(());
    }
    Err(format!("{address} is not one of the trusted_proxies"))
}

impl Guest {
    pub(super) fn new(stream: TcpStream, peer: Peer, pass: Pass, terms: Arc<Terms>, deadline: Instant) -> Self {
        let stage = if terms.is_proxied() { Stage::Proxy } else { Stage::First };
        Self {
            stream,
            peer,
            pass,
            terms,
            deadline,
            called: false,
            read_closed: false,
            line: Line::None,
            computed: false,
            stage,
            plain: Vec::new(),
            unsent: Vec::new(),
            identity: None,
        }
    }

    /// What is missing, in words.
    pub(super) fn waits_for(&self) -> &'static str {
        match &self.stage {
            Stage::Proxy => "no PROXY header came",
            Stage::First => "nothing came",
            Stage::Handshake(_) if self.line == Line::Waits => "it waited for its TLS handshake to be computed",
            Stage::Handshake(_) | Stage::Away => "in the middle of the TLS handshake",
            Stage::Inside(_) => "nothing came after the TLS handshake",
            Stage::Head(_) => "the HTTP request was not whole",
        }
    }

    /// Goes one step on. `room`: a handshake may be handed to the pool.
    pub(super) fn step(&mut self, buffer: &mut [u8], room: bool, challenges: &Challenges) -> Step {
        if let Err(left) = self.flush() {
            return left;
        }
        match std::mem::replace(&mut self.stage, Stage::Away) {
            Stage::Proxy => self.on_proxy(buffer),
            Stage::First => self.on_first(challenges),
            Stage::Handshake(tls) => self.on_handshake(tls, buffer, room),
            Stage::Away => Step::Wait,
            Stage::Inside(tls) => self.on_inside(tls, buffer),
            Stage::Head(tls) => self.on_head(tls, buffer),
        }
    }

    /// Takes a step of its handshake that was made.
    pub(super) fn shaken(&mut self, done: Shook) -> Step {
        let shaken = match done.outcome {
            Ok(shaken) => shaken,
            Err(fault) => {
                let refusal = match fault {
                    TlsFault::PlainMqtt | TlsFault::PlainHttp | TlsFault::NotTls(_) => Refusal::Protocol,
                    TlsFault::ProxyHeader => Refusal::Proxy,
                    _ => Refusal::Tls,
                };
                return Step::Refuse { refusal, detail: fault.to_string().into(), words: done.reply };
            }
        };
        self.unsent.extend_from_slice(&done.reply);
        self.plain.extend_from_slice(&done.plain);
        self.identity = shaken.identity;
        self.stage = if shaken.progress.handshaken {
            Stage::Inside(done.tls)
        } else if shaken.progress.closed {
            return Step::refuse(Refusal::Left, "in the middle of the TLS handshake");
        } else {
            Stage::Handshake(done.tls)
        };
        Step::Again
    }

    fn on_proxy(&mut self, buffer: &mut [u8]) -> Step {
        let count = match self.peek(&mut buffer[..proxy::HEADER_MAX]) {
            Ok(count) => count,
            Err(step) => return self.stay(Stage::Proxy, step),
        };
        let proxied = match proxy::parse(&buffer[..count]) {
            Ok(Some(proxied)) => proxied,
            Ok(None) if self.read_closed => return Step::refuse(Refusal::Left, "with half a PROXY header"),
            Ok(None) => return self.stay(Stage::Proxy, Step::Wait),
            Err(fault) => return Step::refuse(Refusal::Proxy, fault.text()),
        };
        // They were there a moment ago.
        if self.stream.read_exact(&mut buffer[..proxied.used]).is_err() {
            return Step::refuse(Refusal::Left, "");
        }
        self.peer.direct = false;
        if let Origin::Client { source, .. } = proxied.origin {
            self.peer.address = source;
        }
        if let Err(refusal) = self.pass.claim(&self.terms, self.peer.address.ip()) {
            return Step::refuse(refusal, "");
        }
        self.stage = Stage::First;
        Step::Again
    }

    fn on_first(&mut self, challenges: &Challenges) -> Step {
        let protocols = self.terms.options.protocols;
        // Nothing else to tell it from.
        if protocols == Protocols::MQTT {
            return Step::Admit(None);
        }
        let mut first = [0; sniff::ENOUGH];
        let count = match self.peek(&mut first) {
            Ok(count) => count,
            Err(step) => return self.stay(Stage::First, step),
        };
        let what = sniff(&first[..count]);
        match what {
            Sniffed::More if self.read_closed => return Step::refuse(Refusal::Left, "with its first bytes"),
            Sniffed::More => return self.stay(Stage::First, Step::Wait),
            Sniffed::Mqtt if protocols.mqtt => return Step::Admit(None),
            Sniffed::Tls if speaks_tls(protocols) => return self.begin_tls(challenges),
            Sniffed::Http if protocols.ws || protocols.http => self.stage = Stage::Head(None),
            _ => {
                let words = match what {
                    Sniffed::Http if speaks_tls(protocols) => NOT_PLAIN_HTTP,
                    Sniffed::Http => NOT_HTTP,
                    _ => b"",
                };
                let detail = wrong_protocol(what, protocols).into();
                return Step::Refuse { refusal: Refusal::Protocol, detail, words: words.to_vec() };
            }
        }
        Step::Again
    }

    fn begin_tls(&mut self, challenges: &Challenges) -> Step {
        let Some(tls) = &self.terms.tls else {
            return Step::refuse(Refusal::Tls, "the listener has no certificate: set tls.certificate and tls.key");
        };
        match Tls::server(Arc::clone(&tls.config)) {
            Ok(tls) => self.stage = Stage::Handshake(Box::new(tls.answering(challenges.clone()))),
            Err(fault) => return Step::refuse(Refusal::Tls, fault.to_string()),
        }
        Step::Again
    }

    fn on_handshake(&mut self, tls: Box<Tls>, buffer: &mut [u8], room: bool) -> Step {
        let asks = self.terms.tls.as_ref().is_some_and(|tls| tls.client_check().is_some());
        // A way to another thread and back would cost more than it saves.
        let here = tls.awaits_last_word() && !asks;
        if !here && !room {
            return self.stay(Stage::Handshake(tls), Step::Queue);
        }
        match self.read(buffer) {
            Ok(0) => Step::refuse(Refusal::Left, "in the middle of the TLS handshake"),
            Ok(count) if here => {
                self.computed = true;
                self.shaken(pool::shake(tls, &mut buffer[..count], &self.terms))
            }
            Ok(count) => Step::Shake { tls, bytes: buffer[..count].to_vec() },
            Err(step) => {
                self.line = Line::None;
                self.stay(Stage::Handshake(tls), step)
            }
        }
    }

    fn on_inside(&mut self, mut tls: Box<Tls>, buffer: &mut [u8]) -> Step {
        let protocols = self.terms.options.protocols;
        let web = protocols.wss || protocols.https;
        if tls.alpn() == Some(ACME_PROTOCOL.as_bytes()) {
            tls.close_notify(&mut self.unsent);
            return Step::Proved(std::mem::take(&mut self.unsent));
        }
        let what = match tls.alpn() {
            Some(b"mqtt" | b"x-amzn-mqtt-ca") => Sniffed::Mqtt,
            Some(b"http/1.1") => Sniffed::Http,
            _ if !web => Sniffed::Mqtt,
            _ => sniff(&self.plain),
        };
        match what {
            Sniffed::More => match self.read_inside(&mut tls, buffer) {
                Ok(()) => self.stay(Stage::Inside(tls), Step::Again),
                Err(step) => self.stay(Stage::Inside(tls), step),
            },
            Sniffed::Mqtt if protocols.mqtts => self.admit(Some(tls), None, 0),
            Sniffed::Http if web => self.stay(Stage::Head(Some(tls)), Step::Again),
            _ => {
                let words = if what == Sniffed::Http { NOT_HTTP } else { b"" };
                self.turn_away(Some(tls), Refusal::Protocol, wrong_inside(what), words)
            }
        }
    }

    fn on_head(&mut self, mut tls: Option<Box<Tls>>, buffer: &mut [u8]) -> Step {
        let protocols = self.terms.options.protocols;
        let (socket, http) = match tls {
            Some(_) => (protocols.wss, protocols.https),
            None => (protocols.ws, protocols.http),
        };
        let (terms, peer) = (Arc::clone(&self.terms), self.peer.address.ip().to_canonical());
        let options = &terms.options.websocket;
        let trusted = |address| options.trusted_forwarders.iter().any(|network| network.contains(&address));
        let rules = Rules {
            path: &options.path,
            origins: &options.origins,
            allow_no_subprotocol: options.allow_no_subprotocol,
            trusted: &trusted,
        };
        let request = if socket { upgrade::read(&self.plain, peer, &rules) } else { Request::Elsewhere };
        match request {
            Request::More => {
                let more = match &mut tls {
                    Some(tls) => self.read_inside(tls, buffer),
                    None => self.read_head(buffer),
                };
                self.stay(Stage::Head(tls), more.err().unwrap_or(Step::Again))
            }
            Request::Accepted(accepted) => {
                if let Some(address) = accepted.forwarded {
                    self.peer.address = SocketAddr::new(address, 0);
                    if let Err(refusal) = self.pass.claim(&self.terms, address) {
                        return self.turn_away(tls, refusal, "", b"");
                    }
                }
                self.peer.direct &= accepted.direct;
                if let Err(fault) = self.say(tls.as_deref_mut(), &accepted.answer) {
                    return Step::refuse(Refusal::Tls, fault.to_string());
                }
                // A message in fragments is no way around the bound, and a packet as large as any may come in fragments.
                let frame = options.frame_bytes_max;
                let message = frame.max(self.terms.options.profile.limits.packet_bytes_max);
                self.admit(tls, Some(Decoder::new(Role::Server, frame, message)), accepted.used)
            }
            Request::Elsewhere if http => {
                let encrypted = tls.is_some();
                Step::Http { layers: Box::new(self.layers(tls, None, 0)), encrypted }
            }
            Request::Elsewhere => self.turn_away_http(tls, upgrade::Refusal::WrongPath),
            Request::Refused(refusal) => self.turn_away_http(tls, refusal),
        }
    }

    fn admit(&mut self, tls: Option<Box<Tls>>, ws: Option<Decoder>, used: usize) -> Step {
        let layers = self.layers(tls, ws, used);
        Step::Admit(Some(Box::new(Extra { identity: self.identity.take(), via: Via::Layers(layers) })))
    }

    /// The layers with what was read too early, but for `used` bytes, and what is still to be sent.
    fn layers(&mut self, tls: Option<Box<Tls>>, ws: Option<Decoder>, used: usize) -> Layers {
        let unread = self.plain[used..].to_vec();
        if ws.is_some() {
            // The answer to its request is what the client waits for. A socket that is broken shows it to whoever reads next.
            let _ = self.flush();
        }
        Layers::new(tls, ws, unread).owing(std::mem::take(&mut self.unsent))
    }

    fn turn_away_http(&mut self, tls: Option<Box<Tls>>, refusal: upgrade::Refusal) -> Step {
        let answer = refusal.answer(&self.terms.options.websocket.path);
        self.turn_away(tls, Refusal::WebSocket, refusal.text(), &answer)
    }

    /// Refuses with an answer, in TLS or not.
    fn turn_away(&mut self, mut tls: Option<Box<Tls>>, refusal: Refusal, detail: &'static str, answer: &[u8]) -> Step {
        // If it can't be told, it is closed without a word.
        let _ = self.say(tls.as_deref_mut(), answer);
        if let Some(tls) = &mut tls {
            tls.close_notify(&mut self.unsent);
        }
        Step::Refuse { refusal, detail: detail.into(), words: std::mem::take(&mut self.unsent) }
    }

    fn say(&mut self, tls: Option<&mut Tls>, bytes: &[u8]) -> Result<(), TlsFault> {
        match tls {
            Some(tls) => tls.encrypt(bytes, &mut self.unsent),
            None => {
                self.unsent.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn stay(&mut self, stage: Stage, step: Step) -> Step {
        self.stage = stage;
        step
    }

    /// Sends what waits, as far as the socket takes it.
    fn flush(&mut self) -> Result<(), Step> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => break,
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Step::refuse(Refusal::Left, self.waits_for())),
            }
        }
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        if self.unsent.len() > UNSENT_MAX {
            return Err(Step::refuse(Refusal::Tls, "it doesn't read what the handshake sends"));
        }
        Ok(())
    }

    /// Looks at what stands in the socket, and leaves it there: so it needs no place here, and a connection that turns out to
    /// be plain has nothing to carry along.
    fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, Step> {
        let stream = &self.stream;
        match retry(|| stream.peek(buffer))? {
            0 => Err(Step::refuse(Refusal::Left, self.waits_for_first())),
            count => Ok(count),
        }
    }

    fn waits_for_first(&self) -> &'static str {
        if self.terms.is_proxied() && self.peer.direct { "before its PROXY header" } else { "before its first byte" }
    }

    /// Reads from the socket; 0 is its end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Step> {
        let stream = &mut self.stream;
        retry(|| stream.read(buffer))
    }

    /// Reads more of a head that comes in plain text. The caller has made sure that it is below its bound.
    fn read_head(&mut self, buffer: &mut [u8]) -> Result<(), Step> {
        let room = buffer.len().min(upgrade::HEAD_MAX);
        match self.read(&mut buffer[..room])? {
            0 => Err(Step::refuse(Refusal::Left, "with half an HTTP request")),
            count => {
                self.plain.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Reads more of what comes in TLS, inline: the handshake is done.
    fn read_inside(&mut self, tls: &mut Tls, buffer: &mut [u8]) -> Result<(), Step> {
        let count = self.read(buffer)?;
        if count == 0 {
            return Err(Step::refuse(Refusal::Left, "after the TLS handshake"));
        }
        let before = self.plain.len();
        match tls.on_bytes(&mut buffer[..count], &mut self.plain, &mut self.unsent) {
            Ok(progress) if progress.closed && self.plain.len() == before => {
                Err(Step::refuse(Refusal::Left, "after the TLS handshake"))
            }
            Ok(_) => Ok(()),
            Err(fault) => Err(Step::Refuse {
                refusal: Refusal::Tls,
                detail: fault.to_string().into(),
                words: std::mem::take(&mut self.unsent),
            }),
        }
    }
}

/// One call to a socket that may be interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> Result<usize, Step> {
    loop {
        match call() {
            Ok(count) => return Ok(count),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Err(Step::Wait),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Step::refuse(Refusal::Left, "")),
        }
    }
}
