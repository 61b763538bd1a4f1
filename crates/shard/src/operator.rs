//! What an operator does to a running shard: new terms for a listener, and the end of connections.
//!
//! Called between turns. What it writes leaves with the next turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use breakwater_contract::{Kicked, Lost, Metric, Revoked};
use breakwater_proto::{Instant, QoS, ReasonCode};

use crate::conn::{Cause, NONE, Phase};
use crate::driver::Driver;
use crate::profile::Profile;
use crate::shard::Shard;

/// Slots looked at in one call of [`Shard::drain`]: a listener with few connections among many must not hold the shard up.
const LOOKS: u32 = 8192;
/// Slots looked at per turn to carry new terms to their connections.
const RETUNED: u32 = 1024;
/// Slots looked at per turn for connections of users who have lost what let them in.
const REVIEWED: u32 = 1024;

/// Users whose connections are to end, and how far the search for them has come.
#[derive(Debug, Default)]
pub(crate) struct Review {
    /// Not looked for yet: answers that wait may still let somebody in by what was lost.
    fresh: Vec<Arc<Revoked>>,
    /// What is lost, and the number of the first admission that knows of it.
    lost: BTreeMap<Box<str>, (Lost, u64)>,
    /// The next slot to look at.
    slot: u32,
    /// The slot behind the last one to look at: who came later into a higher one has lost nothing.
    end: u32,
}

impl Review {
    fn take_in(&mut self, admissions: u64, slots: u32) {
        for revoked in self.fresh.drain(..) {
            for (name, lost) in &*revoked {
                // The search for an earlier loss of this user may be under way.
                let most = self.lost.get(name).map_or(*lost, |(before, _)| *lost.max(before));
                self.lost.insert(name.clone(), (most, admissions));
            }
            (self.slot, self.end) = (0, slots);
        }
    }
}

impl<T: Send> Shard<T> {
    /// Gives the clients of a listener their terms. Who is connected keeps the limits and the mountpoint that it was let in
    /// with; see [`Profile`].
    pub fn set_profile(&mut self, listener: u16, profile: Arc<Profile>) {
        self.profiles.set(listener, profile);
        if !self.retunes.iter().any(|(waiting, next)| *waiting == listener && *next == 0) {
            self.retunes.push_back((listener, 0));
        }
    }

    /// Forgets the terms of a listener that is closed. Whoever still lives by them goes on to.
    pub fn forget_profile(&mut self, listener: u16) {
        self.profiles.forget(listener);
    }

    /// Carries new rates and lifetimes to the connections of their listeners, some per turn. Answers whether any are left.
    pub(crate) fn work_retunes(&mut self) -> bool {
        let Some((listener, start)) = self.retunes.pop_front() else { return false };
        let end = self.conns.bound().min(start.saturating_add(RETUNED));
        for slot in start..end {
            let Some(conn) = self.conns.get(slot) else { continue };
            if conn.peer.listener == listener && matches!(conn.phase, Phase::Ready) {
                self.apply_terms(slot);
            }
        }
        if end < self.conns.bound() {
            self.retunes.push_front((listener, end));
        }
        !self.retunes.is_empty()
    }

    /// What a profile says of a connection itself begins to hold for it.
    pub(crate) fn apply_terms(&mut self, slot: u32) {
        let Some(conn) = self.conns.get(slot) else { return };
        let profile = self.profiles.profile(conn.profile);
        let (lifetime_ms, rates) = (profile.lifetime_ms, profile.rates);
        self.set_lifetime(slot, lifetime_ms);
        self.set_rates(slot, rates);
    }

    /// Connections that came through a listener.
    #[must_use]
    pub fn connections_of(&self, listener: u16) -> usize {
        self.by_listener.get(usize::from(listener)).map_or(0, |count| *count as usize)
    }

