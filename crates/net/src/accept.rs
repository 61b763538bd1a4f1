//! Taking connections, a few per turn, also when there is nothing left to take them with.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use breakwater_proto::Instant;
use breakwater_shard::Peer;
use mio::net::TcpStream;
use mio::{Interest, Registry};

use crate::listen::EarSocket;
use crate::open_files::running_out;
use crate::refusal::Refusal;
use crate::roll::{Listener, Pass, Terms};
use crate::token::Watched;

/// The listening sockets of one shard.
pub(crate) struct Acceptor {
    /// By token. Empty places are taken again.
    ears: Vec<Option<Ear>>,
    /// Watches them; there from the first one on.
    registry: Option<Registry>,
    /// The one to look at first: in turn, or a flood of connections at one would keep all others waiting.
    next: usize,
    /// Held for the moment when there is no other: given up, it lets us take one connection and turn it away.
    reserve: Option<File>,
    /// Accepting pauses until then.
    paused_until: Option<Instant>,
    /// Connections of the whole node, at most.
    node_max: usize,
    /// One of them may be ready. Otherwise none is: a turn looks at nothing else, however many there are.
    any_ready: bool,
}

/// One listening socket, and what it listens for.
pub(crate) struct Ear {
    pub(crate) socket: EarSocket,
    pub(crate) listener: Arc<Listener>,
    pub(crate) terms: Arc<Terms>,
    /// Number of the place that it listens at: one socket of it at each shard.
    pub(crate) place: u32,
    /// An edge has come and the queue has not been seen empty since.
    ready: bool,
    /// The listener has accepted as many as its rate allows until then: the kernel holds the rest.
    rested_until: Option<Instant>,
    /// It listens no more once its queue has been seen empty.
    last: Option<Last>,
}

/// What is left to do for a socket that is to be closed.
struct Last {
    /// Connections that are still taken, at most: new ones may come as fast as they are taken.
    left: u32,
    /// Dropped with the socket.
    _done: Sender<()>,
}

/// A connection that was let in.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: Peer,
    pub(crate) pass: Pass,
    /// Of a listener whose connections stand at the gate first; none if the engine takes it as it is.
    pub(crate) terms: Option<Arc<Terms>>,
}

/// What an attempt came to.
pub(crate) enum Accepted {
    Connection(Arrival),
    /// Turned away: the socket is to be dropped.
    Refused(TcpStream, Peer, Arc<Listener>, Refusal),
    /// Nothing to accept now.
    Nothing,
    /// No descriptors, or no memory, are left: accepting pauses.
    Starved(io::Error),
}

/// A starved shard tries again after that long. Long enough to cost nothing, short enough that nobody's own timeout passes.
const PAUSE_MS: u64 = 200;

/// Connections that were gone before they could be taken, in one attempt.
const ABORTED_MAX: u32 = 16;

/// Connections that a socket which is to be closed still takes from its queue, at each shard.
const LAST_MAX: u32 = 4096;

impl Ear {
    pub(crate) fn new(socket: EarSocket, listener: Arc<Listener>, terms: Arc<Terms>, place: u32) -> Self {
        // What came before the registration has no edge of its own on every platform.
        Self { socket, listener, terms, place, ready: true, rested_until: None, last: None }
    }

    /// What it takes is this listener's from here on.
    fn serve(&mut self, listener: &Arc<Listener>, terms: &Arc<Terms>) -> io::Result<()> {
        let before = std::mem::replace(&mut self.terms, Arc::clone(terms));
        self.listener = Arc::clone(listener);
        self.rested_until = None;
        if before.options.socket == terms.options.socket { Ok(()) } else { self.socket.adjust(&terms.options.socket) }
    }

    fn may_accept(&self, now: Instant) -> bool {
        self.ready && self.rested_until.is_none_or(|until| until <= now)
    }

    /// What to do with a connection that it has taken.
    fn judge(&self, stream: TcpStream, address: SocketAddr, node_max: usize) -> Accepted {
        let peer = Peer { address, listener: self.listener.number, direct: true };
        let terms = &self.terms;
        let enter = || {
            // What a proxy has in front of it is judged when it has told, and on a unix socket the permissions of its file
            // have judged.
            if terms.is_proxied() || self.socket.is_local() {
                return Pass::enter(&self.listener, terms, node_max);
            }
            terms.admits(address.ip())?;
            let mut pass = Pass::enter(&self.listener, terms, node_max)?;
            pass.count(terms, address.ip())?;
            Ok(pass)
        };
        match enter() {
            Ok(pass) => {
                let terms = (!terms.plain).then(|| Arc::clone(terms));
                Accepted::Connection(Arrival { stream, peer, pass, terms })
            }
            Err(refusal) => Accepted::Refused(stream, peer, Arc::clone(&self.listener), refusal),
        }
    }
}

impl Acceptor {
    /// Listens nowhere yet.
    pub(crate) fn new(node_max: usize) -> Self {
        Self {
            ears: Vec::new(),
            registry: None,
            next: 0,
            reserve: reserve(),
            paused_until: None,
            node_max,
            any_ready: false,
        }
    }

    /// Listens with one socket more.
    pub(crate) fn add(&mut self, mut ear: Ear, registry: &Registry) -> io::Result<()> {
        if self.registry.is_none() {
            self.registry = Some(registry.try_clone()?);
        }
        let at = self.ears.iter().position(Option::is_none).unwrap_or(self.ears.len());
        let token = Watched::Ear(u32::try_from(at).unwrap_or(u32::MAX)).token();
        ear.socket.register(registry, token, Interest::READABLE)?;
        if at == self.ears.len() {
            self.ears.push(None);
        }
        self.ears[at] = Some(ear);
        self.any_ready = true;
        Ok(())
    }

