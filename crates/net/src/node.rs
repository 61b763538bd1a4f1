//! All shards of a process: their threads, how they find each other, and how they stop.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use breakwater_contract::Handoff;
use breakwater_proto::Instant;
use breakwater_shard::ShardId;
use breakwater_transport::tls::Challenges;
use mio::{Events, Poll};

use crate::accept::Acceptor;
use crate::bell::Bell;
use crate::book::Book;
use crate::clock::{Clock, Origin};
use crate::dock::Docks;
use crate::drain::Drains;
use crate::gate::Gate;
use crate::known::Known;
use crate::listen::{BoundTo, Listening};
use crate::orders::Orders;
use crate::pool::Pool;
use crate::quic::Quic;
use crate::recheck::Rechecks;
use crate::sockets::{Post, Sockets};
use crate::token::Watched;
use crate::turn::{EVENTS, Engine, Loop};
use crate::turn_times::{TurnCounts, TurnTimes};
use crate::{Journal, Options, ring};

/// Parcels that a ring holds before its sender keeps the rest. A batch per turn is the rule, so this is many turns.
const RING: usize = 64;

/// Time for what shards said last over QUIC to arrive, at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Running shards.
pub struct Node {
    threads: Vec<JoinHandle<()>>,
    handle: Handle,
}

/// A node from the outside, for any thread: its listeners, answers of slow planes, and its stop.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inner: Arc<Inner>,
}

/// What all threads of a node share.
pub(crate) struct Inner {
    pub(crate) bells: Arc<[Bell]>,
    /// By shard.
    pub(crate) orders: Box<[Orders]>,
    pub(crate) book: Mutex<Book>,
    /// By shard.
    pub(crate) turn_times: Box<[TurnTimes]>,
    /// Connections of the whole node.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) stop: Stop,
    /// The shards have begun: until then they take orders and don't carry them out.
    pub(crate) running: AtomicBool,
    pub(crate) docks: Arc<Docks>,
    pub(crate) quic: Quic,
    /// Where handshakes of TLS are computed.
    pub(crate) pool: Pool,
    /// Who serves HTTP, if anybody does.
    pub(crate) handoff: OnceLock<Arc<dyn Handoff>>,
    /// Proofs for an ACME server, answered by every listener with TLS.
    pub(crate) challenges: Challenges,
    origin: Origin,
}

/// Starts a thread for each shard, with these listeners to begin with. `engine` and `journal` make what each of them runs, on
/// its thread.
pub fn start<E: Engine>(
    listening: Vec<Listening>,
    shards: u16,
    options: &Options,
    engine: impl Fn(ShardId, Instant) -> E + Send + Sync + 'static,
    journal: impl Fn(ShardId) -> Box<dyn Journal>,
) -> io::Result<Node> {
    start_at(Origin::start(), listening, shards, options, engine, journal)
}

/// As [`start`], with a clock that runs already.
pub fn start_at<E: Engine>(
    origin: Origin,
    listening: Vec<Listening>,
    shards: u16,
    options: &Options,
    engine: impl Fn(ShardId, Instant) -> E + Send + Sync + 'static,
    journal: impl Fn(ShardId) -> Box<dyn Journal>,
) -> io::Result<Node> {
    let polls = (0..shards).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let bell = |poll| Bell::new(poll, Watched::Bell.token());
    let bells: Arc<[Bell]> = polls.iter().map(bell).collect::<io::Result<Vec<_>>>()?.into();
    let engine = Arc::new(engine);
    let docks = Arc::new(Docks::new(Arc::clone(&bells)));
    let inner = Arc::new(Inner {
        bells: Arc::clone(&bells),
        orders: (0..shards).map(|_| Orders::default()).collect(),
        turn_times: (0..shards).map(|_| TurnTimes::default()).collect(),
        book: Mutex::default(),
        open: Arc::default(),
        stop: Stop::new(shards),
        running: AtomicBool::new(false),
        quic: Quic::new(Arc::clone(&docks), options.connections_max),
        docks,
        pool: Pool::default(),
        handoff: OnceLock::new(),
        challenges: Challenges::default(),
        origin,
    });
    let handle = Handle { inner };
    for listening in listening {
        // The shards find it in their first turn.
        handle.admit(&mut handle.book(), listening).map_err(io::Error::other)?;
    }
    let mut posts = posts(usize::from(shards), options.mailbox_bytes).into_iter();
    let mut threads = Vec::new();
    for (shard, poll) in (0..shards).zip(polls) {
        let post = posts.next().expect("one for each shard");
        let registry = poll.registry().try_clone()?;
        let sockets = Sockets::new(shard, registry, post, Arc::clone(&bells), journal(shard), options.linger_ms);
        let (engine, node) = (Arc::clone(&engine), Arc::clone(&handle.inner));
        let (accepts_per_turn, node_max) = (options.accepts_per_turn, options.connections_max);
        let body = move || {
            let _guard = AbortOnPanic;
            let mut clock = Clock::new(node.origin);
            let running = Loop {
                engine: engine(shard, clock.read().0),
                sockets,
                acceptor: Acceptor::new(node_max),
                gate: Gate::new(usize::from(shard)),
                drains: Drains::default(),
                known: Known::default(),
                rechecks: Rechecks::default(),
                poll,
                events: Events::with_capacity(EVENTS),
                clock,
                node,
                shard: usize::from(shard),
                accepts_per_turn,
                told: Vec::new(),
                complain_at: 0,
                stopping: false,
                idle: false,
            };
            running.run();
        };
        threads.push(thread::Builder::new().name(format!("shard-{shard}")).spawn(body)?);
    }
    handle.inner.running.store(true, Ordering::Release);
    Ok(Node { threads, handle })
}