    /// Ends up to `at_most` connections of a listener (of all of them: `None`), and answers how many are left: call it again
    /// until it is 0. A call may end none though some are left, because it looks at a bounded number of connections.
    pub fn drain<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        listener: Option<u16>,
        at_most: usize,
        now: Instant,
    ) -> usize {
        self.now = self.now.max(now);
        let left = |shard: &Self| listener.map_or(shard.conns.len(), |listener| shard.connections_of(listener));
        let mut ended = 0;
        for _ in 0..LOOKS.min(self.conns.bound()) {
            if ended == at_most || left(self) == 0 {
                break;
            }
            let slot = self.drain_at;
            self.drain_at = if slot + 1 < self.conns.bound() { slot + 1 } else { 0 };
            let wanted = |of: u16| listener.is_none_or(|listener| listener == of);
            if self.conns.get(slot).is_some_and(|conn| wanted(conn.peer.listener)) {
                self.close(driver, slot, Cause::Drained);
                ended += 1;
            }
        }
        left(self)
    }

    /// Ends the connections of these users in the turns that come: of all who were let in before, by answers that have been
    /// handed in already too. Who is let in from then on stays.
    pub fn revoke(&mut self, revoked: Arc<Revoked>) {
        self.review.fresh.push(revoked);
    }

    /// Looks for connections of users who have lost what let them in, some per turn. Answers whether any are left to look at.
    pub(crate) fn work_review<D: Driver<Transport = T>>(&mut self, driver: &mut D) -> bool {
        if self.review.fresh.is_empty() && self.review.slot == self.review.end {
            return false;
        }
        self.review.take_in(self.admissions, self.conns.bound());
        let (start, end) = (self.review.slot, self.review.end.min(self.review.slot + REVIEWED));
        for slot in start..end {
            if self.has_lost(driver, slot) {
                self.counters.bump(Metric::ConnectionsRevoked);
                self.close(driver, slot, Cause::Revoked);
            }
        }
        self.review.slot = end;
        if self.review.slot == self.review.end {
            self.review.lost.clear();
        }
        self.review.slot < self.review.end
    }

    /// Whether a client is here by what its user has lost. Where nobody is asked who he is, a name means nothing.
    fn has_lost<D: Driver<Transport = T>>(&self, driver: &D, slot: u32) -> bool {
        let Some(conn) = self.conns.get(slot).filter(|conn| matches!(conn.phase, Phase::Ready)) else { return false };
        let Some(rare) = &conn.rare else { return false };
        let Some((lost, known)) = self.review.lost.get(&rare.principal.name) else { return false };
        let certified = || driver.identity(slot).is_some_and(|identity| identity.username.is_some());
        rare.admission < *known
            && self.profiles.profile(conn.profile).authenticate
            && (*lost == Lost::Place || !certified())
    }

    /// Ends the connection of a client with `reason`, and its session too if `discard`. Answers what was found here; it may
    /// live at another shard.
    pub fn kick<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        client_id: &str,
        reason: ReasonCode,
        discard: bool,
        now: Instant,
    ) -> Kicked {
        self.now = self.now.max(now);
        let Some(session) = self.find(client_id) else { return Kicked::Unknown };
        let conn = self.sessions.get(session).map_or(NONE, |resident| resident.conn);
        if conn != NONE {
            self.counters.bump(Metric::ClientsKicked);
            self.close(driver, conn, Cause::Kicked(reason));
        }
        // Without an expiry it has ended with the connection.
        if discard && let Some(session) = self.find(client_id) {
            self.end_session(driver, session);
        }
        if conn == NONE { Kicked::Away } else { Kicked::Client }
    }

    /// Removes retained messages that are still those of these revisions, from the store as well. Answers how many were. The
    /// work is that of so many PUBLISH packets: hand it over in portions.
    pub fn unretain(&mut self, topics: &[(Box<str>, u64)], now: Instant) -> usize {
        self.now = self.now.max(now);
        let mut count = 0;
        for (topic, revision) in topics {
            let outcome = self.router.clear_retained_at(topic, *revision);
            if outcome.replaced {
                count += 1;
                if outcome.lasting && self.durable.is_on() {
                    self.record_cleared(topic, outcome.revision, QoS::AtLeastOnce, self.durable.durability);
                }
            }
        }
        count
    }

    /// Ends a connection for a reason that only its driver knows, such as a certificate that was revoked. False: no
    /// connection has that slot.
    pub fn end<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32, cause: Cause, now: Instant) -> bool {
        self.now = self.now.max(now);
        let exists = self.conns.get(slot).is_some();
        self.close(driver, slot, cause);
        exists
    }
}
