//! What the writer, the folder and the reader of one store have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use breakwater_contract::store::{Condition, Health};
use redb::ReadTransaction;

use crate::disk::Disk;
use crate::index::{COVERED, Index, META, MOVED, Moved};
use crate::log::Span;
use crate::overlay::Overlay;
use crate::record::Epoch;

/// Shared by the threads of a store.
pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub index: Index,
    pub epoch: Epoch,
    pub salt: u64,
    state: Mutex<State>,
    conditions: Mutex<Conditions>,
    pub damages: AtomicU64,
    pub disk_bytes: AtomicU64,
    pub waiting_bytes: AtomicUsize,
    pub syncs: AtomicU64,
    pub logged_bytes: AtomicU64,
    /// Questions that are not answered yet.
    pub questions: AtomicUsize,
    pub next_session: AtomicU64,
    /// Too much waits to be folded: nothing is taken any more.
    pub choked: AtomicBool,
    /// A thread ended that should not have.
    pub given_up: AtomicBool,
    /// Checks and copies end.
    pub interrupted: AtomicBool,
    /// Held while segments are removed, and by who can't have that at the moment: then they go later.
    pub removing: Mutex<()>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

/// What can fail by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Log,
    Index,
}

#[derive(Debug, Default)]
struct Conditions {
    parts: [Condition; 2],
    fault: String,
}

impl Conditions {
    fn worst(&self) -> Condition {
        self.parts.into_iter().find(|part| *part != Condition::Well).unwrap_or_default()
    }
}

/// Held for as long as one frame is applied or one question looked up in memory; never while the disk is waited for.
#[derive(Debug)]
pub(crate) struct State {
    /// What is behind `frozen`, or behind the index.
    pub active: Overlay,
    /// What is being folded.
    pub frozen: Option<Arc<Overlay>>,
    pub spans: Arc<[Span]>,
    /// Queue entries per segment and their bytes, as the index has them.
    pub references: HashMap<u64, (u64, u64)>,
    /// Position up to which the index has everything.
    pub covered: u64,
}

/// One moment of everything, but for the active overlay.
pub(crate) struct Moment {
    pub index: ReadTransaction,
    pub frozen: Option<Arc<Overlay>>,
    pub spans: Arc<[Span]>,
}

impl Moment {
    /// Which messages lie elsewhere. Opened once for all that are read: that costs as much as reading one.
    pub(crate) fn moved(&self) -> Result<Moved, redb::TableError> {
        self.index.open_table(MOVED)
    }
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        index: Index,
        epoch: Epoch,
        salt: u64,
        state: State,
        next_session: u64,
        tell: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Shared {
        Shared {
            disk,
            index,
            epoch,
            salt,
            state: Mutex::new(state),
            conditions: Mutex::default(),
            damages: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(0),
            waiting_bytes: AtomicUsize::new(0),
            syncs: AtomicU64::new(0),
            logged_bytes: AtomicU64::new(0),
            questions: AtomicUsize::new(0),
            next_session: AtomicU64::new(next_session),
            choked: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            removing: Mutex::default(),
            tell,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until this is dropped, no segment goes.
    pub(crate) fn keep_segments(&self) -> MutexGuard<'_, ()> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn health(&self) -> Health {
        let conditions = self.condition();
        Health {
            condition: conditions.worst(),
            fault: conditions.fault.clone(),
            waiting_bytes: self.waiting_bytes.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            logged_bytes: self.logged_bytes.load(Ordering::Relaxed),
            damages: self.damages.load(Ordering::Relaxed),
        }
    }

    /// A moment, and what `of_active` takes from the active overlay at that moment; none while the index can't be read.
    pub(crate) fn moment<T>(&self, of_active: impl FnOnce(&Overlay) -> T) -> Option<(Moment, T)> {
        let state = self.state();
        let index = self.index.moment()?;
        let (mut frozen, spans) = (state.frozen.clone(), Arc::clone(&state.spans));
        let taken = of_active(&state.active);
        drop(state);
        // It may be folded already and not yet be gone.
        let covered = index.open_table(META).ok()?.get(COVERED).ok()?.map_or(0, |position| position.value());
        frozen.take_if(|frozen| frozen.to <= covered);
        Some((Moment { index, frozen, spans }, taken))
    }

    /// Notes a fault and tells of it. `condition`: what that part of the store is in from here on.
    pub(crate) fn fault(&self, part: Part, condition: Condition, text: String) {
        let mut state = self.condition();
        let known = state.parts[part as usize] == condition && state.fault == text;
        state.parts[part as usize] = condition;
        if !known {
            (self.tell)(&text);
            state.fault = text;
        }
    }

    /// That part works again.
    pub(crate) fn well(&self, part: Part) {
        let mut state = self.condition();
        if std::mem::take(&mut state.parts[part as usize]) != Condition::Well && state.worst() == Condition::Well {
            (self.tell)("the store works again");
        }
    }

    pub(crate) fn index_fails(&self) -> bool {
        self.condition().parts[Part::Index as usize] != Condition::Well
    }

    fn condition(&self) -> MutexGuard<'_, Conditions> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that was stored does not read.
    pub(crate) fn damage(&self, count: u64, text: &str) {
        self.damages.fetch_add(count, Ordering::Relaxed);
        (self.tell)(text);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("disk", &self.disk).finish_non_exhaustive()
    }
}
