//! One virtual node: its shards, their network, its clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use breakwater_contract::{Authenticator, Authorizer, Completion, Store};
use breakwater_proto::Instant;
use breakwater_router::{Router, RouterOptions};
use breakwater_shard::{Clock, Options, Pages, Peer, Profile, ReplayRule, Returning, Setup, Shard, ShardId, hand_out};
use breakwater_store::{Memory, SimulatedDisk};

use crate::hands::{Fabric, Hands};
use crate::mailboxes::Mailboxes;
use crate::network::{Network, Wire};
use crate::stored::Stored;
use crate::transport::Transport;

/// The virtual clock starts here: not at 0, where a difference might wrap unseen.
const START: Instant = Instant(1_000_000);
/// Unix time at the start of the virtual clock: 2026-01-01T00:00:00Z.
const START_UNIX_MS: u64 = 1_767_225_600_000;
/// Places in the ring between two shards; as many as over real threads.
const PLACES: usize = 64;
/// More turns than any test needs at one moment.
const TURNS_MAX: u32 = 2_000_000;

/// What a node is built from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    /// Terms of the listeners that have their own.
    pub(crate) profiles: Vec<(u16, Arc<Profile>)>,
    pub(crate) router: RouterOptions,
    pub(crate) shards: u16,
    pub(crate) seed: u64,
    pub(crate) places: usize,
    /// What lies between clients and the broker.
    pub(crate) transport: Transport,
    /// Where connections come from.
    pub(crate) peers: IpAddr,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// What outlasts the node; without a disk, nothing does.
    pub(crate) disk: Option<SimulatedDisk>,
    /// How long after the first node this one starts, by the wall clock.
    pub(crate) later_ms: u64,
    /// What is kept for replays; nothing without a disk.
    pub(crate) replay: Vec<ReplayRule>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            options: Options::default(),
            profiles: Vec::new(),
            router: RouterOptions::default(),
            shards: 1,
            seed: 0x5EED,
            places: PLACES,
            transport: Transport::from_environment(),
            peers: Ipv4Addr::LOCALHOST.into(),
            authenticator: Arc::new(breakwater_auth::Open),
            authorizer: Arc::new(breakwater_auth::Open),
            disk: None,
            later_ms: 0,
            replay: Vec::new(),
        }
    }
}

