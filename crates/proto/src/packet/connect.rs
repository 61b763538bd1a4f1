//! CONNECT and the will inside it.

use super::{Body, encoding};
use crate::cursor::Cursor;
use crate::property::forward::ForwardProperties;
use crate::property::user::UserProperties;
use crate::property::{Place, Property, PropertyWalk, WriteProperties, is_forwarded, write_section};
use crate::sink::Sink;
use crate::utf8;
use crate::version::{QoS, Version};
use crate::violation::Violation;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// The level byte had its top bit set (0x83, 0x84): another broker's bridge, which wants RETAIN kept on what it is
    /// sent and none of its own messages back.
    pub bridge: bool,
    /// "Clean Session" in the older versions.
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: u16,
    pub request_response_information: bool,
    /// On unless the client turned it off.
    pub request_problem_information: bool,
    pub auth_method: Option<&'a str>,
    pub auth_data: Option<&'a [u8]>,
    pub user_properties: UserProperties<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub delay_s: u32,
    pub expiry: Option<u32>,
    pub properties: ForwardProperties<'a>,
}

const BRIDGE: u8 = 0x80;

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

impl<'a> Connect<'a> {
    #[must_use]
    pub const fn new(version: Version, client_id: &'a str) -> Connect<'a> {
        Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            auth_method: None,
            auth_data: None,
            user_properties: UserProperties::EMPTY,
        }
    }

