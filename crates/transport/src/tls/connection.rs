//! TLS of one connection: ciphertext in, plaintext out, and the other way round.
//!
//! Built on rustls' unbuffered connection, so that an idle connection keeps no buffer at all: what comes is decrypted
//! where it stands in the caller's buffer. Kept are only a record that has not come whole, and plaintext that the caller
//! had no room for.

use std::mem;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::tls::challenge::{ACME_PROTOCOL, Challenges};
use crate::tls::fault::TlsFault;
use crate::tls::hello::Hello;

/// TLS of one connection, the server's side. `Send`: its handshake may run on another thread than its traffic.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// What is not processed yet: at most the parts of one handshake message and a record that has not come whole, unless
    /// the caller had no room for plaintext.
    held: Vec<u8>,
    /// So many bytes at the front of `held` are records that rustls has seen and needs again: parts of a handshake message.
    joined: usize,
    /// Plaintext of one record that the caller had no room for, and how much of it is gone.
    left: Vec<u8>,
    left_at: usize,
    hello: Option<Box<Hello>>,
    /// Until the hello has been read.
    challenges: Option<Challenges>,
    stage: Stage,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come.
    Fresh,
    /// Under way, or open.
    Live,
    /// The peer will send no more.
    PeerClosed,
    /// We have said goodbye, or it has failed.
    Ended,
}

/// What a call of [`Tls::on_bytes`] has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of plaintext put into the sink.
    pub plain: usize,
    /// The handshake is complete.
    pub handshaken: bool,
    /// The peer has ended its side properly: no more plaintext follows.
    pub closed: bool,
    /// The sink was full before the input was at its end: call again, if need be with no new bytes.
    pub more: bool,
}

/// Where plaintext goes.
pub trait Plain {
    /// Takes as many bytes as there is room for, and says how many.
    fn put(&mut self, bytes: &[u8]) -> usize;
}

impl Plain for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        self.extend_from_slice(bytes);
        bytes.len()
    }
}

/// A slice as a sink for plaintext.
pub struct Window<'a> {
    bytes: &'a mut [u8],
    /// Bytes written to its front.
    pub len: usize,
}

impl<'a> Window<'a> {
    /// An empty one over `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }
}

impl Plain for Window<'_> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&bytes[..count]);
        self.len += count;
        count
    }
}

/// Header of a record.
const HEADER: usize = 5;
/// Longest record that may come: RFC 5246 allows 2 KiB above the 16 KiB of plaintext.
const RECORD_MAX: usize = HEADER + 16_384 + 2048;
/// What may be held for one handshake message before the handshake is done: rustls refuses messages above 64 KiB.
const HANDSHAKE_HELD_MAX: usize = 0x1_0000 + 2 * RECORD_MAX;
/// The same afterwards, where only a key update or a refused renegotiation may come.
const TRAFFIC_HELD_MAX: usize = 2 * RECORD_MAX;
/// Plaintext of one record.
const PLAIN_MAX: usize = 16_384;
/// Most that encryption adds to one record, rounded up: header, explicit nonce, type, tag.
const RECORD_COST: usize = 32;

