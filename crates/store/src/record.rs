//! A change as the log has it, and back.
//!
//! A record is a kind (1 byte) and what the kind needs, without a length of its own: records lie in frames, which know theirs. A
//! message has a CRC of its own besides, since it is read alone later.

use breakwater_contract::store::{
    Change, MessageAt, OutboundState, Retained, SessionNumber, SessionRow, Terms, Wanted,
};
use breakwater_proto::{Instant, Message, MessageView, QoS};

use crate::bytes::{Ascending, Reader, number_len, put_ascending, put_bytes, put_number};

const MESSAGE: u8 = 1;
const FORGET: u8 = 2;
const FORGET_THROUGH: u8 = 3;
const SESSION: u8 = 4;
const REMOVE_SESSION: u8 = 5;
const SUBSCRIBE: u8 = 6;
const UNSUBSCRIBE: u8 = 7;
const INBOUND: u8 = 8;
const OUTBOUND: u8 = 9;
const OUTBOUND_DONE: u8 = 10;
const RETAIN: u8 = 11;
const UNRETAIN: u8 = 12;
const VALUE: u8 = 13;
const MOVED: u8 = 14;

/// Unix time, in milliseconds, at which the clock of the messages' expiry began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch(pub u64);

impl Epoch {
    /// The message with its expiry in Unix time, if it has one.
    fn out(self, message: &Message, scratch: &mut Vec<u8>) -> Option<Message> {
        let at = message.expires_at()?;
        Some(with_expiry(message, Instant(at.0.saturating_add(self.0)), scratch))
    }

    /// The other way.
    pub(crate) fn back(self, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_bytes(bytes)?;
        let Some(at) = message.expires_at() else { return Some(message) };
        Some(with_expiry(&message, Instant(at.0.saturating_sub(self.0)), &mut Vec::new()))
    }
}

fn with_expiry(message: &Message, at: Instant, scratch: &mut Vec<u8>) -> Message {
    Message::new(&MessageView { expires_at: Some(at), ..message.view() }, scratch)
}

/// Writes records, and remembers where messages lie among them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    pub bytes: Vec<u8>,
    /// Offset of each message of the batch.
    pub messages: Vec<usize>,
    epoch: Epoch,
    scratch: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(epoch: Epoch) -> Encoder {
        Encoder { epoch, ..Encoder::default() }
    }

    pub(crate) fn put(&mut self, change: &Change) {
        let start = self.bytes.len();
        match change {
            Change::Message { message, unix_ms, sessions } => {
                self.messages.push(start);
                self.bytes.push(MESSAGE);
                let moved = self.epoch.out(message, &mut self.scratch);
                let message = moved.as_ref().unwrap_or(message).as_bytes();
                put_message(&mut self.bytes, Stamped { unix_ms: *unix_ms, message });
                put_wanted(&mut self.bytes, sessions);
            }
            Change::Forget { session, messages } => {
                self.head(FORGET, *session);
                put_sorted(&mut self.bytes, messages.iter().map(|position| position.0));
            }
            Change::ForgetThrough { session, last } => {
                self.head(FORGET_THROUGH, *session);
                put_number(&mut self.bytes, last.0);
            }
            Change::Session(row) => {
                self.head(SESSION, row.number);
                put_row(&mut self.bytes, row, self.epoch, &mut self.scratch);
            }
            Change::RemoveSession(session) => self.head(REMOVE_SESSION, *session),
            Change::Subscribe { session, filter, options, identifier } => {
                self.head(SUBSCRIBE, *session);
                put_bytes(&mut self.bytes, filter.as_bytes());
                self.bytes.push(*options);
                put_number(&mut self.bytes, u64::from(*identifier));
            }
            Change::Unsubscribe { session, filter } => {
                self.head(UNSUBSCRIBE, *session);
                put_bytes(&mut self.bytes, filter.as_bytes());
            }
            Change::Inbound { session, packet_id, held } => {
                self.head(INBOUND, *session);
                put_number(&mut self.bytes, u64::from(*packet_id));
                self.bytes.push(u8::from(*held));
            }
            Change::Outbound { session, packet_id, state, message } => {
                self.head(OUTBOUND, *session);
                put_number(&mut self.bytes, u64::from(*packet_id));
                self.bytes.push(state_byte(*state));
                self.message_at(start, *message);
            }
            Change::OutboundDone { session, packet_id } => {
                self.head(OUTBOUND_DONE, *session);
                put_number(&mut self.bytes, u64::from(*packet_id));
            }
            Change::Retain(retained) => {
                self.bytes.push(RETAIN);
                put_retained(&mut self.bytes, retained, self.epoch, &mut self.scratch);
            }
            Change::Unretain { topic, revision } => {
                self.bytes.push(UNRETAIN);
                put_number(&mut self.bytes, *revision);
                put_bytes(&mut self.bytes, topic.as_bytes());
            }
            Change::Value { table, key, value } => {
                self.bytes.push(VALUE);
                put_bytes(&mut self.bytes, table.as_bytes());
                put_bytes(&mut self.bytes, key);
                self.bytes.push(u8::from(value.is_some()));
                put_bytes(&mut self.bytes, value.as_deref().unwrap_or_default());
            }
        }
    }

    fn head(&mut self, kind: u8, session: SessionNumber) {
        self.bytes.push(kind);
        put_number(&mut self.bytes, session.0);
    }

    /// None is 0, a position is 1, a message of this batch is 2 and how far back it lies.
    fn message_at(&mut self, start: usize, message: Option<MessageAt>) {
        let in_batch = |nth: u32| self.messages.get(nth as usize).map(|offset| (start - offset) as u64);
        match message {
            Some(MessageAt::Position(position)) => {
                self.bytes.push(1);
                put_number(&mut self.bytes, position.0);
            }
            Some(MessageAt::InBatch(nth)) if let Some(back) = in_batch(nth) => {
                self.bytes.push(2);
                put_number(&mut self.bytes, back);
            }
            _ => self.bytes.push(0),
        }
    }
}

