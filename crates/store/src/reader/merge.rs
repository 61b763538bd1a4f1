//! One session, from the index and the two overlays above it.

use std::collections::{BTreeMap, BTreeSet};

use breakwater_contract::store::{OutboundState, Position, SessionRow, StoredSession, Tally};
use redb::ReadTransaction;

use super::Unread;
use crate::index::{INBOUND, OUTBOUND, QUEUES, Row, SESSIONS, SUBSCRIPTIONS, TALLIES, open_row, queue_entries};
use crate::overlay::{Entry, QueueDelta, SessionDelta};
use crate::record::{Epoch, read_row, state_of};
use crate::shared::{Moment, Shared};

/// A window onto a queue.
pub(crate) struct Window {
    pub moment: Moment,
    pub entries: Vec<Entry>,
    pub more: bool,
}

/// The session, unless there is none.
pub(crate) fn session(shared: &Shared, number: u64) -> Result<Option<StoredSession>, Unread> {
    let look = shared.moment(|active| active.sessions.get(&number).cloned());
    let (moment, active) = look.ok_or_else(closed)?;
    let frozen = moment.frozen.as_ref().and_then(|frozen| frozen.sessions.get(&number));
    let deltas = [frozen, active.as_ref()];
    let hidden_up_to = deltas.iter().flatten().map(|delta| delta.queue.hides_up_to()).max();
    let mut merged = Merged::base(&moment.index, number, hidden_up_to.unwrap_or(0))?;
    for delta in deltas.into_iter().flatten() {
        merged.apply(delta);
    }
    merged.finish(number, shared.epoch)
}

fn closed() -> Unread {
    Unread("the index is closed".to_owned())
}

/// A session on its way up through the overlays.
#[derive(Default)]
struct Merged {
    exists: bool,
    row: Vec<u8>,
    subscriptions: BTreeMap<Box<str>, (u8, u32)>,
    inbound: BTreeSet<u16>,
    outbound: BTreeMap<u16, (OutboundState, Option<u64>)>,
    tally: Tally,
    /// Of the queue what an overlay may take out.
    queue: Vec<Entry>,
}

impl Merged {
    fn base(index: &ReadTransaction, number: u64, hidden_up_to: u64) -> Result<Merged, Unread> {
        let mut merged = Merged::default();
        let sessions = index.open_table(SESSIONS)?;
        let Some(row) = sessions.get(number)? else { return Ok(merged) };
        merged.exists = true;
        if let Row::Sound(bytes) = open_row(row.value()) {
            merged.row = bytes.to_vec();
        }
        for row in index.open_table(SUBSCRIPTIONS)?.range((number, "")..)? {
            let (key, grant) = row?;
            let (owner, filter) = key.value();
            if owner != number {
                break;
            }
            merged.subscriptions.insert(filter.into(), grant.value());
        }
        for row in index.open_table(INBOUND)?.range((number, 0)..=(number, u16::MAX))? {
            merged.inbound.insert(row?.0.value().1);
        }
        for row in index.open_table(OUTBOUND)?.range((number, 0)..=(number, u16::MAX))? {
            let (key, flight) = row?;
            let flight = flight_of(key.value().1, flight.value());
            merged.outbound.extend(flight.map(|(id, state, message)| (id, (state, message))));
        }
        let tally = index.open_table(TALLIES)?.get(number)?.map_or((0, 0), |tally| tally.value());
        merged.tally = Tally { messages: tally.0, bytes: tally.1 };
        for row in index.open_table(QUEUES)?.range((number, 0)..=(number, hidden_up_to))? {
            let (key, row) = row?;
            merged.queue.extend(queue_entries(key.value().1, row.value()).unwrap_or_default());
        }
        Ok(merged)
    }

    fn apply(&mut self, delta: &SessionDelta) {
        let exists = delta.exists(self.exists);
        if delta.removed || !exists {
            *self = Merged::default();
        }
        self.exists = exists;
        if !exists {
            return;
        }
        if let Some(row) = &delta.row {
            self.row = row.to_vec();
        }
        for (filter, grant) in &delta.subscriptions {
            match grant {
                Some(grant) => drop(self.subscriptions.insert(filter.clone(), *grant)),
                None => drop(self.subscriptions.remove(filter)),
            }
        }
        for (&packet_id, &held) in &delta.inbound {
            let _ = if held { self.inbound.insert(packet_id) } else { self.inbound.remove(&packet_id) };
        }
        for (&packet_id, flight) in &delta.outbound {
            match flight {
                Some(flight) => drop(self.outbound.insert(packet_id, *flight)),
                None => drop(self.outbound.remove(&packet_id)),
            }
        }
        self.apply_queue(&delta.queue);
    }

    fn apply_queue(&mut self, delta: &QueueDelta) {
        if delta.hides_any() {
            let tally = &mut self.tally;
            self.queue.retain(|entry| {
                let hidden = delta.hides(entry.position);
                if hidden {
                    tally.messages = tally.messages.saturating_sub(1);
                    tally.bytes = tally.bytes.saturating_sub(u64::from(entry.len));
                }
                !hidden
            });
        }
        for entry in &delta.pushed {
            self.queue.push(*entry);
            self.tally.messages += 1;
            self.tally.bytes += u64::from(entry.len);
        }
    }

