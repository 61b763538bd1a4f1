//! What waits in the queues of all sessions, and of those of each user: bounds beside those of each queue.
//!
//! - Counted where messages join or leave a queue, and only where there is a bound; never for a message that goes straight out.
//! - While a bound is reached, a queue that takes part in it is full as it is, and `queue.when_full` of its session says what that means.
//!   A client that is there and has nothing waiting may have one message wait all the same: nobody else's absence keeps it from its own.
//! - The numbers are shared by all shards, and each looks before it adds: so a bound may be passed by a message per shard, and by what was
//!   under way when it was reached (see [`refusal`](crate::refusal)).
//! - A session stands in for its user in a table of its shard, beside the session, and only where users have bounds.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use breakwater_contract::Metric;

use crate::conn::NONE;
use crate::options::QueueTotals;
use crate::shard::Shard;

/// What waits for some sessions.
#[derive(Debug, Default)]
pub(crate) struct Total {
    /// Whose; empty for all.
    user: Box<str>,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// As it was last seen.
    is_reached: AtomicBool,
}

/// Bounds of a total; 0 for none.
#[derive(Clone, Copy, Debug)]
struct Most {
    messages: u64,
    bytes: u64,
}

impl Total {
    fn is_reached(&self, most: Most) -> bool {
        let reached = |is: &AtomicU64, most: u64| most > 0 && is.load(Ordering::Relaxed) >= most;
        reached(&self.messages, most.messages) || reached(&self.bytes, most.bytes)
    }

