//! What a session of the store leaves behind: messages that shared groups gave to it go to other members.
//!
//! - A session that ends and may owe such messages stays in the store a while longer, without a client: that is its estate. It is
//!   read there from the first message on, whether it was in memory or not, so that a start goes on with it where a crash cut it off.
//! - What its client had begun with QoS 2 stays out of it, and so does what is not of a group.
//! - To hand over a message is one change of the store: it joins the new member's queue and leaves the old one. So each is handed over
//!   once, whichever shard the member is at; it goes there when that is stored, as a held QoS 2 publish does. Only a member whose
//!   session the store does not know is given it first, and the store told then.
//! - Some are read at a time, and the next ones when all of them are settled. Nobody waits for any of it.
//! - A message that another shard has stored may be on its way to the session while it ends. Its estate has it then, or will have,
//!   so that it is not to be handed on a second time; an estate is remembered for a second after its end for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use breakwater_contract::store::{
    Answer, Change, Position, Question, Queued, SessionNumber, SessionRow, StoredSession, Submitted,
};
use breakwater_contract::{Metric, Token};
use breakwater_proto::{FilterKind, Instant, Message, parse_filter};
use breakwater_router::{GroupRef, PickTicket, Subscriber, Target};
use breakwater_session::{DropReason, Kept};

use crate::conn::NONE;
use crate::driver::{Driver, ShardId};
use crate::durable::{NOTE_BYTES, Promise};
use crate::kept::Place;
use crate::mail::{Batch, Entry, GroupTry};
use crate::pool::{Pool, is_pool};
use crate::route::entry_of;
use crate::shard::{Shard, later};

/// What is read at once, and under way at most.
const READ_MESSAGES: usize = 64;
const READ_BYTES: usize = 256 * 1024;
/// Worked on at a time; the others wait.
const ACTIVE: usize = 16;
/// Pools of which it is remembered that the store has them.
const WRITTEN_MAX: usize = 4096;
/// For so long it is remembered whose estate it was.
const REMEMBERED_MS: u64 = 1000;

/// Those of one shard, by a number of its own.
#[derive(Debug, Default)]
pub(crate) struct Estates {
    by_id: BTreeMap<u32, Estate>,
    next: u32,
}

#[derive(Debug)]
struct Estate {
    number: SessionNumber,
    /// Who the session was; none after a start.
    who: Option<Subscriber>,
    step: Step,
    /// Its shared subscriptions, and QoS 2 messages that its client may have.
    filters: Vec<Box<str>>,
    begun: BTreeSet<Position>,
    /// Read up to here, and settled up to there.
    cursor: Position,
    settled: Position,
    /// Handed over, and not known to be stored.
    under_way: u32,
    /// Some of these could not be stored.
    failed: bool,
    /// There is nothing behind the cursor.
    at_end: bool,
    /// Something came that an answer may not have known.
    again: bool,
    /// It is that of a group, and stays.
    pool: Option<Arc<Pool>>,
    /// Nobody is there to take it, or nothing is in it.
    rests: bool,
    /// Taken out of it in this second.
    in_second: u32,
    second: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The store is to know this batch first.
    Waits(u64),
    /// Its subscriptions and deliveries are to be read.
    Unknown,
    /// Its messages are.
    Known,
    /// A question is under way.
    Asked { known: bool },
    /// It is no more, since then.
    Over(Instant),
}

/// A message on its way from an estate to a member of its group.
pub(crate) struct HandedOver {
    estate: u32,
    kept: Kept,
    batches: Vec<(ShardId, Box<Batch>)>,
}

impl Estates {
    fn add(&mut self, estate: Estate) {
        self.next = self.next.wrapping_add(1);
        self.by_id.insert(self.next, estate);
    }

    /// Those that may be worked on.
    fn active(&self) -> Vec<u32> {
        let left = self.by_id.iter().filter(|(_, estate)| !estate.rests && !matches!(estate.step, Step::Over(_)));
        left.map(|(id, _)| *id).take(ACTIVE).collect()
    }

    /// Once a second: those that have ended.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        let is_old = |step| matches!(step, Step::Over(since) if later(since, REMEMBERED_MS) <= now);
        self.by_id.retain(|_, estate| !is_old(estate.step));
    }

    /// A group's, which is filled by all shards.
    pub(crate) fn add_pool(&mut self, pool: Arc<Pool>) {
        let mut estate = Estate::new(pool.number, None, Step::Known);
        estate.filters.push(pool.filter.clone());
        (estate.rests, estate.pool) = (true, Some(pool));
        self.add(estate);
    }

    /// Whether an estate had a message that comes for a session which has ended, or will have.
    pub(crate) fn has(&mut self, who: Subscriber, position: Position) -> bool {
        let mut of_one = self.by_id.values_mut().filter(|estate| estate.who == Some(who));
        let Some(estate) = of_one.next().filter(|_| position != Position(0)) else { return false };
        let is_read = position <= estate.cursor;
        let is_over = matches!(estate.step, Step::Over(_));
        // An answer that is under way may not know of it.
        estate.again |= !is_read && !is_over;
        is_read || !is_over
    }
}

