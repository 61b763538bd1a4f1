//! Taking connections, a few per turn, also when there is nothing left to take them with.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use breakwater_proto::Instant;
use breakwater_shard::Peer;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::open_files::running_out;

/// The listening sockets of one shard.
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    /// The listener to look at first: in turn, or a flood of connections at one would keep all others waiting.
    next: usize,
    /// Held for the moment when there is no other: given up, it lets us take one connection and turn it away.
    reserve: Option<File>,
    /// Accepting pauses until then.
    paused_until: Option<Instant>,
    /// Connections of the whole node.
    open: Arc<AtomicUsize>,
    open_max: usize,
}

struct Listener {
    socket: TcpListener,
    /// An edge has come and the queue has not been seen empty since.
    ready: bool,
}

/// What an attempt came to.
pub(crate) enum Accepted {
    Connection(TcpStream, Peer),
    /// The node is full: this one is to be dropped.
    Full(TcpStream, Peer),
    /// Nothing to accept now.
    Nothing,
    /// No descriptors, or no memory, are left: accepting pauses.
    Starved(io::Error),
}

/// A starved shard tries again after that long. Long enough to cost nothing, short enough that nobody's own timeout passes.
const PAUSE_MS: u64 = 200;

/// Connections that were gone before they could be taken, in one attempt.
const ABORTED_MAX: u32 = 16;

impl Acceptor {
    /// Registers the sockets, as `first`, `first - 1` and so on.
    pub(crate) fn new(
        sockets: Vec<TcpListener>,
        registry: &Registry,
        first: Token,
        open: Arc<AtomicUsize>,
        open_max: usize,
    ) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (at, mut socket) in sockets.into_iter().enumerate() {
            registry.register(&mut socket, Token(first.0 - at), Interest::READABLE)?;
            // What came before the registration has no edge of its own on every platform.
            listeners.push(Listener { socket, ready: true });
        }
        Ok(Self { listeners, next: 0, reserve: reserve(), paused_until: None, open, open_max })
    }

    /// Notes an edge.
    pub(crate) fn edge(&mut self, listener: usize) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.ready = true;
        }
    }

    /// Whether another attempt may find something at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.paused_until.is_none() && self.listeners.iter().any(|listener| listener.ready)
    }

    /// When accepting goes on, if it pauses.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Stops listening. Connections that were not yet accepted are reset by the kernel.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
        self.paused_until = None;
    }

    /// One attempt to take a connection.
    pub(crate) fn accept(&mut self, now: Instant) -> Accepted {
        if self.paused_until.is_some_and(|until| now < until) {
            return Accepted::Nothing;
        }
        self.paused_until = None;
        let mut aborted = 0;
        while let Some(at) = self.next_ready() {
            self.next = at + 1;
            let listener = &mut self.listeners[at];
            match listener.socket.accept() {
                Ok((stream, address)) => {
                    let peer = Peer { address, listener: u16::try_from(at).unwrap_or(u16::MAX), direct: true };
                    // More than one shard may pass here at once; the bound is off by their number at most.
                    if self.open.load(Ordering::Relaxed) >= self.open_max {
                        return Accepted::Full(stream, peer);
                    }
                    self.open.fetch_add(1, Ordering::Relaxed);
                    return Accepted::Connection(stream, peer);
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(fault) if is_resource(&fault) => return self.starve(at, now, fault),
                // The peer is gone again, or its network is: the next in the queue may be well.
                Err(_) if aborted < ABORTED_MAX => aborted += 1,
                Err(_) => return Accepted::Nothing,
            }
        }
        Accepted::Nothing
    }

    fn next_ready(&self) -> Option<usize> {
        let count = self.listeners.len();
        (self.next..self.next + count).map(|at| at % count).find(|at| self.listeners[*at].ready)
    }

    /// Turns one connection away with the descriptor held in reserve, so that its client learns at once, and pauses.
    fn starve(&mut self, at: usize, now: Instant, fault: io::Error) -> Accepted {
        if running_out(&fault) && self.reserve.take().is_some() {
            drop(self.listeners[at].socket.accept());
        }
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
        self.paused_until = Some(now.plus_ms(PAUSE_MS));
        Accepted::Starved(fault)
    }
}

fn reserve() -> Option<File> {
    File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok()
}

/// No descriptors or no memory: trying again at once would fail again.
fn is_resource(fault: &io::Error) -> bool {
    #[cfg(unix)]
    if fault.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) {
        return true;
    }
    running_out(fault) || fault.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_take_turns() {
        let poll = mio::Poll::new().expect("a poller");
        let any = || TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let sockets = vec![any(), any()];
        let connect = |at: usize| {
            std::net::TcpStream::connect(sockets[at].local_addr().expect("bound")).expect("somebody listens")
        };
        let _clients = [connect(0), connect(0), connect(0), connect(1)];
        let mut acceptor =
            Acceptor::new(sockets, poll.registry(), Token(9), Arc::default(), 10).expect("they can be watched");
        let order: Vec<u16> = std::iter::from_fn(|| match acceptor.accept(Instant(1)) {
            Accepted::Connection(_, peer) => Some(peer.listener),
            _ => None,
        })
        .collect();
        assert_eq!(order, [0, 1, 0, 0]);
    }
}
