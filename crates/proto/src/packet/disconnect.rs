//! DISCONNECT.

use super::ack::read_reason;
use super::{Body, encoding};
use crate::cursor::Cursor;
use crate::frame::PacketKind;
use crate::property::user::UserProperties;
use crate::property::{Place, Property, PropertyWalk, WriteProperties, write_section};
use crate::reason::ReasonCode;
use crate::sink::Sink;
use crate::version::Version;
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason: ReasonCode,
    /// Only a client may send it.
    pub session_expiry: Option<u32>,
    pub reason_string: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    #[must_use]
    pub fn new(reason: ReasonCode) -> Disconnect<'a> {
        Disconnect { reason, ..Disconnect::default() }
    }

    pub(crate) fn decode(version: Version, mut body: Cursor<'a>) -> Result<Disconnect<'a>, Violation> {
        let mut disconnect = Disconnect::default();
        if version.is_v5() && !body.is_empty() {
            disconnect.reason = read_reason(&mut body, PacketKind::Disconnect)?; // [MQTT-3.14.2-1]
            if !body.is_empty() {
                disconnect.read_properties(&mut body)?;
            }
        }
        body.end()?;
        Ok(disconnect)
    }

    fn read_properties(&mut self, body: &mut Cursor<'a>) -> Result<(), Violation> {
        let mut walk = PropertyWalk::start(body, Place::Disconnect)?;
        self.user_properties = UserProperties::from_encoded(walk.raw());
        while let Some(property) = walk.next()? {
            match property {
                Property::SessionExpiryInterval(seconds) => self.session_expiry = Some(seconds),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::ServerReference(text) => self.server_reference = Some(text),
                _ => {}
            }
        }
        Ok(())
    }

    fn has_properties(&self) -> bool {
        self.session_expiry.is_some()
            || self.reason_string.is_some()
            || self.server_reference.is_some()
            || !self.user_properties.is_empty()
    }
}

encoding!(Disconnect, Disconnect);

impl Body for Disconnect<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        let properties = self.has_properties();
        if !version.is_v5() || (self.reason == ReasonCode::NORMAL_DISCONNECTION && !properties) {
            return;
        }
        out.byte(self.reason.as_u8());
        if properties {
            write_section(out, self);
        }
    }
}

impl WriteProperties for Disconnect<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        if let Some(seconds) = self.session_expiry {
            Property::SessionExpiryInterval(seconds).write(out);
        }
        if let Some(text) = self.reason_string {
            Property::ReasonString(text).write(out);
        }
        if let Some(text) = self.server_reference {
            Property::ServerReference(text).write(out);
        }
        self.user_properties.write(out);
    }
}
