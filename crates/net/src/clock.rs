//! The clock of a node: milliseconds since its start, the same at all shards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breakwater_proto::time::Instant;

/// One origin for all shards of a node, so that instants can travel between them. Whoever keeps instants for longer than the
/// process lives asks it what they are in Unix time.
#[derive(Clone, Copy, Debug)]
pub struct Origin(std::time::Instant);

/// One shard's view of the clock.
pub(crate) struct Clock {
    origin: Origin,
    /// Wall clock at the origin, read again now and then because it may be set.
    unix_origin_ms: u64,
    refresh_at: u64,
    /// What the last reading showed, to the nanosecond.
    last: Duration,
}

/// The wall clock is read that often, in milliseconds.
const REFRESH_MS: u64 = 1000;

impl Origin {
    /// Starts the clock. One, not zero: zero is "never" in some places.
    #[must_use]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// What the clock shows.
    #[must_use]
    pub fn now(self) -> Instant {
        Instant(shown(self.elapsed()))
    }

    /// Unix time, in milliseconds, at which the clock would have shown zero.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        unix_now_ms().saturating_sub(self.now().0)
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

impl Clock {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, unix_origin_ms: 0, refresh_at: 0, last: Duration::ZERO }
    }

    /// Reads the clock, once per turn: since the start, and the wall clock in milliseconds since 1970.
    pub(crate) fn read(&mut self) -> (Instant, u64) {
        self.last = self.origin.elapsed();
        let now = shown(self.last);
        if now >= self.refresh_at {
            self.unix_origin_ms = unix_now_ms().saturating_sub(now);
            self.refresh_at = now + REFRESH_MS;
        }
        (Instant(now), self.unix_origin_ms + now)
    }

    /// Time since the last reading.
    pub(crate) fn since(&self) -> Duration {
        self.origin.elapsed().saturating_sub(self.last)
    }
}

/// Milliseconds, from 1 on.
fn shown(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

fn unix_now_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shards_read_the_same_clock() {
        let origin = Origin::start();
        let (mut a, mut b) = (Clock::new(origin), Clock::new(origin));
        let (first, unix) = a.read();
        let (second, _) = b.read();
        assert!(second >= first && first.0 >= 1);
        assert!(unix > 1_600_000_000_000, "milliseconds since 1970");
    }
}
