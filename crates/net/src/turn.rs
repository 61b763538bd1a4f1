//! The loop of a shard's thread: wait, accept, turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use breakwater_contract::{Command, Completion, Kicked, Revoked};
use breakwater_proto::{Instant, ReasonCode};
use breakwater_shard::{
    Batch, Clock as ClockReading, Driver as _, Event, Peer, Profile, Ready, Shard, ShardId, TurnEnd,
};
use mio::{Events, Poll};

use crate::accept::{Accepted, Acceptor, Arrival};
use crate::clock::Clock;
use crate::dock::Turned;
use crate::drain::Drains;
use crate::gate::{Gate, Yard};
use crate::known::Known;
use crate::listener::Ending;
use crate::node::Inner;
use crate::orders::{Order, Orders};
use crate::recheck::Rechecks;
use crate::refusal::Refusal;
use crate::roll::Terms;
use crate::sockets::{Sockets, Transport};
use crate::token::Watched;

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
    /// These are the terms of a listener's clients from here on.
    fn set_profile(&mut self, listener: u16, profile: Arc<Profile>) {
        let _ = (listener, profile);
    }
    /// Nothing is left of a listener: its number may come back with another meaning.
    fn forget_profile(&mut self, listener: u16) {
        let _ = listener;
    }
    /// Ends connections of a listener, at most so many. Gives the number of those that are left.
    fn drain(&mut self, sockets: &mut Sockets, listener: u16, at_most: usize, now: Instant) -> usize {
        let _ = (sockets, listener, at_most, now);
        0
    }
    /// Takes the answer of a slow plane.
    fn complete(&mut self, completion: Completion) {
        drop(completion);
    }
    /// Ends the connection of a client, and its session too if `discard`. Gives what was found.
    fn kick(
        &mut self,
        sockets: &mut Sockets,
        client_id: &str,
        reason: ReasonCode,
        discard: bool,
        now: Instant,
    ) -> Kicked {
        let _ = (sockets, client_id, reason, discard, now);
        Kicked::Unknown
    }
    /// Removes retained messages of these topics and revisions. Gives how many there were.
    fn unretain(&mut self, topics: &[(Box<str>, u64)], now: Instant) -> usize {
        let _ = (topics, now);
        0
    }
    /// Ends the connections of users, in the turns that come.
    fn revoke(&mut self, revoked: Arc<Revoked>) {
        drop(revoked);
    }
}

/// Events taken from the kernel at once. More only wait for the next turn.
pub(crate) const EVENTS: usize = 1024;

/// A complaint about missing descriptors is repeated after that long at the earliest.
const COMPLAIN_MS: u64 = 10_000;

/// Everything that one shard's thread owns.
pub(crate) struct Loop<E> {
    pub(crate) engine: E,
    pub(crate) sockets: Sockets,
    pub(crate) acceptor: Acceptor,
    pub(crate) gate: Gate,
    pub(crate) drains: Drains,
    pub(crate) known: Known,
    pub(crate) rechecks: Rechecks,
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    pub(crate) clock: Clock,
    pub(crate) node: Arc<Inner>,
    pub(crate) shard: usize,
    pub(crate) accepts_per_turn: u32,
    /// Slots that became ready outside the poller, told to the engine at the next turn.
    pub(crate) told: Vec<(u32, Ready)>,
    pub(crate) complain_at: u64,
    pub(crate) stopping: bool,
    /// This shard counts as idle in [`Stop`](crate::node::Stop).
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
            if self.orders().are_waiting() {
                self.take_orders(now);
            }
            if self.node.docks.has_news(self.shard as ShardId) {
                self.look_at_dock(now);
            }
            if self.node.stop.asked() && !self.stopping {
                self.stopping = true;
                self.acceptor.close();
                self.gate.close();
                self.engine.shutdown(&mut self.sockets, now);
            }
            self.accept(now);
            self.look_at_gate(now);
            self.drain(now);
            self.rechecks.work(&mut self.sockets, now);
            end = self.engine.turn(&mut self.sockets, ClockReading { now, unix_ms });
            self.sockets.end_of_turn();
            self.known.look(now, |listener| self.engine.forget_profile(listener));
            self.sockets.watch_fresh(|slot, ready| self.told.push((slot, ready)));
            self.node.turn_times[self.shard].note(self.clock.since());
            if self.stopping && self.has_finished(now) {
                self.orders().close();
                self.node.docks.close(self.shard as ShardId);
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
        self.node.bells[self.shard].lie_down();
        let stop = &self.node.stop;
        let told = (stop.asked() && !self.stopping) || stop.all_idle() || self.orders().are_waiting();
        let awake = told || self.sockets.has_mail() || self.node.docks.has_news(self.shard as ShardId);
        let result = self.poll_once(if awake { Some(Duration::ZERO) } else { timeout });
        self.node.bells[self.shard].get_up();
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
        if end.more || self.acceptor.is_ready(now) || self.gate.is_ready() || !self.told.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = if self.stopping { Some(self.node.stop.deadline()) } else { None };
        let rests = self.acceptor.rested_until();
        let ours =
            [self.gate.next(), self.drains.next(), self.known.next(), self.rechecks.next(), self.sockets.linger_next()];
        let all = [end.next, rests, deadline].into_iter().chain(ours);
        let next = all.flatten().min()?;
        Some(Duration::from_millis(next.ms_since(now)))
    }