    fn finish(self, number: u64, epoch: Epoch) -> Result<Option<StoredSession>, Unread> {
        if !self.exists {
            return Ok(None);
        }
        let row = read_row(number, &self.row, epoch);
        let row = row.ok_or_else(|| damaged(number))?;
        Ok(Some(stored(row, self)))
    }
}

fn stored(row: SessionRow, merged: Merged) -> StoredSession {
    let flight = |(id, (state, message)): (u16, (OutboundState, Option<u64>))| (id, state, message.map(Position));
    StoredSession {
        row,
        subscriptions: merged.subscriptions.into_iter().map(|(filter, grant)| (filter, grant.0, grant.1)).collect(),
        inbound: merged.inbound.into_iter().collect(),
        outbound: merged.outbound.into_iter().map(flight).collect(),
        tally: merged.tally,
    }
}

/// A delivery in flight: packet identifier and row.
pub(super) fn flight((packet_id, row): (u16, (u8, u64))) -> Option<(u16, OutboundState, Option<Position>)> {
    let (packet_id, state, message) = flight_of(packet_id, row)?;
    Some((packet_id, state, message.map(Position)))
}

fn flight_of(packet_id: u16, row: (u8, u64)) -> Option<(u16, OutboundState, Option<u64>)> {
    Some((packet_id, state_of(row.0)?, (row.1 != 0).then_some(row.1)))
}

/// The row of a session, as the index has it.
pub(super) fn row_of(number: u64, row: &[u8], epoch: Epoch) -> Result<SessionRow, Unread> {
    let row = match open_row(row) {
        Row::Sound(bytes) => read_row(number, bytes, epoch),
        Row::Damaged => None,
    };
    row.ok_or_else(|| damaged(number))
}

fn damaged(number: u64) -> Unread {
    Unread(format!("the row of session {number} is damaged"))
}

/// The next entries of a queue.
pub(crate) fn window(
    shared: &Shared,
    number: u64,
    after: u64,
    messages_max: usize,
    bytes_max: usize,
) -> Result<Window, Unread> {
    let slice = |delta: &SessionDelta| delta.window(after, messages_max + 1);
    let look = shared.moment(|active| active.sessions.get(&number).map(slice));
    let (moment, active) = look.ok_or_else(closed)?;
    let frozen = moment.frozen.as_ref().and_then(|frozen| frozen.sessions.get(&number)).map(slice);
    let mut taking = Taking { entries: Vec::new(), more: false, after, messages_max, bytes_left: bytes_max };

    let before = moment.index.open_table(SESSIONS)?.get(number)?.is_some();
    let in_frozen = frozen.as_ref().map_or(before, |delta| delta.exists(before));
    let in_active = active.as_ref().map_or(in_frozen, |delta| delta.exists(in_frozen));
    let removed = |delta: &Option<SessionDelta>| delta.as_ref().is_some_and(|delta| delta.removed);
    let hidden = |delta: &Option<SessionDelta>, entry: &Entry| {
        delta.as_ref().is_some_and(|delta| delta.queue.hides(entry.position))
    };
    if before && in_active && !removed(&frozen) && !removed(&active) {
        let queues = moment.index.open_table(QUEUES)?;
        let start = queues.range((number, 0)..=(number, after))?.next_back().transpose()?;
        let start = start.map_or(0, |(key, _)| key.value().1);
        for row in queues.range((number, start)..=(number, u64::MAX))? {
            let (key, row) = row?;
            let entries = queue_entries(key.value().1, row.value()).unwrap_or_default();
            if entries.iter().any(|entry| !hidden(&frozen, entry) && !hidden(&active, entry) && !taking.take(*entry)) {
                break;
            }
        }
    }
    if in_frozen && in_active && !removed(&active) {
        let pushed = frozen.iter().flat_map(|delta| &delta.queue.pushed);
        for entry in pushed.filter(|entry| !hidden(&active, entry)) {
            taking.take(*entry);
        }
    }
    if in_active {
        active.iter().flat_map(|delta| &delta.queue.pushed).for_each(|entry| {
            taking.take(*entry);
        });
    }
    Ok(Window { moment, entries: taking.entries, more: taking.more })
}

struct Taking {
    entries: Vec<Entry>,
    more: bool,
    after: u64,
    messages_max: usize,
    bytes_left: usize,
}

impl Taking {
    /// Answers whether to go on.
    fn take(&mut self, entry: Entry) -> bool {
        if entry.position <= self.after {
            return true;
        }
        let len = entry.len as usize;
        let room = self.entries.len() < self.messages_max && (len <= self.bytes_left || self.entries.is_empty());
        if self.more || !room {
            self.more = true;
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(len);
        self.entries.push(entry);
        true
    }
}

impl SessionDelta {
    /// What a window onto the queue needs of it.
    fn window(&self, after: u64, most: usize) -> SessionDelta {
        let behind = self.queue.pushed.partition_point(|entry| entry.position <= after);
        SessionDelta {
            removed: self.removed,
            row: self.row.as_ref().map(|_| Box::default()),
            queue: QueueDelta {
                pushed: self.queue.pushed.range(behind..).take(most).copied().collect(),
                forgotten: self.queue.forgotten.clone(),
                through: self.queue.through,
            },
            ..SessionDelta::default()
        }
    }
}
