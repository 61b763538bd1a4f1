//! A raw client on the virtual network: bytes, packets, and short ways for what most tests do.

use std::collections::VecDeque;

use breakwater_contract::Identity;
use breakwater_proto::{
    Disconnect, Filters, ForwardProperties, OutPublish, Packet, PacketKind, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Unsubscribe, UnsubscribeFilters, Version, encode_puback, encode_pubcomp, encode_pubrec,
    encode_pubrel,
};

use crate::broker::Broker;
use crate::received::Received;

/// The client's end of one connection.
///
/// What sends only queues bytes; what waits for an answer first lets the broker take turns until it rests. Dropping a
/// client leaves its connection open: end it with [`Client::disconnect`], [`Client::half_close`] or [`Client::reset`].
pub struct Client {
    broker: Broker,
    link: u32,
    /// Version that packets are encoded and decoded in; set by sending a CONNECT.
    pub version: Version,
    /// The CONNACK that let it in.
    pub connack: Option<Received>,
    /// Bytes that are not yet cut into packets.
    bytes: Vec<u8>,
    packets: VecDeque<Received>,
    packet_id: u16,
}

impl Drop for Client {
    fn drop(&mut self) {
        // While a test unwinds the world may be borrowed; then nothing matters any more.
        if let Ok(mut world) = self.broker.world.try_borrow_mut() {
            world.fabric.network.forget(self.link);
        }
    }
}

impl Client {
    pub(crate) fn new(broker: Broker, link: u32) -> Self {
        Self {
            broker,
            link,
            version: Version::V5,
            connack: None,
            bytes: Vec::new(),
            packets: VecDeque::new(),
            packet_id: 0,
        }
    }

    // Bytes.

    /// Sends bytes as they are: they arrive at once, with one edge.
    pub fn send(&mut self, bytes: &[u8]) {
        self.broker.world.borrow_mut().fabric.network.arrive(self.link, bytes);
    }

    /// Sends a packet, encoded in the client's version.
    pub fn send_packet(&mut self, packet: &Packet<'_>) {
        if let Packet::Connect(connect) = packet {
            self.version = connect.version;
        }
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.send(&bytes);
    }

    /// Steps, then answers with all bytes that the broker has written and nobody has taken.
    pub fn receive(&mut self) -> Vec<u8> {
        self.pull();
        let mut bytes: Vec<u8> = self.packets.drain(..).flat_map(|packet| packet.bytes().to_vec()).collect();
        bytes.append(&mut self.bytes);
        bytes
    }

    /// Throws away what the broker has written, without a step; answers how many bytes. For measurements.
    pub fn discard(&mut self) -> usize {
        self.broker.world.borrow_mut().fabric.network.discard(self.link)
    }