    /// Sets the terms of a listener's sockets, and what belongs to the sockets themselves.
    pub(crate) fn change(&mut self, listener: &Arc<Listener>, terms: &Arc<Terms>) -> io::Result<()> {
        let mut adjusted = Ok(());
        let of_it = |ear: &&mut Ear| Arc::ptr_eq(&ear.listener.standing, &listener.standing);
        for ear in self.ears.iter_mut().flatten().filter(of_it) {
            adjusted = adjusted.and(ear.serve(listener, terms));
        }
        adjusted
    }

    /// Gives the socket of one place to a listener.
    pub(crate) fn hand(&mut self, place: u32, listener: &Arc<Listener>, terms: &Arc<Terms>) -> io::Result<()> {
        let mut adjusted = Ok(());
        for ear in self.ears.iter_mut().flatten().filter(|ear| ear.place == place) {
            adjusted = adjusted.and(ear.serve(listener, terms));
        }
        adjusted
    }

    /// Stops listening at one place: at once, or when the queue is empty. `done` is dropped with the socket.
    pub(crate) fn silence(&mut self, place: u32, at_once: bool, done: Sender<()>) {
        let is_it = |ear: &Ear| ear.place == place && ear.last.is_none();
        let Some(at) = self.ears.iter().position(|entry| entry.as_ref().is_some_and(is_it)) else { return };
        match &mut self.ears[at] {
            Some(ear) if !at_once => {
                ear.last = Some(Last { left: LAST_MAX, _done: done });
                // Its queue may have filled without a look at the poller.
                ear.ready = true;
                self.any_ready = true;
            }
            _ => self.leave(at),
        }
    }

    /// Notes an edge. One that is about a socket which is gone does no harm to another in its place.
    pub(crate) fn edge(&mut self, ear: u32) {
        if let Some(Some(ear)) = self.ears.get_mut(ear as usize) {
            ear.ready = true;
            self.any_ready = true;
        }
    }

    /// Whether another attempt may find something at once.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.any_ready && self.paused_until.is_none() && self.ears.iter().flatten().any(|ear| ear.may_accept(now))
    }

    /// When accepting goes on, if it rests.
    pub(crate) fn rested_until(&self) -> Option<Instant> {
        if self.paused_until.is_some() || !self.any_ready {
            return self.paused_until;
        }
        self.ears.iter().flatten().filter(|ear| ear.ready).filter_map(|ear| ear.rested_until).min()
    }

    /// Closes one socket. It may be open elsewhere too, where systemd or another shard has it: then the poller would go on
    /// watching what nobody can name any more, and refuse to watch the next one under that descriptor.
    fn leave(&mut self, at: usize) {
        if let Some(mut ear) = self.ears[at].take()
            && let Some(registry) = &self.registry
        {
            // Fails only for what isn't watched.
            let _ = ear.socket.deregister(registry);
        }
    }

    /// Stops listening. Connections that were not yet accepted are reset by the kernel.
    pub(crate) fn close(&mut self) {
        (0..self.ears.len()).for_each(|at| self.leave(at));
        self.ears.clear();
        self.paused_until = None;
    }

    /// One attempt to take a connection.
    pub(crate) fn accept(&mut self, now: Instant) -> Accepted {
        if !self.any_ready || self.paused_until.is_some_and(|until| now < until) {
            return Accepted::Nothing;
        }
        self.paused_until = None;
        let mut aborted = 0;
        while let Some(at) = self.next_ready(now) {
            self.next = at + 1;
            let Some(ear) = &mut self.ears[at] else { continue };
            let (rate, burst) = (ear.terms.options.accept_rate, ear.terms.options.accept_burst);
            let last = ear.last.is_some();
            if !last && let Some(until) = ear.listener.standing.bucket.empty_until(rate, burst, now) {
                ear.rested_until = Some(until);
                continue;
            }
            match ear.socket.accept() {
                Ok((stream, address)) => {
                    ear.listener.standing.bucket.take(rate, burst, now);
                    let accepted = ear.judge(stream, address, self.node_max);
                    self.has_taken(at);
                    return accepted;
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    ear.ready = false;
                    if last {
                        self.leave(at);
                    }
                }
                Err(fault) if is_resource(&fault) => return self.starve(at, now, fault),
                // The peer is gone again, or its network is: the next in the queue may be well.
                Err(_) if aborted < ABORTED_MAX => aborted += 1,
                Err(_) => return Accepted::Nothing,
            }
        }
        // Those that rest are.
        self.any_ready = self.ears.iter().flatten().any(|ear| ear.ready);
        Accepted::Nothing
    }

    /// Counts what a socket that is to be closed has taken.
    fn has_taken(&mut self, at: usize) {
        if let Some(last) = self.ears[at].as_mut().and_then(|ear| ear.last.as_mut()) {
            last.left -= 1;
            if last.left == 0 {
                self.leave(at);
            }
        }
    }

    fn next_ready(&self, now: Instant) -> Option<usize> {
        let count = self.ears.len();
        let ready = |at: &usize| self.ears[*at].as_ref().is_some_and(|ear| ear.may_accept(now));
        (self.next..self.next + count).map(|at| at % count).find(ready)
    }

    /// Turns one connection away with the descriptor held in reserve, so that its client learns at once, and pauses.
    fn starve(&mut self, at: usize, now: Instant, fault: io::Error) -> Accepted {
        if running_out(&fault)
            && self.reserve.take().is_some()
            && let Some(ear) = &self.ears[at]
        {
            drop(ear.socket.accept());
        }
        if self.reserve.is_none() {
            self.reserve = reserve();
        }
        if self.ears[at].as_ref().is_some_and(|ear| ear.last.is_some()) {
            self.leave(at);
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
mod tests;
