//! Deterministic simulation: many clients on a bad network, shards that take turns in any order, and a ledger that knows
//! what MQTT owes to each of them. The seed decides everything; the same seed gives the same run.
//!
//! Checked: QoS 1 at least once and QoS 2 exactly once (for acknowledged messages and sessions that live on), order per
//! publisher, topic and QoS, Receive Maximum, topic aliases, session present, one connection per identifier, will rules,
//! retained messages, shared groups, and that nothing is left at the end.

mod ledger;
mod player;
mod wills;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use breakwater_contract::Metric;
use breakwater_proto::{Packet, PacketKind, Publish, Version};
use breakwater_shard::{Profile, Rate, Rates, Shard, TurnBudget};
use breakwater_store::SimulatedDisk;

use crate::chance::Chance;
use crate::network::Wire;
use crate::received::Received;
use crate::transport::Transport;
use crate::world::{Plan, World};
use ledger::Ledger;
use player::{Player, Role};
use wills::Wills;

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages published.
    pub messages: u64,
    /// Messages that somebody received.
    pub deliveries: u64,
    /// Connections made.
    pub connections: u64,
    /// Times that the broker paused a reader.
    pub pauses: u64,
    /// Wills published.
    pub wills: u64,
    /// Order of all that happened, in short: two runs of one seed agree in it.
    pub fingerprint: u64,
}

/// A rule that was broken.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub what: String,
    /// The last things that happened.
    pub trace: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nseed {}: {}", self.trace, self.seed, self.what)
    }
}

/// Plays one seed.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    run_tracing(seed, TRACE)
}

/// Plays one seed over this transport.
pub fn run_over(seed: u64, transport: Transport) -> Result<Summary, Failure> {
    play(seed, TRACE, transport, None)
}

/// Plays one seed with a store on a disk, so that acknowledgements wait for it.
pub fn run_stored(seed: u64) -> Result<Summary, Failure> {
    play(seed, TRACE, Transport::from_environment(), Some(SimulatedDisk::new()))
}

/// Plays one seed and keeps so many lines of what happened, for a failure.
pub fn run_tracing(seed: u64, lines: usize) -> Result<Summary, Failure> {
    play(seed, lines, Transport::from_environment(), None)
}

fn play(seed: u64, lines: usize, transport: Transport, disk: Option<SimulatedDisk>) -> Result<Summary, Failure> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut simulation = Simulation::new(seed, transport, disk);
        simulation.scene.trace_lines = lines;
        let result = simulation.play();
        result.map_err(|what| (what, simulation.scene.trace()))
    }));
    match played {
        Ok(Ok(summary)) => Ok(summary),
        Ok(Err((what, trace))) => Err(Failure { seed, what, trace }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            let what = format!("panic: {}", text.unwrap_or_default());
            Err(Failure { seed, what, trace: String::new() })
        }
    }
}

/// Lines of trace kept where nobody asks for more.
const TRACE: usize = 60;

/// Everything that players act on.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) chance: Chance,
    pub(crate) ledger: Ledger,
    pub(crate) wills: Wills,
    /// The broker has so little memory that it may have to drop anything.
    pub(crate) small: bool,
    /// Clients of one listener have rates: what is due may take a while.
    metered: bool,
    /// Logical time: counts what players do.
    pub(crate) tick: u64,
    trace: std::collections::VecDeque<String>,
    trace_lines: usize,
    /// Players whose session has begun anew.
    new_sessions: Vec<usize>,
    fingerprint: u64,
}

impl Scene {
    /// Notes what happened, for whoever has to understand a failing seed.
    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        let mut text = String::new();
        let _ = write!(text, "{:>8} {line}", self.world.now.0 - 1_000_000);
        for byte in text.bytes() {
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.trace.len() == self.trace_lines {
            self.trace.pop_front();
        }
        self.trace.push_back(text);
    }

