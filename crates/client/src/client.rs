//! The client core: bytes and time in, bytes and events out.
//!
//! ```text
//! connect(now) ─► take_output() ─► socket ─► on_bytes(bytes, now) ─► next_event(now) … until None ─► take_output() …
//! ```
//!
//! The transport may go away at any time: `on_closed`, then `connect` again on a new one. Messages of QoS 1 and 2 that
//! the server has not acknowledged stay here and are sent again.

use breakwater_proto::{
    Auth, ConnAck, Connect, Disconnect, Filters, ForwardProperties, Instant, OutPublish, Packet, Publish, QoS,
    ReasonCode, Split, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe, UnsubscribeFilters, UserProperties,
    Version, Violation, Will, decode, encode_pingreq, split,
};

mod incoming;
mod outgoing;
mod terms;

use incoming::Incoming;
use outgoing::Outgoing;
use terms::PACKET_MAX;

pub use terms::{Options, Terms, WillOptions};

/// What came from the server. Borrows from the client's input until the next call.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    Connected(ConnAck<'a>),
    /// The server says no; it closes the connection.
    Refused(ConnAck<'a>),
    /// A topic alias is resolved. The acknowledgement is already in the output.
    Message(Publish<'a>),
    /// A publish of QoS 1 or 2 is over; the reason may be an error.
    Published {
        packet_id: u16,
        reason: ReasonCode,
    },
    Subscribed(SubAck<'a>),
    Unsubscribed(UnsubAck<'a>),
    Auth(Auth<'a>),
    /// The server ends the connection and says why (MQTT 5).
    Disconnected(Disconnect<'a>),
}

/// Why the connection can't go on. A DISCONNECT that says so (MQTT 5) is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server broke the specification.
    Violation(Violation),
    /// No CONNACK in time.
    ConnectTimeout,
    /// No PINGRESP within a keep alive.
    PingTimeout,
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Fault {
        Fault::Violation(violation)
    }
}

/// A request that this connection can't carry. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotConnected,
    /// All 65,535 packet identifiers are in use.
    NoPacketId,
    /// The server's maximum packet size, in bytes.
    PacketTooLarge(u32),
    QosNotSupported,
    RetainNotSupported,
    TopicAliasTooLarge,
    /// A field is longer than 65,535 bytes, or the packet than 256 MiB.
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offline,
    /// CONNECT is sent; its answer is due by then.
    Connecting(Instant),
    Online,
    /// DISCONNECT went one way or the other.
    Closing,
}

/// One client and its session. Lives as long as the session; connections come and go.
pub struct Client {
    options: Options,
    input: Vec<u8>,
    /// How much of `input` has been decoded.
    read: usize,
    core: Core,
}

/// Everything but the input, so that events can borrow from that.
struct Core {
    version: Version,
    phase: Phase,
    terms: Terms,
    out: Vec<u8>,
    outgoing: Outgoing,
    incoming: Incoming,
    keeps_session_3_1: bool,
    last_sent: Instant,
    last_received: Instant,
    ping_sent: Option<Instant>,
}

impl Client {
    pub fn new(options: Options) -> Client {
        let core = Core {
            version: options.version,
            phase: Phase::Offline,
            terms: Terms::of_3_1_1(&options),
            out: Vec::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::new(options.receive_maximum, options.topic_alias_maximum),
            keeps_session_3_1: options.version == Version::V31 && !options.clean_start,
            last_sent: Instant::default(),
            last_received: Instant::default(),
            ping_sent: None,
        };
        Client { options, input: Vec::new(), read: 0, core }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What holds on this connection; the specification's defaults before CONNACK.
    pub fn terms(&self) -> &Terms {
        &self.core.terms
    }

    pub fn is_online(&self) -> bool {
        self.core.phase == Phase::Online
    }

    /// Publishes of QoS 1 and 2 that are not over, sent or not.
    pub fn unacknowledged(&self) -> usize {
        self.core.outgoing.unacknowledged()
    }

    /// Starts a connection on a fresh transport.
    pub fn connect(&mut self, now: Instant) {
        self.on_closed();
        let options = &self.options;
        let will = options.will.as_ref().map(|will| Will {
            qos: will.qos,
            retain: will.retain,
            topic: &will.topic,
            payload: &will.payload,
            delay_s: will.delay_s,
            expiry: will.expiry,
            properties: ForwardProperties::from_stripped(&will.properties),
        });
        let connect = Connect {
            version: options.version,
            bridge: options.bridge,
            clean_start: options.clean_start,
            keep_alive_s: options.keep_alive_s,
            client_id: &options.client_id,
            will,
            username: options.username.as_deref(),
            password: options.password.as_deref(),
            session_expiry: options.session_expiry,
            receive_maximum: options.receive_maximum,
            maximum_packet_size: options.maximum_packet_size,
            topic_alias_maximum: options.topic_alias_maximum,
            request_response_information: options.request_response_information,
            request_problem_information: options.request_problem_information,
            auth_method: options.auth_method.as_deref(),
            auth_data: options.auth_data.as_deref(),
            user_properties: UserProperties::from_encoded(&options.user_properties),
        };
        connect.encode(options.version, &mut self.core.out);
        self.core.phase = Phase::Connecting(now.plus_s(options.connect_timeout_s));
        self.core.sent(now);
        self.core.last_received = now;
    }

    /// The transport is gone. The session stays.
    pub fn on_closed(&mut self) {
        self.input.clear();
        self.read = 0;
        self.core.on_closed();
        self.core.terms = Terms::of_3_1_1(&self.options);
    }

    /// Takes what the transport read. Follow with [`Client::next_event`] until it gives `None`.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Instant) {
        if self.read == self.input.len() {
            self.input.clear();
            self.read = 0;
        } else if self.read > self.input.len() / 2 {
            // More is dropped than moved, so each byte moves at most once on average.
            self.input.drain(..self.read);
            self.read = 0;
        }
        self.input.extend_from_slice(bytes);
        self.core.last_received = now;
    }

    /// The next thing that happened, `None` when more bytes must come first.
    pub fn next_event(&mut self, now: Instant) -> Result<Option<Event<'_>>, Fault> {
        if let Some((packet_id, reason)) = self.core.outgoing.take_settled() {
            return Ok(Some(Event::Published { packet_id, reason }));
        }
        let max = self.options.maximum_packet_size.unwrap_or(PACKET_MAX);
        let core = &mut self.core;
        while core.phase != Phase::Closing {
            let taken = split(&self.input[self.read..], max).and_then(|split| match split {
                Split::Packet(frame) => decode(core.version, &frame).map(|packet| Some((packet, frame.len))),
                Split::Incomplete { .. } => Ok(None),
            });
            let (packet, len) = match taken {
                Ok(Some(taken)) => taken,
                Ok(None) => return Ok(None),
                Err(violation) => return Err(core.fail(violation)),
            };
            self.read += len;
            match core.on_packet(packet, &self.options, now) {
                Ok(None) => {}
                Ok(Some(Event::Message(mut publish))) => {
                    if let (true, Some(alias)) = (publish.topic.is_empty(), publish.topic_alias) {
                        publish.topic = core.incoming.topic(alias);
                    }
                    return Ok(Some(Event::Message(publish)));
                }
                Ok(Some(event)) => return Ok(Some(event)),
                Err(violation) => return Err(core.fail(violation)),
            }
        }
        Ok(None)
    }

    /// Does what is due by now: PINGREQ, or giving up.
    pub fn on_time(&mut self, now: Instant) -> Result<(), Fault> {
        self.core.on_time(now)
    }

    /// When [`Client::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.core.next_deadline()
    }

    /// Bytes for the transport; the caller takes them all.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.core.out)
    }

    /// Bytes for the transport, to be written in place and cleared.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.core.out
    }

    /// Publishes a message; its `packet_id` and `dup` are chosen here. Gives the packet identifier, 0 with QoS 0.
    ///
    /// QoS 1 and 2 are kept until acknowledged, and may be asked for while offline or above the receive maximum.
    pub fn publish(&mut self, publish: &OutPublish<'_>, now: Instant) -> Result<u16, Refusal> {
        self.core.publish(publish, now)
    }

    /// Subscribes to all the filters in one packet and gives its identifier.
    pub fn subscribe<'f>(
        &mut self,
        filters: impl IntoIterator<Item = (&'f str, SubscribeOptions)>,
        subscription_id: Option<u32>,
        user_properties: UserProperties<'_>,
        now: Instant,
    ) -> Result<u16, Refusal> {
        let mut encoded = Vec::new();
        for (filter, options) in filters {
            Filters::write(filter, options, &mut encoded);
        }
        let filters = Filters::from_encoded(&encoded);
        self.core.request(now, |packet_id, version, out| {
            Subscribe { packet_id, subscription_id, user_properties, filters }.encode(version, out);
        })
    }

    /// Unsubscribes from all the filters in one packet and gives its identifier.
    pub fn unsubscribe<'f>(
        &mut self,
        filters: impl IntoIterator<Item = &'f str>,
        user_properties: UserProperties<'_>,
        now: Instant,
    ) -> Result<u16, Refusal> {
        let mut encoded = Vec::new();
        for filter in filters {
            UnsubscribeFilters::write(filter, &mut encoded);
        }
        let filters = UnsubscribeFilters::from_encoded(&encoded);
        self.core.request(now, |packet_id, version, out| {
            Unsubscribe { packet_id, user_properties, filters }.encode(version, out);
        })
    }

    /// Answers an [`Event::Auth`], or begins to authenticate anew.
    pub fn auth(&mut self, auth: &Auth<'_>, now: Instant) -> Result<(), Refusal> {
        if matches!(self.core.phase, Phase::Offline | Phase::Closing) || !self.core.version.is_v5() {
            return Err(Refusal::NotConnected);
        }
        auth.encode(self.core.version, &mut self.core.out);
        self.core.sent(now);
        Ok(())
    }

    /// Says goodbye; the transport may be closed once the output is written.
    pub fn disconnect(&mut self, disconnect: &Disconnect<'_>, now: Instant) {
        if matches!(self.core.phase, Phase::Online | Phase::Connecting(_)) {
            disconnect.encode(self.core.version, &mut self.core.out);
            self.core.sent(now);
        }
        self.core.phase = Phase::Closing;
    }
}

