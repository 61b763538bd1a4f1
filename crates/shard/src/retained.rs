//! Retained messages: kept when published, sent to who subscribes, in slices.

use std::collections::VecDeque;

use breakwater_contract::Metric;
use breakwater_contract::store::Durability;
use breakwater_proto::{Message, MessageView, QoS};
use breakwater_router::{PackedGrant, Progress, RetainOutcome, RetainedCursor, Subscriber};
use breakwater_session::{Delivery, Shared};

use crate::conn::mark;
use crate::shard::Shard;
use crate::sys::is_sys;

/// Index entries that are looked at to find one slice.
const VISITS: usize = 512;
/// Answers looked at in one turn: those that wait for their subscriber, and those that are empty, cost a look each.
const LOOKS: usize = 256;
/// The tree of `$SYS` costs about as much to write down as so many retained messages.
const SYS_COST: usize = 64;
/// Bytes of retained messages sent ahead of a subscriber that reads slowly.
const AHEAD: usize = 128 * 1024;

/// What a session is owed of retained messages. Ends with it.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// One for each filter, oldest first.
    answers: VecDeque<Answer>,
    /// The session is in the shard's list of those to serve.
    listed: bool,
}

/// A subscriber's way through the retained messages of a filter.
#[derive(Debug)]
struct Answer {
    cursor: RetainedCursor,
    grant: PackedGrant,
    found: Vec<(Message, u64)>,
    /// SUBACK is written: the messages may follow.
    ready: bool,
}

impl<T: Send> Shard<T> {
    /// Keeps a message as the retained one of its topic, or clears it where the payload is empty. `session`: who says so, or
    /// [`NONE`](crate::conn::NONE). `promised`: to whoever says so; with `Memory` the store is told
    /// only that it has no other any more. Answers whether it goes to
    /// the store, so that an acknowledgement waits for that.
    pub(crate) fn retain(&mut self, view: &MessageView<'_>, session: u32, promised: Durability) -> bool {
        let durable = self.durable.is_on() && promised > Durability::Memory;
        if view.payload.is_empty() {
            let outcome = self.router.clear_retained(view.topic); // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
            // Also where there was none: another shard may have cleared it, and that may not be durable yet.
            if durable {
                self.record_cleared(view.topic, outcome.revision, view.qos, promised);
            } else {
                self.outdate_retained(view.topic, outcome);
            }
            return durable;
        }
        let expires_at = self.router.retained_end(view.topic, view.expires_at, self.now);
        let message = Message::new(&MessageView { expires_at, ..*view }, &mut self.building);
        let kept = durable.then(|| message.clone());
        let outcome = self.router.retain_as(message, durable); // [MQTT-3.3.1-5]
        let refused = outcome.refused.is_some();
        if refused {
            self.counters.bump(Metric::RetainedRefused);
        }
        match kept {
            Some(_) if refused && outcome.replaced => {
                self.record_cleared(view.topic, outcome.revision, view.qos, promised);
            }
            Some(message) if !refused => self.record_retained(message, outcome.revision, session, promised),
            _ => {
                self.outdate_retained(view.topic, outcome);
                return false;
            }
        }
        true
    }

    /// What the store has of a topic is no longer so, and what is, is not for the store: a start is not to bring the older one back.
    fn outdate_retained(&mut self, topic: &str, outcome: RetainOutcome) {
        if outcome.lasting && self.durable.is_on() {
            self.record_cleared(topic, outcome.revision, QoS::AtMostOnce, Durability::Os);
        }
    }

    /// A subscriber is owed what is retained under `filter`. If it still waits for an earlier answer to the same question,
    /// that one begins anew: who asks faster than it reads is owed one answer per filter, not one per SUBSCRIBE.
    pub(crate) fn owe_retained(&mut self, who: Subscriber, filter: &str, grant: PackedGrant) {
        self.forgive_retained(who, filter);
        let answer = Answer { cursor: RetainedCursor::new(filter), grant, found: Vec::new(), ready: false };
        self.owed.entry(who.slot).or_default().answers.push_back(answer);
        self.serve_retained(who);
    }

    /// What is left of an answer is owed no more: the subscription has ended, or is made anew.
    pub(crate) fn forgive_retained(&mut self, who: Subscriber, filter: &str) {
        if let Some(owed) = self.owed.get_mut(&who.slot)
            && let Some(place) = owed.answers.iter().position(|answer| answer.cursor.filter() == filter)
        {
            owed.answers.remove(place);
        }
    }

    /// SUBACK is written: what the session is owed may follow.
    pub(crate) fn release_retained(&mut self, session: u32) {
        if let Some(owed) = self.owed.get_mut(&session) {
            owed.answers.iter_mut().rev().take_while(|answer| !answer.ready).for_each(|answer| answer.ready = true);
        }
    }

    /// Puts a session that is owed something into the list of those to serve.
    pub(crate) fn serve_retained(&mut self, who: Subscriber) {
        if let Some(owed) = self.owed.get_mut(&who.slot)
            && !std::mem::replace(&mut owed.listed, true)
        {
            self.retained.push_back(who);
        }
    }

