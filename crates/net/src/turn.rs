//! The loop of a shard's thread: wait, accept, turn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use breakwater_proto::Instant;
use breakwater_shard::{Batch, Clock as ClockReading, Driver as _, Event, Peer, Ready, Shard, TurnEnd};
use mio::{Events, Poll, Token};

use crate::accept::{Accepted, Acceptor};
use crate::bell::Bell;
use crate::clock::Clock;
use crate::node::Stop;
use crate::sockets::{Sockets, Transport};

/// What a loop drives: a [`Shard`], or a stand-in in tests.
pub trait Engine {
    /// Takes a fresh connection, reads from it in the next turn, and gives its slot; none at its bound, and the transport is
    /// dropped.
    fn accept(&mut self, sockets: &mut Sockets, peer: Peer, transport: Transport, now: Instant) -> Option<u32>;
    /// Notes that a connection is ready. Spurious calls are harmless.
    fn ready(&mut self, slot: u32, ready: Ready);
    /// Takes back a batch that another shard has emptied.
    fn reclaim(&mut self, batch: Box<Batch>);
    /// Does a bounded amount of work.
    fn turn(&mut self, sockets: &mut Sockets, clock: ClockReading) -> TurnEnd;
    /// Begins to say good-bye to all connections.
    fn shutdown(&mut self, sockets: &mut Sockets, now: Instant);
    /// Connections that are left.
    fn connections(&self) -> usize;
}

/// Token of the bell; listeners follow downwards, connections count up from 0.
pub(crate) const BELL: Token = Token(usize::MAX);
pub(crate) const LISTENERS: Token = Token(usize::MAX - 1);

/// Events taken from the kernel at once. More only wait for the next turn.
pub(crate) const EVENTS: usize = 1024;

/// A complaint about missing descriptors is repeated after that long at the earliest.
const COMPLAIN_MS: u64 = 10_000;

/// Everything that one shard's thread owns.
pub(crate) struct Loop<E> {
    pub(crate) engine: E,
    pub(crate) sockets: Sockets,
    pub(crate) acceptor: Acceptor,
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    pub(crate) bells: Arc<[Bell]>,
    pub(crate) shard: usize,
    pub(crate) stop: Arc<Stop>,
    pub(crate) accepts_per_turn: u32,
    /// Slots that became ready outside the poller, told to the engine at the next turn.
    pub(crate) told: Vec<(u32, Ready)>,
    /// Listeners, to tell their tokens from those of connections.
    pub(crate) listeners: usize,
    pub(crate) complain_at: u64,
    pub(crate) stopping: bool,
    /// This shard counts as idle in [`Stop`].
    pub(crate) idle: bool,
}

impl<E: Engine> Loop<E> {
    /// Runs until the node has stopped.
    pub(crate) fn run(mut self) {
        let mut end = TurnEnd { more: true, next: None };
        let mut now = Instant(0);
        loop {
            if let Err(fault) = self.wait(&end, now) {
                // A poller that fails is a bug or a kernel without memory: this shard can't go on, and half a node is worse
                // than a restart.
                panic!("polling failed: {fault}");
            }
            let (instant, unix_ms) = self.clock.read();
            now = instant;
            self.sockets.set_time(now, unix_ms);
            self.sockets.collect(|batch| self.engine.reclaim(batch));
            self.note_events();
            if self.stop.asked() && !self.stopping {
                self.stopping = true;
                self.acceptor.close();
                self.engine.shutdown(&mut self.sockets, now);
            }
            self.accept(now);
            end = self.engine.turn(&mut self.sockets, ClockReading { now, unix_ms });
            self.sockets.end_of_turn();
            self.sockets.watch_fresh(|slot, ready| self.told.push((slot, ready)));
            if self.stopping && self.has_finished(now) {
                return;
            }
        }
    }

    /// Waits for the next event, timer, mail or bell; not at all if there is work.
    fn wait(&mut self, end: &TurnEnd, now: Instant) -> io::Result<()> {
        let timeout = self.timeout(end, now);
        if timeout == Some(Duration::ZERO) {
            return self.poll_once(timeout);
        }
        let bell = &self.bells[self.shard];
        bell.lie_down();
        let awake = self.sockets.has_mail() || (self.stop.asked() && !self.stopping) || self.stop.all_idle();
        let result = self.poll_once(if awake { Some(Duration::ZERO) } else { timeout });
        self.bells[self.shard].get_up();
        result
    }

