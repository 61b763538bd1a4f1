//! One delivery: what goes to a session, what the session may use while it takes it, and what became of it.

use breakwater_proto::{Instant, Message, MessageView, QoS, Version};

use crate::Limits;
use crate::queue::Pending;

/// What the shard lends to a session for one call.
pub struct Env<'a> {
    pub now: Instant,
    pub limits: &'a Limits,
    /// Out buffer of the session's connection; ignored when there is none.
    pub out: &'a mut Vec<u8>,
    /// Bytes that may still be appended to `out`; goes down with each packet. Beyond it QoS 0 is dropped and QoS 1 and 2
    /// stay queued. One packet into an empty `out` is always allowed, or a packet larger than the bound would never leave.
    pub room: usize,
    pub report: &'a mut Report,
    /// Scratch for building a [`Message`]; its content means nothing between calls.
    pub scratch: &'a mut Vec<u8>,
}

impl Env<'_> {
    /// Whether `len` more bytes may go out.
    #[inline]
    pub(crate) fn has_room(&self, len: usize) -> bool {
        len <= self.room || self.out.is_empty()
    }

    #[inline]
    pub(crate) fn drop_for(&mut self, reason: DropReason) {
        self.report.drops.count(reason);
    }

    #[inline]
    pub(crate) fn drop_pending(&mut self, reason: DropReason, pending: &Pending) {
        self.report.drops.count(reason);
        self.forget(pending.kept());
    }

    /// The session owes the message no longer.
    #[inline]
    pub(crate) fn forget(&mut self, kept: Kept) {
        if kept != Kept::default() {
            self.report.notes.push(Note::Forgotten(kept));
        }
    }
}

/// What calls leave behind for the shard. One reference in [`Env`]: each costs an instruction per delivery.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub drops: Drops,
    /// What the store has to be told; in order.
    pub notes: Vec<Note>,
}

/// Where a message waits that the store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spill {
    /// In memory.
    Never,
    /// In the store alone, where others do, or where there are many in memory.
    #[default]
    WhenMany,
    /// In the store alone: there is no memory for it.
    Always,
}

/// Names a message that the store has, or will have. Means something to the shard alone; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept(pub u32);

/// What the store has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The session owes the message no longer.
    Forgotten(Kept),
    /// A QoS 2 delivery begins: with [`Session::on_stored`](crate::Session::on_stored) it goes out.
    Begun {
        /// Its packet identifier.
        packet_id: u16,
        /// Its message.
        kept: Kept,
    },
    /// PUBREC came, and the message is owed no longer. With [`Session::on_stored`](crate::Session::on_stored) PUBREL goes out.
    Received {
        /// Of the delivery.
        packet_id: u16,
        /// Its message.
        kept: Kept,
    },
    /// A QoS 2 delivery is over, the packet identifier is free.
    Finished {
        /// Which.
        packet_id: u16,
    },
}

/// How one message goes to one session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery<'a> {
    /// The lower of the message's QoS and the granted one.
    pub qos: QoS,
    /// The RETAIN flag as it goes out.
    pub retain: bool,
    /// Identifiers of all subscriptions that matched.
    pub subscription_ids: &'a [u32],
    /// Through a shared group: another member may get it if this session ends.
    pub shared: bool,
    /// What the store calls it, if it is to outlast the process.
    pub kept: Kept,
    /// Where it waits, if it has to.
    pub spill: Spill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Sent,
    Queued,
    /// It waits in the store alone.
    Behind,
    Dropped(DropReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    Expired,
    /// Larger than the client's Maximum Packet Size.
    TooLarge,
    /// The session's queue is full, by count or by bytes.
    QueueFull,
    /// It has waited in the queue for longer than it may.
    TooOld,
    /// QoS 0 while the out buffer has no room.
    SlowConsumer,
    /// QoS 0 for a session without a connection.
    Offline,
}

/// Messages that were dropped, by reason. Plain counters of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    pub expired: u64,
    pub too_large: u64,
    pub queue_full: u64,
    pub too_old: u64,
    pub slow_consumer: u64,
    pub offline: u64,
}

impl Drops {
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        match reason {
            DropReason::Expired => self.expired += 1,
            DropReason::TooLarge => self.too_large += 1,
            DropReason::QueueFull => self.queue_full += 1,
            DropReason::TooOld => self.too_old += 1,
            DropReason::SlowConsumer => self.slow_consumer += 1,
            DropReason::Offline => self.offline += 1,
        }
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.expired + self.too_large + self.queue_full + self.too_old + self.slow_consumer + self.offline
    }
}

