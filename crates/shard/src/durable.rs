//! What has to outlast the process: the changes of a turn go to the store as one batch, and acknowledgements that promise them
//! wait for its answer. Reading goes on meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use breakwater_contract::store::{
    Change, Durability, MessageAt, OutboundState, Position, Retained, SessionNumber, Store, Submitted,
};
use breakwater_contract::{Metric, Token};
use breakwater_proto::{Instant, Message, QoS, ReasonCode, encode_pubcomp};
use breakwater_session::{AckTicket, Kept, Note};

use crate::conn::{Cause, NONE, hold};
use crate::driver::Driver;
use crate::estate::{Estates, HandedOver};
use crate::forward::Held;
use crate::keeping::Keeping;
use crate::kept::{KeptMessages, Place};
use crate::lasting::Promised;
use crate::mail::Receipt;
use crate::replay::seam::SeamPromise;
use crate::shard::{NEVER, Shard, later};
use crate::tail::Tails;

/// What nobody waits for goes after so many milliseconds at the latest: with the sync behind it, within a second.
const UNHURRIED_MS: u64 = 500;
/// A batch that has grown so far goes before the turn ends.
const BATCH_BYTES: usize = 1 << 20;
/// A store that has not answered by then has failed: a client is told so rather than left waiting for ever.
const PATIENCE_MS: u64 = 30_000;
/// What a change takes that is a few numbers.
pub(crate) const NOTE_BYTES: usize = 24;

/// What one shard has for the store, and what it has promised.
pub(crate) struct Durable {
    /// None: nothing outlasts the process, and nothing is handed in.
    store: Option<Arc<dyn Store>>,
    /// What is promised of what belongs to no client.
    pub(crate) durability: Durability,
    /// Messages that it has, or will have.
    pub(crate) kept: KeptMessages,
    /// The message that is being delivered.
    pub(crate) keeping: Keeping,
    /// Pools that were made in the store from here: in which batch, and in which one last.
    pub(crate) pools_written: BTreeMap<SessionNumber, (u64, u64)>,
    /// What sessions have left behind.
    pub(crate) estates: Estates,
    /// Queues of which a part is in the store alone.
    pub(crate) tails: Tails,
    /// Those that wait for the store, or for the next second.
    pub(crate) tail_waits: Vec<u32>,
    /// Bytes of messages that wait until they may be forwarded.
    pub(crate) held_bytes: usize,
    /// Messages of the next batch.
    messages: Vec<Kept>,
    /// What sessions owe no longer; those of them whose place is not known wait for it.
    forgets: Vec<(SessionNumber, Kept)>,
    /// The strongest that these ask for.
    forgets_ask: Durability,
    /// What waits for the place of a message, or for the next second.
    late: Vec<(u32, u32, Note)>,
    /// The last position that was answered.
    pub(crate) last: Position,
    /// The last batch that was answered, and the last one that was not stored.
    answered: u64,
    failed: u64,
    /// The next batch.
    changes: Vec<Change>,
    bytes: usize,
    /// The strongest that its changes ask for: it holds for all of them.
    asks: Durability,
    promises: Vec<Promise>,
    /// When it goes at the latest.
    due: Instant,
    under_way: VecDeque<Batch>,
    sequence: u64,
    recorded: u64,
    /// Promises of batches that the store did not take, until the turn ends.
    broken: Vec<Promise>,
}

struct Batch {
    sequence: u64,
    changes: u64,
    promises: Vec<Promise>,
    messages: Vec<Kept>,
    forgets: Vec<(SessionNumber, Kept)>,
    until: Instant,
}

/// A moment of what is recorded.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    /// Changes so far.
    pub(crate) recorded: u64,
    /// The next one is in this batch or a later one.
    pub(crate) batch: u64,
}

