//! Bytes to a connection: one write per dirty connection at the end of the turn.

use breakwater_contract::Metric;
use breakwater_contract::store::SessionNumber;
use breakwater_session::Env;

use crate::conn::{Cause, NONE, mark};
use crate::driver::{Driver, WriteOutcome};
use crate::shard::{Shard, later};
use crate::wheel::{Kind, Timer};

/// A connection may be pumped and written this often in one flush before others get their turn.
const ROUNDS: usize = 4;

/// Buffers that went empty and wait for the next bytes. Bounded; what is too large or too many is freed.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    outs: Vec<Vec<u8>>,
    /// Capacity of all of them.
    outs_bytes: usize,
    tails: Vec<Vec<u8>>,
}

/// Out buffers kept: 64, with 4 MiB in all. One may be larger than a read, or a publisher that fills every read would make
/// its subscribers' buffers grow from nothing in every turn.
const OUTS: usize = 64;
const OUT_KEPT: usize = 256 * 1024;
const OUTS_BYTES: usize = 4 * 1024 * 1024;
const TAILS: usize = 64;
const TAIL_KEPT: usize = 8 * 1024;

impl Pool {
    /// Makes sure that `out` has memory, from the pool if there is any.
    #[inline]
    pub(crate) fn ready(&mut self, out: &mut Vec<u8>) {
        if out.capacity() == 0
            && let Some(spare) = self.outs.pop()
        {
            self.outs_bytes -= spare.capacity();
            *out = spare;
        }
    }

    /// Takes an emptied out buffer.
    #[inline]
    pub(crate) fn give(&mut self, mut out: Vec<u8>) {
        let fits = out.capacity() <= OUT_KEPT && self.outs_bytes + out.capacity() <= OUTS_BYTES;
        if out.capacity() > 0 && fits && self.outs.len() < OUTS {
            self.outs_bytes += out.capacity();
            out.clear();
            self.outs.push(out);
        }
    }

    pub(crate) fn tail(&mut self) -> Vec<u8> {
        self.tails.pop().unwrap_or_default()
    }

    pub(crate) fn give_tail(&mut self, mut tail: Vec<u8>) {
        if tail.capacity() > 0 && tail.capacity() <= TAIL_KEPT && self.tails.len() < TAILS {
            tail.clear();
            self.tails.push(tail);
        }
    }

    /// Gives everything back: called when the shard has gone quiet.
    pub(crate) fn release(&mut self) {
        self.outs = Vec::new();
        self.outs_bytes = 0;
        self.tails = Vec::new();
    }
}

