//! Everything, at a start.
//!
//! The tables lie in the order of the sessions, so they are read side by side from front to end, not session by session.

use std::collections::BTreeSet;
use std::iter::Peekable;

use breakwater_contract::store::{Restored, StoredSession, Tally};
use redb::{ReadableTable as _, StorageError};

use super::{Unread, merge, newest, retained_of};
use crate::index::{INBOUND, OUTBOUND, RETAINED, Row, SESSIONS, SUBSCRIPTIONS, TALLIES, VALUES, open_row};
use crate::shared::Shared;

pub(super) fn restore(shared: &Shared, each: &mut dyn FnMut(Restored)) -> Result<(), Unread> {
    sessions(shared, each)?;
    retained(shared, each)?;
    values(shared, each)
}

fn sessions(shared: &Shared, each: &mut dyn FnMut(Restored)) -> Result<(), Unread> {
    let look = shared.moment(|active| active.sessions.keys().copied().collect::<BTreeSet<u64>>());
    let (moment, mut changed) = look.ok_or_else(|| Unread("the index is closed".to_owned()))?;
    changed.extend(moment.frozen.iter().flat_map(|frozen| frozen.sessions.keys()));

    let mut give = |found: Result<_, Unread>| match found {
        Ok(Some(session)) => each(Restored::Session(Box::new(session))),
        Ok(None) => {}
        Err(Unread(why)) => shared.damage(1, &format!("lost: {why}")),
    };
    let table = moment.index.open_table(SUBSCRIPTIONS)?;
    let mut subscriptions = table
        .iter()?
        .map(|row| {
            row.map(|(key, grant)| {
                let (owner, filter) = key.value();
                let (options, identifier) = grant.value();
                (owner, (Box::<str>::from(filter), options, identifier))
            })
        })
        .peekable();
    let table = moment.index.open_table(INBOUND)?;
    let mut inbound = table.iter()?.map(|row| row.map(|(key, _)| key.value())).peekable();
    let table = moment.index.open_table(OUTBOUND)?;
    let mut outbound = table
        .iter()?
        .map(|row| {
            row.map(|(key, flight)| {
                let (owner, packet_id) = key.value();
                (owner, (packet_id, flight.value()))
            })
        })
        .peekable();
    let table = moment.index.open_table(TALLIES)?;
    let mut tallies = table.iter()?.map(|row| row.map(|(owner, tally)| (owner.value(), tally.value()))).peekable();

    for row in moment.index.open_table(SESSIONS)?.iter()? {
        let (number, row) = row?;
        let number = number.value();
        let mut session = StoredSession {
            subscriptions: of_session(&mut subscriptions, number)?,
            inbound: of_session(&mut inbound, number)?,
            outbound: of_session(&mut outbound, number)?.into_iter().filter_map(merge::flight).collect(),
            ..StoredSession::default()
        };
        if let Some(&(messages, bytes)) = of_session(&mut tallies, number)?.first() {
            session.tally = Tally { messages, bytes };
        }
        if changed.contains(&number) {
            continue;
        }
        give(merge::row_of(number, row.value(), shared.epoch).map(|row| Some(StoredSession { row, ..session })));
    }
    for number in changed {
        give(merge::session(shared, number));
    }
    Ok(())
}

/// What belongs to a session; what belongs to those before it, which are gone, is passed over.
fn of_session<T>(
    rows: &mut Peekable<impl Iterator<Item = Result<(u64, T), StorageError>>>,
    number: u64,
) -> Result<Vec<T>, Unread> {
    let mut found = Vec::new();
    while let Some(row) = rows.next_if(|row| !matches!(row, Ok((owner, _)) if *owner > number)) {
        let (owner, row) = row?;
        if owner == number {
            found.push(row);
        }
    }
    Ok(found)
}

fn retained(shared: &Shared, each: &mut dyn FnMut(Restored)) -> Result<(), Unread> {
    let look = shared.moment(|active| active.retained.clone());
    let (moment, mut active) = look.ok_or_else(|| Unread("the index is closed".to_owned()))?;
    let mut frozen = moment.frozen.as_ref().map(|frozen| frozen.retained.clone()).unwrap_or_default();
    let mut give = |bytes: Option<Vec<u8>>| {
        let retained = bytes.and_then(|bytes| retained_of(&bytes, shared));
        if let Some(retained) = retained {
            each(Restored::Retained(Box::new(retained)));
        }
    };
    for row in moment.index.open_table(RETAINED)?.iter()? {
        let (topic, row) = row?;
        let base = match open_row(row.value()) {
            Row::Sound(bytes) => Some(bytes.to_vec()),
            Row::Damaged => {
                shared.damage(1, &format!("the retained message of {} is damaged: it is lost", topic.value()));
                None
            }
        };
        give(newest(base, [frozen.remove(topic.value()), active.remove(topic.value())]));
    }
    for (topic, delta) in frozen {
        give(newest(None, [Some(delta), active.remove(&topic)]));
    }
    for (_, delta) in active {
        give(newest(None, [Some(delta), None]));
    }
    Ok(())
}

fn values(shared: &Shared, each: &mut dyn FnMut(Restored)) -> Result<(), Unread> {
    let look = shared.moment(|active| active.values.clone());
    let (moment, active) = look.ok_or_else(|| Unread("the index is closed".to_owned()))?;
    let mut changes = moment.frozen.as_ref().map(|frozen| frozen.values.clone()).unwrap_or_default();
    changes.extend(active);
    let mut give = |table: &str, key: &[u8], value: &[u8]| {
        each(Restored::Value { table: table.into(), key: key.into(), value: value.into() });
    };
    for row in moment.index.open_table(VALUES)?.iter()? {
        let (key, value) = row?;
        let (table, key) = key.value();
        if changes.contains_key(&(table.into(), key.into())) {
            continue;
        }
        if let Row::Sound(value) = open_row(value.value()) {
            give(table, key, value);
        }
    }
    for ((table, key), value) in &changes {
        if let Some(value) = value {
            give(table, key, value);
        }
    }
    Ok(())
}
