//! Sessions that outlast the process: what the store is told of them, and how they come back.
//!
//! A CONNACK or SUBACK that promises something stands in the out buffer at once, and nothing of the buffer is written until the
//! store has it. Nothing is read from the client meanwhile, either.

use std::collections::BTreeMap;

use breakwater_contract::Metric;
use breakwater_contract::store::{
    Change, Durability, OutboundState, Position, SessionNumber, SessionRow, StoredSession, Tally,
};
use breakwater_proto::{FilterKind, Instant, QoS, ReasonCode, exclusive, parse_filter};
use breakwater_router::{Grant, Router, Subscribed};
use breakwater_session::{Session, StoredWill, refuse};

use crate::admit::Entrant;
use crate::conn::{Cause, NONE, hold};
use crate::driver::Driver;
use crate::durable::{Mark, Promise};
use crate::estate::is_estate;
use crate::pool::Pools;
use crate::replay::{ReplayRule, Replays, is_queue};
use crate::revive::Found;
use crate::roster::Roster;
use crate::shard::{NEVER, Resident, Shard, hash_id, home_of, later};
use crate::tail::Tail;

/// What few sessions need: those of the store.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// What the store calls it.
    pub(crate) number: SessionNumber,
    /// The last batch that has a message for it; 0 for none.
    pub(crate) kept_until: u64,
    /// The last message that it was given in memory and that the store had before.
    pub(crate) kept_last: Position,
    /// Whose it is.
    user: Box<str>,
}

/// What an answer that waits has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promised {
    /// A session that the store did not know.
    NewSession,
    /// One that was in memory alone, or of which it is not known whether the store has it.
    MovedIn,
    /// One that it knows: what changed is when it was left, and perhaps for how long it lives.
    OldSession,
    /// Subscriptions made or ended.
    Subscriptions,
}

/// A session that a start has found, and when it goes on to live until.
#[derive(Debug)]
pub struct Back {
    /// In a box, so that it goes as soon as the session is made.
    pub(crate) session: Box<StoredSession>,
    /// When it ends.
    pub(crate) expires_at: Instant,
    /// When its will is due, if it has one.
    pub(crate) will_at: Instant,
}

/// What the shards know together of what outlasts the process.
#[derive(Debug)]
pub struct Returning {
    pub(crate) roster: Roster,
    pub(crate) pools: Pools,
    pub(crate) replays: Replays,
    shards: u16,
}

impl Returning {
    /// Of so many shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { roster: Roster::new(shards), pools: Pools::default(), replays: Replays::default(), shards }
    }

    /// What is kept for [`ReplayRule`]s from here on, while the shards run or before, but after [`hand_out`]. What was kept by others
    /// goes. Not without a store that outlasts the process: there are no rules then.
    pub fn set_replay_rules(&self, rules: &[ReplayRule], router: &Router) {
        self.replays.set(rules, router, self.shards);
    }

    /// Rules there are: the router counts each as a member of a shared group.
    #[must_use]
    pub fn replay_rules(&self) -> usize {
        self.replays.len()
    }
}

/// Gives a shard what a start has found of its own, before any of them runs: what comes to one finds the sessions of all. `shards`: all
/// there are, by their numbers.
pub fn hand_out<T: Send>(found: Found, shards: &mut [Shard<T>]) {
    match found {
        Found::Session(back) if is_queue(&back.session.row) => {
            if let Some(shard) = shards.first() {
                shard.returning.replays.find(*back.session);
            }
        }
        Found::Session(back) => {
            let client_id = &back.session.row.client_id;
            let home = shards.first().map_or(0, |shard| home_of(shard.seed, shard.shards, client_id));
            if let Some(shard) = shards.get_mut(usize::from(home)) {
                shard.take_one_back(back);
            }
        }
        // It can be anywhere.
        Found::Delayed(delayed) => {
            if let Some(shard) = shards.iter_mut().min_by_key(|shard| shard.waiting.len()) {
                shard.take_delayed(delayed);
            }
        }
    }
}

impl Back {
    /// Whether a client comes back to it. Others hold what nobody has got yet.
    pub(crate) fn is_a_clients(&self) -> bool {
        !is_estate(&self.session.row)
    }