    fn trace(&self) -> String {
        self.trace.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Looks at what the broker has logged: who is connected, and whose will is due.
    fn follow_events(&mut self) -> Result<(), String> {
        for noted in std::mem::take(&mut self.world.fabric.events) {
            self.note(format_args!("log: port {} {:?}", noted.port, noted.logged));
            self.new_sessions.extend(self.wills.follow(&noted)?);
        }
        Ok(())
    }
}

struct Simulation {
    scene: Scene,
    players: Vec<Player>,
    connections: u64,
}

impl Simulation {
    fn new(seed: u64, transport: Transport, disk: Option<SimulatedDisk>) -> Self {
        let mut chance = Chance::new(seed);
        let shards = 1 + chance.below(4) as u16;
        let tight = chance.one_in(3);
        let mut plan = Plan { shards, seed: chance.next(), transport, disk, ..Plan::default() };
        plan.router.hash_seed = chance.next();
        plan.router.cache_entries = *chance.pick(&[0, 16, 4096]);
        plan.options.sys_interval_s = 0;
        plan.options.limits.queue_messages_max = 100_000;
        plan.options.limits.queue_bytes_max = 64 << 20;
        plan.options.limits.inflight_max = *chance.pick(&[1, 3, 32]);
        plan.options.limits.receive_maximum = *chance.pick(&[2, 8, 1024]);
        plan.options.limits.queue_qos0 = chance.one_in(3);
        if tight {
            tighten(&mut plan, &mut chance);
        }
        let metered = set_terms(&mut plan, seed);
        let count = 4 + chance.below(9) as usize;
        let role =
            |index: usize, chance: &mut Chance| if index == 0 { Role::watcher() } else { Role::any(chance, index) };
        let players = (0..count).map(|index| Player::new(index, role(index, &mut chance))).collect();
        let small = plan.options.memory_bytes < 1 << 20;
        let scene = Scene {
            world: World::new(plan),
            chance,
            ledger: Ledger::default(),
            wills: Wills::new(small),
            small,
            metered,
            tick: 0,
            trace: std::collections::VecDeque::new(),
            trace_lines: TRACE,
            new_sessions: Vec::new(),
            fingerprint: 0,
        };
        Self { scene, players, connections: 0 }
    }

    fn play(&mut self) -> Result<Summary, String> {
        self.seat_watcher()?;
        let steps = 500 + self.scene.chance.below(3000);
        for _ in 0..steps {
            self.step()?;
        }
        self.settle()?;
        let dropped = self.dropped();
        self.scene.ledger.check(&self.players, dropped)?;
        if !dropped {
            self.check_retained()?;
        }
        self.leave()?;
        self.check_empty()?;
        let counter = |metric| self.scene.world.shards.iter().map(|shard| shard.counters().get(metric)).sum();
        Ok(Summary {
            messages: self.scene.ledger.messages.len() as u64,
            deliveries: self.players.iter().map(|player| player.seen.len() as u64).sum(),
            connections: self.connections,
            pauses: counter(Metric::ReadersPaused),
            wills: counter(Metric::WillsPublished),
            fingerprint: self.scene.fingerprint,
        })
    }

    /// The watcher subscribes before anything happens, and never loses its session.
    fn seat_watcher(&mut self) -> Result<(), String> {
        self.players[0].connect(&mut self.scene);
        for _ in 0..20 {
            self.exchange(0)?;
        }
        for filter in ["will/#", "keep/#"] {
            self.players[0].subscribe(&mut self.scene, filter);
        }
        for _ in 0..20 {
            self.exchange(0)?;
        }
        if self.players[0].subscriptions.values().filter(|held| held.since.is_some()).count() == 2 {
            Ok(())
        } else {
            Err("the watcher's subscriptions were not granted".into())
        }
    }

    /// All that is under way between one player and the broker moves on, without mishaps.
    fn exchange(&mut self, index: usize) -> Result<(), String> {
        self.players[index].flush_all(&mut self.scene);
        self.scene.world.step();
        self.follow_events()?;
        self.players[index].take_in(&mut self.scene)?;
        self.players[index].answer(&mut self.scene, usize::MAX);
        Ok(())
    }

    /// A player whose CONNACK was lost can't know that its session is a new one; the ledger has to.
    fn follow_events(&mut self) -> Result<(), String> {
        self.scene.follow_events()?;
        for index in std::mem::take(&mut self.scene.new_sessions) {
            self.players[index].forget_session();
        }
        Ok(())
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        self.scene.tick += 1;
        let index = self.scene.chance.below(self.players.len() as u64) as usize;
        match self.scene.chance.below(100) {
            0..35 => {
                let shard = self.scene.chance.below(u64::from(self.scene.world.plan.shards)) as u16;
                if self.scene.world.has_work(shard) {
                    self.scene.world.turn(shard);
                }
            }
            35..55 => self.players[index].flush_some(&mut self.scene),
            55..68 => self.players[index].take_in(&mut self.scene)?,
            68..74 => {
                let most = 1 + self.scene.chance.below(4) as usize;
                self.players[index].answer(&mut self.scene, most);
            }
            74..92 => self.players[index].act(&mut self.scene),
            92..94 => self.players[index].suffer(&mut self.scene),
            94..99 => {
                let ms = 1 + self.scene.chance.below(60);
                self.scene.world.now = self.scene.world.now.plus_ms(ms);
            }
            _ => self.long_time()?,
        }
        self.follow_events()?;
        self.check_now()
    }

