//! Messages of shared groups whose members are all away: they wait for the group, and the first member that comes back gets them.
//!
//! - A pool is a session of the store without a client identifier, one for each group that needed it. Whichever shard has a
//!   message for it puts it into its queue, with the rows that make it: a batch that failed before may have had them.
//! - One shard looks once a second whether a member is there, and hands the messages over as those of an
//!   [`estate`](crate::estate), so each of them once.
//! - Half a queue is handed over in a second: a member that takes what it gets has room for it. What it has no room for comes back.
//! - Bounded as the queue of a session is; what does not fit goes to a member that is away, as it does without a store.
//! - A pool that nobody has used for a while ends when its group has no members.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use breakwater_contract::store::{Change, Durability, SessionNumber, SessionRow, Terms, Wanted};
use breakwater_proto::{FilterKind, Message, MessageView, QoS, parse_filter};
use breakwater_router::{GroupRef, Target};
use breakwater_session::QueueFull;

use crate::durable::NOTE_BYTES;
use crate::kept::Place;
use crate::shard::Shard;

/// A batch that takes longer than this to be stored has failed.
pub(crate) const RECENT_MS: u64 = 60_000;
/// So long nothing is handed over to members that have no room.
const PAUSE_MS: u64 = 1000;
/// What the row of a pool says, so that a start knows it.
const ATTRIBUTES: &[u8] = b"pool";

/// Those of all shards, by group as a filter has it.
#[derive(Debug, Default)]
pub(crate) struct Pools(RwLock<BTreeMap<Box<str>, Arc<Pool>>>);

/// One group's.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) number: SessionNumber,
    /// As a filter: `$share/…`.
    pub(crate) filter: Box<str>,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// When a message was put into it last, by the clock of the process.
    used: AtomicU64,
    /// Members have no room until then.
    paused_until: AtomicU64,
}

impl Pools {
    pub(crate) fn enter(&self, pool: &Arc<Pool>) {
        let mut pools = self.0.write().unwrap_or_else(PoisonError::into_inner);
        pools.entry(pool.filter.clone()).or_insert_with(|| Arc::clone(pool));
    }

    /// A pool ends, unless it was used just now.
    pub(crate) fn strike(&self, pool: &Pool, now: u64) -> bool {
        let mut pools = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if pool.is_recent(now) {
            return false;
        }
        if pools.get(&pool.filter).is_some_and(|other| other.number == pool.number) {
            pools.remove(&pool.filter);
        }
        true
    }

    /// Whether a message would find room in the pool of a group, which need not be there yet.
    fn has_room(&self, filter: &str, bytes: u64, most: (u64, u64)) -> bool {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pools.get(filter).map_or(most.0 > 0 && bytes <= most.1, |pool| pool.fits(bytes, most))
    }

    /// The pool of a group, with room taken in it. `Err`: there is none.
    fn take_room(&self, filter: &str, now: u64, bytes: u64, most: (u64, u64)) -> Result<Option<Arc<Pool>>, ()> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.get(filter).ok_or(())?;
        Ok(pool.take_room(now, bytes, most).then(|| Arc::clone(pool)))
    }
}

impl Pool {
    pub(crate) fn new(number: SessionNumber, filter: &str, now: u64) -> Self {
        let (messages, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            number,
            filter: filter.into(),
            messages,
            bytes,
            used: AtomicU64::new(now),
            paused_until: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_recent(&self, now: u64) -> bool {
        now < self.used.load(Ordering::Relaxed).saturating_add(RECENT_MS)
    }

    pub(crate) fn is_paused(&self, now: u64) -> bool {
        now < self.paused_until.load(Ordering::Relaxed)
    }

    /// So many are in it already.
    pub(crate) fn add(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self, bytes: u64) {
        let less = |counter: &AtomicU64, by: u64| {
            _ = counter.try_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old.saturating_sub(by)));
        };
        less(&self.messages, 1);
        less(&self.bytes, bytes);
    }

