//! Queues of which a part is in the store alone: what is read of them, and when.
//!
//! Of such a queue the front is in memory; what comes is put behind in the store. When the front grows short and its client is
//! there, the next messages are read, without anybody waiting for it.
//!
//! Messages that another shard has stored ([`forward`](crate::forward)) may come later than others with greater positions. So a
//! queue remembers which stretches of the log it has read: what lies in one of them came with it.

use std::collections::{BTreeMap, BTreeSet};

use breakwater_contract::store::{Answer, Change, Position, Question, Queued, SessionNumber, Submitted, Terms};
use breakwater_contract::{Metric, Token};
use breakwater_session::{Delivery, DropReason, Kept, Note};

use crate::conn::NONE;
use crate::driver::Driver;
use crate::kept::Place;
use crate::replay::follow::FOLLOWER;
use crate::replay::trim::TRIMMER;
use crate::shard::Shard;

/// What is read at once.
const READ_MESSAGES: usize = 512;
const READ_BYTES: usize = 256 * 1024;
/// A queue in memory that is shorter than this is read on.
const SHORT: usize = 64;
/// Messages that have given way are forgotten so many at a time while nobody reads.
const EXCESS: u32 = 256;
/// Stretches that are remembered. What comes from another shard comes within the turn of that shard.
const STRETCHES: usize = 8;

/// By slot of the session.
pub(crate) type Tails = BTreeMap<u32, Tail>;

/// What is known of the part of a queue that is in the store alone.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Stretches of the log that were read: behind the first position, up to the second.
    read: Vec<(Position, Position)>,
    /// The last of them is to be read on.
    open: bool,
    /// It begins at this message, if its place was not known.
    first: Option<Kept>,
    /// The last batch that put something behind.
    until: u64,
    /// A question is under way.
    asked: bool,
    /// Something came behind meanwhile that the answer may not know.
    again: bool,
    /// What was asked may not know of batches that were answered later than this.
    knows: u64,
    /// When that much was answered, there was nothing more to read.
    empty_at: Option<u64>,
    /// Came from another shard while it was not known where the part behind begins: not to be taken twice.
    also: BTreeSet<Position>,
    /// QoS 2 deliveries that an earlier life has begun, by the position of their messages.
    missing: BTreeMap<Position, u16>,
    /// The next so many messages may have been sent by an earlier life.
    begun: u32,
}

impl Tail {
    /// What a start has found.
    pub(crate) fn from_start(missing: BTreeMap<Position, u16>, begun: u32) -> Self {
        let read = vec![(Position(0), Position(0))];
        Self { read, open: true, missing, begun, ..Self::default() }
    }

    /// Up to where it was read.
    fn cursor(&self) -> Position {
        self.read.last().map_or(Position(0), |stretch| stretch.1)
    }

    /// Whether a message at this position was read, or is going to be.
    fn has(&self, position: Position) -> Comes {
        if self.read.iter().any(|(from, to)| *from < position && position <= *to) {
            Comes::Read
        } else if self.open && position > self.cursor() {
            Comes::Behind
        } else {
            Comes::New
        }
    }
}

/// How a message that is in the store already comes to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// It was read before it came.
    Read,
    /// It will be read.
    Behind,
    New,
}

impl<T: Send> Shard<T> {
    /// How a message that is in the store already comes to the queue of a session.
    pub(crate) fn comes(&mut self, session: u32, position: Position) -> Comes {
        let Some(tail) = self.durable.tails.get_mut(&session) else { return Comes::New };
        let comes = tail.has(position);
        match comes {
            Comes::Behind if tail.first.is_some() => {
                tail.also.insert(position);
                Comes::New
            }
            Comes::Behind => {
                tail.empty_at = None;
                tail.again |= tail.asked;
                comes
            }
            Comes::Read | Comes::New => comes,
        }
    }

    /// A message of this queue is in the store alone.
    pub(crate) fn put_behind(&mut self, session: u32, kept: Kept, position: Option<Position>) {
        let next_batch = self.durable.next_batch();
        let tail = self.durable.tails.entry(session).or_default();
        if !tail.open {
            tail.open = true;
            match position {
                Some(position) => tail.begin(position),
                None => {
                    self.durable.kept.hold(kept);
                    tail.first = Some(kept);
                }
            }
        }
        if position.is_none() {
            tail.until = next_batch;
        }
        self.read_on_tail(session);
    }

