//! Retained messages: one per topic, found by topic or by filter.

/// Why a retained message was not kept. Its predecessor is gone all the same: keeping the older value would be worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TooMany,
    TooManyBytes,
    PayloadTooLarge,
}

/// What became of a retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainOutcome {
    /// Orders competing writes to one topic: grows with every write, also across removal.
    pub revision: u64,
    /// There was a message on this topic; it is gone.
    pub replaced: bool,
    pub refused: Option<Refusal>,
}

/// Where a subscriber stands in reading the retained messages of its filter. Resumable at any time: the retained
/// messages may change in between.
#[derive(Debug)]
pub struct RetainedCursor {
    pub(crate) filter: Box<str>,
}

impl RetainedCursor {
    /// `filter` is checked and without a share prefix.
    pub fn new(filter: &str) -> Self {
        Self { filter: filter.into() }
    }
}

/// Whether a cursor has reached its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    More,
}
