//! Threads for handshakes: what takes long is computed here, so that a shard's turn stays short.
//!
//! They have a low priority where the system knows one for threads, and run in what time the shards leave. The queue is
//! bounded by those who fill it: each shard hands in so many at a time and keeps the rest in order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use breakwater_contract::Identity;
use breakwater_transport::tls::{self, Progress, ServerTls, Tls, TlsFault};

use crate::node::Inner;
use crate::orders::Order;
use crate::roll::Terms;

/// Handshakes that one shard may have here.
pub(crate) const PER_SHARD: usize = 64;

/// A step of a handshake.
pub(crate) struct Job {
    pub(crate) shard: usize,
    /// Who it is at the gate of that shard.
    pub(crate) place: u32,
    pub(crate) generation: u32,
    pub(crate) tls: Box<Tls>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) terms: Arc<Terms>,
}

/// A step that was made here.
pub(crate) struct Done {
    pub(crate) place: u32,
    pub(crate) generation: u32,
    pub(crate) shook: Shook,
}

/// What a step has come to.
pub(crate) struct Shook {
    pub(crate) tls: Box<Tls>,
    /// For the peer, also if it failed.
    pub(crate) reply: Vec<u8>,
    /// Plaintext that came with the end of the handshake.
    pub(crate) plain: Vec<u8>,
    pub(crate) outcome: Result<Shaken, TlsFault>,
}

/// How far the handshake is.
pub(crate) struct Shaken {
    pub(crate) progress: Progress,
    /// What the client's certificate says, once the handshake is complete.
    pub(crate) identity: Option<Box<Identity>>,
}

/// Shared by all shards. Threads begin with the first job, and end with the node.
#[derive(Default)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    begun: bool,
    closed: bool,
}

impl Pool {
    /// Leaves the jobs of a turn; what each comes to reaches the shard as an order. The lock is held for a moment by whoever
    /// has it.
    pub(crate) fn submit(&self, node: &Arc<Inner>, jobs: &mut Vec<Job>) {
        let count = jobs.len();
        if count == 0 {
            return;
        }
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.extend(jobs.drain(..));
        let begins = !std::mem::replace(&mut queue.begun, true);
        drop(queue);
        if count == 1 {
            self.shared.news.notify_one();
        } else {
            self.shared.news.notify_all();
        }
        if begins {
            self.begin(node);
        }
    }

    fn begin(&self, node: &Arc<Inner>) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for at in 0..cores.min(THREADS_MAX) {
            let (shared, node) = (Arc::clone(&self.shared), Arc::downgrade(node));
            let thread = thread::Builder::new().name(format!("crypto-{at}"));
            let spawned = thread.spawn(move || {
                lower_priority();
                while let Some(job) = shared.next() {
                    work(&shared, &node, job);
                }
            });
            // Fewer threads are slower and no harm; none at all leaves handshakes to their time limit.
            drop(spawned);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        queue.jobs = VecDeque::new();
        drop(queue);
        self.shared.news.notify_all();
    }
}

impl Shared {
    /// A job, if one waits.
    fn take(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed { None } else { queue.jobs.pop_front() }
    }

    /// Waits for a job; none when there will be no more.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Steps go back to their shards together, and the first of them waits for the last for so long: waking a shard for each
/// costs more than a third of a handshake.
const TOGETHER: Duration = Duration::from_micros(400);

/// Makes a step, and those that wait already, and tells the shards.
fn work(shared: &Shared, node: &Weak<Inner>, first: Job) {
    let began = Instant::now();
    let mut shards = Vec::new();
    let mut next = Some(first);
    while let Some(job) = next {
        let shard = job.shard;
        if finish(node, job) && !shards.contains(&shard) {
            shards.push(shard);
        }
        next = if began.elapsed() < TOGETHER { shared.take() } else { None };
    }
    let Some(node) = node.upgrade() else { return };
    for shard in shards {
        node.bells[shard].ring();
    }
}

/// More threads would only wait for each other's cores.
const THREADS_MAX: usize = 8;

/// Makes a step. True if its shard is to be told.
fn finish(node: &Weak<Inner>, job: Job) -> bool {
    let Job { shard, place, generation, tls, mut bytes, terms } = job;
    let done = Done { place, generation, shook: shake(tls, &mut bytes, &terms) };
    // A shard that has ended needs it no more.
    node.upgrade().is_some_and(|node| node.orders[shard].leave(Order::Shaken(Box::new(done))))
}

/// Lets TLS take what came, and looks at the client's certificate when it is done.
pub(crate) fn shake(mut tls: Box<Tls>, bytes: &mut [u8], terms: &Terms) -> Shook {
    let (mut reply, mut plain) = (Vec::new(), Vec::new());
    // One peer's bytes must not end the thread that serves all others.
    let step = AssertUnwindSafe(|| advance(&mut tls, bytes, &mut plain, &mut reply, terms));
    let outcome = catch_unwind(step).unwrap_or_else(|_| Err(TlsFault::Ours("the handshake panicked".into())));
    Shook { tls, reply, plain, outcome }
}

fn advance(
    tls: &mut Tls,
    bytes: &mut [u8],
    plain: &mut Vec<u8>,
    reply: &mut Vec<u8>,
    terms: &Terms,
) -> Result<Shaken, TlsFault> {
    let progress = tls.on_bytes(bytes, plain, reply)?;
    if !progress.handshaken {
        return Ok(Shaken { progress, identity: None });
    }
    match identity(tls, terms) {
        Ok(identity) => Ok(Shaken { progress, identity }),
        Err(fault) => {
            tls.close_notify(reply);
            Err(fault)
        }
    }
}

/// What the client's certificate says. A handshake by a ticket has not looked at it again: it may be revoked by now.
fn identity(tls: &Tls, terms: &Terms) -> Result<Option<Box<Identity>>, TlsFault> {
    let (Some(chain), Some(options)) = (tls.peer_certificates(), &terms.options.tls) else { return Ok(None) };
    if tls.resumed()
        && let Some(check) = terms.tls.as_ref().and_then(ServerTls::client_check)
    {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        check.check(chain, now_s)?;
    }
    Ok(Some(Box::new(tls::identity(chain, options)?)))
}

/// Shards come first.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        const NICE: i32 = 10;
        // On Linux this call is about one thread. It never fails for less priority.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    }
}
