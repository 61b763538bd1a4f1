//! What a client asks for in CONNECT, what it gets, and the CONNACK that says so.

use breakwater_proto::{ConnAck, Connect, PacketKind, QoS, ReasonCode, UserProperties, Version, Will, topic};

use crate::Limits;

/// The outcome of a CONNECT that is allowed. Kept while the connection is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub version: Version,
    pub clean_start: bool,
    /// Seconds that the session outlives its connection, after our bound.
    pub session_expiry_s: u32,
    /// Effective keep alive, 0 for none.
    pub keep_alive_s: u16,
    /// Silence after which the connection ends, 0 for never.
    pub keep_alive_ms: u32,
    /// The client's Receive Maximum, or our own bound where that is lower.
    pub receive_maximum: u16,
    /// The client's Maximum Packet Size; `u32::MAX` when it named none.
    pub maximum_packet_size: u32,
    /// Topic aliases that we may register with the client.
    pub alias_out_max: u16,
    /// The client takes Reason Strings and User Properties everywhere.
    pub problem_information: bool,
    /// The client asks for Response Information.
    pub response_information: bool,
    /// The peer is another broker's bridge.
    pub bridge: bool,
    /// The session expiry differs from what the client asked for, so CONNACK states it.
    pub tell_session_expiry: bool,
    /// The keep alive differs from what the client asked for, so CONNACK states it.
    pub tell_keep_alive: bool,
}

/// A well-formed CONNECT that is not permitted. Answer with [`refuse`] and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: ReasonCode,
    pub statement: &'static str,
    pub text: &'static str,
}

/// What a CONNACK says beyond the terms.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnAckFacts<'a> {
    pub session_present: bool,
    /// The client id that we made up for an empty one.
    pub assigned_client_id: Option<&'a str>,
    pub auth_method: Option<&'a str>,
    pub auth_data: Option<&'a [u8]>,
    pub reason_string: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl Terms {
    /// Judges everything that needs no slow plane.
    pub fn agree(connect: &Connect<'_>, limits: &Limits) -> Result<Terms, Refusal> {
        let version = connect.version;
        if !limits.versions.contains(version) {
            return Err(VERSION_NOT_ALLOWED); // [MQTT-3.1.2-2] [MQTT3-3.1.2-2]
        }
        check_client_id(connect, limits)?;
        if let Some(will) = &connect.will {
            check_will(will, limits)?;
        }
        if connect.user_properties.count() > usize::from(limits.user_properties_max) {
            return Err(TOO_MANY_USER_PROPERTIES);
        }
        let (session_expiry_s, tell_session_expiry) = session_expiry(connect, limits);
        let (keep_alive_s, tell_keep_alive) = keep_alive(connect, limits);
        let keep_alive_ms = u64::from(keep_alive_s) * 10 * u64::from(limits.keep_alive_percent);
        Ok(Terms {
            version,
            clean_start: connect.clean_start,
            session_expiry_s,
            keep_alive_s,
            keep_alive_ms: u32::try_from(keep_alive_ms).unwrap_or(u32::MAX),
            receive_maximum: connect.receive_maximum.unwrap_or(u16::MAX).min(limits.inflight_max).max(1),
            maximum_packet_size: connect.maximum_packet_size.unwrap_or(u32::MAX),
            alias_out_max: connect.topic_alias_maximum.min(limits.topic_alias_out_max), // [MQTT-3.1.2-26]
            problem_information: connect.request_problem_information,
            response_information: connect.request_response_information,
            bridge: connect.bridge,
            tell_session_expiry,
            tell_keep_alive,
        })
    }

    /// Appends the CONNACK that accepts the connection. False: the client's Maximum Packet Size leaves no room for what it
    /// has to be told; nothing was written, close the connection.
    pub fn connack(&self, limits: &Limits, facts: &ConnAckFacts<'_>, out: &mut Vec<u8>) -> bool {
        let mut ack = ConnAck {
            session_present: facts.session_present && self.version != Version::V31, // [MQTT-3.2.2-3] [MQTT3-3.2.2-2]
            reason: ReasonCode::Success,
            ..ConnAck::default()
        };
        if self.version.is_v5() {
            self.state_limits(limits, &mut ack);
            ack.assigned_client_id = facts.assigned_client_id; // [MQTT-3.2.2-16] [MQTT-3.1.3-7]
            ack.auth_method = facts.auth_method; // [MQTT-4.12.0-5]
            ack.auth_data = facts.auth_data;
            ack.reason_string = facts.reason_string;
            ack.server_reference = facts.server_reference;
            ack.user_properties = facts.user_properties;
        }
        write_connack(ack, self.version, self.maximum_packet_size, out)
    }

    /// Only what differs from what a client assumes without being told.
    fn state_limits<'a>(&self, limits: &'a Limits, ack: &mut ConnAck<'a>) {
        ack.session_expiry = self.tell_session_expiry.then_some(self.session_expiry_s);
        ack.server_keep_alive = self.tell_keep_alive.then_some(self.keep_alive_s);
        ack.receive_maximum = (limits.receive_maximum < u16::MAX).then_some(limits.receive_maximum.max(1));
        ack.maximum_qos = (limits.maximum_qos < QoS::ExactlyOnce).then_some(limits.maximum_qos.as_u8()); // [MQTT-3.2.2-9]
        ack.maximum_packet_size = (limits.packet_bytes_max < u32::MAX).then_some(limits.packet_bytes_max.max(1));
        ack.topic_alias_maximum = (limits.topic_alias_in_max > 0).then_some(limits.topic_alias_in_max);
        ack.retain_available = (!limits.retain_available).then_some(false);
        ack.wildcard_available = (!limits.wildcard_available).then_some(false);
        ack.subscription_ids_available = (!limits.subscription_ids_available).then_some(false);
        ack.shared_available = (!limits.shared_available).then_some(false);
        if self.response_information {
            ack.response_information = limits.response_information.as_deref(); // [MQTT-3.1.2-28]
        }
    }
}

