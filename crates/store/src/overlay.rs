//! What the log came to since the index was last brought up to date.
//!
//! Lives in memory, so it is small: it is folded into the index before it grows. It knows changes, not states: what was there
//! before is not looked at to apply a record.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use breakwater_contract::store::OutboundState;

use crate::record::{Record, Records, retained_topic};

/// A message that a queue refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub position: u64,
    pub len: u32,
    /// How it goes out, packed.
    pub terms: u32,
}

/// Changes, of a part of the log.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Where the part begins and ends.
    pub from: u64,
    pub to: u64,
    pub sessions: HashMap<u64, SessionDelta>,
    pub retained: HashMap<Box<str>, RetainedDelta>,
    pub values: BTreeMap<Place, Option<Box<[u8]>>>,
    pub moved: Vec<MovedDelta>,
    /// Estimate of what this takes.
    pub bytes: usize,
    /// Above every session's number.
    pub next_session: u64,
}

/// Table and key of a value.
pub(crate) type Place = (Box<str>, Box<[u8]>);

/// Changes of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionDelta {
    /// What there was before is void.
    pub removed: bool,
    /// The row as stored.
    pub row: Option<Box<[u8]>>,
    pub subscriptions: BTreeMap<Box<str>, Option<(u8, u32)>>,
    pub inbound: BTreeMap<u16, bool>,
    pub outbound: BTreeMap<u16, Option<(OutboundState, Option<u64>)>>,
    pub queue: QueueDelta,
}

/// Changes of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueDelta {
    /// At its end, in order.
    pub pushed: VecDeque<Entry>,
    /// Of what was there before.
    pub forgotten: BTreeSet<u64>,
    /// All up to this one, of what was there before.
    pub through: u64,
}

/// What became of a retained message: itself as stored, or none.
#[derive(Clone, Debug)]
pub(crate) struct RetainedDelta {
    pub revision: u64,
    pub stored: Option<Box<[u8]>>,
    /// From the overlay before.
    pub inherited: bool,
}

/// A copy of a message elsewhere in the log.
#[derive(Clone, Debug)]
pub(crate) struct MovedDelta {
    pub name: u64,
    pub at: u64,
    pub sessions: Vec<u64>,
}

/// What a session takes with nothing in it, and one entry of a map, about.
const SESSION_BYTES: usize = 320;
const ENTRY_BYTES: usize = 48;

impl Overlay {
    /// An empty one that begins at a position.
    pub(crate) fn at(from: u64) -> Overlay {
        Overlay { from, to: from, ..Overlay::default() }
    }

