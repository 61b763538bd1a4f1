//! The one who writes: takes what was submitted, puts what is there into one frame, syncs once, answers all.
//!
//! No thread and no clock in here: somebody calls [`Writer::step`] and says what time it is.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use breakwater_contract::store::{Condition, Durability, Position};
use breakwater_contract::{Completion, Completions, Token};

use crate::Options;
use crate::log::{BODY_MAX, Log};
use crate::overlay::Overlay;
use crate::shared::{Part, Shared, State};

/// A batch on its way.
pub(crate) struct Submission {
    /// Whom to answer.
    pub token: Option<Token>,
    pub records: Vec<u8>,
    /// Offsets of messages in it.
    pub messages: Vec<usize>,
    pub durability: Durability,
}

/// What is answered of a group once it is written.
struct Answer {
    token: Option<Token>,
    positions: Box<[Position]>,
    bytes: usize,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    inbox: Receiver<Submission>,
    completions: Arc<dyn Completions>,
    options: Options,
    /// Rings the folder.
    bell: Sender<()>,
    /// Where the overlay began, when.
    frozen_at_ms: u64,
    collected_at: u64,
    probed_at_ms: u64,
    /// Position up to which what was written is counted.
    counted: u64,
    /// The last write failed.
    failing: bool,
}

/// Bytes that the operating system may keep to itself.
const UNSYNCED_MAX: usize = 8 << 20;
/// Bytes that go into one frame, unless one batch is larger.
const GROUP_BYTES: usize = 4 << 20;
/// Bytes of one batch: with a group in front of it, it still fits into a frame.
pub(crate) const BATCH_BYTES_MAX: usize = BODY_MAX - GROUP_BYTES;
/// How often a store that failed looks whether it works again.
const PROBE_MS: u64 = 1000;

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        log: Log,
        inbox: Receiver<Submission>,
        completions: Arc<dyn Completions>,
        bell: Sender<()>,
        options: Options,
    ) -> Writer {
        Writer {
            shared,
            counted: log.end(),
            log,
            inbox,
            completions,
            options,
            bell,
            frozen_at_ms: 0,
            collected_at: 0,
            probed_at_ms: 0,
            failing: false,
        }
    }

    /// Writes what waits, or what comes within `patience`, and tends to the rest. Answers whether anything was written.
    pub(crate) fn step(&mut self, now_ms: u64, patience: Duration) -> bool {
        if self.shared.choked.load(Ordering::Relaxed) {
            return self.choked();
        }
        let group = self.gather(patience);
        let wrote = !group.is_empty();
        if wrote {
            self.commit(group);
        } else if self.failing && now_ms >= self.probed_at_ms + PROBE_MS {
            self.probed_at_ms = now_ms;
            self.sync();
        }
        if self.log.unsynced_bytes() > UNSYNCED_MAX {
            self.sync();
        }
        self.tend(now_ms, false);
        wrote
    }

    /// Lays everything down: for the end, and for copies.
    pub(crate) fn settle(&mut self, now_ms: u64) {
        while self.step(now_ms, Duration::ZERO) {}
        self.sync();
        self.tend(now_ms, true);
    }

    /// What is not folded takes all the memory that it may. What waits goes on waiting, unless the index fails: that may take long.
    fn choked(&mut self) -> bool {
        if !self.shared.index_fails() {
            return false;
        }
        let group = self.gather(Duration::ZERO);
        let any = !group.is_empty();
        for batch in group {
            self.answer(batch.token, false, Box::default(), batch.records.len());
        }
        any
    }

    fn answer(&self, token: Option<Token>, stored: bool, positions: Box<[Position]>, bytes: usize) {
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(token) = token {
            self.completions.complete(Completion::Durable { token, stored, positions });
        }
    }

    fn gather(&mut self, patience: Duration) -> Vec<Submission> {
        let mut group = Vec::new();
        match self.inbox.recv_timeout(patience) {
            Ok(first) => group.push(first),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return group,
        }
        let mut bytes = group[0].records.len();
        let until = (!self.options.commit_delay.is_zero()).then(|| Instant::now() + self.options.commit_delay);
        while bytes < GROUP_BYTES {
            let next = match until {
                None => self.inbox.try_recv(),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.inbox.recv_timeout(left).map_err(|_| TryRecvError::Empty)
                }
            };
            let Ok(next) = next else { break };
            bytes += next.records.len();
            group.push(next);
        }
        group
    }

    fn commit(&mut self, group: Vec<Submission>) {
        let sync = group.iter().any(|batch| batch.durability == Durability::Fsync);
        let mut at = self.log.begin();
        let body = at;
        let mut answers = Vec::with_capacity(group.len());
        for Submission { token, records, messages, .. } in group {
            self.log.push(&records);
            let position = |offset: &usize| Position(at + *offset as u64);
            answers.push(Answer { token, positions: messages.iter().map(position).collect(), bytes: records.len() });
            at += records.len() as u64;
        }
        let start = self.log.finish();
        let stored = match self.write(sync) {
            Ok(()) => {
                self.apply(start, body);
                true
            }
            Err(_) => {
                self.log.take_back(start);
                false
            }
        };
        for Answer { token, positions, bytes } in answers {
            let positions = if stored { positions } else { Box::default() };
            self.answer(token, stored, positions, bytes);
        }
    }

    fn apply(&mut self, start: u64, body: u64) {
        let mut state = self.shared.state();
        state.active.apply(body, self.log.body(start));
        if state.frozen.is_some() && state.active.bytes > 2 * self.options.fold_bytes {
            self.shared.choked.store(true, Ordering::Relaxed);
        }
    }

    fn sync(&mut self) {
        // With nothing to sync, only a store that failed has something to find out.
        if self.log.unsynced_bytes() > 0 || self.failing {
            let _ = self.write(true);
        }
    }

    /// Writes, and says how it went to whoever looks at the health.
    fn write(&mut self, sync: bool) -> io::Result<()> {
        match self.log.write(sync) {
            Ok(fault) => {
                self.publish_spans();
                let end = self.log.end();
                self.shared.syncs.fetch_add(u64::from(sync), Ordering::Relaxed);
                self.shared.logged_bytes.fetch_add(end.saturating_sub(self.counted), Ordering::Relaxed);
                self.counted = end;
                if std::mem::take(&mut self.failing) {
                    self.shared.well(Part::Log);
                }
                if let Some(fault) = fault {
                    let text =
                        format!("a segment of the log failed ({fault}); what it held was written into a new one");
                    self.shared.fault(Part::Log, Condition::Well, text);
                }
                Ok(())
            }
            Err(fault) => {
                self.failing = true;
                let (condition, advice) = condition_of(&fault);
                self.shared.fault(Part::Log, condition, format!("the log can't be written: {fault}; {advice}"));
                Err(fault)
            }
        }
    }

    /// Hands the overlay to the folder when it is time, and removes segments that nobody needs.
    fn tend(&mut self, now_ms: u64, at_once: bool) {
        let (due, covered) = {
            let state = self.shared.state();
            let Overlay { from, to, bytes, .. } = state.active;
            let late = now_ms.saturating_sub(self.frozen_at_ms) >= self.options.fold_interval_ms;
            let large = bytes >= self.options.fold_bytes || to - from >= self.options.fold_log_bytes;
            let free = state.frozen.is_none();
            if state.active.is_empty() && free {
                self.frozen_at_ms = now_ms;
            }
            (free && !state.active.is_empty() && (late || large || at_once), state.covered)
        };
        if due && (self.log.unsynced_bytes() == 0 || self.write(true).is_ok()) {
            self.frozen_at_ms = now_ms;
            let mut state = self.shared.state();
            let State { active, frozen, .. } = &mut *state;
            let next = active.next();
            *frozen = Some(Arc::new(std::mem::replace(active, next)));
            drop(state);
            let _ = self.bell.send(());
        }
        if covered > self.collected_at {
            self.collect(covered);
        }
    }

    fn collect(&mut self, covered: u64) {
        let shared = Arc::clone(&self.shared);
        let _removing = match shared.removing.try_lock() {
            Ok(removing) => removing,
            Err(TryLockError::Poisoned(removing)) => removing.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.collected_at = covered;
        let references = self.shared.state().references.clone();
        if self.log.collect(covered, |span| references.contains_key(&span.first)) {
            self.publish_spans();
        }
    }

    /// Before anything in a new segment is applied or folded: what is wanted of it would count for another, and it would go.
    fn publish_spans(&self) {
        let mut state = self.shared.state();
        if !Arc::ptr_eq(&state.spans, self.log.spans()) {
            state.spans = Arc::clone(self.log.spans());
        }
    }
}

/// What an error means, and what to do about it.
pub(crate) fn condition_of(fault: &io::Error) -> (Condition, &'static str) {
    match fault.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Condition::Full, "make room on the disk: the store goes on by itself")
        }
        _ => (Condition::Failing, "look at the disk and at the kernel's log: the store goes on by itself when it can"),
    }
}