/// A message that was copied from a segment that is to go; it keeps its name.
pub(crate) fn put_moved(into: &mut Vec<u8>, name: u64, message: Stamped<'_>, sessions: &[u64]) {
    into.push(MOVED);
    put_number(into, name);
    put_message(into, message);
    put_ascending(into, sessions);
}

/// A message, as bytes, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamped<'a> {
    pub unix_ms: u64,
    pub message: &'a [u8],
}

/// Bytes of a time: enough for eight thousand years.
const TIME: usize = 6;

fn put_message(into: &mut Vec<u8>, stamped: Stamped<'_>) {
    put_number(into, stamped.message.len() as u64);
    let time = stamped.unix_ms.min((1 << (8 * TIME)) - 1).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&time[..TIME]), stamped.message);
    into.extend_from_slice(&crc.to_le_bytes());
    into.extend_from_slice(&time[..TIME]);
    into.extend_from_slice(stamped.message);
}

/// Bytes in front of a message's own in its record; `moved_from` if the record is a copy.
pub(crate) fn message_head(len: u32, moved_from: Option<u64>) -> usize {
    1 + moved_from.map_or(0, number_len) + number_len(u64::from(len)) + 4 + TIME
}

/// The message in the record of it that lies at the front of `bytes`; `None` if it is not what was written.
pub(crate) fn stored_message(bytes: &[u8]) -> Option<Stamped<'_>> {
    let mut reader = Reader(bytes);
    match reader.byte()? {
        MESSAGE => {}
        MOVED => drop(reader.number()?),
        _ => return None,
    }
    let len: usize = reader.small()?;
    let crc = reader.u32()?;
    (crc32c::crc32c(reader.0.get(..TIME + len)?) == crc).then(|| take_stamped(&mut reader, len))?
}

fn take_message<'a>(reader: &mut Reader<'a>) -> Option<Stamped<'a>> {
    let len = reader.small()?;
    reader.u32()?;
    take_stamped(reader, len)
}

fn take_stamped<'a>(reader: &mut Reader<'a>, len: usize) -> Option<Stamped<'a>> {
    let mut time = [0; 8];
    time[..TIME].copy_from_slice(reader.take(TIME)?);
    Some(Stamped { unix_ms: u64::from_le_bytes(time), message: reader.take(len)? })
}

fn put_sorted(into: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    put_ascending(into, &numbers);
}

/// How many there are, the terms of the first one, and then of each, by its number, by how much that is greater than the one before,
/// and its terms where they are others than those before.
fn put_wanted(into: &mut Vec<u8>, sessions: &[Wanted]) {
    let sorted;
    let mut sessions = sessions;
    if !sessions.is_sorted_by(|one, next| one.session < next.session) {
        let mut some = sessions.to_vec();
        some.sort_by_key(|wanted| wanted.session);
        some.dedup_by_key(|wanted| wanted.session);
        sorted = some;
        sessions = &sorted;
    }
    put_number(into, sessions.len() as u64);
    let Some(first) = sessions.first() else { return };
    let (mut last, mut terms) = (0, pack_terms(first.terms));
    put_number(into, u64::from(terms));
    for wanted in sessions {
        let own = pack_terms(wanted.terms);
        put_number(into, (wanted.session.0 - last) << 1 | u64::from(own != terms));
        if own != terms {
            put_number(into, u64::from(own));
        }
        (last, terms) = (wanted.session.0, own);
    }
}