    /// `reasons`: one more while the bound is reached. Shards that do this at once may leave it wrong until the next one does; who looks
    /// closer goes by the numbers themselves.
    fn add(&self, (messages, bytes): (i64, i64), most: Most, reasons: &AtomicU32) {
        self.messages.fetch_add(messages.cast_unsigned(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes.cast_unsigned(), Ordering::Relaxed);
        let is = self.is_reached(most);
        if self.is_reached.load(Ordering::Relaxed) != is && self.is_reached.swap(is, Ordering::Relaxed) != is {
            if is {
                reasons.fetch_add(1, Ordering::Relaxed);
            } else {
                reasons.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Those of the node, and of its users that have sessions.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    all: Total,
    users: RwLock<HashMap<Box<str>, Arc<Total>>>,
}

impl Totals {
    pub(crate) fn queued(&self) -> (u64, u64) {
        (self.all.messages.load(Ordering::Relaxed), self.all.bytes.load(Ordering::Relaxed))
    }

    fn user(&self, name: &str) -> Arc<Total> {
        if let Some(total) = self.users.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(total);
        }
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let total =
            users.entry(name.into()).or_insert_with(|| Arc::new(Total { user: name.into(), ..Total::default() }));
        Arc::clone(total)
    }

    /// A session has let go of its user's, which goes with the last one.
    fn forget(&self, total: &Arc<Total>) {
        // One is in the table, one the caller's.
        if Arc::strong_count(total) <= 2 {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            if Arc::strong_count(total) <= 2 {
                users.remove(&total.user);
                if users.capacity() > 64 && users.len() * 8 < users.capacity() {
                    let most = users.len() * 2;
                    users.shrink_to(most);
                }
            }
        }
    }
}

/// Which users the sessions of a shard belong to, by slot.
pub(crate) type Users = BTreeMap<u32, Arc<Total>>;

impl QueueTotals {
    fn all(&self) -> Most {
        Most { messages: self.messages_max, bytes: self.bytes_max }
    }

    fn of_user(&self) -> Most {
        Most { messages: self.user_messages_max, bytes: self.user_bytes_max }
    }

    fn bound_users(&self) -> bool {
        self.user_messages_max > 0 || self.user_bytes_max > 0
    }

    /// Whether there is any bound.
    #[must_use]
    pub(crate) fn are_bounded(&self) -> bool {
        self.messages_max > 0 || self.bytes_max > 0 || self.bound_users()
    }

    /// Whether a bound is reached that a session of this user has a part in, and what is counted then.
    pub(crate) fn reached(&self, totals: &Totals, user: Option<&Arc<Total>>) -> Option<Metric> {
        if user.is_some_and(|user| user.is_reached(self.of_user())) {
            Some(Metric::DroppedUserFull)
        } else {
            totals.all.is_reached(self.all()).then_some(Metric::DroppedAllFull)
        }
    }
}

impl<T: Send> Shard<T> {
    /// A session belongs to a user from here on; empty: to nobody.
    pub(crate) fn belong(&mut self, session: u32, user: &str) {
        if !self.options.queue_totals.bound_users() {
            return;
        }
        if self.users.get(&session).map_or("", |total| &total.user) == user {
            return;
        }
        self.belong_to_nobody(session);
        if !user.is_empty() {
            let total = self.pages.totals.user(user);
            self.users.insert(session, total);
            self.count_for_user(session, 1);
        }
    }

    fn belong_to_nobody(&mut self, session: u32) {
        // It has its user there too.
        self.stand_down(session);
        self.count_for_user(session, -1);
        if let Some(total) = self.users.remove(&session) {
            self.pages.totals.forget(&total);
        }
    }

    /// All that a session has waiting comes to its user, or goes.
    fn count_for_user(&mut self, session: u32, times: i64) {
        let Some(total) = self.users.get(&session) else { return };
        let (messages, bytes) = self.sessions.get(session).map_or((0, 0), |resident| resident.session.counted_queue());
        let by = (times * messages.cast_signed(), times * bytes.cast_signed());
        total.add(by, self.options.queue_totals.of_user(), &self.pages.refusals.reasons);
    }

    /// The queue of a session has changed.
    pub(crate) fn count_queue(&mut self, session: u32) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let by = resident.session.recount_queue();
        if by == (0, 0) {
            return;
        }
        if resident.conn == NONE && resident.session.counted_queue() == (0, 0) {
            resident.session.trim();
        }
        let (bounds, reasons) = (&self.options.queue_totals, &self.pages.refusals.reasons);
        self.pages.totals.all.add(by, bounds.all(), reasons);
        if let Some(total) = self.users.get(&session) {
            total.add(by, bounds.of_user(), reasons);
        }
    }

    /// A session ends: nothing of it waits any more. Before its messages are taken out of it.
    pub(crate) fn uncount_queue(&mut self, session: u32) {
        self.stand_down(session);
        if let Some(resident) = self.sessions.get_mut(session).filter(|_| self.options.queue_totals.are_bounded()) {
            let (messages, bytes) = resident.session.take_counted_queue();
            let by = (-messages.cast_signed(), -bytes.cast_signed());
            let (bounds, reasons) = (&self.options.queue_totals, &self.pages.refusals.reasons);
            self.pages.totals.all.add(by, bounds.all(), reasons);
            if let Some(total) = self.users.remove(&session) {
                total.add(by, bounds.of_user(), reasons);
                self.pages.totals.forget(&total);
            }
        }
    }

    /// Whether a total is reached that keeps the queue of a session from growing, and what is counted then.
    pub(crate) fn total_reached(&self, session: u32) -> Option<Metric> {
        let bounds = &self.options.queue_totals;
        if !bounds.are_bounded() {
            return None;
        }
        let resident = self.sessions.get(session)?;
        let waits = resident.conn == NONE || resident.session.queue_tally().0 > 0;
        bounds.reached(&self.pages.totals, self.users.get(&session)).filter(|_| waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_reached_by_messages_or_by_bytes_and_says_so_once() {
        let (total, reasons) = (Total::default(), AtomicU32::new(0));
        let mut seen = Vec::new();
        for by in [(2, 50), (1, 10), (1, 10), (-1, -10), (-2, -50), (0, 95), (0, -95)] {
            total.add(by, Most { messages: 3, bytes: 100 }, &reasons);
            seen.push(reasons.load(Ordering::Relaxed));
        }
        assert_eq!(seen, [0, 1, 1, 1, 0, 1, 0]);
        total.add((1 << 40, 1 << 50), Most { messages: 0, bytes: 0 }, &reasons);
        assert_eq!(reasons.load(Ordering::Relaxed), 0, "there is no bound");
    }

    #[test]
    fn a_user_is_forgotten_with_its_last_session() {
        let totals = Totals::default();
        let (one, other) = (totals.user("u"), totals.user("u"));
        assert!(Arc::ptr_eq(&one, &other));
        totals.forget(&other);
        assert_eq!(totals.users.read().expect("nobody panicked").len(), 1, "another session has it");
        drop(other);
        totals.forget(&one);
        assert!(totals.users.read().expect("nobody panicked").is_empty());
    }
}