    fn note_events(&mut self) {
        for (slot, ready) in self.told.drain(..) {
            self.engine.ready(slot, ready);
        }
        for event in &self.events {
            match Watched::of(event.token()) {
                Watched::Connection(slot) => {
                    let error = event.is_error();
                    let ready = Ready {
                        readable: event.is_readable() || error,
                        writable: event.is_writable() && self.sockets.writable(slot),
                        read_closed: event.is_read_closed() || error,
                    };
                    self.engine.ready(slot, ready);
                }
                Watched::Ear(ear) => self.acceptor.edge(ear),
                Watched::Gate(place) => self.gate.edge(place, event.is_read_closed() || event.is_error()),
                Watched::Bell => {}
            }
        }
    }

    fn orders(&self) -> &Orders {
        &self.node.orders[self.shard]
    }

    fn take_orders(&mut self, now: Instant) {
        for order in self.orders().take() {
            match order {
                Order::Terms { listener, terms, done: _done } => {
                    self.engine.set_profile(listener.number, Arc::clone(&terms.options.profile));
                    self.known.note(&listener);
                    self.rechecks.add(&listener, &terms, now);
                    if let Err(fault) = self.acceptor.change(&listener, &terms) {
                        self.unset(&terms, &fault);
                    }
                }
                // Whoever stops listens no more.
                Order::Listen(_) if self.stopping => {}
                Order::Listen(ear) => {
                    let name = ear.listener.standing.name.clone();
                    if let Err(fault) = self.acceptor.add(*ear, self.poll.registry()) {
                        self.fault(&format!(
                            "listener {name}: shard {} can't watch a socket of it: {fault}",
                            self.shard
                        ));
                    }
                }
                Order::Hand { place, listener, terms } => {
                    if let Err(fault) = self.acceptor.hand(place, &listener, &terms) {
                        self.unset(&terms, &fault);
                    }
                }
                Order::Silence { place, at_once, done } => {
                    self.known.stir();
                    self.acceptor.silence(place, at_once, done);
                }
                Order::End(_, Ending::Keep) => {}
                Order::End(listener, ending) => {
                    self.known.stir();
                    let over_ms = if let Ending::Drain { over_ms } = ending { over_ms } else { 0 };
                    self.gate.dismiss(&listener);
                    self.drains.add(listener, now, over_ms);
                }
                Order::Shaken(done) => {
                    let Self { gate, sockets, poll, node, .. } = self;
                    gate.shaken(*done, &mut Yard { sockets, registry: poll.registry(), node, now });
                }
                Order::Command(command, done) => self.obey(command, done, now),
                Order::Unretain(topics, done) => _ = done.send(self.engine.unretain(&topics, now)),
                Order::Complete(completion) => self.engine.complete(completion),
            }
        }
    }

    fn obey(&mut self, command: Command, done: Option<Sender<Kicked>>, now: Instant) {
        match command {
            Command::Kick { client_id, reason, discard } => {
                let kicked = self.engine.kick(&mut self.sockets, &client_id, reason, discard, now);
                // Nobody listens: it was only asked to be done.
                done.map(|done| done.send(kicked));
            }
            Command::Revoke(revoked) => self.engine.revoke(revoked),
        }
    }

