//! Bringing the index up to date: one overlay, one commit.

use std::collections::HashMap;

use redb::{Durability, ReadableTable as _, Table, WriteTransaction};

use super::rows::{pack, queue_entries, seal};
use super::{
    COVERED, INBOUND, Index, META, MOVED, NEXT_SESSION, OUTBOUND, QUEUES, REFERENCES, RETAINED, Row, SALT, SESSIONS,
    SUBSCRIPTIONS, TALLIES, VALUES, open_row,
};
use crate::log::Span;
use crate::overlay::{Entry, MovedDelta, Overlay, QueueDelta, SessionDelta};
use crate::record::{revision_of, state_byte};

/// Entries of a row: more make reading a window cheaper, fewer make taking some out cheaper.
const ROW_MAX: usize = 256;
/// A row with fewer takes the next ones in.
const ROW_OPEN: usize = 128;

/// What a fold did.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Queue entries per segment and their bytes, by its first position; segments without are not here.
    pub references: HashMap<u64, (u64, u64)>,
    /// Rows that did not read, and are gone.
    pub damaged: u64,
}

/// Folds `overlay` into the index.
///
/// # Errors
/// What redb says. Nothing has changed then.
pub(crate) fn fold(index: &Index, overlay: &Overlay, spans: &[Span], salt: u64) -> Result<Folded, String> {
    let guard = index.get();
    let Some(database) = guard.as_ref() else { return Err("the index is not open".to_owned()) };
    let attempt = || -> Result<Folded, redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Without it a start after a crash would read the whole file.
        transaction.set_quick_repair(true);
        let folded = {
            let mut tables = Tables::open(&transaction, spans)?;
            tables.fold(overlay, salt)?;
            tables.finish()?
        };
        transaction.commit()?;
        Ok(folded)
    };
    attempt().map_err(|fault| fault.to_string())
}

struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    sessions: Table<'t, u64, &'static [u8]>,
    subscriptions: Table<'t, (u64, &'static str), (u8, u32)>,
    inbound: Table<'t, (u64, u16), ()>,
    outbound: Table<'t, (u64, u16), (u8, u64)>,
    queues: Table<'t, (u64, u64), &'static [u8]>,
    tallies: Table<'t, u64, (u64, u64)>,
    retained: Table<'t, &'static str, &'static [u8]>,
    values: Table<'t, (&'static str, &'static [u8]), &'static [u8]>,
    references: Table<'t, u64, (u64, u64)>,
    moved: Table<'t, u64, (u64, u64)>,
    spans: &'t [Span],
    /// Changes of references and their bytes, by segment.
    changes: HashMap<u64, (i64, i64)>,
    damaged: u64,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction, spans: &'t [Span]) -> Result<Tables<'t>, redb::Error> {
        Ok(Tables {
            meta: transaction.open_table(META)?,
            sessions: transaction.open_table(SESSIONS)?,
            subscriptions: transaction.open_table(SUBSCRIPTIONS)?,
            inbound: transaction.open_table(INBOUND)?,
            outbound: transaction.open_table(OUTBOUND)?,
            queues: transaction.open_table(QUEUES)?,
            tallies: transaction.open_table(TALLIES)?,
            retained: transaction.open_table(RETAINED)?,
            values: transaction.open_table(VALUES)?,
            references: transaction.open_table(REFERENCES)?,
            moved: transaction.open_table(MOVED)?,
            spans,
            changes: HashMap::new(),
            damaged: 0,
        })
    }

    fn fold(&mut self, overlay: &Overlay, salt: u64) -> Result<(), redb::Error> {
        // The commit before failed after all of it was on the disk.
        if self.meta.get(COVERED)?.is_some_and(|covered| covered.value() >= overlay.to) {
            return Ok(());
        }
        // In order of their keys, which is kinder to a B-tree.
        let mut sessions: Vec<_> = overlay.sessions.iter().collect();
        sessions.sort_unstable_by_key(|(number, _)| **number);
        for (number, delta) in sessions {
            self.session(*number, delta)?;
        }
        for moved in &overlay.moved {
            self.copied(moved)?;
        }
        let mut retained: Vec<_> = overlay.retained.iter().collect();
        retained.sort_unstable_by_key(|(topic, _)| *topic);
        for (topic, delta) in retained {
            let stored = self.retained.get(&**topic)?.and_then(|row| match open_row(row.value()) {
                Row::Sound(bytes) => revision_of(bytes),
                Row::Damaged => None,
            });
            if stored.is_some_and(|revision| revision > delta.revision) {
                continue;
            }
            match &delta.stored {
                Some(bytes) => drop(self.retained.insert(&**topic, seal(bytes.to_vec()).as_slice())?),
                None => drop(self.retained.remove(&**topic)?),
            }
        }
        for ((table, key), value) in &overlay.values {
            match value {
                Some(value) => drop(self.values.insert((&**table, &**key), seal(value.to_vec()).as_slice())?),
                None => drop(self.values.remove((&**table, &**key))?),
            }
        }
        let next = self.meta.get(NEXT_SESSION)?.map_or(1, |number| number.value());
        self.meta.insert(NEXT_SESSION, next.max(overlay.next_session))?;
        self.meta.insert(SALT, salt)?;
        self.meta.insert(COVERED, overlay.to)?;
        Ok(())
    }

    /// The references as they are, those that are none removed.
    fn finish(mut self) -> Result<Folded, redb::Error> {
        for (first, change) in std::mem::take(&mut self.changes) {
            let before = self.references.get(first)?.map_or((0, 0), |counts| counts.value());
            match (before.0.saturating_add_signed(change.0), before.1.saturating_add_signed(change.1)) {
                (0, _) => drop(self.references.remove(first)?),
                counts => drop(self.references.insert(first, counts)?),
            }
        }
        let mut references = HashMap::new();
        for row in self.references.iter()? {
            let (first, count) = row?;
            references.insert(first.value(), count.value());
        }
        Ok(Folded { references, damaged: self.damaged })
    }

    fn session(&mut self, number: u64, delta: &SessionDelta) -> Result<(), redb::Error> {
        let before = self.sessions.get(number)?.is_some();
        let exists = delta.exists(before);
        if before && (delta.removed || !exists) {
            self.wipe(number)?;
        }
        if !exists {
            return Ok(());
        }
        if let Some(row) = &delta.row {
            self.sessions.insert(number, seal(row.to_vec()).as_slice())?;
        }
        for (filter, grant) in &delta.subscriptions {
            match grant {
                Some(grant) => drop(self.subscriptions.insert((number, &**filter), *grant)?),
                None => drop(self.subscriptions.remove((number, &**filter))?),
            }
        }
        for (&packet_id, &held) in &delta.inbound {
            if held {
                self.inbound.insert((number, packet_id), ())?;
            } else {
                self.inbound.remove((number, packet_id))?;
            }
        }
        for (&packet_id, flight) in &delta.outbound {
            match flight {
                Some((state, message)) => {
                    let row = (state_byte(*state), message.unwrap_or(0));
                    self.outbound.insert((number, packet_id), row)?;
                }
                None => drop(self.outbound.remove((number, packet_id))?),
            }
        }
        self.queue(number, &delta.queue)
    }

    fn wipe(&mut self, number: u64) -> Result<(), redb::Error> {
        self.sessions.remove(number)?;
        let filters: Vec<Box<str>> = self
            .subscriptions
            .range((number, "")..)?
            .map(|row| row.map(|(key, _)| (key.value().0, Box::from(key.value().1))))
            .take_while(|row| !matches!(row, Ok((owner, _)) if *owner != number))
            .map(|row| row.map(|(_, filter)| filter))
            .collect::<Result<_, _>>()?;
        for filter in filters {
            self.subscriptions.remove((number, &*filter))?;
        }
        self.inbound.retain_in((number, 0)..=(number, u16::MAX), |_, ()| false)?;
        self.outbound.retain_in((number, 0)..=(number, u16::MAX), |_, _| false)?;
        let everything = QueueDelta { through: u64::MAX, ..QueueDelta::default() };
        self.queue(number, &everything)
    }

    fn queue(&mut self, number: u64, delta: &QueueDelta) -> Result<(), redb::Error> {
        if !delta.hides_any() && delta.pushed.is_empty() {
            return Ok(());
        }
        let (mut messages, mut bytes) = self.tallies.get(number)?.map_or((0, 0), |tally| tally.value());
        let gone = self.take_out(number, delta)?;
        messages = messages.saturating_sub(gone.0);
        bytes = bytes.saturating_sub(gone.1);
        for entry in &delta.pushed {
            messages += 1;
            bytes += u64::from(entry.len);
            self.refer(entry.position, 1, i64::from(entry.len));
        }
        self.append(number, delta)?;
        match messages {
            0 => drop(self.tallies.remove(number)?),
            _ => drop(self.tallies.insert(number, (messages, bytes))?),
        }
        Ok(())
    }

    /// Removes what the delta hides. Answers how many messages and bytes went.
    fn take_out(&mut self, number: u64, delta: &QueueDelta) -> Result<(u64, u64), redb::Error> {
        let mut gone = (0, 0);
        while let Some(first) = self.first_row(number, 0, delta.through)? {
            let last = self.thin_out(number, first, delta, &mut gone)?;
            if last > delta.through {
                break;
            }
        }
        let mut next = delta.forgotten.first().copied();
        while let Some(position) = next {
            let row = self.queues.range((number, 0)..=(number, position))?.next_back().transpose()?;
            let last = match row.map(|(key, _)| key.value().1) {
                Some(first) => self.thin_out(number, first, delta, &mut gone)?.max(position),
                None => position,
            };
            next = delta.forgotten.range(last.saturating_add(1)..).next().copied();
        }
        Ok(gone)
    }

    fn first_row(&self, number: u64, from: u64, to: u64) -> Result<Option<u64>, redb::Error> {
        let row = self.queues.range((number, from)..=(number, to))?.next().transpose()?;
        Ok(row.map(|(key, _)| key.value().1))
    }

    /// Writes a row again without what the delta hides. Answers the last position that it held.
    fn thin_out(
        &mut self,
        number: u64,
        first: u64,
        delta: &QueueDelta,
        gone: &mut (u64, u64),
    ) -> Result<u64, redb::Error> {
        let entries = self.queues.remove((number, first))?.map(|row| queue_entries(first, row.value()));
        let Some(Some(entries)) = entries else {
            self.damaged += 1;
            return Ok(first);
        };
        let last = entries.last().map_or(first, |entry| entry.position);
        let (hidden, kept): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| delta.hides(entry.position));
        for entry in &hidden {
            *gone = (gone.0 + 1, gone.1 + u64::from(entry.len));
            self.no_longer_refer(entry)?;
        }
        self.write_row(number, &kept)?;
        Ok(last)
    }

    fn append(&mut self, number: u64, delta: &QueueDelta) -> Result<(), redb::Error> {
        let Some(first) = delta.pushed.front() else { return Ok(()) };
        let row = self.queues.range((number, 0)..=(number, first.position))?.next_back().transpose()?;
        let open = row.and_then(|(key, row)| {
            let first = key.value().1;
            queue_entries(first, row.value()).filter(|entries| entries.len() < ROW_OPEN).map(|row| (first, row))
        });
        let mut entries = Vec::new();
        if let Some((first, row)) = open {
            self.queues.remove((number, first))?;
            entries = row;
        }
        entries.extend(&delta.pushed);
        for row in entries.chunks(ROW_MAX) {
            self.write_row(number, row)?;
        }
        Ok(())
    }

    fn write_row(&mut self, number: u64, entries: &[Entry]) -> Result<(), redb::Error> {
        if let Some(first) = entries.first() {
            self.queues.insert((number, first.position), pack(entries).as_slice())?;
        }
        Ok(())
    }

    /// One queue entry less for a message.
    fn no_longer_refer(&mut self, entry: &Entry) -> Result<(), redb::Error> {
        let copy = self.moved.get(entry.position)?.map(|row| row.value());
        let (at, count) = copy.unwrap_or((entry.position, 0));
        self.refer(at, -1, -i64::from(entry.len));
        match (copy, count.saturating_sub(1)) {
            (None, _) => {}
            (Some(_), 0) => drop(self.moved.remove(entry.position)?),
            (Some(_), count) => drop(self.moved.insert(entry.position, (at, count))?),
        }
        Ok(())
    }

    /// So many queue entries and bytes more or less for a segment.
    fn refer(&mut self, position: u64, entries: i64, bytes: i64) {
        let behind = self.spans.partition_point(|span| span.first <= position);
        if let Some(span) = behind.checked_sub(1).and_then(|at| self.spans.get(at)) {
            let change = self.changes.entry(span.first).or_default();
            *change = (change.0 + entries, change.1 + bytes);
        }
    }

    /// A message was copied: whoever still refers to it refers to the copy.
    fn copied(&mut self, copy: &MovedDelta) -> Result<(), redb::Error> {
        let (mut count, mut bytes) = (0, 0);
        for session in &copy.sessions {
            let row = self.queues.range((*session, 0)..=(*session, copy.name))?.next_back().transpose()?;
            let entries = row.and_then(|(key, row)| queue_entries(key.value().1, row.value())).unwrap_or_default();
            if let Some(entry) = entries.iter().find(|entry| entry.position == copy.name) {
                count += 1;
                bytes += i64::from(entry.len);
            }
        }
        if count == 0 {
            return Ok(());
        }
        let before = self.moved.get(copy.name)?.map_or(copy.name, |row| row.value().0);
        self.refer(before, -count, -bytes);
        self.refer(copy.at, count, bytes);
        self.moved.insert(copy.name, (copy.at, count.unsigned_abs()))?;
        Ok(())
    }
}
