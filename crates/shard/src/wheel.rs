//! Timers of a shard: a hashed wheel, coarse and cheap.
//!
//! Who set a timer checks, when it fires, whether it still matters (a keep-alive that saw traffic sets itself again), so
//! that traffic costs no search. Only the timer of a connection that ends is taken back: clients that come and go would
//! otherwise leave one each behind.

use breakwater_proto::Instant;

/// Length of a tick in milliseconds. Keep-alive counts in seconds: a tenth is precise enough.
const TICK_MS: u64 = 64;
/// Buckets: with the tick, about four minutes before a timer goes round.
const BUCKETS: usize = 4096;

/// What a timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection that has not become a client.
    Connect,
    /// Keep-alive of a connection.
    KeepAlive,
    /// A connection with unsent bytes.
    Stall,
    /// A session without a connection: its will, its end.
    Session,
    /// A connection that waits for a verdict.
    Verdict,
    /// A connection that may last so long.
    Lifetime,
    /// A connection that has used up its rate.
    Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) kind: Kind,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

#[derive(Debug)]
struct Entry {
    /// Absolute tick; wraps after eight years.
    tick: u32,
    timer: Timer,
}

#[derive(Debug)]
pub(crate) struct Wheel {
    buckets: Vec<Vec<Entry>>,
    /// One bit per bucket that holds anything.
    filled: [u64; BUCKETS / 64],
    /// First tick not yet done.
    next_tick: u64,
    len: usize,
}