    /// Goes on with the subscribers that are owed retained messages. Answers whether some wait for room; `more`: some can
    /// go on at once.
    pub(crate) fn work_retained(&mut self, more: &mut bool) -> bool {
        let mut budget = self.options.retained_per_turn as usize;
        let mut looks = LOOKS;
        let (mut waiting, mut moved) = (false, false);
        for _ in 0..self.retained.len() {
            if looks == 0 || budget == 0 {
                // Those not looked at may have to wait as well; then there is no hurry.
                *more |= moved;
                waiting = true;
                break;
            }
            let Some(who) = self.retained.pop_front() else { break };
            looks -= 1;
            if self.sessions.get_of(who.slot, who.generation).is_none() {
                continue;
            }
            let Some(mut owed) = self.owed.remove(&who.slot) else { continue };
            owed.listed = false;
            let slice = self.work_owed(who, &mut owed, &mut looks, &mut budget, &mut moved);
            if !owed.answers.is_empty() {
                self.owed.insert(who.slot, owed);
            }
            match slice {
                // It is served again when it comes back.
                Slice::Done | Slice::Away => continue,
                Slice::Waits => waiting = true,
                Slice::More => *more = true,
            }
            self.serve_retained(who);
        }
        if self.retained.is_empty() && self.retained.capacity() > 64 {
            self.retained.shrink_to(16);
        }
        waiting
    }

    /// Answer after answer of one session. `moved`: some of it was got over with.
    fn work_owed(
        &mut self,
        who: Subscriber,
        owed: &mut Owed,
        looks: &mut usize,
        budget: &mut usize,
        moved: &mut bool,
    ) -> Slice {
        while let Some(answer) = owed.answers.front_mut() {
            let before = *budget;
            let slice = self.work_one(who, answer, budget);
            *moved |= matches!(slice, Slice::Done) || *budget < before;
            if !matches!(slice, Slice::Done) {
                return slice;
            }
            owed.answers.pop_front();
            if *looks == 0 {
                return if owed.answers.is_empty() { Slice::Done } else { Slice::More };
            }
            *looks -= 1;
        }
        Slice::Done
    }

    fn work_one(&mut self, who: Subscriber, answer: &mut Answer, budget: &mut usize) -> Slice {
        if !answer.ready {
            // The connection ended within its SUBSCRIBE: there was no SUBACK.
            return Slice::Done;
        }
        if is_sys(answer.cursor.filter()) {
            if *budget == 0 {
                return Slice::More;
            }
            *budget = budget.saturating_sub(SYS_COST);
            self.send_sys(who, answer.grant, answer.cursor.filter());
            return Slice::Done;
        }
        // Found in an earlier turn: newer messages may have gone out to the subscriber since.
        let mut old = answer.found.len();
        loop {
            while !answer.found.is_empty() {
                match self.room_for_retained(who) {
                    Room::Enough => {}
                    Room::None => return Slice::Waits,
                    Room::Away => return Slice::Away,
                }
                if *budget == 0 {
                    return Slice::More;
                }
                *budget -= 1;
                let Some((mut message, _revision)) = answer.found.pop() else { break };
                if answer.found.len() < old {
                    match self.router.retained(message.topic(), self.now) {
                        Some(current) => message = current,
                        None => continue,
                    }
                }
                self.send_retained(who, answer.grant, &message);
            }
            old = 0;
            match self.router.retained_next(&mut answer.cursor, self.now, VISITS, &mut answer.found) {
                Progress::Done if answer.found.is_empty() => return Slice::Done,
                _ => answer.found.reverse(),
            }
            if answer.found.is_empty() {
                return Slice::More;
            }
        }
    }

    /// Retained messages wait for a slow subscriber where they are, rather than fill its queue.
    pub(crate) fn room_for_retained(&mut self, who: Subscriber) -> Room {
        let Some(resident) = self.sessions.get_of(who.slot, who.generation) else { return Room::Away };
        let limits = self.profiles.limits(resident.profile);
        let slot = resident.conn;
        let Some(conn) = self.conns.get_mut(slot) else { return Room::Away };
        let mut bound = self.options.out_buffer_bytes;
        if conn.flags.marks.has(mark::METERED) {
            bound = conn.out_bound(self.profiles.rates(resident.profile), bound, self.now);
            if bound == 0 {
                // The timer that lets it be sent something again goes on with this, too.
                self.may_send(slot);
                return Room::Away;
            }
        }
        let ahead = AHEAD.min(bound as usize / 2);
        let queued = resident.session.queue_len() as u32;
        if queued <= limits.queue_messages_max / 2 && conn.unsent() <= ahead { Room::Enough } else { Room::None }
    }

    fn send_retained(&mut self, who: Subscriber, grant: PackedGrant, message: &Message) {
        if grant.no_local() && message.view().origin == who.as_u64() {
            return; // [MQTT-3.8.3-3]
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut shared = Shared::owned(message, &mut encoded);
        let delivery = Delivery {
            qos: message.view().qos.min(grant.qos()),
            retain: true, // [MQTT3-3.3.1-8]
            subscription_ids: grant.subscription_ids(),
            ..Delivery::default()
        };
        self.deliver_as(&mut shared, who, delivery);
        self.finish_keeping();
        self.encoded = encoded;
    }
}

enum Slice {
    Done,
    /// The subscriber has no room.
    Waits,
    /// The subscriber has no connection.
    Away,
    More,
}

pub(crate) enum Room {
    Enough,
    None,
    Away,
}
