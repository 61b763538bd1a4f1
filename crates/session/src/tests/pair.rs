//! A broker's side of one client, and the client played by hand: packets go in decoded and come out decoded.

use breakwater_proto::{
    Ack, Connect, ForwardProperties, Instant, Message, MessageView, Packet, Publish, QoS, ReasonCode, Split, Version,
    Violation, decode, split,
};

use crate::{
    AckTicket, Acked, ConnAckFacts, Delivered, Delivery, Env, Limits, Link, Pumped, Received, Report, Session, Shared,
    Spill, StoredWill, Terms,
};

/// A packet that came out, without borrowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Publish(Sent),
    PubAck(u16, ReasonCode),
    PubRec(u16, ReasonCode),
    PubRel(u16, ReasonCode),
    PubComp(u16, ReasonCode),
    Disconnect(ReasonCode, Option<String>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) id: u16,
    pub(super) qos: QoS,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) alias: Option<u16>,
    pub(super) expiry: Option<u32>,
    pub(super) ids: Vec<u32>,
    pub(super) len: usize,
}

pub(super) struct Pair {
    pub(super) version: Version,
    pub(super) limits: Limits,
    pub(super) session: Session,
    pub(super) link: Option<Link>,
    pub(super) out: Vec<u8>,
    pub(super) report: Report,
    pub(super) spill: Spill,
    pub(super) now: Instant,
    pub(super) room: usize,
    pub(super) receive_maximum: Option<u16>,
    pub(super) maximum_packet_size: Option<u32>,
    pub(super) topic_alias_maximum: u16,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
}

impl Pair {
    pub(super) fn new(version: Version) -> Pair {
        let mut pair = Pair {
            version,
            limits: Limits::default(),
            session: Session::new("client", 3600),
            link: None,
            out: Vec::new(),
            report: Report::default(),
            spill: Spill::default(),
            now: Instant(1_000_000),
            room: usize::MAX,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            scratch: Vec::new(),
            encoded: Vec::new(),
        };
        pair.connect();
        pair
    }

    pub(super) fn v5() -> Pair {
        Pair::new(Version::V5)
    }

    pub(super) fn v311() -> Pair {
        Pair::new(Version::V311)
    }

    pub(super) fn receive_maximum(mut self, max: u16) -> Pair {
        self.receive_maximum = Some(max);
        self.reconnect();
        self
    }

    pub(super) fn maximum_packet_size(mut self, max: u32) -> Pair {
        self.maximum_packet_size = Some(max);
        self.reconnect();
        self
    }

    pub(super) fn topic_alias_maximum(mut self, max: u16) -> Pair {
        self.topic_alias_maximum = max;
        self.reconnect();
        self
    }

    pub(super) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Pair {
        change(&mut self.limits);
        self.reconnect();
        self
    }

    pub(super) fn connect(&mut self) -> Pumped {
        let mut connect = Connect::new(self.version, "client");
        connect.clean_start = false;
        connect.receive_maximum = self.receive_maximum;
        connect.maximum_packet_size = self.maximum_packet_size;
        connect.topic_alias_maximum = self.topic_alias_maximum;
        let terms = Terms::agree(&connect, &self.limits).unwrap();
        self.out.clear();
        self.link = Some(Link::new(&terms, &self.limits));
        self.with_link(|session, link, env| session.resume(link, env))
    }

    pub(super) fn detach(&mut self) {
        self.link = None;
        self.out.clear();
        self.session.on_detach();
    }

    pub(super) fn reconnect(&mut self) {
        self.detach();
        self.connect();
    }

    pub(super) fn deliver(&mut self, topic: &str, payload: &[u8], qos: QoS) -> Delivered {
        let delivery = Delivery { qos, retain: false, subscription_ids: &[], ..Delivery::default() };
        self.deliver_as(view(topic, payload), &delivery)
    }

    pub(super) fn deliver_as(&mut self, view: MessageView<'_>, delivery: &Delivery<'_>) -> Delivered {
        let mut shared = Shared::borrowed(view, &mut self.encoded);
        let mut env = Env {
            now: self.now,
            limits: &self.limits,
            out: &mut self.out,
            room: self.room,
            report: &mut self.report,
            scratch: &mut self.scratch,
        };
        let delivery = Delivery { spill: self.spill, ..*delivery };
        self.session.deliver(self.link.as_mut(), &mut shared, &delivery, &mut env)
    }

    pub(super) fn publish(&mut self, publish: &Publish<'_>) -> Result<Received, Violation> {
        let link = self.link.as_mut().unwrap();
        self.session.on_publish(link, publish, &self.limits, &mut self.out)
    }

    /// A publish that is routed and acknowledged at once.
    pub(super) fn publish_qos(&mut self, qos: QoS, id: u16) -> Result<Received, Violation> {
        let received = self.publish(&publish("t", qos, id))?;
        if received == Received::Route && qos != QoS::AtMostOnce {
            self.acknowledge(qos, id, ReasonCode::Success);
        }
        Ok(received)
    }