impl<T: Send> Shard<T> {
    /// Writes to every dirty connection, once each, and goes on with the queues that wait for room.
    pub(crate) fn flush<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &slot in &dirty {
            self.flush_one(driver, slot);
        }
        dirty.clear();
        // Closing a connection above may have published a will, which made others dirty: they are in `self.dirty`.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    fn flush_one<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.flags.dirty = false;
        for _ in 0..ROUNDS {
            self.pump(slot);
            let Some(conn) = self.conns.get_mut(slot) else { return };
            if conn.flags.blocked || conn.out.is_empty() {
                break;
            }
            let mut end = conn.out.len();
            let metered = conn.flags.marks.has(mark::METERED);
            if metered {
                end = conn.writable_end(self.profiles.rates(conn.profile), self.now);
            }
            let offered = &conn.out[conn.sent as usize..end];
            if offered.is_empty() {
                break;
            }
            match driver.write(slot, offered) {
                WriteOutcome::Wrote(count) => {
                    self.counters.add(Metric::BytesSent, count as u64);
                    conn.sent += count as u32;
                    if metered {
                        conn.count_bytes_out(self.profiles.rates(conn.profile), count);
                    }
                    if conn.sent as usize == conn.out.len() {
                        conn.sent = 0;
                        let out = std::mem::take(&mut conn.out);
                        self.pool.give(out);
                        // Only now is there room for more of the queue.
                        if !conn.flags.pump {
                            break;
                        }
                    } else if (conn.sent as usize) < end {
                        conn.flags.blocked = true;
                        conn.stalled_since = self.now.0 as u32;
                    }
                }
                WriteOutcome::Held(count) => {
                    self.counters.add(Metric::BytesSent, count as u64);
                    conn.sent += count as u32;
                    if metered {
                        conn.count_bytes_out(self.profiles.rates(conn.profile), count);
                    }
                    // As far as its patience goes, they have not been sent.
                    conn.flags.blocked = true;
                    conn.stalled_since = self.now.0 as u32;
                }
                WriteOutcome::WouldBlock => {
                    if !conn.flags.blocked {
                        conn.stalled_since = self.now.0 as u32;
                    }
                    conn.flags.blocked = true;
                }
                WriteOutcome::Failed => {
                    self.close(driver, slot, Cause::NetworkFailed);
                    return;
                }
            }
        }
        self.settle_out(slot);
        if self.conns.get(slot).is_some_and(|conn| conn.is_leaving() && conn.unsent() == 0) {
            self.close(driver, slot, Cause::Shutdown);
        }
    }

    /// After a flush: memory of what was sent goes back, what waits is accounted for and watched.
    fn settle_out(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let unsent = conn.unsent();
        if unsent == 0 {
            conn.sent = 0;
            if conn.out.capacity() > 0 {
                let out = std::mem::take(&mut conn.out);
                self.pool.give(out);
            }
        } else if conn.sent as usize > unsent {
            conn.out.drain(..conn.sent as usize);
            conn.sent = 0;
        }
        self.held_bytes = self.held_bytes + unsent as u64 - u64::from(conn.accounted);
        conn.accounted = unsent as u32;
        if conn.flags.blocked && !conn.flags.marks.has(mark::STALL_TIMER) {
            conn.flags.marks.put(mark::STALL_TIMER, true);
            let generation = self.conns.generation(slot).unwrap_or(0);
            let at = later(self.now, u64::from(self.options.write_stall_ms));
            self.wheel.set(at, Timer { kind: Kind::Stall, slot, generation });
        }
        let Some(conn) = self.conns.get(slot) else { return };
        let metered = conn.flags.marks.has(mark::METERED);
        // Over its rate it has a timer of its own.
        if metered && (unsent > 0 || conn.flags.pump) && !self.may_send(slot) {
            return;
        }
        if self.conns.get(slot).is_some_and(|conn| conn.flags.pump && !conn.flags.blocked) {
            self.mark_dirty(slot);
        }
    }

    /// Lets the session of `slot` go on with its queue, if it asked for it.
    fn pump(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !conn.flags.pump || conn.flags.blocked || conn.session == NONE {
            return;
        }
        if conn.flags.marks.has(mark::METERED) {
            self.pump_metered(slot);
            return;
        }
        let Some(resident) = self.sessions.get_mut(conn.session) else { return };
        if !resident.session.has_backlog() {
            conn.flags.pump = false;
            return;
        }
        self.pool.ready(&mut conn.out);
        let room = conn.room(self.options.out_buffer_bytes);
        let mut env = Env {
            now: self.now,
            limits: self.profiles.limits(conn.profile),
            room,
            out: &mut conn.out,
            report: &mut self.report,
            scratch: &mut self.building,
        };
        let pumped = resident.session.pump(&mut conn.link, &mut env);
        conn.flags.pump = pumped.more;
        self.counters.add(Metric::PublishSent, u64::from(pumped.sent));
        let session = conn.session;
        self.after_pump(session);
    }

    /// Notes of a session whose queue went on, its account, and what is to follow from the store.
    pub(crate) fn after_pump(&mut self, session: u32) {
        self.settle_notes(session);
        self.account(session);
        if self.sessions.get(session).is_some_and(|resident| resident.number() != SessionNumber::default()) {
            self.read_on_tail(session);
        }
    }
}
