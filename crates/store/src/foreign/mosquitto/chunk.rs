//! The records in the chunks, field by field.

use breakwater_proto::{FilterError, QoS, SubscribeOptions, parse_filter, utf8};

use super::{Client, Stage, Stored, Subscription, Transfer, properties};

/// How the machine that wrote the file lays things out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    version: u32,
    /// Structures with 64-bit fields end at a multiple of 4, as on 32-bit x86, and not of 8.
    narrow: bool,
    /// Numbers that are not in network order have their highest byte first.
    big_endian: bool,
}

impl Layout {
    pub(super) fn of(version: u32) -> Layout {
        Layout { version, narrow: false, big_endian: false }
    }

    fn has_structures(self) -> bool {
        self.version >= 5
    }
}

/// Largest Subscription Identifier.
const IDENTIFIER_MAX: u32 = 268_435_455;

/// Longest packet, but for its head.
const PACKET_MAX: u32 = 268_435_455;

/// What is left of a record, or of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// Kind and record of the chunk that begins here.
    pub(super) fn chunk(&mut self, layout: Layout) -> Result<(u32, &'a [u8]), String> {
        let cut = |_| "the file ends in the middle of a chunk's header".to_owned();
        let kind = if layout.has_structures() { self.u32() } else { self.u16().map(u32::from) }.map_err(cut)?;
        let len = self.u32().map_err(cut)?;
        let left = self.0.len();
        let body = self.take(len as usize).map_err(|_| {
            format!("a chunk of kind {kind} says that it has {len} bytes, and the file ends after {left} of them")
        })?;
        Ok((kind, body))
    }

    /// Answers also whether Mosquitto stopped when it wrote this.
    pub(super) fn configuration(mut self, layout: Layout) -> Result<(Layout, bool), String> {
        let len = self.0.len();
        let (last, stopped, width) = if layout.has_structures() {
            (self.array()?, self.byte()?, self.byte()?)
        } else {
            let (stopped, width) = (self.byte()?, self.byte()?);
            (self.array()?, stopped, width)
        };
        if width != 8 {
            return Err(format!("numbers of messages have {width} bytes each, and not 8"));
        }
        // Numbers are counted from 1 by all that is known to run on such a machine.
        let (little, big) = (u64::from_le_bytes(last), u64::from_be_bytes(last));
        let big_endian = little > u64::from(u32::MAX) && big <= u64::from(u32::MAX);
        Ok((Layout { narrow: layout.has_structures() && len == 12, big_endian, ..layout }, stopped != 0))
    }

    pub(super) fn message(mut self, layout: Layout) -> Result<Stored<'a>, String> {
        let stored = if layout.has_structures() { self.message_of_5(layout)? } else { self.message_of_3(layout)? };
        self.end()?;
        Ok(stored)
    }

    fn message_of_5(&mut self, layout: Layout) -> Result<Stored<'a>, String> {
        let (number, expires_s) = (self.u64(layout)?, self.moment(layout)?);
        let (payload_len, _source_packet_id) = (self.u32()?, self.u16()?);
        let (publisher_len, user_len, topic_len) = (self.u16()?, self.u16()?, self.u16()?);
        let (_port, qos, retain) = (self.u16()?, self.qos()?, self.byte()? != 0);
        let publisher = self.text(publisher_len, "publisher")?;
        let _user = self.take(usize::from(user_len))?;
        let topic = self.topic(topic_len)?;
        let payload = self.payload(payload_len)?;
        let properties = self.properties()?;
        Ok(Stored { number, topic, payload, qos, retain, expires_s, publisher, properties })
    }

    fn message_of_3(&mut self, layout: Layout) -> Result<Stored<'a>, String> {
        let number = self.u64(layout)?;
        let publisher_len = self.u16()?;
        let publisher = self.text(publisher_len, "publisher")?;
        if layout.version == 4 {
            let user_len = self.u16()?;
            let (_user, _port) = (self.take(usize::from(user_len))?, self.u16()?);
        }
        let (_source_packet_id, _packet_id, topic_len) = (self.u16()?, self.u16()?, self.u16()?);
        let topic = self.topic(topic_len)?;
        let (qos, retain) = (self.qos()?, self.byte()? != 0);
        let payload_len = self.u32()?;
        let payload = self.payload(payload_len)?;
        Ok(Stored { number, topic, payload, qos, retain, expires_s: None, publisher, properties: &[] })
    }

    pub(super) fn transfer(mut self, layout: Layout) -> Result<Transfer<'a>, String> {
        let transfer = if layout.has_structures() {
            let (message, packet_id, client_len) = (self.u64(layout)?, self.u16()?, self.u16()?);
            let (qos, state, flags, direction) = (self.qos()?, self.byte()?, self.byte()?, self.byte()?);
            let client = self.client_id(client_len)?;
            let properties = self.properties()?;
            let stage = stage(direction, state)?;
            Transfer { client, message, packet_id, qos, retain: flags & 0xF0 != 0, stage, properties }
        } else {
            let client_len = self.u16()?;
            let client = self.client_id(client_len)?;
            let (message, packet_id, qos) = (self.u64(layout)?, self.u16()?, self.qos()?);
            let (retain, direction, state, _dup) = (self.byte()? != 0, self.byte()?, self.byte()?, self.byte()?);
            let stage = stage(direction, state)?;
            Transfer { client, message, packet_id, qos, retain, stage, properties: &[] }
        };
        self.end()?;
        if transfer.packet_id == 0 && matches!(transfer.stage, Stage::Sent | Stage::Received | Stage::Held) {
            return Err("a message is in flight under packet identifier 0".to_owned());
        }
        Ok(transfer)
    }

    pub(super) fn retained(mut self, layout: Layout) -> Result<u64, String> {
        let number = self.u64(layout)?;
        self.end()?;
        Ok(number)
    }

    pub(super) fn subscription(mut self, layout: Layout) -> Result<Subscription<'a>, String> {
        let subscription = if layout.has_structures() {
            let (identifier, client_len, filter_len) = (self.u32()?, self.u16()?, self.u16()?);
            let (qos, bits, _padding) = (self.qos()?, self.byte()?, self.take(2)?);
            let (client, filter) = (self.client_id(client_len)?, self.filter(filter_len)?);
            let options = SubscribeOptions {
                no_local: bits & 4 != 0,
                retain_as_published: bits & 8 != 0,
                ..SubscribeOptions::new(qos)
            };
            Subscription { client, filter, options, identifier }
        } else {
            let client_len = self.u16()?;
            let client = self.client_id(client_len)?;
            let filter_len = self.u16()?;
            let filter = self.filter(filter_len)?;
            Subscription { client, filter, options: SubscribeOptions::new(self.qos()?), identifier: 0 }
        };
        self.end()?;
        if subscription.identifier > IDENTIFIER_MAX {
            return Err(format!("a Subscription Identifier is {}, which none can be", subscription.identifier));
        }
        Ok(subscription)
    }

    pub(super) fn client(mut self, layout: Layout) -> Result<Client<'a>, String> {
        if !layout.has_structures() {
            let id_len = self.u16()?;
            let (id, _last_packet_id) = (self.client_id(id_len)?, self.u16()?);
            // Behind it is when its connection ended, in as many bytes as the machine has for a time. None of its time expires.
            return match self.0.len() {
                4 | 8 => Ok(Client { id, user: "", expiry_s: u32::MAX, ends_s: None, port: 0 }),
                len => Err(format!("a client's time has {len} bytes, and neither 4 nor 8")),
            };
        }
        let (ends_s, expiry_s) = (self.moment(layout)?, self.u32()?);
        let (_last_packet_id, id_len) = (self.u16()?, self.u16()?);
        let (mut port, mut user_len) = (0, 0);
        if layout.version == 6 {
            (port, user_len) = (self.u16()?, self.u16()?);
            let _padding = self.take(if layout.narrow { 0 } else { 4 })?;
        }
        let (id, user) = (self.client_id(id_len)?, self.user(user_len)?);
        self.end()?;
        Ok(Client { id, user, expiry_s, ends_s, port })
    }

    fn end(&self) -> Result<(), String> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(format!("{left} bytes too many in a chunk")),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| format!("a chunk ends {} bytes too early", len - self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// In the order of the machine.
    fn u64(&mut self, layout: Layout) -> Result<u64, String> {
        let bytes = self.array()?;
        Ok(if layout.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// Seconds of Unix time; none is 0.
    fn moment(&mut self, layout: Layout) -> Result<Option<u64>, String> {
        let seconds = self.u64(layout)?.cast_signed();
        Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0))
    }

    fn qos(&mut self) -> Result<QoS, String> {
        let byte = self.byte()?;
        QoS::from_bits(byte).ok_or_else(|| format!("QoS is {byte}"))
    }

    fn text(&mut self, len: u16, what: &str) -> Result<&'a str, String> {
        utf8::check(self.take(usize::from(len))?).map_err(|_| format!("a {what} is no text in UTF-8"))
    }

    /// Versions up to 2.0.15 write, for a client without a user name, that of a client before, and at times with the two bytes of its
    /// length exchanged: then some of the memory behind it follows. Such a one is none.
    fn user(&mut self, len: u16) -> Result<&'a str, String> {
        Ok(utf8::check(self.take(usize::from(len))?).unwrap_or_default())
    }

    fn client_id(&mut self, len: u16) -> Result<&'a str, String> {
        match self.text(len, "client identifier")? {
            "" => Err("a client identifier is empty".to_owned()),
            id => Ok(id),
        }
    }

    fn topic(&mut self, len: u16) -> Result<&'a str, String> {
        match utf8::check_topic(self.take(usize::from(len))?) {
            Ok("") => Err("a topic is empty".to_owned()),
            Ok(topic) => Ok(topic),
            Err(_) => Err("a topic is no text in UTF-8, or holds a wildcard".to_owned()),
        }
    }

    fn filter(&mut self, len: u16) -> Result<&'a str, String> {
        let filter = self.text(len, "filter")?;
        let told = |fault: FilterError| format!("a filter is none ({fault:?})");
        parse_filter(filter).map(|_| filter).map_err(told)
    }

    fn payload(&mut self, len: u32) -> Result<&'a [u8], String> {
        if len > PACKET_MAX {
            return Err(format!("a payload has {len} bytes, more than a packet holds"));
        }
        self.take(len as usize)
    }

    /// All that is left: checked.
    fn properties(&mut self) -> Result<&'a [u8], String> {
        let raw = std::mem::take(&mut self.0);
        if raw.is_empty() {
            return Ok(raw);
        }
        let mut scratch = Vec::new();
        match properties(raw, &mut scratch) {
            Ok(publish) if publish.payload.is_empty() => Ok(raw),
            Ok(publish) => Err(format!("{} bytes too many in a chunk", publish.payload.len())),
            Err(violation) => Err(format!("properties do not read: {}", violation.text())),
        }
    }
}

/// Mosquitto's numbers for what is to be done next; inbound is direction 0. Where the broker was about to send something, it may have:
/// the file does not say.
fn stage(direction: u8, state: u8) -> Result<Stage, String> {
    Ok(match (direction, state) {
        (1, 1 | 11) => Stage::Queued,
        (1, 2..=5) => Stage::Sent,
        (1, 6 | 9) => Stage::Received,
        (0, 4 | 5 | 7 | 10 | 11) => Stage::Held,
        (0, 6 | 8 | 9) => Stage::Over,
        (0 | 1, _) => return Err(format!("a message is in state {state}, which is unknown for its direction")),
        _ => return Err(format!("a message goes into direction {direction}, which is unknown")),
    })
}