    /// `unix_ms` at `now`. A session that was connected when the process ended is as if left at this moment.
    pub(crate) fn new(session: Box<StoredSession>, now: Instant, unix_ms: u64) -> Self {
        let row = &session.row;
        let left = if row.detached_unix_ms == 0 { unix_ms } else { row.detached_unix_ms };
        let gone_ms = unix_ms.saturating_sub(left);
        let at = |seconds: u32| later(now, (u64::from(seconds) * 1000).saturating_sub(gone_ms));
        let expires_at = if row.expiry_s == u32::MAX { NEVER } else { at(row.expiry_s) };
        let will_at = row.will.as_ref().map_or(NEVER, |(_, delay_s)| at((*delay_s).min(row.expiry_s)));
        Self { session, expires_at, will_at }
    }
}

impl<T: Send> Shard<T> {
    /// A client is tied to its session, and CONNACK is written: where the session outlasts the process, the store comes first.
    pub(crate) fn keep_session(&mut self, slot: u32, session: u32, present: bool, entrant: &Entrant<'_>) {
        let Some(store) = self.durable.store() else { return };
        let Some(resident) = self.sessions.get(session) else { return };
        let wanted = resident.session.is_durable() && self.zone_durability(session) > Durability::Memory;
        // What it has queued in the store it still gets, though it may end with this connection now.
        if (!wanted && resident.lasting.is_none()) || self.leave_store(session) {
            return;
        }
        let since = self.durable.next_batch();
        let user = &*entrant.principal.name;
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let promised = match resident.lasting.as_deref_mut() {
            Some(lasting) => {
                if *lasting.user != *user {
                    lasting.user = user.into();
                }
                let (number, stored) = (lasting.number, resident.stored);
                self.returning.roster.enter(self.subscriber_of(session), number, self.durability_of(session));
                self.record_session(session, true);
                // Whoever was let in before may have gone without an answer.
                if stored { Promised::OldSession } else { Promised::MovedIn }
            }
            None => {
                self.name_session(session, store.new_session(), user.into(), false);
                self.record_session(session, true);
                if present {
                    self.take_into_store(session);
                }
                if present { Promised::MovedIn } else { Promised::NewSession }
            }
        };
        self.hold_answer(slot, promised, since);
    }

    /// The store knows a session by this name.
    fn name_session(&mut self, session: u32, number: SessionNumber, user: Box<str>, stored: bool) {
        if let Some(resident) = self.sessions.get_mut(session) {
            resident.lasting = Some(Box::new(Lasting { number, user, ..Lasting::default() }));
            resident.stored = stored;
        }
        self.returning.roster.enter(self.subscriber_of(session), number, self.durability_of(session));
    }

    /// What is in the out buffer waits for the store: for all that was recorded since this batch.
    fn hold_answer(&mut self, slot: u32, promised: Promised, since: u64) {
        let Some(generation) = self.conns.generation(slot) else { return };
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.flags.holds.put(hold::UNSTORED, true);
        // Nothing is written to it, and nobody is to wonder.
        conn.flags.blocked = true;
        conn.stalled_since = self.now.0 as u32;
        let _ = self.durable.promise(Promise::Answer { slot, generation, promised, since });
    }

    /// SUBACK or UNSUBACK is in the out buffer; it waits if any of it is to last.
    pub(crate) fn keep_subscriptions(&mut self, slot: u32, before: Mark) {
        if self.durable.mark().recorded > before.recorded {
            self.hold_answer(slot, Promised::Subscriptions, before.batch);
        }
    }

