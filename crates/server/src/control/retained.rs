//! What a node answers about its retained messages. All of it happens on the thread of the socket: the index is read in small
//! slices, as shards do for subscribers, and what is removed goes to a shard in small portions.

use std::thread;
use std::time::{Duration, Instant};

use breakwater_contract::store::{Answer as Stored, Condition, Question, Retained};
use breakwater_proto::{FilterKind, Message, parse_filter, topic};
use breakwater_router::{Progress, RetainedCursor};
use serde::{Deserialize, Serialize};

use super::Answer;
use crate::running::Running;

/// Index entries looked at in one slice.
const LOOKS: usize = 512;
/// Messages that the store is asked about, or that a shard is told to remove, at once.
const PORTION: usize = 256;
/// Most rows of one answer.
pub(crate) const ROWS_MAX: u32 = 50_000;
/// Bytes of topics and names in one answer at which it ends.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Bytes of a payload that are shown.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// How long a removal waits for the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// A retained message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RetainedRow {
    pub(crate) topic: String,
    /// Of its payload.
    pub(crate) bytes: u64,
    pub(crate) qos: u8,
    /// Who set it: a client identifier, or empty for the broker. None if the store does not know it (yet).
    pub(crate) by: Option<String>,
    /// When, in milliseconds since 1970.
    pub(crate) set_unix_ms: Option<u64>,
    /// When it ends; none if it doesn't.
    pub(crate) expires_unix_ms: Option<u64>,
    /// Its beginning, if it was asked for and is text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) payload: Option<String>,
    /// The same in hexadecimal, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) payload_hex: Option<String>,
}

/// The plain filter in what an operator asks for.
fn checked(filter: &str) -> Result<&str, String> {
    match parse_filter(filter) {
        Ok(FilterKind::Plain(plain)) => Ok(plain),
        _ => Err(format!("{filter:?} is no topic filter, such as \"site/+/state\" or \"#\"")),
    }
}

fn refused(fault: String) -> Answer {
    Answer::Refused { faults: vec![fault] }
}

impl Running {
    pub(super) fn retained_list(&self, filter: &str, limit: u32) -> Answer {
        let filter = match checked(filter) {
            Ok(filter) => filter,
            Err(fault) => return refused(fault),
        };
        let limit = limit.clamp(1, ROWS_MAX) as usize;
        let mut cursor = RetainedCursor::new(filter);
        let (mut rows, mut found, mut text) = (Vec::new(), Vec::new(), 0);
        loop {
            let progress = self.router.retained_next(&mut cursor, self.origin.now(), LOOKS, &mut found);
            let full = rows.len() + found.len() > limit || text > TEXT_BYTES_MAX;
            if found.len() >= PORTION || progress == Progress::Done || full {
                found.truncate(limit - rows.len());
                text += found.iter().map(|(message, _)| message.topic().len()).sum::<usize>();
                self.describe(&found, &mut rows);
                found.clear();
            }
            if full || progress == Progress::Done {
                rows.sort_by(|a: &RetainedRow, b| a.topic.cmp(&b.topic));
                return Answer::Retained { rows, more: full };
            }
        }
    }

