//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape.

use super::{Body, encode_packet, packet_len};
use crate::cursor::Cursor;
use crate::frame::PacketKind;
use crate::property::user::UserProperties;
use crate::property::{Place, Property, PropertyWalk, WriteProperties, write_section};
use crate::reason::ReasonCode;
use crate::sink::Sink;
use crate::version::Version;
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: u16,
    pub reason: ReasonCode,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    #[must_use]
    pub const fn new(packet_id: u16, reason: ReasonCode) -> Ack<'a> {
        Ack { packet_id, reason, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    #[inline]
    pub(crate) fn decode(version: Version, kind: PacketKind, mut body: Cursor<'a>) -> Result<Ack<'a>, Violation> {
        let mut ack = Ack::new(body.packet_id()?, ReasonCode::Success);
        if version.is_v5() && !body.is_empty() {
            ack.reason = read_reason(&mut body, kind)?; // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
            if !body.is_empty() {
                ack.read_properties(&mut body)?;
            }
        }
        body.end()?;
        Ok(ack)
    }

    fn read_properties(&mut self, body: &mut Cursor<'a>) -> Result<(), Violation> {
        let mut walk = PropertyWalk::start(body, Place::Ack)?;
        self.user_properties = UserProperties::from_encoded(walk.raw());
        while let Some(property) = walk.next()? {
            if let Property::ReasonString(text) = property {
                self.reason_string = Some(text);
            }
        }
        Ok(())
    }

    /// Appends the packet of this kind, which is one of the four.
    pub fn encode(&self, version: Version, kind: PacketKind, out: &mut Vec<u8>) {
        encode_packet(kind.first_byte(), self, version, out);
    }

    /// Bytes that `encode` appends, the same for all four kinds.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(self, version)
    }

    fn has_properties(&self) -> bool {
        self.reason_string.is_some() || !self.user_properties.is_empty()
    }
}

/// Reads a reason code and checks that this kind of packet may carry it.
#[inline]
pub(crate) fn read_reason(body: &mut Cursor<'_>, kind: PacketKind) -> Result<ReasonCode, Violation> {
    let reason = ReasonCode::from_u8(body.byte()?).ok_or(Violation::ReasonCodeUnknown)?;
    if reason.allowed_in(kind) { Ok(reason) } else { Err(Violation::ReasonCodeNotAllowed) }
}

impl Body for Ack<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        out.u16(self.packet_id);
        let properties = self.has_properties();
        if !version.is_v5() || (self.reason == ReasonCode::Success && !properties) {
            return;
        }
        out.byte(self.reason.as_u8());
        if properties {
            write_section(out, self);
        }
    }
}

impl WriteProperties for Ack<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        if let Some(text) = self.reason_string {
            Property::ReasonString(text).write(out);
        }
        self.user_properties.write(out);
    }
}

#[inline]
pub fn encode_puback(version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_plain(0x40, version, packet_id, reason, out);
}

#[inline]
pub fn encode_pubrec(version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_plain(0x50, version, packet_id, reason, out);
}

#[inline]
pub fn encode_pubrel(version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_plain(0x62, version, packet_id, reason, out);
}

#[inline]
pub fn encode_pubcomp(version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    encode_plain(0x70, version, packet_id, reason, out);
}

/// Four bytes for success or an older version, else five: never properties, whether the client wants them or not
/// [MQTT-3.1.2-29]. The identifier is the PUBLISH's [MQTT3-2.3.1-6].
#[inline]
fn encode_plain(first: u8, version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    if reason == ReasonCode::Success || !version.is_v5() {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, reason.as_u8()]);
    }
}
