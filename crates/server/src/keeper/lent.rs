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
            let text =
                "store.durability is memory: nothing outlasts the broker, so there is nothing to look at or to copy";
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
