//! A pipe of bytes between a shard and a thread that is none, such as the one that runs QUIC.
//!
//! Both directions are bounded, and an idle pipe holds no buffer. The **shard's end** answers at once like a socket: it
//! never waits for the other thread, not even for the moment in which that one holds the lock. The **far end** belongs to
//! a task, which is woken; the shard is told through its dock (`dock.rs`).
//!
//! # How nothing is missed while a connection moves
//!
//! A connection moves from the shard that accepted it to its home shard, and the far thread may have something to tell at
//! any moment meanwhile. `home` says whom. Three rules make that safe:
//!
//! 1. The far end first leaves its bytes (under the lock) or its flag, and then reads `home`.
//! 2. A shard that gets the pipe first writes `home`, and then looks at the pipe once, whether told or not.
//! 3. An entry in a dock holds the pipe and not the slot. Whoever takes it out first clears `told` and then looks whether
//!    the pipe is still theirs; if it has a new home, the entry is passed on.
//!
//! By 1 and 2, if the far end read the old `home`, what it left was there before the new shard looked. By 3, an entry
//! that lies at the wrong shard is not lost, and nobody takes a stranger's slot for it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use breakwater_shard::{ReadOutcome, Ready, ShardId, WriteOutcome};

use crate::dock::Docks;

/// Bytes that wait in one direction, at most. The reader takes all of them at once and then holds them, so that up to
/// twice as many are alive.
pub(crate) const LANE_BYTES_MAX: usize = 64 * 1024;

/// The far end will send no more.
const FINISHED: u8 = 1;
/// The far end is gone.
const FAR_GONE: u8 = 2;
/// The shard's end is gone.
const NEAR_GONE: u8 = 4;
/// The client is not to be here any more.
const CONDEMNED: u8 = 8;

/// The pipe is on its way between two shards.
const NOWHERE: u64 = u64::MAX;

/// What both ends share.
pub(crate) struct Pipe {
    docks: Arc<Docks>,
    /// Shard and slot that the connection has.
    home: AtomicU64,
    /// An entry for this pipe lies in a dock.
    told: AtomicBool,
    flags: AtomicU8,
    /// The task at the far end.
    task: AtomicWaker,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    /// To the shard.
    inward: Vec<u8>,
    /// From the shard.
    outward: Vec<u8>,
    /// The shard had more to write than there was room for.
    blocked: bool,
}

/// Held by the shard.
pub(crate) struct NearEnd {
    pipe: Arc<Pipe>,
    /// What was taken and is not yet read.
    taken: Vec<u8>,
    at: usize,
}

/// Held by a task on another thread.
pub(crate) struct FarEnd {
    pipe: Arc<Pipe>,
}

/// A fresh pipe.
pub(crate) fn pipe(docks: Arc<Docks>) -> (NearEnd, FarEnd) {
    let pipe = Arc::new(Pipe {
        docks,
        home: AtomicU64::new(NOWHERE),
        told: AtomicBool::new(false),
        flags: AtomicU8::new(0),
        task: AtomicWaker::new(),
        lanes: Mutex::default(),
    });
    (NearEnd { pipe: Arc::clone(&pipe), taken: Vec::new(), at: 0 }, FarEnd { pipe })
}

impl Pipe {
    /// Called by the far end after it has left something: one entry in the dock of the shard that has the connection.
    fn tell(self: &Arc<Self>) {
        if self.told.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.home() {
            Some((shard, _)) => self.docks.ready(shard, Arc::clone(self)),
            // Whoever gets the connection will look.
            None => self.told.store(false, Ordering::Release),
        }
    }

    /// Called by a shard that takes an entry from its dock: what to tell of which slot, if the connection is there.
    pub(crate) fn take_told(self: &Arc<Self>, shard: ShardId) -> Option<(u32, Ready)> {
        self.told.swap(false, Ordering::AcqRel);
        match self.home() {
            Some((home, slot)) if home == shard => Some((slot, self.ready())),
            Some(_) => {
                self.tell();
                None
            }
            None => None,
        }
    }

    fn home(&self) -> Option<(ShardId, u32)> {
        let home = self.home.load(Ordering::SeqCst);
        (home != NOWHERE).then_some(((home >> 32) as ShardId, home as u32))
    }

    /// What a pipe that was not looked at may be ready for: everything.
    fn ready(&self) -> Ready {
        let read_closed = self.flags() & (FINISHED | FAR_GONE) != 0;
        Ready { readable: true, writable: true, read_closed }
    }

