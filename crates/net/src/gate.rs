//! The gate: where a connection stands that is not MQTT from its first byte.
//!
//! One per shard, on its thread. Before anybody is let in, a PROXY header is read, TLS is agreed on, and a WebSocket is made
//! of an HTTP request, in the order in which they stand on the wire, all within one deadline and with bounded buffers.
//! Whoever fails is turned away with one counted reason.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use breakwater_contract::Visit;
use breakwater_proto::Instant;
use breakwater_shard::Peer;
use breakwater_transport::layers::{Layers, Scratch};
use breakwater_transport::upgrade;
use mio::net::TcpStream;
use mio::{Interest, Registry};

use crate::handover::Handed;
use crate::node::Inner;
use crate::pool::{Done, Job, PER_SHARD};
use crate::refusal::Refusal;
use crate::roll::{Listener, Pass, Terms};
use crate::sockets::{Sockets, Transport};
use crate::token::Watched;

mod guest;
pub(crate) mod words;

use guest::{Guest, Line, Step};

/// Those at the gate of one shard.
pub(crate) struct Gate {
    shard: usize,
    places: Vec<Place>,
    free: Vec<u32>,
    /// In the order in which something happened to them.
    ready: VecDeque<(u32, u32)>,
    /// Those who wait for a thread that shakes hands, in order.
    waiting: VecDeque<(u32, u32)>,
    /// Steps of handshakes that are under way elsewhere.
    shaking: usize,
    /// Those among them that are still to be handed in, together.
    jobs: Vec<Job>,
    /// Looks that are left in this turn.
    looks: usize,
    deadlines: BTreeSet<(Instant, u32)>,
    /// For what is read; no memory before the first guest.
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Place {
    /// Of its guest: word of an earlier one meets nobody.
    generation: u32,
    guest: Option<Box<Guest>>,
}

/// What a visit of all who are ready needs from outside.
pub(crate) struct Yard<'a> {
    pub(crate) sockets: &'a mut Sockets,
    pub(crate) registry: &'a Registry,
    pub(crate) node: &'a Arc<Inner>,
    pub(crate) now: Instant,
}

/// Guests that are looked at in one turn. The rest keep their order.
const LOOKS: usize = 256;
/// The end of a handshake takes as long as so many other looks, some 20 µs: a turn has time for a few.
const LAST_WORD: usize = 16;
/// Steps of one guest before others have theirs.
const STEPS: usize = 8;
/// Guests of one shard. Each has a socket and a few hundred bytes; most of them only wait.
const GUESTS_MAX: usize = 32_768;
/// Bytes read at once.
const BUFFER: usize = 16 * 1024;
/// If the listener says nothing of its own.
const DEADLINE_MS: u64 = 15_000;

impl Gate {
    pub(crate) fn new(shard: usize) -> Self {
        Self {
            shard,
            places: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            shaking: 0,
            looks: 0,
            jobs: Vec::new(),
            deadlines: BTreeSet::new(),
            buffer: Vec::new(),
        }
    }

    /// Takes a connection that was just accepted.
    pub(crate) fn arrive(
        &mut self,
        mut stream: TcpStream,
        peer: Peer,
        pass: Pass,
        terms: Arc<Terms>,
        yard: &mut Yard<'_>,
    ) {
        let standing = Arc::clone(&pass.listener().standing);
        if let Err(detail) = guest::may_stand(&terms, peer) {
            return yard.sockets.refused(&standing, peer, Refusal::Proxy, &detail);
        }
        if self.places.len() - self.free.len() >= GUESTS_MAX {
            return yard.sockets.refused(&standing, peer, Refusal::Overload, "too many connections at the gate");
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let token = Watched::Gate(number).token();
        if yard.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            self.free.push(number);
            return yard.sockets.refused(&standing, peer, Refusal::NoRoom, "it can't be watched");
        }
        let limit = match terms.options.handshake_timeout_ms {
            0 => DEADLINE_MS,
            limit => limit,
        };
        let deadline = yard.now.plus_ms(limit);
        self.deadlines.insert((deadline, number));
        self.places[number as usize].guest = Some(Box::new(Guest::new(stream, peer, pass, terms, deadline)));
        // Its first bytes may be there already; else an edge will tell.
        self.call(number);
    }

