//! A message at rest: in a queue, in a mailbox, among the retained ones.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::property::forward::ForwardProperties;
use crate::time::Instant;
use crate::version::QoS;

/// A message, borrowed from wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageView<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    pub properties: ForwardProperties<'a>,
    pub expires_at: Option<Instant>,
    /// Opaque id of the publishing session, 0 for none: what "no local" compares.
    pub origin: u64,
}

/// A message of its own: one shared allocation of header, topic, properties and payload. A clone counts a reference.
///
/// Layout (big endian): flags, topic length (2), properties length (4), expiry (8), origin (8), topic, properties,
/// payload. Flags: bits 0-1 QoS, bit 2 retain, bit 3 expiry is set.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Arc<[u8]>);

const HEADER: usize = 1 + 2 + 4 + 8 + 8;
/// What an `Arc` puts in front of its content.
const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const FLAGS: u8 = 3 | RETAIN | EXPIRES;

impl Message {
    /// Copies the view into one allocation. `scratch` is only a place to build it in, kept by the caller for the next.
    #[must_use]
    pub fn new(view: &MessageView<'_>, scratch: &mut Vec<u8>) -> Message {
        let topic_len = u16::try_from(view.topic.len()).expect("topics come from two-byte length fields");
        let properties_len = u32::try_from(view.properties.len()).expect("properties fit in one packet");
        let mut flags = view.qos.as_u8();
        if view.retain {
            flags |= RETAIN;
        }
        if view.expires_at.is_some() {
            flags |= EXPIRES;
        }
        scratch.clear();
        scratch.push(flags);
        scratch.extend_from_slice(&topic_len.to_be_bytes());
        scratch.extend_from_slice(&properties_len.to_be_bytes());
        scratch.extend_from_slice(&view.expires_at.map_or(0, |at| at.0).to_be_bytes());
        scratch.extend_from_slice(&view.origin.to_be_bytes());
        scratch.extend_from_slice(view.topic.as_bytes());
        view.properties.write(scratch);
        scratch.extend_from_slice(view.payload);
        Message(Arc::from(scratch.as_slice()))
    }

    #[inline]
    #[must_use]
    pub fn view(&self) -> MessageView<'_> {
        parse(&self.0).expect("checked when it was made")
    }

    #[inline]
    #[must_use]
    pub fn topic(&self) -> &str {
        self.view().topic
    }

    #[inline]
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.view().payload
    }

    #[inline]
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.0.first().and_then(|flags| QoS::from_bits(flags & 3)).unwrap_or_default()
    }

    #[inline]
    #[must_use]
    pub fn retain(&self) -> bool {
        self.0.first().is_some_and(|flags| flags & RETAIN != 0)
    }

    #[inline]
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        let flags = self.0.first()?;
        let at = self.0.get(7..15)?.first_chunk::<8>()?;
        (flags & EXPIRES != 0).then_some(Instant(u64::from_be_bytes(*at)))
    }

    #[inline]
    #[must_use]
    pub fn origin(&self) -> u64 {
        self.0.get(15..23).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Heap bytes, the two reference counts included.
    #[inline]
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len().saturating_add(REFERENCE_COUNTS)
    }

    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// From bytes that [`Message::as_bytes`] gave, perhaps long ago and through a disk: checked.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Message> {
        let view = parse(bytes)?;
        let flags = bytes.first()?;
        let properties = view.properties;
        let whole = properties.iter().map(|property| crate::sink::count(|count| property.write(count))).sum::<usize>();
        let valid = flags & !FLAGS == 0
            && crate::utf8::check_topic(view.topic.as_bytes()).is_ok()
            && !view.topic.is_empty()
            && whole == properties.len();
        valid.then(|| Message(Arc::from(bytes)))
    }

    /// Whether two references lead to one allocation.
    #[inline]
    #[must_use]
    pub fn same(&self, other: &Message) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl core::fmt::Debug for Message {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.view().fmt(f)
    }
}

#[inline]
fn parse(bytes: &[u8]) -> Option<MessageView<'_>> {
    let (header, body) = bytes.split_first_chunk::<HEADER>()?;
    let mut cursor = Cursor::new(header);
    let flags = cursor.byte().ok()?;
    let topic_len = cursor.u16().ok()?;
    let properties_len = cursor.u32().ok()?;
    let expires = u64::from_be_bytes(*cursor.take(8).ok()?.first_chunk()?);
    let origin = u64::from_be_bytes(*cursor.take(8).ok()?.first_chunk()?);
    let (topic, body) = body.split_at_checked(usize::from(topic_len))?;
    let (properties, payload) = body.split_at_checked(properties_len as usize)?;
    Some(MessageView {
        topic: core::str::from_utf8(topic).ok()?,
        payload,
        qos: QoS::from_bits(flags & 3)?,
        retain: flags & RETAIN != 0,
        properties: ForwardProperties::from_stripped(properties),
        expires_at: (flags & EXPIRES != 0).then_some(Instant(expires)),
        origin,
    })
}
