//! SUBACK and UNSUBACK.

use super::{Body, encoding};
use crate::cursor::Cursor;
use crate::frame::PacketKind;
use crate::property::user::UserProperties;
use crate::property::{Place, Property, PropertyWalk, WriteProperties, write_section};
use crate::reason::ReasonCode;
use crate::sink::Sink;
use crate::version::Version;
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    pub packet_id: u16,
    /// One per filter, in the order of the SUBSCRIBE: reason codes, checked at decode.
    pub codes: &'a [u8],
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    pub packet_id: u16,
    /// One per filter in 5.0; none in the older versions.
    pub codes: &'a [u8],
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> SubAck<'a> {
    #[must_use]
    pub const fn new(packet_id: u16, codes: &'a [u8]) -> SubAck<'a> {
        SubAck { packet_id, codes, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    pub(crate) fn decode(version: Version, mut body: Cursor<'a>) -> Result<SubAck<'a>, Violation> {
        let mut ack = SubAck::new(body.packet_id()?, &[]);
        if version.is_v5() {
            (ack.reason_string, ack.user_properties) = read_properties(&mut body)?;
        }
        ack.codes = body.rest();
        check_codes(version, PacketKind::SubAck, ack.codes)?;
        Ok(ack)
    }
}

impl<'a> UnsubAck<'a> {
    #[must_use]
    pub const fn new(packet_id: u16, codes: &'a [u8]) -> UnsubAck<'a> {
        UnsubAck { packet_id, codes, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    pub(crate) fn decode(version: Version, mut body: Cursor<'a>) -> Result<UnsubAck<'a>, Violation> {
        let mut ack = UnsubAck::new(body.packet_id()?, &[]);
        if !version.is_v5() {
            body.end()?;
            return Ok(ack);
        }
        (ack.reason_string, ack.user_properties) = read_properties(&mut body)?;
        ack.codes = body.rest();
        check_codes(version, PacketKind::UnsubAck, ack.codes)?;
        Ok(ack)
    }
}

fn read_properties<'a>(body: &mut Cursor<'a>) -> Result<(Option<&'a str>, UserProperties<'a>), Violation> {
    let mut walk = PropertyWalk::start(body, Place::SubAck)?;
    let user_properties = UserProperties::from_encoded(walk.raw());
    let mut reason_string = None;
    while let Some(property) = walk.next()? {
        if let Property::ReasonString(text) = property {
            reason_string = Some(text);
        }
    }
    Ok((reason_string, user_properties))
}

fn check_codes(version: Version, kind: PacketKind, codes: &[u8]) -> Result<(), Violation> {
    if codes.is_empty() {
        return Err(Violation::SubAckWithoutCode); // [MQTT-3.8.4-6]
    }
    for code in codes {
        if !version.is_v5() && !matches!(code, 0..=2 | 0x80) {
            return Err(Violation::ReasonCodeNotAllowed); // [MQTT3-3.9.3-2]
        }
        let reason = ReasonCode::from_u8(*code).ok_or(Violation::ReasonCodeUnknown)?;
        if !reason.allowed_in(kind) {
            return Err(Violation::ReasonCodeNotAllowed); // [MQTT-3.9.3-2] [MQTT-3.11.3-2]
        }
    }
    Ok(())
}

encoding!(SubAck, SubAck);
encoding!(UnsubAck, UnsubAck);

impl Body for SubAck<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        out.u16(self.packet_id);
        if version.is_v5() {
            write_section(out, self);
            out.bytes(self.codes);
        } else {
            // The older versions know one failure code for all.
            for code in self.codes {
                out.byte(if *code >= 0x80 { 0x80 } else { *code }); // [MQTT3-3.9.3-2]
            }
        }
    }
}

impl Body for UnsubAck<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        out.u16(self.packet_id);
        if version.is_v5() {
            write_section(out, self);
            out.bytes(self.codes);
        }
    }
}

impl WriteProperties for SubAck<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        write_shared(self.reason_string, self.user_properties, out);
    }
}

impl WriteProperties for UnsubAck<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        write_shared(self.reason_string, self.user_properties, out);
    }
}

fn write_shared(reason_string: Option<&str>, user_properties: UserProperties<'_>, out: &mut impl Sink) {
    if let Some(text) = reason_string {
        Property::ReasonString(text).write(out);
    }
    user_properties.write(out);
}
