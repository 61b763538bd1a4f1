//! What stands between the socket of one connection and MQTT: TLS, WebSocket in it, or either alone.
//!
//! Reading and writing go through, without a buffer of their own: what comes is decrypted and taken out of its frames in the
//! caller's buffers. Kept are only what a socket did not take, and what was read too early; an idle connection keeps neither.

use std::fmt;
use std::io::{ErrorKind, IoSlice, Read, Write};

use crate::tls::{Tls, TlsFault, Window};
use crate::ws::{self, Decoder, End, Header, OpCode};

/// The layers of one connection.
pub struct Layers {
    tls: Option<Box<Tls>>,
    ws: Option<Decoder>,
    /// Read by whoever stood here before: plaintext, and frames if there are any.
    unread: Vec<u8>,
    /// For the socket, which did not take it: whole frames, whole records.
    waiting: Vec<u8>,
    /// What waits is the end of a handshake that nobody waits for: it leaves with the first bytes that are written, if reading
    /// brings forth some.
    with_first: bool,
    /// What reading comes to, once all was read.
    end: Option<Took>,
}

/// Memory for the time of a call; one for all connections of a thread. Takes none before its first use.
#[derive(Default)]
pub struct Scratch {
    cipher: Vec<u8>,
    frame: Vec<u8>,
    answers: Vec<u8>,
    output: Vec<u8>,
}

/// What one attempt to read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Took {
    /// So many bytes stand at the front of the buffer, and the socket is empty.
    Bytes(usize),
    /// So many bytes, perhaps none, and there may be more.
    More(usize),
    /// Nothing.
    WouldBlock,
    /// The peer has said that it is done.
    Closed,
    /// The connection is of no further use; whatever the peer is told of that has been sent or waits.
    Failed(LayerFault),
}

/// What one attempt to write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gave {
    /// So many bytes were taken. Fewer than were given: the socket is full.
    Wrote(usize),
    /// The socket is full.
    WouldBlock,
    /// It takes nothing any more.
    Failed,
}

/// Why a connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerFault {
    /// The socket is broken.
    Socket,
    /// TLS failed.
    Tls(Box<TlsFault>),
    /// The peer breaks the rules of WebSocket.
    WebSocket(ws::Fault),
    /// The peer asks and asks, and reads none of the answers.
    Deaf,
}

impl fmt::Display for LayerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket => f.write_str("the network connection is broken"),
            Self::Tls(fault) => fault.fmt(f),
            Self::WebSocket(fault) => fault.fmt(f),
            Self::Deaf => f.write_str("the client doesn't read the answers of TLS and WebSocket"),
        }
    }
}

impl std::error::Error for LayerFault {}

/// Ciphertext that is read at once.
const CIPHER: usize = 64 * 1024;
/// Bytes that go into one frame, and are encrypted at once: what a full socket leaves of them is kept for it.
const PIECE: usize = 64 * 1024;
/// Bytes that may wait for a socket: a piece, and answers.
const WAITING_MAX: usize = PIECE + 32 * 1024;
/// What is written together with the end of a handshake, at most: a CONNACK and a little more.
const FIRST_MAX: usize = 4096;
/// Reads that bring nothing for the caller, such as pings, in one attempt.
const ROUNDS: usize = 8;
/// Frames of a server are not masked.
const NO_KEY: [u8; 4] = [0; 4];

/// Bytes that have come through TLS.
struct Fetched {
    count: usize,
    /// There may be more.
    more: bool,
}

impl Layers {
    /// Layers whose handshakes are done. `unread` was read already: plaintext, and frames if there are any.
    pub fn new(tls: Option<Box<Tls>>, ws: Option<Decoder>, unread: Vec<u8>) -> Self {
        Self { tls, ws, unread, waiting: Vec::new(), with_first: false, end: None }
    }

    /// Bytes that the socket is still to be sent, before all others: whole records, whole frames. They wait until a read finds
    /// the socket empty, so that they can leave together with an answer to what has come already.
    #[must_use]
    pub fn owing(mut self, bytes: Vec<u8>) -> Self {
        self.with_first = !bytes.is_empty();
        self.waiting = bytes;
        self
    }

    /// TLS, if it is spoken.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }

    /// Bytes wait for the socket: it is to be [flushed](Self::flush) when it takes some.
    pub fn owes(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The peer's certificate does not count any more: nothing is read from now on.
    pub fn condemn(&mut self, fault: TlsFault) {
        self.end.get_or_insert(Took::Failed(LayerFault::Tls(Box::new(fault))));
    }

    /// What has broken it, if it was not the network.
    pub fn fault(&self) -> Option<&LayerFault> {
        match &self.end {
            Some(Took::Failed(fault)) if *fault != LayerFault::Socket => Some(fault),
            _ => None,
        }
    }

    /// Memory for buffers, beyond the value itself.
    pub fn buffer_bytes(&self) -> usize {
        self.unread.capacity() + self.waiting.capacity() + self.tls.as_ref().map_or(0, |tls| tls.buffer_bytes())
    }

    /// Reads into `buffer`, which must not be empty. Answers to what is read by the way are sent.
    pub fn read<S: Read + Write>(&mut self, raw: &mut S, scratch: &mut Scratch, buffer: &mut [u8]) -> Took {
        if !self.with_first {
            self.answer(raw);
        }
        for _ in 0..ROUNDS {
            if let Some(end) = &self.end {
                return end.clone();
            }
            let fetched = match self.fetch(raw, scratch, buffer) {
                Ok(fetched) => fetched,
                Err(took) => {
                    self.with_first = false;
                    self.answer(raw);
                    return took;
                }
            };
            let count = self.unframe(&mut buffer[..fetched.count], scratch);
            self.with_first &= count > 0 && self.end.is_none();
            if !self.with_first {
                self.answer(raw);
            }
            if count > 0 {
                return if fetched.more || self.end.is_some() { Took::More(count) } else { Took::Bytes(count) };
            }
        }
        Took::More(0)
    }

    /// Writes from `bytes`.
    pub fn write<S: Write>(&mut self, raw: &mut S, scratch: &mut Scratch, bytes: &[u8]) -> Gave {
        // What fits into one write needs no second one.
        if std::mem::take(&mut self.with_first)
            && bytes.len() <= FIRST_MAX
            && let Some(tls) = &mut self.tls
            && self.ws.is_none()
        {
            let sent = tls.encrypt(bytes, &mut self.waiting).map_err(|fault| LayerFault::Tls(Box::new(fault)));
            return match sent.and_then(|()| self.flush(raw)) {
                Ok(_) => Gave::Wrote(bytes.len()),
                Err(fault) => {
                    self.end.get_or_insert(Took::Failed(fault));
                    Gave::Failed
                }
            };
        }
        if self.owes() {
            match self.flush(raw) {
                Ok(true) => {}
                Ok(false) => return Gave::WouldBlock,
                Err(_) => return Gave::Failed,
            }
        }
        // Whoever has closed hears no more; its end shows when it is read.
        if self.ws.as_ref().is_some_and(Decoder::has_ended) {
            return Gave::Wrote(bytes.len());
        }
        let mut done = 0;
        for piece in bytes.chunks(PIECE) {
            let written = if self.tls.is_some() {
                self.write_encrypted(raw, scratch, piece)
            } else {
                self.write_plain(raw, piece)
            };
            match written {
                Ok(0) if done == 0 => return Gave::WouldBlock,
                Ok(count) => done += count,
                Err(fault) => {
                    self.end.get_or_insert(Took::Failed(fault));
                    return Gave::Failed;
                }
            }
            if self.owes() || done < piece.len() {
                break;
            }
        }
        Gave::Wrote(done)
    }

    /// Sends what waits. True if nothing waits any more.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush<S: Write>(&mut self, raw: &mut S) -> Result<bool, LayerFault> {
        let mut sent = 0;
        while sent < self.waiting.len() {
            match send(raw, &[IoSlice::new(&self.waiting[sent..])])? {
                0 => break,
                count => sent += count,
            }
        }
        if sent == self.waiting.len() {
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..sent);
        }
        Ok(self.waiting.is_empty())
    }

    /// Says good-bye in each layer: the bytes that are left to send. Nothing is read or written afterwards.
    pub fn last_words(&mut self, scratch: &mut Scratch) -> Vec<u8> {
        if self.ws.as_ref().is_some_and(|ws| !ws.has_ended()) {
            scratch.answers.clear();
            ws::put_close(&mut scratch.answers, ws::code::NORMAL, "", None);
            self.owe_answers(scratch);
        }
        if let Some(tls) = &mut self.tls {
            tls.close_notify(&mut self.waiting);
        }
        self.end = Some(Took::Closed);
        std::mem::take(&mut self.waiting)
    }

    /// Gets bytes, decrypted.
    fn fetch<S: Read>(&mut self, raw: &mut S, scratch: &mut Scratch, buffer: &mut [u8]) -> Result<Fetched, Took> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.unread[..count]);
            self.unread.drain(..count);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            return Ok(Fetched { count, more: true });
        }
        let Some(tls) = &mut self.tls else {
            return match receive(raw, buffer)? {
                0 => {
                    self.end = Some(Took::Closed);
                    Ok(Fetched { count: 0, more: false })
                }
                count => Ok(Fetched { count, more: count == buffer.len() }),
            };
        };
        scratch.cipher.resize(CIPHER, 0);
        // So much that all of it finds room, plain as it will be; but never nothing.
        let room = buffer.len().saturating_sub(tls.held()).clamp(1024, CIPHER);
        let (mut got, mut has_ended) = (0, false);
        if !tls.has_more() {
            got = receive(raw, &mut scratch.cipher[..room])?;
            has_ended = got == 0;
        }
        let mut window = Window::new(buffer);
        let progress = tls.on_bytes(&mut scratch.cipher[..got], &mut window, &mut self.waiting);
        let count = window.len;
        match progress {
            Err(fault) => self.end = Some(Took::Failed(LayerFault::Tls(Box::new(fault)))),
            Ok(progress) if progress.closed || has_ended => self.end = Some(Took::Closed),
            Ok(progress) => return Ok(Fetched { count, more: progress.more || got == room }),
        }
        Ok(Fetched { count, more: false })
    }

    /// Takes the stream out of its frames.
    fn unframe(&mut self, bytes: &mut [u8], scratch: &mut Scratch) -> usize {
        let Some(ws) = &mut self.ws else { return bytes.len() };
        scratch.answers.clear();
        let decoded = ws.decode(bytes, NO_KEY, &mut scratch.answers);
        match decoded.end {
            Some(End::Closed(_)) => self.end = Some(Took::Closed),
            Some(End::Broken(fault)) => self.end = Some(Took::Failed(LayerFault::WebSocket(fault))),
            None => {}
        }
        if !scratch.answers.is_empty() {
            self.owe_answers(scratch);
        }
        decoded.payload
    }

    /// Moves answers in plaintext to what waits, through TLS.
    fn owe_answers(&mut self, scratch: &Scratch) {
        match &mut self.tls {
            None => self.waiting.extend_from_slice(&scratch.answers),
            // It fails where nobody could read them any more.
            Some(tls) => _ = tls.encrypt(&scratch.answers, &mut self.waiting),
        }
    }

    /// Sends answers that reading has brought forth.
    fn answer<S: Write>(&mut self, raw: &mut S) {
        if !self.owes() {
            return;
        }
        let sent = self.flush(raw);
        if self.end.is_some() {
            return;
        }
        if let Err(fault) = sent {
            self.end = Some(Took::Failed(fault));
        } else if self.waiting.len() > WAITING_MAX {
            self.end = Some(Took::Failed(LayerFault::Deaf));
        }
    }

    /// Writes a piece as one frame, without copying it if the socket takes it whole.
    fn write_plain<S: Write>(&mut self, raw: &mut S, piece: &[u8]) -> Result<usize, LayerFault> {
        if self.ws.is_none() {
            return send(raw, &[IoSlice::new(piece)]);
        }
        let header = Header::new(OpCode::Binary, piece.len(), None);
        let header = header.as_bytes();
        let sent = send(raw, &[IoSlice::new(header), IoSlice::new(piece)])?;
        if sent == 0 {
            return Ok(0);
        }
        // A frame that has begun has to be ended, whatever comes between.
        self.waiting.extend_from_slice(header.get(sent..).unwrap_or_default());
        self.waiting.extend_from_slice(&piece[sent.saturating_sub(header.len())..]);
        Ok(piece.len())
    }

    fn write_encrypted<S: Write>(
        &mut self,
        raw: &mut S,
        scratch: &mut Scratch,
        piece: &[u8],
    ) -> Result<usize, LayerFault> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        scratch.output.clear();
        let encrypted = if self.ws.is_some() {
            scratch.frame.clear();
            scratch.frame.extend_from_slice(Header::new(OpCode::Binary, piece.len(), None).as_bytes());
            scratch.frame.extend_from_slice(piece);
            tls.encrypt(&scratch.frame, &mut scratch.output)
        } else {
            tls.encrypt(piece, &mut scratch.output)
        };
        encrypted.map_err(|fault| LayerFault::Tls(Box::new(fault)))?;
        let mut sent = 0;
        while sent < scratch.output.len() {
            match send(raw, &[IoSlice::new(&scratch.output[sent..])])? {
                0 => break,
                count => sent += count,
            }
        }
        // What is encrypted has its place in the order: it can't be given back to the caller.
        self.waiting.extend_from_slice(&scratch.output[sent..]);
        Ok(piece.len())
    }
}

/// Reads once; 0 is the end.
fn receive<S: Read>(raw: &mut S, buffer: &mut [u8]) -> Result<usize, Took> {
    loop {
        match raw.read(buffer) {
            Ok(count) => return Ok(count),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Err(Took::WouldBlock),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Took::Failed(LayerFault::Socket)),
        }
    }
}

/// Writes once; 0 if the socket is full.
fn send<S: Write>(raw: &mut S, parts: &[IoSlice<'_>]) -> Result<usize, LayerFault> {
    loop {
        match raw.write_vectored(parts) {
            Ok(count) => return Ok(count),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(LayerFault::Socket),
        }
    }
}

#[cfg(test)]
mod tests;