impl Estate {
    fn new(number: SessionNumber, who: Option<Subscriber>, step: Step) -> Self {
        let (filters, begun) = (Vec::new(), BTreeSet::new());
        let (cursor, settled) = (Position(0), Position(0));
        Self {
            number,
            who,
            step,
            filters,
            begun,
            cursor,
            settled,
            under_way: 0,
            failed: false,
            at_end: false,
            again: false,
            pool: None,
            rests: false,
            in_second: 0,
            second: 0,
        }
    }

    fn know(&mut self, session: StoredSession) {
        self.filters = session.subscriptions.into_iter().map(|(filter, ..)| filter).collect();
        self.filters.retain(|filter| matches!(parse_filter(filter), Ok(FilterKind::Shared { .. })));
        self.begun = session.outbound.into_iter().filter_map(|(_, _, message)| message).collect();
        self.step = Step::Known;
    }
}

/// The row of an estate: that of a session without a client identifier, which no client has.
pub(crate) fn row(number: SessionNumber) -> SessionRow {
    SessionRow { number, expiry_s: u32::MAX, detached_unix_ms: 1, ..SessionRow::default() }
}

/// Whether a row of the store is that of an estate.
pub(crate) fn is_estate(row: &SessionRow) -> bool {
    row.client_id.is_empty()
}

impl<T: Send> Shard<T> {
    /// A session ends that may owe messages of shared groups: what the store has of it becomes an estate. `unsent`: packet
    /// identifiers of QoS 2 that its client was never sent. `false`: the store does not know it.
    pub(crate) fn leave_estate(&mut self, session: u32, unsent: &[u16]) -> bool {
        let who = self.subscriber_of(session);
        let asks = self.durability_of(session);
        let Some(number) = self.take_name(session) else { return false };
        for packet_id in unsent {
            self.record(Change::OutboundDone { session: number, packet_id: *packet_id }, NOTE_BYTES, false, asks);
        }
        self.record(Change::Session(Box::new(row(number))), 4 * NOTE_BYTES, true, asks);
        let step = Step::Waits(self.durable.next_batch());
        self.durable.estates.add(Estate::new(number, Some(who), step));
        true
    }

    /// A start has found an estate.
    pub(crate) fn take_estate_back(&mut self, session: StoredSession) {
        if is_pool(&session.row) {
            let Some((filter, ..)) = session.subscriptions.first() else { return };
            let pool = Arc::new(Pool::new(session.row.number, filter, self.now.0));
            pool.add(session.tally.messages, session.tally.bytes);
            self.returning.pools.enter(&pool);
            return self.durable.estates.add_pool(pool);
        }
        let mut estate = Estate::new(session.row.number, None, Step::Unknown);
        estate.know(session);
        self.durable.estates.add(estate);
    }

    /// A batch is answered, or a second is over.
    pub(crate) fn estates_may_go_on(&mut self) {
        if self.durable.estates.by_id.is_empty() {
            return;
        }
        for id in self.durable.estates.active() {
            self.go_on_with_estate(id);
        }
    }

    fn go_on_with_estate(&mut self, id: u32) {
        let (shard, answered) = (self.id, self.durable.answered());
        let Some(store) = self.durable.store() else { return };
        let Some(estate) = self.durable.estates.by_id.get_mut(&id) else { return };
        if matches!(estate.step, Step::Waits(batch) if batch <= answered) {
            estate.step = Step::Unknown;
        }
        let known = estate.step == Step::Known;
        if !(known || estate.step == Step::Unknown) || estate.under_way > 0 {
            return;
        }
        if std::mem::take(&mut estate.failed) {
            // What was handed over has left the queue.
            (estate.cursor, estate.at_end) = (estate.settled, false);
        }
        estate.at_end &= !std::mem::take(&mut estate.again);
        estate.settled = estate.cursor;
        let (session, after) = (estate.number, estate.cursor);
        if estate.at_end && estate.pool.is_some() {
            estate.rests = true;
            return;
        }
        if estate.at_end {
            estate.step = Step::Over(self.now);
            return self.record(Change::RemoveSession(session), 32, false, self.durable.durability);
        }
        let question = if known {
            Question::Queue { session, after, messages_max: READ_MESSAGES, bytes_max: READ_BYTES }
        } else {
            Question::Session(session)
        };
        let token = Token { shard, slot: NONE, generation: id, sequence: 0 };
        let before = std::mem::replace(&mut estate.step, Step::Asked { known });
        if store.ask(token, question) == Submitted::Refused {
            // Tried again within a second.
            estate.step = before;
        }
    }

