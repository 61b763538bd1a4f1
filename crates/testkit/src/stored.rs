//! The store under a node, on a simulated disk: its threads take their steps when the shards rest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use breakwater_contract::{Completion, Completions, Store};
use breakwater_proto::Instant;
use breakwater_router::Router;
use breakwater_shard::Found;
use breakwater_store::{Engine, Options, SimulatedDisk};

/// A store without threads of its own.
pub(crate) struct Stored {
    engine: Arc<Engine>,
    answers: Arc<Answers>,
    /// Nothing is written.
    pub(crate) halted: bool,
    /// What it held.
    pub(crate) revived: Vec<Found>,
}

/// Answers that no shard has yet.
#[derive(Default)]
struct Answers(Mutex<Vec<Completion>>);

impl Completions for Answers {
    fn complete(&self, completion: Completion) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
    }
}

impl Stored {
    /// Opens it and puts back what it holds, as a start does.
    pub(crate) fn open(disk: &SimulatedDisk, epoch_unix_ms: u64, router: &Router, now: Instant) -> Self {
        let answers = Arc::new(Answers::default());
        let options = Options { epoch_unix_ms, ..Options::default() };
        let disk = Arc::new(disk.clone());
        let engine = Engine::open(disk, options, Arc::clone(&answers) as Arc<_>, Box::new(|_| {}));
        let engine = Arc::new(engine.expect("a simulated disk that can be read"));
        let mut revived = Vec::new();
        let read =
            breakwater_shard::revive(&*engine, router, now, epoch_unix_ms + now.0, &mut |found| revived.push(found));
        read.expect("a store that can be read");
        Self { engine, answers, halted: false, revived }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.engine) as Arc<_>
    }

    /// Does what there is to do; what the shards are answered. Questions are answered as early and told as late as may be: answers
    /// know nothing of what is written in between.
    pub(crate) fn work(&self, now: Instant) -> Vec<Completion> {
        if self.halted {
            return self.take();
        }
        while self.engine.read(Duration::ZERO) {}
        let answers = self.take();
        while self.engine.write(now.0, Duration::ZERO) || self.engine.fold() {}
        let mut told = self.take();
        told.extend(answers);
        told
    }

    fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut self.answers.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
