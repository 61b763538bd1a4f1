//! How connections and sessions end, and what becomes of wills.

use breakwater_contract::Metric;
use breakwater_contract::store::Durability;
use breakwater_proto::{Disconnect, FilterKind, MessageView, ReasonCode, Version, Violation, parse_filter};
use breakwater_router::FilterId;
use breakwater_session::{StoredWill, refuse};

use crate::conn::{Cause, Conn, NONE, Phase};
use crate::driver::{Driver, Event};
use crate::ingress::Spend;
use crate::kept::Place;
use crate::mail::GroupTry;
use crate::shard::{NEVER, Shard, hash_id, later};

/// A session that never expires.
const FOR_EVER: u32 = u32::MAX;

impl<T: Send> Shard<T> {
    /// DISCONNECT from the client: what the connection ends with.
    pub(crate) fn on_disconnect(&mut self, slot: u32, disconnect: &Disconnect<'_>) -> Result<Cause, Cause> {
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(Cause::Disconnect) };
        if let Some(asked) = disconnect.session_expiry
            && let Some(resident) = self.sessions.get_mut(conn.session)
        {
            if resident.session.expiry_s() == 0 && asked > 0 {
                return Err(Violation::SessionExpiryRaisedFromZero.into());
            }
            let most = self.profiles.limits(conn.profile).session_expiry_max_s;
            resident.session.set_expiry_s(asked.min(most));
        }
        Ok(match disconnect.reason {
            ReasonCode::Success => Cause::Disconnect,
            reason => Cause::DisconnectWith(reason),
        })
    }

    /// Ends a connection: last words, the log, the session.
    pub(crate) fn close<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32, cause: Cause) {
        let generation = self.conns.generation(slot);
        let Some(mut conn) = self.conns.remove(slot) else { return };
        self.forget_timer(slot, generation.unwrap_or(0), &conn);
        self.held_bytes -= u64::from(conn.accounted);
        self.forget_tail(&conn);
        self.count_out(conn.peer.listener);
        self.last_words(driver, slot, &mut conn, &cause); // [MQTT-3.14.4-1]
        let fault = matches!(cause, Cause::NetworkFailed).then(|| driver.fault(slot)).flatten();
        driver.close(slot); // [MQTT-3.14.4-2]
        self.counters.bump(Metric::ConnectionsClosed);
        match &cause {
            Cause::Violation(_) => self.counters.bump(Metric::Violations),
            Cause::KeepAlive => self.counters.bump(Metric::KeepAliveTimeouts),
            Cause::ConnectTimeout => self.counters.bump(Metric::ConnectTimeouts),
            Cause::Lifetime => self.counters.bump(Metric::LifetimesOver),
            Cause::Drained => self.counters.bump(Metric::ConnectionsDrained),
            Cause::Stalled => self.counters.bump(Metric::WriteStalls),
            _ => {}
        }
        let asked =
            matches!(conn.phase, Phase::Admission(_)) || conn.rare.as_ref().is_some_and(|rare| rare.reauthenticating);
        if asked && let Some(generation) = generation {
            let token = breakwater_contract::Token { shard: self.id, slot, generation, sequence: 0 };
            self.authenticator.abandon(token);
        }
        if !matches!(cause, Cause::Refused(_)) && !conn.is_leaving() {
            self.tell_end(driver, &conn, &cause, fault.as_deref());
        }
        self.pool.give(std::mem::take(&mut conn.out));
        self.pool.give_tail(std::mem::take(&mut conn.tail));
        if conn.session != NONE {
            self.clients -= 1;
            self.detach(driver, conn.session, &cause);
        }
    }

    /// Ends a client whose socket takes no bytes just yet, because the broker stops: its session is done with, and the
    /// connection is closed when the rest has gone out.
    pub(crate) fn leave<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        let cause = Cause::Shutdown;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.link.disconnect(cause.reason(), Some(cause.text()), &mut conn.out);
        conn.phase = Phase::Leaving;
        conn.flags.pump = false;
        if let Some(conn) = self.conns.get(slot) {
            self.tell_end(driver, conn, &cause, None);
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let session = std::mem::replace(&mut conn.session, NONE);
        if session != NONE {
            self.clients -= 1;
            self.detach(driver, session, &cause);
        }
    }

    /// `fault` knows better than the cause alone, if it is there.
    fn tell_end<D: Driver<Transport = T>>(&self, driver: &mut D, conn: &Conn, cause: &Cause, fault: Option<&str>) {
        let client = self.sessions.get(conn.session).map_or("", |resident| resident.session.client_id());
        let (statement, code) = (cause.statement(), cause.reason().as_u8());
        let reason = fault.unwrap_or(cause.text());
        driver.event(Event::Disconnected { client, peer: conn.peer, reason, statement, code });
    }

    /// Tells a version 5 client why, and writes what can be written.
    fn last_words<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32, conn: &mut Conn, cause: &Cause) {
        let told = matches!(conn.phase, Phase::Ready) && cause.is_ours();
        if told {
            // Never before CONNACK [MQTT-3.14.0-1], never with a session expiry [MQTT-3.14.2-2].
            conn.link.disconnect(cause.reason(), Some(cause.text()), &mut conn.out);
        }
        if let (Phase::Admission(admission), Cause::Violation(violation)) = (&conn.phase, cause) {
            let most = admission.maximum_packet_size;
            refuse(Version::V5, violation.reason(), Some(violation.text()), most, &mut conn.out);
        }
        let gone = matches!(cause, Cause::PeerClosed | Cause::NetworkFailed);
        if !gone && !conn.flags.blocked && conn.unsent() > 0 {
            driver.write(slot, &conn.out[conn.sent as usize..]);
        }
    }

    /// The session goes on without a connection, or ends.
    fn detach<D: Driver<Transport = T>>(&mut self, driver: &mut D, session: u32, cause: &Cause) {
        let now = self.now;
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.conn = NONE;
        resident.expires_at = NEVER;
        resident.session.on_detach();
        if !self.replay.followers.is_empty() {
            self.stop_following(session);
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let expiry_s = resident.session.expiry_s();
        let withheld = matches!(cause, Cause::Shutdown) && !self.options.wills_on_shutdown;
        if matches!(cause, Cause::Disconnect) || withheld {
            resident.session.take_will(); // [MQTT-3.14.4-3] [MQTT3-3.14.4-3] [MQTT-3.1.2-10] [MQTT3-3.1.2-10]
        }
        if resident.shares {
            for index in 0..resident.session.subscriptions.len() {
                self.set_online(session, index, false);
            }
        }
        let delay_s = self.sessions.get(session).and_then(|resident| resident.session.will_delay_s());
        // A delay can't outlast the session, and a broker that stops can't keep it.
        let at_once = expiry_s == 0 || matches!(cause, Cause::Shutdown);
        if let Some(delay_s) = delay_s {
            if at_once || delay_s == 0 {
                self.publish_will(driver, session); // [MQTT-3.1.2-8] [MQTT3-3.1.2-8]
            } else if let Some(resident) = self.sessions.get_mut(session) {
                resident.will_at = later(now, u64::from(delay_s.min(expiry_s)) * 1000);
                resident.will_pending = true;
            }
        }
        if expiry_s == 0 {
            self.end_session(driver, session); // [MQTT-4.1.0-2] [MQTT3-3.1.2-6]
        } else if expiry_s != FOR_EVER
            && let Some(resident) = self.sessions.get_mut(session)
        {
            resident.expires_at = later(now, u64::from(expiry_s) * 1000);
        }
        if !self.leave_store(session) {
            self.record_session(session, false);
        }
        self.settle_notes(session);
        self.watch(session);
        self.account(session);
        if !self.standers.is_empty() {
            self.stand(session);
        }
    }

    /// Publishes the will of a session, if it still has one.
    pub(crate) fn publish_will<D: Driver<Transport = T>>(&mut self, driver: &mut D, session: u32) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.will_pending = false;
        let profile = resident.profile;
        let Some(StoredWill { message, expiry_s, .. }) = resident.session.take_will() else { return }; // [MQTT3-3.1.2-12]
        let mut view = message.view();
        view.expires_at = self.deadline_of(expiry_s, profile);
        self.counters.bump(Metric::WillsPublished);
        self.publish_own(driver, &view, session, self.profiles.durability(profile));
    }

    /// Publishes a message of the broker's own making, or the will of a session. `promised`: to whoever it comes from, of what is retained.
    pub(crate) fn publish_own<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        view: &MessageView<'_>,
        session: u32,
        promised: Durability,
    ) {
        if view.retain {
            self.retain(view, session, promised); // [MQTT-3.1.2-15] [MQTT3-3.1.2-17], and not otherwise [MQTT-3.1.2-14] [MQTT3-3.1.2-16]
        }
        let mut spend = Spend { deliveries: u32::MAX, bytes: self.options.turn.appended_bytes };
        // A publish that ends its connection may be under way, and so may mail.
        let (word, from) = (std::mem::take(&mut self.word), std::mem::replace(&mut self.mail_from, self.id));
        self.route_one(driver, view, None, &mut spend);
        (self.word, self.mail_from) = (word, from);
    }

    /// Ends a session: its will, its subscriptions, its messages. Not what it has retained [MQTT3-3.1.2-7].
    pub(crate) fn end_session<D: Driver<Transport = T>>(&mut self, driver: &mut D, session: u32) {
        self.publish_will(driver, session);
        let who = self.subscriber_of(session);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let subscriptions = std::mem::take(&mut resident.session.subscriptions);
        if resident.shares {
            self.redeliver(driver, session, &subscriptions);
        }
        for id in subscriptions.iter() {
            self.router.remove(FilterId::from_u32(*id), who);
        }
        self.discard(driver, session);
    }

    /// Forgets a session without more ado.
    pub(crate) fn discard<D: Driver<Transport = T>>(&mut self, _driver: &mut D, session: u32) {
        self.let_go(session);
        self.uncount_queue(session);
        self.forget_session(session);
        let who = self.subscriber_of(session);
        for id in self.sessions.get(session).into_iter().flat_map(|resident| resident.session.subscriptions.iter()) {
            self.router.remove(FilterId::from_u32(*id), who);
        }
        self.release_exclusives(session);
        self.replay.followers.forget(session);
        let Some(resident) = self.sessions.remove(session) else { return };
        self.owed.remove(&session);
        if resident.mount > 0 {
            self.mounts.remove(&session);
        }
        self.profiles.release(resident.profile);
        self.strike_off(&resident);
        let hash = hash_id(self.seed, resident.session.client_id());
        if let Ok(entry) = self.registry.find_entry(hash, |slot| *slot == session) {
            entry.remove();
        }
        if self.registry.capacity() > 64 && self.registry.len() * 8 < self.registry.capacity() {
            let (sessions, seed) = (&self.sessions, self.seed);
            self.registry.shrink_to(self.registry.len() * 2, |slot| {
                sessions.get(*slot).map_or(0, |resident| hash_id(seed, resident.session.client_id()))
            });
        }
    }

    /// Messages that a shared group gave to a session which ends now go to another member, unless their QoS 2 delivery
    /// has begun [MQTT-4.8.2-5]. What the store has of them goes by [`estate`](crate::estate).
    fn redeliver<D: Driver<Transport = T>>(&mut self, driver: &mut D, session: u32, subscriptions: &[u32]) {
        let who = self.subscriber_of(session);
        self.uncount_queue(session);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let unsent = resident.session.never_sent();
        let is_in_store = self.leave_estate(session, &unsent);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let kept = &mut self.durable.kept;
        let mut orphans = Vec::new();
        let mut all_kept = Vec::new();
        resident.session.each_kept(|message| all_kept.push(message));
        for (message, _, name) in resident.session.drain_unacked() {
            if !is_in_store || kept.place(name) == Place::Lost {
                orphans.push(message);
            }
        }
        all_kept.into_iter().for_each(|message| kept.release(message));
        if orphans.is_empty() {
            return;
        }
        let mut filters = Vec::new();
        for id in subscriptions {
            let mut text = String::new();
            if self.router.filter_text(FilterId::from_u32(*id), &mut text) && text.starts_with("$") {
                filters.push((FilterId::from_u32(*id), text));
            }
        }
        for message in orphans {
            let group = filters.iter().find_map(|(id, text)| match parse_filter(text) {
                Ok(FilterKind::Shared { filter, .. }) if breakwater_proto::matches(filter, message.topic()) => {
                    self.router.group_of(*id)
                }
                _ => None,
            });
            let Some(group) = group else { continue };
            let topic_hash = self.chance();
            let attempt = GroupTry { group, topic_hash, client_hash: 0, tried: Some(who) };
            self.try_group(driver, attempt, None, &message.view(), None);
            self.finish_keeping();
        }
    }
}
