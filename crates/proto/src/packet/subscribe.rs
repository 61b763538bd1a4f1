//! SUBSCRIBE and its options.

use super::{Body, encoding};
use crate::cursor::Cursor;
use crate::property::user::UserProperties;
use crate::property::{Place, Property, PropertyWalk, WriteProperties, write_section};
use crate::sink::Sink;
use crate::version::{QoS, Version};
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: u16,
    pub subscription_id: Option<u32>,
    pub user_properties: UserProperties<'a>,
    pub filters: Filters<'a>,
}

/// When a new subscription is sent retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    AtSubscribe = 0,
    IfNew = 1,
    Never = 2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    #[must_use]
    pub fn new(qos: QoS) -> SubscribeOptions {
        SubscribeOptions { qos, ..SubscribeOptions::default() }
    }

    /// From the options byte of 5.0.
    #[inline]
    pub fn from_byte(byte: u8) -> Result<SubscribeOptions, Violation> {
        if byte & 0xC0 != 0 {
            return Err(Violation::SubscribeOptionsReserved); // [MQTT-3.8.3-5]
        }
        Ok(SubscribeOptions {
            qos: QoS::from_bits(byte & 3).ok_or(Violation::SubscribeQosInvalid)?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::AtSubscribe,
                1 => RetainHandling::IfNew,
                2 => RetainHandling::Never,
                _ => return Err(Violation::RetainHandlingInvalid),
            },
        })
    }

    #[inline]
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        self.qos.as_u8()
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    fn read(version: Version, byte: u8) -> Result<SubscribeOptions, Violation> {
        match version {
            Version::V5 => SubscribeOptions::from_byte(byte),
            Version::V311 if byte & 0xFC != 0 => Err(Violation::SubscribeOptionsReserved), // [MQTT3-3.8.3-4]
            // 3.1 leaves the upper bits unused and asks nobody to check them.
            Version::V311 | Version::V31 => {
                QoS::from_bits(byte & 3).map(SubscribeOptions::new).ok_or(Violation::SubscribeQosInvalid)
            }
        }
    }
}

/// The filters of a SUBSCRIBE with their options, in their order. An iterator over checked bytes; a copy starts over.
#[derive(Clone, Copy)]
pub struct Filters<'a> {
    raw: Cursor<'a>,
    version: Version,
}

impl<'a> Filters<'a> {
    /// From bytes that [`Filters::write`] put out. Trusted: not checked.
    #[must_use]
    pub fn from_encoded(raw: &'a [u8]) -> Filters<'a> {
        Filters { raw: Cursor::new(raw), version: Version::V5 }
    }

    /// Appends one filter with its options in the form that [`Filters::from_encoded`] reads.
    pub fn write(filter: &str, options: SubscribeOptions, out: &mut Vec<u8>) {
        out.string(filter);
        out.push(options.as_byte());
    }

    /// Checks the whole payload of a SUBSCRIBE.
    fn check(version: Version, body: Cursor<'a>) -> Result<Filters<'a>, Violation> {
        if body.is_empty() {
            return Err(Violation::SubscribeWithoutFilter); // [MQTT-3.8.3-2] [MQTT3-3.8.3-3]
        }
        let mut cursor = body;
        while !cursor.is_empty() {
            let filter = cursor.string()?; // [MQTT-3.8.3-1] [MQTT3-3.8.3-1]
            let options = SubscribeOptions::read(version, cursor.byte()?)?;
            if options.no_local && filter.starts_with("$share/") {
                return Err(Violation::NoLocalOnShared); // [MQTT-3.8.3-4]
            }
        }
        Ok(Filters { raw: body, version })
    }
}

impl<'a> Iterator for Filters<'a> {
    type Item = (&'a str, SubscribeOptions);

    #[inline]
    fn next(&mut self) -> Option<(&'a str, SubscribeOptions)> {
        let filter = self.raw.string().ok()?;
        let options = SubscribeOptions::read(self.version, self.raw.byte().ok()?).ok()?;
        Some((filter, options))
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Filters<'_>) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Filters<'_> {}

impl core::fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

impl<'a> Subscribe<'a> {
    #[must_use]
    pub const fn new(packet_id: u16, filters: Filters<'a>) -> Subscribe<'a> {
        Subscribe { packet_id, subscription_id: None, user_properties: UserProperties::EMPTY, filters }
    }

    /// Filters and options in their order. Their syntax is not checked here: a bad one gets its code in SUBACK.
    #[inline]
    #[must_use]
    pub fn filters(&self) -> Filters<'a> {
        self.filters
    }

    pub(crate) fn decode(version: Version, mut body: Cursor<'a>) -> Result<Subscribe<'a>, Violation> {
        let packet_id = body.packet_id()?;
        let mut subscription_id = None;
        let mut user_properties = UserProperties::EMPTY;
        if version.is_v5() {
            let mut walk = PropertyWalk::start(&mut body, Place::Subscribe)?;
            user_properties = UserProperties::from_encoded(walk.raw());
            while let Some(property) = walk.next()? {
                if let Property::SubscriptionIdentifier(id) = property {
                    subscription_id = Some(id);
                }
            }
        }
        let filters = Filters::check(version, body)?;
        Ok(Subscribe { packet_id, subscription_id, user_properties, filters })
    }
}

encoding!(Subscribe, Subscribe);

impl Body for Subscribe<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        out.u16(self.packet_id);
        if version.is_v5() {
            write_section(out, self);
        }
        for (filter, options) in self.filters {
            out.string(filter);
            out.byte(if version.is_v5() { options.as_byte() } else { options.qos.as_u8() });
        }
    }
}

impl WriteProperties for Subscribe<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        if let Some(id) = self.subscription_id {
            Property::SubscriptionIdentifier(id).write(out);
        }
        self.user_properties.write(out);
    }
}