    /// Notes an edge. One about a guest that is gone does no harm to another in its place.
    pub(crate) fn edge(&mut self, number: u32, read_closed: bool) {
        if let Some(Place { guest: Some(guest), .. }) = self.places.get_mut(number as usize) {
            guest.read_closed |= read_closed;
            self.call(number);
        }
    }

    /// Takes the result of a step of a handshake.
    pub(crate) fn shaken(&mut self, done: Done, yard: &mut Yard<'_>) {
        self.shaking -= 1;
        let number = done.place;
        let Some(place) = self.places.get_mut(number as usize) else { return };
        if place.generation != done.generation {
            return;
        }
        let Some(guest) = &mut place.guest else { return };
        match guest.shaken(done.shook) {
            Step::Again => self.call(number),
            step => self.settle(number, step, yard),
        }
    }

    /// Whether somebody is to be looked at.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty() || (!self.waiting.is_empty() && self.shaking < PER_SHARD)
    }

    /// When the time of the next one is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Looks at those who are ready, and turns away those whose time is over. Whoever may come in goes to `admit`.
    pub(crate) fn look(&mut self, yard: &mut Yard<'_>, mut admit: impl FnMut(&mut Sockets, Peer, Transport)) {
        self.take_waiting();
        self.looks = LOOKS.min(self.ready.len());
        while let Some(left) = self.looks.checked_sub(1)
            && let Some((number, generation)) = self.ready.pop_front()
        {
            self.looks = left;
            if let Some(admitted) = self.visit(number, generation, yard) {
                admit(yard.sockets, admitted.0, admitted.1);
            }
        }
        yard.node.pool.submit(yard.node, &mut self.jobs);
        while let Some((deadline, number)) = self.deadlines.first().copied()
            && deadline <= yard.now
        {
            let waits_for = self.places[number as usize].guest.as_ref().map_or("", |guest| guest.waits_for());
            self.settle(number, Step::refuse(Refusal::TimedOut, waits_for), yard);
        }
    }

    /// Lets go of all guests of a listener.
    pub(crate) fn dismiss(&mut self, listener: &Listener) {
        for number in 0..self.places.len() as u32 {
            let guest = self.places[number as usize].guest.as_ref();
            if guest.is_some_and(|guest| guest.pass.listener().number == listener.number) {
                self.leave(number);
            }
        }
    }

    /// Lets go of all guests.
    pub(crate) fn close(&mut self) {
        for number in 0..self.places.len() as u32 {
            self.leave(number);
        }
    }

    /// Puts a guest into the list of those to look at, once.
    fn call(&mut self, number: u32) {
        let place = &mut self.places[number as usize];
        if let Some(guest) = &mut place.guest
            && !std::mem::replace(&mut guest.called, true)
        {
            self.ready.push_back((number, place.generation));
        }
    }

    /// As many of those who wait for a thread as there is room for have their turn.
    fn take_waiting(&mut self) {
        for _ in self.shaking..PER_SHARD {
            let Some((number, generation)) = self.waiting.pop_front() else { return };
            let place = &mut self.places[number as usize];
            if place.generation == generation
                && let Some(guest) = &mut place.guest
            {
                guest.line = Line::Turn;
                self.call(number);
            }
        }
    }

    fn visit(&mut self, number: u32, generation: u32, yard: &mut Yard<'_>) -> Option<(Peer, Transport)> {
        let place = self.places.get_mut(number as usize)?;
        if place.generation != generation {
            return None;
        }
        let guest = place.guest.as_mut()?;
        guest.called = false;
        self.buffer.resize(BUFFER, 0);
        // Nobody overtakes those who wait.
        let room = match guest.line {
            Line::None => self.shaking < PER_SHARD && self.waiting.is_empty(),
            Line::Waits => false,
            Line::Turn => self.shaking < PER_SHARD,
        };
        let mut step = Step::Again;
        for _ in 0..STEPS {
            if !matches!(step, Step::Again) {
                break;
            }
            step = guest.step(&mut self.buffer, room, &yard.node.challenges);
        }
        if std::mem::take(&mut guest.computed) {
            self.looks = self.looks.saturating_sub(LAST_WORD);
        }
        match step {
            Step::Admit(extra) => {
                let mut guest = self.leave(number)?;
                // Watched again by the engine, under another name.
                let _ = yard.registry.deregister(&mut guest.stream);
                Some((guest.peer, Sockets::transport_with(guest.stream, extra, guest.pass)))
            }
            Step::Queue => {
                if guest.line != Line::Waits {
                    guest.line = Line::Waits;
                    self.waiting.push_back((number, generation));
                }
                None
            }
            Step::Shake { tls, bytes } => {
                guest.line = Line::None;
                self.shaking += 1;
                let terms = Arc::clone(&guest.terms);
                self.jobs.push(Job { shard: self.shard, place: number, generation, tls, bytes, terms });
                None
            }
            Step::Again => {
                self.call(number);
                None
            }
            step => {
                self.settle(number, step, yard);
                None
            }
        }
    }

    /// Ends the stay of a guest that does not become a connection of the engine, if it is to end.
    fn settle(&mut self, number: u32, step: Step, yard: &mut Yard<'_>) {
        match step {
            Step::Refuse { refusal, detail, words } => {
                let Some(mut guest) = self.leave(number) else { return };
                yard.sockets.refused(&guest.pass.listener().standing, guest.peer, refusal, &detail);
                if !words.is_empty() {
                    let _ = yard.registry.deregister(&mut guest.stream);
                    yard.sockets.dismiss(guest.stream, words);
                }
            }
            Step::Proved(words) => {
                let Some(mut guest) = self.leave(number) else { return };
                let _ = yard.registry.deregister(&mut guest.stream);
                yard.sockets.dismiss(guest.stream, words);
            }
            Step::Http { layers, encrypted } => {
                let Some(guest) = self.leave(number) else { return };
                hand_over(*guest, *layers, encrypted, yard);
            }
            _ => {}
        }
    }

    /// Frees a place.
    fn leave(&mut self, number: u32) -> Option<Box<Guest>> {
        let place = &mut self.places[number as usize];
        let guest = place.guest.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(number);
        self.deadlines.remove(&(guest.deadline, number));
        if self.free.len() == self.places.len() {
            // Nobody is here: whoever is named in these lists has left.
            self.ready = VecDeque::new();
            self.waiting = VecDeque::new();
            self.buffer = Vec::new();
        }
        Some(guest)
    }
}

fn hand_over(mut guest: Guest, mut layers: Layers, encrypted: bool, yard: &mut Yard<'_>) {
    let _ = yard.registry.deregister(&mut guest.stream);
    let standing = Arc::clone(&guest.pass.listener().standing);
    let Some(handoff) = yard.node.handoff.get() else {
        let refusal = upgrade::Refusal::WrongPath;
        yard.sockets.refused(&standing, guest.peer, Refusal::WebSocket, refusal.text());
        let answer = refusal.answer(&guest.terms.options.websocket.path);
        let mut scratch = Scratch::default();
        // A socket that takes nothing so early belongs to nobody who would read it.
        let _ = layers.write(&mut guest.stream, &mut scratch, &answer);
        let words = layers.last_words(&mut scratch);
        return yard.sockets.dismiss(guest.stream, words);
    };
    let (peer, direct, listener) = (guest.peer.address, guest.peer.direct, standing.name.clone());
    standing.accepted.fetch_add(1, Ordering::Relaxed);
    let stream = Box::new(Handed::new(guest.stream, layers, guest.pass));
    handoff.http(Visit { stream, peer, direct, encrypted, listener });
}
