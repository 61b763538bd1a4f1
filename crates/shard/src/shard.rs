//! The shard itself: its state, and the order of things in a turn.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use breakwater_contract::store::SessionNumber;
use breakwater_contract::{Authenticator, Authorizer, Completion, Counters, Metric, Store};
use breakwater_proto::Instant;
use breakwater_router::{Matches, Router, Subscriber, Target};
use breakwater_session::{Link, Report, Session};
use hashbrown::HashTable;

use crate::conn::{Cause, Conn, NONE, Phase, hold};
use crate::delayed::Waiting;
use crate::driver::{Driver, Peer, Ready, ShardId};
use crate::durable::Durable;
use crate::egress::Pool;
use crate::inbox::{Job, Progress};
use crate::lasting::{Lasting, Returning};
use crate::mail::Batch;
use crate::operator::Review;
use crate::options::Options;
use crate::profile::{Profile, Profiles};
use crate::refusal::{Standers, Word};
use crate::replay::Replay;
use crate::retained::Owed;
use crate::route::Publishing;
use crate::slab::Slab;
use crate::sys::Pages;
use crate::totals::Users;
use crate::wheel::{Kind, Timer, Wheel};

/// Size of the buffer that all connections of a shard read into, in bytes.
const SCRATCH: usize = 64 * 1024;

/// What a shard is built from.
#[derive(Clone)]
pub struct Setup {
    /// Number of this shard.
    pub id: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Settings.
    pub options: Arc<Options>,
    /// Terms of the listeners that have their own, by number. The others have the limits of `options` and nothing else.
    pub profiles: Vec<(u16, Arc<Profile>)>,
    /// Terms of zones, whatever listeners there are: for sessions that a start finds.
    pub zones: Vec<Arc<Profile>>,
    /// Who receives what: one for all shards.
    pub router: Arc<Router>,
    /// Key of the hash that finds a client's home, the same for all shards, and root of all chance: secret.
    pub seed: u64,
    /// Who may connect.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Where the shards show their counters to each other.
    pub pages: Arc<Pages>,
    /// What outlasts the process; one that is volatile is never asked.
    pub store: Arc<dyn Store>,
    /// Sessions that a start has found.
    pub returning: Arc<Returning>,
}

/// The time, read once per turn.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Monotonic.
    pub now: Instant,
    /// Milliseconds of Unix time.
    pub unix_ms: u64,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug)]
pub struct TurnEnd {
    /// Work is left: take the next turn at once.
    pub more: bool,
    /// Otherwise: when to take a turn even if nothing happens.
    pub next: Option<Instant>,
}

/// A session in its slot, with what only the shard needs to know of it.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) session: Session,
    /// Slot of its connection, [`NONE`] while it has none.
    pub(crate) conn: u32,
    /// Bytes of it that are in the shard's account.
    pub(crate) accounted: u32,
    /// They are in the part for sessions without a connection.
    pub(crate) accounted_away: bool,
    /// When its will is to be published; meaningful while `will_pending`.
    pub(crate) will_at: Instant,
    /// When it ends; meaningful while it has no connection.
    pub(crate) expires_at: Instant,
    /// Row of the profile that it lives by: that of its connection, or of its last one.
    pub(crate) profile: u16,
    /// Bytes that its mountpoint puts in front of every topic; the text is in the shard's list.
    /// [`SEAM`] besides, while a replay of it meets what comes live.
    pub(crate) mount: u16,
    /// When its next timer fires that still counts; [`NEVER`] while there is none.
    pub(crate) check_at: Instant,
    pub(crate) will_pending: bool,
    /// Member of a shared group: its comings and goings concern the router.
    pub(crate) shares: bool,
    /// The store has said that it has it; meaningful while it is `lasting`.
    pub(crate) stored: bool,
    /// What the store has to do with it, if it outlasts the process.
    pub(crate) lasting: Option<Box<Lasting>>,
}