impl Core {
    fn on_closed(&mut self) {
        self.phase = Phase::Offline;
        self.out.clear();
        self.outgoing.on_closed();
        self.incoming.on_closed();
        self.ping_sent = None;
    }

    fn on_packet<'a>(
        &mut self,
        packet: Packet<'a>,
        options: &Options,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Violation> {
        if let Phase::Connecting(_) = self.phase {
            return self.on_first_packet(packet, options, now).map(Some);
        }
        match packet {
            Packet::Publish(publish) => {
                let is_new = self.incoming.on_publish(&publish, self.version, &mut self.out)?;
                if publish.qos > QoS::AtMostOnce {
                    self.sent(now);
                }
                return Ok(is_new.then_some(Event::Message(publish)));
            }
            Packet::PubAck(ack) => self.outgoing.on_puback(ack.packet_id, ack.reason),
            Packet::PubRec(ack) => {
                self.outgoing.on_pubrec(ack.packet_id, ack.reason, self.version, &mut self.out);
            }
            Packet::PubComp(ack) => self.outgoing.on_pubcomp(ack.packet_id, ack.reason),
            Packet::PubRel(ack) => self.incoming.on_pubrel(ack.packet_id, self.version, &mut self.out),
            Packet::SubAck(ack) => {
                self.outgoing.finish_request(ack.packet_id);
                return Ok(Some(Event::Subscribed(ack)));
            }
            Packet::UnsubAck(ack) => {
                self.outgoing.finish_request(ack.packet_id);
                return Ok(Some(Event::Unsubscribed(ack)));
            }
            Packet::PingResp => self.ping_sent = None,
            Packet::Auth(auth) => return Ok(Some(Event::Auth(auth))),
            Packet::Disconnect(disconnect) if self.version.is_v5() => {
                self.phase = Phase::Closing;
                return Ok(Some(Event::Disconnected(disconnect)));
            }
            _ => return Err(Violation::WrongDirection),
        }
        let before = self.out.len();
        self.outgoing.send_waiting(self.version, self.terms.receive_maximum, &mut self.out);
        if self.out.len() > before {
            self.sent(now);
        }
        Ok(self.outgoing.take_settled().map(|(packet_id, reason)| Event::Published { packet_id, reason }))
    }

