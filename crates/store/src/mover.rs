//! Copies the messages that are left in a segment that holds little else, so that the segment can go.
//!
//! One slow session would otherwise keep every segment that it has a message in. A copy keeps the name of the message, so queues
//! stay as they are. Whether somebody still wants it is looked at again when the copy is folded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use breakwater_contract::store::Durability;
use redb::ReadTransaction;

use crate::index::{QUEUES, queue_entries};
use crate::log::{FRAME_HEAD, Span, path_of, read_frame, whole_of};
use crate::record::{Record, Records, put_moved, stored_message};
use crate::shared::Shared;
use crate::writer::Submission;

/// A segment is left alone while more than this part of it is wanted.
const WANTED_PART: u64 = 4;
/// Folds that a segment whose messages were copied is given to go.
const PATIENCE: u32 = 8;
/// Bytes of one batch of copies.
const BATCH_BYTES: usize = 1 << 20;

pub(crate) struct Mover {
    shared: Arc<Shared>,
    submissions: Sender<Submission>,
    /// The segment whose messages were copied last, and how often it was looked for since.
    last: Option<(u64, u32)>,
}

/// Why nothing was moved: it is tried again.
type Unread = Box<dyn std::error::Error>;

impl Mover {
    pub(crate) fn new(shared: Arc<Shared>, submissions: Sender<Submission>) -> Mover {
        Mover { shared, submissions, last: None }
    }

    /// Looks for a segment to clear, after a fold.
    pub(crate) fn step(&mut self) {
        let (candidate, end) = {
            let state = self.shared.state();
            if let Some((first, folds)) = &mut self.last {
                *folds += 1;
                if state.references.contains_key(first) && *folds < PATIENCE {
                    return;
                }
            }
            self.last = None;
            let ends = state.spans.iter().skip(1).map(|next| next.first);
            let sealed = state.spans.iter().zip(ends).filter(|(_, end)| *end <= state.covered);
            let wanted = |span: &Span| state.references.get(&span.first).map(|counts| counts.1);
            let sparse = sealed.filter_map(|(span, end)| Some((*span, end, wanted(span)?)));
            let sparsest = sparse
                .filter(|(span, end, bytes)| bytes.saturating_mul(WANTED_PART) < end - span.first)
                .min_by_key(|(_, _, bytes)| *bytes);
            let Some((span, end, _)) = sparsest else { return };
            (span, end)
        };
        self.last = Some((candidate.first, 0));
        if let Err(why) = self.clear(candidate, end) {
            let text =
                format!("{} can't be cleared of the messages that are left in it: {why}", path_of(candidate.serial));
            self.shared.damage(0, &text);
        }
    }

    fn clear(&self, span: Span, end: u64) -> Result<(), Unread> {
        let bytes = whole_of(&*self.shared.disk, span, end)?;
        let index = self.shared.index.moment().ok_or("the index is closed")?;
        let mut wanted = Wanted { index, from: span.first, to: end, known: HashMap::new() };
        let (mut batch, mut at) = (Vec::new(), 0);
        // What does not read is passed over: it is lost already, and the start said so.
        while let Some(frame) =
            bytes.get(at..).and_then(|rest| read_frame(rest, span.first + at as u64, self.shared.salt))
        {
            let start = frame.position + FRAME_HEAD as u64;
            for record in Records::new(frame.body, start) {
                let (at, name, sessions) = match record {
                    Record::Message { at, sessions, .. } => (at, at, sessions.map(|(session, _)| session).collect()),
                    Record::Moved { at, name, sessions } => (at, name, sessions.collect::<Vec<_>>()),
                    _ => continue,
                };
                // Looked at by its own CRC, so that a copy never makes good what is not.
                let offset = usize::try_from(at - start).unwrap_or(usize::MAX);
                let Some(message) = frame.body.get(offset..).and_then(stored_message) else { continue };
                let mut left = Vec::new();
                for session in sessions {
                    if wanted.has(session, name)? {
                        left.push(session);
                    }
                }
                if !left.is_empty() {
                    put_moved(&mut batch, name, message, &left);
                }
                if batch.len() >= BATCH_BYTES {
                    self.submit(std::mem::take(&mut batch));
                }
            }
            at += frame.len();
        }
        self.submit(batch);
        Ok(())
    }

    fn submit(&self, records: Vec<u8>) {
        if records.is_empty() {
            return;
        }
        self.shared.waiting_bytes.fetch_add(records.len(), Ordering::Relaxed);
        let batch = Submission { token: None, records, messages: Vec::new(), durability: Durability::Os };
        // Without a writer the store is at its end.
        let _ = self.submissions.send(batch);
    }
}

/// Which messages of a part of the log the queues still have.
struct Wanted {
    index: ReadTransaction,
    from: u64,
    to: u64,
    /// Of sessions that were met: those messages of the part that they have.
    known: HashMap<u64, Vec<u64>>,
}

impl Wanted {
    fn has(&mut self, session: u64, name: u64) -> Result<bool, Unread> {
        if !(self.from..self.to).contains(&name) {
            return Ok(self.positions(session, name, name)?.contains(&name));
        }
        if !self.known.contains_key(&session) {
            let positions = self.positions(session, self.from, self.to)?;
            self.known.insert(session, positions);
        }
        Ok(self.known.get(&session).is_some_and(|positions| positions.binary_search(&name).is_ok()))
    }

    fn positions(&self, session: u64, from: u64, to: u64) -> Result<Vec<u64>, Unread> {
        let queues = self.index.open_table(QUEUES)?;
        let start = queues.range((session, 0)..=(session, from))?.next_back().transpose()?;
        let start = start.map_or(from, |(key, _)| key.value().1);
        let mut positions = Vec::new();
        for row in queues.range((session, start)..=(session, to))? {
            let (key, row) = row?;
            let entries = queue_entries(key.value().1, row.value()).unwrap_or_default();
            positions
                .extend(entries.iter().map(|entry| entry.position).filter(|position| (from..=to).contains(position)));
        }
        Ok(positions)
    }
}
