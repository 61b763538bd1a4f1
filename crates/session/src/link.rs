//! What a session knows about the connection that it has at the moment.

use breakwater_proto::{Disconnect, PacketKind, Publish, ReasonCode, UserProperties, Version, Violation};

use crate::aliases::{AliasesIn, AliasesOut};
use crate::{Limits, Terms};

/// The one tree of topics that lies below no mountpoint.
const BROKERS_OWN: &str = "$SYS/";

/// Lives in the shard's connection slot, exactly as long as the connection.
#[derive(Debug)]
pub struct Link {
    /// The client's Maximum Packet Size; `u32::MAX` when it named none.
    pub maximum_packet_size: u32,
    /// Its bytes differ from those for other clients, because of aliases or a mountpoint, or are to be, for a while.
    own_bytes: bool,
    /// Bytes taken off the front of every topic that goes out.
    mount: u16,
    pub(crate) aliases_in: Option<Box<AliasesIn>>,
    pub(crate) aliases_out: Option<Box<AliasesOut>>,
    /// Most deliveries of QoS 1 and 2 under way at once: the client's Receive Maximum and our bound, whichever is lower.
    pub(crate) window: u16,
    alias_in_max: u16,
    pub version: Version,
    /// The client takes Reason Strings and User Properties on packets other than CONNACK and DISCONNECT.
    pub problem_information: bool,
}

impl Link {
    #[must_use]
    pub fn new(terms: &Terms, limits: &Limits) -> Link {
        let alias_out_max = if terms.version.is_v5() { terms.alias_out_max } else { 0 }; // [MQTT-3.1.2-27]
        Link {
            maximum_packet_size: terms.maximum_packet_size,
            own_bytes: alias_out_max > 0,
            mount: 0,
            aliases_in: None,
            aliases_out: (alias_out_max > 0).then(|| Box::new(AliasesOut::new(alias_out_max))),
            window: terms.receive_maximum.max(1), // [MQTT-4.9.0-1]
            alias_in_max: limits.topic_alias_in_max,
            version: terms.version,
            problem_information: terms.problem_information,
        }
    }

    /// Stands in for a connection that has not come as far as CONNECT.
    #[must_use]
    pub fn unconnected() -> Link {
        Link {
            maximum_packet_size: u32::MAX,
            own_bytes: false,
            mount: 0,
            aliases_in: None,
            aliases_out: None,
            window: 1,
            alias_in_max: 0,
            version: Version::V311,
            problem_information: false,
        }
    }

    /// The topic of an incoming PUBLISH: registers its alias, or looks it up.
    #[inline]
    pub fn resolve_alias<'t>(&'t mut self, publish: &Publish<'t>) -> Result<&'t str, Violation> {
        match publish.topic_alias {
            None => Ok(publish.topic),
            Some(alias) => self.aliased(alias, publish.topic),
        }
    }

    /// For a client behind a mountpoint of that many bytes: all its messages are named below it, but those of the broker.
    #[must_use]
    pub fn mounted(self, bytes: u16) -> Link {
        Link { mount: bytes, own_bytes: self.own_bytes || bytes > 0, ..self }
    }

    /// Whether something else than bytes that all share is to be asked before each message goes out.
    pub fn set_apart(&mut self, is_apart: bool) {
        self.own_bytes = is_apart || self.mount > 0 || self.aliases_out.is_some();
    }

    /// Bytes of the client's mountpoint, 0 for none.
    #[inline]
    #[must_use]
    pub fn mount(&self) -> u16 {
        self.mount
    }

    /// Whether deliveries may carry topic aliases or shortened topics, so that each client's bytes are its own.
    #[inline]
    #[must_use]
    pub fn has_own_bytes(&self) -> bool {
        self.own_bytes
    }

    /// A topic as the client knows it.
    pub(crate) fn name_of<'t>(&self, topic: &'t str) -> &'t str {
        if self.mount == 0 || topic.starts_with(BROKERS_OWN) {
            return topic;
        }
        topic.get(usize::from(self.mount)..).unwrap_or(topic)
    }

    /// DISCONNECT as the last packet of the connection; 3.x has none from the server.
    pub fn disconnect(&self, reason: ReasonCode, text: Option<&str>, out: &mut Vec<u8>) {
        if !self.version.is_v5() {
            return;
        }
        let mut packet = Disconnect {
            reason: reason.nearest_in(PacketKind::Disconnect),
            session_expiry: None, // [MQTT-3.14.2-2]
            reason_string: text,
            server_reference: None,
            user_properties: UserProperties::EMPTY, // [MQTT-3.14.2-4]
        };
        if packet.encoded_len(self.version) > self.maximum_packet_size as usize {
            packet.reason_string = None; // [MQTT-3.14.2-3]
        }
        if packet.encoded_len(self.version) <= self.maximum_packet_size as usize {
            packet.encode(self.version, out);
        }
    }

    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let aliases_in = self.aliases_in.as_ref().map_or(0, |aliases| size_of::<AliasesIn>() + aliases.heap_bytes());
        let aliases_out = self.aliases_out.as_ref().map_or(0, |aliases| size_of::<AliasesOut>() + aliases.heap_bytes());
        aliases_in + aliases_out
    }

    fn aliased<'t>(&'t mut self, alias: u16, topic: &'t str) -> Result<&'t str, Violation> {
        if alias == 0 {
            return Err(Violation::TopicAliasZero);
        }
        // [MQTT-3.3.2-12]: everything up to the announced maximum is taken
        if alias > self.alias_in_max {
            return Err(Violation::TopicAliasTooLarge);
        }
        if topic.is_empty() {
            let known = self.aliases_in.as_deref().and_then(|aliases| aliases.topic(alias));
            return known.ok_or(Violation::TopicAliasUnknown);
        }
        self.aliases_in.get_or_insert_default().register(alias, topic);
        Ok(topic)
    }
}
