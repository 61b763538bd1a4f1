//! PUBLISH: the hot path in both directions.

use super::Body;
use crate::cursor::Cursor;
use crate::property::forward::ForwardProperties;
use crate::property::{Place, Property, PropertyWalk, is_forwarded};
use crate::sink::{self, Sink};
use crate::utf8;
use crate::version::{QoS, Version};
use crate::violation::Violation;

/// A PUBLISH as it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty when a topic alias stands for it.
    pub topic: &'a str,
    /// 0 for QoS 0.
    pub packet_id: u16,
    /// Never `Some(0)`.
    pub topic_alias: Option<u16>,
    pub expiry: Option<u32>,
    /// Whether Subscription Identifiers are present, which only a server may send.
    pub subscription_ids: bool,
    pub properties: ForwardProperties<'a>,
    pub payload: &'a [u8],
}

const DUP: u8 = 1 << 3;
const RETAIN: u8 = 1;

const MESSAGE_EXPIRY_INTERVAL: u8 = Property::MessageExpiryInterval(0).id();
const SUBSCRIPTION_IDENTIFIER: u8 = Property::SubscriptionIdentifier(0).id();
const TOPIC_ALIAS: u8 = Property::TopicAlias(0).id();

/// Decodes a PUBLISH from its first byte and what stands behind the remaining length.
#[inline]
pub fn decode_publish<'a>(version: Version, first: u8, body: &'a [u8]) -> Result<Publish<'a>, Violation> {
    let qos = QoS::from_bits((first >> 1) & 3).ok_or(Violation::PublishQosInvalid)?; // [MQTT-3.3.1-4] [MQTT3-3.3.1-4]
    let dup = first & DUP != 0;
    if dup && qos == QoS::AtMostOnce && version != Version::V31 {
        return Err(Violation::DupOnQos0); // [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
    }
    let mut cursor = Cursor::new(body);
    let topic = utf8::check_topic(cursor.binary()?)?; // [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT3-3.3.2-1] [MQTT3-3.3.2-2]
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { cursor.packet_id()? }; // [MQTT-2.2.1-2] [MQTT3-2.3.1-5]
    let mut publish = Publish {
        dup,
        qos,
        retain: first & RETAIN != 0,
        topic,
        packet_id,
        topic_alias: None,
        expiry: None,
        subscription_ids: false,
        properties: ForwardProperties::EMPTY,
        payload: &[],
    };
    if version.is_v5() {
        let walk = PropertyWalk::start(&mut cursor, Place::Publish)?;
        if !walk.raw().is_empty() {
            publish.read_properties(walk)?;
        }
    }
    if topic.is_empty() && publish.topic_alias.is_none() {
        return Err(Violation::TopicNameEmpty); // [MQTT-4.7.3-1] [MQTT3-4.7.3-1]
    }
    publish.payload = cursor.rest();
    Ok(publish)
}

impl<'a> Publish<'a> {
    fn read_properties(&mut self, mut walk: PropertyWalk<'a>) -> Result<(), Violation> {
        let raw = walk.raw();
        let mut other = 0usize;
        loop {
            let before = walk.raw().len();
            let Some(property) = walk.next()? else { break };
            match property {
                Property::TopicAlias(alias) => self.topic_alias = Some(alias),
                Property::MessageExpiryInterval(seconds) => self.expiry = Some(seconds),
                Property::SubscriptionIdentifier(_) => self.subscription_ids = true,
                _ => {}
            }
            if !is_forwarded(property.id()) {
                other = other.saturating_add(before.saturating_sub(walk.raw().len()));
            }
        }
        self.properties = ForwardProperties::from_checked(raw, raw.len().saturating_sub(other));
        Ok(())
    }

    /// The Subscription Identifiers that the server put in, in their order.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.properties.received().filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    /// Appends the packet as it stands on the wire.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        super::encode_packet(first_byte(self.dup, self.qos, self.retain), self, version, out);
    }

    /// Bytes that `encode` appends.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> usize {
        super::packet_len(self, version)
    }
}

#[inline]
const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    0x30 | (dup as u8) << 3 | qos.as_u8() << 1 | retain as u8
}

