//! QoS 2 publishes of sessions that outlast the process: what they come to is stored in one piece, and goes to its targets then.
//!
//! The packet identifier and the message, in the queues of all sessions of all shards that want it, are one change of the store. A
//! crash finds both or neither, so that the client that sends the publish again has it taken once.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use breakwater_contract::Metric;
use breakwater_contract::store::{Change, Position, SessionNumber, Terms, Wanted};
use breakwater_proto::{Message, MessageView, Publish, QoS, ReasonCode};
use breakwater_router::{Matches, PackedGrant, PickTicket, Snapshot, Subscriber, Target};
use breakwater_session::{AckTicket, Kept};

use crate::conn::Cause;
use crate::driver::{Driver, ShardId};
use crate::durable::{NOTE_BYTES, Promise};
use crate::inbox::Progress;
use crate::kept::Place;
use crate::mail::{Batch, Entry, GroupTry, Mail};
use crate::route::{entry_of, grant_of};
use crate::shard::Shard;

/// A publish that waits for the store.
pub(crate) struct Held {
    session: u32,
    generation: u32,
    ticket: AckTicket,
    packet_id: u16,
    reason: ReasonCode,
    kept: Kept,
    bytes: usize,
    batches: Vec<(ShardId, Box<Batch>)>,
}

/// Marks entries that are in the store, until it is known where.
const SOMEWHERE: Position = Position(1);

/// What the store calls the sessions of all shards. Written by the shard of a session when it is made or ends, read by others for
/// QoS 2 publishes.
#[derive(Debug, Default)]
pub(crate) struct Roster(Vec<RwLock<HashMap<u32, (u16, SessionNumber)>>>);

impl Roster {
    pub(crate) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| RwLock::default()).collect())
    }

    pub(crate) fn enter(&self, who: Subscriber, number: SessionNumber) {
        if let Some(shard) = self.0.get(usize::from(who.shard)) {
            shard.write().unwrap_or_else(PoisonError::into_inner).insert(who.slot, (who.generation, number));
        }
    }

    pub(crate) fn strike(&self, shard: ShardId, slot: u32) {
        if let Some(shard) = self.0.get(usize::from(shard)) {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.remove(&slot);
            if shard.capacity() > 64 && shard.len() * 8 < shard.capacity() {
                let most = shard.len() * 2;
                shard.shrink_to(most);
            }
        }
    }

    fn number(&self, who: Subscriber) -> Option<SessionNumber> {
        let shard = self.0.get(usize::from(who.shard))?.read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&who.slot).filter(|(generation, _)| *generation == who.generation).map(|(_, number)| *number)
    }
}