    /// The store has what an answer promised, or has it not.
    pub(crate) fn keep_answer<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        (slot, generation): (u32, u32),
        promised: Promised,
        stored: bool,
    ) {
        if self.conns.generation(slot) != Some(generation) {
            return;
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !conn.flags.holds.has(hold::UNSTORED) {
            return;
        }
        conn.flags.holds.put(hold::UNSTORED, false);
        // If the socket is full all the same, the next write finds out.
        conn.flags.blocked = false;
        if stored && let Some(resident) = self.sessions.get_mut(conn.session) {
            resident.stored = resident.lasting.is_some();
        }
        if stored || promised == Promised::OldSession {
            conn.flags.tail_ready |= !conn.tail.is_empty();
            conn.flags.pump |= conn.session != NONE;
            self.mark_dirty(slot);
            self.schedule(slot);
            return;
        }
        conn.out.truncate(conn.sent as usize);
        if conn.session == NONE {
            // The broker stops, and the client was only waiting for the last words.
            self.mark_dirty(slot);
            return;
        }
        let reason = ReasonCode::QuotaExceeded;
        if promised == Promised::Subscriptions {
            self.close(driver, slot, Cause::NotPermitted(reason, "the store could not take a subscription"));
            return;
        }
        let (version, most, session) = (conn.link.version, conn.link.maximum_packet_size, conn.session);
        refuse(version, reason, Some("the store could not take the session"), most, &mut conn.out);
        self.counters.bump(Metric::ConnectionsRefused);
        if let Some(resident) = self.sessions.get_mut(session) {
            // It never was a client.
            resident.session.take_will();
            if promised == Promised::NewSession {
                resident.session.set_expiry_s(0);
            }
        }
        if promised == Promised::MovedIn {
            // It goes on in memory, with all that it has.
            self.forget_session(session);
        }
        self.close(driver, slot, Cause::Refused(reason));
    }

    /// The store learns how a session is, if it knows it.
    pub(crate) fn record_session(&mut self, session: u32, hurry: bool) {
        let Some(resident) = self.sessions.get(session) else { return };
        let Some(lasting) = resident.lasting.as_deref() else { return };
        let will = resident.session.will();
        let zone = &self.profiles.profile(resident.profile).zone;
        let row = SessionRow {
            number: lasting.number,
            client_id: resident.session.client_id().into(),
            user: lasting.user.clone(),
            expiry_s: resident.session.expiry_s(),
            detached_unix_ms: self.detached_unix_ms(resident),
            will: will.map(|will| (will.message.clone(), will.delay_s)),
            attributes: attributes(
                will.and_then(|will| will.expiry_s),
                resident.session.begun_len(),
                zone,
                self.mount_of(session),
            ),
        };
        let bytes = row.client_id.len() + will.map_or(0, |will| will.message.byte_len()) + 100;
        self.record(Change::Session(Box::new(row)), bytes, hurry, self.durability_of(session));
    }

    fn detached_unix_ms(&self, resident: &Resident) -> u64 {
        if resident.conn != NONE {
            return 0;
        }
        let lives_ms = u64::from(resident.session.expiry_s()) * 1000;
        let left_ms = if resident.expires_at == NEVER { lives_ms } else { resident.expires_at.ms_since(self.now) };
        self.unix_ms.saturating_sub(lives_ms.saturating_sub(left_ms)).max(1)
    }

    /// A session has a subscription. `filter`: as the router writes it.
    pub(crate) fn record_subscription(&mut self, session: u32, filter: &str, grant: Grant) {
        let Some(number) = self.number_of(session) else { return };
        let (filter, bytes) = (Box::from(filter), filter.len() + 32);
        let (options, identifier) = (packed(grant), grant.subscription_id);
        let change = Change::Subscribe { session: number, filter, options, identifier };
        self.record(change, bytes, true, self.durability_of(session));
    }

    /// A session has a subscription no longer.
    pub(crate) fn record_unsubscribed(&mut self, session: u32, filter: &str) {
        let Some(number) = self.number_of(session) else { return };
        let (filter, bytes) = (Box::from(filter), filter.len() + 32);
        let change = Change::Unsubscribe { session: number, filter };
        self.record(change, bytes, true, self.durability_of(session));
    }

    /// A session ends, or lives from here on as long as its connection.
    pub(crate) fn forget_session(&mut self, session: u32) {
        if let Some(number) = self.take_name(session) {
            self.record(Change::RemoveSession(number), 32, false, self.durability_of(session));
        }
    }

    /// The store knows it no longer as a session of this shard. Answers what it called it.
    pub(crate) fn take_name(&mut self, session: u32) -> Option<SessionNumber> {
        let lasting = self.sessions.get_mut(session)?.lasting.take()?;
        self.returning.roster.strike(self.id, session);
        Some(lasting.number)
    }

    /// What the store calls a session, if it knows it.
    fn number_of(&self, session: u32) -> Option<SessionNumber> {
        self.sessions.get(session)?.lasting.as_deref().map(|lasting| lasting.number)
    }

    /// Takes in a session that a start has found: nobody is connected, everything is subscribed.
    fn take_one_back(&mut self, back: Back) {
        if is_estate(&back.session.row) {
            return self.take_estate_back(*back.session);
        }
        let Back { session, expires_at, will_at } = back;
        let StoredSession { row, subscriptions, inbound, outbound, tally } = *session;
        if self.find(&row.client_id).is_some() {
            // One of a name is enough; the store should have had no other.
            self.record(Change::RemoveSession(row.number), 32, false, self.durable.durability);
            return;
        }
        let Attributes { will_expiry_s, begun, zone, mount } = read_attributes(&row.attributes);
        let profile = self.profiles.row_of_zone(&zone);
        // Who was connected when the process ended may have been sent as much as a client may be.
        let window = u32::from(self.profiles.limits(profile).inflight_max);
        let begun = if row.detached_unix_ms == 0 { window } else { begun };
        // A copy: its own would lie between those of the row that go, and hold their pages.
        let mut session = Session::new(&*row.client_id, row.expiry_s);
        let will_pending = row.will.is_some();
        session.set_will(row.will.map(|(message, delay_s)| StoredWill { message, delay_s, expiry_s: will_expiry_s }));
        let resident = Resident {
            session,
            conn: NONE,
            accounted: 0,
            accounted_away: false,
            profile,
            mount: mount.len() as u16,
            will_at,
            expires_at,
            check_at: NEVER,
            will_pending,
            shares: false,
            stored: false,
            lasting: None,
        };
        let slot = self.enrol(resident, Some(mount).filter(|mount| !mount.is_empty()));
        self.belong(slot, &row.user);
        self.name_session(slot, row.number, row.user, true);
        self.take_deliveries_back(slot, &inbound, &outbound, tally, begun);
        self.account(slot);
        self.stand(slot);
        for (filter, options, identifier) in subscriptions {
            self.subscribe_back(slot, &filter, unpacked(options, identifier));
        }
        self.watch(slot);
    }

    /// What was under way, and what waits: in the store alone, until the client comes.
    fn take_deliveries_back(
        &mut self,
        session: u32,
        inbound: &[u16],
        outbound: &[(u16, OutboundState, Option<Position>)],
        tally: Tally,
        begun: u32,
    ) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.session.restore_inbound(inbound);
        let received = |state: OutboundState| state == OutboundState::Received;
        let missing: BTreeMap<Position, u16> = outbound
            .iter()
            .filter(|(_, state, _)| !received(*state))
            .filter_map(|(id, _, message)| Some(((*message)?, *id)))
            .collect();
        // A delivery that neither was received nor has a message of its own can't go on.
        let has_one =
            |id: u16, message: Option<Position>| message.is_some_and(|position| missing.get(&position) == Some(&id));
        let flights = outbound.iter().filter(|(id, state, message)| received(*state) || has_one(*id, *message));
        resident.session.restore_outbound(flights.map(|(id, state, _)| (*id, received(*state))).collect());
        let messages = u32::try_from(tally.messages).unwrap_or(u32::MAX);
        if messages > 0 || !missing.is_empty() {
            resident.session.add_behind(messages, tally.bytes);
            self.durable.tails.insert(session, Tail::from_start(missing, begun));
        }
    }

    fn subscribe_back(&mut self, session: u32, filter: &str, grant: Grant) {
        let who = self.subscriber_of(session);
        let own = exclusive(filter);
        let Ok(kind) = parse_filter(own.unwrap_or(filter)) else { return };
        if let Some(own) = own {
            if !self.router.claim(own, who) {
                return;
            }
            self.note_exclusive(session, own);
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let Subscribed { id, new } = match kind {
            FilterKind::Plain(filter) => self.router.subscribe(filter, who, grant),
            FilterKind::Shared { group, filter } => {
                resident.shares = true;
                self.router.subscribe_shared(group, filter, who, grant)
            }
        };
        if !new {
            return;
        }
        resident.session.subscriptions.push(id.as_u32());
        let index = resident.session.subscriptions.len() - 1;
        if matches!(kind, FilterKind::Shared { .. }) {
            self.set_online(session, index, false);
        }
    }

    /// A session gets its slot, and its client finds it there.
    pub(crate) fn enrol(&mut self, resident: Resident, mount: Option<Box<str>>) -> u32 {
        let hash = hash_id(self.seed, resident.session.client_id());
        self.profiles.hold(resident.profile);
        let (session, _) = self.sessions.insert(resident); // [MQTT-3.1.2-6]
        if let Some(mount) = mount {
            self.mounts.insert(session, mount);
        }
        let (sessions, seed) = (&self.sessions, self.seed);
        self.registry.insert_unique(hash, session, |slot| {
            sessions.get(*slot).map_or(0, |resident| hash_id(seed, resident.session.client_id()))
        });
        session
    }
}