impl Body for Publish<'_> {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S) {
        out.string(self.topic);
        if self.qos != QoS::AtMostOnce {
            out.u16(self.packet_id);
        }
        if version.is_v5() {
            out.varint(sink::count(|count| self.write_properties(count)));
            self.write_properties(out);
        }
        out.bytes(self.payload);
    }
}

impl Publish<'_> {
    fn write_properties(&self, out: &mut impl Sink) {
        if let Some(alias) = self.topic_alias {
            Property::TopicAlias(alias).write(out);
        }
        if let Some(seconds) = self.expiry {
            Property::MessageExpiryInterval(seconds).write(out);
        }
        for id in self.subscription_identifiers() {
            Property::SubscriptionIdentifier(id).write(out);
        }
        self.properties.write_to(out);
    }
}

/// A delivery: a PUBLISH on its way out.
#[derive(Clone, Copy, Debug)]
pub struct OutPublish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Left out for QoS 0 [MQTT-2.2.1-2].
    pub packet_id: u16,
    /// Empty when only the alias is sent.
    pub topic: &'a str,
    /// 0 for none [MQTT-3.3.2-8].
    pub topic_alias: u16,
    pub expiry: Option<u32>,
    pub subscription_ids: &'a [u32],
    pub properties: ForwardProperties<'a>,
    pub payload: &'a [u8],
}

impl OutPublish<'_> {
    /// Appends the packet as it stands on the wire.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let properties = if version.is_v5() { self.properties_len() } else { 0 };
        let body = self.body_len(version, properties);
        out.reserve(sink::packet_len(body));
        let first = first_byte(self.dup, self.qos, self.retain);
        match (u8::try_from(body), u16::try_from(self.topic.len())) {
            (Ok(len @ 0..=0x7F), Ok(topic_len)) => {
                // Nearly every packet: one store for all four bytes.
                let [high, low] = topic_len.to_be_bytes();
                out.extend_from_slice(&[first, len, high, low]);
                out.extend_from_slice(self.topic.as_bytes());
            }
            _ => {
                out.push(first);
                out.varint(body);
                out.string(self.topic);
            }
        }
        if self.qos != QoS::AtMostOnce {
            out.u16(self.packet_id);
        }
        if version.is_v5() {
            out.varint(properties);
            if properties > 0 {
                self.write_properties(out);
            }
        }
        out.bytes(self.payload);
    }

    /// Bytes that `encode` appends.
    #[inline]
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> usize {
        let properties = if version.is_v5() { self.properties_len() } else { 0 };
        sink::packet_len(self.body_len(version, properties))
    }

    #[inline]
    fn body_len(&self, version: Version, properties: usize) -> usize {
        let fixed = if self.qos == QoS::AtMostOnce { 2 } else { 4 };
        let section = if version.is_v5() { properties.saturating_add(sink::varint_len(properties)) } else { 0 };
        sink::fitting(self.topic).len().saturating_add(fixed).saturating_add(section).saturating_add(self.payload.len())
    }

    #[inline]
    fn properties_len(&self) -> usize {
        let alias = if self.topic_alias == 0 { 0 } else { 3 };
        let expiry = if self.expiry.is_none() { 0 } else { 5 };
        let ids = self.subscription_ids.iter().map(|id| sink::varint_len(*id as usize).saturating_add(1));
        ids.fold(self.properties.len().saturating_add(alias).saturating_add(expiry), usize::saturating_add)
    }

    #[inline]
    fn write_properties(&self, out: &mut Vec<u8>) {
        if self.topic_alias != 0 {
            let [high, low] = self.topic_alias.to_be_bytes();
            out.bytes(&[TOPIC_ALIAS, high, low]);
        }
        if let Some(seconds) = self.expiry {
            let [a, b, c, d] = seconds.to_be_bytes();
            out.bytes(&[MESSAGE_EXPIRY_INTERVAL, a, b, c, d]);
        }
        for id in self.subscription_ids {
            out.byte(SUBSCRIPTION_IDENTIFIER);
            out.varint(*id as usize);
        }
        self.properties.write_to(out);
    }
}
