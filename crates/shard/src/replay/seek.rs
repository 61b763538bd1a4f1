//! Where in a queue that is in order of time a moment lies, asked one message at a time.

use breakwater_contract::store::{Answer, Position, Question, SessionNumber};

/// Beyond all positions.
const END: u64 = 1 << 62;

/// Everything up to `low` came before the moment; behind `high` nothing did, or it is not known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seek {
    low: u64,
    high: u64,
    before_ms: u64,
}

impl Seek {
    /// `last`: a position near the end, 0 if none is known. What lies behind it is left in.
    pub(crate) fn new(last: Position, before_ms: u64) -> Self {
        let high = if last.0 == 0 { END } else { last.0.saturating_add(1) };
        Self { low: 0, high, before_ms }
    }

    pub(crate) fn question(&self, session: SessionNumber) -> Question {
        Question::Queue { session, after: Position(self.probe()), messages_max: 1, bytes_max: 1 }
    }

    /// Takes in the answer. The last position that lies before the moment, once that is known; `Err`: the store could not say.
    pub(crate) fn on_answer(&mut self, answer: &Answer) -> Result<Option<Position>, ()> {
        let Answer::Queue { messages, .. } = answer else { return Err(()) };
        let probe = self.probe();
        match messages.first() {
            Some(queued) if queued.unix_ms < self.before_ms => self.low = queued.position.0.max(probe),
            _ => self.high = probe,
        }
        Ok((self.high <= self.low.saturating_add(1)).then_some(Position(self.low)))
    }

    fn probe(&self) -> u64 {
        self.low + (self.high - self.low) / 2
    }
}

#[cfg(test)]
mod tests {
    use breakwater_contract::store::{Queued, Terms};

    use super::*;

    #[test]
    fn a_moment_is_found_wherever_it_lies() {
        let queue: Vec<(u64, u64)> = (0..40).map(|number| (1000 + number * number * 37, 10 * (number / 3))).collect();
        for last in [0, queue[39].0, queue[39].0 + 5, queue[20].0] {
            for before_ms in 0..150 {
                let mut seek = Seek::new(Position(last), before_ms);
                let found = (0..70).find_map(|_| {
                    let Question::Queue { after, .. } = seek.question(SessionNumber(1)) else { panic!() };
                    let next = queue.iter().find(|(position, _)| *position > after.0);
                    let queued = |(position, unix_ms): (u64, u64)| Queued {
                        position: Position(position),
                        unix_ms,
                        terms: Terms::default(),
                        message: None,
                    };
                    let messages = next.copied().map(queued).into_iter().collect();
                    seek.on_answer(&Answer::Queue { messages, more: true }).expect("an answer")
                });
                let found = found.expect("it ends");
                let before: Vec<u64> =
                    queue.iter().filter(|(_, ms)| *ms < before_ms).map(|(position, _)| *position).collect();
                let known: Vec<u64> =
                    before.iter().copied().filter(|position| last == 0 || *position <= last + 1).collect();
                assert!(queue.iter().all(|(at, ms)| *at > found.0 || *ms < before_ms), "{last} {before_ms} {found:?}");
                let wanted = known.last().copied().unwrap_or(0);
                assert!(found.0 >= wanted, "{last} {before_ms} {found:?} {wanted}");
            }
        }
        assert_eq!(Seek::new(Position(0), 1).on_answer(&Answer::Failed), Err(()));
    }
}
