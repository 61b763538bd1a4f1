//! What an operator does to a running shard: new terms for a listener, and the end of connections.
//!
//! Called between turns. What it writes leaves with the next turn.

use std::sync::Arc;

use breakwater_contract::Metric;
use breakwater_proto::{Instant, ReasonCode};

use crate::conn::{Cause, NONE, Phase};
use crate::driver::Driver;
use crate::profile::Profile;
use crate::shard::Shard;

/// Slots looked at in one call of [`Shard::drain`]: a listener with few connections among many must not hold the shard up.
const LOOKS: u32 = 8192;
/// Slots looked at per turn to carry new terms to their connections.
const RETUNED: u32 = 1024;

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

    /// Ends the connection of a client with `reason`, and its session too if `discard`. False: there is no such client, or
    /// it lives at another shard.
    pub fn kick<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        client_id: &str,
        reason: ReasonCode,
        discard: bool,
        now: Instant,
    ) -> bool {
        self.now = self.now.max(now);
        let Some(session) = self.find(client_id) else { return false };
        let conn = self.sessions.get(session).map_or(NONE, |resident| resident.conn);
        if conn != NONE {
            self.counters.bump(Metric::ClientsKicked);
            self.close(driver, conn, Cause::Kicked(reason));
        }
        // Without an expiry it has ended with the connection.
        if discard && let Some(session) = self.find(client_id) {
            self.end_session(driver, session);
        }
        true
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
