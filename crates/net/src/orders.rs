//! What other threads tell a running shard: listeners that come, change and go, and answers of slow planes.
//!
//! Behind a lock, which is taken for a moment and only when the flag says that something is there: a turn without orders costs
//! one relaxed load. Bounded: who can't leave an order is told so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use breakwater_contract::{Command, Completion, Kicked};

use crate::accept::Ear;
use crate::listener::Ending;
use crate::pool::Done;
use crate::roll::{Listener, Terms};

/// One order.
pub(crate) enum Order {
    /// These are the terms of a listener from here on.
    Terms {
        listener: Arc<Listener>,
        terms: Arc<Terms>,
        /// Dropped when it is done.
        done: Sender<()>,
    },
    /// Listen here too.
    Listen(Box<Ear>),
    /// One place is that of another listener.
    Hand {
        /// Its number.
        place: u32,
        listener: Arc<Listener>,
        terms: Arc<Terms>,
    },
    /// Stop listening at one place. What the kernel has queued there is still taken, unless `at_once`.
    Silence {
        /// Its number.
        place: u32,
        /// Connections that are not yet accepted are lost.
        at_once: bool,
        /// Dropped when it is done.
        done: Sender<()>,
    },
    /// End the connections of a listener.
    End(Arc<Listener>, Ending),
    /// A command to the engine, and where to say what it has met.
    Command(Command, Option<Sender<Kicked>>),
    /// Remove retained messages of these topics and revisions, and say how many there were.
    Unretain(Vec<(Box<str>, u64)>, Sender<usize>),
    /// The answer to a question of this shard.
    Complete(Completion),
    /// A step of a handshake, for the gate.
    Shaken(Box<Done>),
}

/// The orders of one shard. A cache line of its own: the flag is read at each turn.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Orders {
    waiting: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<Order>,
    /// The shard has ended.
    closed: bool,
}

/// Orders that wait at one shard, at most. It takes all of them at each turn: this many mean that it doesn't turn.
const WAITING_MAX: usize = 65_536;

impl Orders {
    /// Leaves an order; the bell has to be rung afterwards. `false`: the shard has ended or takes none, and the order is dropped.
    pub(crate) fn leave(&self, order: Order) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed || queue.orders.len() >= WAITING_MAX {
            return false;
        }
        queue.orders.push_back(order);
        self.waiting.store(true, Ordering::Release);
        true
    }

    /// Whether there are any. Missed by a shard that looks just then, but not by one that looks after lying down.
    #[inline]
    pub(crate) fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes all, in the order in which they were left.
    pub(crate) fn take(&self) -> VecDeque<Order> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(false, Ordering::Relaxed);
        std::mem::take(&mut queue.orders)
    }

    /// The shard ends: what waits is dropped, and nothing is taken any more.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        queue.orders = VecDeque::new();
    }
}