impl<T: Send> Shard<T> {
    /// Holds a QoS 2 publish of a session that outlasts the process until the store has it. `false`: it is not of such a one.
    pub(crate) fn hold_publish<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        topic: &str,
        publish: &Publish<'_>,
    ) -> bool {
        let Some(session) = self.conns.get(slot).map(|conn| conn.session) else { return false };
        let Some(generation) = self.sessions.generation(session) else { return false };
        let Some(resident) = self.sessions.get_mut(session) else { return false };
        let number = resident.number();
        if number == SessionNumber::default() {
            return false;
        }
        let packet_id = publish.packet_id;
        let ticket = resident.session.acknowledge_later(QoS::ExactlyOnce, packet_id, 1);
        if self.durable.held_bytes as u64 > self.options.memory_bytes / 8 {
            self.drop_held(driver, (session, generation), ticket, packet_id);
            return true;
        }
        let view = self.view_of(slot, topic, publish);
        self.router.matches(self.id, view.topic, &mut self.matches);
        let matches = std::mem::take(&mut self.matches);
        let (batches, wanted) = self.sort_out(&view, &matches);
        let mut reason = ReasonCode::Success;
        if matches.is_empty() {
            self.counters.bump(Metric::PublishUnmatched);
            reason = ReasonCode::NoMatchingSubscribers;
        }
        if matches.truncated {
            self.counters.bump(Metric::MatchesTruncated);
        }
        self.matches = matches;

        let bytes = topic.len() + publish.payload.len() + publish.properties.len();
        self.make_room(3 * bytes + wanted.len() * 2 + 4 * NOTE_BYTES);
        if publish.retain {
            self.retain(&view, session);
        }
        let mut kept = Kept::default();
        if !wanted.is_empty() {
            // One holder is the batch, the other one what is held.
            kept = self.durable.kept.open(Place::Unknown);
            self.durable.kept.hold(kept);
            let message = Message::new(&view, &mut self.building);
            let change = Change::Message { message, unix_ms: self.unix_ms, sessions: wanted };
            self.record_message(change, kept, bytes + NOTE_BYTES);
        }
        self.record_along(Change::Inbound { session: number, packet_id, held: true }, NOTE_BYTES, true);
        self.durable.held_bytes += bytes;
        let held = Held { session, generation, ticket, packet_id, reason, kept, bytes, batches };
        let _ = self.durable.promise(Promise::Forward(Box::new(held)));
        self.hold_back_unacknowledged(slot);
        true
    }

    /// What was recorded last of a QoS 2 publish, and its packet identifier, are one change of the store. `false`: its session does
    /// not outlast the process.
    pub(crate) fn hold_recorded(&mut self, slot: u32, packet_id: u16, reason: ReasonCode) -> bool {
        let Some(session) = self.conns.get(slot).map(|conn| conn.session) else { return false };
        let Some(generation) = self.sessions.generation(session) else { return false };
        let Some(resident) = self.sessions.get_mut(session) else { return false };
        let number = resident.number();
        if number == SessionNumber::default() {
            return false;
        }
        let ticket = resident.session.acknowledge_later(QoS::ExactlyOnce, packet_id, 1);
        self.record_along(Change::Inbound { session: number, packet_id, held: true }, NOTE_BYTES, true);
        let kept = Kept::default();
        let held = Held { session, generation, ticket, packet_id, reason, kept, bytes: 0, batches: Vec::new() };
        let _ = self.durable.promise(Promise::Forward(Box::new(held)));
        self.hold_back_unacknowledged(slot);
        true
    }

    /// Whom a message goes to: batches for each shard, and those that the store keeps it for.
    fn sort_out(&mut self, view: &MessageView<'_>, matches: &Matches) -> (Vec<(ShardId, Box<Batch>)>, Vec<Wanted>) {
        let origin = Subscriber::from_u64(view.origin);
        let (mut batches, mut wanted) = (Vec::new(), Vec::new());
        let mut ids = std::mem::take(&mut self.ids);
        let mut open = None;
        for (index, target) in matches.few.iter().enumerate() {
            let Some(grant) = grant_of(matches, index, target, origin, &mut ids) else { continue };
            let to = target.subscriber.shard;
            if open != Some(to) {
                self.open_in(&mut batches, to, entry_of(view), view);
                open = Some(to);
            }
            let is_wanted = self.want(view, target.subscriber, grant, (&ids, false), &mut wanted);
            if let Some((_, batch)) = batches.last_mut() {
                batch.add_target(target.subscriber, grant, &ids);
                mark(batch, is_wanted);
            }
        }
        for snapshot in &matches.large {
            self.sort_out_large(view, snapshot, &mut batches, &mut wanted);
        }
        for group in &matches.groups {
            let attempt = GroupTry {
                group: *group,
                topic_hash: matches.topic_hash,
                client_hash: self.client_hash(origin),
                tried: None,
            };
            let random = self.chance();
            let GroupTry { topic_hash, client_hash, .. } = attempt;
            let ticket = PickTicket { shard: self.id, topic_hash, client_hash, random, tried: &[] };
            let Some(Target { subscriber, grant }) = self.router.pick(*group, &ticket) else { continue };
            let entry = Entry { group: Some(attempt), ..entry_of(view) };
            self.open_in(&mut batches, subscriber.shard, entry, view);
            let id = [grant.subscription_id()];
            let ids = if id[0] == 0 { &[][..] } else { &id[..] };
            let is_wanted = self.want(view, subscriber, grant, (ids, true), &mut wanted);
            if let Some((_, batch)) = batches.last_mut() {
                batch.add_target(subscriber, grant, &[]);
                mark(batch, is_wanted);
            }
        }
        self.ids = ids;
        wanted.sort_by_key(|wanted: &Wanted| wanted.session);
        wanted.dedup_by_key(|wanted| wanted.session);
        (batches, wanted)
    }

    fn sort_out_large(
        &mut self,
        view: &MessageView<'_>,
        snapshot: &Snapshot,
        batches: &mut Vec<(ShardId, Box<Batch>)>,
        wanted: &mut Vec<Wanted>,
    ) {
        let origin = Subscriber::from_u64(view.origin);
        let entry = Entry { large: Some(Box::new(snapshot.clone())), ..entry_of(view) };
        self.open_in(batches, snapshot.shard, entry, view);
        let before = wanted.len();
        let mut at = 0;
        snapshot.walk(&mut at, usize::MAX, |Target { subscriber, grant }| {
            if subscriber != origin || !grant.no_local() {
                let id = [grant.subscription_id()];
                let ids = if id[0] == 0 { &[][..] } else { &id[..] };
                self.want(view, subscriber, grant, (ids, false), wanted);
            }
        });
        if let Some((_, batch)) = batches.last_mut() {
            mark(batch, wanted.len() > before);
        }
    }

    /// Begins an entry, in a batch of its own: targets in the order of shards come to one.
    pub(crate) fn open_in(
        &mut self,
        batches: &mut Vec<(ShardId, Box<Batch>)>,
        to: ShardId,
        entry: Entry,
        view: &MessageView<'_>,
    ) {
        if batches.last().is_none_or(|(shard, _)| *shard != to) {
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.home = self.id;
            batches.push((to, batch));
        }
        if let Some((_, batch)) = batches.last_mut() {
            batch.open(entry);
            batch.wire_of(view);
        }
    }

    /// Takes note of a target that the store keeps messages for. Answers whether it is one.
    pub(crate) fn want(
        &self,
        view: &MessageView<'_>,
        who: Subscriber,
        grant: PackedGrant,
        (ids, shared): (&[u32], bool),
        wanted: &mut Vec<Wanted>,
    ) -> bool {
        let qos = view.qos.min(grant.qos());
        if qos == QoS::AtMostOnce || !grant.durable() {
            return false;
        }
        let Some(session) = self.returning.roster.number(who) else { return false };
        let terms = Terms {
            qos,
            retain: view.retain && grant.retain_as_published(),
            shared,
            subscription_id: ids.first().copied().unwrap_or(0),
            more_ids: ids.len() > 1,
        };
        wanted.push(Wanted { session, terms });
        true
    }

    /// The store has a publish that waited for it, or has not: it goes to its targets, or its client may send it again.
    pub(crate) fn forward<D: Driver<Transport = T>>(&mut self, driver: &mut D, held: Held, stored: bool) {
        let Held { session, generation, ticket, packet_id, reason, kept, bytes, batches } = held;
        self.durable.held_bytes -= bytes;
        if !stored {
            self.durable.kept.release(kept);
            self.drop_held(driver, (session, generation), ticket, packet_id);
            return;
        }
        self.send_held(driver, kept, batches);
        self.let_out(driver, (session, generation), ticket, reason, true);
    }

    /// Sends what waited for the store: `kept` is in the queues of all targets of the entries that are marked.
    pub(crate) fn send_held<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        kept: Kept,
        batches: Vec<(ShardId, Box<Batch>)>,
    ) {
        let place = self.durable.kept.place(kept);
        self.durable.kept.release(kept);
        for (to, mut batch) in batches {
            for entry in batch.entries.iter_mut().filter(|entry| entry.position == SOMEWHERE) {
                entry.position = if let Place::At(position) = place { position } else { Position(0) };
            }
            if to == self.id {
                // At once and in whole: a part that waits would be overtaken by the next publish of the same client.
                let mut budget = usize::MAX;
                if let Ok(mut batch) = self.work(driver, Progress::new(batch), &mut budget) {
                    batch.clear();
                    batch.trim();
                    self.reclaim(batch);
                }
            } else {
                driver.send(to, Mail::Batch(batch));
            }
        }
    }
}

impl<T: Send> Shard<T> {
    /// The store could not take a publish. Its client is not answered but loses its connection, whatever its version: after a crash the
    /// store may know of it all the same, and a client that took its packet identifier for free would use it for another message.
    fn drop_held<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        (session, generation): (u32, u32),
        ticket: AckTicket,
        packet_id: u16,
    ) {
        if self.sessions.generation(session) != Some(generation) {
            return;
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let reason = ReasonCode::QuotaExceeded;
        resident.session.forget_publish(packet_id);
        resident.session.acknowledge_ready(ticket, reason, None);
        let slot = resident.conn;
        self.close(driver, slot, Cause::NotPermitted(reason, "the store could not take a message of the client"));
    }
}

/// The entry opened last has a target in the store.
pub(crate) fn mark(batch: &mut Batch, is_wanted: bool) {
    if let Some(entry) = batch.entries.last_mut()
        && is_wanted
    {
        entry.position = SOMEWHERE;
    }
}
