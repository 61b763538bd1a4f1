//! Retained messages: kept when published, sent to who subscribes, in slices.

use breakwater_contract::Metric;
use breakwater_proto::{Message, MessageView};
use breakwater_router::{PackedGrant, Progress, RetainedCursor, Subscriber};
use breakwater_session::{Delivery, Shared};

use crate::conn::NONE;
use crate::driver::Driver;
use crate::shard::Shard;

/// Index entries that are looked at to find one slice.
const VISITS: usize = 512;
/// Jobs looked at in one turn: those that wait for their subscriber cost a look each.
const LOOKS: usize = 64;
/// Bytes of retained messages sent ahead of a subscriber that reads slowly.
const AHEAD: usize = 128 * 1024;

/// A subscriber on its way through the retained messages of a filter.
#[derive(Debug)]
pub(crate) struct RetainedJob {
    who: Subscriber,
    cursor: RetainedCursor,
    grant: PackedGrant,
    found: Vec<(Message, u64)>,
    filter_is_sys: bool,
    /// SUBACK is written: the messages may follow.
    pub(crate) ready: bool,
}

impl RetainedJob {
    pub(crate) fn new(who: Subscriber, filter: &str, grant: PackedGrant) -> Self {
        let filter_is_sys = filter.starts_with("$SYS");
        Self { who, cursor: RetainedCursor::new(filter), grant, found: Vec::new(), filter_is_sys, ready: false }
    }
}

impl<T: Send> Shard<T> {
    /// Keeps a message as the retained one of its topic, or clears it where the payload is empty.
    pub(crate) fn retain(&mut self, view: &MessageView<'_>) {
        if view.payload.is_empty() {
            self.router.clear_retained(view.topic); // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
            return;
        }
        let message = Message::new(view, &mut self.building);
        let outcome = self.router.retain(message); // [MQTT-3.3.1-5]
        if outcome.refused.is_some() {
            self.counters.bump(Metric::RetainedRefused);
        }
    }

    /// A subscriber is owed what is retained under `filter`. If it still waits for an earlier answer to the same question,
    /// that one begins anew: who asks faster than it reads is owed one answer per filter, not one per SUBSCRIBE.
    pub(crate) fn owe_retained(&mut self, who: Subscriber, filter: &str, grant: PackedGrant) {
        self.forgive_retained(who, filter);
        self.retained.push_back(RetainedJob::new(who, filter, grant));
        self.count_owed(who, true);
    }

    /// What is left of an answer is owed no more: the subscription has ended, or is made anew.
    pub(crate) fn forgive_retained(&mut self, who: Subscriber, filter: &str) {
        if self.sessions.get_of(who.slot, who.generation).is_none_or(|resident| resident.owed == 0) {
            return;
        }
        let place = self.retained.iter().position(|job| job.who == who && job.cursor.filter() == filter);
        if place.and_then(|place| self.retained.remove(place)).is_some() {
            self.count_owed(who, false);
        }
    }

    fn count_owed(&mut self, who: Subscriber, more: bool) {
        if let Some(resident) = self.sessions.get_of(who.slot, who.generation) {
            resident.owed = if more { resident.owed + 1 } else { resident.owed - 1 };
        }
    }

    /// Goes on with the subscribers that are owed retained messages. Answers whether some wait for room; `more`: some can
    /// go on at once.
    pub(crate) fn work_retained<D: Driver<Transport = T>>(&mut self, _driver: &mut D, more: &mut bool) -> bool {
        let mut budget = self.options.retained_per_turn as usize;
        let mut waiting = false;
        for _ in 0..self.retained.len().min(LOOKS) {
            let Some(mut job) = self.retained.pop_front() else { break };
            match self.work_one(&mut job, &mut budget) {
                Slice::Done => {
                    self.count_owed(job.who, false);
                    continue;
                }
                Slice::Waits => waiting = true,
                Slice::More => *more = true,
            }
            self.retained.push_back(job);
            if budget == 0 {
                *more = true;
                break;
            }
        }
        if self.retained.is_empty() && self.retained.capacity() > 64 {
            self.retained.shrink_to(16);
        }
        waiting
    }

    fn work_one(&mut self, job: &mut RetainedJob, budget: &mut usize) -> Slice {
        if !job.ready {
            // The connection ended within its SUBSCRIBE: there was no SUBACK.
            return Slice::Done;
        }
        if job.filter_is_sys {
            self.send_sys(job.who, job.grant, job.cursor.filter());
            return Slice::Done;
        }
        loop {
            while let Some((message, _revision)) = job.found.last() {
                if !self.has_room_for_retained(job.who) {
                    return if self.sessions.get_of(job.who.slot, job.who.generation).is_some() {
                        Slice::Waits
                    } else {
                        Slice::Done
                    };
                }
                if *budget == 0 {
                    return Slice::More;
                }
                *budget -= 1;
                let message = message.clone();
                job.found.pop();
                self.send_retained(job, &message);
            }
            match self.router.retained_next(&mut job.cursor, self.now, VISITS, &mut job.found) {
                Progress::Done if job.found.is_empty() => return Slice::Done,
                _ => job.found.reverse(),
            }
            if job.found.is_empty() {
                return Slice::More;
            }
        }
    }

    /// Retained messages wait for a slow subscriber where they are, rather than fill its queue.
    fn has_room_for_retained(&mut self, who: Subscriber) -> bool {
        let limits = &self.options.limits;
        let Some(resident) = self.sessions.get_of(who.slot, who.generation) else { return false };
        let queued = resident.session.queue_len() as u32;
        if queued > limits.queue_messages_max / 2 {
            return false;
        }
        let ahead = AHEAD.min(self.options.out_buffer_bytes as usize / 2);
        match self.conns.get(resident.conn) {
            Some(conn) => conn.unsent() <= ahead,
            None => resident.conn == NONE && resident.session.is_durable(),
        }
    }

    fn send_retained(&mut self, job: &RetainedJob, message: &Message) {
        if job.grant.no_local() && message.view().origin == job.who.as_u64() {
            return; // [MQTT-3.8.3-3]
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut shared = Shared::owned(message, &mut encoded);
        let id = [job.grant.subscription_id()];
        let delivery = Delivery {
            qos: message.view().qos.min(job.grant.qos()),
            retain: true, // [MQTT3-3.3.1-8]
            subscription_ids: if id[0] == 0 { &[] } else { &id },
            shared: false,
        };
        self.deliver_as(&mut shared, job.who, &delivery);
        self.encoded = encoded;
    }
}

enum Slice {
    Done,
    /// The subscriber has no room.
    Waits,
    More,
}
