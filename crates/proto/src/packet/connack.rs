//! CONNACK.

use super::Body;
use super::ack::read_reason;
use crate::cursor::Cursor;
use crate::frame::PacketKind;
use crate::property::user::UserProperties;
use crate::property::{Place, Property, PropertyWalk, WriteProperties, write_section};
use crate::reason::ReasonCode;
use crate::sink::Sink;
use crate::version::Version;
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAck<'a> {
    pub session_present: bool,
    /// In 3.1 and 3.1.1 mapped from and to the return code.
    pub reason: ReasonCode,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_qos: Option<u8>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_available: Option<bool>,
    pub subscription_ids_available: Option<bool>,
    pub shared_available: Option<bool>,
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub auth_method: Option<&'a str>,
    pub auth_data: Option<&'a [u8]>,
}

impl<'a> ConnAck<'a> {
    #[must_use]
    pub fn new(reason: ReasonCode) -> ConnAck<'a> {
        ConnAck { reason, ..ConnAck::default() }
    }

    pub(crate) fn decode(version: Version, mut body: Cursor<'a>) -> Result<ConnAck<'a>, Violation> {
        let flags = body.byte()?;
        if flags & 0xFE != 0 && version != Version::V31 {
            return Err(Violation::ConnAckFlagsReserved); // [MQTT-3.2.2-1]
        }
        let mut ack = ConnAck { session_present: flags & 1 != 0, ..ConnAck::default() };
        if version.is_v5() {
            ack.reason = read_reason(&mut body, PacketKind::ConnAck)?; // [MQTT-3.2.2-8]
            let walk = PropertyWalk::start(&mut body, Place::ConnAck)?;
            ack.read_properties(walk)?;
        } else {
            ack.reason = ReasonCode::from_v3_return_code(body.byte()?).ok_or(Violation::ReasonCodeUnknown)?;
            ack.session_present &= version == Version::V311; // 3.1 leaves the byte unused
        }
        body.end()?;
        if ack.session_present && ack.reason != ReasonCode::Success {
            return Err(Violation::SessionPresentOnRefusal); // [MQTT-3.2.2-6] [MQTT3-3.2.2-4]
        }
        Ok(ack)
    }

    fn read_properties(&mut self, mut walk: PropertyWalk<'a>) -> Result<(), Violation> {
        self.user_properties = UserProperties::from_encoded(walk.raw());
        while let Some(property) = walk.next()? {
            match property {
                Property::SessionExpiryInterval(seconds) => self.session_expiry = Some(seconds),
                Property::ReceiveMaximum(max) => self.receive_maximum = Some(max),
                Property::MaximumQos(qos) => self.maximum_qos = Some(qos),
                Property::RetainAvailable(on) => self.retain_available = Some(on == 1),
                Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
                Property::AssignedClientIdentifier(id) => self.assigned_client_id = Some(id),
                Property::TopicAliasMaximum(max) => self.topic_alias_maximum = Some(max),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::WildcardSubscriptionAvailable(on) => self.wildcard_available = Some(on == 1),
                Property::SubscriptionIdentifierAvailable(on) => self.subscription_ids_available = Some(on == 1),
                Property::SharedSubscriptionAvailable(on) => self.shared_available = Some(on == 1),
                Property::ServerKeepAlive(seconds) => self.server_keep_alive = Some(seconds),
                Property::ResponseInformation(text) => self.response_information = Some(text),
                Property::ServerReference(text) => self.server_reference = Some(text),
                Property::AuthenticationMethod(method) => self.auth_method = Some(method),
                Property::AuthenticationData(bytes) => self.auth_data = Some(bytes),
                _ => {}
            }
        }
        if self.auth_data.is_some() && self.auth_method.is_none() {
            return Err(Violation::AuthenticationDataWithoutMethod);
        }
        Ok(())
    }

    /// Appends the packet as it stands on the wire.
    ///
    /// Appends nothing when an older version has no return code for the reason: then the connection is closed without a
    /// CONNACK [MQTT3-3.2.2-6].
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if self.has_code(version) {
            super::encode_packet(PacketKind::ConnAck.first_byte(), self, version, out);
        }
    }

    /// Bytes that `encode` appends.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> usize {
        if self.has_code(version) { super::packet_len(self, version) } else { 0 }
    }

    fn has_code(&self, version: Version) -> bool {
        version.is_v5() || self.reason.v3_return_code().is_some()
    }
}

impl Body for ConnAck<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        let present = self.session_present && version != Version::V31 && self.reason == ReasonCode::Success;
        out.byte(u8::from(present)); // [MQTT-3.2.2-1] [MQTT-3.2.2-6] [MQTT3-3.2.2-4]
        if version.is_v5() {
            out.byte(self.reason.as_u8());
            write_section(out, self);
        } else {
            out.byte(self.reason.v3_return_code().unwrap_or_default());
        }
    }
}

impl WriteProperties for ConnAck<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        let properties = [
            self.session_expiry.map(Property::SessionExpiryInterval),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.maximum_qos.map(Property::MaximumQos),
            self.retain_available.map(u8::from).map(Property::RetainAvailable),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.assigned_client_id.map(Property::AssignedClientIdentifier),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.reason_string.map(Property::ReasonString),
            self.wildcard_available.map(u8::from).map(Property::WildcardSubscriptionAvailable),
            self.subscription_ids_available.map(u8::from).map(Property::SubscriptionIdentifierAvailable),
            self.shared_available.map(u8::from).map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive.map(Property::ServerKeepAlive),
            self.response_information.map(Property::ResponseInformation),
            self.server_reference.map(Property::ServerReference),
            self.auth_method.map(Property::AuthenticationMethod),
            self.auth_data.map(Property::AuthenticationData),
        ];
        for property in properties.iter().flatten() {
            property.write(out);
        }
        self.user_properties.write(out);
    }
}