    /// Bytes that the broker has written and the client has not taken from the network, without a step.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.broker.world.borrow_mut().fabric.network.waiting(self.link)
    }

    /// Bytes that the broker has not read yet, without a step.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.broker.world.borrow().fabric.network.unread(self.link)
    }

    // The connection.

    /// Steps, then tells whether the broker has closed the connection. What it wrote before can still be received.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let mut world = self.broker.world.borrow_mut();
        world.step();
        world.fabric.network.is_closed(self.link)
    }

    /// Sends no more (FIN); receives on.
    pub fn half_close(&mut self) {
        self.broker.world.borrow_mut().fabric.network.finish(self.link);
    }

    /// Breaks the connection (RST).
    pub fn reset(&mut self) {
        self.broker.world.borrow_mut().fabric.network.reset(self.link);
    }

    /// From here on the broker can write this many bytes before its socket is full.
    pub fn window(&mut self, bytes: usize) {
        self.broker.world.borrow_mut().fabric.network.set_window(self.link, bytes);
    }

    /// The broker's socket is full from here on.
    pub fn stop_reading(&mut self) {
        self.window(0);
    }

    /// The broker's socket takes everything again.
    pub fn resume_reading(&mut self) {
        self.window(usize::MAX);
    }

    /// An edge without a reason.
    pub fn nudge(&mut self) {
        self.broker.world.borrow_mut().fabric.network.nudge(self.link);
    }

    /// What its transport has shown: a certificate, and names that the listener takes from it. Before CONNECT.
    pub fn show(&self, identity: Identity) {
        self.broker.world.borrow_mut().fabric.network.show(self.link, identity);
    }

    // Packets.

    /// Steps, then takes the next packet, if there is one.
    pub fn try_next(&mut self) -> Option<Received> {
        self.pull();
        self.packets.pop_front()
    }

    /// Steps, then takes the next packet; panics if there is none.
    pub fn next_packet(&mut self) -> Received {
        self.try_next().unwrap_or_else(|| panic!("no packet came (closed: {})", self.is_closed()))
    }

    /// The next packet must be this one.
    pub fn expect(&mut self, packet: &Packet<'_>) {
        let received = self.next_packet();
        assert_eq!(received.packet(), *packet);
    }

    /// Takes the first packet of this kind and leaves the others where they are; panics if there is none.
    pub fn next_of(&mut self, kind: PacketKind) -> Received {
        self.pull();
        let at = self.packets.iter().position(|packet| packet.kind() == kind);
        let Some(at) = at else { panic!("no {} came, but {:?}", kind.name(), self.packets) };
        self.packets.remove(at).expect("it was just found there")
    }

    /// Nothing may have come.
    pub fn expect_nothing(&mut self) {
        self.pull();
        assert!(self.packets.is_empty() && self.bytes.is_empty(), "unexpected: {:?} {:02x?}", self.packets, self.bytes);
    }

    /// The broker must have said good-bye with this code (5.0), or just closed (3.x).
    pub fn expect_disconnect(&mut self, reason: ReasonCode) {
        assert!(self.is_closed(), "the connection is still open");
        if self.version.is_v5() {
            assert_eq!(self.next_of(PacketKind::Disconnect).disconnect().reason, reason);
        }
    }

    /// The next packet must be a PUBLISH; it is acknowledged as its QoS asks for.
    pub fn message(&mut self) -> Received {
        let received = self.next_packet();
        let publish = received.publish();
        let mut bytes = Vec::new();
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => encode_puback(self.version, publish.packet_id, ReasonCode::Success, &mut bytes),
            QoS::ExactlyOnce => {
                encode_pubrec(self.version, publish.packet_id, ReasonCode::Success, &mut bytes);
                self.send(&bytes);
                bytes.clear();
                let released = self.next_of(PacketKind::PubRel).ack().packet_id;
                assert_eq!(released, publish.packet_id);
                encode_pubcomp(self.version, released, ReasonCode::Success, &mut bytes);
            }
        }
        self.send(&bytes);
        received
    }

    /// All PUBLISH packets that are here, acknowledged; their payloads.
    pub fn payloads(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        loop {
            self.pull();
            if self.packets.front().is_none_or(|packet| packet.kind() != PacketKind::Publish) {
                return payloads;
            }
            payloads.push(self.message().publish().payload.to_vec());
        }
    }

    // What most tests do.

    /// A packet identifier that was not used lately.
    pub fn next_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }

    /// Subscribes to one filter and takes the SUBACK.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> Received {
        self.subscribe_with(&[(filter, SubscribeOptions::new(qos))], None)
    }

    /// Subscribes to several filters and takes the SUBACK.
    pub fn subscribe_with(&mut self, filters: &[(&str, SubscribeOptions)], subscription_id: Option<u32>) -> Received {
        let packet_id = self.send_subscribe(filters, subscription_id);
        let received = self.next_of(PacketKind::SubAck);
        assert_eq!(received.suback().packet_id, packet_id);
        received
    }

    /// Sends a SUBSCRIBE; answers its packet identifier.
    pub fn send_subscribe(&mut self, filters: &[(&str, SubscribeOptions)], subscription_id: Option<u32>) -> u16 {
        let packet_id = self.next_id();
        let mut raw = Vec::new();
        filters.iter().for_each(|(filter, options)| Filters::write(filter, *options, &mut raw));
        let packet = Subscribe { subscription_id, ..Subscribe::new(packet_id, Filters::from_encoded(&raw)) };
        self.send_packet(&Packet::Subscribe(packet));
        packet_id
    }

    /// Unsubscribes from one filter and takes the UNSUBACK.
    pub fn unsubscribe(&mut self, filter: &str) -> Received {
        let packet_id = self.next_id();
        let mut raw = Vec::new();
        UnsubscribeFilters::write(filter, &mut raw);
        let packet = Unsubscribe::new(packet_id, UnsubscribeFilters::from_encoded(&raw));
        self.send_packet(&Packet::Unsubscribe(packet));
        let received = self.next_of(PacketKind::UnsubAck);
        assert_eq!(received.unsuback().packet_id, packet_id);
        received
    }

    /// Publishes and goes through the whole exchange of its QoS; answers the broker's reason code.
    pub fn publish(&mut self, topic: &str, qos: QoS, payload: &[u8]) -> ReasonCode {
        self.publish_as(topic, qos, false, payload)
    }

    /// As [`Client::publish`], retained.
    pub fn publish_retained(&mut self, topic: &str, qos: QoS, payload: &[u8]) -> ReasonCode {
        self.publish_as(topic, qos, true, payload)
    }

    fn publish_as(&mut self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) -> ReasonCode {
        let packet_id = self.send_publish(topic, qos, retain, payload);
        match qos {
            QoS::AtMostOnce => {
                self.broker.step();
                ReasonCode::Success
            }
            QoS::AtLeastOnce => {
                let answer = self.next_of(PacketKind::PubAck);
                assert_eq!(answer.ack().packet_id, packet_id);
                answer.ack().reason
            }
            QoS::ExactlyOnce => {
                let answer = self.next_of(PacketKind::PubRec);
                assert_eq!(answer.ack().packet_id, packet_id);
                let reason = answer.ack().reason;
                if reason.is_error() {
                    return reason;
                }
                let mut bytes = Vec::new();
                encode_pubrel(self.version, packet_id, ReasonCode::Success, &mut bytes);
                self.send(&bytes);
                assert_eq!(self.next_of(PacketKind::PubComp).ack().packet_id, packet_id);
                reason
            }
        }
    }

    /// Sends a PUBLISH; answers its packet identifier, 0 with QoS 0.
    pub fn send_publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) -> u16 {
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.next_id() };
        self.send_out(&out_publish(topic, qos, retain, packet_id, payload));
        packet_id
    }

    /// Sends a PUBLISH with all that 5.0 can put into it.
    pub fn send_out(&mut self, publish: &OutPublish<'_>) {
        let mut bytes = Vec::new();
        publish.encode(self.version, &mut bytes);
        self.send(&bytes);
    }

    /// Sends PINGREQ and takes PINGRESP.
    pub fn ping(&mut self) {
        self.send_packet(&Packet::PingReq);
        self.next_of(PacketKind::PingResp);
    }

    /// Says good-bye, closes, and steps.
    pub fn disconnect(&mut self) {
        self.disconnect_with(ReasonCode::Success);
    }

    /// As [`Client::disconnect`], with a reason (5.0).
    pub fn disconnect_with(&mut self, reason: ReasonCode) {
        self.send_packet(&Packet::Disconnect(Disconnect::new(reason)));
        self.half_close();
        self.broker.step();
    }

    /// Steps and cuts what has come into packets.
    fn pull(&mut self) {
        {
            let mut world = self.broker.world.borrow_mut();
            world.step();
            world.fabric.network.collect(self.link, &mut self.bytes);
        }
        while let Some(received) = Received::cut(self.version, &mut self.bytes) {
            self.packets.push_back(received);
        }
    }
}

/// A PUBLISH without properties.
#[must_use]
pub fn out_publish<'a>(topic: &'a str, qos: QoS, retain: bool, packet_id: u16, payload: &'a [u8]) -> OutPublish<'a> {
    OutPublish {
        dup: false,
        qos,
        retain,
        packet_id,
        topic,
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        payload,
    }
}
