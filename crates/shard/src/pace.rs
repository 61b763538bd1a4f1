//! What a client may send and be sent per second, where its listener bounds it.
//!
//! Only such connections have a [`Meter`]; all others pay one look at a flag. Over its rate a client is not read from: what
//! it sends waits in its own socket. What goes to it faster than its rate is shed with QoS 0 and queued with QoS 1 and 2.

use breakwater_contract::Metric;
use breakwater_proto::Instant;
use breakwater_session::{Delivered, Env};

use crate::conn::{Conn, hold, mark};
use crate::ingress::SHORT_TAIL;
use crate::profile::{Rate, Rates};
use crate::shard::{NEVER, Shard, later};
use crate::wheel::{Kind, Timer};

/// The four buckets of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    messages_in: Bucket,
    bytes_in: Bucket,
    messages_out: Bucket,
    bytes_out: Bucket,
    /// When its timer fires; [`NEVER`] while there is none.
    timer_at: Instant,
}

/// Thousandths of tokens: a rate per second fills it by that many each millisecond. Never more than full; below zero by what
/// was taken in one piece.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    thousandths: i64,
    filled_at: Instant,
}

const TOKEN: i64 = 1000;

impl Rate {
    fn is_bound(self) -> bool {
        self.per_second > 0
    }

    /// What may pass at once.
    fn depth(self) -> u64 {
        self.burst.max(self.per_second)
    }

    fn full(self) -> i64 {
        i64::try_from(self.depth()).unwrap_or(i64::MAX).saturating_mul(TOKEN)
    }
}

impl Rates {
    /// None of them is bounded.
    pub(crate) fn are_free(self) -> bool {
        !(self.bounds_in() || self.messages_out.is_bound() || self.bytes_out.is_bound())
    }

    fn bounds_in(self) -> bool {
        self.messages_in.is_bound() || self.bytes_in.is_bound()
    }

    /// Bytes that may wait for a connection, of the `bound` that holds for others.
    pub(crate) fn bytes_waiting_max(&self, bound: u32) -> u32 {
        let depth = if self.bytes_out.is_bound() { self.bytes_out.depth() } else { u64::MAX };
        u32::try_from(depth).map_or(bound, |depth| depth.min(bound))
    }
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { thousandths: rate.full(), filled_at: now }
    }

    /// Whole tokens at this moment.
    fn tokens(&mut self, rate: Rate, now: Instant) -> u64 {
        if !rate.is_bound() {
            return u64::MAX;
        }
        let added = now.ms_since(self.filled_at).saturating_mul(rate.per_second);
        let added = i64::try_from(added).unwrap_or(i64::MAX);
        self.thousandths = self.thousandths.saturating_add(added).min(rate.full());
        self.filled_at = now;
        u64::try_from(self.thousandths / TOKEN).unwrap_or(0)
    }

    fn take(&mut self, rate: Rate, tokens: u64) {
        if rate.is_bound() {
            let taken = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(TOKEN);
            self.thousandths = self.thousandths.saturating_sub(taken);
        }
    }

    /// Milliseconds until there is a whole token.
    fn wait_ms(&self, rate: Rate) -> u64 {
        let missing = u64::try_from(TOKEN.saturating_sub(self.thousandths)).unwrap_or(0);
        if rate.is_bound() { missing.div_ceil(rate.per_second) } else { 0 }
    }
}

impl Meter {
    fn new(rates: Rates, now: Instant) -> Self {
        Self {
            messages_in: Bucket::full(rates.messages_in, now),
            bytes_in: Bucket::full(rates.bytes_in, now),
            messages_out: Bucket::full(rates.messages_out, now),
            bytes_out: Bucket::full(rates.bytes_out, now),
            timer_at: NEVER,
        }
    }

    /// Milliseconds until something may come in, 0 for at once.
    fn wait_in_ms(&mut self, rates: &Rates, now: Instant) -> u64 {
        self.messages_in.tokens(rates.messages_in, now);
        self.bytes_in.tokens(rates.bytes_in, now);
        self.messages_in.wait_ms(rates.messages_in).max(self.bytes_in.wait_ms(rates.bytes_in))
    }

    fn wait_out_ms(&mut self, rates: &Rates, now: Instant) -> u64 {
        self.messages_out.tokens(rates.messages_out, now);
        self.bytes_out.tokens(rates.bytes_out, now);
        self.messages_out.wait_ms(rates.messages_out).max(self.bytes_out.wait_ms(rates.bytes_out))
    }
}

impl Conn {
    /// The meter, if it has one.
    fn meter(&mut self) -> Option<&mut Meter> {
        self.rare.as_deref_mut()?.meter.as_deref_mut()
    }

