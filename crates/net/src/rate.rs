//! How often something may happen: a token bucket that all shards share.

use std::sync::atomic::{AtomicU64, Ordering};

use breakwater_proto::Instant;

/// A bucket in one number: the time at which it would be full again, in nanoseconds of the node's clock.
///
/// Every token taken moves that time on by the time in which one token comes; the bucket is empty when it lies further ahead
/// than a full bucket takes to fill.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

impl Bucket {
    /// When the next token is there: none if one is there now, or if there is no bound.
    pub(crate) fn empty_until(&self, per_second: u32, burst: u32, now: Instant) -> Option<Instant> {
        let (step, depth) = shape(per_second, burst)?;
        let full_at = self.0.load(Ordering::Relaxed);
        let there_at = full_at.saturating_add(step).saturating_sub(depth);
        (there_at > now.0.saturating_mul(NS_PER_MS)).then(|| Instant(there_at.div_ceil(NS_PER_MS)))
    }

    /// Takes a token. What several shards take at the same moment beyond the last token is owed by all of them together.
    pub(crate) fn take(&self, per_second: u32, burst: u32, now: Instant) {
        let Some((step, _)) = shape(per_second, burst) else { return };
        let now = now.0.saturating_mul(NS_PER_MS);
        let next = |full_at: u64| Some(full_at.max(now).saturating_add(step));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// Nanoseconds per token, and of a full bucket. The clock counts milliseconds: a bucket below what comes in two of them
/// would lose tokens.
fn shape(per_second: u32, burst: u32) -> Option<(u64, u64)> {
    let step = NS_PER_S.checked_div(u64::from(per_second))?;
    let depth = u64::from(burst.max(per_second.div_ceil(500)).max(1));
    Some((step, step * depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what can be had from `from` to `until`, looking whenever the bucket says so.
    fn taken(bucket: &Bucket, per_second: u32, burst: u32, from: u64, until: u64) -> u32 {
        let (mut now, mut count) = (Instant(from), 0);
        while now.0 < until {
            match bucket.empty_until(per_second, burst, now) {
                Some(later) => {
                    assert!(later > now, "no busy loop");
                    now = later;
                }
                None => {
                    bucket.take(per_second, burst, now);
                    count += 1;
                }
            }
        }
        count
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, 10, 5, 1000, 1001), 5);
        assert_eq!(taken(&bucket, 10, 5, 1001, 3001), 20);
    }

    #[test]
    fn a_rate_beyond_the_clock_is_kept_too() {
        let bucket = Bucket::default();
        let count = taken(&bucket, 100_000, 1, 1000, 2000);
        assert!((99_000..=100_300).contains(&count), "{count}");
    }

    #[test]
    fn a_pause_earns_no_more_than_a_burst() {
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, 10, 3, 1000, 1001), 3);
        assert_eq!(taken(&bucket, 10, 3, 60_000, 60_001), 3);
    }

    #[test]
    fn no_rate_is_no_bound() {
        let bucket = Bucket::default();
        assert!((0..1000).all(|_| {
            bucket.take(0, 0, Instant(1));
            bucket.empty_until(0, 0, Instant(1)).is_none()
        }));
    }
}