/// What a call of `pump` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    pub sent: u32,
    /// More could go if `out` had room: call again once the socket took some. False when the client's quota stopped it.
    pub more: bool,
}

/// A message on its way to many sessions.
///
/// Lives for one dispatch. Sessions that keep the message share one reference-counted copy, built when the first of them
/// asks. From the second connection with the same layout on, delivering is a copy of the bytes encoded before.
pub struct Shared<'a> {
    view: MessageView<'a>,
    source: Source<'a>,
    encoded: &'a mut Vec<u8>,
    layout: Layout,
    /// Where the packet id stands in `encoded`; 0 while nothing is cached.
    id_at: usize,
}

enum Source<'a> {
    Bytes,
    Given(&'a Message),
    Built(Message),
}

/// What decides how a PUBLISH without alias, expiry and subscription identifiers looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout(u8);

impl Layout {
    const NONE: Layout = Layout(u8::MAX);

    #[inline]
    pub(crate) fn new(version: Version, qos: QoS, retain: bool) -> Layout {
        Layout(u8::from(version.is_v5()) << 3 | qos.as_u8() << 1 | u8::from(retain))
    }
}

impl<'a> Shared<'a> {
    /// A message as it stands in a read buffer. `encoded` is scratch for this dispatch only.
    #[inline]
    pub fn borrowed(view: MessageView<'a>, encoded: &'a mut Vec<u8>) -> Shared<'a> {
        Shared { view, source: Source::Bytes, encoded, layout: Layout::NONE, id_at: 0 }
    }

    /// A message that has its own memory already: from another shard, retained, a will.
    #[inline]
    pub fn owned(message: &'a Message, encoded: &'a mut Vec<u8>) -> Shared<'a> {
        Shared { view: message.view(), source: Source::Given(message), encoded, layout: Layout::NONE, id_at: 0 }
    }

    #[inline]
    #[must_use]
    pub fn view(&self) -> MessageView<'a> {
        self.view
    }

    #[inline]
    pub(crate) fn view_ref(&self) -> &MessageView<'a> {
        &self.view
    }

    /// The reference-counted copy; the first call may build it.
    #[inline]
    pub fn message(&mut self, scratch: &mut Vec<u8>) -> &Message {
        if let Source::Bytes = self.source {
            self.source = Source::Built(Message::new(&self.view, scratch));
        }
        match &self.source {
            Source::Given(message) => message,
            Source::Built(message) => message,
            Source::Bytes => unreachable!("built above"),
        }
    }

    /// The reference-counted copy, if there is one.
    #[must_use]
    pub fn copy(&self) -> Option<Message> {
        match &self.source {
            Source::Given(message) => Some(Message::clone(message)),
            Source::Built(message) => Some(message.clone()),
            Source::Bytes => None,
        }
    }

    /// Appends the packet as encoded for an earlier connection of the same layout. False: not there, encode it.
    #[inline]
    pub(crate) fn append_encoded(&self, layout: Layout, packet_id: u16, out: &mut Vec<u8>) -> bool {
        if self.layout != layout || self.id_at == 0 {
            return false;
        }
        let start = out.len();
        out.extend_from_slice(self.encoded);
        if packet_id != 0 {
            let at = start + self.id_at;
            out[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        true
    }

    /// Length of the packet that `append_encoded` would write.
    #[inline]
    pub(crate) fn encoded_len(&self, layout: Layout) -> Option<usize> {
        (self.layout == layout && self.id_at != 0).then_some(self.encoded.len())
    }

    /// Takes note of a packet just encoded. The first one is only remembered by its layout, since most messages have one
    /// receiver; the second one is kept.
    #[inline]
    pub(crate) fn remember(&mut self, layout: Layout, packet: &[u8]) {
        if self.layout == Layout::NONE {
            self.layout = layout;
        } else if self.layout == layout && self.id_at == 0 {
            self.keep(packet);
        }
    }

    #[cold]
    fn keep(&mut self, packet: &[u8]) {
        self.encoded.clear();
        self.encoded.extend_from_slice(packet);
        // Behind the type byte and the Remaining Length, of which the last byte has no continuation bit.
        let length_bytes = packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        self.id_at = 1 + length_bytes + 2 + self.view.topic.len();
    }
}
