//! Locks: plain ones that end the process's work on poison, and one for many readers that share no cache line.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Alone on its cache lines (two: neighbours are fetched in pairs), so that shards don't slow each other down.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Read-locks. Poison means that a writer panicked half-way: such state is not to be trusted.
#[inline]
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect("no writer panicked")
}

#[inline]
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect("no writer panicked")
}

/// A big-reader lock: each reader locks its own lane, a writer locks all of them, in order.
///
/// Each lane holds a clone of one and the same `Arc`. A writer that holds every lane takes all clones but one away, which
/// leaves it the only owner, and puts them back afterwards. So there is one copy of the value, readers never touch the
/// reference count, and no unsafe code is needed. A write costs about 50 ns per lane.
pub(crate) struct Lanes<T> {
    lanes: Box<[Padded<Lane<T>>]>,
}

type Lane<T> = RwLock<Option<Arc<T>>>;

/// A reader's view of a [`Lanes`] value.
pub(crate) struct LaneGuard<'a, T>(RwLockReadGuard<'a, Option<Arc<T>>>);

impl<T> std::ops::Deref for LaneGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_deref().expect("only a writer that holds every lane empties one")
    }
}

impl<T> Lanes<T> {
    pub(crate) fn new(lanes: u16, value: T) -> Self {
        let value = Arc::new(value);
        Self { lanes: (0..lanes.max(1)).map(|_| Padded(RwLock::new(Some(Arc::clone(&value))))).collect() }
    }

    /// Readers beyond the number of lanes share one; that is slower, not wrong.
    #[inline]
    pub(crate) fn read(&self, lane: u16) -> LaneGuard<'_, T> {
        let lane = if usize::from(lane) < self.lanes.len() { usize::from(lane) } else { 0 };
        LaneGuard(read(&self.lanes[lane].0))
    }

    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut guards: Vec<_> = self.lanes.iter().map(|lane| write(&lane.0)).collect();
        let (first, rest) = guards.split_first_mut().expect("there is at least one lane");
        for guard in &mut *rest {
            **guard = None;
        }
        let only = first.as_mut().expect("only a writer empties a lane, and it fills it again");
        let result = change(Arc::get_mut(only).expect("every other lane is locked and empty"));
        for guard in rest {
            **guard = Some(Arc::clone(only));
        }
        result
    }
}