impl Tls {
    /// The server's side of a connection that begins.
    ///
    /// # Errors
    /// If `config` can't be used at all.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsFault> {
        let connection = UnbufferedServerConnection::new(config).map_err(|error| TlsFault::of(&error, None))?;
        Ok(Self {
            connection,
            held: Vec::new(),
            joined: 0,
            left: Vec::new(),
            left_at: 0,
            hello: None,
            challenges: None,
            stage: Stage::Fresh,
        })
    }

    /// Answers a hello that asks for the proof of a name with that proof, if it is under way. The handshake then ends with the
    /// protocol [`ACME_PROTOCOL`] agreed on, and there is nothing more to be said on that connection.
    #[must_use]
    pub fn answering(mut self, challenges: Challenges) -> Self {
        self.challenges = Some(challenges);
        self
    }

    /// Takes what came from the peer; `cipher` is decrypted in place and worthless afterwards. Plaintext goes to `plain`,
    /// what has to be sent back at once (handshake, tickets, alerts) is appended to `reply`, also with an error.
    ///
    /// All of `cipher` is taken. If `plain` has room for [`Tls::held`] and `cipher` together, nothing is kept but a record
    /// that has not come whole.
    ///
    /// # Errors
    /// TLS has failed: send `reply` and close.
    pub fn on_bytes<P: Plain>(
        &mut self,
        cipher: &mut [u8],
        plain: &mut P,
        reply: &mut Vec<u8>,
    ) -> Result<Progress, TlsFault> {
        if self.stage == Stage::Ended {
            return Err(TlsFault::Ended);
        }
        if self.stage == Stage::Fresh && !cipher.is_empty() {
            self.stage = Stage::Live;
            if let Some(fault) = TlsFault::of_first_bytes(cipher) {
                return Err(self.fail(fault, reply));
            }
        }
        let mut out = Out { plain, put: 0, reply };
        self.give_left(&mut out);
        let taken = self.take_held(cipher, &mut out).and_then(|used| self.take_in_place(&mut cipher[used..], &mut out));
        let put = out.put;
        if let Err(error) = taken {
            return Err(self.fail(error, reply));
        }
        if self.stage == Stage::PeerClosed {
            self.drop_held();
        }
        Ok(Progress {
            plain: put,
            handshaken: !self.is_handshaking(),
            closed: self.stage == Stage::PeerClosed && self.left.is_empty(),
            more: !self.left.is_empty() || whole_record(&self.held[self.joined..]),
        })
    }

    /// Encrypts `plain` to the end of `out`, in records of at most 16 KiB.
    ///
    /// # Errors
    /// The handshake is not done, the connection has ended, or its keys are used up.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsFault> {
        if plain.is_empty() {
            return Ok(());
        }
        if self.stage == Stage::Ended {
            return Err(TlsFault::Ended);
        }
        loop {
            let status = self.connection.process_tls_records(&mut self.held[..self.joined]);
            debug_assert_eq!(status.discard, 0, "everything was processed when it came");
            match status.state {
                Ok(ConnectionState::WriteTraffic(traffic)) => return encrypt_into(traffic, plain, out),
                Ok(ConnectionState::EncodeTlsData(chunk)) => append(chunk, out),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.stage = Stage::PeerClosed,
                Ok(other) => return Err(TlsFault::Ours(format!("can't encrypt in state {other:?}").into())),
                Err(error) => return Err(TlsFault::of(&error, None)),
            }
        }
    }

    /// Upper bound for what [`Tls::encrypt`] appends for so many bytes, key updates and tickets not counted.
    #[must_use]
    pub fn cipher_len(plain: usize) -> usize {
        plain + plain.div_ceil(PLAIN_MAX) * RECORD_COST
    }

    /// Says goodbye: appends the `close_notify` alert to `out`. Nothing is read or encrypted afterwards.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        while self.stage != Stage::Ended {
            match self.connection.process_tls_records(&mut self.held[..self.joined]).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    // Too small on purpose: the alert is queued, and leaves with whatever else waits.
                    let _ = traffic.queue_close_notify(&mut []);
                    self.end(out);
                }
                Ok(ConnectionState::EncodeTlsData(chunk)) => append(chunk, out),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => {}
                // In the middle of a handshake there is nothing that could be closed.
                _ => self.end(out),
            }
        }
    }

    /// The handshake is under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What is left of the handshake is the client's last word, which costs little to check: its keys are agreed on, and we have
    /// signed. (Not so in TLS 1.2, nor after a request for another key share. A certificate of the client may still follow.)
    #[must_use]
    pub fn awaits_last_word(&self) -> bool {
        self.is_handshaking()
            && self.state().protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && matches!(self.state().handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::Resumed))
    }

    /// Bytes of ciphertext and plaintext that are kept here. Room for as many more than is read from the socket makes sure
    /// that all plaintext fits.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() + self.left.len() - self.left_at
    }

    /// Plaintext or whole records wait here: call [`Tls::on_bytes`] again, even with no new bytes.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.left.is_empty() || whole_record(&self.held[self.joined..])
    }

    /// Memory that this connection has for buffers, beyond the value itself.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.held.capacity() + self.left.capacity()
    }

    /// The protocol agreed on by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// The host name that the client asked for, in lower case.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.hello.as_deref().and_then(|hello| hello.server_name.as_deref())
    }

    /// The chain that the client has shown and that was verified, leaf first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.state().peer_certificates()
    }

    /// The version spoken, such as `TLS 1.3`.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        match self.state().protocol_version()? {
            ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
            ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
            _ => None,
        }
    }

    /// The cipher suite's name at the IANA.
    #[must_use]
    pub fn cipher(&self) -> Option<&'static str> {
        let suite = self.state().negotiated_cipher_suite()?.suite();
        crate::tls::suites::name_of(suite)
    }

    /// The handshake was an abbreviated one, by ticket or session identifier.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn state(&self) -> &CommonState {
        &self.connection
    }

    /// Completes records that an earlier call has left incomplete. Answers how much of `cipher` that took.
    fn take_held<P: Plain>(&mut self, cipher: &[u8], out: &mut Out<'_, P>) -> Result<usize, TlsFault> {
        let mut used = 0;
        // Start of what still counts in `held`: records are taken off its front one by one, and moved down once.
        let mut at = 0;
        let mut outcome = Ok(());
        while self.held.len() > at {
            if !self.wants_input() {
                // No room for plaintext: the rest has to wait here, or is of no use to anybody.
                self.held.extend_from_slice(&cipher[used..]);
                used = cipher.len();
                break;
            }
            let start = at + self.joined;
            let missing = missing(&self.held[start..]);
            if missing > 0 {
                let count = missing.min(cipher.len() - used);
                self.held.extend_from_slice(&cipher[used..used + count]);
                used += count;
                if count < missing {
                    break;
                }
                continue;
            }
            let end = start + record_len(&self.held[start..]);
            let mut held = mem::take(&mut self.held);
            let done = self.take_record(&mut held[at..end], out);
            self.held = held;
            match done {
                Ok(done) => {
                    self.joined = end - at - done;
                    at += done;
                }
                Err(fault) => {
                    outcome = Err(fault);
                    break;
                }
            }
        }
        self.held.drain(..at);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        outcome.map(|()| used)
    }

    /// Takes records where they stand; what is not whole moves to `held`.
    fn take_in_place<P: Plain>(&mut self, cipher: &mut [u8], out: &mut Out<'_, P>) -> Result<(), TlsFault> {
        if cipher.is_empty() {
            return Ok(());
        }
        debug_assert!(self.held.is_empty(), "records come in order");
        let mut at = 0;
        while self.wants_input() {
            let start = at + self.joined;
            if missing(&cipher[start..]) > 0 {
                break;
            }
            let end = start + record_len(&cipher[start..]);
            let done = self.take_record(&mut cipher[at..end], out)?;
            self.joined = end - at - done;
            at += done;
        }
        self.held.extend_from_slice(&cipher[at..]);
        Ok(())
    }

    /// Lets rustls process the last record in `bytes`; what stands before it, it has seen. Answers how many bytes at the
    /// front are done with.
    fn take_record<P: Plain>(&mut self, bytes: &mut [u8], out: &mut Out<'_, P>) -> Result<usize, TlsFault> {
        let most = if self.is_handshaking() { HANDSHAKE_HELD_MAX } else { TRAFFIC_HELD_MAX };
        if bytes.len() > most {
            return Err(TlsFault::TooLong);
        }
        if self.hello.is_none() && self.joined == 0 && self.is_handshaking() {
            self.hello = Hello::read(bytes).map(Box::new);
            self.take_up_challenge()?;
        }
        let mut done = 0;
        let header_refused = !known_header(&bytes[self.joined..]);
        loop {
            let status = self.connection.process_tls_records(&mut bytes[done..]);
            done += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| TlsFault::of(&error, None))?;
                        done += record.discard;
                        let put = if self.left.is_empty() { out.put(record.payload) } else { 0 };
                        self.left.extend_from_slice(&record.payload[put..]);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(chunk)) => append(chunk, out.reply),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.stage = Stage::PeerClosed,
                // Versions that rustls knows by name and that it therefore waits for.
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) if header_refused => {
                    return Err(TlsFault::Misbehaved("a record of an impossible version".into()));
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    return Ok(done);
                }
                Ok(other) => return Err(TlsFault::Ours(format!("unexpected state {other:?}").into())),
                Err(error) => return Err(TlsFault::of(&error, self.hello.as_deref())),
            }
        }
    }

    /// Goes on as the proof that the hello asks for. Without one its protocol is none that the listener speaks.
    fn take_up_challenge(&mut self) -> Result<(), TlsFault> {
        let Some(challenges) = self.challenges.take() else { return Ok(()) };
        let Some(hello) = self.hello.as_deref().filter(|hello| *hello.alpn == *ACME_PROTOCOL) else { return Ok(()) };
        if let Some(config) = hello.server_name.as_deref().and_then(|name| challenges.find(name)) {
            // Nothing has been said yet: a new one is as good as the one that there was.
            self.connection = UnbufferedServerConnection::new(config).map_err(|error| TlsFault::of(&error, None))?;
        }
        Ok(())
    }

    /// Whether the next record may be processed.
    fn wants_input(&self) -> bool {
        self.left.is_empty() && self.stage == Stage::Live
    }

    fn give_left<P: Plain>(&mut self, out: &mut Out<'_, P>) {
        self.left_at += out.put(&self.left[self.left_at..]);
        if self.left_at == self.left.len() {
            self.left = Vec::new();
            self.left_at = 0;
        }
    }

    fn drop_held(&mut self) {
        self.held = Vec::new();
        self.joined = 0;
    }

    fn fail(&mut self, fault: TlsFault, reply: &mut Vec<u8>) -> TlsFault {
        if fault == TlsFault::PlainHttp {
            reply.extend_from_slice(PLAIN_HTTP_ANSWER.as_bytes());
        }
        self.end(reply);
        fault
    }

    /// Moves what rustls still has to say into `out`, and keeps nothing.
    fn end(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Ended;
        self.left = Vec::new();
        self.left_at = 0;
        // With something to send rustls does not look at its input, so there is no need to show it what is held.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(chunk)) => append(chunk, out),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => break,
            }
        }
        self.drop_held();
    }
}

