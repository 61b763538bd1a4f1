//! For whoever operates a store: what is in it, whether it is sound, a copy of it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};

use crate::disk::{Disk, RealDisk};
use crate::index::{self, queue_entries};
use crate::log::{FOLDER, FRAME_HEAD, Span, path_of, read_frame, whole_of};
use crate::overlay::Entry;
use crate::reader::Looker;
use crate::record::Records;
use crate::shared::Shared;

/// What a store holds, as of the last fold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages in their queues; one that several want counts for each.
    pub queued: u64,
    /// Bytes of those.
    pub queued_bytes: u64,
    /// Retained messages.
    pub retained: u64,
    /// Rows of the operator's tables.
    pub values: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of the log that are not folded: a start replays them.
    pub unfolded_bytes: u64,
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn stats(shared: &Shared) -> Result<Stats, Fault> {
    let (moment, unfolded_bytes) = shared.moment(|active| active.to).ok_or("the index is closed")?;
    let index = &moment.index;
    let covered = index.open_table(index::META)?.get(index::COVERED)?.map_or(index::START, |covered| covered.value());
    let mut stats = Stats {
        sessions: index.open_table(index::SESSIONS)?.len()?,
        subscriptions: index.open_table(index::SUBSCRIPTIONS)?.len()?,
        retained: index.open_table(index::RETAINED)?.len()?,
        values: index.open_table(index::VALUES)?.len()?,
        segments: moment.spans.len(),
        disk_bytes: disk_bytes(&*shared.disk)?,
        unfolded_bytes: unfolded_bytes.saturating_sub(covered),
        ..Stats::default()
    };
    for row in index.open_table(index::TALLIES)?.iter()? {
        let (messages, bytes) = row?.1.value();
        stats.queued += messages;
        stats.queued_bytes += bytes;
    }
    Ok(stats)
}

/// Bytes of all files of the store.
pub(crate) fn disk_bytes(disk: &dyn Disk) -> io::Result<u64> {
    let mut bytes = disk.open(index::PATH)?.len()?;
    for name in disk.list(FOLDER)? {
        // One that is removed at this moment takes nothing.
        bytes += disk.open(&format!("{FOLDER}/{name}")).and_then(|file| file.len()).unwrap_or(0);
    }
    Ok(bytes)
}

/// Reads everything that the index and the log hold up to the last fold. Answers what is wrong, nothing if nothing is.
pub(crate) fn check(shared: &Arc<Shared>) -> Result<Vec<String>, Fault> {
    let (moment, ()) = shared.moment(|_| ()).ok_or("the index is closed")?;
    let covered = moment.index.open_table(index::META)?.get(index::COVERED)?.map_or(index::START, |at| at.value());
    let mut wrong = Vec::new();
    for (at, span) in moment.spans.iter().enumerate() {
        let end = moment.spans.get(at + 1).map_or(covered, |next| next.first).max(span.first);
        check_segment(shared, *span, end, &mut wrong)?;
    }
    let mut looker = Looker::new(Arc::clone(shared));
    let mut counted: HashMap<u64, (u64, u64)> = HashMap::new();
    let moved = moment.index.open_table(index::MOVED)?;
    for row in moment.index.open_table(index::QUEUES)?.iter()? {
        let (key, row) = row?;
        let (session, first) = key.value();
        let Some(entries) = queue_entries(first, row.value()) else {
            wrong.push(format!("a row of the queue of session {session} in the index is damaged"));
            continue;
        };
        for Entry { position, len } in entries {
            if looker.message(&moment, position, len).ok().flatten().is_none() {
                wrong.push(format!("message {position} of session {session} does not read"));
            }
            let at = moved.get(position)?.map_or(position, |copy| copy.value().0);
            let behind = moment.spans.partition_point(|span| span.first <= at);
            if let Some(span) = behind.checked_sub(1).map(|at| moment.spans[at]) {
                let counts = counted.entry(span.first).or_default();
                *counts = (counts.0 + 1, counts.1 + u64::from(len));
            }
        }
    }
    for row in moment.index.open_table(index::REFERENCES)?.iter()? {
        let (first, counts) = row?;
        let found = counted.remove(&first.value()).unwrap_or_default();
        if found != counts.value() {
            let (told, first) = (counts.value(), first.value());
            wrong.push(format!(
                "the segment at {first} is wanted by {found:?} entries and bytes, the index has {told:?}"
            ));
        }
    }
    wrong.extend(
        counted.keys().map(|first| format!("the segment at {first} is wanted, and the index does not know it")),
    );
    Ok(wrong)
}

