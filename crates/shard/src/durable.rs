//! What has to outlast the process: the changes of a turn go to the store as one batch, and acknowledgements that promise them
//! wait for its answer. Reading goes on meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use breakwater_contract::store::{Change, Durability, Retained, Store, Submitted};
use breakwater_contract::{Metric, Token};
use breakwater_proto::{Instant, Message, QoS, ReasonCode};
use breakwater_session::AckTicket;

use crate::conn::{Cause, NONE, hold};
use crate::driver::Driver;
use crate::lasting::{Names, Promised};
use crate::shard::{NEVER, Shard, later};

/// What nobody waits for goes after so many milliseconds at the latest: with the sync behind it, within a second.
const UNHURRIED_MS: u64 = 500;
/// A batch that has grown so far goes before the turn ends.
const BATCH_BYTES: usize = 1 << 20;
/// A store that has not answered by then has failed: a client is told so rather than left waiting for ever.
const PATIENCE_MS: u64 = 30_000;

/// What one shard has for the store, and what it has promised.
pub(crate) struct Durable {
    /// None: nothing outlasts the process, and nothing is handed in.
    store: Option<Arc<dyn Store>>,
    durability: Durability,
    /// Sessions that the store knows.
    pub(crate) names: Names,
    /// The next batch.
    changes: Vec<Change>,
    bytes: usize,
    promises: Vec<Promise>,
    /// When it goes at the latest.
    due: Instant,
    under_way: VecDeque<Batch>,
    sequence: u32,
    recorded: u64,
    /// Promises of batches that the store did not take, until the turn ends.
    broken: Vec<Promise>,
}

struct Batch {
    sequence: u32,
    changes: u64,
    promises: Vec<Promise>,
    until: Instant,
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
    },
}

