//! The store without its threads: whoever holds it says when which part takes a step, and what time it is.
//!
//! So a simulation can play it on one thread and a simulated disk; [`crate::Embedded`] is this with three threads.

use std::any::Any;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use breakwater_contract::store::{
    Answer, Change, Condition, Durability, Health, Question, Restored, SessionNumber, Store, Submitted,
};
use breakwater_contract::{Completions, Token};
use redb::ReadableTable as _;

use crate::disk::{Disk, DryDisk};
use crate::findings::{Finding, Findings, OpenFault};
use crate::folder::Folder;
use crate::index::{self, Index};
use crate::log::{self, Log, Replay};
use crate::memory::Nobody;
use crate::overlay::Overlay;
use crate::reader::{Asked, Looker, Reader, Unread};
use crate::record::{Encoder, Epoch};
use crate::shared::{Part, Shared, State};
use crate::tools::{self, Stats};
use crate::writer::{BATCH_BYTES_MAX, Submission, Writer};

/// How a store is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length from which a segment takes nothing more.
    pub segment_bytes: u64,
    /// Memory for what is not folded into the index yet; at twice that nothing more is taken.
    pub fold_bytes: usize,
    /// Length of the log that is folded at once.
    pub fold_log_bytes: u64,
    /// Longest time until something is folded.
    pub fold_interval_ms: u64,
    /// Memory for what the index has read.
    pub cache_bytes: usize,
    /// Bytes that may wait to be written; a batch beyond that is refused.
    pub waiting_bytes_max: usize,
    /// Questions that may wait.
    pub questions_max: usize,
    /// How long the first batch waits for others. What comes while the disk syncs goes together anyway.
    pub commit_delay: Duration,
    /// Unix time, in milliseconds, at which the clock of the messages' expiry began.
    pub epoch_unix_ms: u64,
    /// For a new store: a random number, so that nobody can write what looks like a part of the log.
    pub salt: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            fold_bytes: 32 << 20,
            fold_log_bytes: 64 << 20,
            fold_interval_ms: 30_000,
            cache_bytes: 32 << 20,
            waiting_bytes_max: 64 << 20,
            questions_max: 1 << 16,
            commit_delay: Duration::ZERO,
            epoch_unix_ms: 0,
            salt: 0,
        }
    }
}

/// Says a thing to the operator.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// An open store.
pub struct Engine {
    shared: Arc<Shared>,
    submissions: Sender<Submission>,
    questions: Sender<Asked>,
    writer: Mutex<Writer>,
    reader: Mutex<Reader>,
    folder: Mutex<Folder>,
    /// Rings when there is something to fold.
    pub(crate) bell: (Sender<()>, Mutex<Receiver<()>>),
    options: Options,
    /// Of sessions that subscribe, queue and so on: how many bytes a batch took to encode last, so that the next needs one
    /// allocation.
    usual_bytes: AtomicUsize,
    found: Vec<Finding>,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Engine {
    /// Opens the store on a disk, or makes one.
    ///
    /// # Errors
    /// If somebody else has it, if a later version wrote it, or if the disk can't be read. Damage is no error: what is
    /// damaged is set aside, and `tell` is told.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        completions: Arc<dyn Completions>,
        tell: Tell,
    ) -> Result<Engine, OpenFault> {
        let lock = disk.lock()?.ok_or(OpenFault::Locked)?;
        disk.make_folder(log::FOLDER)?;
        let mut findings = Findings::default();
        let index = Index::open(Arc::clone(&disk), options.cache_bytes, &mut findings)?;
        let known = Known::read(&index).map_err(|why| std::io::Error::other(format!("{}: {why}", index::PATH)))?;
        let (state, found) = recover(&*disk, &index, &known, &options, &mut findings)?;
        let next_session = known.next_session.max(state.active.next_session).max(1);
        let salt = found.salt;
        let epoch = Epoch(options.epoch_unix_ms);
        for told in &findings.told {
            tell(told);
        }
        let log = Log::new(Arc::clone(&disk), options.segment_bytes, found);
        let shared = Arc::new(Shared::new(disk, index, epoch, salt, state, next_session, tell));
        shared.damages.store(findings.found.len() as u64, Ordering::Relaxed);
        let (submissions, inbox) = channel();
        let (questions, asked) = channel();
        let (ring, bell) = channel();
        Ok(Engine {
            writer: Mutex::new(Writer::new(
                Arc::clone(&shared),
                log,
                inbox,
                Arc::clone(&completions),
                ring.clone(),
                options,
            )),
            reader: Mutex::new(Reader::new(Arc::clone(&shared), asked, completions)),
            folder: Mutex::new(Folder::new(Arc::clone(&shared), submissions.clone())),
            shared,
            submissions,
            questions,
            bell: (ring, Mutex::new(bell)),
            options,
            usual_bytes: AtomicUsize::new(256),
            found: findings.found,
            _lock: lock,
        })
    }