/// What waits for a batch.
pub(crate) enum Promise {
    /// PUBACK or PUBREC.
    Acknowledgement {
        session: u32,
        /// Of the session.
        generation: u32,
        ticket: AckTicket,
        /// What it says if all goes well.
        reason: ReasonCode,
    },
    /// CONNACK, SUBACK or UNSUBACK, in the out buffer of a connection.
    Answer {
        slot: u32,
        /// Of the connection.
        generation: u32,
        promised: Promised,
        /// The first batch that it is in.
        since: u64,
    },
    /// What a note of a session has said.
    Note {
        session: u32,
        /// Of the session.
        generation: u32,
        note: Note,
    },
    /// PUBCOMP.
    Release {
        slot: u32,
        /// Of the connection.
        generation: u32,
        packet_id: u16,
        reason: ReasonCode,
    },
    /// A publisher at some shard waits for what its message left here.
    Receipt {
        receipt: Receipt,
        /// The first batch that it is in.
        since: u64,
    },
    /// A QoS 2 publish may be forwarded.
    Forward(Box<Held>),
    /// A message of an estate may go to its new owner.
    HandOver(Box<HandedOver>),
    /// A replay meets what comes live.
    Seam(SeamPromise),
}

impl Promise {
    /// What somebody outside waits for. The rest goes by what the store says in the end.
    fn can_be_given_up(&self) -> bool {
        !matches!(self, Self::Note { .. } | Self::Forward(_) | Self::HandOver(_) | Self::Seam(_))
    }
}

impl Durable {
    pub(crate) fn new(store: Arc<dyn Store>, durability: Durability) -> Self {
        Self {
            store: Some(store).filter(|store| !store.is_volatile()),
            // Memory is for sessions: what the broker keeps for itself is written, if anything is.
            durability: durability.max(Durability::Os),
            kept: KeptMessages::default(),
            keeping: Keeping::default(),
            pools_written: BTreeMap::new(),
            estates: Estates::default(),
            tails: Tails::new(),
            tail_waits: Vec::new(),
            held_bytes: 0,
            messages: Vec::new(),
            forgets: Vec::new(),
            forgets_ask: Durability::Os,
            late: Vec::new(),
            last: Position(0),
            answered: 0,
            failed: 0,
            changes: Vec::new(),
            bytes: 0,
            asks: Durability::Os,
            promises: Vec::new(),
            due: NEVER,
            under_way: VecDeque::new(),
            sequence: 0,
            recorded: 0,
            broken: Vec::new(),
        }
    }

    /// Whether anything outlasts the process.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.store.is_some()
    }

    /// The store, where anything outlasts the process.
    pub(crate) fn store(&self) -> Option<Arc<dyn Store>> {
        self.store.clone()
    }

    /// How far it is: what is recorded from here on.
    pub(crate) fn mark(&self) -> Mark {
        Mark { recorded: self.recorded, batch: self.next_batch() }
    }

    /// It waits for what was recorded last. Given back: everything that was is stored.
    #[must_use]
    pub(crate) fn promise(&mut self, promise: Promise) -> Option<Promise> {
        if !self.changes.is_empty() {
            self.promises.push(promise);
        } else if let Some(batch) = self.under_way.back_mut() {
            batch.promises.push(promise);
        } else {
            return Some(promise);
        }
        None
    }

    /// Number of the batch that is recorded into.
    pub(crate) fn next_batch(&self) -> u64 {
        self.sequence + 1
    }

    /// The last batch that was answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// The last batch that was not stored.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Whether one of the batches from this one on was not stored.
    fn failed_since(&self, batch: u64) -> bool {
        batch <= self.failed
    }

    /// Number of this message among those of the next batch.
    pub(crate) fn in_batch(&self, kept: Kept) -> Option<u32> {
        let place = self.messages.iter().rposition(|message| *message == kept)?;
        u32::try_from(place).ok()
    }

    /// Copies in the store of the publishes that wait to be forwarded, each with one holder more.
    pub(crate) fn hold_held(&mut self) -> Vec<Kept> {
        let promises = self.under_way.iter().flat_map(|batch| &batch.promises).chain(&self.promises);
        let held = promises.filter_map(|promise| match promise {
            Promise::Forward(held) => Some(held.kept()),
            _ => None,
        });
        let held: Vec<Kept> = held.flatten().copied().collect();
        held.iter().for_each(|kept| self.kept.hold(*kept));
        held
    }

    /// Whether something is to be handed in or to be told at the end of this turn.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due <= now || !self.broken.is_empty()
    }

    /// When a turn has to be taken for what waits here.
    #[inline]
    pub(crate) fn due(&self) -> Instant {
        self.due
    }
}