    pub(super) fn acknowledge(&mut self, qos: QoS, id: u16, reason: ReasonCode) {
        self.session.acknowledge(self.link.as_mut().unwrap(), qos, id, reason, &mut self.out);
    }

    pub(super) fn ready(&mut self, ticket: AckTicket, reason: ReasonCode) {
        let connection = self.link.as_mut().map(|link| (link, &mut self.out));
        let _ = self.session.acknowledge_ready(ticket, reason, connection);
    }

    pub(super) fn pubrel(&mut self, id: u16) {
        self.session.on_pubrel(self.link.as_mut().unwrap(), id, &mut self.out);
    }

    pub(super) fn puback(&mut self, id: u16) -> Acked {
        self.with_link(|session, link, env| {
            let acked = session.on_puback(link, &Ack::new(id, ReasonCode::Success), env);
            session.pump(link, env);
            acked
        })
    }

    pub(super) fn pubrec(&mut self, id: u16) -> Acked {
        self.pubrec_with(id, ReasonCode::Success)
    }

    pub(super) fn pubrec_with(&mut self, id: u16, reason: ReasonCode) -> Acked {
        self.with_link(|session, link, env| {
            let acked = session.on_pubrec(link, &Ack::new(id, reason), env);
            session.pump(link, env);
            acked
        })
    }

    pub(super) fn pubcomp(&mut self, id: u16) -> Acked {
        self.with_link(|session, link, env| {
            let acked = session.on_pubcomp(link, &Ack::new(id, ReasonCode::Success), env);
            session.pump(link, env);
            acked
        })
    }

    pub(super) fn pump(&mut self) -> Pumped {
        self.with_link(|session, link, env| session.pump(link, env))
    }

    /// Everything that was written since the last call.
    pub(super) fn got(&mut self) -> Vec<Got> {
        let got = decode_all(self.version, &self.out);
        self.out.clear();
        got
    }

    pub(super) fn got_publishes(&mut self) -> Vec<Sent> {
        let publish = |got| if let Got::Publish(sent) = got { Some(sent) } else { None };
        self.got().into_iter().filter_map(publish).collect()
    }

    fn with_link<T>(&mut self, call: impl FnOnce(&mut Session, &mut Link, &mut Env<'_>) -> T) -> T {
        let mut env = Env {
            now: self.now,
            limits: &self.limits,
            out: &mut self.out,
            room: self.room,
            report: &mut self.report,
            scratch: &mut self.scratch,
        };
        call(&mut self.session, self.link.as_mut().unwrap(), &mut env)
    }
}

pub(super) fn view<'a>(topic: &'a str, payload: &'a [u8]) -> MessageView<'a> {
    MessageView {
        topic,
        payload,
        qos: QoS::ExactlyOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: None,
        origin: 0,
    }
}

pub(super) fn publish(topic: &str, qos: QoS, packet_id: u16) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id,
        topic_alias: None,
        expiry: None,
        subscription_ids: false,
        properties: ForwardProperties::EMPTY,
        payload: b"payload",
    }
}

pub(super) fn will(delay_s: u32) -> StoredWill {
    StoredWill { message: Message::new(&view("will", b"gone"), &mut Vec::new()), delay_s, expiry_s: None }
}

pub(super) fn connack(terms: &Terms, limits: &Limits, facts: &ConnAckFacts<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(terms.connack(limits, facts, &mut out));
    out
}

pub(super) fn decode_one<T>(version: Version, bytes: &[u8], look: impl FnOnce(Packet<'_>) -> T) -> T {
    let Split::Packet(frame) = split(bytes, u32::MAX).unwrap() else { panic!("incomplete: {bytes:02x?}") };
    assert_eq!(frame.len, bytes.len(), "more than one packet");
    look(decode(version, &frame).unwrap())
}

fn decode_all(version: Version, mut bytes: &[u8]) -> Vec<Got> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Split::Packet(frame) = split(bytes, u32::MAX).unwrap() else { panic!("incomplete: {bytes:02x?}") };
        bytes = &bytes[frame.len..];
        all.push(match decode(version, &frame).unwrap() {
            Packet::Publish(publish) => Got::Publish(Sent {
                id: publish.packet_id,
                qos: publish.qos,
                dup: publish.dup,
                retain: publish.retain,
                topic: publish.topic.into(),
                payload: publish.payload.into(),
                alias: publish.topic_alias,
                expiry: publish.expiry,
                ids: publish.subscription_identifiers().collect(),
                len: frame.len,
            }),
            Packet::PubAck(ack) => Got::PubAck(ack.packet_id, ack.reason),
            Packet::PubRec(ack) => Got::PubRec(ack.packet_id, ack.reason),
            Packet::PubRel(ack) => Got::PubRel(ack.packet_id, ack.reason),
            Packet::PubComp(ack) => Got::PubComp(ack.packet_id, ack.reason),
            Packet::Disconnect(disconnect) => {
                Got::Disconnect(disconnect.reason, disconnect.reason_string.map(String::from))
            }
            other => panic!("the session wrote {other:?}"),
        });
    }
    all
}
