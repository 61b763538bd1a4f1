//! Time as the payloads carry it: nanoseconds since 1970 that never run backwards within a process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Two processes on one machine agree on it closely enough to measure what one sends and the other receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
    epoch_ns: u64,
}

impl Clock {
    pub(super) fn new() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { origin: Instant::now(), epoch_ns: u64::try_from(since.as_nanos()).unwrap_or(0) }
    }

    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        let elapsed = self.origin.elapsed();
        self.epoch_ns + elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }
}
