//! How long the turns of a shard take, from the end of its wait to the end of its work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the classes that turns are counted in, in microseconds. Longer ones are in a last class without a bound.
pub const TURN_BOUNDS_US: [u64; 14] =
    [10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 1_000_000];

/// Classes of turns: those with a bound, and the last.
const CLASSES: usize = TURN_BOUNDS_US.len() + 1;

/// Written by one shard, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct TurnTimes {
    counts: [AtomicU64; CLASSES],
    sum_ns: AtomicU64,
}

/// What a shard's turns have taken since the start of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnCounts {
    /// Turns by class: as long as the bound of [`TURN_BOUNDS_US`] or shorter, and longer than the bound before.
    pub counts: [u64; CLASSES],
    /// Time in all of them together, in nanoseconds.
    pub sum_ns: u64,
}

impl TurnTimes {
    /// Counts a turn. Only the shard itself may: nobody else writes here, so that no atomic addition is needed.
    pub(crate) fn note(&self, took: Duration) {
        let us = took.as_micros();
        let class = TURN_BOUNDS_US.iter().take_while(|bound| us > u128::from(**bound)).count();
        let add = |cell: &AtomicU64, more| cell.store(cell.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        add(&self.counts[class], 1);
        add(&self.sum_ns, took.as_nanos() as u64);
    }

    pub(crate) fn read(&self) -> TurnCounts {
        TurnCounts {
            counts: std::array::from_fn(|class| self.counts[class].load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_counts_in_the_class_whose_bound_it_does_not_exceed() {
        let times = TurnTimes::default();
        for us in [0, 10, 11, 1000, 1001, 2_000_000] {
            times.note(Duration::from_micros(us));
        }
        let counts = times.read();
        let of = |bound| counts.counts[TURN_BOUNDS_US.iter().position(|at| *at == bound).unwrap()];
        assert_eq!([of(10), of(25), of(1000), of(2500), counts.counts[CLASSES - 1]], [2, 1, 1, 1, 1]);
        assert_eq!(counts.sum_ns, 2_002_022_000);
    }
}
