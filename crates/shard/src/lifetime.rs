//! The longest time that a connection lasts, where its listener bounds it.

use breakwater_proto::Instant;

use crate::conn::Cause;
use crate::driver::Driver;
use crate::shard::{Shard, later};
use crate::timers::HORIZON_MS;
use crate::wheel::{Kind, Timer};

/// Clients that came together leave within this part of their lifetime, not all at once and back at once.
const SPREAD: u64 = 10;

/// Of one connection.
#[derive(Debug)]
pub(crate) struct Lifetime {
    since: Instant,
    ends_at: Instant,
    /// Tick of its timer.
    tick: u32,
}

impl<T: Send> Shard<T> {
    /// Sets or changes the lifetime of a connection; 0 for none.
    pub(crate) fn set_lifetime(&mut self, slot: u32, lifetime_ms: u64) {
        let Some(generation) = self.conns.generation(slot) else { return };
        let chance = if lifetime_ms > 0 { self.chance() } else { 0 };
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let old = conn.rare.as_mut().and_then(|rare| rare.lifetime.take());
        if let Some(old) = &old {
            self.wheel.cancel(old.tick, slot, generation, Kind::Lifetime);
        }
        if lifetime_ms == 0 {
            return;
        }
        let since = old.map_or(self.now, |old| old.since);
        let spread = chance % (lifetime_ms / SPREAD + 1);
        // Never longer than asked for. Whoever is overdue at once, because the time was made shorter, leaves bit by bit too.
        let ends_at =
            later(since, lifetime_ms - spread).max(later(self.now, if since < self.now { spread } else { 0 }));
        let tick = self.set_lifetime_timer(slot, generation, ends_at);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.rare().lifetime = Some(Box::new(Lifetime { since, ends_at, tick }));
        }
    }

    fn set_lifetime_timer(&mut self, slot: u32, generation: u32, ends_at: Instant) -> u32 {
        let at = ends_at.min(later(self.now, HORIZON_MS));
        self.wheel.set(at, Timer { kind: Kind::Lifetime, slot, generation })
    }

    pub(crate) fn on_lifetime_timer<D: Driver<Transport = T>>(&mut self, driver: &mut D, timer: Timer) {
        let lifetime = self.conns.get(timer.slot).and_then(|conn| conn.rare.as_ref()?.lifetime.as_ref());
        let Some(ends_at) = lifetime.map(|lifetime| lifetime.ends_at) else { return };
        if ends_at <= self.now {
            self.close(driver, timer.slot, Cause::Lifetime);
            return;
        }
        let tick = self.set_lifetime_timer(timer.slot, timer.generation, ends_at);
        let rare = self.conns.get_mut(timer.slot).and_then(|conn| conn.rare.as_mut());
        if let Some(lifetime) = rare.and_then(|rare| rare.lifetime.as_mut()) {
            lifetime.tick = tick;
        }
    }

    /// Takes back the timer of a connection that is gone from its slot.
    pub(crate) fn forget_lifetime(&mut self, slot: u32, generation: u32, lifetime: &Lifetime) {
        self.wheel.cancel(lifetime.tick, slot, generation, Kind::Lifetime);
    }
}