    fn flags(&self) -> u8 {
        self.flags.load(Ordering::SeqCst)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lanes, if the other thread is not at them.
    fn try_lanes(&self) -> Option<MutexGuard<'_, Lanes>> {
        match self.lanes.try_lock() {
            Ok(lanes) => Some(lanes),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl NearEnd {
    /// Says where the connection is. Answers what its shard has to be told, because nobody else will tell it.
    pub(crate) fn settle(&self, shard: ShardId, slot: u32) -> Ready {
        self.pipe.home.store(u64::from(shard) << 32 | u64::from(slot), Ordering::SeqCst);
        self.pipe.ready()
    }

    /// Says that the connection has left its slot.
    pub(crate) fn leave(&self) {
        self.pipe.home.store(NOWHERE, Ordering::SeqCst);
    }

    /// Says that the client has lost what let it in: whoever ends its connection is to say so.
    pub(crate) fn condemn(&self) {
        self.pipe.flags.fetch_or(CONDEMNED, Ordering::SeqCst);
    }

    /// Reads what there is. None: the other thread is at it in this moment, and no edge will come.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<ReadOutcome> {
        let mut count = self.read_taken(buffer);
        // In this order: what was sent before the end is seen by whoever sees the end.
        let flags = self.pipe.flags();
        if count < buffer.len() {
            let Some(mut lanes) = self.pipe.try_lanes() else {
                return (count > 0).then_some(ReadOutcome::More(count));
            };
            if !lanes.inward.is_empty() {
                self.taken = std::mem::take(&mut lanes.inward);
                drop(lanes);
                self.pipe.task.wake();
                count += self.read_taken(&mut buffer[count..]);
            }
        }
        Some(match count {
            0 if buffer.is_empty() => ReadOutcome::Bytes(0),
            0 if flags & FINISHED != 0 => ReadOutcome::Closed,
            0 if flags & FAR_GONE != 0 => ReadOutcome::Failed,
            0 => ReadOutcome::WouldBlock,
            count => ReadOutcome::Bytes(count),
        })
    }

    fn read_taken(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.taken.len() - self.at);
        buffer[..count].copy_from_slice(&self.taken[self.at..self.at + count]);
        self.at += count;
        if self.at == self.taken.len() {
            (self.taken, self.at) = (Vec::new(), 0);
        }
        count
    }

    /// Writes what there is room for. None: the other thread is at it in this moment, and no edge will come.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Option<WriteOutcome> {
        if self.pipe.flags() & FAR_GONE != 0 {
            return Some(WriteOutcome::Failed);
        }
        let mut lanes = self.pipe.try_lanes()?;
        let count = bytes.len().min(LANE_BYTES_MAX.saturating_sub(lanes.outward.len()));
        lanes.outward.extend_from_slice(&bytes[..count]);
        lanes.blocked |= count < bytes.len();
        drop(lanes);
        if count == 0 && !bytes.is_empty() {
            return Some(WriteOutcome::WouldBlock);
        }
        self.pipe.task.wake();
        Some(WriteOutcome::Wrote(count))
    }
}

impl Drop for NearEnd {
    fn drop(&mut self) {
        self.leave();
        self.pipe.flags.fetch_or(NEAR_GONE, Ordering::SeqCst);
        self.pipe.task.wake();
    }
}

impl FarEnd {
    /// Names the task to wake when the shard has read, written or closed. To be called before looking.
    pub(crate) fn register(&self, waker: &Waker) {
        self.pipe.task.register(waker);
    }

    /// Bytes that [`FarEnd::send`] would take.
    pub(crate) fn room(&self) -> usize {
        LANE_BYTES_MAX.saturating_sub(self.pipe.lanes().inward.len())
    }

    /// Sends what there is room for to the shard.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        let mut lanes = self.pipe.lanes();
        let count = bytes.len().min(LANE_BYTES_MAX.saturating_sub(lanes.inward.len()));
        lanes.inward.extend_from_slice(&bytes[..count]);
        drop(lanes);
        if count > 0 {
            self.pipe.tell();
        }
        count
    }

    /// Takes all that the shard has written.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut lanes = self.pipe.lanes();
        let bytes = std::mem::take(&mut lanes.outward);
        let blocked = std::mem::take(&mut lanes.blocked);
        drop(lanes);
        if blocked {
            self.pipe.tell();
        }
        bytes
    }

    /// Says that no more is sent.
    pub(crate) fn finish(&mut self) {
        if self.pipe.flags.fetch_or(FINISHED, Ordering::SeqCst) & FINISHED == 0 {
            self.pipe.tell();
        }
    }

    /// The client is to be turned out rather than seen off.
    pub(crate) fn is_condemned(&self) -> bool {
        self.pipe.flags() & CONDEMNED != 0
    }

    /// The shard has closed. What it wrote before can still be taken; to be asked before [`FarEnd::take`].
    pub(crate) fn is_closed(&self) -> bool {
        self.pipe.flags() & NEAR_GONE != 0
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.pipe.flags.fetch_or(FAR_GONE, Ordering::SeqCst);
        self.pipe.tell();
    }
}

#[cfg(test)]
mod tests;