/// A node, to be driven turn by turn.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) shards: Vec<Shard<Wire>>,
    pub(crate) fabric: Fabric,
    pub(crate) router: Arc<Router>,
    pub(crate) returning: Arc<Returning>,
    pub(crate) pages: Arc<Pages>,
    /// The store, where there is one.
    pub(crate) stored: Option<Stored>,
    pub(crate) now: Instant,
    /// Work is left from the last turn, by shard.
    more: Vec<bool>,
    /// Next timer, by shard.
    next: Vec<Option<Instant>>,
    /// Shard that accepts the next connection.
    acceptor: u16,
    /// Port of the last connection.
    pub(crate) port: u16,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let router = Arc::new(Router::new(RouterOptions { shards: plan.shards, ..plan.router.clone() }));
        let pages = Arc::new(Pages::new(plan.shards));
        let options = Arc::new(plan.options.clone());
        let epoch_unix_ms = START_UNIX_MS + plan.later_ms - START.0;
        let mut stored = plan.disk.as_ref().map(|disk| Stored::open(disk, epoch_unix_ms, &router, START));
        let store = stored.as_ref().map_or_else(|| Arc::new(Memory::default()) as Arc<dyn Store>, Stored::store);
        let revived = stored.as_mut().map(|stored| std::mem::take(&mut stored.revived)).unwrap_or_default();
        let returning = Arc::new(Returning::new(plan.shards));
        let setup = |id| Setup {
            id,
            shards: plan.shards,
            options: Arc::clone(&options),
            profiles: plan.profiles.clone(),
            zones: plan
                .profiles
                .iter()
                .map(|(_, profile)| Arc::clone(profile))
                .filter(|profile| !profile.zone.is_empty())
                .collect(),
            router: Arc::clone(&router),
            seed: plan.seed,
            authenticator: Arc::clone(&plan.authenticator),
            authorizer: Arc::clone(&plan.authorizer),
            pages: Arc::clone(&pages),
            store: Arc::clone(&store),
            returning: Arc::clone(&returning),
        };
        let fabric = Fabric {
            network: Network::new(plan.shards, plan.transport),
            mailboxes: Mailboxes::new(plan.shards, plan.places, plan.options.mailbox_bytes as usize),
            events: Vec::new(),
            now: START,
            keep_events: true,
        };
        let count = usize::from(plan.shards);
        let mut shards: Vec<_> = (0..plan.shards).map(|id| Shard::new(setup(id), START)).collect();
        revived.into_iter().for_each(|found| hand_out(found, &mut shards));
        if plan.disk.is_some() {
            returning.set_replay_rules(&plan.replay, &router);
        }
        Self {
            shards,
            fabric,
            now: START,
            more: vec![true; count],
            next: vec![None; count],
            acceptor: 0,
            port: 1024,
            plan,
            router,
            returning,
            pages,
            stored,
        }
    }

    /// A new connection, accepted by `shard` or by the next in line. Answers its link; it may be closed already.
    pub(crate) fn connect(&mut self, shard: Option<ShardId>, listener: u16) -> u32 {
        let shard = shard.unwrap_or_else(|| {
            self.acceptor = (self.acceptor + 1) % self.plan.shards;
            self.acceptor
        });
        self.port = self.port.checked_add(1).unwrap_or(1024);
        let peer = Peer { address: SocketAddr::from((self.plan.peers, self.port)), listener, direct: true };
        let link = self.fabric.network.open();
        let mut hands = Hands { shard, fabric: &mut self.fabric };
        if self.shards[usize::from(shard)].accept(&mut hands, peer, Wire(link), self.now).is_none() {
            self.fabric.network.drop_near(link);
        }
        self.more[usize::from(shard)] = true;
        link
    }

    /// Something is there for `shard` to do at this moment.
    pub(crate) fn has_work(&self, shard: ShardId) -> bool {
        let index = usize::from(shard);
        self.more[index]
            || self.next[index].is_some_and(|next| next <= self.now)
            || self.fabric.network.has_edges(shard)
            || self.fabric.mailboxes.has_news(shard)
    }

    /// One turn of one shard.
    pub(crate) fn turn(&mut self, shard: ShardId) {
        let index = usize::from(shard);
        self.fabric.now = self.now;
        let engine = &mut self.shards[index];
        self.fabric.mailboxes.start_turn(shard, |batch| engine.reclaim(batch));
        self.fabric.network.poll(shard, |slot, ready| engine.ready(slot, ready));
        let clock = Clock { now: self.now, unix_ms: START_UNIX_MS + self.plan.later_ms + (self.now.0 - START.0) };
        let end = engine.turn(&mut Hands { shard, fabric: &mut self.fabric }, clock);
        self.more[index] = end.more;
        self.next[index] = end.next;
    }

    /// Turns until nothing is left to do at this moment.
    pub(crate) fn step(&mut self) {
        for _ in 0..TURNS_MAX {
            let mut busy = false;
            for shard in 0..self.plan.shards {
                if self.has_work(shard) {
                    self.turn(shard);
                    busy = true;
                }
            }
            if !busy && !self.store_works() {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    /// The threads of the store do what there is to do. Answers whether a shard hears of it.
    fn store_works(&mut self) -> bool {
        let Some(stored) = &self.stored else { return false };
        let answers = stored.work(self.now);
        let any = !answers.is_empty();
        answers.into_iter().for_each(|answer| self.complete(answer));
        any
    }

    /// Hands in the answer of a slow plane.
    pub(crate) fn complete(&mut self, completion: Completion) {
        let (Completion::Auth { token, .. }
        | Completion::Authorized { token, .. }
        | Completion::Durable { token, .. }
        | Completion::Read { token, .. }) = &completion;
        let shard = token.shard;
        if let Some(engine) = self.shards.get_mut(usize::from(shard)) {
            engine.complete(completion);
            self.wake(shard);
        }
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.step();
        let until = Instant(self.now.0 + ms);
        while let Some(next) = self.next.iter().flatten().min().copied().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = until;
        self.step();
    }

    /// An operator speaks to every shard; answers what they say.
    pub(crate) fn operate<A>(&mut self, mut act: impl FnMut(&mut Shard<Wire>, &mut Hands<'_>, Instant) -> A) -> Vec<A> {
        let mut answers = Vec::new();
        for shard in 0..self.plan.shards {
            self.fabric.now = self.now;
            let mut hands = Hands { shard, fabric: &mut self.fabric };
            answers.push(act(&mut self.shards[usize::from(shard)], &mut hands, self.now));
            self.wake(shard);
        }
        answers
    }

    /// Wakes `shard` for what came to it from outside.
    pub(crate) fn wake(&mut self, shard: ShardId) {
        self.more[usize::from(shard)] = true;
    }

    pub(crate) fn shutdown(&mut self) {
        for shard in 0..self.plan.shards {
            let mut hands = Hands { shard, fabric: &mut self.fabric };
            self.shards[usize::from(shard)].shutdown(&mut hands, self.now);
            self.wake(shard);
        }
    }
}
