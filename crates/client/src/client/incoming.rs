//! What the server has sent with QoS 2 and not released, and its topic aliases: the receiving half of a session.

use std::collections::BTreeSet;

use breakwater_proto::{Publish, QoS, ReasonCode, Version, Violation, encode_puback, encode_pubcomp, encode_pubrec};

pub(super) struct Incoming {
    receive_maximum: u16,
    /// Received with QoS 2 and handed on; PUBREL is to come.
    received: BTreeSet<u16>,
    /// Position = alias - 1. Empty: not set on this connection.
    aliases: Vec<Box<str>>,
    alias_maximum: u16,
}

impl Incoming {
    pub(super) fn new(receive_maximum: Option<u16>, alias_maximum: u16) -> Incoming {
        Incoming {
            receive_maximum: receive_maximum.unwrap_or(u16::MAX),
            received: BTreeSet::new(),
            aliases: Vec::new(),
            alias_maximum,
        }
    }

    /// Acknowledges the message. `false`: it was handed on before.
    pub(super) fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        if let Some(alias) = publish.topic_alias {
            self.on_alias(alias, publish.topic)?;
        }
        match publish.qos {
            QoS::AtMostOnce => Ok(true),
            QoS::AtLeastOnce => {
                encode_puback(version, publish.packet_id, ReasonCode::Success, out); // [MQTT-4.3.2-4]
                Ok(true)
            }
            QoS::ExactlyOnce => {
                let is_new = self.received.insert(publish.packet_id); // [MQTT-4.3.3-10]
                if self.received.len() > usize::from(self.receive_maximum) {
                    return Err(Violation::ReceiveMaximumExceeded); // [MQTT-3.3.4-9]
                }
                encode_pubrec(version, publish.packet_id, ReasonCode::Success, out); // [MQTT-4.3.3-8]
                Ok(is_new)
            }
        }
    }

    pub(super) fn on_pubrel(&mut self, id: u16, version: Version, out: &mut Vec<u8>) {
        let known = self.received.remove(&id);
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        encode_pubcomp(version, id, reason, out); // [MQTT-4.3.3-11]
    }

    /// The topic behind an alias that [`Incoming::on_publish`] has let pass.
    pub(super) fn topic(&self, alias: u16) -> &str {
        self.aliases.get(usize::from(alias).wrapping_sub(1)).map_or("", |topic| topic)
    }

    pub(super) fn on_closed(&mut self) {
        self.aliases.clear(); // [MQTT-3.3.2-7]
    }

    pub(super) fn on_connected(&mut self, kept: bool) {
        if !kept {
            self.received.clear(); // [MQTT-3.2.2-5]
        }
    }

    fn on_alias(&mut self, alias: u16, topic: &str) -> Result<(), Violation> {
        if alias > self.alias_maximum {
            return Err(Violation::TopicAliasTooLarge); // [MQTT-3.1.2-26]
        }
        let at = usize::from(alias) - 1; // decode refuses 0
        if topic.is_empty() {
            let known = self.aliases.get(at).is_some_and(|topic| !topic.is_empty());
            return if known { Ok(()) } else { Err(Violation::TopicAliasUnknown) };
        }
        if self.aliases.len() <= at {
            self.aliases.resize_with(at + 1, Box::default);
        }
        self.aliases[at] = topic.into();
        Ok(())
    }
}