fn check_segment(shared: &Shared, span: Span, end: u64, wrong: &mut Vec<String>) -> Result<(), Fault> {
    let path = path_of(span.serial);
    let bytes = whole_of(&*shared.disk, span, end)?;
    let mut at = 0;
    while at < bytes.len() {
        let position = span.first + at as u64;
        let Some(frame) = read_frame(&bytes[at..], position, shared.salt) else {
            wrong.push(format!("{path} is damaged from position {position} on"));
            return Ok(());
        };
        let mut records = Records::new(frame.body, position + FRAME_HEAD as u64);
        records.by_ref().for_each(drop);
        if !records.is_whole() {
            wrong.push(format!("{path} has something at position {position} that this version does not know"));
        }
        at += frame.len();
    }
    Ok(())
}

/// How often a copy is begun again because a segment went meanwhile.
const TRIES: usize = 5;

/// Copies the store into a new folder while it works. Answers up to which position at least.
pub(crate) fn backup(shared: &Shared, folder: &Path) -> Result<u64, Fault> {
    if fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(format!("{} is not empty; a copy goes into a folder of its own", folder.display()).into());
    }
    let target = RealDisk::new(folder)?;
    target.make_folder(FOLDER)?;
    for _ in 0..TRIES {
        // Whatever is there now stays once it has a second name.
        let spans = Arc::clone(&shared.state().spans);
        let linked = spans.iter().try_for_each(|span| copy_segment(shared, &target, *span, spans.last()));
        let (moment, position) = shared.moment(|active| active.from).ok_or("the index is closed")?;
        let later = moment.spans.iter().try_for_each(|span| copy_segment(shared, &target, *span, moment.spans.last()));
        match linked.and(later) {
            Ok(()) => {
                copy_index(&moment.index, folder)?;
                target.sync_folder(FOLDER)?;
                target.sync_folder("")?;
                return Ok(position);
            }
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Err("segments went faster than they could be copied".into())
}

/// A sealed segment gets a second name where that is possible; the one that grows is copied.
fn copy_segment(shared: &Shared, target: &RealDisk, span: Span, last: Option<&Span>) -> io::Result<()> {
    let path = path_of(span.serial);
    let from = shared.disk.real_path(&path).ok_or(io::ErrorKind::Unsupported)?;
    let to = target.real_path(&path).ok_or(io::ErrorKind::Unsupported)?;
    let grows = last.is_some_and(|last| last.serial == span.serial);
    if !grows && (is_same_length(&from, &to) || fs::hard_link(&from, &to).is_ok()) {
        return Ok(());
    }
    fs::copy(&from, &to)?;
    target.open(&path)?.sync()
}

fn is_same_length(one: &Path, other: &Path) -> bool {
    let len = |path: &Path| fs::metadata(path).map(|file| file.len()).ok();
    len(one).is_some_and(|length| len(other) == Some(length))
}

fn copy_index(from: &ReadTransaction, folder: &Path) -> Result<(), Fault> {
    let mut database = Database::create(folder.join(index::PATH))?;
    let mut to = database.begin_write()?;
    to.set_quick_repair(true);
    {
        macro_rules! copy {
            ($($table:ident)*) => {$(
                let mut table = to.open_table(index::$table)?;
                for row in from.open_table(index::$table)?.iter()? {
                    let (key, value) = row?;
                    table.insert(key.value(), value.value())?;
                }
            )*};
        }
        copy!(META SESSIONS SUBSCRIPTIONS INBOUND OUTBOUND QUEUES TALLIES RETAINED VALUES REFERENCES MOVED);
    }
    to.commit()?;
    database.compact()?;
    Ok(())
}
