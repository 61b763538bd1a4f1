//! What sessions and publishers were promised, by the zones that their clients came through; and sessions that move between zones.
//!
//! What the store is told of a session is as durable as the zone of its last connection says, and a batch as durable as the strongest
//! in it. A session of a zone that says `Memory` is none of the store's. So where one moves,
//!
//! - out of such a zone, the store gets all that it has, before CONNACK leaves;
//! - into such a zone, it leaves the store once nothing waits for it there. Until then it stays as it is, and what comes is told to the
//!   operating system: of what waits somebody was told that it is stored. That is looked at when its client comes, and when it goes.

use breakwater_contract::store::{Change, Durability, MessageAt, OutboundState, Wanted};
use breakwater_router::FilterId;

use crate::durable::NOTE_BYTES;
use crate::keeping::terms_of;
use crate::kept::Place;
use crate::profile::DEFAULT;
use crate::shard::Shard;

impl<T: Send> Shard<T> {
    /// What a session's zone says, or that of the broker where there is no session.
    pub(crate) fn zone_durability(&self, session: u32) -> Durability {
        self.profiles.durability(self.sessions.get(session).map_or(DEFAULT, |resident| resident.profile))
    }

    /// What is asked of the store for a session that it knows.
    pub(crate) fn durability_of(&self, session: u32) -> Durability {
        self.zone_durability(session).max(Durability::Os)
    }

    /// A session that the store knows has its client from a zone that keeps nothing, or had it: it leaves the store if nothing waits for
    /// it there. Answers whether it did.
    pub(crate) fn leave_store(&mut self, session: u32) -> bool {
        let Some(resident) = self.sessions.get(session).filter(|resident| resident.lasting.is_some()) else {
            return false;
        };
        if self.zone_durability(session) > Durability::Memory {
            return false;
        }
        let held = &resident.session;
        let mut waits = held.is_cut() || held.excess() > 0 || held.has_missing();
        held.each_kept(|_| waits = true);
        if !waits {
            self.let_go(session);
            self.forget_session(session);
        }
        !waits
    }

    /// A session that was in memory alone has its row in the store from here on: so has what belongs to it.
    pub(crate) fn take_into_store(&mut self, session: u32) {
        let asks = self.durability_of(session);
        let who = self.subscriber_of(session);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let number = resident.number();
        let (ids, inbound) = (resident.session.subscriptions.to_vec(), resident.session.held_publishes());
        let (mut messages, kept) = (Vec::new(), &mut self.durable.kept);
        let received = resident.session.keep_all(|message, delivery, flight| {
            // One holder is the batch, the other one the session.
            let name = kept.open(Place::Unknown);
            kept.hold(name);
            messages.push((message.clone(), terms_of(delivery), flight, name));
            name
        });
        for id in ids.into_iter().map(FilterId::from_u32) {
            let mut text = String::new();
            if let Some(grant) = self.router.grant(id, who)
                && self.router.filter_text(id, &mut text)
            {
                let name = self.name_of(session, None, &text);
                self.record_subscription(session, &name, grant);
            }
        }
        for packet_id in inbound {
            self.record(Change::Inbound { session: number, packet_id, held: true }, NOTE_BYTES, true, asks);
        }
        for packet_id in received {
            let change = Change::Outbound { session: number, packet_id, state: OutboundState::Received, message: None };
            self.record(change, NOTE_BYTES, true, asks);
        }
        for (message, terms, flight, name) in messages {
            let bytes = message.byte_len() + NOTE_BYTES;
            self.make_room(bytes + NOTE_BYTES);
            let sessions = vec![Wanted { session: number, terms }];
            self.record_message(Change::Message { message, unix_ms: self.unix_ms, sessions }, name, bytes, asks);
            if let Some(packet_id) = flight {
                let message = self.durable.in_batch(name).map(MessageAt::InBatch);
                let change = Change::Outbound { session: number, packet_id, state: OutboundState::Sent, message };
                self.record_along(change, NOTE_BYTES, true, asks);
            }
        }
        let batch = self.durable.next_batch();
        if let Some(lasting) = self.sessions.get_mut(session).and_then(|resident| resident.lasting.as_deref_mut()) {
            lasting.kept_until = batch;
        }
    }
}
