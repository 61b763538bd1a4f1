//! Answers questions: the index, with what is not yet folded laid over it, and messages from their segments.

pub(crate) mod merge;
mod messages;
mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use breakwater_contract::store::{Answer, Position, Question, Restored, Retained};
use breakwater_contract::{Completion, Completions, Token};
use breakwater_proto::Message;

use crate::index::{RETAINED, Row, VALUES, open_row};
use crate::overlay::{Entry, Overlay, RetainedDelta};
use crate::record::{read_retained, revision_of};
use crate::shared::{Moment, Shared};

use messages::Messages;

/// A question on its way.
pub(crate) struct Asked {
    pub token: Token,
    pub question: Question,
}

/// Answers the questions that come in.
pub(crate) struct Reader {
    looker: Looker,
    inbox: Receiver<Asked>,
    completions: Arc<dyn Completions>,
}

/// Knows where to look.
pub(crate) struct Looker {
    shared: Arc<Shared>,
    messages: Messages,
}

/// Why a question has no answer at this moment.
pub(crate) struct Unread(pub String);

impl<E: std::error::Error> From<E> for Unread {
    fn from(fault: E) -> Unread {
        Unread(fault.to_string())
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, inbox: Receiver<Asked>, completions: Arc<dyn Completions>) -> Reader {
        Reader { looker: Looker::new(shared), inbox, completions }
    }

    /// Answers one question, if one comes within `patience`. Answers whether one did.
    pub(crate) fn step(&mut self, patience: Duration) -> bool {
        let asked = match self.inbox.recv_timeout(patience) {
            Ok(asked) => asked,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        };
        let answer = self.looker.answer(&asked.question);
        self.looker.shared.questions.fetch_sub(1, Ordering::Relaxed);
        self.completions.complete(Completion::Read { token: asked.token, answer });
        true
    }
}

impl Looker {
    pub(crate) fn new(shared: Arc<Shared>) -> Looker {
        let messages = Messages::new(Arc::clone(&shared));
        Looker { shared, messages }
    }

    pub(crate) fn answer(&mut self, question: &Question) -> Answer {
        let answer = match question {
            Question::Queue { session, after, messages_max, bytes_max } => {
                self.queue(session.0, after.0, *messages_max, *bytes_max)
            }
            Question::Entries { session, after, entries_max } => self.entries(session.0, after.0, *entries_max),
            Question::Session(session) => {
                merge::session(&self.shared, session.0).map(|found| Answer::Session(found.map(Box::new)))
            }
            Question::Retained(topic) => self.retained(topic),
            Question::Values { table, after, rows_max } => self.values(table, after.as_deref(), *rows_max),
        };
        answer.unwrap_or_else(|Unread(why)| {
            self.shared.damage(0, &format!("the store can't read: {why}"));
            Answer::Failed
        })
    }

    /// A message that a queue refers to.
    pub(crate) fn message(&mut self, moment: &Moment, entry: Entry) -> Result<Option<Message>, Unread> {
        Ok(self.messages.read(moment, &moment.moved()?, entry)?.message)
    }

    pub(crate) fn restore(&self, each: &mut dyn FnMut(Restored)) -> Result<(), Unread> {
        restore::restore(&self.shared, each)
    }

    fn queue(&mut self, session: u64, after: u64, messages_max: usize, bytes_max: usize) -> Result<Answer, Unread> {
        // A segment may be copied forward and removed between looking up and reading; then the second look finds the copy.
        for last_try in [false, true] {
            let found = merge::window(&self.shared, session, after, messages_max.max(1), bytes_max)?;
            let moved = found.moment.moved()?;
            let mut messages = Vec::with_capacity(found.entries.len());
            for entry in &found.entries {
                messages.push(self.messages.read(&found.moment, &moved, *entry)?);
            }
            let unread = messages.iter().filter(|queued| queued.message.is_none()).count();
            if unread == 0 || last_try {
                if unread > 0 {
                    let text =
                        format!("{unread} messages of session {session} do not read from the log: they are lost");
                    self.shared.damage(unread as u64, &text);
                }
                return Ok(Answer::Queue { messages, more: found.more });
            }
        }
        Err(Unread("a queue was read twice".to_owned()))
    }

    fn entries(&self, session: u64, after: u64, entries_max: usize) -> Result<Answer, Unread> {
        let found = merge::window(&self.shared, session, after, entries_max.max(1), usize::MAX)?;
        let entries = found.entries.iter().map(|entry| (Position(entry.position), entry.len)).collect();
        Ok(Answer::Entries { entries, more: found.more })
    }

    fn retained(&self, topic: &str) -> Result<Answer, Unread> {
        let look = self.shared.moment(|active| active.retained.get(topic).cloned());
        let (moment, active) = look.ok_or_else(|| Unread("the index is closed".to_owned()))?;
        let frozen = moment.frozen.as_ref().and_then(|frozen| frozen.retained.get(topic).cloned());
        let base = moment.index.open_table(RETAINED)?.get(topic)?.and_then(|row| match open_row(row.value()) {
            Row::Sound(bytes) => Some(bytes.to_vec()),
            Row::Damaged => None,
        });
        let stored = newest(base, [frozen, active]);
        Ok(Answer::Retained(stored.and_then(|bytes| read_retained(&bytes, self.shared.epoch)).map(Box::new)))
    }

    fn values(&self, table: &str, after: Option<&[u8]>, rows_max: usize) -> Result<Answer, Unread> {
        let of_overlay = |overlay: &Overlay| -> BTreeMap<Box<[u8]>, Option<Box<[u8]>>> {
            let of_table = overlay.values.iter().filter(|((owner, _), _)| **owner == *table);
            of_table.map(|((_, key), value)| (key.clone(), value.clone())).collect()
        };
        let look = self.shared.moment(of_overlay);
        let (moment, active) = look.ok_or_else(|| Unread("the index is closed".to_owned()))?;
        let mut changes = moment.frozen.as_deref().map(of_overlay).unwrap_or_default();
        changes.extend(active);
        let mut rows = BTreeMap::new();
        let base = moment.index.open_table(VALUES)?;
        for row in base.range((table, after.unwrap_or_default())..)? {
            let (key, value) = row?;
            let (owner, key) = key.value();
            // Whatever is taken away by a change makes room for one more.
            if owner != table || rows.len() > rows_max + changes.len() {
                break;
            }
            if let Row::Sound(value) = open_row(value.value()) {
                rows.insert(Box::<[u8]>::from(key), Box::<[u8]>::from(value));
            }
        }
        for (key, value) in changes {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        let behind = rows.into_iter().filter(|(key, _)| after.is_none_or(|after| **key > *after));
        Ok(Answer::Values(behind.take(rows_max).collect()))
    }
}

/// The retained message that holds, as stored: the one with the highest revision, the later of two with the same.
pub(crate) fn newest(base: Option<Vec<u8>>, deltas: [Option<RetainedDelta>; 2]) -> Option<Vec<u8>> {
    let mut holds = base;
    let mut revision = holds.as_deref().and_then(revision_of).unwrap_or(0);
    for delta in deltas.into_iter().flatten() {
        if delta.revision >= revision {
            revision = delta.revision;
            holds = delta.stored.map(Into::into);
        }
    }
    holds
}

/// For [`restore`].
fn retained_of(bytes: &[u8], shared: &Shared) -> Option<Retained> {
    read_retained(bytes, shared.epoch)
}