    /// Opens a store that nobody uses, to look at it: all that a start does, it does in memory, and the folder stays as it is.
    /// [`Engine::found`] says what a start would find.
    ///
    /// # Errors
    /// Those of [`Engine::open`].
    pub fn open_to_look(folder: &Path) -> Result<Engine, OpenFault> {
        let disk = Arc::new(DryDisk::new(folder));
        Engine::open(disk, Options::default(), Arc::new(Nobody), Box::new(|_| {}))
    }

    /// What its start found lost or damaged.
    #[must_use]
    pub fn found(&self) -> &[Finding] {
        &self.found
    }

    /// Ends the checks and copies that are under way, and all that come later.
    pub fn interrupt(&self) {
        self.shared.interrupted.store(true, Ordering::Relaxed);
    }

    /// Writes what was submitted, waiting up to `patience` for it. Answers whether there was anything.
    pub fn write(&self, now_ms: u64, patience: Duration) -> bool {
        lock(&self.writer).step(now_ms, patience)
    }

    /// Answers one question, waiting up to `patience` for it. Answers whether there was one.
    pub fn read(&self, patience: Duration) -> bool {
        lock(&self.reader).step(patience)
    }

    /// Brings the index up to date if there is something to fold. Answers whether it did.
    pub fn fold(&self) -> bool {
        lock(&self.folder).step()
    }