impl Wheel {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
            filled: [0; BUCKETS / 64],
            next_tick: now.0 / TICK_MS,
            len: 0,
        }
    }

    /// Fires `timer` at `at` or up to a tick later, never before. Answers the tick, by which it can be taken back.
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) -> u32 {
        let tick = (at.0.div_ceil(TICK_MS)).max(self.next_tick);
        let bucket = tick as usize % BUCKETS;
        self.buckets[bucket].push(Entry { tick: tick as u32, timer });
        self.filled[bucket / 64] |= 1 << (bucket % 64);
        self.len += 1;
        tick as u32
    }

    /// Takes back the timer of a slot that was set for `tick`; nothing if it has fired. Costs a look at what fires at about
    /// the same time.
    pub(crate) fn cancel(&mut self, tick: u32, slot: u32, generation: u32, kind: Kind) {
        let timer = Timer { kind, slot, generation };
        let bucket = tick as usize % BUCKETS;
        let entries = &mut self.buckets[bucket];
        if let Some(index) = entries.iter().position(|entry| entry.timer == timer) {
            entries.swap_remove(index);
            self.len -= 1;
            self.tidy(bucket);
        }
    }

    /// An empty bucket keeps no memory: with thousands of them it would add up.
    fn tidy(&mut self, bucket: usize) {
        if self.buckets[bucket].is_empty() {
            self.buckets[bucket] = Vec::new();
            self.filled[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Moves up to `budget` due timers into `due`. Answers whether more are due.
    pub(crate) fn advance(&mut self, now: Instant, budget: usize, due: &mut Vec<Timer>) -> bool {
        let now_tick = now.0 / TICK_MS;
        if self.len == 0 {
            self.next_tick = self.next_tick.max(now_tick + 1);
            return false;
        }
        // After a jump longer than the wheel every bucket is looked at once.
        if now_tick.saturating_sub(self.next_tick) >= BUCKETS as u64 {
            for bucket in 0..BUCKETS {
                self.take_due(bucket, now_tick, budget, due);
            }
            if due.len() >= budget {
                return true;
            }
            self.next_tick = now_tick + 1;
            return false;
        }
        while self.next_tick <= now_tick {
            let bucket = self.next_tick as usize % BUCKETS;
            if self.filled[bucket / 64] & (1 << (bucket % 64)) != 0 {
                self.take_due(bucket, now_tick, budget, due);
                if due.len() >= budget {
                    return true;
                }
            }
            self.next_tick += 1;
        }
        false
    }

    fn take_due(&mut self, bucket: usize, now_tick: u64, budget: usize, due: &mut Vec<Timer>) {
        let entries = &mut self.buckets[bucket];
        let mut index = 0;
        while index < entries.len() && due.len() < budget {
            if now_tick as u32 >= entries[index].tick {
                due.push(entries.swap_remove(index).timer);
                self.len -= 1;
            } else {
                index += 1;
            }
        }
        self.tidy(bucket);
    }

    /// When to look again: never later than the earliest timer, at most one round of the wheel early.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let start = self.next_tick as usize % BUCKETS;
        let words = self.filled.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.filled[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Some(Instant((self.next_tick + ahead as u64) * TICK_MS));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(slot: u32) -> Timer {
        Timer { kind: Kind::KeepAlive, slot, generation: 1 }
    }

    fn due_at(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(Instant(now), usize::MAX, &mut due);
        let mut slots: Vec<u32> = due.iter().map(|timer| timer.slot).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_timer_fires_not_before_its_time_and_within_a_tick() {
        let mut wheel = Wheel::new(Instant(5));
        wheel.set(Instant(1000), timer(1));
        assert!(due_at(&mut wheel, 999).is_empty());
        assert_eq!(due_at(&mut wheel, 1000 + TICK_MS), [1]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_timer_beyond_the_horizon_waits_for_its_round() {
        let horizon = TICK_MS * BUCKETS as u64;
        let mut wheel = Wheel::new(Instant(0));
        wheel.set(Instant(horizon + 500), timer(1));
        wheel.set(Instant(500), timer(2));
        assert_eq!(due_at(&mut wheel, 600), [2]);
        assert!(due_at(&mut wheel, horizon).is_empty());
        assert_eq!(due_at(&mut wheel, horizon + 600), [1]);
    }

    #[test]
    fn a_long_jump_fires_everything_that_is_due() {
        let mut wheel = Wheel::new(Instant(0));
        for slot in 0..100 {
            wheel.set(Instant(u64::from(slot) * 3000), timer(slot));
        }
        assert_eq!(due_at(&mut wheel, 1_000_000).len(), 100);
    }

    #[test]
    fn a_timer_that_was_taken_back_does_not_fire() {
        let mut wheel = Wheel::new(Instant(0));
        let tick = wheel.set(Instant(1000), timer(1));
        wheel.set(Instant(1000), timer(2));
        wheel.cancel(tick, 1, 1, Kind::KeepAlive);
        wheel.cancel(tick, 3, 1, Kind::KeepAlive);
        assert_eq!(due_at(&mut wheel, 2000), [2]);
        wheel.cancel(tick, 2, 1, Kind::KeepAlive);
        assert_eq!((wheel.len, wheel.next()), (0, None));
        assert!(wheel.buckets.iter().all(|bucket| bucket.capacity() == 0));
    }

    #[test]
    fn a_budget_leaves_the_rest_for_later() {
        let mut wheel = Wheel::new(Instant(0));
        for slot in 0..10 {
            wheel.set(Instant(100), timer(slot));
        }
        let mut due = Vec::new();
        assert!(wheel.advance(Instant(200), 4, &mut due));
        assert_eq!(due.len(), 4);
        due.clear();
        assert!(!wheel.advance(Instant(200), 100, &mut due));
        assert_eq!(due.len(), 6);
    }

    #[test]
    fn next_is_never_later_than_the_earliest_timer() {
        let mut wheel = Wheel::new(Instant(0));
        for at in [70_000_u64, 1_000, 250_000, 400_000] {
            wheel.set(Instant(at), timer(at as u32));
            assert!(wheel.next().is_some_and(|next| next.0 <= at + TICK_MS));
        }
        let next = wheel.next().expect("timers are set");
        assert!(next.0 <= 1_000 + TICK_MS && next.0 >= 900);
    }
}