    fn poll_once(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn timeout(&self, end: &TurnEnd, now: Instant) -> Option<Duration> {
        if end.more || self.acceptor.is_ready() || !self.told.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = if self.stopping { Some(self.stop.deadline()) } else { None };
        let next = [end.next, self.acceptor.paused_until(), self.sockets.linger_next(), deadline]
            .into_iter()
            .flatten()
            .min()?;
        Some(Duration::from_millis(next.ms_since(now)))
    }

    fn note_events(&mut self) {
        for (slot, ready) in self.told.drain(..) {
            self.engine.ready(slot, ready);
        }
        for event in &self.events {
            let Token(token) = event.token();
            if let Ok(slot) = u32::try_from(token)
                && token < LISTENERS.0 - self.listeners
            {
                let error = event.is_error();
                let ready = Ready {
                    readable: event.is_readable() || error,
                    writable: event.is_writable(),
                    read_closed: event.is_read_closed() || error,
                };
                self.engine.ready(slot, ready);
            } else if token != BELL.0 {
                self.acceptor.edge(LISTENERS.0 - token);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..self.accepts_per_turn {
            match self.acceptor.accept(now) {
                Accepted::Connection(stream, peer) => self.welcome(stream, peer, now),
                Accepted::Full(stream, peer) => {
                    let reason = "the node has as many connections as limits.connections allows";
                    self.sockets.event(Event::Refused { peer, client: "", reason, code: QUOTA_EXCEEDED });
                    drop(stream);
                }
                Accepted::Nothing => return,
                Accepted::Starved(fault) => {
                    self.complain(&fault, now);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, stream: mio::net::TcpStream, peer: Peer, now: Instant) {
        if self.engine.accept(&mut self.sockets, peer, Sockets::transport(stream), now).is_none() {
            self.sockets.forget();
        }
    }

    fn complain(&mut self, fault: &io::Error, now: Instant) {
        if now.0 < self.complain_at {
            return;
        }
        self.complain_at = now.0 + COMPLAIN_MS;
        let text = format!(
            "can't accept connections for now: {fault}; raise the limit of open files (`ulimit -n`, or LimitNOFILE= of the \
             service) or lower limits.connections"
        );
        self.sockets.event(Event::Fault { text: &text });
    }

    /// Whether all shards have said good-bye to all, or the time for it is over.
    ///
    /// A shard is idle when it has no connection, none that lingers, and all its mail has been taken. Whoever took it handles it in the turn of
    /// that very reading, so that nothing is lost when all are idle.
    fn has_finished(&mut self, now: Instant) -> bool {
        let quiet = self.engine.connections() == 0 && self.sockets.linger_next().is_none();
        let idle = quiet && self.sockets.is_settled() && !self.sockets.has_mail();
        if idle != self.idle {
            self.idle = idle;
            if self.stop.set_idle(idle) {
                self.bells.iter().for_each(|bell| _ = bell.ring());
            }
        }
        self.stop.all_idle() || now >= self.stop.deadline()
    }
}

/// Reason code 0x97 of MQTT 5.0, for the journal.
const QUOTA_EXCEEDED: u8 = 0x97;

impl Engine for Shard<Transport> {
    fn accept(&mut self, sockets: &mut Sockets, peer: Peer, transport: Transport, now: Instant) -> Option<u32> {
        Self::accept(self, sockets, peer, transport, now)
    }

    fn ready(&mut self, slot: u32, ready: Ready) {
        Self::ready(self, slot, ready);
    }

    fn reclaim(&mut self, batch: Box<Batch>) {
        Self::reclaim(self, batch);
    }

    fn turn(&mut self, sockets: &mut Sockets, clock: ClockReading) -> TurnEnd {
        Self::turn(self, sockets, clock)
    }

    fn shutdown(&mut self, sockets: &mut Sockets, now: Instant) {
        Self::shutdown(self, sockets, now);
    }

    fn connections(&self) -> usize {
        Self::connections(self)
    }
}