    fn on_first_packet<'a>(
        &mut self,
        packet: Packet<'a>,
        options: &Options,
        now: Instant,
    ) -> Result<Event<'a>, Violation> {
        match packet {
            Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                self.phase = Phase::Online;
                self.terms = Terms::agree(&connack, options);
                let kept = connack.session_present || self.keeps_session_3_1;
                self.incoming.on_connected(kept);
                self.outgoing.on_connected(kept);
                self.outgoing.send_waiting(self.version, self.terms.receive_maximum, &mut self.out);
                self.sent(now);
                Ok(Event::Connected(connack))
            }
            Packet::ConnAck(connack) => {
                self.phase = Phase::Closing;
                Ok(Event::Refused(connack))
            }
            Packet::Auth(auth) => Ok(Event::Auth(auth)),
            Packet::Disconnect(disconnect) => {
                self.phase = Phase::Closing;
                Ok(Event::Disconnected(disconnect))
            }
            _ => Err(Violation::PacketBeforeConnAck),
        }
    }

    fn publish(&mut self, publish: &OutPublish<'_>, now: Instant) -> Result<u16, Refusal> {
        let online = self.phase == Phase::Online;
        if self.phase == Phase::Closing || (!online && publish.qos == QoS::AtMostOnce) {
            return Err(Refusal::NotConnected);
        }
        self.check_terms(publish)?;
        if publish.qos == QoS::AtMostOnce {
            let publish = OutPublish { dup: false, packet_id: 0, ..*publish };
            publish.encode(self.version, &mut self.out);
            self.sent(now);
            return Ok(0);
        }
        let packet_id = self.outgoing.accept(publish, self.version).ok_or(Refusal::NoPacketId)?;
        if online {
            self.outgoing.send_waiting(self.version, self.terms.receive_maximum, &mut self.out);
            self.sent(now);
        }
        Ok(packet_id)
    }

    fn check_terms(&self, publish: &OutPublish<'_>) -> Result<(), Refusal> {
        if publish.topic.len() > usize::from(u16::MAX) {
            return Err(Refusal::TooLong);
        }
        let len = publish.encoded_len(self.version);
        if len > PACKET_MAX as usize {
            return Err(Refusal::TooLong);
        }
        if len > self.terms.maximum_packet_size as usize {
            return Err(Refusal::PacketTooLarge(self.terms.maximum_packet_size)); // [MQTT-3.2.2-15]
        }
        if publish.qos as u8 > self.terms.maximum_qos {
            return Err(Refusal::QosNotSupported); // [MQTT-3.2.2-11]
        }
        if publish.retain && !self.terms.retain_available {
            return Err(Refusal::RetainNotSupported); // [MQTT-3.2.2-14]
        }
        // An alias of QoS 1 and 2 would have to be made anew with each connection, so only QoS 0 goes by alias alone.
        let alias_alone = publish.topic.is_empty() && publish.qos > QoS::AtMostOnce;
        if publish.topic_alias > self.terms.topic_alias_maximum || alias_alone {
            return Err(Refusal::TopicAliasTooLarge); // [MQTT-3.2.2-17]
        }
        Ok(())
    }

    fn request(&mut self, now: Instant, write: impl FnOnce(u16, Version, &mut Vec<u8>)) -> Result<u16, Refusal> {
        if self.phase != Phase::Online {
            return Err(Refusal::NotConnected);
        }
        let packet_id = self.outgoing.begin_request().ok_or(Refusal::NoPacketId)?;
        write(packet_id, self.version, &mut self.out);
        self.sent(now);
        Ok(packet_id)
    }

    fn on_time(&mut self, now: Instant) -> Result<(), Fault> {
        match self.next_deadline() {
            Some(deadline) if deadline <= now => {}
            _ => return Ok(()),
        }
        if let Phase::Connecting(_) = self.phase {
            self.phase = Phase::Closing;
            return Err(Fault::ConnectTimeout);
        }
        if self.ping_sent.is_some() {
            self.phase = Phase::Closing;
            return Err(Fault::PingTimeout);
        }
        encode_pingreq(&mut self.out); // [MQTT-3.1.2-20]
        self.ping_sent = Some(now);
        self.sent(now);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting(deadline) => Some(deadline),
            Phase::Online if self.terms.keep_alive_s > 0 => {
                let from = match self.ping_sent {
                    // A long message on a slow line holds PINGRESP up; its bytes are a sign of life too.
                    Some(ping_sent) => ping_sent.max(self.last_received),
                    None => self.last_sent,
                };
                Some(from.plus_s(u32::from(self.terms.keep_alive_s)))
            }
            _ => None,
        }
    }

    fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Ends the connection; in MQTT 5 the server is told why [MQTT-4.13.1-1].
    fn fail(&mut self, violation: Violation) -> Fault {
        if self.version.is_v5() && self.phase == Phase::Online {
            let disconnect = Disconnect { reason: violation.reason(), ..Disconnect::default() };
            disconnect.encode(self.version, &mut self.out);
        }
        self.phase = Phase::Closing;
        Fault::Violation(violation)
    }
}

#[cfg(test)]
mod tests;
