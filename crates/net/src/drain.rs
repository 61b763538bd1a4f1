//! How the connections of a listener are ended: at once, or spread over a time, so that they don't all come back together.

use std::sync::Arc;

use breakwater_proto::Instant;

use crate::roll::Listener;

/// Listeners whose connections this shard is ending.
#[derive(Default)]
pub(crate) struct Drains(Vec<Drain>);

struct Drain {
    listener: Arc<Listener>,
    /// All are to be gone by then.
    until: Instant,
    /// When to end the next ones.
    next: Instant,
}

/// What to end now.
pub(crate) struct Portion {
    pub(crate) listener: u16,
    pub(crate) at_most: usize,
    at: usize,
}

/// Time between two portions.
const STEP_MS: u64 = 20;
/// Connections that are ended at once: each has last words, and a session to see to.
const PORTION_MAX: usize = 1024;
/// Connections that were on their way between shards come to light later; those that still don't end are given up then.
const GRACE_MS: u64 = 60_000;

impl Drains {
    pub(crate) fn add(&mut self, listener: Arc<Listener>, now: Instant, over_ms: u64) {
        self.0.push(Drain { listener, until: now.plus_ms(over_ms), next: now });
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|drain| drain.next).min()
    }

    /// The next portion that is due; `here` tells how many connections of a listener the shard has.
    pub(crate) fn portion(&mut self, now: Instant, here: impl Fn(u16) -> u32) -> Option<Portion> {
        self.0.retain(|drain| drain.listener.open() > 0 && now < drain.until.plus_ms(GRACE_MS));
        let at = self.0.iter().position(|drain| drain.next <= now)?;
        let drain = &mut self.0[at];
        let here = here(drain.listener.number) as usize;
        let steps = drain.until.ms_since(now) / STEP_MS + 1;
        let at_most = here.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX)).min(PORTION_MAX);
        drain.next = now.plus_ms(STEP_MS);
        Some(Portion { listener: drain.listener.number, at_most, at })
    }

    /// Takes note of how many connections a portion has left behind: when the time is over the next one comes at once.
    pub(crate) fn left(&mut self, portion: &Portion, left: usize, now: Instant) {
        if let Some(drain) = self.0.get_mut(portion.at)
            && left > 0
            && drain.until <= now
        {
            drain.next = now.plus_ms(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::ListenerOptions;
    use crate::roll::{Pass, Roll, Standing, Terms};

    /// Ends all of `count` connections over `over_ms`, and gives the times and sizes of the portions.
    fn drained(count: u32, over_ms: u64) -> Vec<(u64, usize)> {
        let standing = Arc::new(Standing::new("tcp.test".into(), 0, Arc::default()));
        let listener = Roll::default().enroll(&standing).expect("a number");
        let terms = Terms::new(ListenerOptions::default());
        let mut passes: Vec<Pass> =
            (0..count).map(|_| Pass::enter(&listener, &terms, usize::MAX).expect("room")).collect();
        let mut drains = Drains::default();
        drains.add(listener, Instant(1000), over_ms);
        let mut portions = Vec::new();
        while let Some(now) = drains.next() {
            let here = u32::try_from(passes.len()).expect("few");
            while let Some(portion) = drains.portion(now, |_| here) {
                let left = passes.len().saturating_sub(portion.at_most);
                passes.truncate(left);
                portions.push((now.0 - 1000, portion.at_most));
                drains.left(&portion, left, now);
            }
        }
        assert!(passes.is_empty());
        portions
    }

    #[test]
    fn connections_end_evenly_over_the_time() {
        let portions = drained(100, 200);
        assert_eq!(portions.len(), 11);
        assert!(portions.iter().all(|(at, count)| *at <= 200 && (9..=10).contains(count)), "{portions:?}");
    }

    #[test]
    fn few_connections_end_within_the_time() {
        assert_eq!(drained(2, 10_000), [(0, 1), (20, 1)]);
    }

    #[test]
    fn a_cut_is_done_in_bounded_portions() {
        assert_eq!(drained(3000, 0), [(0, 1024), (1, 1024), (2, 952)]);
    }
}