    /// A longer time passes, in which the network does what it should.
    fn long_time(&mut self) -> Result<(), String> {
        if !self.scene.chance.one_in(4) {
            return Ok(());
        }
        let ms = self.scene.chance.below(12_000);
        self.scene.note(format_args!("{ms} ms pass"));
        self.scene.world.advance(ms);
        self.follow_events()?;
        for player in &mut self.players {
            player.take_in(&mut self.scene)?;
        }
        Ok(())
    }

    fn check_now(&self) -> Result<(), String> {
        let world = &self.scene.world;
        let panics: u64 = world.shards.iter().map(|shard| shard.counters().get(Metric::Panics)).sum();
        let violations: u64 = world.shards.iter().map(|shard| shard.counters().get(Metric::Violations)).sum();
        if panics > 0 {
            return Err("a panic inside the broker".into());
        }
        if violations > 0 {
            return Err("the broker blames a client that did nothing wrong".into());
        }
        Ok(())
    }

    /// Everybody who has a session comes back, the network is good, and all that is owed is paid.
    fn settle(&mut self) -> Result<(), String> {
        self.scene.note(format_args!("settling"));
        for player in &mut self.players {
            player.recover(&mut self.scene);
            if player.conn.is_none() && player.role.durable {
                player.connect(&mut self.scene);
            }
        }
        let (mut quiet, mut looked) = (0, false);
        for _ in 0..20_000 {
            let before = self.scene.fingerprint;
            for index in 0..self.players.len() {
                self.exchange(index)?;
                if self.players[index].conn.is_none() && self.players[index].role.durable {
                    self.players[index].connect(&mut self.scene);
                }
            }
            self.scene.world.advance(if self.scene.metered { 150 } else { 2 });
            self.follow_events()?;
            self.check_now()?;
            quiet = if self.scene.fingerprint == before { quiet + 1 } else { 0 };
            if quiet >= 5 && self.scene.world.plan.disk.is_some() && !looked {
                // What the store has for a group whose members were all away is looked for once a second.
                looked = true;
                quiet = 0;
                self.scene.world.advance(1500);
            }
            if quiet == 5 {
                self.connections = self.players.iter().map(|player| u64::from(player.incarnation)).sum();
                return match self.players.iter().find(|player| player.conn.is_some() && !player.outgoing.is_empty()) {
                    Some(player) => Err(format!("{} waits for acknowledgements for ever{}", player.id, self.held())),
                    None => Ok(()),
                };
            }
        }
        Err("it never becomes quiet".into())
    }

    /// The broker had to drop something that it would rather have kept, and has counted it.
    fn dropped(&mut self) -> bool {
        let dropped = |shard: &mut Shard<Wire>| {
            let counters = shard.settled_counters();
            counters.get(Metric::DroppedQueueFull) + counters.get(Metric::DroppedTooLarge)
        };
        self.scene.world.shards.iter_mut().map(dropped).sum::<u64>() > 0
    }

    /// What the shards hold, for a failure.
    fn held(&self) -> String {
        let world = &self.scene.world;
        let held: Vec<u64> = world.shards.iter().map(|shard| shard.held_bytes()).collect();
        let (limit, mail) = (world.plan.options.memory_bytes, world.fabric.mailboxes.bytes());
        let waiting: Vec<_> = self.players.iter().filter_map(|player| player.unread(&self.scene)).collect();
        format!("; shards hold {held:?} of {limit} bytes, {mail} are in the mail; not read by the broker: {waiting:?}")
    }

    /// What is retained is what the watcher saw last.
    fn check_retained(&mut self) -> Result<(), String> {
        let mut auditor = Player::new(self.players.len(), Role::auditor());
        auditor.connect(&mut self.scene);
        let index = self.players.len();
        self.players.push(auditor);
        (0..10).try_for_each(|_| self.exchange(index))?;
        self.players[index].subscribe(&mut self.scene, "keep/#");
        for _ in 0..200 {
            self.exchange(index)?;
            self.scene.world.advance(1);
        }
        let kept = &self.players[index].retained;
        for (topic, last) in &self.players[0].last_kept {
            let now = kept.get(topic).copied().flatten();
            if now != *last {
                let count = self.scene.world.router.counts().retained;
                return Err(format!(
                    "{topic}: retained is {now:?} of {count}, the last live message was {last:?}{}",
                    self.held()
                ));
            }
        }
        if let Some(topic) = kept.keys().find(|topic| !self.players[0].last_kept.contains_key(*topic)) {
            return Err(format!("{topic} is retained, but nobody saw it live"));
        }
        Ok(())
    }

