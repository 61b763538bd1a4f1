//! Sockets that were closed with something said last.
//!
//! The kernel answers input to a closed socket with a reset, and a reset can take the last words away before the peer has
//! read them. So such a socket ends only its own direction at first, and throws away what still comes until the peer
//! closes too or the time is over. Words that the socket does not take at once are kept until it does.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;

use breakwater_proto::Instant;
use mio::net::TcpStream;

/// Sockets that linger on one shard, at most; beyond it the oldest goes.
const COUNT_MAX: usize = 256;
/// They are looked at that often. They are few, and no hurry: this spares them tokens of the poller.
const STEP_MS: u64 = 20;
/// Input that is thrown away at one look at one socket, at most.
const LOOK_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct Linger {
    sockets: VecDeque<Lingering>,
    next: Instant,
}

struct Lingering {
    until: Instant,
    stream: TcpStream,
    /// Not yet taken by the socket. Empty: its output has ended.
    words: Vec<u8>,
}

impl Linger {
    /// Sends `words`, and ends a socket's output; the socket goes when the peer is done, or at `until`.
    pub(crate) fn add(&mut self, stream: TcpStream, words: Vec<u8>, now: Instant, until: Instant) {
        let mut lingering = Lingering { until, stream, words };
        if lingering.begin() {
            return;
        }
        if self.sockets.len() == COUNT_MAX {
            self.sockets.pop_front();
        }
        if self.sockets.is_empty() {
            self.next = now.plus_ms(STEP_MS);
        }
        self.sockets.push_back(lingering);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.next)
    }

    /// Looks at all of them, if it is time.
    pub(crate) fn look(&mut self, now: Instant) {
        if self.is_empty() || now < self.next {
            return;
        }
        self.next = now.plus_ms(STEP_MS);
        self.sockets.retain_mut(|lingering| now < lingering.until && !lingering.look());
        if self.is_empty() {
            self.sockets = VecDeque::new();
        }
    }
}

impl Lingering {
    /// Begins; true if it is over already.
    fn begin(&mut self) -> bool {
        // Input that is there already would make even this a reset.
        let has_ended = has_ended(&mut self.stream);
        // Who has closed its own direction still reads.
        (self.words.is_empty() && has_ended) || self.speak() || (self.words.is_empty() && has_ended)
    }

    /// True if it is over.
    fn look(&mut self) -> bool {
        let has_ended = has_ended(&mut self.stream);
        (!self.words.is_empty() && self.speak()) || (self.words.is_empty() && has_ended)
    }

    /// Says what the socket takes, and ends its output after the last word. True if it is broken.
    fn speak(&mut self) -> bool {
        while !self.words.is_empty() {
            match self.stream.write(&self.words) {
                Ok(count) => drop(self.words.drain(..count)),
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return false,
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        self.words = Vec::new();
        self.stream.shutdown(Shutdown::Write).is_err()
    }
}

/// Throws input away; true if no more can come.
fn has_ended(stream: &mut TcpStream) -> bool {
    let mut sink = [0; 4096];
    let mut total = 0;
    while total < LOOK_BYTES_MAX {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(count) => total += count,
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return false,
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
    false
}
