//! The store of a running broker, lent to what an operator asks for.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use breakwater_store::{Embedded, Engine};

/// Whoever looks at it holds it, and the broker's end waits for that.
#[derive(Default)]
pub(crate) struct Lent {
    /// None for a store in memory, and once it is to be closed.
    store: RwLock<Option<Weak<Embedded>>>,
    volatile: bool,
    /// Held by what reads all of it: one at a time.
    working: Mutex<()>,
}

impl Lent {
    pub(super) fn new(store: &Arc<Embedded>) -> Self {
        Self { store: RwLock::new(Some(Arc::downgrade(store))), ..Self::default() }
    }

    /// Of a broker whose store is in memory.
    pub(super) fn nothing() -> Self {
        Self { volatile: true, ..Self::default() }
    }

    /// A short look. The error is one line.
    pub(crate) fn look<T>(&self, ask: impl FnOnce(&Engine) -> Result<T, String>) -> Result<T, String> {
        if self.volatile {
            let text = "store.durability is memory, in all zones too: nothing outlasts the broker, so there is nothing to look at or to copy";
            return Err(text.to_owned());
        }
        let lent = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let store = lent.as_ref().and_then(Weak::upgrade).ok_or("the broker is stopping")?;
        ask(store.engine())
    }

    /// What reads all of it, and may take long.
    pub(crate) fn work<T>(&self, ask: impl FnOnce(&Engine) -> Result<T, String>) -> Result<T, String> {
        let Ok(_working) = self.working.try_lock() else {
            return Err("a check or a backup of the store is under way; ask again when it is done".to_owned());
        };
        self.look(ask)
    }

    /// Ends what is under way, and waits for its end.
    pub(super) fn end(&self) {
        let lent = self.store.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = lent.as_ref().and_then(Weak::upgrade) {
            store.engine().interrupt();
        }
        drop(lent);
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use breakwater_contract::{Completion, Completions};
    use breakwater_store::{Options, SimulatedDisk};

    use super::*;

    struct Nobody;

    impl Completions for Nobody {
        fn complete(&self, completion: Completion) {
            drop(completion);
        }
    }

    #[test]
    fn one_works_at_a_time_and_the_end_interrupts_and_awaits_it() {
        let disk = Arc::new(SimulatedDisk::new());
        let store = Embedded::open(disk, Options::default(), Arc::new(Nobody), Box::new(|_| {})).expect("it opens");
        let store = Arc::new(store);
        let lent = Lent::new(&store);
        std::thread::scope(|scope| {
            let done = lent.work(|engine| {
                assert!(lent.work(|_| Ok(())).expect_err("one works").contains("under way"));
                assert!(lent.look(|engine| engine.stats().map(drop)).is_ok());
                scope.spawn(|| lent.end());
                // It reads to its end until it is interrupted.
                while engine.check().is_ok() {
                    std::thread::yield_now();
                }
                Err::<(), _>("interrupted".to_owned())
            });
            assert_eq!(done, Err("interrupted".to_owned()));
        });
        assert_eq!(Arc::strong_count(&store), 1, "whoever takes it now closes it");
        assert!(lent.look(|_| Ok(())).expect_err("it has ended").contains("stopping"));
        assert!(Lent::nothing().look(|_| Ok(())).expect_err("there is none").contains("memory"));
    }
}
