//! One MQTT connection over several QUIC streams: packets of all streams become one stream of bytes for the shard, and what
//! the shard says finds its way back to the stream that it concerns. Pure: no stream, no socket, no clock in here.
//!
//! The first stream is the **control stream**: CONNECT, DISCONNECT and AUTH belong there, and its end is the end of the
//! connection. Each further one is a **data stream**; what comes on it waits until the CONNECT has passed.
//!
//! - *Inward*, packets are handed on whole, one by one, in turn between the streams that have one. A packet that is too long
//!   to be collected **takes the floor**: its bytes pass as they come, and the other streams wait meanwhile.
//! - *Outward*, an acknowledgement goes to the stream from which the packet came that it answers. A delivery goes to the
//!   stream on which its topic was subscribed; if several fit, an exact filter comes before a wildcard, and an older
//!   wildcard before a younger. Everything else, PINGRESP included, and what belongs to a stream that has ended, goes to the
//!   control stream.
//!
//! # Packet identifiers
//!
//! They belong to the connection, not to a stream, as the session does: a client uses one identifier on one stream at a
//! time, and what the broker sends is numbered across all streams. An exchange may change streams on its way: a PUBREL on
//! another stream than its PUBLISH is answered there. Topic aliases belong to the connection too; an alias that the broker
//! introduced on one stream is sent on that stream only, because nothing orders one stream against another.

use breakwater_proto::{PacketKind, Split, split};

use book::Book;

mod book;
mod filters;

/// Number of a stream of one connection. Used again when the stream is gone.
pub(crate) type Stream = u16;

/// The first one.
pub(crate) const CONTROL: Stream = 0;

/// Packets up to this length are collected before they are handed on. More than the longest topic, so that the packet
/// identifier of every PUBLISH is seen.
pub(crate) const WHOLE_MAX: usize = 65 * 1024;
/// Bytes collected for all streams of a connection; beyond it the longest incomplete packet takes the floor.
const COLLECTED_MAX: usize = 4 * WHOLE_MAX;

/// Why the connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// A packet on a data stream that belongs on the control stream.
    Misplaced(PacketKind),
    /// A stream ended inside a packet of which the shard has the first part already.
    Torn,
}

impl Breach {
    /// What the client is told.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Misplaced(kind) => format!("{} belongs on the control stream", kind.name()),
            Self::Torn => "a stream ended in the middle of a long packet".to_owned(),
        }
    }
}

/// See the module.
pub(crate) struct Mux {
    sides: Vec<Side>,
    /// The stream whose packet is passing, and what is left of that packet.
    floor: Option<(Stream, usize)>,
    /// The stream to look at first.
    next: usize,
    /// Bytes collected from all streams.
    collected: usize,
    book: Book,
    out: Out,
}

/// One stream, seen from the mux.
#[derive(Default)]
struct Side {
    open: bool,
    /// The client will send no more.
    ended: bool,
    bytes: Vec<u8>,
    /// How much of `bytes` has passed.
    at: usize,
}

/// What is on its way from the shard.
#[derive(Default)]
struct Out {
    /// The beginning of a packet that does not yet tell where it belongs.
    head: Vec<u8>,
    target: Stream,
    left: usize,
}

impl Mux {
    /// With the control stream, and nothing on it yet.
    pub(crate) fn new() -> Self {
        Self {
            sides: vec![Side { open: true, ..Side::default() }],
            floor: None,
            next: 0,
            collected: 0,
            book: Book::default(),
            out: Out::default(),
        }
    }

    /// A data stream was opened under a number that is free.
    pub(crate) fn open(&mut self, stream: Stream) {
        let at = usize::from(stream);
        if at >= self.sides.len() {
            self.sides.resize_with(at + 1, Side::default);
        }
        self.sides[at] = Side { open: true, ..Side::default() };
        self.book.data_streams += 1;
    }

    /// Bytes that may be collected from a stream now.
    pub(crate) fn appetite(&self, stream: Stream) -> usize {
        let side = &self.sides[usize::from(stream)];
        let room = if self.has_floor(stream) { WHOLE_MAX } else { COLLECTED_MAX.saturating_sub(self.collected) };
        if side.open && !side.ended { room.min(WHOLE_MAX.saturating_sub(side.rest().len())) } else { 0 }
    }

    /// Bytes came on a stream.
    pub(crate) fn collect(&mut self, stream: Stream, bytes: &[u8]) {
        let side = &mut self.sides[usize::from(stream)];
        side.bytes.drain(..side.at);
        side.at = 0;
        side.bytes.extend_from_slice(bytes);
        self.collected += bytes.len();
    }

    /// The client sends no more on a stream: nothing is delivered on it, while what it has brought still passes and is
    /// answered. What is left of a packet that did not arrive whole is dropped.
    pub(crate) fn end(&mut self, stream: Stream) {
        self.sides[usize::from(stream)].ended = true;
        self.book.forget_filters(stream);
    }

    /// Nothing can be sent on a stream any more.
    pub(crate) fn deafen(&mut self, stream: Stream) {
        self.book.forget(stream);
    }

    /// The stream has ended, and all that it brought has passed and is answered.
    pub(crate) fn is_done(&self, stream: Stream) -> bool {
        let side = &self.sides[usize::from(stream)];
        let sending = self.out.left > 0 && self.out.target == stream;
        side.ended && !sending && !self.has_floor(stream) && !self.has_whole(side) && !self.book.owes(stream)
    }

