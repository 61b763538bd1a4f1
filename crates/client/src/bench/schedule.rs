//! When open-loop messages are due, and the timer that wakes the generator for them.

use std::io;
use std::time::Duration;

use mio::{Interest, Registry, Token};

/// Shortest time between two wake-ups. Above 50,000 messages per second several are due at once: they are spaced
/// closer than a sleeping thread can be woken.
const TICK_NS_MIN: u64 = 20_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Message `k` is due at `start + k / rate`, rounded up to the tick.
#[derive(Debug)]
pub(super) struct Schedule {
    start_ns: u64,
    rate: u64,
    tick_ns: u64,
    issued: u64,
}

impl Schedule {
    pub(super) fn new(start_ns: u64, rate: u32) -> Schedule {
        let rate = u64::from(rate);
        Schedule { start_ns, rate, tick_ns: (SECOND_NS / rate).max(TICK_NS_MIN), issued: 0 }
    }

    /// When the next message is due.
    pub(super) fn next_due_ns(&self) -> u64 {
        let whole = self.issued / self.rate * SECOND_NS;
        let part = self.issued % self.rate * SECOND_NS / self.rate;
        let at = if self.tick_ns > TICK_NS_MIN { part } else { part.div_ceil(self.tick_ns) * self.tick_ns };
        self.start_ns + whole + at
    }

    /// The next message if it is due by now: its number and when it was due.
    #[inline]
    pub(super) fn take_due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let due_ns = self.next_due_ns();
        (due_ns <= now_ns).then(|| {
            let number = self.issued;
            self.issued += 1;
            (number, due_ns)
        })
    }
}

/// Wakes the poller at a given time, to the microsecond: the poller's own timeout knows milliseconds only.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct Alarm {
    timer: std::os::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        use std::os::fd::AsRawFd;

        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut mio::unix::SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Alarm { timer })
    }

    /// Setting the timer also clears what it had counted, so it need not be read.
    pub(super) fn set(&self, after: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let after = after.max(Duration::from_nanos(1)); // zero would switch it off
        let it_value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(after.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// How long the poller may sleep at most.
    pub(super) fn poll_timeout(&self, idle: Duration) -> Duration {
        idle
    }
}

/// Elsewhere the poller's own timeout has to do.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new(_: &Registry, _: Token) -> io::Result<Alarm> {
        Ok(Alarm)
    }

    pub(super) fn set(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn poll_timeout(&self, _: Duration) -> Duration {
        Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(rate: u32, until_ns: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(1000, rate);
        std::iter::from_fn(|| schedule.take_due(1000 + until_ns)).map(|(_, due)| due - 1000).collect()
    }

    #[test]
    fn messages_are_evenly_spaced_from_the_start() {
        assert_eq!(dues(5000, 600_000), [0, 200_000, 400_000, 600_000]);
        assert_eq!(dues(3, SECOND_NS), [0, 333_333_333, 666_666_666, SECOND_NS]);
    }

    #[test]
    fn above_the_tick_rate_several_are_due_together() {
        let dues = dues(200_000, 40_000);
        assert_eq!(dues, [0, 20_000, 20_000, 20_000, 20_000, 40_000, 40_000, 40_000, 40_000]);
    }

    #[test]
    fn no_message_is_skipped_over_a_long_run() {
        let mut schedule = Schedule::new(0, 70_000);
        let mut count = 0;
        while schedule.take_due(10 * SECOND_NS - TICK_NS_MIN).is_some() {
            count += 1;
        }
        assert_eq!(count, 699_999);
    }
}
