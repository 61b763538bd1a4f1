//! The store with its threads: one writes, one folds, one reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use breakwater_contract::store::{Change, Durability, Health, Question, Restored, SessionNumber, Store, Submitted};
use breakwater_contract::{Completions, Token};

use crate::disk::Disk;
use crate::engine::{Engine, Options, Tell};
use crate::findings::OpenFault;

/// How often a thread without work looks whether it is time for something.
const LOOK: Duration = Duration::from_millis(200);
/// While what is not folded takes all the memory that it may.
const CHOKED: Duration = Duration::from_millis(2);
/// After a fold failed.
const AGAIN: Duration = Duration::from_secs(1);

/// An open store. When it is dropped it writes what was submitted, and its index, and ends its threads.
#[derive(Debug)]
pub struct Embedded {
    engine: Arc<Engine>,
    stopping: Arc<AtomicBool>,
    started: Instant,
    threads: Vec<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store on a disk, or makes one, and starts its threads.
    ///
    /// # Errors
    /// Those of [`Engine::open`], or if no thread can be started.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        completions: Arc<dyn Completions>,
        tell: Tell,
    ) -> Result<Embedded, OpenFault> {
        let engine = Arc::new(Engine::open(disk, options, completions, tell)?);
        let (stopping, started) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut store = Embedded { engine, stopping, started, threads: Vec::new() };
        store.start("store-write", move |engine, _| {
            if !engine.write(ms_since(started), LOOK) && engine.is_choked() {
                thread::park_timeout(CHOKED);
            }
        })?;
        store.start("store-read", |engine, _| {
            engine.read(LOOK);
        })?;
        store.start("store-fold", |engine, stopping| {
            let rung = engine.bell.1.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK);
            let idle = !engine.fold();
            if rung.is_ok() && idle && !stopping.load(Ordering::Relaxed) {
                thread::park_timeout(AGAIN);
            }
        })?;
        Ok(store)
    }

    fn start(
        &mut self,
        name: &str,
        step: impl Fn(&Engine, &AtomicBool) + Send + 'static,
    ) -> Result<(), std::io::Error> {
        let (engine, stopping) = (Arc::clone(&self.engine), Arc::clone(&self.stopping));
        let of_whom = name.to_owned();
        let run = move || {
            while !stopping.load(Ordering::Relaxed) {
                if catch_unwind(AssertUnwindSafe(|| step(&engine, &stopping))).is_err() {
                    engine.give_up(&of_whom);
                    return;
                }
            }
        };
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// The store without its threads.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn ms_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
        if !self.engine.has_given_up() {
            self.engine.settle(ms_since(self.started));
        }
    }
}

impl Store for Embedded {
    fn is_volatile(&self) -> bool {
        self.engine.is_volatile()
    }

    fn new_session(&self) -> SessionNumber {
        self.engine.new_session()
    }

    fn submit(&self, token: Token, changes: &[Change], durability: Durability) -> Submitted {
        self.engine.submit(token, changes, durability)
    }

    fn ask(&self, token: Token, question: Question) -> Submitted {
        self.engine.ask(token, question)
    }

    fn restore(&self, each: &mut dyn FnMut(Restored)) -> Result<(), String> {
        self.engine.restore(each)
    }

    fn health(&self) -> Health {
        self.engine.health()
    }
}
