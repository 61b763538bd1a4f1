//! Timers that have fired: each checks whether it still matters.

use breakwater_contract::Metric;
use breakwater_proto::ReasonCode;

use crate::conn::{Cause, Conn, NONE, Phase, hold, mark};
use crate::driver::Driver;
use crate::shard::{NEVER, Shard, later};
use crate::wheel::{Kind, Timer};

/// No timer is set further ahead: a later one looks again on the way. Those of sessions are not taken back, and would
/// otherwise lie in the wheel for hours or days, and clients that come and go with long intervals could fill the memory
/// with them.
pub(crate) const HORIZON_MS: u64 = 60_000;

impl<T: Send> Shard<T> {
    /// Fires what is due, to a bound. Answers whether more is.
    pub(crate) fn fire_timers<D: Driver<Transport = T>>(&mut self, driver: &mut D) -> bool {
        let mut due = std::mem::take(&mut self.due);
        due.clear();
        let more = self.wheel.advance(self.now, self.options.turn.timers as usize, &mut due);
        for timer in &due {
            self.fire(driver, *timer);
        }
        if due.capacity() > 4096 {
            due = Vec::new();
        }
        self.due = due;
        more
    }

    fn fire<D: Driver<Transport = T>>(&mut self, driver: &mut D, timer: Timer) {
        let Timer { kind, slot, generation } = timer;
        let current = match kind {
            Kind::Connect | Kind::KeepAlive | Kind::Stall | Kind::Verdict | Kind::Lifetime | Kind::Pace => {
                self.conns.generation(slot)
            }
            Kind::Session => self.sessions.generation(slot),
        };
        if current != Some(generation) {
            return;
        }
        match kind {
            Kind::Connect => self.on_connect_timer(driver, slot),
            Kind::KeepAlive => self.on_keep_alive_timer(driver, timer),
            Kind::Stall => self.on_stall_timer(driver, timer),
            Kind::Verdict => self.on_verdict_timer(driver, slot),
            Kind::Lifetime => self.on_lifetime_timer(driver, timer),
            Kind::Pace => self.on_pace_timer(slot),
            Kind::Session => self.on_session_timer(driver, slot),
        }
    }

    fn on_connect_timer<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        if self.conns.get(slot).is_some_and(|conn| matches!(conn.phase, Phase::Porch { .. } | Phase::Admission(_))) {
            self.close(driver, slot, Cause::ConnectTimeout);
        }
    }

    /// Lazy: traffic does not touch the timer, the timer looks for traffic.
    fn on_keep_alive_timer<D: Driver<Transport = T>>(&mut self, driver: &mut D, timer: Timer) {
        let Some(conn) = self.conns.get_mut(timer.slot) else { return };
        let silent_ms = (self.now.0 as u32).wrapping_sub(conn.last_seen);
        // While we don't read, silence is ours.
        let ours = conn.held() || conn.flags.again;
        if silent_ms >= conn.keep_alive_ms && !ours {
            self.close(driver, timer.slot, Cause::KeepAlive); // [MQTT-3.1.2-22] [MQTT3-3.1.2-24]
            return;
        }
        // A good moment to give back what busier times have left behind.
        let session = conn.session;
        if let Some(resident) = self.sessions.get_mut(session) {
            resident.session.trim();
        }
        let wait = if ours { 1000 } else { u64::from(conn.keep_alive_ms - silent_ms).min(HORIZON_MS) };
        self.forget_tail_of(session);
        let tick = self.wheel.set(later(self.now, wait), timer);
        if let Some(conn) = self.conns.get_mut(timer.slot) {
            conn.timer_tick = tick;
        }
    }

    /// Takes back the timers of a connection that is gone from its slot.
    pub(crate) fn forget_timer(&mut self, slot: u32, generation: u32, conn: &Conn) {
        let kind = if conn.keep_alive_ms > 0 { Kind::KeepAlive } else { Kind::Connect };
        self.wheel.cancel(conn.timer_tick, slot, generation, kind);
        if let Some(lifetime) = conn.rare.as_ref().and_then(|rare| rare.lifetime.as_ref()) {
            self.forget_lifetime(slot, generation, lifetime);
        }
    }

    fn on_stall_timer<D: Driver<Transport = T>>(&mut self, driver: &mut D, timer: Timer) {
        let Some(conn) = self.conns.get_mut(timer.slot) else { return };
        if !conn.flags.blocked {
            conn.flags.marks.put(mark::STALL_TIMER, false);
            return;
        }
        if conn.flags.holds.has(hold::UNSTORED) {
            // It is not the client that takes nothing.
            conn.stalled_since = self.now.0 as u32;
        }
        let stalled_ms = (self.now.0 as u32).wrapping_sub(conn.stalled_since);
        if stalled_ms >= self.options.write_stall_ms {
            self.close(driver, timer.slot, Cause::Stalled);
            return;
        }
        let wait = u64::from(self.options.write_stall_ms - stalled_ms);
        self.wheel.set(later(self.now, wait), timer);
    }

    /// Who does not answer in time has said no.
    fn on_verdict_timer<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let parked = conn.flags.holds.has(hold::PARKED);
        let Some(rare) = conn.rare.as_deref_mut() else { return };
        if !parked || rare.questions.until.0 > self.now.0 {
            return;
        }
        if rare.questions.open > 0 {
            rare.questions.open = 0;
            rare.questions.overdue = true;
            self.unpark(slot);
        } else if rare.reauthenticating {
            self.close(driver, slot, Cause::AuthFailed(ReasonCode::NotAuthorized)); // [MQTT-4.12.1-2]
        }
    }

    /// Sets the timer of a session without a connection: for its will, its end or a look on the way.
    pub(crate) fn watch(&mut self, session: u32) {
        let Some(generation) = self.sessions.generation(session) else { return };
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let will_at = if resident.will_pending { resident.will_at } else { NEVER };
        let due = will_at.min(resident.expires_at);
        let at = due.min(later(self.now, HORIZON_MS));
        // One that is set and fires no later will do: a client that comes and goes has one timer, not one for each time.
        if due != NEVER && at < resident.check_at {
            resident.check_at = at;
            self.wheel.set(at, Timer { kind: Kind::Session, slot: session, generation });
        }
    }

    fn on_session_timer<D: Driver<Transport = T>>(&mut self, driver: &mut D, session: u32) {
        let now = self.now;
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if now < resident.check_at {
            return;
        }
        resident.check_at = NEVER;
        if resident.conn != NONE {
            return; // [MQTT-4.1.0-1] [MQTT3-4.1.0-2]
        }
        let (will_due, over) = (resident.will_pending && resident.will_at <= now, resident.expires_at <= now);
        if will_due {
            self.publish_will(driver, session);
        }
        if over {
            self.counters.bump(Metric::SessionsExpired);
            self.end_session(driver, session); // [MQTT-4.1.0-2]
        } else {
            if will_due {
                self.record_session(session, false);
            }
            self.watch(session);
        }
    }
}