impl Resident {
    /// What the store calls it; 0 if it does not outlast the process.
    #[inline]
    pub(crate) fn number(&self) -> SessionNumber {
        self.lasting.as_deref().map_or(SessionNumber::default(), |lasting| lasting.number)
    }
}

/// One shard: lives on one thread, shares nothing but the router.
pub struct Shard<T: Send> {
    pub(crate) id: ShardId,
    pub(crate) shards: u16,
    pub(crate) options: Arc<Options>,
    pub(crate) profiles: Profiles,
    pub(crate) router: Arc<Router>,
    pub(crate) seed: u64,
    pub(crate) random: u64,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// Everything is allowed: no question per message.
    pub(crate) open: bool,
    pub(crate) conns: Slab<Conn>,
    pub(crate) sessions: Slab<Resident>,
    pub(crate) registry: HashTable<u32>,
    /// Mountpoints of the sessions that have one, by slot.
    pub(crate) mounts: BTreeMap<u32, Box<str>>,
    /// Filters that sessions have for themselves, by slot.
    pub(crate) exclusives: BTreeMap<u32, Vec<Box<str>>>,
    pub(crate) wheel: Wheel,
    pub(crate) due: Vec<Timer>,
    pub(crate) scratch: Vec<u8>,
    /// Connections with bytes to write or a queue to go on with.
    pub(crate) dirty: Vec<u32>,
    /// Connections to read from in the next turn, first come first served.
    pub(crate) again: VecDeque<u32>,
    pub(crate) paused: VecDeque<u32>,
    /// Batches being filled, by destination.
    pub(crate) outgoing: Vec<Option<Box<Batch>>>,
    /// Empty batches for reuse.
    #[expect(clippy::vec_box, reason = "batches travel between shards in their boxes")]
    pub(crate) spare: Vec<Box<Batch>>,
    /// Batch of each neighbour that is half done.
    pub(crate) inbox: Vec<Option<Progress>>,
    pub(crate) jobs: VecDeque<Job>,
    /// Messages that are to be published later.
    pub(crate) waiting: Waiting,
    /// Retained messages that sessions still wait for, by slot.
    pub(crate) owed: BTreeMap<u32, Owed>,
    /// Those of them that can be served, each once.
    pub(crate) retained: VecDeque<Subscriber>,
    pub(crate) completions: VecDeque<Completion>,
    pub(crate) durable: Durable,
    /// What is kept of topics, and who follows it.
    pub(crate) replay: Replay,
    /// Shard whose mail is being worked off; otherwise this one.
    pub(crate) mail_from: ShardId,
    pub(crate) matches: Matches,
    pub(crate) walked: Vec<Target>,
    pub(crate) ids: Vec<u32>,
    /// Scratch: identifiers of one target of a run.
    pub(crate) run_ids: Vec<u32>,
    /// Scratch: codes of a SUBACK.
    pub(crate) codes: Vec<u8>,
    /// Scratch: a topic that came as an alias.
    pub(crate) topic: String,
    /// Scratch: a topic that a rule has made.
    pub(crate) rewritten: String,
    /// Scratch of one dispatch: the encoded packet.
    pub(crate) encoded: Vec<u8>,
    /// Scratch of one dispatch: a run in the other layout.
    pub(crate) converted: Vec<u8>,
    /// Scratch for building a message.
    pub(crate) building: Vec<u8>,
    /// Out buffer of sessions that have no connection: stays empty.
    pub(crate) nowhere: Vec<u8>,
    /// Out buffer of connections that may not be sent a message just now: never empty, so that nothing fits.
    pub(crate) brimful: Vec<u8>,
    pub(crate) pool: Pool,
    pub(crate) counters: Counters,
    pub(crate) report: Report,
    /// The publish with QoS 1 or 2 that is on its way to its targets.
    pub(crate) publishing: Option<Publishing>,
    /// What the publisher of the message was told that is being delivered.
    pub(crate) word: Word,
    /// Sessions here that have publishes refused while their queues are full.
    pub(crate) standers: Standers,
    /// What bent the limits of the delivery of the moment, and how many full queues had cost before.
    pub(crate) bent_for: Option<Metric>,
    pub(crate) bent_from: u64,
    /// Users whose queues are counted together, where they are.
    pub(crate) users: Users,
    /// Where sessions of the store live, on all shards.
    pub(crate) returning: Arc<Returning>,
    /// Bytes in queues and blocked out buffers.
    pub(crate) held_bytes: u64,
    /// Those of them that are in queues of sessions without a connection.
    pub(crate) away_bytes: u64,
    /// Bytes of packets that are half here.
    pub(crate) tail_bytes: u64,
    /// Those of them that come from connections which are not clients yet.
    pub(crate) stranger_bytes: u64,
    pub(crate) clients: usize,
    /// Connections by number of their listener.
    pub(crate) by_listener: Vec<u32>,
    /// Listeners whose connections are to hear of new terms, and the slot to go on with.
    pub(crate) retunes: VecDeque<(u16, u32)>,
    /// Users whose connections end.
    pub(crate) review: Review,
    /// Clients with a name of their own that were let in.
    pub(crate) admissions: u64,
    /// Slot at which [`Shard::drain`] goes on.
    pub(crate) drain_at: u32,
    pub(crate) stopping: bool,
    pub(crate) now: Instant,
    pub(crate) unix_ms: u64,
    pub(crate) started: Instant,
    pub(crate) next_page: Instant,
    pub(crate) next_sys: Instant,
    pub(crate) pages: Arc<Pages>,
    transport: PhantomData<T>,
}

