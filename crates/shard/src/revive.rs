//! A start: what the store has kept comes back, before anybody can ask for it.

use breakwater_contract::Token;
use breakwater_contract::store::{Change, Durability, Restored, Store, Submitted};
use breakwater_proto::{Instant, Message, MessageView};
use breakwater_router::Router;

use crate::delayed::{self, Delayed};
use crate::lasting::Back;
use crate::starts::Starts;

/// What a start finds and a shard is to have: [`hand_out`](crate::hand_out).
#[derive(Debug)]
pub enum Found {
    /// A session.
    Session(Back),
    /// A message that is to be published later.
    Delayed(Delayed),
}

/// How much a start has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revived {
    /// Sessions that clients come back to.
    pub sessions: u64,
    /// Messages that are to be published later.
    pub delayed: u64,
    /// Retained messages that are back.
    pub retained: u64,
    /// Those that have expired meanwhile.
    pub expired: u64,
    /// Those that stay in the store because the limits on retained messages leave no room for them.
    pub refused: u64,
}

/// A shard that there isn't: answers to what a start submits meet nobody.
pub const NOBODY: u16 = u16::MAX;

/// Changes of one batch.
const BATCH: usize = 4096;

/// Puts retained messages back that `store` has kept, and gives what is for the shards to `each`, one by one: all of it together takes
/// more memory than what it becomes. `now`: of the clock that expiry is told in, and what Unix time it is then.
///
/// Every start gives revisions greater than all earlier ones, also than those of messages that were cleared since and that
/// nothing tells of any more: it counts the starts.
///
/// # Errors
/// What kept the store from reading.
pub fn revive(
    store: &dyn Store,
    router: &Router,
    now: Instant,
    unix_ms: u64,
    each: &mut dyn FnMut(Found),
) -> Result<Revived, String> {
    let mut revived = Revived::default();
    let mut starts = Starts::default();
    let mut expired = Vec::new();
    let mut building = Vec::new();
    store.restore(&mut |restored| match restored {
        Restored::Retained(retained) => {
            starts.see_revision(retained.revision);
            if retained.message.expires_at().is_some_and(|at| at <= now) {
                expired.push(Box::from(retained.message.topic()));
                return;
            }
            // Its publisher's name among the sessions is one of another life.
            let view = MessageView { origin: u64::MAX, ..retained.message.view() };
            match router.retain(Message::new(&view, &mut building)).refused {
                None => revived.retained += 1,
                Some(_) => revived.refused += 1,
            }
        }
        Restored::Session(session) => {
            let back = Back::new(session, now, unix_ms);
            revived.sessions += u64::from(back.is_a_clients());
            each(Found::Session(back));
        }
        Restored::Value { table, key, value } if *table == *delayed::TABLE => {
            // One of a later form, or not as it was written, stays where it is.
            if let Some(delayed) = Delayed::from_row(&key, &value, &mut building) {
                revived.delayed += 1;
                each(Found::Delayed(delayed));
            }
        }
        Restored::Value { table, key, value } => starts.see_value(&table, &key, &value),
    })?;
    revived.expired = expired.len() as u64;
    let (count, first) = starts.next();
    router.start_revisions_at(first + revived.expired);
    let clear = |(number, topic): (u64, Box<str>)| Change::Unretain { topic, revision: first + number };
    let changes: Vec<Change> = std::iter::once(count).chain((0..).zip(expired).map(clear)).collect();
    if !store.is_volatile() {
        for batch in changes.chunks(BATCH) {
            let token = Token { shard: NOBODY, slot: 0, generation: 0, sequence: 0 };
            if store.submit(token, batch, Durability::Fsync) == Submitted::Refused {
                return Err(format!("the store takes nothing: {}", store.health().fault));
            }
        }
    }
    Ok(revived)
}
