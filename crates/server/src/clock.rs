//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of Unix time. A clock that stands before 1970 counts as standing there.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The same, to calculate with.
pub(crate) fn now_unix_s() -> i64 {
    i64::try_from(now_s()).unwrap_or(i64::MAX)
}