impl<T: Send> Shard<T> {
    /// Builds a shard without connections and sessions.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a line for each field")]
    pub fn new(setup: Setup, now: Instant) -> Self {
        let shards = setup.shards as usize;
        let open = setup.authorizer.allows_everything();
        let bounded = setup.options.queue_totals.are_bounded();
        let durable = Durable::new(setup.store, setup.options.durability);
        let profiles = Profiles::of(&setup.options.limits, setup.options.durability, setup.zones, setup.profiles);
        Self {
            id: setup.id,
            shards: setup.shards,
            options: setup.options,
            profiles,
            router: setup.router,
            seed: setup.seed,
            random: setup.seed ^ (u64::from(setup.id) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            authenticator: setup.authenticator,
            authorizer: setup.authorizer,
            open,
            conns: Slab::default(),
            sessions: Slab::default(),
            registry: HashTable::new(),
            mounts: BTreeMap::new(),
            exclusives: BTreeMap::new(),
            wheel: Wheel::new(now),
            due: Vec::new(),
            scratch: vec![0; SCRATCH],
            dirty: Vec::new(),
            again: VecDeque::new(),
            paused: VecDeque::new(),
            outgoing: (0..shards).map(|_| None).collect(),
            spare: Vec::new(),
            inbox: (0..shards).map(|_| None).collect(),
            jobs: VecDeque::new(),
            waiting: Waiting::default(),
            owed: BTreeMap::new(),
            retained: VecDeque::new(),
            completions: VecDeque::new(),
            durable,
            replay: Replay::default(),
            mail_from: setup.id,
            matches: Matches::new(),
            walked: Vec::new(),
            ids: Vec::new(),
            run_ids: Vec::new(),
            codes: Vec::new(),
            topic: String::new(),
            rewritten: String::new(),
            encoded: Vec::new(),
            converted: Vec::new(),
            building: Vec::new(),
            nowhere: Vec::new(),
            brimful: vec![0],
            pool: Pool::default(),
            counters: Counters::default(),
            report: Report::default(),
            publishing: None,
            word: Word::None,
            standers: Standers::new(bounded),
            bent_for: None,
            bent_from: 0,
            users: Users::new(),
            returning: setup.returning,
            held_bytes: 0,
            away_bytes: 0,
            tail_bytes: 0,
            stranger_bytes: 0,
            clients: 0,
            by_listener: Vec::new(),
            retunes: VecDeque::new(),
            review: Review::default(),
            admissions: 0,
            drain_at: 0,
            stopping: false,
            now,
            unix_ms: 0,
            started: now,
            next_page: now,
            next_sys: now,
            pages: setup.pages,
            transport: PhantomData,
        }
    }

    /// Takes in a fresh connection and watches it. `None`: there is no room, it is dropped.
    pub fn accept<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        peer: Peer,
        transport: T,
        now: Instant,
    ) -> Option<u32> {
        self.counters.bump(Metric::ConnectionsAccepted);
        let full = self.conns.len() >= self.options.connections_max as usize;
        if full || self.stopping || self.live_bytes() > self.live_bytes_max() / 4 * 5 {
            self.counters.bump(Metric::ConnectionsRefused);
            return None;
        }
        let deadline = later(now, u64::from(self.profiles.limits_of(peer.listener).connect_timeout_ms));
        let slot = self.settle(driver, peer, transport, now, deadline)?;
        // With the CONNECT already there, as it mostly is, this saves a poll.
        self.ready(slot, Ready { readable: true, ..Ready::default() });
        Some(slot)
    }