    pub(super) fn retained_show(&self, name: &str) -> Answer {
        if topic::check(name).is_err() {
            return refused(format!("{name:?} is no topic; `breakwater retained list` takes filters"));
        }
        let mut found = Vec::new();
        self.router.retained_next(&mut RetainedCursor::new(name), self.origin.now(), 1, &mut found);
        let Some((message, _)) = found.first() else {
            return refused(format!("nothing is retained under {name:?}"));
        };
        let shown = &message.payload()[..message.payload().len().min(PAYLOAD_BYTES_MAX)];
        // What was cut within a character is text all the same.
        let (payload, payload_hex) = match std::str::from_utf8(shown) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(cut) if cut.error_len().is_none() && shown.len() < message.payload().len() => {
                (Some(String::from_utf8_lossy(&shown[..cut.valid_up_to()]).into_owned()), None)
            }
            Err(_) => (None, Some(shown.iter().map(|byte| format!("{byte:02x}")).collect())),
        };
        let mut rows = Vec::new();
        self.describe(&found, &mut rows);
        let rows = rows.into_iter().map(|row| RetainedRow {
            payload: payload.clone(),
            payload_hex: payload_hex.clone(),
            ..row
        });
        Answer::Retained { rows: rows.collect(), more: false }
    }

    /// Removes what matches, or only counts it.
    pub(super) fn retained_delete(&self, filter: &str, really: bool) -> Answer {
        let filter = match checked(filter) {
            Ok(filter) => filter,
            Err(fault) => return refused(fault),
        };
        let mut cursor = RetainedCursor::new(filter);
        let (mut found, mut count, mut last) = (Vec::new(), 0, None);
        loop {
            let progress = self.router.retained_next(&mut cursor, self.origin.now(), LOOKS, &mut found);
            if !really {
                count += found.len();
                found.clear();
            }
            while found.len() >= PORTION || (progress == Progress::Done && !found.is_empty()) {
                let portion = found.split_off(found.len().saturating_sub(PORTION));
                let portion: Vec<(Box<str>, u64)> =
                    portion.iter().map(|(message, revision)| (message.topic().into(), *revision)).collect();
                last = portion.last().cloned();
                let Some(gone) = self.handle.unretain(portion) else {
                    return refused(format!("{count} retained messages were removed; then the broker stopped"));
                };
                count += gone;
            }
            if progress == Progress::Done {
                break;
            }
        }
        let lines = match (really, last) {
            (false, _) => vec![format!("{count} retained messages match {filter:?}; say --yes to remove them")],
            (true, Some((topic, revision))) if !self.is_stored_without(&topic, revision) => {
                let condition = self.keeper.health().condition;
                let why =
                    if condition == Condition::Well { "is slow" } else { "has no room or fails: `breakwater status`" };
                vec![format!(
                    "{count} retained messages were removed; the store {why}, so that a restart may bring some back"
                )]
            }
            (true, _) => vec![format!("{count} retained messages were removed")],
        };
        Answer::Done { lines }
    }

    /// Waits until the store no longer has a message, or for long enough.
    fn is_stored_without(&self, topic: &str, revision: u64) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let stored = self.keeper.lent.look(|engine| Ok(engine.answer(&Question::Retained(topic.into()))));
            match stored {
                Ok(Stored::Retained(Some(stored))) if stored.revision == revision => {}
                // Gone, or set anew; without a store there is nothing to bring it back.
                _ => return true,
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Appends rows for messages. The memory does not hold who set them and when: the store is asked for it.
    fn describe(&self, found: &[(Message, u64)], rows: &mut Vec<RetainedRow>) {
        for portion in found.chunks(PORTION) {
            let stored = self.keeper.lent.look(|engine| {
                let ask = |(message, revision): &(Message, u64)| {
                    match engine.answer(&Question::Retained(message.topic().into())) {
                        // What is set just now is not there yet, or an older one is.
                        Stored::Retained(Some(stored)) if stored.revision == *revision => Some(stored),
                        _ => None,
                    }
                };
                Ok(portion.iter().map(ask).collect::<Vec<_>>())
            });
            let stored = stored.unwrap_or_else(|_| portion.iter().map(|_| None).collect());
            rows.extend(
                portion.iter().zip(stored).map(|((message, _), stored)| self.row_of(message, stored.as_deref())),
            );
        }
    }

    fn row_of(&self, message: &Message, stored: Option<&Retained>) -> RetainedRow {
        RetainedRow {
            topic: message.topic().into(),
            bytes: message.payload().len() as u64,
            qos: message.qos().as_u8(),
            by: stored.map(|stored| stored.by.to_string()),
            set_unix_ms: stored.map(|stored| stored.set_unix_ms),
            expires_unix_ms: message.expires_at().map(|at| self.origin.unix_ms().saturating_add(at.0)),
            payload: None,
            payload_hex: None,
        }
    }
}
