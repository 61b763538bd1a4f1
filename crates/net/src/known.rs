//! Listeners whose terms a shard has been told, so that it forgets those of which nothing is left.
//!
//! A number is given again once nobody holds its listener. Whoever gets it next tells its own terms first, so that a shard
//! which looks late forgets nobody else's.

use std::sync::{Arc, Weak};

use breakwater_proto::Instant;

use crate::roll::Listener;

/// Owned by one shard.
#[derive(Default)]
pub(crate) struct Known {
    /// By number.
    listeners: Vec<Option<Weak<Listener>>>,
    look_at: Instant,
    /// One of them may be on its way out.
    stirred: bool,
}

/// Time between two looks.
const LOOK_MS: u64 = 1000;

impl Known {
    /// The terms of a listener were told.
    pub(crate) fn note(&mut self, listener: &Arc<Listener>) {
        let number = usize::from(listener.number);
        if number >= self.listeners.len() {
            self.listeners.resize_with(number + 1, || None);
        }
        self.listeners[number] = Some(Arc::downgrade(listener));
    }

    /// A listener closes, or its connections end: it is worth looking.
    pub(crate) fn stir(&mut self) {
        self.stirred = true;
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.stirred.then_some(self.look_at)
    }

    /// Looks, if it is time for that, and gives the numbers of those that are gone.
    pub(crate) fn look(&mut self, now: Instant, mut gone: impl FnMut(u16)) {
        if !self.stirred || now < self.look_at {
            return;
        }
        self.look_at = now.plus_ms(LOOK_MS);
        self.stirred = false;
        for (number, entry) in (0..).zip(&mut self.listeners) {
            match entry.as_ref().map(Weak::upgrade) {
                None => {}
                Some(Some(listener)) => self.stirred |= listener.is_closed(),
                Some(None) => {
                    *entry = None;
                    gone(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roll::{Roll, Standing};

    #[test]
    fn what_is_left_of_a_listener_is_forgotten_once_and_its_number_is_not_taken_for_it() {
        let standing = Arc::new(Standing::new("tcp.test".into(), 0, Arc::default()));
        let (mut roll, mut known) = (Roll::default(), Known::default());
        let (zero, one) = (roll.enroll(&standing).expect("a number"), roll.enroll(&standing).expect("a number"));
        known.note(&zero);
        known.note(&one);
        let look = |known: &mut Known, now| {
            let mut gone = Vec::new();
            known.look(Instant(now), |number| gone.push(number));
            gone
        };
        assert_eq!((look(&mut known, 0), known.next()), (vec![], None));
        one.close();
        known.stir();
        assert_eq!((look(&mut known, 10), known.next()), (vec![], Some(Instant(10 + LOOK_MS))), "it has connections");
        drop(one);
        assert_eq!((look(&mut known, 20), look(&mut known, 10 + LOOK_MS)), (vec![], vec![1]));
        assert_eq!(known.next(), None);
        drop(zero);
        let again = roll.enroll(&standing).expect("a number");
        known.note(&again);
        known.stir();
        assert_eq!((again.number, look(&mut known, 9999)), (0, vec![]));
    }
}