impl Node {
    /// Addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |bound| match bound {
            BoundTo::Address(address) => Some(address),
            BoundTo::Unix(_) => None,
        };
        self.handle.book().bound().into_iter().filter_map(address).collect()
    }

    /// To reach it from another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// As [`Handle::stop`].
    pub fn stop(&self, drain: Duration) {
        self.handle.stop(drain);
    }

    /// Waits until all shards have stopped.
    pub fn join(self) {
        for thread in self.threads {
            thread.join().expect("a shard that panics aborts the process");
        }
        self.handle.book().leave_places();
        self.handle.inner.quic.stop(LAST_WORDS);
    }
}

impl Handle {
    /// Names who serves HTTP that comes to listeners which are open to it. `false`: somebody does already.
    pub fn set_handoff(&self, handoff: Arc<dyn Handoff>) -> bool {
        self.inner.handoff.set(handoff).is_ok()
    }

    /// How long the turns of each shard have taken.
    #[must_use]
    pub fn turn_times(&self) -> Vec<TurnCounts> {
        self.inner.turn_times.iter().map(TurnTimes::read).collect()
    }

    /// Where proofs for an ACME server are put, so that every listener with TLS answers its questions.
    #[must_use]
    pub fn challenges(&self) -> Challenges {
        self.inner.challenges.clone()
    }

    /// Asks all shards to say good-bye to their connections; those that are left after `drain` are cut.
    pub fn stop(&self, drain: Duration) {
        let (now, _) = Clock::new(self.inner.origin).read();
        self.inner.stop.ask(now.plus_ms(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX)));
        self.inner.bells.iter().for_each(|bell| _ = bell.ring());
    }
}

/// A stop on its way. Shared by all threads of a node.
pub(crate) struct Stop {
    asked: AtomicBool,
    deadline_ms: AtomicU64,
    idle: AtomicUsize,
    shards: usize,
}

impl Stop {
    fn new(shards: u16) -> Self {
        Self {
            asked: AtomicBool::new(false),
            deadline_ms: AtomicU64::new(u64::MAX),
            idle: AtomicUsize::new(0),
            shards: usize::from(shards),
        }
    }

    fn ask(&self, deadline: Instant) {
        self.deadline_ms.store(deadline.0, Ordering::SeqCst);
        self.asked.store(true, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant(self.deadline_ms.load(Ordering::SeqCst))
    }

    /// Counts one shard in or out. True if that made all of them idle.
    pub(crate) fn set_idle(&self, idle: bool) -> bool {
        if idle {
            self.idle.fetch_add(1, Ordering::SeqCst) + 1 == self.shards
        } else {
            self.idle.fetch_sub(1, Ordering::SeqCst);
            false
        }
    }

    pub(crate) fn all_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst) == self.shards
    }
}

/// A panic on a shard's thread, outside what concerns one connection, leaves state behind that others share: the process
/// ends, and whoever watches it starts it again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The ends of a pair for each ordered pair of shards, sorted by owner.
fn posts(shards: usize, mailbox_bytes: usize) -> Vec<Post> {
    let mut posts: Vec<Post> = (0..shards).map(|_| Post { outboxes: Vec::new(), inboxes: Vec::new() }).collect();
    for to in 0..shards {
        for from in 0..shards {
            let (outbox, inbox) = ring::pair(RING, mailbox_bytes);
            posts[from].outboxes.push(outbox);
            posts[to].inboxes.push(inbox);
        }
    }
    posts
}
