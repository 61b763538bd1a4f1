//! UNSUBSCRIBE.

use super::{Body, encoding};
use crate::cursor::Cursor;
use crate::property::user::UserProperties;
use crate::property::{Place, PropertyWalk, WriteProperties, write_section};
use crate::sink::Sink;
use crate::version::Version;
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: u16,
    pub user_properties: UserProperties<'a>,
    pub filters: UnsubscribeFilters<'a>,
}

/// The filters of an UNSUBSCRIBE, in their order. An iterator over checked bytes; a copy starts over.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a> {
    raw: Cursor<'a>,
}

impl<'a> UnsubscribeFilters<'a> {
    /// From bytes that [`UnsubscribeFilters::write`] put out. Trusted: not checked.
    #[must_use]
    pub fn from_encoded(raw: &'a [u8]) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters { raw: Cursor::new(raw) }
    }

    pub fn write(filter: &str, out: &mut Vec<u8>) {
        out.string(filter);
    }

    fn check(body: Cursor<'a>) -> Result<UnsubscribeFilters<'a>, Violation> {
        if body.is_empty() {
            return Err(Violation::UnsubscribeWithoutFilter); // [MQTT-3.10.3-2] [MQTT3-3.10.3-2]
        }
        let mut cursor = body;
        while !cursor.is_empty() {
            cursor.string()?; // [MQTT-3.10.3-1] [MQTT3-3.10.3-1]
        }
        Ok(UnsubscribeFilters { raw: body })
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        self.raw.string().ok()
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &UnsubscribeFilters<'_>) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl core::fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

impl<'a> Unsubscribe<'a> {
    #[must_use]
    pub const fn new(packet_id: u16, filters: UnsubscribeFilters<'a>) -> Unsubscribe<'a> {
        Unsubscribe { packet_id, user_properties: UserProperties::EMPTY, filters }
    }

    #[inline]
    #[must_use]
    pub fn filters(&self) -> UnsubscribeFilters<'a> {
        self.filters
    }

    pub(crate) fn decode(version: Version, mut body: Cursor<'a>) -> Result<Unsubscribe<'a>, Violation> {
        let packet_id = body.packet_id()?;
        let mut user_properties = UserProperties::EMPTY;
        if version.is_v5() {
            let mut walk = PropertyWalk::start(&mut body, Place::Unsubscribe)?;
            user_properties = UserProperties::from_encoded(walk.raw());
            while walk.next()?.is_some() {}
        }
        let filters = UnsubscribeFilters::check(body)?;
        Ok(Unsubscribe { packet_id, user_properties, filters })
    }
}

encoding!(Unsubscribe, Unsubscribe);

impl Body for Unsubscribe<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        out.u16(self.packet_id);
        if version.is_v5() {
            write_section(out, self);
        }
        for filter in self.filters {
            out.string(filter);
        }
    }
}

impl WriteProperties for Unsubscribe<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        self.user_properties.write(out);
    }
}
