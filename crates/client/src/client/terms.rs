//! What a client asks for in CONNECT, and what the server grants in CONNACK.

use breakwater_proto::{ConnAck, QoS, Version};

/// What CONNECT asks for. The defaults are those of the specification where it has any.
#[derive(Clone, Debug)]
pub struct Options {
    pub version: Version,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<WillOptions>,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: u16,
    pub request_response_information: bool,
    pub request_problem_information: bool,
    pub auth_method: Option<String>,
    pub auth_data: Option<Vec<u8>>,
    /// Encoded, as [`breakwater_proto::write_user_property`] writes them.
    pub user_properties: Vec<u8>,
    /// Sets the bit by which Mosquitto's bridges say what they are.
    pub bridge: bool,
    /// Unacknowledged publishes at a time; the server's receive maximum may lower it.
    pub in_flight_max: u16,
    /// How long the server may take to answer CONNECT.
    pub connect_timeout_s: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            version: Version::V311,
            client_id: String::new(),
            clean_start: true,
            keep_alive_s: 60,
            username: None,
            password: None,
            will: None,
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            auth_method: None,
            auth_data: None,
            user_properties: Vec::new(),
            bridge: false,
            in_flight_max: u16::MAX,
            connect_timeout_s: 30,
        }
    }
}

/// The message that the server publishes when this client vanishes.
#[derive(Clone, Debug, Default)]
pub struct WillOptions {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub delay_s: u32,
    pub expiry: Option<u32>,
    /// Encoded properties that travel on to the subscribers.
    pub properties: Vec<u8>,
}

/// What the server granted in CONNACK.
#[derive(Clone, Debug)]
pub struct Terms {
    pub maximum_packet_size: u32,
    pub maximum_qos: u8,
    pub retain_available: bool,
    pub topic_alias_maximum: u16,
    pub receive_maximum: u16,
    pub keep_alive_s: u16,
}

/// The largest packet that the framing can carry.
pub(super) const PACKET_MAX: u32 = 268_435_460;

impl Terms {
    /// What 3.1.1 has fixed, and 5.0 as its defaults.
    pub(super) fn of_3_1_1(options: &Options) -> Terms {
        Terms {
            maximum_packet_size: PACKET_MAX,
            maximum_qos: 2,
            retain_available: true,
            topic_alias_maximum: 0,
            receive_maximum: options.in_flight_max.max(1),
            keep_alive_s: options.keep_alive_s,
        }
    }

    pub(super) fn agree(connack: &ConnAck<'_>, options: &Options) -> Terms {
        let fixed = Terms::of_3_1_1(options);
        Terms {
            maximum_packet_size: connack.maximum_packet_size.unwrap_or(fixed.maximum_packet_size),
            maximum_qos: connack.maximum_qos.unwrap_or(fixed.maximum_qos),
            retain_available: connack.retain_available.unwrap_or(true),
            topic_alias_maximum: connack.topic_alias_maximum.unwrap_or(0),
            // [MQTT-3.3.4-7] names the server's limit; ours may be lower.
            receive_maximum: connack.receive_maximum.unwrap_or(u16::MAX).min(fixed.receive_maximum),
            keep_alive_s: connack.server_keep_alive.unwrap_or(fixed.keep_alive_s), // [MQTT-3.2.2-21]
        }
    }
}