    /// The store has answered what was asked for an estate.
    pub(crate) fn on_estate_read<D: Driver<Transport = T>>(&mut self, driver: &mut D, id: u32, answer: Answer) {
        let Some(estate) = self.durable.estates.by_id.get_mut(&id) else { return };
        let Step::Asked { known } = estate.step else { return };
        estate.step = if known { Step::Known } else { Step::Unknown };
        match answer {
            Answer::Session(Some(session)) => estate.know(*session),
            Answer::Session(None) => estate.step = Step::Over(self.now),
            Answer::Queue { messages, more } => {
                estate.at_end = !more;
                for queued in messages {
                    if self.nobody_takes(id) {
                        break;
                    }
                    self.settle_one(driver, id, queued);
                }
            }
            // Tried again within a second.
            _ => return,
        }
        self.estates_may_go_on();
    }

    /// Whether messages of a pool have to wait: they go to members that are there only.
    fn nobody_takes(&mut self, id: u32) -> bool {
        let Some(estate) = self.durable.estates.by_id.get(&id) else { return true };
        let Some(pool) = estate.pool.clone() else { return false };
        let is_there = self.someone_is_there(&pool) != Some(false);
        let (now, most) = (self.now.0, self.options.limits.queue_messages_max / 2);
        let mut waits = !is_there || pool.is_paused(now);
        if let Some(estate) = self.durable.estates.by_id.get_mut(&id) {
            if estate.second != now / 1000 {
                (estate.second, estate.in_second) = (now / 1000, 0);
            }
            waits |= estate.in_second > most;
            estate.in_second += 1;
            (estate.rests, estate.at_end) = (waits, estate.at_end && !waits);
        }
        waits
    }

    /// Once a second, and when a member comes: pools with somebody to take what is in them, and those that have come to their end.
    pub(crate) fn wake_pools(&mut self) {
        let now = self.now.0;
        if self.durable.pools_written.len() > WRITTEN_MAX {
            // They are written once more.
            self.durable.pools_written.clear();
        }
        let resting = |(id, estate): (&u32, &Estate)| Some((*id, estate.pool.clone().filter(|_| estate.rests)?));
        let pools: Vec<_> = self.durable.estates.by_id.iter().filter_map(resting).collect();
        for (id, pool) in pools {
            let there = self.someone_is_there(&pool);
            let Some(estate) = self.durable.estates.by_id.get_mut(&id) else { continue };
            if there.is_none() && estate.under_way == 0 && self.returning.pools.strike(&pool, now) {
                estate.step = Step::Over(self.now);
                self.durable.pools_written.remove(&pool.number);
                self.record(Change::RemoveSession(pool.number), 32, false, self.durable.durability);
                continue;
            }
            if estate.at_end && estate.under_way == 0 && !pool.is_recent(now) {
                pool.empty();
            } else if there == Some(true) && !pool.is_paused(now) {
                (estate.rests, estate.at_end) = (false, false);
                self.go_on_with_estate(id);
            }
        }
    }

    /// A message of an estate comes to nothing. Those of a pool, which stays, leave it by themselves.
    fn leave_pool(&mut self, id: u32, position: Position, bytes: usize) {
        let Some(estate) = self.durable.estates.by_id.get(&id) else { return };
        let (number, Some(pool)) = (estate.number, &estate.pool) else { return };
        pool.leave(bytes as u64);
        let forget = Change::Forget { session: number, messages: vec![position] };
        self.record(forget, NOTE_BYTES, false, self.durable.durability);
    }

