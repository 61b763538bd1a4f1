//! Whether a store is as it was written.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{ReadableTable as _, StorageError, TableError};

use super::{Fault, go_on};
use crate::findings::{Finding, Mends};
use crate::index::{self, Row, open_row, queue_entries};
use crate::log::{FRAME_HEAD, Span, path_of, read_frame, whole_of};
use crate::overlay::Entry;
use crate::reader::Looker;
use crate::record::Records;
use crate::shared::{Moment, Shared};

/// Findings that are told one by one.
pub const FINDINGS_MAX: usize = 1000;

/// Reads everything that the index and the log hold up to the last fold. Answers what is wrong, nothing if nothing is.
pub(crate) fn check(shared: &Arc<Shared>) -> Result<Vec<Finding>, Fault> {
    go_on(shared)?;
    let (moment, ()) = shared.moment(|_| ()).ok_or("the index is closed")?;
    let mut wrong = Wrong::default();
    // redb trusts its file in places. What it meets there that can't be is damage too.
    match catch_unwind(AssertUnwindSafe(|| look(shared, &moment, &mut wrong))) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) if is_damage(&*fault) => wrong.index(fault.to_string()),
        Ok(Err(fault)) => return Err(fault),
        Err(_) => wrong.index("redb gave up on it".to_owned()),
    }
    Ok(wrong.finish())
}

/// Whether nobody wanted a segment any more: a check takes its time. What was copied out of one that went is no loss.
fn has_gone(shared: &Shared, span: Span) -> bool {
    let _kept = shared.keep_segments();
    !shared.state().spans.contains(&span)
}

fn is_damage(fault: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let corrupted = |fault: &StorageError| matches!(fault, StorageError::Corrupted(_));
    let of_table = |fault: &TableError| match fault {
        TableError::Storage(fault) => corrupted(fault),
        fault => matches!(fault, TableError::TableTypeMismatch { .. } | TableError::TableDoesNotExist(_)),
    };
    fault.downcast_ref().is_some_and(corrupted) || fault.downcast_ref().is_some_and(of_table)
}

/// What is wrong, as much as anybody reads.
#[derive(Default)]
struct Wrong {
    found: Vec<Finding>,
    more: u64,
}

impl Wrong {
    fn push(&mut self, file: &str, what: String, mends: Mends) {
        if self.found.len() < FINDINGS_MAX {
            self.found.push(Finding { file: file.into(), what, mends });
        } else {
            self.more += 1;
        }
    }

    fn index(&mut self, what: String) {
        self.push(index::PATH, what, Mends::Start);
    }

    fn finish(mut self) -> Vec<Finding> {
        if self.more > 0 {
            let what = format!("and {} things more, in the log and in the index", self.more);
            self.found.push(Finding { file: "".into(), what, mends: Mends::Nobody });
        }
        self.found
    }
}

fn look(shared: &Arc<Shared>, moment: &Moment, wrong: &mut Wrong) -> Result<(), Fault> {
    let covered = moment.index.open_table(index::META)?.get(index::COVERED)?.map_or(index::START, |at| at.value());
    for (at, span) in moment.spans.iter().enumerate() {
        go_on(shared)?;
        let next = moment.spans.get(at + 1).map(|next| next.first);
        check_segment(shared, *span, next, covered, wrong)?;
    }
    check_rows(shared, moment, wrong)?;
    check_queues(shared, moment, wrong)
}

