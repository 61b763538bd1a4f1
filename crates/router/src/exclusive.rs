//! Filters that one session of the whole node has for itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::subscriber::Subscriber;

/// Who holds which filter. Few touch it: who subscribes exclusively, and who ends such a subscription.
#[derive(Default)]
pub(crate) struct Claims(Mutex<BTreeMap<Box<str>, Subscriber>>);

impl Claims {
    fn held(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Subscriber>> {
        self.0.lock().expect("nobody panicked while holding it")
    }

    /// False: somebody else has it.
    pub(crate) fn claim(&self, filter: &str, who: Subscriber) -> bool {
        let mut held = self.held();
        match held.get(filter) {
            Some(holder) => *holder == who,
            None => {
                held.insert(filter.into(), who);
                true
            }
        }
    }

    /// False: `who` did not have it.
    pub(crate) fn release(&self, filter: &str, who: Subscriber) -> bool {
        let mut held = self.held();
        held.get(filter) == Some(&who) && held.remove(filter).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_a_filter_until_it_lets_go() {
        let claims = Claims::default();
        let [one, two] = [1, 2].map(|slot| Subscriber { shard: 0, generation: 0, slot });
        assert!(claims.claim("a", one) && claims.claim("a", one) && claims.claim("a/#", two));
        assert!(!claims.claim("a", two) && !claims.release("a", two));
        assert!(claims.release("a", one) && !claims.release("a", one));
        assert!(claims.claim("a", two));
    }
}