    /// Reads on if the queue in memory has grown short, or if too many of its messages have given way.
    pub(crate) fn read_on_tail(&mut self, session: u32) {
        let answered = self.durable.answered();
        let Some(tail) = self.durable.tails.get_mut(&session) else { return };
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let excess = resident.session.excess();
        let is_there = resident.conn != NONE;
        let is_wanted = is_there && tail.open && resident.session.queue_len() < SHORT;
        if tail.asked || !(is_wanted || excess >= EXCESS) {
            return;
        }
        if let Some(first) = tail.first {
            match self.durable.kept.place(first) {
                Place::Unknown => return self.durable.tail_waits.push(session),
                Place::At(position) => tail.begin(position),
                // Behind all that is known: what comes is behind that.
                Place::Lost => {
                    let given = resident.lasting.as_deref().map_or(Position(0), |lasting| lasting.kept_last);
                    let known = self.durable.last.max(tail.cursor()).max(given);
                    tail.begin(Position(known.0 + 1));
                }
            }
            tail.first = None;
            self.durable.kept.release(first);
        }
        if excess == 0 && tail.empty_at == Some(answered) {
            return self.durable.tail_waits.push(session);
        }
        let Some(tail) = self.durable.tails.get_mut(&session) else { return };
        let (session_number, after) = (resident.number(), tail.cursor());
        let question = if excess > 0 {
            Question::Entries { session: session_number, after, entries_max: excess as usize }
        } else {
            Question::Queue { session: session_number, after, messages_max: READ_MESSAGES, bytes_max: READ_BYTES }
        };
        let generation = self.sessions.generation(session).unwrap_or(0);
        let token = Token { shard: self.id, slot: session, generation, sequence: 0 };
        let Some(store) = self.durable.store() else { return };
        self.durable.mark_asked(session);
        if store.ask(token, question) == Submitted::Refused {
            // Tried again within a second.
            self.durable.unmark_asked(session);
            self.durable.tail_waits.push(session);
        }
    }

    /// A batch is answered, or a second is over: who waits for what was written may read it now.
    pub(crate) fn tails_may_go_on(&mut self) {
        for session in std::mem::take(&mut self.durable.tail_waits) {
            self.read_on_tail(session);
        }
    }

    /// The store has answered.
    pub(crate) fn on_read<D: Driver<Transport = T>>(&mut self, driver: &mut D, token: Token, answer: Answer) {
        let session = token.slot;
        if session == NONE {
            return self.on_estate_read(driver, token.generation, answer);
        }
        if self.sessions.generation(session) != Some(token.generation) {
            return match session {
                FOLLOWER => self.on_follower_read(driver, token, answer),
                TRIMMER => self.on_trim_read(&answer),
                _ => {}
            };
        }
        let Some(number) = self.sessions.get(session).map(|resident| resident.number()) else { return };
        self.durable.unmark_asked(session);
        match answer {
            Answer::Queue { messages, more } => self.take_queue_back(session, number, messages, more),
            Answer::Entries { entries, .. } => {
                let positions: Vec<Position> = entries.into_iter().map(|(position, _)| position).collect();
                let Some(tail) = self.durable.tails.get_mut(&session) else { return };
                if let Some(last) = positions.last() {
                    tail.advance(*last);
                }
                let positions: Vec<_> = positions.into_iter().filter(|at| !tail.missing.contains_key(at)).collect();
                if let Some(resident) = self.sessions.get_mut(session) {
                    let excess = resident.session.take_excess();
                    // Others have given way while the store looked.
                    resident.session.add_excess(excess.saturating_sub(positions.len() as u32));
                }
                if !positions.is_empty() {
                    let room = positions.len() * 8;
                    let asks = self.durability_of(session);
                    self.record(Change::Forget { session: number, messages: positions }, room, false, asks);
                }
            }
            // Tried again within a second.
            _ => return self.durable.tail_waits.push(session),
        }
        self.account(session);
        self.pump_session(session);
        self.read_on_tail(session);
    }