fn check_segment(shared: &Shared, span: Span, next: Option<u64>, covered: u64, wrong: &mut Wrong) -> Result<(), Fault> {
    let path = path_of(span.serial);
    // Behind that a start reads.
    let end = next.unwrap_or(covered).min(covered).max(span.first);
    let bytes = match whole_of(&*shared.disk, span, end) {
        Ok(bytes) => bytes,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            if !has_gone(shared, span) {
                wrong.push(&path, "is not there any more".to_owned(), Mends::Nobody);
            }
            return Ok(());
        }
        Err(fault) => return Err(format!("{path}: {fault}").into()),
    };
    let mut at = 0;
    while at < bytes.len() {
        let position = span.first + at as u64;
        let Some(frame) = read_frame(&bytes[at..], position, shared.salt) else {
            wrong.push(&path, format!("is damaged from position {position} on"), Mends::Nobody);
            return Ok(());
        };
        let mut records = Records::new(frame.body, position + FRAME_HEAD as u64);
        records.by_ref().for_each(drop);
        if !records.is_whole() {
            let what = format!("has something at position {position} that this version does not know");
            wrong.push(&path, what, Mends::Nobody);
        }
        at += frame.len();
    }
    // It may stop before the next one begins: what a crash kept from the disk, and the index has. What a queue wants of it is
    // looked at there.
    Ok(())
}

fn check_rows(shared: &Shared, moment: &Moment, wrong: &mut Wrong) -> Result<(), Fault> {
    let is_damaged = |row: &[u8]| matches!(open_row(row), Row::Damaged);
    for row in moment.index.open_table(index::SESSIONS)?.iter()? {
        go_on(shared)?;
        let (number, row) = row?;
        if is_damaged(row.value()) {
            wrong.index(format!("the row of session {} is damaged", number.value()));
        }
    }
    for row in moment.index.open_table(index::RETAINED)?.iter()? {
        go_on(shared)?;
        let (topic, row) = row?;
        if is_damaged(row.value()) {
            wrong.index(format!("the retained message of {:?} is damaged", topic.value()));
        }
    }
    for row in moment.index.open_table(index::VALUES)?.iter()? {
        go_on(shared)?;
        let (key, row) = row?;
        if is_damaged(row.value()) {
            wrong.index(format!("a value of the table {:?} is damaged", key.value().0));
        }
    }
    Ok(())
}

/// Entries per segment, and bytes of their messages.
type Counted = HashMap<u64, (u64, u64)>;

fn check_queues(shared: &Arc<Shared>, moment: &Moment, wrong: &mut Wrong) -> Result<(), Fault> {
    let mut looker = Looker::new(Arc::clone(shared));
    let mut counted = Counted::new();
    let moved = moment.index.open_table(index::MOVED)?;
    for row in moment.index.open_table(index::QUEUES)?.iter()? {
        let (key, row) = row?;
        let (session, first) = key.value();
        let Some(entries) = queue_entries(first, row.value()) else {
            wrong.index(format!("a row of the queue of session {session} is damaged"));
            continue;
        };
        for entry in entries {
            let Entry { position, len, .. } = entry;
            go_on(shared)?;
            let at = moved.get(position)?.map_or(position, |copy| copy.value().0);
            let behind = moment.spans.partition_point(|span| span.first <= at);
            let span = behind.checked_sub(1).map(|at| moment.spans[at]);
            let reads = looker.message(moment, entry).is_ok_and(|message| message.is_some());
            if !reads && span.is_none_or(|span| !has_gone(shared, span)) {
                let path = span.map_or_else(|| index::PATH.to_owned(), |span| path_of(span.serial));
                let what = format!("message {position}, which session {session} waits for, does not read");
                wrong.push(&path, what, Mends::Nobody);
            }
            if let Some(span) = span {
                let counts = counted.entry(span.first).or_default();
                *counts = (counts.0 + 1, counts.1 + u64::from(len));
            }
        }
    }
    check_references(moment, counted, wrong)
}

fn check_references(moment: &Moment, mut counted: Counted, wrong: &mut Wrong) -> Result<(), Fault> {
    for row in moment.index.open_table(index::REFERENCES)?.iter()? {
        let (first, counts) = row?;
        let found = counted.remove(&first.value()).unwrap_or_default();
        if found != counts.value() {
            let (told, first) = (counts.value(), first.value());
            wrong.push(
                index::PATH,
                format!("the segment at {first} is wanted by {found:?} entries and bytes, the index has {told:?}"),
                Mends::Nobody,
            );
        }
    }
    for first in counted.keys() {
        let what = format!("the segment at {first} is wanted, and the index does not know it");
        wrong.push(index::PATH, what, Mends::Nobody);
    }
    Ok(())
}