impl Durable {
    pub(crate) fn new(store: Arc<dyn Store>, durability: Durability) -> Self {
        Self {
            store: Some(store).filter(|store| !store.is_volatile()),
            durability,
            names: Names::new(),
            changes: Vec::new(),
            bytes: 0,
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

    /// Changes so far.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// It waits for what was recorded last.
    pub(crate) fn promise(&mut self, promise: Promise) {
        self.promises.push(promise);
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
    pub(crate) fn record(&mut self, change: Change, bytes: usize, hurry: bool) {
        if self.durable.bytes + bytes > BATCH_BYTES && !self.durable.changes.is_empty() {
            self.submit();
        }
        self.durable.changes.push(change);
        self.durable.recorded += 1;
        self.durable.bytes += bytes;
        let due = if hurry { self.now } else { later(self.now, UNHURRIED_MS) };
        self.durable.due = self.durable.due.min(due);
    }

    /// A topic has this retained message.
    pub(crate) fn record_retained(&mut self, message: Message, revision: u64, session: u32) {
        let by = self.sessions.get(session).map_or("", |resident| resident.session.client_id()).into();
        let (bytes, hurry) = (message.byte_len(), message.qos() != QoS::AtMostOnce);
        let retained = Retained { message, revision, set_unix_ms: self.unix_ms, by };
        self.record(Change::Retain(Box::new(retained)), bytes, hurry);
    }

    /// A topic has none.
    pub(crate) fn record_cleared(&mut self, topic: &str, revision: u64, qos: QoS) {
        let change = Change::Unretain { topic: topic.into(), revision };
        self.record(change, topic.len(), qos != QoS::AtMostOnce);
    }

    /// The publish that was recorded last is acknowledged when its batch is durable.
    pub(crate) fn promise(&mut self, slot: u32, qos: QoS, packet_id: u16, reason: ReasonCode) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let session = conn.session;
        let Some(generation) = self.sessions.generation(session) else { return };
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let ticket = resident.session.acknowledge_later(qos, packet_id);
        self.durable.promise(Promise::Acknowledgement { session, generation, ticket, reason });
        // A 5.0 client keeps to its Receive Maximum, one of 3.x was told of none.
        let limits = self.profiles.limits(conn.profile);
        if !conn.link.version.is_v5() && resident.session.receive_quota(conn.link.version, limits) == 0 {
            conn.flags.holds.put(hold::UNACKNOWLEDGED, true);
        }
    }

    /// At the end of a turn: what hurries goes to the store, and what it did not take is answered.
    pub(crate) fn settle_durable<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        if self.durable.due <= self.now || (self.stopping && !self.durable.changes.is_empty()) {
            self.submit();
        }
        for promise in std::mem::take(&mut self.durable.broken) {
            self.settle_promise(driver, &promise, false);
        }
    }

    fn submit(&mut self) {
        let durable = &mut self.durable;
        durable.due = NEVER;
        durable.bytes = 0;
        let changes = std::mem::take(&mut durable.changes);
        let mut promises = std::mem::take(&mut durable.promises);
        let Some(store) = durable.store.as_ref().filter(|_| !changes.is_empty()) else { return };
        durable.sequence = durable.sequence.wrapping_add(1);
        let sequence = durable.sequence;
        let token = Token { shard: self.id, slot: NONE, generation: 0, sequence };
        let count = changes.len() as u64;
        self.counters.bump(Metric::StoreBatches);
        self.counters.add(Metric::StoreChanges, count);
        match store.submit(token, &changes, durable.durability) {
            Submitted::Pending => {
                let until = later(self.now, PATIENCE_MS);
                durable.under_way.push_back(Batch { sequence, changes: count, promises, until });
            }
            Submitted::Refused => {
                self.counters.add(Metric::StoreUnstored, count);
                durable.broken.append(&mut promises);
            }
        }
    }

    /// The store has answered.
    pub(crate) fn on_durable<D: Driver<Transport = T>>(&mut self, driver: &mut D, token: Token, stored: bool) {
        // Answers come in the order of the batches, so that this is the first one, unless it was given up.
        let place = self.durable.under_way.iter().position(|batch| batch.sequence == token.sequence);
        if let Some(batch) = place.and_then(|place| self.durable.under_way.remove(place)) {
            self.settle_batch(driver, batch, stored);
        }
    }

    /// Once a second: gives up what the store has not answered in time.
    pub(crate) fn give_up_batches<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        while let Some(batch) = self.durable.under_way.pop_front_if(|batch| batch.until <= self.now) {
            self.settle_batch(driver, batch, false);
        }
    }

    fn settle_batch<D: Driver<Transport = T>>(&mut self, driver: &mut D, batch: Batch, stored: bool) {
        if !stored {
            self.counters.add(Metric::StoreUnstored, batch.changes);
        }
        for promise in &batch.promises {
            self.settle_promise(driver, promise, stored);
        }
    }

    fn settle_promise<D: Driver<Transport = T>>(&mut self, driver: &mut D, promise: &Promise, stored: bool) {
        match *promise {
            Promise::Acknowledgement { session, generation, ticket, reason } => {
                self.let_out(driver, (session, generation), ticket, reason, stored);
            }
            Promise::Answer { slot, generation, promised } => {
                self.keep_answer(driver, (slot, generation), promised, stored);
            }
        }
    }

    /// Lets an acknowledgement out. Where nothing was stored a 5.0 client is told so; one of 3.x can't be, and loses its
    /// connection instead, so that it publishes again.
    fn let_out<D: Driver<Transport = T>>(
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
                resident.session.acknowledge_ready(ticket, reason, Some((&mut conn.link, &mut conn.out)));
                self.mark_dirty(slot);
                self.read_on(slot);
            }
            Some(_) => {
                resident.session.acknowledge_ready(ticket, reason, None);
                self.close(
                    driver,
                    slot,
                    Cause::NotPermitted(reason, "the store could not take a message of the client"),
                );
            }
            None => resident.session.acknowledge_ready(ticket, reason, None),
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