/// Appends a CONNACK with an error. Appends nothing if the client's version has no code for it [MQTT3-3.2.2-6], or the
/// client doesn't take a packet of that size. Close the connection afterwards. [MQTT-3.2.2-7] [MQTT3-3.2.2-5]
pub fn refuse(version: Version, reason: ReasonCode, text: Option<&str>, maximum_packet_size: u32, out: &mut Vec<u8>) {
    debug_assert!(reason.is_error(), "refusing with {reason:?}");
    let mut ack = ConnAck::new(reason.nearest_in(PacketKind::ConnAck)); // [MQTT-3.2.2-6] [MQTT3-3.2.2-4]: session present stays 0
    ack.reason_string = text.filter(|_| version.is_v5());
    write_connack(ack, version, maximum_packet_size, out);
}

fn write_connack(mut ack: ConnAck<'_>, version: Version, maximum_packet_size: u32, out: &mut Vec<u8>) -> bool {
    let too_large = |ack: &ConnAck<'_>| ack.encoded_len(version) > maximum_packet_size as usize;
    if too_large(&ack) {
        ack.user_properties = UserProperties::EMPTY; // [MQTT-3.2.2-20]
    }
    if too_large(&ack) {
        ack.reason_string = None; // [MQTT-3.2.2-19]
    }
    if too_large(&ack) {
        ack.response_information = None;
    }
    if too_large(&ack) {
        return false; // [MQTT-3.1.2-24]
    }
    ack.encode(version, out);
    true
}

fn check_client_id(connect: &Connect<'_>, limits: &Limits) -> Result<(), Refusal> {
    let bytes = connect.client_id.len();
    if bytes == 0 {
        return check_empty_client_id(connect, limits);
    }
    // 3.1 calls for 1 to 23 bytes.
    let max = match connect.version {
        Version::V31 => limits.v31_client_id_bytes_max.min(limits.client_id_bytes_max),
        Version::V311 | Version::V5 => limits.client_id_bytes_max, // [MQTT-3.1.3-5] [MQTT3-3.1.3-5]
    };
    if bytes > usize::from(max) {
        return Err(CLIENT_ID_TOO_LONG); // [MQTT-3.1.3-8] [MQTT3-3.1.3-9]
    }
    Ok(())
}