/// A client that speaks HTTP is told so in its own words.
const PLAIN_HTTP_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 45\r\n\r\nThis port speaks TLS: use https:// or wss://\n";

/// Where the results of one call go.
struct Out<'a, P> {
    plain: &'a mut P,
    put: usize,
    reply: &'a mut Vec<u8>,
}

impl<P: Plain> Out<'_, P> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = self.plain.put(bytes);
        self.put += count;
        count
    }
}

/// Bytes that are missing until the record at the front of `bytes` is whole.
fn missing(bytes: &[u8]) -> usize {
    if bytes.len() < HEADER {
        return HEADER - bytes.len();
    }
    record_len(bytes).saturating_sub(bytes.len())
}

/// Length of the record whose header is at the front of `bytes`. A header that rustls will refuse counts as a record by
/// itself: nobody waits for what it promises.
fn record_len(bytes: &[u8]) -> usize {
    if known_header(bytes) { HEADER + usize::from(u16::from_be_bytes([bytes[3], bytes[4]])) } else { HEADER }
}

/// A header that a record of TLS can have.
fn known_header(bytes: &[u8]) -> bool {
    let len = HEADER + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    (0x14..=0x18).contains(&bytes[0]) && bytes[1] == 3 && len < RECORD_MAX
}

fn whole_record(bytes: &[u8]) -> bool {
    missing(bytes) == 0
}

fn append(mut chunk: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(size)) = chunk.encode(&mut []) {
        out.resize(start + size.required_size, 0);
        // It has just said how much room it needs.
        let written = chunk.encode(&mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
    }
}

fn encrypt_into(
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TlsFault> {
    let start = out.len();
    let mut room = Tls::cipher_len(plain.len());
    loop {
        out.resize(start + room, 0);
        match traffic.encrypt(plain, &mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            // A key update or a ticket goes first.
            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => room = size.required_size,
            Err(EncryptError::InsufficientSize(_) | EncryptError::EncryptExhausted) => {
                out.truncate(start);
                return Err(TlsFault::KeyExhausted);
            }
        }
    }
}

#[cfg(test)]
mod tests;
