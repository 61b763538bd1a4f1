//! Consistent views of large subscriber sets.

use crate::subscriber::{Subscriber, Target};

/// The members on one shard of a large set, as they were when the message was matched. Owned and `Send`; cheap to make and
/// to clone; later (un)subscribes copy the page that they change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub shard: u16,
    pub any_durable: bool,
}

impl Snapshot {
    pub fn len(&self) -> usize {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands at most `budget` members to `each`, from `position` on, which it moves. True: that was the last.
    /// A no-local member that is the publisher itself is for the caller to skip: the grant says so.
    pub fn walk(&self, position: &mut usize, budget: usize, each: impl FnMut(Target)) -> bool {
        let _ = (position, budget, each);
        todo!()
    }

    pub fn skips(&self, who: Subscriber) -> bool {
        let _ = who;
        todo!()
    }
}