    /// The one that follows this. It remembers which topics were cleared: the index does not, and a message that was set before
    /// that, on another shard, may still be on its way.
    pub(crate) fn next(&self) -> Overlay {
        let mut next = Overlay::at(self.to);
        for (topic, delta) in self.retained.iter().filter(|(_, delta)| delta.stored.is_none() && !delta.inherited) {
            next.retain(topic.clone(), RetainedDelta { inherited: true, ..delta.clone() });
        }
        next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Applies the body of a frame. Answers whether all of it was understood.
    pub(crate) fn apply(&mut self, position: u64, body: &[u8]) -> bool {
        let mut records = Records::new(body, position);
        for record in records.by_ref() {
            self.apply_record(&record);
        }
        self.to = position + body.len() as u64;
        records.is_whole()
    }

    fn apply_record(&mut self, record: &Record<'_>) {
        match *record {
            Record::Message { at, message, sessions } => {
                let len = u32::try_from(message.message.len()).unwrap_or(u32::MAX);
                for (session, terms) in sessions {
                    let entry = Entry { position: at, len, terms };
                    self.session(session).queue.pushed.push_back(entry);
                    self.bytes += size_of::<Entry>();
                }
            }
            Record::Moved { at, name, sessions } => {
                self.moved.push(MovedDelta { name, at, sessions: sessions.collect() });
                self.bytes += 2 * ENTRY_BYTES;
            }
            Record::Forget { session, messages } => {
                let from = self.from;
                let queue = &mut self.session(session).queue;
                let before = queue.forgotten.len();
                messages.for_each(|position| queue.forget(position, from));
                let more = queue.forgotten.len() - before;
                self.bytes += more * ENTRY_BYTES;
            }
            Record::ForgetThrough { session, last } => self.session(session).queue.forget_through(last),
            Record::Session { session, row } => {
                self.session(session).row = Some(row.into());
                self.next_session = self.next_session.max(session.saturating_add(1));
                self.bytes += row.len();
            }
            Record::RemoveSession { session } => {
                *self.session(session) = SessionDelta { removed: true, ..SessionDelta::default() };
            }
            Record::Subscribe { session, filter, options, identifier } => {
                self.session(session).subscriptions.insert(filter.into(), Some((options, identifier)));
                self.bytes += filter.len() + ENTRY_BYTES;
            }
            Record::Unsubscribe { session, filter } => {
                self.session(session).subscriptions.insert(filter.into(), None);
                self.bytes += filter.len() + ENTRY_BYTES;
            }
            Record::Inbound { session, packet_id, held } => {
                self.session(session).inbound.insert(packet_id, held);
                self.bytes += ENTRY_BYTES / 4;
            }
            Record::Outbound { session, packet_id, state, message } => {
                self.session(session).outbound.insert(packet_id, Some((state, message)));
                self.bytes += ENTRY_BYTES;
            }
            Record::OutboundDone { session, packet_id } => {
                self.session(session).outbound.insert(packet_id, None);
                self.bytes += ENTRY_BYTES;
            }
            Record::Retain { revision, retained } => {
                if let Some(topic) = retained_topic(retained) {
                    self.retain(topic, RetainedDelta { revision, stored: Some(retained.into()), inherited: false });
                }
            }
            Record::Unretain { topic, revision } => {
                self.retain(topic.into(), RetainedDelta { revision, stored: None, inherited: false })
            }
            Record::Value { table, key, value } => {
                self.bytes += table.len() + key.len() + value.map_or(0, <[u8]>::len) + ENTRY_BYTES;
                self.values.insert((table.into(), key.into()), value.map(Into::into));
            }
        }
    }

    fn session(&mut self, number: u64) -> &mut SessionDelta {
        self.sessions.entry(number).or_insert_with(|| {
            self.bytes += SESSION_BYTES;
            SessionDelta::default()
        })
    }

    fn retain(&mut self, topic: Box<str>, delta: RetainedDelta) {
        if self.retained.get(&topic).is_some_and(|old| old.revision > delta.revision) {
            return;
        }
        self.bytes += topic.len() + delta.stored.as_ref().map_or(0, |stored| stored.len()) + 2 * ENTRY_BYTES;
        self.retained.insert(topic, delta);
    }
}

impl SessionDelta {
    /// Whether there is such a session, if there was one before or not.
    pub(crate) fn exists(&self, before: bool) -> bool {
        self.row.is_some() || (before && !self.removed)
    }
}

impl QueueDelta {
    fn forget(&mut self, position: u64, from: u64) {
        match self.pushed.binary_search_by_key(&position, |entry| entry.position) {
            Ok(at) => drop(self.pushed.remove(at)),
            Err(_) if position < from && position > self.through => drop(self.forgotten.insert(position)),
            Err(_) => {}
        }
    }

    fn forget_through(&mut self, last: u64) {
        let stays = self.pushed.partition_point(|entry| entry.position <= last);
        self.pushed.drain(..stays);
        self.through = self.through.max(last);
        self.forgotten = self.forgotten.split_off(&self.through);
    }

    /// Whether a message that was there before has left.
    pub(crate) fn hides(&self, position: u64) -> bool {
        position <= self.through || self.forgotten.contains(&position)
    }

    /// The last position that may have left of what was there before.
    pub(crate) fn hides_up_to(&self) -> u64 {
        self.through.max(self.forgotten.last().copied().unwrap_or(0))
    }

    /// Whether this says anything of what was there before.
    pub(crate) fn hides_any(&self) -> bool {
        self.through > 0 || !self.forgotten.is_empty()
    }
}
