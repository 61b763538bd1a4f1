//! The store that forgets with its process. The shortest that the contract can be written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use breakwater_contract::store::{
    Answer, Change, Durability, Health, MessageAt, OutboundState, Position, Question, Queued, Restored, Retained,
    SessionNumber, SessionRow, Store, StoredSession, Submitted, Tally, Terms,
};
use breakwater_contract::{Completion, Completions, Token};
use breakwater_proto::Message;

/// Keeps everything in memory: what is durable is exactly what is there.
pub struct Memory {
    content: Mutex<Content>,
    completions: Arc<dyn Completions>,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    last_session: u64,
    last_position: u64,
    sessions: BTreeMap<SessionNumber, Session>,
    retained: BTreeMap<Box<str>, (u64, Option<Retained>)>,
    values: BTreeMap<Place, Box<[u8]>>,
}

/// Table and key.
type Place = (Box<str>, Box<[u8]>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Session {
    row: SessionRow,
    subscriptions: BTreeMap<Box<str>, (u8, u32)>,
    inbound: BTreeSet<u16>,
    outbound: BTreeMap<u16, (OutboundState, Option<Position>)>,
    queue: BTreeMap<Position, (u64, Terms, Message)>,
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new(completions: Arc<dyn Completions>) -> Memory {
        Memory { content: Mutex::default(), completions }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that nobody submits to: for whoever needs a store and wants nothing kept.
impl Default for Memory {
    fn default() -> Memory {
        Memory::new(Arc::new(Nobody))
    }
}

/// Hears no answers.
pub(crate) struct Nobody;

impl Completions for Nobody {
    fn complete(&self, completion: Completion) {
        drop(completion);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Store for Memory {
    fn is_volatile(&self) -> bool {
        true
    }

    fn new_session(&self) -> SessionNumber {
        let mut content = self.content();
        content.last_session += 1;
        SessionNumber(content.last_session)
    }

    fn submit(&self, token: Token, changes: &[Change], _durability: Durability) -> Submitted {
        let mut content = self.content();
        let mut positions = Vec::new();
        for change in changes {
            content.apply(change, &mut positions);
        }
        drop(content);
        self.completions.complete(Completion::Durable { token, stored: true, positions: positions.into() });
        Submitted::Pending
    }

    fn ask(&self, token: Token, question: Question) -> Submitted {
        let answer = self.content().answer(&question);
        self.completions.complete(Completion::Read { token, answer });
        Submitted::Pending
    }

    fn restore(&self, each: &mut dyn FnMut(Restored)) -> Result<(), String> {
        let content = self.content().clone();
        for session in content.sessions.values() {
            each(Restored::Session(Box::new(session.stored())));
        }
        for retained in content.retained.into_values().filter_map(|(_, retained)| retained) {
            each(Restored::Retained(Box::new(retained)));
        }
        for ((table, key), value) in content.values {
            each(Restored::Value { table, key, value });
        }
        Ok(())
    }

    fn health(&self) -> Health {
        Health::default()
    }
}

impl Content {
    fn apply(&mut self, change: &Change, positions: &mut Vec<Position>) {
        match change {
            Change::Message { message, unix_ms, sessions } => {
                self.last_position += 1;
                let position = Position(self.last_position);
                positions.push(position);
                for wanted in sessions {
                    let entry = (*unix_ms, wanted.terms, message.clone());
                    self.with(wanted.session, |session| drop(session.queue.insert(position, entry)));
                }
            }
            Change::Forget { session, messages } => self.with(*session, |session| {
                session.queue.retain(|position, _| !messages.contains(position));
            }),
            Change::ForgetThrough { session, last } => self.with(*session, |session| {
                session.queue.retain(|position, _| position > last);
            }),
            Change::Session(row) => {
                self.last_session = self.last_session.max(row.number.0);
                self.sessions.entry(row.number).or_default().row = (**row).clone();
            }
            Change::RemoveSession(session) => drop(self.sessions.remove(session)),
            Change::Subscribe { session, filter, options, identifier } => self.with(*session, |session| {
                session.subscriptions.insert(filter.clone(), (*options, *identifier));
            }),
            Change::Unsubscribe { session, filter } => {
                self.with(*session, |session| {
                    session.subscriptions.remove(filter);
                });
            }
            Change::Inbound { session, packet_id, held } => self.with(*session, |session| {
                let _ = if *held { session.inbound.insert(*packet_id) } else { session.inbound.remove(packet_id) };
            }),
            Change::Outbound { session, packet_id, state, message } => {
                let message = message.and_then(|message| match message {
                    MessageAt::Position(position) => Some(position),
                    MessageAt::InBatch(nth) => positions.get(nth as usize).copied(),
                });
                self.with(*session, |session| {
                    session.outbound.insert(*packet_id, (*state, message));
                });
            }
            Change::OutboundDone { session, packet_id } => {
                self.with(*session, |session| {
                    session.outbound.remove(packet_id);
                });
            }
            Change::Retain(retained) => {
                self.retain(retained.message.topic(), retained.revision, Some((**retained).clone()));
            }
            Change::Unretain { topic, revision } => self.retain(topic, *revision, None),
            Change::Value { table, key, value } => {
                let place = (table.clone(), key.clone());
                match value {
                    Some(value) => drop(self.values.insert(place, value.clone())),
                    None => drop(self.values.remove(&place)),
                }
            }
        }
    }

    fn with(&mut self, session: SessionNumber, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.get_mut(&session) {
            change(session);
        }
    }

    fn retain(&mut self, topic: &str, revision: u64, retained: Option<Retained>) {
        if self.retained.get(topic).is_none_or(|(old, _)| *old <= revision) {
            self.retained.insert(topic.into(), (revision, retained));
        }
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Queue { session, after, messages_max, bytes_max } => {
                let Some(session) = self.sessions.get(session) else {
                    return Answer::Queue { messages: Vec::new(), more: false };
                };
                session.window(*after, *messages_max, *bytes_max)
            }
            Question::Entries { session, after, entries_max } => {
                let queue = self.sessions.get(session).map(|session| &session.queue);
                let behind = queue.into_iter().flatten().filter(|(position, _)| *position > after);
                let len = |message: &Message| u32::try_from(message.as_bytes().len()).unwrap_or(u32::MAX);
                let mut entries: Vec<_> = behind.map(|(position, (.., message))| (*position, len(message))).collect();
                let more = entries.len() > *entries_max;
                entries.truncate(*entries_max);
                Answer::Entries { entries, more }
            }
            Question::Session(session) => {
                Answer::Session(self.sessions.get(session).map(|session| Box::new(session.stored())))
            }
            Question::Retained(topic) => {
                let retained = self.retained.get(topic).and_then(|(_, retained)| retained.clone());
                Answer::Retained(retained.map(Box::new))
            }
            Question::Values { table, after, rows_max } => {
                let of_table = self.values.iter().filter(|((owner, _), _)| owner == table);
                let behind = of_table.filter(|((_, key), _)| after.as_ref().is_none_or(|after| key > after));
                let rows = behind.take(*rows_max).map(|((_, key), value)| (key.clone(), value.clone()));
                Answer::Values(rows.collect())
            }
        }
    }
}

impl Session {
    fn window(&self, after: Position, messages_max: usize, bytes_max: usize) -> Answer {
        let (mut messages, mut bytes) = (Vec::new(), 0_usize);
        for (&position, (unix_ms, terms, message)) in self.queue.iter().filter(|(position, _)| **position > after) {
            bytes = bytes.saturating_add(message.as_bytes().len());
            if !messages.is_empty() && (messages.len() >= messages_max || bytes > bytes_max) {
                return Answer::Queue { messages, more: true };
            }
            messages.push(Queued { position, unix_ms: *unix_ms, terms: *terms, message: Some(message.clone()) });
        }
        Answer::Queue { messages, more: false }
    }

    fn stored(&self) -> StoredSession {
        let bytes = self.queue.values().map(|(.., message)| message.as_bytes().len() as u64).sum();
        StoredSession {
            row: self.row.clone(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(filter, grant)| (filter.clone(), grant.0, grant.1))
                .collect(),
            inbound: self.inbound.iter().copied().collect(),
            outbound: self.outbound.iter().map(|(&id, &(state, message))| (id, state, message)).collect(),
            tally: Tally { messages: self.queue.len() as u64, bytes },
        }
    }
}
