//! AUTH, of 5.0 alone.

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
pub struct Auth<'a> {
    pub reason: ReasonCode,
    /// `None` only in the short form without any property.
    pub method: Option<&'a str>,
    pub data: Option<&'a [u8]>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    pub(crate) fn decode(mut body: Cursor<'a>) -> Result<Auth<'a>, Violation> {
        let mut auth = Auth::default();
        if body.is_empty() {
            return Ok(auth);
        }
        auth.reason = read_reason(&mut body, PacketKind::Auth)?; // [MQTT-3.15.2-1]
        let mut walk = PropertyWalk::start(&mut body, Place::Auth)?;
        auth.user_properties = UserProperties::from_encoded(walk.raw());
        while let Some(property) = walk.next()? {
            match property {
                Property::AuthenticationMethod(method) => auth.method = Some(method),
                Property::AuthenticationData(data) => auth.data = Some(data),
                Property::ReasonString(text) => auth.reason_string = Some(text),
                _ => {}
            }
        }
        body.end()?;
        if auth.method.is_none() {
            return Err(Violation::AuthenticationMethodMissing);
        }
        Ok(auth)
    }

    fn is_short(&self) -> bool {
        self.reason == ReasonCode::Success
            && self.method.is_none()
            && self.data.is_none()
            && self.reason_string.is_none()
            && self.user_properties.is_empty()
    }
}

encoding!(Auth, Auth);

impl Body for Auth<'_> {
    fn write_body<S: Sink>(&self, _version: Version, out: &mut S) {
        if !self.is_short() {
            out.byte(self.reason.as_u8());
            write_section(out, self);
        }
    }
}

impl WriteProperties for Auth<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        if let Some(method) = self.method {
            Property::AuthenticationMethod(method).write(out);
        }
        if let Some(data) = self.data {
            Property::AuthenticationData(data).write(out);
        }
        if let Some(text) = self.reason_string {
            Property::ReasonString(text).write(out);
        }
        self.user_properties.write(out);
    }
}