/// What [`put_wanted`] wrote: sessions and packed terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedBy<'a> {
    reader: Reader<'a>,
    left: usize,
    last: u64,
    terms: u32,
}

impl Iterator for WantedBy<'_> {
    type Item = (u64, u32);

    fn next(&mut self) -> Option<(u64, u32)> {
        self.left = self.left.checked_sub(1)?;
        let step = self.reader.number()?;
        self.last = self.last.wrapping_add(step >> 1);
        if step & 1 == 1 {
            self.terms = self.reader.small()?;
        }
        Some((self.last, self.terms))
    }
}

fn take_wanted<'a>(reader: &mut Reader<'a>) -> Option<WantedBy<'a>> {
    let left: usize = reader.small()?;
    let terms = if left > 0 { reader.small()? } else { 0 };
    let wanted = WantedBy { reader: *reader, left, last: 0, terms };
    let mut walk = wanted;
    for _ in 0..left {
        walk.next()?;
    }
    *reader = walk.reader;
    Some(wanted)
}

const QOS_2: u32 = 1;
const RETAINED: u32 = 1 << 1;
const SHARED: u32 = 1 << 2;
const MORE_IDS: u32 = 1 << 3;

/// Four flags, and a Subscription Identifier, which has 28 bits.
pub(crate) fn pack_terms(terms: Terms) -> u32 {
    let flag = |is: bool, bit: u32| if is { bit } else { 0 };
    terms.subscription_id << 4
        | flag(terms.qos == QoS::ExactlyOnce, QOS_2)
        | flag(terms.retain, RETAINED)
        | flag(terms.shared, SHARED)
        | flag(terms.more_ids, MORE_IDS)
}

/// What [`pack_terms`] packed.
pub(crate) fn unpack_terms(packed: u32) -> Terms {
    Terms {
        qos: if packed & QOS_2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce },
        retain: packed & RETAINED != 0,
        shared: packed & SHARED != 0,
        subscription_id: packed >> 4,
        more_ids: packed & MORE_IDS != 0,
    }
}

/// Everything of a row but its number.
fn put_row(into: &mut Vec<u8>, row: &SessionRow, epoch: Epoch, scratch: &mut Vec<u8>) {
    put_bytes(into, row.client_id.as_bytes());
    put_bytes(into, row.user.as_bytes());
    put_number(into, u64::from(row.expiry_s));
    put_number(into, row.detached_unix_ms);
    put_bytes(into, &row.attributes);
    into.push(u8::from(row.will.is_some()));
    if let Some((message, delay_s)) = &row.will {
        put_number(into, u64::from(*delay_s));
        let moved = epoch.out(message, scratch);
        put_bytes(into, moved.as_ref().unwrap_or(message).as_bytes());
    }
}

/// What [`put_row`] wrote.
pub(crate) fn read_row(number: u64, bytes: &[u8], epoch: Epoch) -> Option<SessionRow> {
    let mut reader = Reader(bytes);
    let mut row = SessionRow {
        number: SessionNumber(number),
        client_id: reader.text()?.into(),
        user: reader.text()?.into(),
        expiry_s: reader.small()?,
        detached_unix_ms: reader.number()?,
        attributes: reader.bytes()?.into(),
        will: None,
    };
    if reader.byte()? == 1 {
        let delay_s = reader.small()?;
        row.will = Some((epoch.back(reader.bytes()?)?, delay_s));
    }
    Some(row)
}

fn put_retained(into: &mut Vec<u8>, retained: &Retained, epoch: Epoch, scratch: &mut Vec<u8>) {
    put_number(into, retained.revision);
    put_number(into, retained.set_unix_ms);
    put_bytes(into, retained.by.as_bytes());
    let moved = epoch.out(&retained.message, scratch);
    put_bytes(into, moved.as_ref().unwrap_or(&retained.message).as_bytes());
}

/// What [`put_retained`] wrote.
pub(crate) fn read_retained(bytes: &[u8], epoch: Epoch) -> Option<Retained> {
    let mut reader = Reader(bytes);
    Some(Retained {
        revision: reader.number()?,
        set_unix_ms: reader.number()?,
        by: reader.text()?.into(),
        message: epoch.back(reader.bytes()?)?,
    })
}

/// Revision of what [`put_retained`] wrote.
pub(crate) fn revision_of(bytes: &[u8]) -> Option<u64> {
    Reader(bytes).number()
}

pub(crate) fn state_byte(state: OutboundState) -> u8 {
    match state {
        OutboundState::Sent => 0,
        OutboundState::Received => 1,
    }
}

pub(crate) fn state_of(byte: u8) -> Option<OutboundState> {
    match byte {
        0 => Some(OutboundState::Sent),
        1 => Some(OutboundState::Received),
        _ => None,
    }
}

