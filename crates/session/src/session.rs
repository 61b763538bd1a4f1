//! The state that outlives a connection.

use breakwater_proto::Message;

use crate::AckTicket;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::subscriptions::Subscriptions;

/// One client's session. Lives in its home shard's slab and never leaves it.
///
/// What most sessions don't have at a given moment is boxed, so that an idle one is small.
#[derive(Debug)]
pub struct Session {
    /// The router's filter ids; the shard keeps them.
    pub subscriptions: Subscriptions,
    client_id: Box<str>,
    will: Option<Box<StoredWill>>,
    pub(crate) inbound: Option<Box<Inbound>>,
    pub(crate) outbound: Option<Box<Outbound>>,
    expiry_s: u32,
    /// Packet id of the next delivery of QoS 1 or 2.
    pub(crate) next_id: u16,
    /// First ticket of the next ring of acknowledgements, while there is none.
    pub(crate) next_ticket: AckTicket,
}

/// A will, ready to be published.
#[derive(Clone, Debug)]
pub struct StoredWill {
    /// Without an expiry: that counts from the moment of publication.
    pub message: Message,
    pub delay_s: u32,
    /// Message Expiry Interval, from the moment of publication.
    pub expiry_s: Option<u32>,
}

impl Session {
    #[must_use]
    pub fn new(client_id: impl Into<Box<str>>, expiry_s: u32) -> Session {
        Session {
            subscriptions: Subscriptions::default(),
            client_id: client_id.into(),
            will: None,
            inbound: None,
            outbound: None,
            expiry_s,
            next_id: 1,
            next_ticket: AckTicket(0),
        }
    }

    #[inline]
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Seconds that the session outlives its connection.
    #[inline]
    #[must_use]
    pub fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    pub fn set_expiry_s(&mut self, expiry_s: u32) {
        self.expiry_s = expiry_s;
    }

    /// Whether the session outlives its connection. [MQTT-3.1.2-23]
    #[inline]
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.expiry_s > 0
    }

    /// [MQTT-3.1.2-7]
    pub fn set_will(&mut self, will: Option<StoredWill>) {
        self.will = will.map(Box::new);
    }

    /// Takes the will out, to publish it or to drop it. [MQTT-3.1.2-10]
    pub fn take_will(&mut self) -> Option<StoredWill> {
        self.will.take().map(|will| *will)
    }

    #[must_use]
    pub fn will(&self) -> Option<&StoredWill> {
        self.will.as_deref()
    }

    /// Seconds from the end of the connection until the will is due: its delay, but no longer than the session lasts.
    /// [MQTT-3.1.2-8]
    #[must_use]
    pub fn will_delay_s(&self) -> Option<u32> {
        self.will().map(|will| will.delay_s.min(self.expiry_s))
    }

    /// The connection is gone. What was begun waits for the next one to be resumed; what belonged to the connection goes.
    /// [MQTT3-4.1.0-1]
    pub fn on_detach(&mut self) {
        self.detach_inbound();
        self.detach_outbound();
    }

    /// Gives back memory that steady traffic keeps for itself. For a quiet moment, such as the keep-alive check.
    pub fn trim(&mut self) {
        self.trim_inbound();
        self.trim_outbound();
    }

    /// Bytes that this session keeps alive outside its own record. A message that several sessions hold counts in each.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.client_id.len()
            + self.subscriptions.heap_bytes()
            + self.will().map_or(0, |will| size_of::<StoredWill>() + will.message.byte_len())
            + self.inbound.as_deref().map_or(0, Inbound::heap_bytes)
            + self.outbound.as_deref().map_or(0, Outbound::heap_bytes)
    }
}