    /// Whether nothing is taken until something is folded.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        self.shared.choked.load(Ordering::Relaxed)
    }

    /// A thread met what can't be: half a change is not to be built upon. Nothing more is taken; the log has what was answered.
    pub(crate) fn give_up(&self, thread: &str) {
        self.shared.given_up.store(true, Ordering::Relaxed);
        let text =
            format!("a fault of the broker ended {thread}: the store takes nothing more; start the broker again");
        self.shared.fault(Part::Log, Condition::Failing, text);
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.shared.given_up.load(Ordering::Relaxed)
    }

    /// Writes all that was submitted, and brings the index up to date with it.
    pub fn settle(&self, now_ms: u64) {
        for _ in 0..SETTLE_ROUNDS {
            lock(&self.writer).settle(now_ms);
            if !self.fold() {
                break;
            }
        }
        lock(&self.writer).settle(now_ms);
    }

    /// What is in it.
    ///
    /// # Errors
    /// What kept it from reading.
    pub fn stats(&self) -> Result<Stats, String> {
        tools::stats(&self.shared).map_err(|fault| fault.to_string())
    }

    /// Reads everything up to the last fold. Answers what is wrong; nothing if nothing is. What lies behind, a start reads.
    ///
    /// # Errors
    /// What kept it from reading.
    pub fn check(&self) -> Result<Vec<Finding>, String> {
        tools::check(&self.shared).map_err(|fault| fault.to_string())
    }

    /// Copies the store into a new folder while it works: all that is in the log at this moment, or later. Sealed segments
    /// become hard links where the file system allows it. The copy is a store, marked with a file [`crate::UNFINISHED`] until it is
    /// whole: to restore it, put it in the place of the other.
    ///
    /// # Errors
    /// If the folder is not empty, or what kept it from copying.
    pub fn backup(&self, folder: &Path) -> Result<(), String> {
        tools::backup(&self.shared, folder).map_err(|fault| fault.to_string())
    }

    /// Answers a question at once, on the caller's thread: for tools and tests.
    pub fn answer(&self, question: &Question) -> Answer {
        Looker::new(Arc::clone(&self.shared)).answer(question)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for Engine {
    fn is_volatile(&self) -> bool {
        false
    }

    fn new_session(&self) -> SessionNumber {
        SessionNumber(self.shared.next_session.fetch_add(1, Ordering::Relaxed))
    }

    fn submit(&self, token: Token, changes: &[Change], durability: Durability) -> Submitted {
        if self.shared.choked.load(Ordering::Relaxed) || self.has_given_up() {
            return Submitted::Refused;
        }
        let mut encoder = Encoder::new(self.shared.epoch);
        encoder.bytes.reserve(self.usual_bytes.load(Ordering::Relaxed));
        changes.iter().for_each(|change| encoder.put(change));
        let bytes = encoder.bytes.len();
        let before = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One batch always fits into an empty queue.
        let full = before > 0 && before.saturating_add(bytes) > self.options.waiting_bytes_max;
        let submission =
            Submission { token: Some(token), records: encoder.bytes, messages: encoder.messages, durability };
        if full || bytes > BATCH_BYTES_MAX || self.submissions.send(submission).is_err() {
            self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Submitted::Refused;
        }
        self.usual_bytes.store(bytes.min(1 << 16), Ordering::Relaxed);
        Submitted::Pending
    }

    fn ask(&self, token: Token, question: Question) -> Submitted {
        let waiting = self.shared.questions.fetch_add(1, Ordering::Relaxed);
        if waiting >= self.options.questions_max
            || self.has_given_up()
            || self.questions.send(Asked { token, question }).is_err()
        {
            self.shared.questions.fetch_sub(1, Ordering::Relaxed);
            return Submitted::Refused;
        }
        Submitted::Pending
    }

    fn restore(&self, each: &mut dyn FnMut(Restored)) -> Result<(), String> {
        Looker::new(Arc::clone(&self.shared)).restore(each).map_err(|Unread(why)| why)?;
        self.shared.index.was_read_through();
        Ok(())
    }

    fn health(&self) -> Health {
        self.shared.health()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Folds that it takes at most to lay everything down: a full queue of submissions takes some, and each may copy a segment.
const SETTLE_ROUNDS: usize = 64;

/// What the index knows of the store.
struct Known {
    covered: u64,
    next_session: u64,
    salt: Option<u64>,
    references: HashMap<u64, (u64, u64)>,
}

impl Known {
    fn read(index: &Index) -> Result<Known, redb::Error> {
        let moment = index.moment().ok_or(redb::Error::DatabaseClosed)?;
        let meta = moment.open_table(index::META)?;
        let number =
            |key: &str| -> Result<Option<u64>, redb::Error> { Ok(meta.get(key)?.map(|number| number.value())) };
        let mut references = HashMap::new();
        for row in moment.open_table(index::REFERENCES)?.iter()? {
            let (first, count) = row?;
            references.insert(first.value(), count.value());
        }
        Ok(Known {
            covered: number(index::COVERED)?.unwrap_or(index::START),
            next_session: number(index::NEXT_SESSION)?.unwrap_or(1),
            salt: number(index::SALT)?,
            references,
        })
    }
}

/// A replay folds on its way when it has so many times what is folded otherwise: not after a crash, which leaves two overlays.
const REPLAY_FOLDS: usize = 6;

/// Replays the log behind the index. What grows too large for memory, as when the index was lost, is folded on the way.
fn recover(
    disk: &dyn Disk,
    index: &Index,
    known: &Known,
    options: &Options,
    findings: &mut Findings,
) -> Result<(State, Replay), OpenFault> {
    let salt = known.salt.unwrap_or(options.salt);
    let mut active = Overlay::at(known.covered);
    let (mut covered, mut references) = (known.covered, known.references.clone());
    let mut unknown = 0_u64;
    let found = log::replay(disk, known.covered, salt, findings, |position, body, proven, spans| {
        if active.bytes > REPLAY_FOLDS * options.fold_bytes
            && active.to <= proven
            && let Ok(folded) = index::fold(index, &active, spans, salt)
        {
            covered = active.to;
            references = folded.references;
            let next_session = active.next_session;
            active = Overlay { next_session, ..Overlay::at(covered) };
        }
        unknown += u64::from(!active.apply(position, body));
    })?;
    if unknown > 0 {
        let what = format!("{unknown} frames of the log hold something that this version does not know");
        findings.lost(log::FOLDER, &what);
    }
    // What was damaged at the end may have moved it.
    let end = found.synced + found.unsynced.len() as u64;
    active.to = active.to.max(end);
    let state = State { active, frozen: None, spans: found.spans.clone().into(), references, covered };
    Ok((state, found))
}
