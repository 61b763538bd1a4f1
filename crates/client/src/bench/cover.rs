//! What lies between MQTT and a socket: TLS, WebSocket, or both.
//!
//! Bare rustls with its own buffers, on purpose: the relay that uses it too is the ceiling of what TLS allows. MQTT may be
//! given before the handshakes are done, and leaves when it can; so a connection needs no steps of its own for them.

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use breakwater_transport::upgrade;
use breakwater_transport::ws::{Decoder, OpCode, Role, put_frame};
use clap::ValueEnum;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, NamedGroup, RootCertStore, ServerConfig,
    ServerConnection,
};

use super::Fault;
use super::wire;

/// What MQTT is carried by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Over {
    #[default]
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// How connections of a run are covered; makes one [`Cover`] after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Covers {
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Host and path of the upgrade request.
    websocket: Option<(String, String)>,
}

impl Covers {
    /// `authority` is the file of whoever signed the broker's certificate; TLS needs it. With `resume` connections
    /// take up the TLS sessions of earlier ones.
    pub(super) fn new(
        over: Over,
        (host, port, path): (&str, u16, &str),
        authority: Option<&Path>,
        resume: bool,
    ) -> Result<Self, Fault> {
        let tls = match over {
            Over::Tls | Over::Wss => {
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|_| Fault::new(format!("{host:?} is no name that a certificate could hold")))?;
                let authority =
                    authority.ok_or_else(|| Fault::new("TLS needs --cafile: who signed the certificate"))?;
                let alpn: &[u8] = if over == Over::Wss { b"http/1.1" } else { b"mqtt" };
                Some((Arc::new(client(authority, alpn, resume)?), name))
            }
            Over::Tcp | Over::Ws => None,
        };
        let websocket = matches!(over, Over::Ws | Over::Wss).then(|| (format!("{host}:{port}"), path.to_owned()));
        Ok(Self { tls, websocket })
    }

    /// None for MQTT on the bare socket.
    pub(super) fn make(&self) -> Result<Option<Cover>, Fault> {
        let tls = match &self.tls {
            Some((config, name)) => {
                let connection = ClientConnection::new(Arc::clone(config), name.clone())
                    .map_err(|error| Fault::new(format!("TLS can't be used like this: {error}")))?;
                Some(unbounded(Connection::Client(connection)))
            }
            None => None,
        };
        let frames = self.websocket.as_ref().map(|(host, path)| Frames::ask(host, path));
        Ok((tls.is_some() || frames.is_some()).then_some(Cover { tls, frames }))
    }
}

/// One suite and one group, so that every broker does the same work.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    Arc::new(provider)
}

fn client(authority: &Path, alpn: &[u8], resume: bool) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(|error| unusable(authority, &error))?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(authority, &error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = if resume { Resumption::store(Arc::new(Tickets::default())) } else { Resumption::disabled() };
    Ok(config)
}

/// The server's side, for the relay.
pub(super) fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Fault> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| unusable(certificate, &error))?;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| unusable(certificate, &error))?;
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new(format!("{}: {error}", path.display()))
}

/// Covers a connection that the relay has taken.
pub(super) fn accept(config: &Arc<ServerConfig>) -> io::Result<Cover> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    Ok(Cover { tls: Some(unbounded(Connection::Server(connection))), frames: None })
}

/// The generator bounds what is under way itself.
fn unbounded(mut connection: Connection) -> Box<Connection> {
    connection.set_buffer_limit(None);
    Box::new(connection)
}

/// Tickets of all connections of a run, each used once: more than one per server, which is what rustls' own store is made for.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

/// Tickets kept at most.
const TICKETS_MAX: usize = 20_000;

impl ClientSessionStore for Tickets {
    // There is one group.
    fn set_kx_hint(&self, _server: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() < TICKETS_MAX {
            tickets.push(value);
        }
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// One connection's cover.
#[derive(Debug)]
pub(super) struct Cover {
    tls: Option<Box<Connection>>,
    frames: Option<Frames>,
}

impl Cover {
    /// Takes what MQTT says. Without TLS it is appended to `out` as it goes to the socket; with TLS, [`Cover::push`] sends it.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match (&mut self.frames, &mut self.tls) {
            (Some(frames), Some(tls)) => {
                let mut sealed = Vec::new();
                frames.seal(plain, &mut sealed);
                tls.writer().write_all(&sealed)
            }
            (Some(frames), None) => {
                frames.seal(plain, out);
                Ok(())
            }
            (None, Some(tls)) => tls.writer().write_all(plain),
            (None, None) => unreachable!("a cover that covers nothing is never made"),
        }
    }