    /// Takes what other threads have left: connections, and word of those that are ready.
    fn look_at_dock(&mut self, now: Instant) {
        let left = self.node.docks.take(self.shard as ShardId);
        if !left.arrivals.is_empty() && self.orders().are_waiting() {
            // The terms of their listener may be among them.
            self.take_orders(now);
        }
        for pipe in left.ready {
            if let Some((slot, ready)) = pipe.take_told(self.shard as ShardId) {
                self.engine.ready(slot, ready);
            }
        }
        for (peer, transport) in left.arrivals {
            admit(&mut self.engine, &mut self.sockets, peer, transport, now);
        }
        for Turned { standing, peer, refusal, detail } in left.turned {
            self.sockets.refused(&standing, peer, refusal, &detail);
        }
    }

    /// Ends connections of listeners that are to have none.
    fn drain(&mut self, now: Instant) {
        while let Some(portion) = self.drains.portion(now, |listener| self.sockets.connections_of(listener)) {
            let left = self.engine.drain(&mut self.sockets, portion.listener, portion.at_most, now);
            self.drains.left(&portion, left, now);
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..self.accepts_per_turn {
            match self.acceptor.accept(now) {
                Accepted::Connection(arrival) => self.welcome(arrival, now),
                Accepted::Refused(stream, peer, listener, refusal) => {
                    self.sockets.refused(&listener.standing, peer, refusal, "");
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

    /// Hands a fresh connection on: one that is MQTT from its first byte to the engine, any other to the gate.
    fn welcome(&mut self, arrival: Arrival, now: Instant) {
        let Arrival { stream, peer, pass, terms } = arrival;
        if let Some(terms) = terms {
            let Self { gate, sockets, poll, node, .. } = self;
            return gate.arrive(stream, peer, pass, terms, &mut Yard { sockets, registry: poll.registry(), node, now });
        }
        admit(&mut self.engine, &mut self.sockets, peer, Sockets::transport(stream, pass), now);
    }

    /// Lets those in who have passed the gate.
    fn look_at_gate(&mut self, now: Instant) {
        if !self.gate.is_ready() && self.gate.next().is_none_or(|next| next > now) {
            return;
        }
        let Self { engine, gate, sockets, poll, node, .. } = self;
        let mut yard = Yard { sockets, registry: poll.registry(), node, now };
        gate.look(&mut yard, |sockets, peer, transport| admit(engine, sockets, peer, transport, now));
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
        self.fault(&text);
    }

    fn unset(&mut self, terms: &Terms, fault: &io::Error) {
        self.fault(&format!("listener {}: can't set its sockets up anew: {fault}", terms.options.name));
    }

    fn fault(&mut self, text: &str) {
        self.sockets.event(Event::Fault { text });
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
            if self.node.stop.set_idle(idle) {
                self.node.bells.iter().for_each(|bell| _ = bell.ring());
            }
        }
        self.node.stop.all_idle() || now >= self.node.stop.deadline()
    }
}

fn admit<E: Engine>(engine: &mut E, sockets: &mut Sockets, peer: Peer, transport: Transport, now: Instant) {
    let standing = Arc::clone(&transport.pass().listener().standing);
    match engine.accept(sockets, peer, transport, now) {
        Some(_) => _ = standing.accepted.fetch_add(1, Ordering::Relaxed),
        None => sockets.refused(&standing, peer, Refusal::NoRoom, ""),
    }
}

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

    fn set_profile(&mut self, listener: u16, profile: Arc<Profile>) {
        Self::set_profile(self, listener, profile);
    }

    fn forget_profile(&mut self, listener: u16) {
        Self::forget_profile(self, listener);
    }

    fn drain(&mut self, sockets: &mut Sockets, listener: u16, at_most: usize, now: Instant) -> usize {
        Self::drain(self, sockets, Some(listener), at_most, now)
    }

    fn complete(&mut self, completion: Completion) {
        Self::complete(self, completion);
    }

    fn kick(
        &mut self,
        sockets: &mut Sockets,
        client_id: &str,
        reason: ReasonCode,
        discard: bool,
        now: Instant,
    ) -> Kicked {
        Self::kick(self, sockets, client_id, reason, discard, now)
    }

    fn unretain(&mut self, topics: &[(Box<str>, u64)], now: Instant) -> usize {
        Self::unretain(self, topics, now)
    }

    fn revoke(&mut self, revoked: Arc<Revoked>) {
        Self::revoke(self, revoked);
    }
}