impl<T: Send> Shard<T> {
    /// A change joins the batch of this turn, or one that goes within half a second if nobody hurries.
    pub(crate) fn record(&mut self, change: Change, bytes: usize, hurry: bool, asks: Durability) {
        self.make_room(bytes);
        self.record_along(change, bytes, hurry, asks);
    }

    /// A batch that has no room for so many bytes more goes.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        if self.durable.bytes + bytes > BATCH_BYTES && !self.durable.changes.is_empty() {
            self.submit();
        }
    }

    /// A change joins the batch of the one that was recorded before it.
    pub(crate) fn record_along(&mut self, change: Change, bytes: usize, hurry: bool, asks: Durability) {
        self.durable.changes.push(change);
        self.durable.recorded += 1;
        self.durable.bytes += bytes;
        self.durable.asks = self.durable.asks.max(asks);
        let due = if hurry { self.now } else { later(self.now, UNHURRIED_MS) };
        self.durable.due = self.durable.due.min(due);
    }

    /// A message joins the batch. It was opened for this.
    pub(crate) fn record_message(&mut self, change: Change, kept: Kept, bytes: usize, asks: Durability) {
        self.durable.messages.push(kept);
        self.record_along(change, bytes, true, asks);
    }

    /// As [`Shard::record_message`], where nobody waits for it.
    pub(crate) fn record_message_unhurried(&mut self, change: Change, kept: Kept, bytes: usize, asks: Durability) {
        self.durable.messages.push(kept);
        self.record_along(change, bytes, false, asks);
    }

    /// A session owes a message no longer. Whoever held it for the session hands it over.
    pub(crate) fn forget(&mut self, number: SessionNumber, kept: Kept, asks: Durability) {
        self.durable.forgets.push((number, kept));
        self.durable.forgets_ask = self.durable.forgets_ask.max(asks);
        self.durable.due = self.durable.due.min(later(self.now, UNHURRIED_MS));
    }

    /// A session says what the store has to be told.
    pub(crate) fn note(&mut self, session: u32, note: Note) {
        let Some(generation) = self.sessions.generation(session) else { return };
        let Some(resident) = self.sessions.get(session) else { return };
        let number = resident.number();
        if number == SessionNumber::default() {
            // It was forgotten while it went on: what it holds is memory's alone.
            match note {
                Note::Forgotten(kept) => self.durable.kept.release(kept),
                Note::Begun { packet_id, .. } => self.go_on_without_store(session, packet_id),
                Note::Received { packet_id, kept } => {
                    self.durable.kept.release(kept);
                    self.on_noted(session, packet_id);
                }
                Note::Finished { .. } => {}
            }
            return;
        }
        let asks = self.durability_of(session);
        match note {
            Note::Forgotten(kept) => self.forget(number, kept, asks),
            Note::Begun { packet_id, kept } => {
                if self.durable.late.iter().any(|(other, ..)| *other == session) {
                    // Those before it come first: a start goes by what was begun.
                    return self.durable.late.push((session, generation, note));
                }
                self.make_room(NOTE_BYTES);
                let message = match (self.durable.kept.place(kept), self.durable.in_batch(kept)) {
                    (Place::At(position), _) => MessageAt::Position(position),
                    (Place::Unknown, Some(nth)) => MessageAt::InBatch(nth),
                    (Place::Unknown, None) => return self.durable.late.push((session, generation, note)),
                    (Place::Lost, _) => return self.go_on_without_store(session, packet_id),
                };
                let (state, message) = (OutboundState::Sent, Some(message));
                let change = Change::Outbound { session: number, packet_id, state, message };
                self.record_along(change, NOTE_BYTES, true, asks);
                let _ = self.durable.promise(Promise::Note { session, generation, note });
            }
            Note::Received { packet_id, kept } => {
                self.make_room(2 * NOTE_BYTES);
                let state = OutboundState::Received;
                let change = Change::Outbound { session: number, packet_id, state, message: None };
                self.record_along(change, NOTE_BYTES, true, asks);
                if let Place::At(position) = self.durable.kept.place(kept) {
                    // With it, or a start would deliver the message once more.
                    let change = Change::Forget { session: number, messages: vec![position] };
                    self.record_along(change, NOTE_BYTES, true, asks);
                }
                let _ = self.durable.promise(Promise::Note { session, generation, note });
            }
            Note::Finished { packet_id } => {
                self.record(Change::OutboundDone { session: number, packet_id }, NOTE_BYTES, false, asks);
            }
        }
    }

    /// What a session has noted in a call, in order.
    pub(crate) fn settle_notes(&mut self, session: u32) {
        if self.report.notes.is_empty() {
            return;
        }
        let mut notes = std::mem::take(&mut self.report.notes);
        for note in notes.drain(..) {
            self.note(session, note);
        }
        self.report.notes = notes;
    }

    fn go_on_without_store(&mut self, session: u32, packet_id: u16) {
        if let Some(resident) = self.sessions.get_mut(session)
            && let Some(kept) = resident.session.on_lost(packet_id)
        {
            self.durable.kept.release(kept);
        }
        self.on_noted(session, packet_id);
    }

    /// What a note has said is stored: its delivery goes on.
    fn on_noted(&mut self, session: u32, packet_id: u16) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let slot = resident.conn;
        match self.conns.get_mut(slot) {
            Some(conn) => {
                self.pool.ready(&mut conn.out);
                resident.session.on_stored(packet_id, Some((&mut conn.link, &mut conn.out)));
                conn.flags.pump = true;
                self.mark_dirty(slot);
            }
            None => resident.session.on_stored(packet_id, None),
        }
    }

    /// A topic has this retained message.
    pub(crate) fn record_retained(&mut self, message: Message, revision: u64, session: u32, asks: Durability) {
        let by = self.sessions.get(session).map_or("", |resident| resident.session.client_id()).into();
        let (bytes, hurry) = (message.byte_len(), message.qos() != QoS::AtMostOnce);
        let retained = Retained { message, revision, set_unix_ms: self.unix_ms, by };
        self.record(Change::Retain(Box::new(retained)), bytes, hurry, asks);
    }

    /// A topic has none.
    pub(crate) fn record_cleared(&mut self, topic: &str, revision: u64, qos: QoS, asks: Durability) {
        let change = Change::Unretain { topic: topic.into(), revision };
        self.record(change, topic.len(), qos != QoS::AtMostOnce, asks);
    }

    /// A publish is acknowledged when so many parts of it are durable; one of them is what was recorded last, if any of it was
    /// recorded `here`.
    pub(crate) fn promise(
        &mut self,
        slot: u32,
        (qos, packet_id): (QoS, u16),
        reason: ReasonCode,
        parts: u16,
        here: bool,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let session = conn.session;
        let Some(generation) = self.sessions.generation(session) else { return };
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let ticket = resident.session.acknowledge_later(qos, packet_id, parts);
        if here && self.durable.promise(Promise::Acknowledgement { session, generation, ticket, reason }).is_some() {
            debug_assert!(false, "something was recorded for it");
        }
        self.hold_back_unacknowledged(slot);
    }

    /// Nothing more is read of a 3.x client that has as many publishes under way as it may.
    pub(crate) fn hold_back_unacknowledged(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Some(resident) = self.sessions.get(conn.session) else { return };
        // A 5.0 client keeps to its Receive Maximum, one of 3.x was told of none.
        let limits = self.profiles.limits(conn.profile);
        if !conn.link.version.is_v5() && resident.session.receive_quota(conn.link.version, limits) == 0 {
            conn.flags.holds.put(hold::UNACKNOWLEDGED, true);
        }
    }

    /// At the end of a turn: what hurries goes to the store, and what it did not take is answered.
    pub(crate) fn settle_durable<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        let any = !self.durable.changes.is_empty() || !self.durable.forgets.is_empty();
        if self.durable.due <= self.now || (self.stopping && any) {
            self.submit();
        }
        for promise in std::mem::take(&mut self.durable.broken) {
            self.settle_promise(driver, promise, false);
        }
    }

    /// The batch goes.
    pub(crate) fn submit(&mut self) {
        self.finish_keeping();
        let forgets = self.record_forgets();
        let durable = &mut self.durable;
        durable.due = NEVER;
        durable.bytes = 0;
        let asks = std::mem::replace(&mut durable.asks, Durability::Os);
        let changes = std::mem::take(&mut durable.changes);
        let mut promises = std::mem::take(&mut durable.promises);
        let messages = std::mem::take(&mut durable.messages);
        let Some(store) = durable.store.as_ref().filter(|_| !changes.is_empty()) else { return };
        durable.sequence += 1;
        let sequence = durable.sequence;
        let token = Token { shard: self.id, slot: NONE, generation: 0, sequence: sequence as u32 };
        let count = changes.len() as u64;
        self.counters.bump(Metric::StoreBatches);
        self.counters.add(Metric::StoreChanges, count);
        match store.submit(token, &changes, asks) {
            Submitted::Pending => {
                let until = later(self.now, PATIENCE_MS);
                durable.under_way.push_back(Batch { sequence, changes: count, promises, messages, forgets, until });
            }
            Submitted::Refused => {
                self.counters.add(Metric::StoreUnstored, count);
                durable.broken.append(&mut promises);
                self.settle_messages(sequence, &messages, &forgets, None);
            }
        }
    }

    /// What is owed no longer becomes changes, one per session, as far as it is known where it is. Answers what did.
    fn record_forgets(&mut self) -> Vec<(SessionNumber, Kept)> {
        let durable = &mut self.durable;
        if durable.forgets.is_empty() {
            return Vec::new();
        }
        let mut ready = Vec::new();
        let kept = &mut durable.kept;
        durable.forgets.retain(|(number, message)| match kept.place(*message) {
            Place::Unknown => true,
            Place::At(position) => {
                ready.push((*number, *message, position));
                false
            }
            Place::Lost => {
                kept.release(*message);
                false
            }
        });
        if !ready.is_empty() {
            durable.asks = durable.asks.max(durable.forgets_ask);
        }
        if durable.forgets.is_empty() {
            durable.forgets_ask = Durability::Os;
        }
        ready.sort_by_key(|(number, _, position)| (*number, *position));
        for of_one in ready.chunk_by(|one, next| one.0 == next.0) {
            let messages = of_one.iter().map(|(_, _, position)| *position).collect();
            self.durable.recorded += 1;
            self.durable.changes.push(Change::Forget { session: of_one[0].0, messages });
        }
        ready.into_iter().map(|(number, message, _)| (number, message)).collect()
    }

    /// A batch is answered: where its messages are, or that they are nowhere.
    fn settle_messages(
        &mut self,
        sequence: u64,
        messages: &[Kept],
        forgets: &[(SessionNumber, Kept)],
        positions: Option<&[Position]>,
    ) {
        let durable = &mut self.durable;
        durable.answered = durable.answered.max(sequence);
        if positions.is_none() {
            durable.failed = sequence;
        }
        for (nth, kept) in messages.iter().enumerate() {
            let place = match positions.and_then(|positions| positions.get(nth)) {
                Some(position) => {
                    durable.last = durable.last.max(*position);
                    Place::At(*position)
                }
                None => Place::Lost,
            };
            durable.kept.settle(*kept, place);
            durable.kept.release(*kept);
        }
        match positions {
            Some(_) => forgets.iter().for_each(|(_, kept)| durable.kept.release(*kept)),
            // They are told again, in a while.
            None if !forgets.is_empty() => {
                durable.forgets.extend_from_slice(forgets);
                durable.forgets_ask = Durability::Fsync;
            }
            None => {}
        }
        if !durable.forgets.is_empty() {
            durable.due = durable.due.min(later(self.now, UNHURRIED_MS));
        }
        if !messages.is_empty() {
            self.work_late();
            self.tails_may_go_on();
        }
    }

    fn work_late(&mut self) {
        for (session, generation, note) in std::mem::take(&mut self.durable.late) {
            if self.sessions.generation(session) == Some(generation) {
                self.note(session, note);
            }
        }
    }

    /// The store has answered.
    pub(crate) fn on_durable<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        token: Token,
        positions: Option<&[Position]>,
    ) {
        // Answers come in the order of the batches, so that this is the first one, unless it was given up.
        let place = self.durable.under_way.iter().position(|batch| batch.sequence as u32 == token.sequence);
        if let Some(batch) = place.and_then(|place| self.durable.under_way.remove(place)) {
            self.settle_batch(driver, batch, positions);
        }
    }

    /// Once a second: tells clients what the store has not answered in time.
    pub(crate) fn give_up_batches<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        let now = self.now;
        let mut broken = Vec::new();
        for batch in self.durable.under_way.iter_mut().take_while(|batch| batch.until <= now) {
            let (given_up, kept) = std::mem::take(&mut batch.promises).into_iter().partition(Promise::can_be_given_up);
            batch.promises = kept;
            broken.extend::<Vec<_>>(given_up);
        }
        for promise in broken {
            self.settle_promise(driver, promise, false);
        }
        self.work_late();
        self.tails_may_go_on();
        self.durable.estates.forget_old(now);
        self.wake_pools();
        self.estates_may_go_on();
    }

    fn settle_batch<D: Driver<Transport = T>>(&mut self, driver: &mut D, batch: Batch, positions: Option<&[Position]>) {
        if positions.is_none() {
            self.counters.add(Metric::StoreUnstored, batch.changes);
        }
        self.settle_messages(batch.sequence, &batch.messages, &batch.forgets, positions);
        for promise in batch.promises {
            self.settle_promise(driver, promise, positions.is_some());
        }
        if positions.is_some() {
            self.estates_may_go_on();
        }
    }

    pub(crate) fn settle_promise<D: Driver<Transport = T>>(&mut self, driver: &mut D, promise: Promise, stored: bool) {
        match promise {
            Promise::Acknowledgement { session, generation, ticket, reason } => {
                self.let_out(driver, (session, generation), ticket, reason, stored);
            }
            Promise::Note { session, generation, note } => self.settle_note(session, generation, note, stored),
            Promise::Release { slot, generation, packet_id, reason } => {
                self.let_release_out(driver, (slot, generation), packet_id, reason, stored);
            }
            Promise::Receipt { receipt, since } => {
                let stored = stored && !self.durable.failed_since(since);
                self.send_receipt(driver, receipt, stored);
            }
            Promise::Forward(held) => self.forward(driver, *held, stored),
            Promise::HandOver(over) => self.on_handed_over(driver, *over, stored),
            Promise::Seam(promise) => self.settle_seam(driver, promise),
            Promise::Answer { slot, generation, promised, since } => {
                let stored = stored && !self.durable.failed_since(since);
                self.keep_answer(driver, (slot, generation), promised, stored);
            }
        }
    }

    fn settle_note(&mut self, session: u32, generation: u32, note: Note, stored: bool) {
        let is_there = self.sessions.generation(session) == Some(generation);
        match note {
            // Neither may go on before the store has it; it is told once a second.
            Note::Begun { .. } | Note::Received { .. } if !stored && is_there => {
                self.durable.late.push((session, generation, note));
            }
            Note::Begun { packet_id, .. } if is_there => self.on_noted(session, packet_id),
            Note::Received { packet_id, kept } => {
                self.durable.kept.release(kept);
                if is_there {
                    self.on_noted(session, packet_id);
                }
            }
            Note::Begun { .. } | Note::Forgotten(_) | Note::Finished { .. } => {}
        }
    }

    /// Tells a publisher what became of the part of its message that came here.
    pub(crate) fn send_receipt<D: Driver<Transport = T>>(&mut self, driver: &mut D, receipt: Receipt, stored: bool) {
        let home = receipt.home;
        if home == self.id {
            self.on_receipt(driver, receipt, stored);
        } else {
            self.batch(home).receipts.push((receipt, stored));
        }
    }

    /// A part of what a publisher here waits for is stored, or is not.
    pub(crate) fn on_receipt<D: Driver<Transport = T>>(&mut self, driver: &mut D, receipt: Receipt, stored: bool) {
        let Receipt { session, generation, ticket, .. } = receipt;
        self.let_out(driver, (session, generation), ticket, ReasonCode::Success, stored);
    }

    /// PUBCOMP: the store knows that the packet identifier is free.
    fn let_release_out<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        (slot, generation): (u32, u32),
        packet_id: u16,
        reason: ReasonCode,
        stored: bool,
    ) {
        if self.conns.generation(slot) != Some(generation) {
            return;
        }
        if !stored {
            // It comes back and sends PUBREL again.
            let (reason, text) = (ReasonCode::QuotaExceeded, "the store could not take that a message was released");
            self.close(driver, slot, Cause::NotPermitted(reason, text));
            return;
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        self.pool.ready(&mut conn.out);
        encode_pubcomp(conn.link.version, packet_id, reason, &mut conn.out);
        self.mark_dirty(slot);
    }

    /// Lets an acknowledgement out. Where nothing was stored a 5.0 client is told so; one of 3.x can't be, and loses its
    /// connection instead, so that it publishes again.
    pub(crate) fn let_out<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        (session, generation): (u32, u32),
        ticket: AckTicket,
        reason: ReasonCode,
        stored: bool,
    ) {
        if self.sessions.generation(session) != Some(generation) {
            return;
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if !resident.session.awaits(ticket) {
            return;
        }
        let reason = if stored { reason } else { ReasonCode::QuotaExceeded };
        let slot = resident.conn;
        match self.conns.get_mut(slot) {
            Some(conn) if stored || conn.link.version.is_v5() => {
                self.pool.ready(&mut conn.out);
                let told = resident.session.acknowledge_ready(ticket, reason, Some((&mut conn.link, &mut conn.out)));
                self.mark_dirty(slot);
                if told.is_some() {
                    self.read_on(slot);
                }
            }
            Some(_) => {
                resident.session.acknowledge_ready(ticket, reason, None);
                let text = "the store could not take a message of the client";
                self.close(driver, slot, Cause::NotPermitted(reason, text));
            }
            None => drop(resident.session.acknowledge_ready(ticket, reason, None)),
        }
    }

    /// There may be room again for publishes of a 3.x client.
    fn read_on(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !conn.flags.holds.has(hold::UNACKNOWLEDGED) {
            return;
        }
        let Some(resident) = self.sessions.get(conn.session) else { return };
        let limits = self.profiles.limits(conn.profile);
        // With nothing pending any more, what is in its way is its own: it owes PUBREL.
        let room = resident.session.receive_quota(conn.link.version, limits) > 0;
        if room || resident.session.waiting_acks_len() == 0 {
            conn.flags.holds.put(hold::UNACKNOWLEDGED, false);
            conn.flags.tail_ready |= !conn.tail.is_empty();
            self.schedule(slot);
        }
    }
}