    /// Takes what came from the socket and writes what MQTT reads to the front of `plain`; gives its length. What has to be
    /// answered goes the way of [`Cover::seal`].
    pub(super) fn open(&mut self, wire: &mut [u8], plain: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let filled = match &mut self.tls {
            Some(tls) => decrypt(tls, wire, plain)?,
            None => {
                plain[..wire.len()].copy_from_slice(wire);
                wire.len()
            }
        };
        let Some(frames) = &mut self.frames else { return Ok(filled) };
        let mut answers = Vec::new();
        let payload = frames.open(&mut plain[..filled], &mut answers)?;
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(&answers)?,
            None => out.extend_from_slice(&answers),
        }
        Ok(payload)
    }

    /// With TLS: sends what is sealed, as far as the socket takes it.
    pub(super) fn push(&mut self, socket: &mut impl Write) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// With TLS: something is sealed that the socket has not taken.
    pub(super) fn is_behind(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// The server took an earlier session up again.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }
}

fn decrypt(tls: &mut Connection, mut wire: &[u8], plain: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while !wire.is_empty() {
        tls.read_tls(&mut wire)?;
        // An alert says more than the error that it answers, but only to the peer: what is told here is the error.
        tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        loop {
            match tls.reader().read(&mut plain[filled..]) {
                Ok(0) => break, // goodbye, or no room: callers leave enough
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(filled)
}

/// WebSocket, a client's side: every packet in a frame of its own, as clients send them.
#[derive(Debug)]
struct Frames {
    decoder: Decoder,
    /// Until the server has agreed.
    asking: Option<Asking>,
    key: u32,
}

#[derive(Debug)]
struct Asking {
    random: [u8; 16],
    request: Vec<u8>,
    answer: Vec<u8>,
    /// What MQTT has said meanwhile.
    waiting: Vec<u8>,
}

const SUBPROTOCOL: &str = "mqtt";

impl Frames {
    fn ask(host: &str, path: &str) -> Self {
        // Load on the own machine needs no unpredictable numbers.
        let random = *b"breakwater bench";
        let mut request = Vec::new();
        upgrade::put_request(&mut request, host, path, SUBPROTOCOL, random);
        let asking = Asking { random, request, answer: Vec::new(), waiting: Vec::new() };
        Self { decoder: Decoder::new(Role::Client, u32::MAX, u32::MAX), asking: Some(asking), key: 0x9e37_79b9 }
    }

    fn next_key(&mut self) -> [u8; 4] {
        self.key ^= self.key << 13;
        self.key ^= self.key >> 17;
        self.key ^= self.key << 5;
        self.key.to_le_bytes()
    }

    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if let Some(asking) = &mut self.asking {
            out.append(&mut asking.request);
            asking.waiting.extend_from_slice(plain);
            return;
        }
        let mut at = 0;
        while at < plain.len() {
            let len = match wire::first_packet(&plain[at..]) {
                Ok(Some((_, _, len))) => len,
                // Not a whole packet: whatever it is goes as it is.
                Ok(None) | Err(_) => plain.len() - at,
            };
            let key = self.next_key();
            put_frame(out, OpCode::Binary, &plain[at..at + len], Some(key));
            at += len;
        }
    }

    fn open(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let Some(asking) = &mut self.asking else { return self.unframe(bytes, out) };
        asking.answer.extend_from_slice(bytes);
        let agreed = upgrade::check_answer(&asking.answer, SUBPROTOCOL, asking.random)
            .map_err(|fault| io::Error::new(ErrorKind::InvalidData, fault.to_string()))?;
        let Some(agreed) = agreed else { return Ok(0) };
        let Some(mut asking) = self.asking.take() else { return Ok(0) };
        self.seal(&asking.waiting, out);
        // Nothing of MQTT can have come: it has heard nothing yet.
        let mut early = asking.answer.split_off(agreed.used);
        let payload = self.unframe(&mut early, out)?;
        bytes[..payload].copy_from_slice(&early[..payload]);
        Ok(payload)
    }

    fn unframe(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let key = self.next_key();
        let decoded = self.decoder.decode(bytes, key, out);
        match decoded.end {
            Some(end) if decoded.payload == 0 => {
                Err(io::Error::new(ErrorKind::ConnectionAborted, format!("WebSocket ended: {end:?}")))
            }
            _ => Ok(decoded.payload),
        }
    }
}