    /// Everybody leaves, and sessions come to their end. The watcher goes last, to see the wills.
    fn leave(&mut self) -> Result<(), String> {
        for index in (1..self.players.len()).rev() {
            self.part(index)?;
        }
        for _ in 0..8 {
            self.scene.world.advance(3 * 3600 * 1000);
            self.follow_events()?;
            self.exchange(0)?;
            if self.players[0].conn.is_none() {
                self.players[0].connect(&mut self.scene);
            }
        }
        (0..100).try_for_each(|_| self.exchange(0))?;
        let dropped = self.dropped();
        self.scene.wills.check(&self.players[0].wills_seen, dropped)?;
        self.part(0)
    }

    fn part(&mut self, index: usize) -> Result<(), String> {
        self.players[index].recover(&mut self.scene);
        if self.players[index].conn.is_some() && index.is_multiple_of(2) {
            self.players[index].break_off(&mut self.scene);
        }
        if index.is_multiple_of(3) {
            // Its session ends by a clean start, otherwise by its expiry.
            self.players[index].role.ends = true;
            self.players[index].connect(&mut self.scene);
        }
        (0..10).try_for_each(|_| self.exchange(index))?;
        self.players[index].say_goodbye(&mut self.scene);
        (0..3).try_for_each(|_| self.exchange(index))
    }

    fn check_empty(&mut self) -> Result<(), String> {
        self.scene.world.advance(5000);
        let world = &self.scene.world;
        let sum = |of: fn(&Shard<Wire>) -> u64| world.shards.iter().map(of).sum::<u64>();
        let counts = world.router.counts();
        let left = [
            ("connections", sum(|shard| shard.connections() as u64)),
            ("sessions", sum(|shard| shard.sessions() as u64)),
            ("bytes held", sum(|shard| shard.held_bytes())),
            ("bytes of mail", world.fabric.mailboxes.bytes() as u64),
            ("wires", world.fabric.network.held() as u64),
            ("subscriptions", counts.subscriptions + counts.shared_subscriptions),
            ("filters", counts.exact_filters + counts.trie_filters + counts.shared_groups),
        ];
        match left.iter().find(|(_, count)| *count > 0) {
            Some((what, count)) => Err(format!("{count} {what} are left at the end")),
            None => Ok(()),
        }
    }
}

/// Listeners of the simulation: players come through one or the other.
pub(crate) const LISTENERS: u16 = 2;

/// Terms of the listeners. They follow from the seed and not from its chance: a quarter of the seeds has none, one the
/// second listener's rates and other limits, one a mountpoint that both share, and one all of it and a short lifetime.
fn set_terms(plan: &mut Plan, seed: u64) -> bool {
    let (metered, mounted) = (seed % 2 == 1, seed % 4 >= 2);
    let rate = |per_second| Rate { per_second, burst: 0 };
    for listener in 0..LISTENERS {
        let mut limits = plan.options.limits.clone();
        let mut profile = Profile::default();
        if listener == 1 && metered {
            limits.inflight_max = 2;
            limits.topic_alias_in_max = 1;
            limits.topic_alias_out_max = 1;
            profile.rates = Rates {
                messages_in: rate(50 + seed % 100),
                bytes_in: rate(30_000),
                messages_out: rate(50 + seed % 70),
                bytes_out: rate(40_000),
            };
        }
        if listener == 1 && metered && mounted {
            profile.lifetime_ms = 15_000;
        }
        if mounted {
            profile.mountpoint = "site/".into();
        }
        profile.limits = Arc::new(limits);
        plan.profiles.push((listener, Arc::new(profile)));
    }
    metered
}

/// Every bound so small that it is met all the time.
fn tighten(plan: &mut Plan, chance: &mut Chance) {
    let options = &mut plan.options;
    options.turn = TurnBudget {
        read_bytes: 8192,
        deliveries: 1 + chance.below(20) as u32,
        appended_bytes: 100 + chance.below(4000) as u32,
        mail_bytes: 100 + chance.below(2000) as u32,
        accepts: 1,
        timers: 1 + chance.below(4) as u32,
    };
    options.mailbox_bytes = 1024 + chance.below(8192) as u32;
    options.out_buffer_bytes = 300 + chance.below(4000) as u32;
    options.retained_per_turn = 1 + chance.below(3) as u32;
    options.memory_bytes = *chance.pick(&[32 * 1024, 256 * 1024, 1 << 30]);
    plan.places = 1 + chance.below(3) as usize;
}

/// A packet of a kind that a client may be sent, or why not.
pub(crate) fn unexpected(kind: PacketKind) -> String {
    format!("{} was sent to a client", kind.name())
}

/// For the players: packets out of received bytes.
pub(crate) fn cut(version: Version, bytes: &mut Vec<u8>) -> Option<Received> {
    Received::cut(version, bytes)
}

/// For the players: the PUBLISH in a packet.
pub(crate) fn publish_of(packet: &Received) -> Option<Publish<'_>> {
    match packet.packet() {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    }
}
