//! Sockets that were closed with something said last.
//!
//! The kernel answers input to a closed socket with a reset, and a reset can take the last words away before the peer has
//! read them. So such a socket ends only its own direction at first, and throws away what still comes until the peer
//! closes too or the time is over.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
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
    sockets: VecDeque<(Instant, TcpStream)>,
    next: Instant,
}

impl Linger {
    /// Ends a socket's output; the socket goes when the peer is done, or at `until`.
    pub(crate) fn add(&mut self, mut stream: TcpStream, now: Instant, until: Instant) {
        // Input that is there already would make even this a reset.
        if has_ended(&mut stream) || stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        if self.sockets.len() == COUNT_MAX {
            self.sockets.pop_front();
        }
        if self.sockets.is_empty() {
            self.next = now.plus_ms(STEP_MS);
        }
        self.sockets.push_back((until, stream));
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
        self.sockets.retain_mut(|(until, stream)| now < *until && !has_ended(stream));
        if self.is_empty() {
            self.sockets = VecDeque::new();
        }
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
