//! The desk where passwords are judged: a few threads, a bounded queue, and the answers that go back to the shards.
//!
//! One password costs Argon2id some 20 ms and 19 MiB, so a shard hands it in here. It leaves it in a channel and takes no lock:
//! hashing threads run at a low priority, and one that is not running must not be what a shard waits for. A clerk carries from
//! the channel to the queue, which is fair.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use breakwater_contract::{AuthRequest, AuthStep, Completion, Completions, Principal, Token};
use breakwater_proto::ReasonCode;
use zeroize::Zeroizing;

use crate::chain::{Answer, ChainOptions, Notice, Why, Witness};
use crate::hash::{Hasher, PasswordHash};
use crate::queue::{Job, Place, Queue};
use crate::roster::{Renewals, Roster};
use crate::users::User;

/// A hashing thread without work keeps its memory that long.
const REST_AFTER: Duration = Duration::from_secs(5);

/// The users file is looked at that often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A full queue is told of that often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Jobs that may lie in the channel: at most 1 KiB of password each.
const INTAKE_MAX: usize = 4096;

/// Passwords hashed anew that may wait to be written. Those beyond are hashed anew another time.
const RENEWED_MAX: usize = 10_000;

/// A user may change while its password is judged; that often it is judged again.
const JUDGED_MAX: u32 = 4;

pub(crate) struct Desk {
    intake: Sender<Order>,
    /// Jobs in the channel.
    handed_in: AtomicUsize,
    /// Some found no room in the channel, and it was not told yet.
    overflowed: AtomicBool,
    /// Until the clerk has it.
    outlet: Mutex<Option<Receiver<Order>>>,
    state: Mutex<State>,
    work: Condvar,
    /// Ends the wait of the thread that watches the file.
    over: Condvar,
    renewed: Mutex<Vec<Renewed>>,
    completions: OnceLock<Arc<dyn Completions>>,
    roster: Arc<Roster>,
    witness: Arc<Witness>,
    threads: usize,
    running: Mutex<Vec<JoinHandle<()>>>,
}

struct State {
    queue: Queue,
    stopping: bool,
}

/// What shards leave.
enum Order {
    Judge(Job),
    /// Nobody waits for this one any longer.
    Forget(Token),
    Stop,
}

/// A password on its way from another form to ours.
struct Renewed {
    name: Box<str>,
    before: PasswordHash,
    after: PasswordHash,
}

impl Desk {
    pub(crate) fn new(options: &ChainOptions, roster: Arc<Roster>, witness: Arc<Witness>) -> Self {
        let state = State { queue: Queue::new(options.waiting_max), stopping: false };
        let (intake, outlet) = channel();
        Self {
            intake,
            handed_in: AtomicUsize::new(0),
            overflowed: AtomicBool::new(false),
            outlet: Mutex::new(Some(outlet)),
            state: Mutex::new(state),
            work: Condvar::new(),
            over: Condvar::new(),
            renewed: Mutex::default(),
            completions: OnceLock::new(),
            roster,
            witness,
            threads: options.hashing_threads.max(1),
            running: Mutex::default(),
        }
    }

    pub(crate) fn start(self: &Arc<Self>, completions: Arc<dyn Completions>) -> io::Result<()> {
        let outlet = self.outlet.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(outlet), Ok(())) = (outlet, self.completions.set(completions)) else {
            return Err(io::Error::other("the threads that check passwords run already"));
        };
        let mut clerk = Clerk { desk: Arc::clone(self), complained: None };
        while let Ok(order) = outlet.try_recv() {
            clerk.carry(order);
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..self.threads {
            let desk = Arc::clone(self);
            running.push(thread::Builder::new().name(format!("password-{number}")).spawn(move || desk.hash())?);
        }
        running.push(thread::Builder::new().name("passwords".into()).spawn(move || clerk.work(&outlet))?);
        let desk = Arc::clone(self);
        running.push(thread::Builder::new().name("users".into()).spawn(move || desk.watch())?);
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        // Nobody takes it if the threads never ran.
        let _ = self.intake.send(Order::Stop);
        self.work.notify_all();
        self.over.notify_all();
    }

    /// Waits until all threads have ended: after [`Desk::stop`].
    pub(crate) fn join(&self) {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        // One that has panicked has said so.
        running.into_iter().for_each(|thread| _ = thread.join());
    }

    pub(crate) fn submit(&self, request: &AuthRequest<'_>, name: &str, password: &[u8]) -> Answer {
        let job = Job {
            token: request.token,
            peer: request.peer,
            name: name.into(),
            password: Zeroizing::new(password.into()),
        };
        // The clerk is quick: a full channel means that it gets no time at all.
        if self.handed_in.fetch_add(1, Ordering::Relaxed) >= INTAKE_MAX || self.intake.send(Order::Judge(job)).is_err()
        {
            self.handed_in.fetch_sub(1, Ordering::Relaxed);
            self.overflowed.store(true, Ordering::Relaxed);
            return Answer::Deny(ReasonCode::ServerBusy);
        }
        Answer::Later
    }

    pub(crate) fn abandon(&self, token: Token) {
        // Its question is counted; who is gone before it was asked has no token.
        let _ = self.intake.send(Order::Forget(token));
    }

    /// Body of a hashing thread.
    fn hash(&self) {
        yield_to_shards();
        let mut hasher = Hasher::default();
        while let Some(job) = self.next(&mut hasher) {
            let right = self.decide(&mut hasher, &job);
            self.state().queue.on_verdict(job.peer, right, Instant::now());
        }
    }

