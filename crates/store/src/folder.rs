//! The one who folds: brings the index up to date with what the writer handed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use breakwater_contract::store::Condition;

use crate::index::fold;
use crate::mover::Mover;
use crate::shared::{Part, Shared};
use crate::tools::disk_bytes;
use crate::writer::Submission;

pub(crate) struct Folder {
    shared: Arc<Shared>,
    mover: Mover,
    failing: bool,
}

impl Folder {
    pub(crate) fn new(shared: Arc<Shared>, submissions: Sender<Submission>) -> Folder {
        Folder { mover: Mover::new(Arc::clone(&shared), submissions), shared, failing: false }
    }

    /// Folds what there is to fold. Answers whether it did; after a failure it is to be asked again, not at once.
    pub(crate) fn step(&mut self) -> bool {
        let (frozen, spans) = {
            let state = self.shared.state();
            (state.frozen.clone(), Arc::clone(&state.spans))
        };
        if (self.failing || self.shared.index.is_stale())
            && let Err(why) = self.shared.index.reopen()
        {
            self.failing = true;
            self.fault(&why);
            return false;
        }
        let Some(frozen) = frozen else {
            self.end_fault();
            return false;
        };
        match fold(&self.shared.index, &frozen, &spans, self.shared.salt) {
            Ok(folded) => {
                if folded.damaged > 0 {
                    let text =
                        format!("{} rows of queues in the index do not read: what they held is lost", folded.damaged);
                    self.shared.damage(folded.damaged, &text);
                }
                let mut state = self.shared.state();
                state.references = folded.references;
                state.covered = frozen.to;
                state.frozen = None;
                drop(state);
                self.shared.choked.store(false, Ordering::Relaxed);
                self.end_fault();
                // Nobody is worse off for not knowing it.
                if let Ok(bytes) = disk_bytes(&*self.shared.disk) {
                    self.shared.disk_bytes.store(bytes, Ordering::Relaxed);
                }
                self.mover.step();
                true
            }
            Err(why) => {
                self.failing = true;
                self.fault(&why);
                false
            }
        }
    }

    fn end_fault(&mut self) {
        if std::mem::take(&mut self.failing) {
            self.shared.well(Part::Index);
        }
    }

    fn fault(&self, why: &str) {
        let full = why.contains("no storage space") || why.contains("No space left");
        let condition = if full { Condition::Full } else { Condition::Failing };
        let text = format!("the index can't be written: {why}; nothing is lost, the log has it; look at the disk");
        self.shared.fault(Part::Index, condition, text);
    }
}
