//! `-D PACKET PROPERTY VALUE`: MQTT 5 properties by name.

use breakwater_proto::{Property, write_user_property};

/// All `-D` of one command line, by packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub connect: ConnectProperties,
    pub publish: PublishProperties,
    pub will: WillProperties,
    pub subscribe: SubscribeProperties,
    /// Encoded user properties of UNSUBSCRIBE.
    pub unsubscribe: Vec<u8>,
    pub disconnect: DisconnectProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectProperties {
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: u16,
    pub request_response_information: bool,
    pub request_problem_information: bool,
    pub auth_method: Option<String>,
    pub auth_data: Option<Vec<u8>>,
    /// Encoded, in the order given.
    pub user_properties: Vec<u8>,
}

impl Default for ConnectProperties {
    fn default() -> ConnectProperties {
        ConnectProperties {
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            auth_method: None,
            auth_data: None,
            user_properties: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties {
    pub topic_alias: Option<u16>,
    pub expiry: Option<u32>,
    /// Encoded properties that travel on to the subscribers.
    pub forward: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WillProperties {
    pub delay_s: u32,
    pub expiry: Option<u32>,
    pub forward: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeProperties {
    pub subscription_id: Option<u32>,
    pub user_properties: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    pub session_expiry: Option<u32>,
    pub user_properties: Vec<u8>,
}

const PACKETS: [&str; 6] = ["connect", "publish", "will", "subscribe", "unsubscribe", "disconnect"];
const SUBSCRIPTION_ID_MAX: u32 = 268_435_455;

impl Properties {
    /// Reads the words of all `-D`, one behind the other: a user property is four words long, every other is three.
    pub fn parse(words: &[String]) -> Result<Properties, String> {
        let mut properties = Properties::default();
        let mut seen: Vec<(String, &str)> = Vec::new();
        let mut rest = words;
        while let [packet, name, value, behind @ ..] = rest {
            let packet = packet.to_ascii_lowercase();
            if !PACKETS.contains(&packet.as_str()) {
                return Err(format!("-D doesn't know the packet {packet:?}: use one of {}", PACKETS.join(", ")));
            }
            rest = behind;
            if name == "user-property" {
                let Some((pair_value, behind)) = rest.split_first() else {
                    return Err("a user property has a name and a value: -D PACKET user-property NAME VALUE".into());
                };
                rest = behind;
                properties.add_user_property(&packet, value, pair_value)?;
                continue;
            }
            if seen.contains(&(packet.clone(), name)) {
                return Err(format!("-D {packet} {name} is given twice: leave one out"));
            }
            properties.add(&packet, name, value)?;
            seen.push((packet, name));
        }
        if rest.is_empty() { Ok(properties) } else { Err("-D is too short: write -D PACKET PROPERTY VALUE".into()) }
    }

    fn add_user_property(&mut self, packet: &str, name: &str, value: &str) -> Result<(), String> {
        check_text("user-property", name)?;
        check_text("user-property", value)?;
        let out = match packet {
            "connect" => &mut self.connect.user_properties,
            "publish" => &mut self.publish.forward,
            "will" => &mut self.will.forward,
            "subscribe" => &mut self.subscribe.user_properties,
            "unsubscribe" => &mut self.unsubscribe,
            _ => &mut self.disconnect.user_properties,
        };
        write_user_property(name, value, out);
        Ok(())
    }

    fn add(&mut self, packet: &str, name: &str, value: &str) -> Result<(), String> {
        match (packet, name) {
            ("connect", _) => return self.connect.add(name, value),
            ("publish", "topic-alias") => self.publish.topic_alias = Some(number(name, value, 1, u16::MAX)?),
            ("publish", "message-expiry-interval") => self.publish.expiry = Some(number(name, value, 0, u32::MAX)?),
            ("will", "message-expiry-interval") => self.will.expiry = Some(number(name, value, 0, u32::MAX)?),
            ("will", "will-delay-interval") => self.will.delay_s = number(name, value, 0, u32::MAX)?,
            ("publish", _) if forwarded(name) => add_forward(&mut self.publish.forward, name, value)?,
            ("will", _) if forwarded(name) => add_forward(&mut self.will.forward, name, value)?,
            ("subscribe", "subscription-identifier") => {
                self.subscribe.subscription_id = Some(number(name, value, 1, SUBSCRIPTION_ID_MAX)?);
            }
            ("disconnect", "session-expiry-interval") => {
                self.disconnect.session_expiry = Some(number(name, value, 0, u32::MAX)?);
            }
            _ => return Err(not_there(packet, name)),
        }
        Ok(())
    }
}

impl ConnectProperties {
    fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "session-expiry-interval" => self.session_expiry = Some(number(name, value, 0, u32::MAX)?),
            "receive-maximum" => self.receive_maximum = Some(number(name, value, 1, u16::MAX)?),
            "maximum-packet-size" => self.maximum_packet_size = Some(number(name, value, 1, u32::MAX)?),
            "topic-alias-maximum" => self.topic_alias_maximum = number(name, value, 0, u16::MAX)?,
            "request-response-information" => self.request_response_information = number(name, value, 0, 1_u8)? == 1,
            "request-problem-information" => self.request_problem_information = number(name, value, 0, 1_u8)? == 1,
            "authentication-method" => {
                check_text(name, value)?;
                self.auth_method = Some(value.into());
            }
            "authentication-data" => {
                check_length(name, value)?;
                self.auth_data = Some(value.into());
            }
            _ => return Err(not_there("connect", name)),
        }
        Ok(())
    }
}

fn forwarded(name: &str) -> bool {
    matches!(name, "payload-format-indicator" | "content-type" | "response-topic" | "correlation-data")
}

fn add_forward(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), String> {
    let property = match name {
        "payload-format-indicator" => Property::PayloadFormatIndicator(number(name, value, 0, 1_u8)?),
        "content-type" => {
            check_text(name, value)?;
            Property::ContentType(value)
        }
        "response-topic" => {
            super::check_topic(value)?;
            Property::ResponseTopic(value)
        }
        _ => {
            check_length(name, value)?;
            Property::CorrelationData(value.as_bytes())
        }
    };
    property.encode(out);
    Ok(())
}

fn number<T>(name: &str, value: &str, min: T, max: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    match value.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{name} is a number from {min} to {max}, not {value:?}")),
    }
}

fn check_text(name: &str, value: &str) -> Result<(), String> {
    if value.contains('\0') {
        return Err(format!("{name} must not hold the character U+0000"));
    }
    check_length(name, value)
}

fn check_length(name: &str, value: &str) -> Result<(), String> {
    if value.len() > usize::from(u16::MAX) {
        return Err(format!("{name} is longer than 65,535 bytes: make it shorter"));
    }
    Ok(())
}

fn not_there(packet: &str, name: &str) -> String {
    format!("{} has no property {name:?} that can be set here: see --help", packet.to_ascii_uppercase())
}