    /// Answers one question. Whether the password was right.
    fn decide(&self, hasher: &mut Hasher, job: &Job) -> bool {
        for _ in 0..JUDGED_MAX {
            let judged = catch_unwind(AssertUnwindSafe(|| self.judge(hasher, job)));
            match judged.unwrap_or_else(|_| Err(refusal(ReasonCode::UnspecifiedError))) {
                Ok(user) if self.let_in(job, &user) => return true,
                // The user has changed meanwhile: what counts is what there is now.
                Ok(_) => {}
                Err(step) => {
                    self.answer(job.token, step);
                    return false;
                }
            }
        }
        self.answer(job.token, refusal(ReasonCode::ServerBusy));
        true
    }

    /// Lets a client in, whose password was right for this state of its user. False: the user is in another state by now.
    fn let_in(&self, job: &Job, user: &User) -> bool {
        let Some(_still) = self.roster.still(&job.name, user) else { return false };
        self.roster.verified.enter(&job.name, user, &job.password);
        let principal = Principal { name: job.name.clone(), superuser: user.superuser };
        self.answer(job.token, AuthStep::Accept { principal, data: None });
        true
    }

    /// The next job, once there is one. None: it is over.
    fn next(&self, hasher: &mut Hasher) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(job) = state.queue.pop() {
                return Some(job);
            }
            if hasher.is_resting() {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                let (woken, wait) = self.work.wait_timeout(state, REST_AFTER).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                if wait.timed_out() {
                    hasher.rest();
                }
            }
        }
    }

    /// Gives the user whose password it is.
    fn judge(&self, hasher: &mut Hasher, job: &Job) -> Result<User, AuthStep> {
        // Who was added this moment is let in this moment.
        self.roster.refresh();
        let users = self.roster.users();
        let Some(user) = users.get(&job.name) else {
            hasher.pretend(&job.password);
            self.witness.refused(job.peer, &Why::Wrong { name: &job.name, known: false });
            return Err(refusal(ReasonCode::BadUserNameOrPassword));
        };
        let judged = hasher.judge(&user.password, &job.password);
        if !judged.right {
            self.witness.refused(job.peer, &Why::Wrong { name: &job.name, known: true });
            return Err(refusal(ReasonCode::BadUserNameOrPassword));
        }
        if user.disabled {
            self.witness.refused(job.peer, &Why::Disabled { name: &job.name });
            return Err(refusal(ReasonCode::NotAuthorized));
        }
        if let Some(after) = judged.renewed {
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            if renewed.len() < RENEWED_MAX {
                renewed.push(Renewed { name: job.name.clone(), before: user.password.clone(), after });
            }
        }
        Ok(user.clone())
    }

    fn answer(&self, token: Token, step: AuthStep) {
        if let Some(completions) = self.completions.get() {
            completions.complete(Completion::Auth { token, step });
        }
    }

    /// Body of the thread that watches the file, and writes passwords that were hashed anew: many in one go, because each
    /// time it writes the whole file.
    fn watch(&self) {
        loop {
            let state = self.state();
            let waited = self.over.wait_timeout_while(state, LOOK_EVERY, |state| !state.stopping);
            let stopping = waited.unwrap_or_else(PoisonError::into_inner).0.stopping;
            self.write_renewed();
            if stopping {
                return;
            }
            self.roster.refresh();
        }
    }

    pub(crate) fn write_renewed(&self) {
        let renewed = std::mem::take(&mut *self.renewed.lock().unwrap_or_else(PoisonError::into_inner));
        if renewed.is_empty() {
            return;
        }
        let written = self.roster.renew(|users| {
            let mut renewals = Renewals::new();
            for Renewed { name, before, after } in renewed {
                // Unless somebody was quicker.
                if let Some(user) = users.get(&name).filter(|user| user.password == before) {
                    let user = User { password: after.clone(), ..user.clone() };
                    users.set(&name, user);
                    renewals.insert(name, after);
                }
            }
            Ok(renewals)
        });
        if let Err(fault) = written {
            for line in fault.lines() {
                let text = format!("passwords of another broker could not be hashed anew: {line}");
                (self.witness.voice)(Notice::Warning(&text));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries from the channel to the queue, and turns away whom the queue has no room for.
struct Clerk {
    desk: Arc<Desk>,
    complained: Option<Instant>,
}

impl Clerk {
    fn work(mut self, outlet: &Receiver<Order>) {
        while let Ok(order) = outlet.recv() {
            if matches!(order, Order::Stop) {
                return;
            }
            self.carry(order);
        }
    }

    fn carry(&mut self, order: Order) {
        let desk = Arc::clone(&self.desk);
        match order {
            Order::Judge(job) => {
                desk.handed_in.fetch_sub(1, Ordering::Relaxed);
                let token = job.token;
                let place = desk.state().queue.push(job);
                let turned_away = match place {
                    Place::Taken => None,
                    Place::InsteadOf(gone) => Some(gone.token),
                    Place::Full => Some(token),
                };
                if let Some(token) = turned_away {
                    desk.answer(token, refusal(ReasonCode::ServerBusy));
                }
                if turned_away.is_some() || desk.overflowed.swap(false, Ordering::Relaxed) {
                    self.complain(Instant::now());
                }
                desk.work.notify_one();
            }
            Order::Forget(token) => desk.state().queue.remove(token),
            Order::Stop => {}
        }
    }

    fn complain(&mut self, now: Instant) {
        if self.complained.is_none_or(|at| now.saturating_duration_since(at) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            let text = "more passwords are waiting to be checked than there is room for: some clients are told that the \
                        broker is busy";
            (self.desk.witness.voice)(Notice::Warning(text));
        }
    }
}

fn refusal(reason: ReasonCode) -> AuthStep {
    AuthStep::Refuse { reason, text: None }
}

/// Messages go before log-ins: this thread runs when the shards leave it time, and a little besides.
fn yield_to_shards() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
}