/// Options of a subscription as the store keeps them: bits 0-1 QoS, 2 no local, 3 retain as published.
fn packed(grant: Grant) -> u8 {
    grant.qos.as_u8() | u8::from(grant.no_local) << 2 | u8::from(grant.retain_as_published) << 3
}

fn unpacked(options: u8, subscription_id: u32) -> Grant {
    Grant {
        qos: QoS::from_bits(options & 3).unwrap_or_default(),
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        durable: true,
        subscription_id,
    }
}

/// Form of the attributes of a session: this byte, the expiry of the will (4), deliveries that were begun (2), the zone with its length
/// (1) before it, the mountpoint.
const FORM: u8 = 3;
/// Earlier forms: without the zone, and without the deliveries too.
const FORM_2: u8 = 2;
const FORM_1: u8 = 1;

#[derive(Debug, Default, PartialEq, Eq)]
struct Attributes {
    will_expiry_s: Option<u32>,
    begun: u32,
    /// That of the last connection; empty for none.
    zone: Box<str>,
    mount: Box<str>,
}

fn attributes(will_expiry_s: Option<u32>, begun: usize, zone: &str, mount: &str) -> Box<[u8]> {
    if will_expiry_s.is_none() && begun == 0 && zone.is_empty() && mount.is_empty() {
        return Box::default();
    }
    let mut bytes = vec![FORM];
    bytes.extend(will_expiry_s.unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(u16::try_from(begun).unwrap_or(u16::MAX).to_be_bytes());
    bytes.push(zone.len() as u8);
    bytes.extend(zone.as_bytes());
    bytes.extend(mount.as_bytes());
    bytes.into()
}

/// A form that is not known says nothing.
fn read_attributes(bytes: &[u8]) -> Attributes {
    let read = || {
        let (form, rest) = bytes.split_first()?;
        let (expiry_s, rest) = rest.split_first_chunk()?;
        let (begun, rest) = match *form {
            FORM | FORM_2 => rest.split_first_chunk().map(|(begun, rest)| (u16::from_be_bytes(*begun), rest))?,
            FORM_1 => (0, rest),
            _ => return None,
        };
        let (zone, mount) = match *form {
            FORM => rest.split_first().and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)))?,
            _ => (&[][..], rest),
        };
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default().into();
        Some(Attributes {
            will_expiry_s: Some(u32::from_be_bytes(*expiry_s)).filter(|seconds| *seconds != u32::MAX),
            begun: u32::from(begun),
            zone: text(zone),
            mount: text(mount),
        })
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_options_come_back_as_they_were() {
        for (will_expiry_s, begun, zone, mount) in [
            (None, 0, "", ""),
            (Some(7), 3, "", ""),
            (None, 0, "", "tenant/"),
            (Some(0), 65_535, "cheap", "é/"),
            (None, 0, "cheap", ""),
        ] {
            let expected = Attributes { will_expiry_s, begun, zone: zone.into(), mount: mount.into() };
            assert_eq!(read_attributes(&attributes(will_expiry_s, begun as usize, zone, mount)), expected);
        }
        for (bytes, begun) in [(&b"\x01\0\0\0\x07m/"[..], 0), (b"\x02\0\0\0\x07\0\x05m/", 5)] {
            let earlier = Attributes { will_expiry_s: Some(7), begun, zone: "".into(), mount: "m/".into() };
            assert_eq!(read_attributes(bytes), earlier);
        }
        assert_eq!(read_attributes(b"\x03\0\0\0\x07\0\x05\x09cut"), Attributes::default());
        assert_eq!(read_attributes(&[9, 1]), Attributes::default(), "a later form says nothing");
        for options in 0..12_u8 {
            let grant = unpacked(options, 5);
            assert_eq!(packed(grant), if options & 3 == 3 { options & 12 } else { options });
        }
    }
}
