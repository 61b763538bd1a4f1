//! Where other threads leave connections for a shard, and word of those that are ready: one dock per shard.
//!
//! A shard that finds nothing pays one relaxed load per turn. It never waits for the lock: when another thread is at the
//! dock, the shard looks again in its next turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use breakwater_shard::{Peer, ShardId};

use crate::bell::Bell;
use crate::pipe::Pipe;
use crate::refusal::Refusal;
use crate::roll::Standing;
use crate::sockets::Transport;

/// Connections that wait for one shard, at most.
const ARRIVALS_MAX: usize = 256;
/// Clients that were turned away and of which one shard has not yet told. The rest is not counted: so many between two turns
/// are a flood.
const TURNED_MAX: usize = 256;

/// The docks of all shards.
pub(crate) struct Docks {
    docks: Box<[Dock]>,
    bells: Arc<[Bell]>,
}

struct Dock {
    /// Something was left since the shard looked.
    news: AtomicBool,
    left: Mutex<Left>,
}

/// What was left at a dock.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) arrivals: Vec<(Peer, Transport)>,
    /// Each pipe at most once.
    pub(crate) ready: Vec<Arc<Pipe>>,
    pub(crate) turned: Vec<Turned>,
    closed: bool,
}

/// A client that another thread has turned away, for a shard to count and tell.
pub(crate) struct Turned {
    pub(crate) standing: Arc<Standing>,
    pub(crate) peer: Peer,
    pub(crate) refusal: Refusal,
    pub(crate) detail: Box<str>,
}

impl Docks {
    pub(crate) fn new(bells: Arc<[Bell]>) -> Self {
        let docks = bells.iter().map(|_| Dock { news: AtomicBool::new(false), left: Mutex::default() }).collect();
        Self { docks, bells }
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> u16 {
        u16::try_from(self.docks.len()).unwrap_or(u16::MAX)
    }

    /// Leaves a connection for a shard. False: it has no room, or has stopped, and the connection is dropped.
    pub(crate) fn arrive(&self, shard: ShardId, peer: Peer, transport: Transport) -> bool {
        let mut left = self.docks[usize::from(shard)].left();
        let welcome = !left.closed && left.arrivals.len() < ARRIVALS_MAX;
        if welcome {
            left.arrivals.push((peer, transport));
        }
        self.ring(shard, left);
        welcome
    }

    /// Leaves word of a client that was turned away, with the first shard.
    pub(crate) fn turned(&self, turned: Turned) {
        let mut left = self.docks[0].left();
        if !left.closed && left.turned.len() < TURNED_MAX {
            left.turned.push(turned);
        }
        self.ring(0, left);
    }

    /// Leaves word of a pipe.
    pub(crate) fn ready(&self, shard: ShardId, pipe: Arc<Pipe>) {
        let mut left = self.docks[usize::from(shard)].left();
        if !left.closed {
            left.ready.push(pipe);
        }
        self.ring(shard, left);
    }

    fn ring(&self, shard: ShardId, left: MutexGuard<'_, Left>) {
        drop(left);
        self.docks[usize::from(shard)].news.store(true, Ordering::Release);
        self.bells[usize::from(shard)].ring();
    }

    /// Whether something was left. Checked between lying down and sleeping, too.
    #[inline]
    pub(crate) fn has_news(&self, shard: ShardId) -> bool {
        self.docks[usize::from(shard)].news.load(Ordering::Relaxed)
    }

    /// Takes what was left for this shard.
    pub(crate) fn take(&self, shard: ShardId) -> Left {
        let dock = &self.docks[usize::from(shard)];
        dock.news.swap(false, Ordering::AcqRel);
        match dock.left.try_lock() {
            Ok(mut left) => take(&mut left),
            Err(TryLockError::Poisoned(poisoned)) => take(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                dock.news.store(true, Ordering::Relaxed);
                Left::default()
            }
        }
    }

    /// The shard has stopped: what comes now is dropped, and so is what nobody has taken.
    pub(crate) fn close(&self, shard: ShardId) {
        let mut left = self.docks[usize::from(shard)].left();
        let last = std::mem::replace(&mut *left, Left { closed: true, ..Left::default() });
        // Dropping a connection may tell of it: not under the lock.
        drop(left);
        drop(last);
    }
}

impl Dock {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(left: &mut Left) -> Left {
    let closed = left.closed;
    std::mem::replace(left, Left { closed, ..Left::default() })
}
