//! For whoever operates a store: what is in it, whether it is sound, a copy of it.

mod backup;
mod check;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::Ordering;

use redb::{ReadableTable as _, ReadableTableMetadata as _};

use crate::disk::Disk;
use crate::index;
use crate::log::FOLDER;
use crate::overlay::{Overlay, RetainedDelta};
use crate::reader::{Unread, merge, newest};
use crate::shared::{Moment, Shared};

pub use backup::UNFINISHED;
pub(crate) use backup::backup;
pub use check::FINDINGS_MAX;
pub(crate) use check::check;

/// What a store holds.
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
    /// Rows of the operator's tables, as of the last fold.
    pub values: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of the log that are not folded: a start replays them.
    pub unfolded_bytes: u64,
}

/// What became of topics.
type Topics = HashMap<Box<str>, RetainedDelta>;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// An operator's work ends where the store does.
fn go_on(shared: &Shared) -> Result<(), Fault> {
    if shared.interrupted.load(Ordering::Relaxed) { Err("the broker is stopping".into()) } else { Ok(()) }
}

pub(crate) fn stats(shared: &Shared) -> Result<Stats, Fault> {
    let of_active = |active: &Overlay| {
        let sessions: HashSet<u64> = active.sessions.keys().copied().collect();
        (active.to, hollow(&active.retained), sessions)
    };
    let (moment, (end, retained, mut sessions)) = shared.moment(of_active).ok_or("the index is closed")?;
    let index = &moment.index;
    let covered = index.open_table(index::META)?.get(index::COVERED)?.map_or(index::START, |covered| covered.value());
    let mut stats = Stats {
        sessions: index.open_table(index::SESSIONS)?.len()?,
        subscriptions: index.open_table(index::SUBSCRIPTIONS)?.len()?,
        retained: index.open_table(index::RETAINED)?.len()?,
        values: index.open_table(index::VALUES)?.len()?,
        segments: moment.spans.len(),
        disk_bytes: disk_bytes(&*shared.disk)?,
        unfolded_bytes: end.saturating_sub(covered),
        ..Stats::default()
    };
    for row in index.open_table(index::TALLIES)?.iter()? {
        let (messages, bytes) = row?.1.value();
        stats.queued += messages;
        stats.queued_bytes += bytes;
    }
    sessions.extend(moment.frozen.iter().flat_map(|frozen| frozen.sessions.keys()));
    for number in sessions {
        stats.session_changed(shared, &moment, number)?;
    }
    stats.retained_changed(&moment, retained)?;
    Ok(stats)
}

/// Which topics have a message, without the messages: everybody waits while this is copied.
fn hollow(retained: &Topics) -> Topics {
    let without = |delta: &RetainedDelta| RetainedDelta { stored: delta.stored.as_ref().map(|_| [].into()), ..*delta };
    retained.iter().map(|(topic, delta)| (topic.clone(), without(delta))).collect()
}

impl Stats {
    /// Counts a session as it is, and no longer as the index has it.
    fn session_changed(&mut self, shared: &Shared, moment: &Moment, number: u64) -> Result<(), Fault> {
        go_on(shared)?;
        let index = &moment.index;
        let existed = index.open_table(index::SESSIONS)?.get(number)?.is_some();
        let subscriptions = index.open_table(index::SUBSCRIPTIONS)?.range((number, "")..(number + 1, ""))?.count();
        let (messages, bytes) =
            index.open_table(index::TALLIES)?.get(number)?.map(|row| row.value()).unwrap_or_default();
        let is = merge::session(shared, number).map_err(|Unread(why)| why)?;
        let exists = is.is_some();
        let is = is.unwrap_or_default();
        let change = |count: &mut u64, before: u64, after: u64| *count = (*count + after).saturating_sub(before);
        change(&mut self.sessions, u64::from(existed), u64::from(exists));
        change(&mut self.subscriptions, subscriptions as u64, is.subscriptions.len() as u64);
        change(&mut self.queued, messages, is.tally.messages);
        change(&mut self.queued_bytes, bytes, is.tally.bytes);
        Ok(())
    }

    /// The same for topics.
    fn retained_changed(&mut self, moment: &Moment, active: Topics) -> Result<(), Fault> {
        let table = moment.index.open_table(index::RETAINED)?;
        let mut deltas: HashMap<Box<str>, [Option<RetainedDelta>; 2]> = HashMap::new();
        for (topic, delta) in moment.frozen.iter().flat_map(|frozen| hollow(&frozen.retained)) {
            deltas.entry(topic).or_default()[0] = Some(delta);
        }
        for (topic, delta) in active {
            deltas.entry(topic).or_default()[1] = Some(delta);
        }
        for (topic, deltas) in deltas {
            let base = table.get(&*topic)?.and_then(|row| match index::open_row(row.value()) {
                index::Row::Sound(bytes) => Some(bytes.to_vec()),
                index::Row::Damaged => None,
            });
            let (before, after) = (u64::from(base.is_some()), u64::from(newest(base, deltas).is_some()));
            self.retained = (self.retained + after).saturating_sub(before);
        }
        Ok(())
    }
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
