//! Bytes from a connection: read, cut into packets, handed on.

use breakwater_contract::Metric;
use breakwater_proto::{Packet, Split, Violation, decode, encode_pingresp, split};

use crate::conn::{Cause, Phase, mark};
use crate::driver::{Driver, ReadOutcome};
use crate::shard::Shard;

/// A partial packet up to this size is copied in front of the next read, so that most packets are decoded from the
/// scratch buffer; a longer one collects its bytes where it is.
pub(crate) const SHORT_TAIL: usize = 4096;

/// What one connection may still do in this turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spend {
    pub(crate) deliveries: u32,
    pub(crate) bytes: u32,
}

/// Why processing stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The rest is the beginning of a packet that has this length, or an unknown one (0).
    Partial(u32),
    /// The budget of the turn is used up: whole packets may be left.
    Budget,
    /// The connection has to wait: whole packets may be left.
    Held,
    /// It is gone.
    Closed,
}

impl<T: Send> Shard<T> {
    pub(crate) fn ingress<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if conn.held() {
            return;
        }
        if conn.flags.tail_ready {
            self.process_tail(driver, slot);
        } else if conn.flags.readable {
            self.read(driver, slot);
        }
        self.weigh_tail(driver, slot);
        self.schedule(slot);
    }

    fn process_tail<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.flags.tail_ready = false;
        let mut tail = std::mem::take(&mut conn.tail);
        let (used, stop) = self.process(driver, slot, &tail);
        tail.drain(..used);
        self.keep(slot, tail, stop);
    }

    /// One read, and what it brought.
    fn read<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut limit = scratch.len().min((self.options.turn.read_bytes as usize).max(SHORT_TAIL * 2));
        let before = if conn.tail.len() <= SHORT_TAIL { conn.tail.len() } else { 0 };
        let metered = conn.flags.marks.has(mark::METERED);
        if metered {
            limit = limit.min(before.saturating_add(self.readable_bytes(slot)));
            if limit == before {
                self.scratch = scratch;
                return self.throttle(slot);
            }
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        scratch[..before].copy_from_slice(&conn.tail[..before]);
        let outcome = driver.read(slot, &mut scratch[before..limit]);
        match outcome {
            ReadOutcome::Bytes(count) | ReadOutcome::More(count) => {
                conn.last_seen = self.now.0 as u32;
                // A short read is the end for now, unless the end for good was announced: that brings no further edge.
                let short = matches!(outcome, ReadOutcome::Bytes(_)) && count < limit - before;
                if short && !conn.flags.read_closed {
                    conn.flags.readable = false;
                }
                self.counters.add(Metric::BytesReceived, count as u64);
                if metered {
                    self.count_bytes_in(slot, count);
                }
                let Some(conn) = self.conns.get_mut(slot) else { return };
                if conn.tail.len() > before {
                    conn.tail.extend_from_slice(&scratch[..count]);
                    if conn.tail.len() >= conn.tail_need as usize {
                        self.process_tail(driver, slot);
                    }
                } else {
                    let mut tail = std::mem::take(&mut conn.tail);
                    tail.clear();
                    let (used, stop) = self.process(driver, slot, &scratch[..before + count]);
                    let rest = &scratch[used..before + count];
                    if tail.capacity() == 0 && !rest.is_empty() {
                        tail = self.pool.tail();
                    }
                    tail.extend_from_slice(rest);
                    self.keep(slot, tail, stop);
                }
            }
            ReadOutcome::WouldBlock => conn.flags.readable = false,
            ReadOutcome::Closed => self.close(driver, slot, Cause::PeerClosed),
            ReadOutcome::Failed => self.close(driver, slot, Cause::NetworkFailed),
        }
        self.scratch = scratch;
        if metered {
            self.throttle(slot);
        }
    }

    /// Keeps what processing has left, and remembers why.
    fn keep(&mut self, slot: u32, tail: Vec<u8>, stop: Stop) {
        let Some(conn) = self.conns.get_mut(slot) else {
            self.pool.give_tail(tail);
            return;
        };
        if tail.is_empty() {
            self.pool.give_tail(tail);
            return;
        }
        match stop {
            Stop::Partial(need) => conn.tail_need = need,
            Stop::Budget | Stop::Held => conn.flags.tail_ready = true,
            Stop::Closed => {}
        }
        conn.tail = tail;
    }

    /// Handles packet after packet; answers how many bytes are done with, and why it stopped.
    fn process<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32, bytes: &[u8]) -> (usize, Stop) {
        let turn = self.options.turn;
        let mut spend = Spend { deliveries: turn.deliveries, bytes: turn.appended_bytes };
        let mut done = 0;
        while done < bytes.len() {
            let Some(conn) = self.conns.get(slot) else { return (done, Stop::Closed) };
            if conn.held() {
                return (done, Stop::Held);
            }
            if spend.deliveries == 0 || spend.bytes == 0 {
                return (done, Stop::Budget);
            }
            let step = match conn.phase {
                Phase::Ready => self.on_bytes(driver, slot, &bytes[done..], &mut spend),
                Phase::Porch { .. } => self.on_porch(driver, slot, &bytes[done..]),
                Phase::Admission(_) => self.on_admission(driver, slot, &bytes[done..]),
                Phase::Leaving => return (done, Stop::Held),
            };
            match step {
                Ok(Step::Used(count)) => done += count,
                Ok(Step::Partial(need)) => return (done, Stop::Partial(need)),
                Ok(Step::Parked) => return (done, Stop::Held),
                Ok(Step::Gone) => return (bytes.len(), Stop::Closed),
                Err(cause) => {
                    // What stands behind it is never looked at [MQTT-3.1.4-6] [MQTT3-3.1.4-5].
                    self.close(driver, slot, cause); // [MQTT-4.13.1-1] [MQTT3-4.8.0-1]
                    return (bytes.len(), Stop::Closed);
                }
            }
        }
        (done, Stop::Partial(0))
    }

    /// The first packet of `bytes`, from a client.
    fn on_bytes<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        bytes: &[u8],
        spend: &mut Spend,
    ) -> Result<Step, Cause> {
        /// PUBLISH with QoS 0, neither DUP nor RETAIN.
        const PLAIN_PUBLISH: u8 = 0x30;
        if bytes[0] == PLAIN_PUBLISH && self.open {
            return self.on_plain_publish(driver, slot, bytes, spend);
        }
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(Step::Gone) };
        let frame = match split(bytes, self.profiles.limits(conn.profile).packet_bytes_max)? {
            Split::Packet(frame) => frame,
            Split::Incomplete { need } => return Ok(Step::Partial(need.unwrap_or(0) as u32)),
        };
        self.counters.bump(Metric::PacketsReceived);
        // Packets of two bytes that are answered with two cost time as well.
        spend.deliveries = spend.deliveries.saturating_sub(1);
        let length = frame.len;
        match decode(conn.link.version, &frame)? {
            Packet::Publish(publish) => {
                if !self.on_publish(driver, slot, &publish, spend)? {
                    return Ok(Step::Parked);
                }
            }
            Packet::PubAck(ack) => self.on_acknowledged(slot, |session, link, env| session.on_puback(link, &ack, env)),
            Packet::PubRec(ack) => self.on_acknowledged(slot, |session, link, env| session.on_pubrec(link, &ack, env)),
            Packet::PubComp(ack) => {
                self.on_acknowledged(slot, |session, link, env| session.on_pubcomp(link, &ack, env));
            }
            Packet::PubRel(ack) => self.on_release(slot, ack.packet_id),
            Packet::Subscribe(subscribe) => {
                if !self.on_subscribe(slot, &subscribe, spend)? {
                    return Ok(Step::Parked);
                }
            }
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(slot, &unsubscribe, spend)?,
            Packet::PingReq => {
                self.pool.ready(&mut conn.out);
                encode_pingresp(&mut conn.out); // [MQTT-3.12.4-1] [MQTT3-3.12.4-1]
                self.mark_dirty(slot);
            }
            Packet::Disconnect(disconnect) => return Err(self.on_disconnect(slot, &disconnect)?),
            Packet::Auth(auth) => self.on_reauthenticate(driver, slot, &auth)?,
            Packet::Connect(_) => return Err(Violation::SecondConnect.into()), // [MQTT-3.1.0-2] [MQTT3-3.1.0-2] [MQTT-3.2.0-2]
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(Violation::WrongDirection.into());
            }
        }
        let Some(conn) = self.conns.get(slot) else { return Ok(Step::Gone) };
        if conn.flags.marks.has(mark::SLOWED) {
            self.throttle_for_answers(slot);
        }
        // A client that never reads must not make us hold the answers to its requests without bound.
        let hard = 2 * self.options.out_buffer_bytes as usize;
        if self.conns.get(slot).is_some_and(|conn| conn.unsent() > hard && conn.flags.blocked) {
            return Err(Cause::Stalled);
        }
        Ok(if self.conns.get(slot).is_some() { Step::Used(length) } else { Step::Gone })
    }
}

/// What became of the front of the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// So many bytes are done with.
    Used(usize),
    /// A whole packet is not there yet; its length, or 0.
    Partial(u32),
    /// The packet waits for an answer: it stays where it is.
    Parked,
    /// The connection is no longer here.
    Gone,
}
