//! What a node answers about its store, and a store that no node has says of itself.

use breakwater_store::{Engine, Finding, Mends};
use serde::{Deserialize, Serialize};

use super::Answer;
use crate::running::Running;

/// What a store holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoreStats {
    /// A broker has it.
    pub(crate) running: bool,
    pub(crate) segments: u64,
    /// All of its files.
    pub(crate) disk_bytes: u64,
    /// Of the log, what is not in the index yet.
    pub(crate) unfolded_bytes: u64,
    pub(crate) retained: u64,
    pub(crate) sessions: u64,
    pub(crate) subscriptions: u64,
    /// Messages that sessions wait for.
    pub(crate) queued: u64,
    pub(crate) queued_bytes: u64,
    /// Lost or set aside since the start of the broker; without one: what a start would find.
    pub(crate) damages: u64,
}

/// Something in a store that is not as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FindingRow {
    /// From the folder of the store.
    pub(crate) file: String,
    pub(crate) what: String,
    /// What to do.
    pub(crate) advice: String,
}

impl StoreStats {
    /// Counts it. The error is one line.
    pub(crate) fn of(engine: &Engine, damages: u64, running: bool) -> Result<Self, String> {
        let stats = engine.stats()?;
        Ok(Self {
            running,
            segments: stats.segments as u64,
            disk_bytes: stats.disk_bytes,
            unfolded_bytes: stats.unfolded_bytes,
            retained: stats.retained,
            sessions: stats.sessions,
            subscriptions: stats.subscriptions,
            queued: stats.queued,
            queued_bytes: stats.queued_bytes,
            damages,
        })
    }
}

impl FindingRow {
    /// With what to do about it while a broker runs, or none.
    pub(crate) fn new(finding: Finding, running: bool) -> Self {
        let advice = match (finding.mends, running) {
            (Mends::Start, false) => {
                "a start of the broker sets it aside by itself and goes on with the rest; what is lost is only in a \
                 backup: breakwater store restore DIR"
            }
            (Mends::Start, true) => {
                "stop the broker and start it: it sets this aside and rebuilds it from the log that is left; what is lost \
                 is only in a backup: breakwater store restore DIR"
            }
            (Mends::Nobody, false) => {
                "the broker passes over what does not read; if that is missed, go back to a backup: breakwater store \
                 restore DIR"
            }
            (Mends::Nobody, true) => {
                "the broker passes over what does not read; if that is missed, stop it and go back to a backup: \
                 breakwater store restore DIR"
            }
        };
        Self { file: finding.file.into(), what: finding.what, advice: advice.to_owned() }
    }
}

impl Running {
    pub(super) fn store_stats(&self) -> Answer {
        let damages = self.keeper.health().damages;
        answer(self.keeper.lent.look(|engine| StoreStats::of(engine, damages, true)), Answer::StoreStats)
    }

    pub(super) fn store_check(&self) -> Answer {
        let found = self.keeper.lent.work(Engine::check);
        answer(found, |found| Answer::StoreFindings {
            rows: found.into_iter().map(|finding| FindingRow::new(finding, true)).collect(),
        })
    }

    pub(super) fn store_backup(&self, folder: &std::path::Path) -> Answer {
        let made = self.keeper.lent.work(|engine| engine.backup(folder));
        answer(made, |()| Answer::Done { lines: Vec::new() })
    }
}

fn answer<T>(done: Result<T, String>, well: impl FnOnce(T) -> Answer) -> Answer {
    match done {
        Ok(done) => well(done),
        Err(fault) => Answer::Refused { faults: vec![fault] },
    }
}