    /// Gives a connection a slot here.
    pub(crate) fn settle<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        peer: Peer,
        transport: T,
        now: Instant,
        deadline: Instant,
    ) -> Option<u32> {
        let (slot, generation) = self.conns.insert(Conn::new(peer, Link::unconnected(), now, deadline));
        if !driver.place(slot, transport) {
            self.conns.remove(slot);
            self.counters.bump(Metric::ConnectionsRefused);
            return None;
        }
        let tick = self.wheel.set(deadline, Timer { kind: Kind::Connect, slot, generation });
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.timer_tick = tick;
        }
        let index = usize::from(peer.listener);
        if self.by_listener.len() <= index {
            self.by_listener.resize(index + 1, 0);
        }
        self.by_listener[index] += 1;
        Some(slot)
    }

    /// A connection has left its slot: it ended, or goes to its home.
    pub(crate) fn count_out(&mut self, listener: u16) {
        if let Some(count) = self.by_listener.get_mut(usize::from(listener)) {
            *count -= 1;
        }
    }

    /// Takes note of what the poller says of a connection. Spurious calls are harmless.
    pub fn ready(&mut self, slot: u32, ready: Ready) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if ready.writable && conn.flags.blocked && !conn.flags.holds.has(hold::UNSTORED) {
            conn.flags.blocked = false;
            conn.flags.pump = !conn.is_leaving();
            self.mark_dirty(slot);
        }
        if ready.readable || ready.read_closed {
            let Some(conn) = self.conns.get_mut(slot) else { return };
            conn.flags.readable = true;
            conn.flags.read_closed |= ready.read_closed;
            self.schedule(slot);
        }
    }

    /// Hands in the answer of a slow plane; acted on in the next turn.
    pub fn complete(&mut self, completion: Completion) {
        self.completions.push_back(completion);
    }

    /// Puts a connection into the ready-again list, unless it waits for something.
    pub(crate) fn schedule(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !conn.held() && !conn.flags.again && (conn.flags.readable || conn.flags.tail_ready) {
            conn.flags.again = true;
            self.again.push_back(slot);
        }
    }

    #[inline]
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.flags.dirty
        {
            conn.flags.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// One turn: mail, timers, what is ready to be read, then everything that has to be written.
    pub fn turn<D: Driver<Transport = T>>(&mut self, driver: &mut D, clock: Clock) -> TurnEnd {
        self.now = clock.now;
        self.unix_ms = clock.unix_ms;
        self.counters.bump(Metric::Turns);
        let mut more = self.take_mail(driver);
        more |= self.work_jobs(driver);
        self.take_completions(driver);
        more |= self.work_review(driver);
        more |= self.fire_timers(driver);
        more |= self.work_retunes();
        self.resume_paused(driver);
        for _ in 0..self.again.len() {
            let Some(slot) = self.again.pop_front() else { break };
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.flags.again = false;
                self.ingress_guarded(driver, slot);
            }
        }
        if self.waiting.due_unix_ms <= self.unix_ms {
            more |= self.publish_delayed(driver);
        }
        let mut waiting_retained = self.work_retained(&mut more);
        if !self.replay.followers.is_empty() {
            waiting_retained |= self.work_followers(driver);
        }
        self.periodic(driver);
        if self.durable.is_due(self.now) || self.stopping {
            self.settle_durable(driver);
        }
        self.post(driver);
        self.flush(driver);
        more |= !self.again.is_empty() || !self.jobs.is_empty() || !self.dirty.is_empty();
        let mut next = self.wheel.next().map_or(self.next_page, |timer| timer.min(self.next_page));
        next = next.min(self.durable.due());
        if self.waiting.due_unix_ms < u64::MAX {
            next = next.min(later(self.now, self.waiting.due_unix_ms.saturating_sub(self.unix_ms)));
        }
        if !self.paused.is_empty() || waiting_retained {
            next = next.min(later(self.now, 1));
        }
        TurnEnd { more, next: Some(next) }
    }

    /// A panic while one connection's input is handled costs that connection, not the process.
    fn ingress_guarded<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        // [MQTT3-4.8.0-2]
        if catch_unwind(AssertUnwindSafe(|| self.ingress(driver, slot))).is_err() {
            if self.scratch.len() != SCRATCH {
                self.scratch = vec![0; SCRATCH];
            }
            self.counters.bump(Metric::Panics);
            self.publishing = None;
            self.word = Word::None;
            self.replay.followers.passing = false;
            self.finish_keeping();
            let session = self.conns.get(slot).map_or(NONE, |conn| conn.session);
            self.close(driver, slot, Cause::Panic);
            self.discard(driver, session);
        }
    }

    /// Tells everybody that the broker stops. Connections are gone when [`Shard::connections`] is 0.
    pub fn shutdown<D: Driver<Transport = T>>(&mut self, driver: &mut D, now: Instant) {
        self.now = now;
        self.stopping = true;
        let slots: Vec<u32> = self.conns.slots().collect();
        for slot in slots {
            if self.conns.get(slot).is_some_and(|conn| conn.flags.blocked && matches!(conn.phase, Phase::Ready)) {
                self.leave(driver, slot);
            } else {
                self.close(driver, slot, Cause::Shutdown);
            }
        }
        self.forget_published(true);
        self.settle_durable(driver);
        self.post(driver);
        self.flush(driver);
    }

    /// Connections, clients or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Sessions, connected or not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes in queues, in blocked out buffers, and of packets that are half here.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes + self.tail_bytes
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was counted so far, with the drops that are only added up once a second.
    pub fn settled_counters(&mut self) -> &Counters {
        self.collect_drops();
        &self.counters
    }

    /// Next number of this shard's chance: repeatable from the seed.
    pub(crate) fn chance(&mut self) -> u64 {
        // splitmix64: one addition and a mix, good enough to spread picks and identifiers.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Slots of the home table. A power of two, many more than shards, so that slots can move between shards one day.
const HOME_SLOTS: u64 = 4096;

/// The shard at which a client's session lives. Keyed, so that nobody can pick identifiers that all meet at one shard.
#[must_use]
pub fn home_of(seed: u64, shards: u16, client_id: &str) -> ShardId {
    // Bits that the table of a shard's own clients uses least.
    let slot = (hash_id(seed, client_id) >> 32) % HOME_SLOTS;
    (slot % u64::from(shards.max(1))) as ShardId
}

/// Longer mountpoints have no replays.
pub(crate) const SEAM: u16 = 1 << 15;

/// No timer is set.
pub(crate) const NEVER: Instant = Instant(u64::MAX);

/// `now` and so many milliseconds.
#[inline]
pub(crate) fn later(now: Instant, ms: u64) -> Instant {
    Instant(now.0.saturating_add(ms))
}

pub(crate) fn hash_id(seed: u64, client_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(client_id.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert_eq!((size_of::<Resident>(), size_of::<Lasting>()), (120, 40));
    }
}