    fn take_queue_back(&mut self, session: u32, number: SessionNumber, messages: Vec<Queued>, more: bool) {
        for Queued { position, terms, message, unix_ms } in messages {
            let Some(tail) = self.durable.tails.get_mut(&session) else { return };
            tail.advance(position);
            if tail.also.remove(&position) {
                continue;
            }
            let flight = tail.missing.remove(&position);
            let sent = flight.is_none() && tail.begun > 0;
            tail.begun -= u32::from(sent);
            let Some(message) = message else {
                self.counters.bump(Metric::DroppedGone);
                self.lose_one(session, number, position);
                continue;
            };
            if flight.is_none() && message.expires_at().is_some_and(|at| at <= self.now) {
                self.report.drops.count(DropReason::Expired);
                self.lose_one(session, number, position);
                continue;
            }
            let age_s = u32::try_from(self.unix_ms.saturating_sub(unix_ms) / 1000).unwrap_or(u32::MAX);
            let profile = self.sessions.get(session).map_or(0, |resident| resident.profile);
            let age_max_s = self.profiles.limits(profile).queue_age_max_s;
            if flight.is_none() && age_max_s > 0 && age_s > age_max_s {
                self.report.drops.count(DropReason::TooOld);
                self.lose_one(session, number, position);
                continue;
            }
            if let Some(lasting) = self.sessions.get_mut(session).and_then(|resident| resident.lasting.as_deref_mut()) {
                lasting.kept_last = lasting.kept_last.max(position);
            }
            let mut ids = std::mem::take(&mut self.ids);
            self.ids_of(session, terms, message.topic(), &mut ids);
            let kept = self.durable.kept.open(Place::At(position));
            let Terms { qos, retain, shared, .. } = terms;
            let delivery = Delivery { qos, retain, subscription_ids: &ids, shared, kept, ..Delivery::default() };
            if let Some(resident) = self.sessions.get_mut(session) {
                match flight {
                    Some(packet_id) => {
                        resident.session.leave_behind(1, 0);
                        resident.session.fill(packet_id, message, &delivery);
                    }
                    None => {
                        let clock = (self.now, self.profiles.limits(profile));
                        resident.session.take_back(message, &delivery, (sent, age_s), clock);
                    }
                }
            }
            self.ids = ids;
        }
        let Some(tail) = self.durable.tails.get_mut(&session) else { return };
        if more || std::mem::take(&mut tail.again) {
            return;
        }
        if tail.knows < tail.until {
            tail.empty_at = Some(tail.knows);
            return;
        }
        tail.open = false;
        tail.also.clear();
        tail.begun = 0;
        let is_lost = !std::mem::take(&mut tail.missing).is_empty();
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.session.join();
        if is_lost {
            for packet_id in resident.session.give_up_missing() {
                self.counters.bump(Metric::DroppedGone);
                self.note(session, Note::Finished { packet_id });
            }
        }
    }

    /// A message of the queue comes to nothing.
    fn lose_one(&mut self, session: u32, number: SessionNumber, position: Position) {
        if let Some(resident) = self.sessions.get_mut(session) {
            resident.session.leave_behind(1, 0);
        }
        let kept = self.durable.kept.open(Place::At(position));
        self.forget(number, kept, self.durability_of(session));
    }

    /// Subscription Identifiers with which a message goes out that was in the store alone.
    fn ids_of(&mut self, session: u32, terms: Terms, topic: &str, ids: &mut Vec<u32>) {
        ids.clear();
        if terms.more_ids {
            let who = self.subscriber_of(session);
            self.router.matches(self.id, topic, &mut self.matches);
            if let Some(index) = self.matches.few.iter().position(|target| target.subscriber == who) {
                self.matches.subscription_ids(index, false, ids);
            }
        }
        if ids.is_empty() && terms.subscription_id != 0 {
            ids.push(terms.subscription_id);
        }
    }

    /// A session may go on with its queue.
    pub(crate) fn pump_session(&mut self, session: u32) {
        let Some(slot) = self.sessions.get(session).map(|resident| resident.conn) else { return };
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.pump = true;
            self.mark_dirty(slot);
        }
    }

    /// A quiet moment: what was read long ago need not be remembered.
    pub(crate) fn forget_tail_of(&mut self, session: u32) {
        if self.durable.tails.get(&session).is_some_and(|tail| !tail.open) {
            self.durable.tails.remove(&session);
        }
    }

    /// A session ends: what is in memory of it lets go of its messages.
    pub(crate) fn let_go(&mut self, session: u32) {
        if let Some(tail) = self.durable.tails.remove(&session)
            && let Some(first) = tail.first
        {
            self.durable.kept.release(first);
        }
        let Some(resident) = self.sessions.get(session) else { return };
        let kept = &mut self.durable.kept;
        resident.session.each_kept(|message| kept.release(message));
    }
}

impl Tail {
    /// The part behind begins with the message at this position.
    fn begin(&mut self, position: Position) {
        let before = Position(position.0.saturating_sub(1));
        if self.read.len() == STRETCHES {
            self.read.remove(0);
        }
        self.read.push((before, before));
        self.also.retain(|also| *also > position);
        self.empty_at = None;
    }

    fn advance(&mut self, position: Position) {
        if let Some(stretch) = self.read.last_mut() {
            stretch.1 = stretch.1.max(position);
        }
    }
}

impl crate::durable::Durable {
    fn mark_asked(&mut self, session: u32) {
        let answered = self.answered();
        if let Some(tail) = self.tails.get_mut(&session) {
            (tail.asked, tail.knows, tail.again) = (true, answered, false);
        }
    }

    fn unmark_asked(&mut self, session: u32) {
        if let Some(tail) = self.tails.get_mut(&session) {
            tail.asked = false;
        }
    }
}
