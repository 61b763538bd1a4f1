//! QoS 2 publishes of sessions that outlast the process: what they come to is stored in one piece, and goes to its targets then.
//!
//! The packet identifier and the message, in the queues of all sessions of all shards that want it, are one change of the store. A
//! crash finds both or neither, so that the client that sends the publish again has it taken once.

use std::sync::Arc;

use breakwater_contract::Metric;
use breakwater_contract::store::{Change, Durability, Position, SessionNumber, Terms, Wanted};
use breakwater_proto::{Message, MessageView, Publish, QoS, ReasonCode};
use breakwater_router::{Matches, PackedGrant, PickTicket, Snapshot, Subscriber, Target};
use breakwater_session::{AckTicket, Kept};

use crate::conn::Cause;
use crate::driver::{Driver, ShardId};
use crate::durable::{NOTE_BYTES, Promise};
use crate::inbox::Progress;
use crate::kept::Place;
use crate::mail::{Batch, Entry, GroupTry, Mail};
use crate::pool::Pool;
use crate::route::grant_of;
use crate::shard::Shard;

/// A publish that waits for the store.
pub(crate) struct Held {
    session: u32,
    generation: u32,
    ticket: AckTicket,
    packet_id: u16,
    reason: ReasonCode,
    /// Its copies in the store. Until it is known where they are, an entry has the number of its copy for a position, from 1.
    kept: Vec<Kept>,
    bytes: usize,
    batches: Vec<(ShardId, Box<Batch>)>,
}

impl Held {
    /// Its copies in the store.
    pub(crate) fn kept(&self) -> &[Kept] {
        &self.kept
    }
}

/// Who has a message kept: the queues that each of its copies in the store joins. There is one, unless a session gets the message
/// more than once, through a subscription of its own and through a group, say. Sorted. And the strongest of what these sessions were
/// promised.
#[derive(Debug, Default)]
struct Copies(Vec<Vec<Wanted>>, Option<Durability>);

impl Copies {
    /// Sessions of one entry, or of several that share none. Answers which copy they have, from 1; 0 if there are none.
    fn add(&mut self, mut sessions: Vec<Wanted>) -> u64 {
        if sessions.is_empty() {
            return 0;
        }
        sessions.sort_by_key(|wanted| wanted.session);
        sessions.dedup_by_key(|wanted| wanted.session);
        let nth = self.0.iter().position(|copy| !overlap(copy, &sessions)).unwrap_or(self.0.len());
        if nth == self.0.len() {
            self.0.push(sessions);
        } else {
            self.0[nth].extend(sessions);
            self.0[nth].sort_by_key(|wanted| wanted.session);
        }
        nth as u64 + 1
    }

    fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

fn overlap(one: &[Wanted], other: &[Wanted]) -> bool {
    let (few, many) = if one.len() < other.len() { (one, other) } else { (other, one) };
    few.iter().any(|wanted| many.binary_search_by_key(&wanted.session, |wanted| wanted.session).is_ok())
}

/// Batches for each shard, those that the store keeps a message for, and the pools among them.
type SortedOut = (Vec<(ShardId, Box<Batch>)>, Copies, Vec<Arc<Pool>>);

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
        let (batches, copies, pools) = self.sort_out(&view, &matches);
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
        let of_pools: usize = pools.iter().map(|pool| pool.filter.len() + 8 * NOTE_BYTES).sum();
        let own = self.durability_of(session);
        // It is one change: what one of them is promised holds for all.
        let asks = own.max(copies.1.unwrap_or(own));
        self.make_room((copies.0.len() + 2) * bytes + copies.len() * 2 + 4 * NOTE_BYTES + of_pools);
        for pool in &pools {
            self.record_pool(pool, asks);
        }
        if publish.retain {
            self.retain(&view, session, self.zone_durability(session));
        }
        let mut kept = Vec::new();
        let message = (copies.len() > 0).then(|| Message::new(&view, &mut self.building));
        for (sessions, message) in copies.0.into_iter().zip(message.iter().cycle()) {
            // One holder is the batch, the other one what is held.
            let copy = self.durable.kept.open(Place::Unknown);
            self.durable.kept.hold(copy);
            kept.push(copy);
            let change = Change::Message { message: message.clone(), unix_ms: self.unix_ms, sessions };
            self.record_message(change, copy, bytes + NOTE_BYTES, asks);
        }
        self.record_along(Change::Inbound { session: number, packet_id, held: true }, NOTE_BYTES, true, asks);
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
        let asks = self.durability_of(session);
        self.record_along(Change::Inbound { session: number, packet_id, held: true }, NOTE_BYTES, true, asks);
        let kept = Vec::new();
        let held = Held { session, generation, ticket, packet_id, reason, kept, bytes: 0, batches: Vec::new() };
        let _ = self.durable.promise(Promise::Forward(Box::new(held)));
        self.hold_back_unacknowledged(slot);
        true
    }

    /// Whom a message goes to: batches for each shard, and those that the store keeps it for.
    fn sort_out(&mut self, view: &MessageView<'_>, matches: &Matches) -> SortedOut {
        let origin = Subscriber::from_u64(view.origin);
        let (mut batches, mut wanted, mut copies) = (Vec::new(), Vec::new(), Copies::default());
        let mut pools = Vec::new();
        let mut ids = std::mem::take(&mut self.ids);
        let mut open = None;
        for (index, target) in matches.few.iter().enumerate() {
            let Some(grant) = grant_of(matches, index, target, origin, &mut ids) else { continue };
            let to = target.subscriber.shard;
            if open != Some(to) {
                self.open_in(&mut batches, to, self.entry_of(view), view);
                open = Some(to);
            }
            let asks = self.want(view, target.subscriber, grant, (&ids, false), &mut wanted);
            copies.1 = copies.1.max(asks);
            if let Some((_, batch)) = batches.last_mut() {
                batch.add_target(target.subscriber, grant, &ids);
                // A session is among them once, so that they have the first copy.
                mark(batch, u64::from(asks.is_some()));
            }
        }
        copies.add(wanted);
        for snapshot in &matches.large {
            let (wanted, asks) = self.sort_out_large(view, snapshot, &mut batches);
            let copy = copies.add(wanted);
            copies.1 = copies.1.max(asks);
            batches.last_mut().into_iter().for_each(|(_, batch)| mark(batch, copy));
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
            let Some((target, online)) = self.router.pick_present(*group, &ticket) else { continue };
            if !online && let Some((pool, pooled, asks)) = self.pool_for(view, *group, target, false) {
                copies.add(vec![pooled]);
                copies.1 = copies.1.max(Some(asks));
                pools.push(pool);
                continue;
            }
            let Target { subscriber, grant } = target;
            let entry = Entry { group: Some(attempt), ..self.entry_of(view) };
            self.open_in(&mut batches, subscriber.shard, entry, view);
            let ids = grant.subscription_ids();
            let mut wanted = Vec::new();
            copies.1 = copies.1.max(self.want(view, subscriber, grant, (ids, true), &mut wanted));
            if let Some((_, batch)) = batches.last_mut() {
                batch.add_target(subscriber, grant, &[]);
                mark(batch, copies.add(wanted));
            }
        }
        self.ids = ids;
        (batches, copies, pools)
    }

    fn sort_out_large(
        &mut self,
        view: &MessageView<'_>,
        snapshot: &Snapshot,
        batches: &mut Vec<(ShardId, Box<Batch>)>,
    ) -> (Vec<Wanted>, Option<Durability>) {
        let origin = Subscriber::from_u64(view.origin);
        let entry = Entry { large: Some(Box::new(snapshot.clone())), ..self.entry_of(view) };
        self.open_in(batches, snapshot.shard, entry, view);
        let (mut wanted, mut asks, mut at) = (Vec::new(), None, 0);
        snapshot.walk(&mut at, usize::MAX, |Target { subscriber, grant }| {
            if subscriber != origin || !grant.no_local() {
                let ids = grant.subscription_ids();
                asks = asks.max(self.want(view, subscriber, grant, (ids, false), &mut wanted));
            }
        });
        (wanted, asks)
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

    /// Takes note of a target that the store keeps messages for. Answers what it is promised; `None`: it is none.
    pub(crate) fn want(
        &self,
        view: &MessageView<'_>,
        who: Subscriber,
        grant: PackedGrant,
        (ids, shared): (&[u32], bool),
        wanted: &mut Vec<Wanted>,
    ) -> Option<Durability> {
        let qos = view.qos.min(grant.qos());
        if qos == QoS::AtMostOnce || !grant.durable() {
            return None;
        }
        let (session, promised) = self.returning.roster.find(who)?;
        let terms = Terms {
            qos,
            retain: view.retain && grant.retain_as_published(),
            shared,
            subscription_id: ids.first().copied().unwrap_or(0),
            more_ids: ids.len() > 1,
        };
        wanted.push(Wanted { session, terms });
        Some(promised)
    }

    /// The store has a publish that waited for it, or has not: it goes to its targets, or its client may send it again.
    pub(crate) fn forward<D: Driver<Transport = T>>(&mut self, driver: &mut D, held: Held, stored: bool) {
        let Held { session, generation, ticket, packet_id, reason, kept, bytes, batches } = held;
        self.durable.held_bytes -= bytes;
        if !stored {
            kept.into_iter().for_each(|copy| self.durable.kept.release(copy));
            self.drop_held(driver, (session, generation), ticket, packet_id);
            return;
        }
        self.send_held(driver, kept, batches);
        self.let_out(driver, (session, generation), ticket, reason, true);
    }

    /// Sends what waited for the store: of `kept`, each copy is in the queues of all targets of the entries that are marked with it.
    pub(crate) fn send_held<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        kept: Vec<Kept>,
        batches: Vec<(ShardId, Box<Batch>)>,
    ) {
        let places: Vec<Place> = kept.iter().map(|copy| self.durable.kept.place(*copy)).collect();
        kept.into_iter().for_each(|copy| self.durable.kept.release(copy));
        for (to, mut batch) in batches {
            for entry in &mut batch.entries {
                let copy = (entry.position.0 as usize).checked_sub(1).and_then(|nth| places.get(nth));
                entry.position = if let Some(Place::At(position)) = copy { *position } else { Position(0) };
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

/// The entry opened last has targets in the store, in the queues that this copy of the message joins; 0: it has none.
pub(crate) fn mark(batch: &mut Batch, copy: u64) {
    if let Some(entry) = batch.entries.last_mut()
        && copy > 0
    {
        entry.position = Position(copy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sessions: &[u64]) -> Vec<Wanted> {
        let terms = Terms::default();
        sessions.iter().map(|session| Wanted { session: SessionNumber(*session), terms }).collect()
    }

    #[test]
    fn a_session_is_in_each_copy_once() {
        let mut copies = Copies::default();
        let added = [&[3, 1][..], &[2, 4], &[4], &[], &[1, 5], &[4, 6], &[9]].map(|sessions| copies.add(of(sessions)));
        assert_eq!(added, [1, 1, 2, 0, 2, 3, 1]);
        let found: Vec<Vec<u64>> =
            copies.0.iter().map(|copy| copy.iter().map(|wanted| wanted.session.0).collect()).collect();
        assert_eq!(found, [vec![1, 2, 3, 4, 9], vec![1, 4, 5], vec![4, 6]]);
    }
}