    /// Nothing is in it, whatever was counted of batches that failed.
    pub(crate) fn empty(&self) {
        self.messages.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Two shards may pass the bound by a message each.
    fn take_room(&self, now: u64, bytes: u64, most: (u64, u64)) -> bool {
        let fits = self.fits(bytes, most);
        if fits {
            self.add(1, bytes);
            self.used.fetch_max(now, Ordering::Relaxed);
        }
        fits
    }

    fn fits(&self, bytes: u64, most: (u64, u64)) -> bool {
        let is = (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        is.0 < most.0 && is.1.saturating_add(bytes) <= most.1
    }

    /// What makes it in the store.
    fn rows(&self) -> [Change; 2] {
        let (session, filter) = (self.number, self.filter.clone());
        let attributes = crate::replay::attributes(&filter).unwrap_or_else(|| ATTRIBUTES.into());
        let row = SessionRow { attributes, ..crate::estate::row(session) };
        [Change::Session(Box::new(row)), Change::Subscribe { session, filter, options: 0, identifier: 0 }]
    }
}

/// Whether the row of an estate is that of a pool.
pub(crate) fn is_pool(row: &SessionRow) -> bool {
    *row.attributes == *ATTRIBUTES
}

/// What a message counts in a pool.
fn bytes_of(view: &MessageView<'_>) -> u64 {
    (view.topic.len() + view.payload.len() + view.properties.len()) as u64
}

impl<T: Send> Shard<T> {
    /// A member that is away was chosen for a message: it waits for the whole group instead, on that member's durability. None: it can't,
    /// as where nothing of that member is stored.
    pub(crate) fn pool_for(
        &mut self,
        view: &MessageView<'_>,
        group: GroupRef,
        target: Target,
        is_back: bool,
    ) -> Option<(Arc<Pool>, Wanted, Durability)> {
        if crate::replay::is_rule(target.subscriber) {
            return self.replay_pool(view, target.subscriber);
        }
        if !self.durable.is_on() || !target.grant.durable() || view.qos.min(target.grant.qos()) == QoS::AtMostOnce {
            return None;
        }
        let (_, asks) = self.returning.roster.find(target.subscriber)?;
        let mut filter = String::new();
        if !self.router.group_text(group, &mut filter) {
            return None;
        }
        let bytes = bytes_of(view);
        // Where publishers are refused nothing is lost that was taken: it comes back though others have its room by now.
        let has_room = is_back && self.options.limits.queue_full == QueueFull::Refuse;
        let most = if has_room { (u64::MAX, u64::MAX) } else { self.pool_bounds() };
        let pool = match self.returning.pools.take_room(&filter, self.now.0, bytes, most) {
            Ok(pool) => pool?,
            Err(()) => {
                let pool = Arc::new(Pool::new(self.durable.store()?.new_session(), &filter, self.now.0));
                self.returning.pools.enter(&pool);
                // Two shards may have made one each: both are looked after.
                self.durable.estates.add_pool(Arc::clone(&pool));
                pool.take_room(self.now.0, bytes, most).then_some(pool)?
            }
        };
        let terms = Terms { qos: view.qos, shared: true, ..Terms::default() };
        let wanted = Wanted { session: pool.number, terms };
        Some((pool, wanted, asks))
    }

    fn pool_bounds(&self) -> (u64, u64) {
        let limits = &self.options.limits;
        (u64::from(limits.queue_messages_max), u64::from(limits.queue_bytes_max))
    }

    /// Whether the pool of a group has room for a message.
    pub(crate) fn pool_has_room(&self, group: GroupRef, view: &MessageView<'_>) -> bool {
        let mut filter = String::new();
        self.durable.is_on()
            && self.router.group_text(group, &mut filter)
            && self.returning.pools.has_room(&filter, bytes_of(view), self.pool_bounds())
    }

    /// Makes a pool in the store, if it is not there: goes before its message, in the same batch.
    pub(crate) fn record_pool(&mut self, pool: &Pool, asks: Durability) {
        let batch = self.durable.next_batch();
        let (answered, failed) = (self.durable.answered(), self.durable.failed());
        let written = self.durable.pools_written.entry(pool.number).or_default();
        // Until it is known to be there each batch has them, for the one that had them may fail.
        if (written.0 > failed && written.0 <= answered) || written.1 == batch {
            return;
        }
        *written = (if written.0 > failed { written.0 } else { batch }, batch);
        for change in pool.rows() {
            self.record_along(change, NOTE_BYTES, true, asks);
        }
    }

    /// Puts a message where the first member that comes finds it. `false`: it can't.
    /// `is_back`: a member had no room for it, and is left alone for a while.
    pub(crate) fn put_in_pool(
        &mut self,
        view: &MessageView<'_>,
        group: GroupRef,
        target: Target,
        is_back: bool,
    ) -> bool {
        let Some((pool, wanted, asks)) = self.pool_for(view, group, target, is_back) else { return false };
        self.finish_keeping();
        if is_back {
            pool.paused_until.fetch_max(self.now.0 + PAUSE_MS, Ordering::Relaxed);
        }
        let message = Message::new(view, &mut self.building);
        let bytes = message.byte_len() + pool.filter.len() + 8 * NOTE_BYTES;
        self.make_room(bytes);
        self.record_pool(&pool, asks);
        let kept = self.durable.kept.open(Place::Unknown);
        let change = Change::Message { message, unix_ms: self.unix_ms, sessions: vec![wanted] };
        if view.qos == QoS::AtMostOnce {
            self.record_message_unhurried(change, kept, bytes, asks);
        } else {
            self.record_message(change, kept, bytes, asks);
        }
        if let Some(publishing) = &mut self.publishing {
            publishing.here = true;
        }
        true
    }

    /// Whether a member of the pool's group is there; None: it has no members.
    pub(crate) fn someone_is_there(&self, pool: &Pool) -> Option<bool> {
        let Ok(FilterKind::Shared { group, filter }) = parse_filter(&pool.filter) else { return None };
        Some(self.router.has_online(self.router.find_group(group, filter)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_bounds_and_ends_when_it_is_not_used() {
        let pools = Pools::default();
        assert!(pools.take_room("$share/g/t", 0, 1, (2, 10)).is_err());
        let pool = Arc::new(Pool::new(SessionNumber(1), "$share/g/t", 0));
        pools.enter(&pool);
        let fits = |bytes| pools.take_room("$share/g/t", 5, bytes, (2, 10)).is_ok_and(|pool| pool.is_some());
        assert_eq!([fits(11), fits(4), fits(7), fits(6), fits(0)], [false, true, false, true, false]);
        pool.leave(6);
        assert!(fits(6));
        assert!(!pools.strike(&pool, RECENT_MS) && pools.strike(&pool, RECENT_MS + 5));
        assert!(pools.take_room("$share/g/t", 0, 1, (2, 10)).is_err());
    }

    #[test]
    fn the_row_of_a_pool_is_known_again() {
        let [Change::Session(row), _] = Pool::new(SessionNumber(1), "$share/g/t", 0).rows() else { panic!() };
        assert!(is_pool(&row) && crate::estate::is_estate(&row));
        assert!(!is_pool(&crate::estate::row(SessionNumber(1))));
    }
}
