//! The properties of a message that reach its subscribers unchanged.

use super::{Properties, Property};
use crate::sink::Sink;

/// Properties of a PUBLISH or will that travel unchanged to subscribers: payload format, content type, response topic,
/// correlation data, and user properties in their order [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17]
/// [MQTT-3.3.2-18] [MQTT-3.3.2-20].
///
/// Borrows the checked bytes as received. Those may hold other properties too (alias, expiry, will delay); writing leaves
/// them out. In the usual case there are none and writing is one copy.
#[derive(Clone, Copy, Default)]
pub struct ForwardProperties<'a> {
    raw: &'a [u8],
    /// How many bytes of `raw` are forwarded; equal to its length when it holds nothing else.
    forwarded: usize,
}

impl<'a> ForwardProperties<'a> {
    pub const EMPTY: ForwardProperties<'static> = ForwardProperties { raw: &[], forwarded: 0 };

    /// From bytes that [`ForwardProperties::write`] put out, or [`Property::encode`] of forwarded properties. Trusted:
    /// not checked again.
    #[inline]
    #[must_use]
    pub const fn from_stripped(raw: &'a [u8]) -> ForwardProperties<'a> {
        ForwardProperties { raw, forwarded: raw.len() }
    }

    /// From checked bytes of which `forwarded` are forwarded.
    #[inline]
    pub(crate) const fn from_checked(raw: &'a [u8], forwarded: usize) -> ForwardProperties<'a> {
        ForwardProperties { raw, forwarded }
    }

    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.forwarded == 0
    }

    /// Bytes that [`ForwardProperties::write`] appends.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.forwarded
    }

    /// Appends the forwarded properties in encoded form, without a length in front.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_to(out);
    }

    #[inline]
    pub(crate) fn write_to(&self, out: &mut impl Sink) {
        if self.forwarded == self.raw.len() {
            out.bytes(self.raw);
        } else if self.forwarded > 0 {
            self.write_stripped(out);
        }
    }

    #[cold]
    fn write_stripped(&self, out: &mut impl Sink) {
        for property in self.iter() {
            property.write(out);
        }
    }

    /// The forwarded properties, in their order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let raw = if self.forwarded == 0 { &[] } else { self.raw };
        Properties::of(raw).filter(Property::is_forwarded)
    }

    /// Every property as received, also those that are not forwarded.
    #[inline]
    pub fn received(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        Properties::of(self.raw)
    }

    #[must_use]
    pub fn payload_format(&self) -> Option<u8> {
        self.iter().find_map(|property| match property {
            Property::PayloadFormatIndicator(value) => Some(value),
            _ => None,
        })
    }

    #[must_use]
    pub fn content_type(&self) -> Option<&'a str> {
        self.iter().find_map(|property| match property {
            Property::ContentType(value) => Some(value),
            _ => None,
        })
    }

    #[must_use]
    pub fn response_topic(&self) -> Option<&'a str> {
        self.iter().find_map(|property| match property {
            Property::ResponseTopic(value) => Some(value),
            _ => None,
        })
    }

    #[must_use]
    pub fn correlation(&self) -> Option<&'a [u8]> {
        self.iter().find_map(|property| match property {
            Property::CorrelationData(value) => Some(value),
            _ => None,
        })
    }

    #[inline]
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }
}

impl PartialEq for ForwardProperties<'_> {
    fn eq(&self, other: &ForwardProperties<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ForwardProperties<'_> {}

impl core::fmt::Debug for ForwardProperties<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
