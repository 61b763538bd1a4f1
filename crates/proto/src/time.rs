//! Time as the pure crates see it: a number that the caller hands in.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Milliseconds of a monotonic clock. Nobody in the pure crates reads a clock: the shard does, once per turn.
///
/// All arithmetic saturates, so that a client's `u32::MAX` seconds can't wrap into the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    pub const ZERO: Instant = Instant(0);
    /// Later than every moment that comes.
    pub const NEVER: Instant = Instant(u64::MAX);

    #[inline]
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms))
    }

    #[inline]
    #[must_use]
    pub const fn plus_s(self, seconds: u32) -> Instant {
        Instant(self.0.saturating_add((seconds as u64).saturating_mul(1000)))
    }

    #[inline]
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Instant {
        Instant(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to here, 0 when `earlier` is later.
    #[inline]
    #[must_use]
    pub const fn ms_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds from here to `later`, rounded up, 0 when it has passed: what a Message Expiry Interval counts down.
    #[inline]
    #[must_use]
    pub fn s_until(self, later: Instant) -> u32 {
        let ms = later.0.saturating_sub(self.0);
        u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    #[inline]
    fn add(self, rhs: Duration) -> Instant {
        self.plus_ms(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Sub for Instant {
    type Output = Duration;
    #[inline]
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.ms_since(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        assert_eq!(Instant::NEVER.plus_ms(1), Instant::NEVER);
        assert_eq!(Instant(5).minus_ms(6), Instant::ZERO);
        assert_eq!(Instant(5).plus_s(u32::MAX), Instant(5 + 4_294_967_295_000));
        assert_eq!(Instant(5).ms_since(Instant(9)), 0);
        assert_eq!(Instant(5) + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant(5) - Instant(2), Duration::from_millis(3));
    }

    #[test]
    fn seconds_until_are_rounded_up() {
        assert_eq!(Instant(1).s_until(Instant(1)), 0);
        assert_eq!(Instant(1).s_until(Instant(2)), 1);
        assert_eq!(Instant(1).s_until(Instant(1001)), 1);
        assert_eq!(Instant(1).s_until(Instant(1002)), 2);
        assert_eq!(Instant(9).s_until(Instant(1)), 0);
        assert_eq!(Instant::ZERO.s_until(Instant::NEVER), u32::MAX);
    }
}