    /// One message of an estate: to another member, or nowhere.
    fn settle_one<D: Driver<Transport = T>>(&mut self, driver: &mut D, id: u32, queued: Queued) {
        let Some(estate) = self.durable.estates.by_id.get_mut(&id) else { return };
        estate.cursor = queued.position;
        let is_begun = estate.begun.contains(&queued.position);
        let Some(message) = &queued.message else {
            self.counters.bump(Metric::DroppedGone);
            return self.leave_pool(id, queued.position, 0);
        };
        if !queued.terms.shared || is_begun {
            return;
        }
        if message.expires_at().is_some_and(|at| at <= self.now) {
            self.report.drops.count(DropReason::Expired);
            return self.leave_pool(id, queued.position, message.byte_len());
        }
        let router = &self.router;
        let groups = estate.filters.iter().filter_map(|text| match parse_filter(text) {
            Ok(FilterKind::Shared { group, filter }) if breakwater_proto::matches(filter, message.topic()) => {
                router.find_group(group, filter)
            }
            _ => None,
        });
        let groups: Vec<GroupRef> = groups.collect();
        for group in groups {
            let attempt = GroupTry { group, topic_hash: self.chance(), client_hash: 0, tried: None };
            let random = self.chance();
            let GroupTry { topic_hash, client_hash, .. } = attempt;
            let ticket = PickTicket { shard: self.id, topic_hash, client_hash, random, tried: &[] };
            if let Some(target) = self.router.pick(group, &ticket) {
                return self.hand_over(driver, id, (queued.position, queued.unix_ms), message, (attempt, target));
            }
        }
        self.counters.bump(Metric::DroppedGone);
        self.leave_pool(id, queued.position, message.byte_len());
    }

    fn hand_over<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        id: u32,
        (position, unix_ms): (Position, u64),
        message: &Message,
        (attempt, target): (GroupTry, Target),
    ) {
        let Some(estate) = self.durable.estates.by_id.get_mut(&id) else { return };
        let number = estate.number;
        if let Some(pool) = &estate.pool {
            pool.leave(message.byte_len() as u64);
        }
        let view = message.view();
        let Target { subscriber, grant } = target;
        let entry = Entry { group: Some(attempt), ..entry_of(&view) };
        let (mut batches, mut wanted) = (Vec::new(), Vec::new());
        self.open_in(&mut batches, subscriber.shard, entry, &view);
        let ids = grant.subscription_ids();
        let asks = self.want(&view, subscriber, grant, (ids, true), &mut wanted);
        if let Some((_, batch)) = batches.last_mut() {
            batch.add_target(subscriber, grant, &[]);
            crate::forward::mark(batch, u64::from(asks.is_some()));
        }
        let forget = Change::Forget { session: number, messages: vec![position] };
        let Some(asks) = asks else {
            self.send_held(driver, Vec::new(), batches);
            return self.record(forget, NOTE_BYTES, false, self.durable.durability);
        };
        let bytes = message.byte_len() + 2 * NOTE_BYTES;
        self.make_room(bytes);
        // One holder is the batch, the other one what is handed over.
        let kept = self.durable.kept.open(Place::Unknown);
        self.durable.kept.hold(kept);
        let change = Change::Message { message: message.clone(), unix_ms, sessions: wanted };
        self.record_message(change, kept, bytes, asks);
        self.record_along(forget, NOTE_BYTES, true, asks);
        if let Some(estate) = self.durable.estates.by_id.get_mut(&id) {
            estate.under_way += 1;
        }
        let _ = self.durable.promise(Promise::HandOver(Box::new(HandedOver { estate: id, kept, batches })));
    }

    /// The store has that a message was handed over, or has not.
    pub(crate) fn on_handed_over<D: Driver<Transport = T>>(&mut self, driver: &mut D, over: HandedOver, stored: bool) {
        let HandedOver { estate: id, kept, batches } = over;
        if stored {
            self.send_held(driver, vec![kept], batches);
        } else {
            self.durable.kept.release(kept);
        }
        let Some(estate) = self.durable.estates.by_id.get_mut(&id) else { return };
        estate.under_way -= 1;
        estate.failed |= !stored;
        // Where it failed it is tried again within a second.
        if stored {
            self.estates_may_go_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_message_is_the_estates_until_that_is_over_and_then_if_it_was_read() {
        let who = Subscriber { shard: 1, generation: 2, slot: 3 };
        let mut estates = Estates::default();
        estates.add(Estate { cursor: Position(5), ..Estate::new(SessionNumber(1), Some(who), Step::Known) });
        assert!(estates.has(who, Position(5)) && !estates.by_id[&1].again);
        assert!(estates.has(who, Position(9)) && estates.by_id[&1].again, "it is read once more");
        assert!(!estates.has(who, Position(0)), "it is not in the store");
        assert!(!estates.has(Subscriber { slot: 4, ..who }, Position(5)), "another session");
        estates.by_id.values_mut().for_each(|estate| estate.step = Step::Over(Instant(0)));
        assert!(estates.has(who, Position(5)) && !estates.has(who, Position(9)));
    }

    #[test]
    fn the_row_of_an_estate_is_no_clients() {
        assert!(is_estate(&row(SessionNumber(1))));
        assert!(!is_estate(&SessionRow { client_id: "c".into(), ..row(SessionNumber(1)) }));
    }
}
