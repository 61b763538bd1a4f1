//! The account of the bytes that wait for clients, and what happens when there are too many.
//!
//! All bounds are derived from `memory_bytes`. What waits for **connected** clients goes away as they read: above its
//! bound readers pause, and further above it new connections are refused. Some of them read and never acknowledge, so that
//! their queues stay: from three quarters of the bound only short queues grow, shortly before the bound none, so that
//! pausing readers always has an end. What waits for clients that are **away** goes away only when they come back: pausing
//! would not help, and refusing connections would keep them from coming; above half the memory nothing more is queued for
//! them. And whatever happens, above one and a quarter of the memory nothing is queued for anybody.
//!
//! Apart from these: packets that are half here, and each CONNECT that waits for its verdict. All of them may hold half the memory, those of connections that are not
//! clients yet an eighth; a connection that adds to more is ended.

use crate::conn::{Cause, Conn, NONE, Phase, mark};
use crate::driver::Driver;
use crate::ingress::SHORT_TAIL;
use crate::shard::{Resident, Shard};

/// A queue that a client which keeps up may have at times, in bytes.
const SHORT_QUEUE: usize = 16 * 1024;

/// How much memory there is for queues.
#[derive(Clone, Copy)]
pub(crate) struct QueueRoom {
    /// There is none for those of sessions without a connection.
    away_is_full: bool,
    /// Bytes up to which the queue of a session with one may grow.
    bytes_max: usize,
}

impl QueueRoom {
    /// Whether there is no memory for more in the queue of a session, which holds so many bytes. `slot`: of its connection.
    #[inline]
    pub(crate) fn is_short(self, slot: u32, queued: usize) -> bool {
        match slot {
            NONE => self.away_is_full,
            _ => self.bytes_max != usize::MAX && queued >= self.bytes_max,
        }
    }
}

impl<T: Send> Shard<T> {
    /// Bytes that wait for connected clients.
    #[inline]
    pub(crate) fn live_bytes(&self) -> u64 {
        self.held_bytes - self.away_bytes
    }

    /// Their bound: what those who are away have left, but at least half.
    #[inline]
    pub(crate) fn live_bytes_max(&self) -> u64 {
        let memory = self.options.memory_bytes;
        memory - self.away_bytes.min(memory / 2)
    }

    /// Bytes up to which the queue of one session may grow at this moment.
    #[inline]
    pub(crate) fn queue_bytes_max(&self) -> usize {
        let (live, most) = (self.live_bytes(), self.live_bytes_max());
        if live <= most / 4 * 3 {
            usize::MAX
        } else if live <= most / 16 * 13 && self.held_bytes <= self.options.memory_bytes / 4 * 5 {
            SHORT_QUEUE
        } else {
            0
        }
    }

    /// What queues may take at this moment.
    #[inline]
    pub(crate) fn queue_room(&self) -> QueueRoom {
        let bound = self.options.memory_bytes;
        let away_is_full = self.held_bytes > bound / 4 * 5 || self.away_bytes > bound / 2;
        QueueRoom { away_is_full, bytes_max: self.queue_bytes_max() }
    }

    /// Brings the account of a session's queue up to date. What a session needs for itself is not in it: readers that pause
    /// for want of memory would never go on if the bytes didn't go away as the client catches up.
    pub(crate) fn account(&mut self, session: u32) {
        if let Some(resident) = self.sessions.get_mut(session) {
            let (before, was_away) = (u64::from(resident.accounted), resident.accounted_away);
            resident.accounted = resident.session.queue_bytes() as u32;
            resident.accounted_away = resident.conn == NONE;
            let (bytes, away) = (u64::from(resident.accounted), resident.accounted_away);
            self.held_bytes = self.held_bytes + bytes - before;
            self.away_bytes = self.away_bytes + if away { bytes } else { 0 } - if was_away { before } else { 0 };
            if self.options.queue_totals.are_bounded() {
                self.count_queue(session);
            }
            if !self.standers.is_empty() {
                self.note_full(session);
            }
        }
    }

    /// Brings the account of a packet that is half here, or of a CONNECT that waits, up to date, and ends the connection where such packets are too
    /// many: who never finishes them must not use up what the others need.
    #[inline]
    pub(crate) fn weigh_tail<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        if let Some(conn) = self.conns.get(slot)
            && (conn.tail.capacity() > SHORT_TAIL || conn.tail_accounted > 0)
            && self.weighs_too_much(slot)
        {
            self.close(driver, slot, Cause::NoRoom);
        }
    }

    /// Brings the account up to date. True: this connection has added to what is too much.
    #[cold]
    pub(crate) fn weighs_too_much(&mut self, slot: u32) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else { return false };
        let (before, was_stranger) = (u64::from(conn.tail_accounted), conn.flags.marks.has(mark::STRANGER));
        let tail = if conn.tail.capacity() > SHORT_TAIL { conn.tail.capacity() } else { 0 };
        let bytes = (tail + conn.phase.waiting_bytes()) as u64;
        conn.tail_accounted = bytes as u32;
        conn.flags.marks.put(mark::STRANGER, matches!(conn.phase, Phase::Porch { .. } | Phase::Admission(_)));
        let stranger = conn.flags.marks.has(mark::STRANGER);
        self.tail_bytes = self.tail_bytes + bytes - before;
        self.stranger_bytes =
            self.stranger_bytes + if stranger { bytes } else { 0 } - if was_stranger { before } else { 0 };
        let memory = self.options.memory_bytes;
        let too_much = self.tail_bytes > memory / 2 || (stranger && self.stranger_bytes > memory / 8);
        bytes > before && too_much
    }

    /// A connection is gone: so is its half packet.
    pub(crate) fn forget_tail(&mut self, conn: &Conn) {
        let bytes = u64::from(conn.tail_accounted);
        self.tail_bytes -= bytes;
        if conn.flags.marks.has(mark::STRANGER) {
            self.stranger_bytes -= bytes;
        }
    }

    /// A session is gone: its bytes leave the account.
    pub(crate) fn strike_off(&mut self, resident: &Resident) {
        let bytes = u64::from(resident.accounted);
        self.held_bytes -= bytes;
        if resident.accounted_away {
            self.away_bytes -= bytes;
        }
    }
}