fn check_empty_client_id(connect: &Connect<'_>, limits: &Limits) -> Result<(), Refusal> {
    match connect.version {
        Version::V31 => Err(CLIENT_ID_EMPTY_V31),
        _ if !limits.allow_empty_client_id => Err(CLIENT_ID_EMPTY),
        Version::V311 if !connect.clean_start => Err(CLIENT_ID_EMPTY_WITH_SESSION), // [MQTT3-3.1.3-8]
        Version::V311 | Version::V5 => Ok(()), // [MQTT-3.1.3-6] [MQTT3-3.1.3-6]: the shard assigns one
    }
}

fn check_will(will: &Will<'_>, limits: &Limits) -> Result<(), Refusal> {
    if will.qos > limits.maximum_qos {
        return Err(WILL_QOS_NOT_SUPPORTED); // [MQTT-3.2.2-12]
    }
    if will.retain && !limits.retain_available {
        return Err(WILL_RETAIN_NOT_SUPPORTED); // [MQTT-3.2.2-13]
    }
    if !topic::within(will.topic, &limits.topic) {
        return Err(WILL_TOPIC_TOO_LARGE);
    }
    if will.properties.user_properties().count() > usize::from(limits.user_properties_max) {
        return Err(TOO_MANY_USER_PROPERTIES);
    }
    Ok(())
}

/// What holds, and whether the client has to be told.
fn session_expiry(connect: &Connect<'_>, limits: &Limits) -> (u32, bool) {
    if connect.version.is_v5() {
        let wanted = connect.session_expiry.unwrap_or(0);
        let granted = wanted.min(limits.session_expiry_max_s);
        return (granted, granted != wanted);
    }
    let kept = if connect.clean_start { 0 } else { limits.session_expiry_default_s.min(limits.session_expiry_max_s) };
    (kept, false) // [MQTT3-3.1.2-4] [MQTT3-3.1.2-6]
}

/// What holds, and whether the client has to be told. 3.x can't be told, so there its own wish holds.
fn keep_alive(connect: &Connect<'_>, limits: &Limits) -> (u16, bool) {
    let wanted = connect.keep_alive_s;
    if !connect.version.is_v5() {
        return (wanted, false);
    }
    let max = limits.keep_alive_max_s;
    let granted = match limits.server_keep_alive_s {
        Some(server) => server,
        None if max < u16::MAX && (wanted == 0 || wanted > max) => max,
        None => wanted, // [MQTT-3.2.2-22]
    };
    (granted, granted != wanted)
}

const fn refusal(reason: ReasonCode, statement: &'static str, text: &'static str) -> Refusal {
    Refusal { reason, statement, text }
}

const VERSION_NOT_ALLOWED: Refusal =
    refusal(ReasonCode::UnsupportedProtocolVersion, "MQTT-3.1.2-2", "this protocol version is turned off");
const CLIENT_ID_TOO_LONG: Refusal =
    refusal(ReasonCode::ClientIdentifierNotValid, "MQTT-3.1.3-8", "client identifier is too long");
const CLIENT_ID_EMPTY: Refusal =
    refusal(ReasonCode::ClientIdentifierNotValid, "MQTT-3.1.3-8", "client identifier is empty");
const CLIENT_ID_EMPTY_V31: Refusal =
    refusal(ReasonCode::ClientIdentifierNotValid, "3.1", "client identifier is empty, which MQTT 3.1 does not allow");
const CLIENT_ID_EMPTY_WITH_SESSION: Refusal = refusal(
    ReasonCode::ClientIdentifierNotValid,
    "MQTT3-3.1.3-8",
    "client identifier is empty although the session is to be kept",
);
const WILL_QOS_NOT_SUPPORTED: Refusal =
    refusal(ReasonCode::QosNotSupported, "MQTT-3.2.2-12", "will QoS is above the maximum QoS");
const WILL_RETAIN_NOT_SUPPORTED: Refusal =
    refusal(ReasonCode::RetainNotSupported, "MQTT-3.2.2-13", "will is retained although retain is not available");
const WILL_TOPIC_TOO_LARGE: Refusal =
    refusal(ReasonCode::TopicNameInvalid, "4.7.3", "will topic has too many bytes or levels");
const TOO_MANY_USER_PROPERTIES: Refusal = refusal(ReasonCode::QuotaExceeded, "3.1.2.11.8", "too many user properties");