    pub(crate) fn decode(mut body: Cursor<'a>) -> Result<Connect<'a>, Violation> {
        let (version, bridge) = read_version(&mut body)?;
        let flags = body.byte()?;
        check_flags(version, flags)?;
        let mut connect = Connect::new(version, "");
        connect.bridge = bridge;
        connect.clean_start = flags & CLEAN_START != 0;
        connect.keep_alive_s = body.u16()?;
        if version.is_v5() {
            let walk = PropertyWalk::start(&mut body, Place::Connect)?;
            connect.read_properties(walk)?;
        }
        connect.client_id = body.string()?; // [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT3-3.1.3-3] [MQTT3-3.1.3-4]
        if flags & WILL != 0 {
            connect.will = Some(Will::decode(version, flags, &mut body)?);
        }
        // 3.1 lets the flags promise what the payload does not hold.
        let absent_is_fine = version == Version::V31;
        if flags & USER_NAME != 0 && !(absent_is_fine && body.is_empty()) {
            connect.username = Some(body.string()?); // [MQTT-3.1.3-12] [MQTT3-3.1.3-11]
        }
        if flags & PASSWORD != 0 && !(absent_is_fine && body.is_empty()) {
            connect.password = Some(body.binary()?);
        }
        body.end()?;
        Ok(connect)
    }

    fn read_properties(&mut self, mut walk: PropertyWalk<'a>) -> Result<(), Violation> {
        self.user_properties = UserProperties::from_encoded(walk.raw());
        while let Some(property) = walk.next()? {
            match property {
                Property::SessionExpiryInterval(seconds) => self.session_expiry = Some(seconds),
                Property::ReceiveMaximum(max) => self.receive_maximum = Some(max),
                Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
                Property::TopicAliasMaximum(max) => self.topic_alias_maximum = max,
                Property::RequestResponseInformation(on) => self.request_response_information = on == 1,
                Property::RequestProblemInformation(on) => self.request_problem_information = on == 1,
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
}

/// Which version a CONNECT asks for, when its body cannot be decoded but the refusal wants a form. `None` when not even
/// that can be told.
#[must_use]
pub fn peek_version(connect_body: &[u8]) -> Option<Version> {
    match read_version(&mut Cursor::new(connect_body)) {
        Ok((version, _)) => Some(version),
        Err(fault) => fault.connack_version(),
    }
}

/// Reads protocol name and level: "MQIsdp" 3, "MQTT" 4 or 5, with the bridge bit on 3 and 4.
fn read_version(body: &mut Cursor<'_>) -> Result<(Version, bool), Violation> {
    let name = body.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(Violation::ProtocolNameUnknown); // [MQTT-3.1.2-1] [MQTT3-3.1.2-1]
    }
    let level = body.byte()?;
    match (name, level) {
        (b"MQTT", 5) => Ok((Version::V5, false)),
        (b"MQTT", 4 | 0x84) => Ok((Version::V311, level & BRIDGE != 0)),
        (b"MQIsdp", 3 | 0x83) => Ok((Version::V31, level & BRIDGE != 0)),
        (b"MQTT", 6..=0x7F | 0x85..) => Err(Violation::ProtocolLevelAboveFive), // [MQTT-3.1.2-2]
        _ => Err(Violation::ProtocolLevelUnsupported),                          // [MQTT3-3.1.2-2]
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), Violation> {
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(Violation::ConnectReservedFlag); // [MQTT-3.1.2-3] [MQTT3-3.1.2-3]
    }
    if flags & WILL == 0 && version != Version::V31 {
        if will_qos_bits(flags) != 0 {
            return Err(Violation::WillQosWithoutWill); // [MQTT-3.1.2-11] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13]
        }
        if flags & WILL_RETAIN != 0 {
            return Err(Violation::WillRetainWithoutWill); // [MQTT-3.1.2-13] [MQTT3-3.1.2-15]
        }
    }
    if !version.is_v5() && flags & USER_NAME == 0 && flags & PASSWORD != 0 {
        return Err(Violation::PasswordWithoutUserName); // [MQTT3-3.1.2-22]
    }
    Ok(())
}

const fn will_qos_bits(flags: u8) -> u8 {
    (flags >> 3) & 3
}

impl<'a> Will<'a> {
    fn decode(version: Version, flags: u8, body: &mut Cursor<'a>) -> Result<Will<'a>, Violation> {
        let qos = QoS::from_bits(will_qos_bits(flags)).ok_or(Violation::WillQosInvalid)?; // [MQTT-3.1.2-12] [MQTT3-3.1.2-14]
        let mut will = Will {
            qos,
            retain: flags & WILL_RETAIN != 0,
            topic: "",
            payload: &[],
            delay_s: 0,
            expiry: None,
            properties: ForwardProperties::EMPTY,
        };
        if version.is_v5() {
            let walk = PropertyWalk::start(body, Place::Will)?;
            will.read_properties(walk)?;
        }
        will.topic = match utf8::check_topic(body.binary()?) {
            Ok("") | Err(Violation::TopicNameWildcard) => return Err(Violation::WillTopicInvalid),
            topic => topic?, // [MQTT-3.1.3-11] [MQTT3-3.1.3-10]
        };
        will.payload = body.binary()?;
        Ok(will)
    }

    fn read_properties(&mut self, mut walk: PropertyWalk<'a>) -> Result<(), Violation> {
        let raw = walk.raw();
        let mut other = 0usize;
        loop {
            let before = walk.raw().len();
            let Some(property) = walk.next()? else { break };
            match property {
                Property::WillDelayInterval(seconds) => self.delay_s = seconds,
                Property::MessageExpiryInterval(seconds) => self.expiry = Some(seconds),
                _ => {}
            }
            if !is_forwarded(property.id()) {
                other = other.saturating_add(before.saturating_sub(walk.raw().len()));
            }
        }
        self.properties = ForwardProperties::from_checked(raw, raw.len().saturating_sub(other));
        Ok(())
    }
}

encoding!(Connect, Connect);

impl Body for Connect<'_> {
    /// The version asked for is the packet's own.
    fn write_body<S: Sink>(&self, _version: Version, out: &mut S) {
        out.string(if self.version == Version::V31 { "MQIsdp" } else { "MQTT" });
        out.byte(self.version as u8 | if self.bridge { BRIDGE } else { 0 });
        out.byte(self.flags());
        out.u16(self.keep_alive_s);
        if self.version.is_v5() {
            write_section(out, self);
        }
        out.string(self.client_id);
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                write_section(out, will);
            }
            out.string(will.topic);
            out.binary(will.payload);
        }
        if let Some(username) = self.username {
            out.string(username);
        }
        if let Some(password) = self.password {
            out.binary(password);
        }
    }
}

impl Connect<'_> {
    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.as_u8() << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USER_NAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        flags
    }
}

impl WriteProperties for Connect<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        let properties = [
            self.session_expiry.map(Property::SessionExpiryInterval),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            (self.topic_alias_maximum > 0).then_some(Property::TopicAliasMaximum(self.topic_alias_maximum)),
            self.request_response_information.then_some(Property::RequestResponseInformation(1)),
            (!self.request_problem_information).then_some(Property::RequestProblemInformation(0)),
            self.auth_method.map(Property::AuthenticationMethod),
            self.auth_data.map(Property::AuthenticationData),
        ];
        for property in properties.iter().flatten() {
            property.write(out);
        }
        self.user_properties.write(out);
    }
}

impl WriteProperties for Will<'_> {
    fn write_properties<S: Sink>(&self, out: &mut S) {
        if self.delay_s > 0 {
            Property::WillDelayInterval(self.delay_s).write(out);
        }
        if let Some(seconds) = self.expiry {
            Property::MessageExpiryInterval(seconds).write(out);
        }
        self.properties.write_to(out);
    }
}
