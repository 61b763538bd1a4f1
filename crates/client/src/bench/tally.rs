//! What arrived: order, gaps, duplicates and latency.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

/// Gaps remembered per flow, so that a late arrival is told from a duplicate. Older ones stay counted as lost.
const GAPS_MAX: usize = 4096;

/// Messages of one publisher to one subscriber.
#[derive(Debug, Default)]
pub(super) struct Flow {
    expected: u32,
    gaps: VecDeque<(u32, u32)>, // [from, to), oldest first
}

#[derive(Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    Next,
    /// So many before it have not come.
    After(u32),
    /// Fills a gap: out of order.
    Late,
    Duplicate,
}

impl Flow {
    pub(super) fn starting_at(sequence: u32) -> Flow {
        Flow { expected: sequence, gaps: VecDeque::new() }
    }

    #[inline]
    pub(super) fn arrive(&mut self, sequence: u32) -> Arrival {
        if sequence == self.expected {
            self.expected = sequence.wrapping_add(1);
            return Arrival::Next;
        }
        self.out_of_turn(sequence)
    }

    #[cold]
    fn out_of_turn(&mut self, sequence: u32) -> Arrival {
        let ahead = sequence.wrapping_sub(self.expected);
        if ahead < 1 << 31 {
            if self.gaps.len() == GAPS_MAX {
                self.gaps.pop_front();
            }
            self.gaps.push_back((self.expected, sequence));
            self.expected = sequence.wrapping_add(1);
            return Arrival::After(ahead);
        }
        match self.gaps.iter().position(|(from, to)| (*from..*to).contains(&sequence)) {
            Some(at) => {
                let (from, to) = self.gaps.remove(at).expect("just found");
                let parts = [(sequence + 1, to), (from, sequence)];
                for part in parts.into_iter().filter(|(from, to)| from < to) {
                    self.gaps.insert(at, part);
                }
                Arrival::Late
            }
            None => Arrival::Duplicate,
        }
    }
}

/// Sums over all subscribers of a run.
#[derive(Debug)]
pub(super) struct Tally {
    /// Messages that arrived, each counted once.
    pub(super) unique: u64,
    pub(super) duplicates: u64,
    /// Came after a later one of the same publisher.
    pub(super) late: u64,
    /// Missing although a later one has come: proven loss.
    pub(super) gaps: u64,
    /// On a topic that the subscriber did not ask for, or without a stamp.
    pub(super) strange: u64,
    pub(super) latency: Histogram<u64>,
    /// Only messages due in this span count for latency.
    pub(super) span_ns: std::ops::Range<u64>,
    run: Run,
}

/// Messages of one write that arrive in one read share a latency: they are recorded together.
#[derive(Debug, Default)]
struct Run {
    due_ns: u64,
    now_ns: u64,
    count: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            unique: 0,
            duplicates: 0,
            late: 0,
            gaps: 0,
            strange: 0,
            // 1 µs to 10 minutes at three digits; resolution below 1 µs costs memory and tells nothing on loopback.
            latency: Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are in order"),
            span_ns: 0..u64::MAX,
            run: Run::default(),
        }
    }

    #[inline]
    pub(super) fn latency_of(&mut self, due_ns: u64, now_ns: u64) {
        if due_ns == self.run.due_ns && now_ns == self.run.now_ns {
            self.run.count += 1;
        } else {
            self.close_run();
            self.run = Run { due_ns, now_ns, count: 1 };
        }
    }

    pub(super) fn close_run(&mut self) {
        let Run { due_ns, now_ns, count } = self.run;
        if count > 0 && self.span_ns.contains(&due_ns) {
            let value = now_ns.saturating_sub(due_ns);
            self.latency.saturating_record_n(value, count);
        }
        self.run.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_loss_until_it_is_filled() {
        let mut flow = Flow::default();
        assert_eq!(flow.arrive(0), Arrival::Next);
        assert_eq!(flow.arrive(5), Arrival::After(4));
        assert_eq!(flow.arrive(3), Arrival::Late);
        assert_eq!(flow.arrive(3), Arrival::Duplicate);
        assert_eq!(flow.arrive(1), Arrival::Late);
        assert_eq!(flow.arrive(2), Arrival::Late);
        assert_eq!(flow.arrive(4), Arrival::Late);
        assert_eq!(flow.arrive(4), Arrival::Duplicate);
        assert_eq!(flow.arrive(6), Arrival::Next);
        assert_eq!(flow.arrive(0), Arrival::Duplicate);
    }

    #[test]
    fn sequence_numbers_may_wrap() {
        let mut flow = Flow::starting_at(u32::MAX);
        assert_eq!(flow.arrive(u32::MAX), Arrival::Next);
        assert_eq!(flow.arrive(0), Arrival::Next);
        assert_eq!(flow.arrive(u32::MAX), Arrival::Duplicate);
    }

    #[test]
    fn only_messages_due_in_the_span_count_for_latency() {
        let mut tally = Tally::new();
        tally.span_ns = 100..200;
        for due in [50, 150, 150, 250] {
            tally.latency_of(due, 5_000_250);
        }
        tally.close_run();
        assert_eq!(tally.latency.len(), 2);
        assert!(tally.latency.max() >= 5_000_000);
    }
}