/// One record, in the frame that it was read from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Message { at: u64, message: Stamped<'a>, sessions: WantedBy<'a> },
    Moved { at: u64, name: u64, sessions: Ascending<'a> },
    Forget { session: u64, messages: Ascending<'a> },
    ForgetThrough { session: u64, last: u64 },
    Session { session: u64, row: &'a [u8] },
    RemoveSession { session: u64 },
    Subscribe { session: u64, filter: &'a str, options: u8, identifier: u32 },
    Unsubscribe { session: u64, filter: &'a str },
    Inbound { session: u64, packet_id: u16, held: bool },
    Outbound { session: u64, packet_id: u16, state: OutboundState, message: Option<u64> },
    OutboundDone { session: u64, packet_id: u16 },
    Retain { revision: u64, retained: &'a [u8] },
    Unretain { topic: &'a str, revision: u64 },
    Value { table: &'a str, key: &'a [u8], value: Option<&'a [u8]> },
}

/// The records of a frame, whose CRC was right, and whose body begins at a position of the log. Ends early, with [`Records::is_whole`] false, where it
/// does not read on.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    reader: Reader<'a>,
    whole: usize,
    position: u64,
    broken: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(body: &'a [u8], position: u64) -> Records<'a> {
        Records { reader: Reader(body), whole: body.len(), position, broken: false }
    }

    pub(crate) fn is_whole(&self) -> bool {
        !self.broken
    }

    fn read(&mut self) -> Option<Record<'a>> {
        let at = self.position + (self.whole - self.reader.0.len()) as u64;
        let reader = &mut self.reader;
        let kind = reader.byte()?;
        Some(match kind {
            MESSAGE => Record::Message { at, message: take_message(reader)?, sessions: take_wanted(reader)? },
            MOVED => {
                let name = reader.number()?;
                take_message(reader)?;
                Record::Moved { at, name, sessions: reader.ascending()? }
            }
            FORGET => Record::Forget { session: reader.number()?, messages: reader.ascending()? },
            FORGET_THROUGH => Record::ForgetThrough { session: reader.number()?, last: reader.number()? },
            SESSION => {
                let session = reader.number()?;
                let before = reader.0;
                skip_row(reader)?;
                Record::Session { session, row: &before[..before.len() - reader.0.len()] }
            }
            REMOVE_SESSION => Record::RemoveSession { session: reader.number()? },
            SUBSCRIBE => Record::Subscribe {
                session: reader.number()?,
                filter: reader.text()?,
                options: reader.byte()?,
                identifier: reader.small()?,
            },
            UNSUBSCRIBE => Record::Unsubscribe { session: reader.number()?, filter: reader.text()? },
            INBOUND => {
                Record::Inbound { session: reader.number()?, packet_id: reader.small()?, held: reader.byte()? == 1 }
            }
            OUTBOUND => {
                let (session, packet_id) = (reader.number()?, reader.small()?);
                let state = state_of(reader.byte()?)?;
                let message = match reader.byte()? {
                    0 => None,
                    1 => Some(reader.number()?),
                    2 => Some(at.checked_sub(reader.number()?)?),
                    _ => return None,
                };
                Record::Outbound { session, packet_id, state, message }
            }
            OUTBOUND_DONE => Record::OutboundDone { session: reader.number()?, packet_id: reader.small()? },
            RETAIN => {
                let before = reader.0;
                let (revision, _set, _by) = (reader.number()?, reader.number()?, reader.text()?);
                reader.bytes()?;
                Record::Retain { revision, retained: &before[..before.len() - reader.0.len()] }
            }
            UNRETAIN => Record::Unretain { revision: reader.number()?, topic: reader.text()? },
            VALUE => {
                let (table, key) = (reader.text()?, reader.bytes()?);
                let set = reader.byte()? == 1;
                let value = reader.bytes()?;
                Record::Value { table, key, value: set.then_some(value) }
            }
            _ => return None,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.broken || self.reader.0.is_empty() {
            return None;
        }
        let record = self.read();
        self.broken = record.is_none();
        record
    }
}

fn skip_row(reader: &mut Reader<'_>) -> Option<()> {
    let (_client, _user) = (reader.text()?, reader.text()?);
    let (_expiry, _detached): (u32, u64) = (reader.small()?, reader.number()?);
    reader.bytes()?;
    if reader.byte()? == 1 {
        reader.number()?;
        reader.bytes()?;
    }
    Some(())
}

/// Topic of what [`put_retained`] wrote.
pub(crate) fn retained_topic(bytes: &[u8]) -> Option<Box<str>> {
    let mut reader = Reader(bytes);
    let (_revision, _set, _by) = (reader.number()?, reader.number()?, reader.text()?);
    Some(Message::from_bytes(reader.bytes()?)?.topic().into())
}