    /// Frees the number of a stream that is done, or broken.
    pub(crate) fn close(&mut self, stream: Stream) -> Result<(), Breach> {
        self.book.forget(stream);
        self.book.data_streams -= 1;
        let side = std::mem::take(&mut self.sides[usize::from(stream)]);
        self.collected -= side.rest().len();
        if self.out.target == stream {
            // The rest of a packet whose beginning is lost with its stream.
            self.out.target = Stream::MAX;
        }
        if self.has_floor(stream) { Err(Breach::Torn) } else { Ok(()) }
    }

    fn has_floor(&self, stream: Stream) -> bool {
        self.floor.is_some_and(|(floor, _)| floor == stream)
    }

    /// Whether a stream holds what will pass without anything that is still to come.
    fn has_whole(&self, side: &Side) -> bool {
        !side.rest().is_empty() && !matches!(split(side.rest(), u32::MAX), Ok(Split::Incomplete { .. }))
    }

    /// Hands on at most `room` bytes, packet by packet, one of each stream in turn.
    pub(crate) fn pass(&mut self, mut room: usize, mut to_shard: impl FnMut(&[u8])) -> Result<(), Breach> {
        while room > 0 {
            let Some((stream, left)) = self.floor else {
                if self.next_packet()? {
                    continue;
                }
                return Ok(());
            };
            let side = &mut self.sides[usize::from(stream)];
            let count = room.min(left).min(side.rest().len());
            if count == 0 {
                return if side.ended { Err(Breach::Torn) } else { Ok(()) };
            }
            to_shard(&side.rest()[..count]);
            side.at += count;
            if side.rest().is_empty() {
                (side.bytes, side.at) = (Vec::new(), 0);
            }
            self.collected -= count;
            room -= count;
            self.floor = (count < left).then_some((stream, left - count));
        }
        Ok(())
    }

    /// Gives the floor to the next stream that has a packet. False if none has.
    fn next_packet(&mut self) -> Result<bool, Breach> {
        let count = self.sides.len();
        for at in (self.next..self.next + count).map(|at| at % count) {
            let stream = at as Stream;
            if let Some(len) = self.look(stream)? {
                self.floor = Some((stream, len));
                self.next = at + 1;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The length of the packet at the front of a stream, if it may pass.
    fn look(&mut self, stream: Stream) -> Result<Option<usize>, Breach> {
        let rest = self.sides[usize::from(stream)].rest();
        if rest.is_empty() || (stream != CONTROL && !self.book.is_connected()) {
            return Ok(None);
        }
        let (len, body) = match split(rest, u32::MAX) {
            Ok(Split::Packet(frame)) => (frame.len, frame.body),
            Ok(Split::Incomplete { need: Some(len) }) if self.may_begin(stream) => (len, beginning(rest)),
            Ok(Split::Incomplete { .. }) => return Ok(None),
            // The shard makes the same of it, and knows what to answer.
            Err(_) => return Ok(Some(rest.len())),
        };
        let whole = rest.len() >= len;
        self.book.inspect(stream, rest[0], body, whole)?;
        Ok(Some(len))
    }

    /// Whether an incomplete packet may take the floor.
    fn may_begin(&self, stream: Stream) -> bool {
        let side = &self.sides[usize::from(stream)];
        let alone = stream == CONTROL && self.book.data_streams == 0;
        let longest = || self.sides.iter().all(|other| other.rest().len() <= side.rest().len());
        if alone {
            return self.book.is_connected() || beginning(side.rest()).len() >= book::VERSION_BYTES;
        }
        side.rest().len() >= WHOLE_MAX || (self.collected >= COLLECTED_MAX && longest())
    }

    /// Sorts what the shard has written: calls `to_stream` with pieces, in order for each stream.
    pub(crate) fn sort(&mut self, mut bytes: &[u8], mut to_stream: impl FnMut(Stream, &[u8])) {
        while !bytes.is_empty() {
            if self.out.left == 0 {
                if self.out.head.is_empty()
                    && let Some((target, len)) = self.book.target(bytes)
                {
                    (self.out.target, self.out.left) = (target, len);
                } else {
                    bytes = self.take_head(bytes, &mut to_stream);
                    continue;
                }
            }
            let (now, later) = bytes.split_at(self.out.left.min(bytes.len()));
            self.out.left -= now.len();
            to_stream(self.out.target, now);
            bytes = later;
        }
    }

    /// Adds to the beginning of a packet, bit by bit, until it tells where it belongs. Answers what was not needed.
    fn take_head<'a>(&mut self, bytes: &'a [u8], to_stream: &mut impl FnMut(Stream, &[u8])) -> &'a [u8] {
        let mut taken = 0;
        while taken < bytes.len() {
            // Steps that double, so that a long topic in small pieces costs its length and not the square of it.
            let step = self.out.head.len().max(1).min(bytes.len() - taken);
            self.out.head.extend_from_slice(&bytes[taken..taken + step]);
            taken += step;
            if let Some((target, len)) = self.book.target(&self.out.head) {
                let head = std::mem::take(&mut self.out.head);
                let (now, later) = head.split_at(len.min(head.len()));
                (self.out.target, self.out.left) = (target, len - now.len());
                to_stream(target, now);
                // At most one step was taken too much, all of it from `bytes`.
                return &bytes[taken - later.len()..];
            }
        }
        &[]
    }
}

impl Side {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

/// What is there of the body of an incomplete packet whose header is complete.
fn beginning(bytes: &[u8]) -> &[u8] {
    let header = 1 + bytes.iter().skip(1).take(4).position(|byte| byte & 0x80 == 0).map_or(4, |at| at + 1);
    bytes.get(header..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
