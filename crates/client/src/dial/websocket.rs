//! WebSocket over a connection, one half for each of two threads.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use breakwater_transport::upgrade;
use breakwater_transport::ws::{self, Decoder, OpCode, Role};

use super::{Outgoing, Seen, Target};
use crate::exit::Exit;
use crate::failure::Failure;

/// What both halves write: whole frames, one after another.
struct Shared {
    below: Box<dyn Outgoing>,
    /// Frames that the connection has not taken yet.
    pending: Vec<u8>,
    sent: usize,
}

type Frames = Arc<Mutex<Shared>>;

struct Reader {
    below: Box<dyn Read + Send>,
    frames: Frames,
    decoder: Decoder,
    /// Came with the answer to the upgrade.
    early: Vec<u8>,
    ended: bool,
}

struct Writer {
    frames: Frames,
}

/// What is spoken inside (RFC 6455, 1.9; [MQTT-6.0.0-3]).
const SUBPROTOCOL: &str = "mqtt";

/// Longest frame that goes out: one write is one frame.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The two halves of a connection.
type Halves = (Box<dyn Read + Send>, Box<dyn Outgoing>);

/// Turns a connection into one that carries MQTT in frames.
pub(super) fn upgrade((mut reader, mut writer): Halves, target: &Target, seen: &mut Seen) -> Result<Halves, Failure> {
    let failed = |text: &str| Failure::new(Exit::USAGE, format!("{target}: {text}"));
    let nonce = nonce();
    let mut request = Vec::new();
    upgrade::put_request(&mut request, &authority(target), &target.path, SUBPROTOCOL, nonce);
    let io = |fault: io::Error| match fault.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => failed("the server doesn't answer the WebSocket upgrade"),
        _ => failed(&format!("{fault} in the upgrade: is this its WebSocket port?")),
    };
    writer.write_all(&request).and_then(|()| writer.flush()).map_err(io)?;
    let (mut head, mut buffer) = (Vec::new(), [0; 2048]);
    let answer = loop {
        let count = reader.read(&mut buffer).map_err(io)?;
        head.extend_from_slice(&buffer[..count]);
        match upgrade::check_answer(&head, SUBPROTOCOL, nonce) {
            Ok(Some(answer)) => break answer,
            Ok(None) if count == 0 => {
                return Err(failed("the server closed the connection: is this its WebSocket port?"));
            }
            Ok(None) => {}
            Err(why) => return Err(failed(&why.to_string())),
        }
    };
    seen.subprotocol = Some(SUBPROTOCOL.into());
    let frames = Arc::new(Mutex::new(Shared { below: writer, pending: Vec::new(), sent: 0 }));
    let reader = Reader {
        below: reader,
        frames: Arc::clone(&frames),
        decoder: Decoder::new(Role::Client, u32::MAX, u32::MAX),
        early: head.split_off(answer.used),
        ended: false,
    };
    Ok((Box::new(reader), Box::new(Writer { frames })))
}

/// Host and port as an HTTP request names them.
fn authority(target: &Target) -> String {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    format!("{host}:{}", target.port)
}

/// The standard library seeds each hasher from the system: unpredictable to pages and proxies, which is what masks are for.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&chance().to_le_bytes());
    nonce[8..].copy_from_slice(&chance().to_le_bytes());
    nonce
}

fn key() -> [u8; 4] {
    let bytes = chance().to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn lock(frames: &Frames) -> MutexGuard<'_, Shared> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.pending.len() {
            match self.below.write(&self.pending[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        self.pending.clear();
        self.sent = 0;
        self.below.flush()
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let count = if self.early.is_empty() {
                self.below.read(buffer)?
            } else {
                let count = self.early.len().min(buffer.len());
                buffer[..count].copy_from_slice(&self.early[..count]);
                self.early.drain(..count);
                count
            };
            if count == 0 {
                return Ok(0);
            }
            let mut frames = lock(&self.frames);
            let decoded = self.decoder.decode(&mut buffer[..count], key(), &mut frames.pending);
            self.ended = decoded.end.is_some();
            if !frames.pending.is_empty() {
                // What the connection doesn't take now goes with the next write.
                let _ = frames.send();
            }
            if decoded.payload > 0 {
                return Ok(decoded.payload);
            }
        }
        Ok(0)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut frames = lock(&self.frames);
        frames.send()?;
        let bytes = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        ws::put_frame(&mut frames.pending, OpCode::Binary, bytes, Some(key()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        lock(&self.frames).send()
    }
}

impl Outgoing for Writer {
    fn end(&mut self) -> io::Result<()> {
        let mut frames = lock(&self.frames);
        ws::put_close(&mut frames.pending, ws::code::NORMAL, "", Some(key()));
        frames.send()?;
        frames.below.end()
    }

    fn cut(&mut self) {
        lock(&self.frames).below.cut();
    }
}
