//! A broker of several shards in one thread, over the virtual network.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::{Authenticator, Authorizer, Completion, Kicked, Metric, Revoked};
use breakwater_proto::{Instant, ReasonCode};
use breakwater_router::{Router, RouterOptions};
use breakwater_shard::{Options, Profile, ReplayRule, Shard, ShardId, home_of};
use breakwater_store::SimulatedDisk;

use crate::client::Client;
use crate::connecting::Connecting;
use crate::event::Logged;
use crate::hands::Hands;
use crate::network::Wire;
use crate::transport::Transport;
use crate::world::{Plan, World};

/// The broker under test. A handle: cheap to clone, all clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    pub(crate) world: Rc<RefCell<World>>,
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl Broker {
    /// One shard, default settings, everybody may do everything.
    #[must_use]
    pub fn new() -> Self {
        Self::from_plan(Plan::default())
    }

    /// As [`Broker::new`], with other settings.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Options, &mut RouterOptions)) -> Self {
        let mut plan = Plan::default();
        change(&mut plan.options, &mut plan.router);
        Self::from_plan(plan)
    }

    fn from_plan(plan: Plan) -> Self {
        Self { world: Rc::new(RefCell::new(World::new(plan))) }
    }

    /// Builds it anew with a changed plan; for the start of a test, before anybody connects.
    fn rebuilt(self, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = self.world.borrow().plan.clone();
        // It may have the lock of a disk.
        drop(self);
        change(&mut plan);
        Self::from_plan(plan)
    }

    /// With so many shards. Before anybody connects.
    #[must_use]
    pub fn shards(self, shards: u16) -> Self {
        self.rebuilt(|plan| plan.shards = shards)
    }

    /// With this seed for all chance inside the broker. Before anybody connects.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.rebuilt(|plan| plan.seed = seed)
    }

    /// With so many places in the ring between two shards. Before anybody connects.
    #[must_use]
    pub fn mailbox_places(self, places: usize) -> Self {
        self.rebuilt(|plan| plan.places = places)
    }

    /// With clients that come over this transport, whatever the environment says. Before anybody connects.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        self.rebuilt(|plan| plan.transport = transport)
    }

    /// With connections that come from this address; from loopback otherwise. Before anybody connects.
    #[must_use]
    pub fn peers_from(self, address: IpAddr) -> Self {
        self.rebuilt(|plan| plan.peers = address)
    }

    /// With this authenticator. Before anybody connects.
    #[must_use]
    pub fn authenticator(self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.rebuilt(|plan| plan.authenticator = authenticator)
    }

    /// With this authorizer. Before anybody connects.
    #[must_use]
    pub fn authorizer(self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.rebuilt(|plan| plan.authorizer = authorizer)
    }

    /// With these rules for what is kept for replays. Before anybody connects.
    #[must_use]
    pub fn replay(self, rules: &[ReplayRule]) -> Self {
        self.rebuilt(|plan| plan.replay = rules.to_vec())
    }

    /// Messages that are kept for replays and their bytes, as of the last second.
    #[must_use]
    pub fn kept_for_replay(&self) -> (u64, u64) {
        self.world.borrow().pages.replay()
    }

    /// Other rules, while it runs.
    pub fn set_replay_rules(&self, rules: &[ReplayRule]) {
        let world = self.world.borrow();
        world.returning.set_replay_rules(rules, &world.router);
    }

    /// With a store on this disk, and what it holds. Before anybody connects.
    #[must_use]
    pub fn on_disk(self, disk: &SimulatedDisk) -> Self {
        self.rebuilt(|plan| plan.disk = Some(disk.clone()))
    }

    /// Started so long after the first broker, by the wall clock. Before anybody connects, and before [`Broker::on_disk`].
    #[must_use]
    pub fn later(self, time: Duration) -> Self {
        self.rebuilt(|plan| plan.later_ms = u64::try_from(time.as_millis()).expect("a test lives less than an age"))
    }

    /// Whether the store's threads stand still: what is submitted waits.
    pub fn halt_store(&self, halt: bool) {
        if let Some(stored) = &mut self.world.borrow_mut().stored {
            stored.halted = halt;
        }
    }

    /// With these terms for the clients of a listener. Before anybody connects.
    #[must_use]
    pub fn profile(self, listener: u16, change: impl FnOnce(&mut Profile)) -> Self {
        self.rebuilt(|plan| {
            let limits = Arc::new(plan.options.limits.clone());
            let mut profile = Profile { limits, ..Profile::default() };
            change(&mut profile);
            plan.profiles.push((listener, Arc::new(profile)));
        })
    }

    /// New terms for a listener, while the broker runs.
    pub fn set_profile(&self, listener: u16, profile: Profile) {
        let profile = Arc::new(profile);
        self.world.borrow_mut().operate(|shard, _, _| shard.set_profile(listener, Arc::clone(&profile)));
    }

    /// A listener is closed, and its terms with it.
    pub fn forget_profile(&self, listener: u16) {
        self.world.borrow_mut().operate(|shard, _, _| shard.forget_profile(listener));
    }

    /// An operator ends up to so many connections of a listener at each shard; answers how many are left.
    pub fn drain(&self, listener: Option<u16>, at_most: usize) -> usize {
        self.world.borrow_mut().operate(|shard, hands, now| shard.drain(hands, listener, at_most, now)).iter().sum()
    }

    /// An operator ends a client; answers what was found.
    pub fn kick(&self, client_id: &str, reason: ReasonCode, discard: bool) -> Kicked {
        let kick =
            |shard: &mut Shard<Wire>, hands: &mut Hands<'_>, now| shard.kick(hands, client_id, reason, discard, now);
        self.world.borrow_mut().operate(kick).into_iter().max().unwrap_or_default()
    }

    /// An operator removes retained messages of these topics and revisions; answers how many there were.
    pub fn unretain(&self, topics: &[(Box<str>, u64)]) -> usize {
        let mut topics = Some(topics);
        // One shard does it.
        let act =
            |shard: &mut Shard<Wire>, _: &mut Hands<'_>, now| shard.unretain(topics.take().unwrap_or_default(), now);
        self.world.borrow_mut().operate(act).into_iter().sum()
    }

    /// Users have lost what let them in; the next turns end their connections.
    pub fn revoke(&self, revoked: &Arc<Revoked>) {
        self.world.borrow_mut().operate(|shard, _, _| shard.revoke(Arc::clone(revoked)));
    }

    /// Connections that came through a listener.
    #[must_use]
    pub fn connections_of(&self, listener: u16) -> usize {
        self.world.borrow().shards.iter().map(|shard| shard.connections_of(listener)).sum()
    }

    /// A fresh connection that has not sent anything. Shards accept in turn.
    #[must_use]
    pub fn connect(&self) -> Client {
        self.connect_through(0, None)
    }

    /// A fresh connection, accepted by this shard.
    #[must_use]
    pub fn connect_at(&self, shard: ShardId) -> Client {
        self.connect_through(0, Some(shard))
    }

    /// A fresh connection, accepted by this listener.
    #[must_use]
    pub fn connect_through(&self, listener: u16, shard: Option<ShardId>) -> Client {
        let link = self.world.borrow_mut().connect(shard, listener);
        Client::new(self.clone(), link)
    }

    /// A client that is about to connect: 5.0, clean start, no keep-alive, unless told otherwise.
    #[must_use]
    pub fn client<'a>(&self, client_id: &'a str) -> Connecting<'a> {
        Connecting::new(self.clone(), client_id)
    }

    /// Takes turns until nothing is left to do at this moment. Most methods of [`Client`] do so by themselves.
    pub fn step(&self) {
        self.world.borrow_mut().step();
    }

    /// One turn of one shard, whatever the others have to do.
    pub fn turn(&self, shard: ShardId) {
        self.world.borrow_mut().turn(shard);
    }

    /// Whether this shard has something to do at this moment.
    #[must_use]
    pub fn has_work(&self, shard: ShardId) -> bool {
        self.world.borrow().has_work(shard)
    }

    /// Lets virtual time pass; every timer on the way fires at its time.
    pub fn advance(&self, time: Duration) {
        self.world.borrow_mut().advance(u64::try_from(time.as_millis()).expect("a test lives less than an age"));
    }

    /// The virtual clock jumps without a turn: for tests of single turns.
    pub fn set_ahead(&self, time: Duration) {
        let mut world = self.world.borrow_mut();
        world.now = world.now + time;
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        self.world.borrow().now
    }

    /// Shard at which the session of this client lives.
    #[must_use]
    pub fn shard_of(&self, client_id: &str) -> ShardId {
        let world = self.world.borrow();
        home_of(world.plan.seed, world.plan.shards, client_id)
    }

    /// An identifier that starts with `prefix` and whose session lives at `shard`.
    #[must_use]
    pub fn id_at(&self, shard: ShardId, prefix: &str) -> String {
        (0..)
            .map(|number| format!("{prefix}{number}"))
            .find(|id| self.shard_of(id) == shard)
            .expect("numbers don't end")
    }

    /// Sum of a counter over all shards, as of this moment.
    #[must_use]
    pub fn counter(&self, metric: Metric) -> u64 {
        self.world.borrow_mut().shards.iter_mut().map(|shard| shard.settled_counters().get(metric)).sum()
    }

    /// What was logged since the last call.
    #[must_use]
    pub fn events(&self) -> Vec<Logged> {
        self.world.borrow_mut().fabric.events.drain(..).map(|noted| noted.logged).collect()
    }

    /// Log events are dropped from now on: for measurements.
    pub fn forget_events(&self) {
        let mut world = self.world.borrow_mut();
        world.fabric.keep_events = false;
        world.fabric.events = Vec::new();
    }

    /// Hands in the answer of a slow plane, as its thread would.
    pub fn complete(&self, completion: Completion) {
        self.world.borrow_mut().complete(completion);
    }

    /// Begins to stop: every shard says good-bye.
    pub fn shutdown(&self) {
        self.world.borrow_mut().shutdown();
    }

    /// Connections that the shards hold, clients or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.world.borrow().shards.iter().map(|shard| shard.connections()).sum()
    }

    /// Sessions, connected or not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.world.borrow().shards.iter().map(|shard| shard.sessions()).sum()
    }

    /// Bytes in queues and out buffers that wait, as the shards account for them.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.world.borrow().shards.iter().map(|shard| shard.held_bytes()).sum()
    }

    /// Bytes of mail between shards at this moment.
    #[must_use]
    pub fn mail_bytes(&self) -> usize {
        self.world.borrow().fabric.mailboxes.bytes()
    }

    /// Most bytes of mail that were ever under way from one shard to another.
    #[must_use]
    pub fn mail_bytes_most(&self) -> usize {
        self.world.borrow().fabric.mailboxes.bytes_most()
    }

    /// Connections whose broker end is open on the virtual network.
    #[must_use]
    pub fn wires(&self) -> usize {
        self.world.borrow().fabric.network.held()
    }

    #[must_use]
    pub fn router(&self) -> Arc<Router> {
        Arc::clone(&self.world.borrow().router)
    }

    /// Makes room for so many connections on the virtual network, so that its own growth doesn't show in measurements.
    pub fn reserve(&self, connections: usize) {
        let mut world = self.world.borrow_mut();
        let shards = usize::from(world.plan.shards);
        world.fabric.network.reserve(connections, connections / shards * 2);
    }

    /// Gives back the memory of the virtual network's empty buffers, so that they don't show in measurements.
    pub fn release_spares(&self) {
        self.world.borrow_mut().fabric.network.release_spares();
    }
}