    /// Bytes that may wait for a connection with a meter: about what it is sent in a second, so that what comes last does
    /// not wait long. 0: it may be sent no message just now.
    pub(crate) fn out_bound(&mut self, rates: &Rates, bound: u32, now: Instant) -> u32 {
        let barred =
            self.flags.marks.has(mark::SLOWED) || self.meter().is_some_and(|meter| meter.wait_out_ms(rates, now) > 0);
        if barred { 0 } else { rates.bytes_waiting_max(bound) }
    }

    /// How far the out buffer of a connection with a meter may be written just now.
    pub(crate) fn writable_end(&mut self, rates: &Rates, now: Instant) -> usize {
        let tokens = self.meter().map_or(u64::MAX, |meter| meter.bytes_out.tokens(rates.bytes_out, now));
        let most = usize::try_from(tokens).unwrap_or(usize::MAX);
        self.out.len().min(most.saturating_add(self.sent as usize))
    }

    pub(crate) fn count_bytes_out(&mut self, rates: &Rates, bytes: usize) {
        if let Some(meter) = self.meter() {
            meter.bytes_out.take(rates.bytes_out, bytes as u64);
        }
    }
}

impl<T: Send> Shard<T> {
    /// Gives a connection its meter, or takes it away.
    pub(crate) fn set_rates(&mut self, slot: u32, rates: Rates) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let free = rates.are_free();
        conn.flags.marks.put(mark::METERED, !free);
        let single = rates.messages_in.is_bound() || conn.link.mount() > 0 || self.profiles.rewrites(conn.profile);
        conn.flags.marks.put(mark::SINGLE, single);
        if !free {
            conn.rare().meter.get_or_insert_with(|| Box::new(Meter::new(rates, now)));
            return self.check_pace(slot);
        }
        if let Some(rare) = conn.rare.as_deref_mut() {
            rare.meter = None;
        }
        self.release_pace(slot, true, true);
    }

    fn rates_of(&self, slot: u32) -> Rates {
        self.conns.get(slot).map_or(Rates::default(), |conn| self.profiles.profile(conn.profile).rates)
    }

    /// Bytes that a connection with a meter may send just now, and how many to read at most. What waits for a token in
    /// memory is kept short.
    pub(crate) fn readable_bytes(&mut self, slot: u32) -> usize {
        let (rates, now) = (self.rates_of(slot), self.now);
        let Some(meter) = self.conns.get_mut(slot).and_then(Conn::meter) else { return usize::MAX };
        let most = if rates.messages_in.is_bound() { SHORT_TAIL as u64 } else { u64::MAX };
        usize::try_from(meter.bytes_in.tokens(rates.bytes_in, now).min(most)).unwrap_or(usize::MAX)
    }

    pub(crate) fn count_bytes_in(&mut self, slot: u32, bytes: usize) {
        let rates = self.rates_of(slot);
        if let Some(meter) = self.conns.get_mut(slot).and_then(Conn::meter) {
            meter.bytes_in.take(rates.bytes_in, bytes as u64);
        }
    }

    /// A PUBLISH came from a connection with a meter; if that was the last for now, the next one waits.
    pub(crate) fn count_message_in(&mut self, slot: u32) {
        let rates = self.rates_of(slot);
        if let Some(meter) = self.conns.get_mut(slot).and_then(Conn::meter) {
            meter.messages_in.take(rates.messages_in, 1);
        }
        self.throttle(slot);
    }

    /// Stops reading from a connection that has used up its rate, until there is a token again.
    pub(crate) fn throttle(&mut self, slot: u32) {
        let (rates, now) = (self.rates_of(slot), self.now);
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let wait = conn.meter().map_or(0, |meter| meter.wait_in_ms(&rates, now));
        if wait == 0 || conn.flags.holds.has(hold::THROTTLED) {
            return;
        }
        conn.flags.holds.put(hold::THROTTLED, true);
        self.counters.bump(Metric::ReadersThrottled);
        self.set_pace_timer(slot, wait);
    }

    /// A client that is sent nothing for now goes on asking: its answers must not pile up.
    pub(crate) fn throttle_for_answers(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let most = 2 * self.profiles.rates(conn.profile).bytes_waiting_max(self.options.out_buffer_bytes) as usize;
        if conn.unsent() > most {
            conn.flags.holds.put(hold::THROTTLED, true);
            self.counters.bump(Metric::ReadersThrottled);
            self.set_pace_timer(slot, 1);
        }
    }

    /// Whether a connection with a meter may be sent a message. Otherwise it is marked, and its queue goes on later.
    pub(crate) fn may_send(&mut self, slot: u32) -> bool {
        let (rates, now) = (self.rates_of(slot), self.now);
        let Some(conn) = self.conns.get_mut(slot) else { return false };
        let wait = conn.meter().map_or(0, |meter| meter.wait_out_ms(&rates, now));
        if wait > 0 && !conn.flags.marks.has(mark::SLOWED) {
            conn.flags.marks.put(mark::SLOWED, true);
            self.set_pace_timer(slot, wait);
        }
        wait == 0
    }

    /// A message for a connection with a meter was sent, or has to wait.
    pub(crate) fn meter_delivery(&mut self, slot: u32, delivered: Delivered) {
        let rates = self.rates_of(slot);
        if delivered != Delivered::Sent {
            self.may_send(slot);
        } else if let Some(meter) = self.conns.get_mut(slot).and_then(Conn::meter) {
            meter.messages_out.take(rates.messages_out, 1);
        }
    }

    /// Lets the session of a connection with a meter go on with its queue, packet by packet as its rate allows.
    pub(crate) fn pump_metered(&mut self, slot: u32) {
        let mut one = std::mem::take(&mut self.encoded);
        while self.may_send(slot) {
            let Some(conn) = self.conns.get(slot) else { break };
            let bound = self.profiles.rates(conn.profile).bytes_waiting_max(self.options.out_buffer_bytes);
            let Some(conn) = self.conns.get_mut(slot) else { break };
            let Some(resident) = self.sessions.get_mut(conn.session) else { break };
            if conn.room(bound) == 0 {
                break;
            }
            one.clear();
            // Into an empty buffer without room exactly one packet goes.
            let mut env = Env {
                now: self.now,
                limits: self.profiles.limits(conn.profile),
                room: 0,
                out: &mut one,
                report: &mut self.report,
                scratch: &mut self.building,
            };
            let pumped = resident.session.pump(&mut conn.link, &mut env);
            if one.is_empty() {
                conn.flags.pump = pumped.more;
                break;
            }
            self.pool.ready(&mut conn.out);
            conn.out.extend_from_slice(&one);
            self.counters.add(Metric::PublishSent, u64::from(pumped.sent));
            self.meter_delivery(slot, Delivered::Sent);
        }
        self.encoded = one;
        let session = self.conns.get(slot).map(|conn| conn.session);
        session.into_iter().for_each(|session| self.after_pump(session));
    }

    fn set_pace_timer(&mut self, slot: u32, wait_ms: u64) {
        let at = later(self.now, wait_ms);
        let Some(generation) = self.conns.generation(slot) else { return };
        let Some(meter) = self.conns.get_mut(slot).and_then(Conn::meter) else { return };
        // One that fires no later will do: it looks at everything.
        if at < meter.timer_at {
            meter.timer_at = at;
            self.wheel.set(at, Timer { kind: Kind::Pace, slot, generation });
        }
    }

    pub(crate) fn on_pace_timer(&mut self, slot: u32) {
        let now = self.now;
        if let Some(meter) = self.conns.get_mut(slot).and_then(Conn::meter)
            && meter.timer_at <= now
        {
            meter.timer_at = NEVER;
            self.check_pace(slot);
        }
    }

    /// Lets a connection go on if it may, and sets its timer if not.
    fn check_pace(&mut self, slot: u32) {
        let (rates, now) = (self.rates_of(slot), self.now);
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Some(meter) = conn.meter() else { return };
        let (mut wait_in, wait_out) = (meter.wait_in_ms(&rates, now), meter.wait_out_ms(&rates, now));
        if conn.unsent() > rates.bytes_waiting_max(self.options.out_buffer_bytes) as usize {
            wait_in = wait_in.max(wait_out);
        }
        let (held, slowed) = (conn.flags.holds.has(hold::THROTTLED), conn.flags.marks.has(mark::SLOWED));
        self.release_pace(slot, held && wait_in == 0, slowed && wait_out == 0);
        if held && wait_in > 0 {
            self.set_pace_timer(slot, wait_in);
        }
        if slowed && wait_out > 0 {
            self.set_pace_timer(slot, wait_out);
        }
    }

    /// Lets a connection go on with reading, or with being written to.
    fn release_pace(&mut self, slot: u32, reading: bool, writing: bool) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if writing && conn.flags.marks.has(mark::SLOWED) {
            conn.flags.marks.put(mark::SLOWED, false);
            conn.flags.pump = !conn.is_leaving();
            let session = conn.session;
            self.mark_dirty(slot);
            self.serve_retained(self.subscriber_of(session));
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if reading && conn.flags.holds.has(hold::THROTTLED) {
            conn.flags.holds.put(hold::THROTTLED, false);
            // We did not listen meanwhile: the silence was ours.
            conn.last_seen = self.now.0 as u32;
            self.schedule(slot);
        }
    }
}
