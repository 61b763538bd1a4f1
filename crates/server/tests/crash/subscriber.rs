//! A client that receives with QoS 1 and 2 and acknowledges, some at once, some with delay.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use breakwater_proto::{
    Filters, Packet, Publish, QoS, ReasonCode, Subscribe, SubscribeOptions, UserProperties, Version, encode_puback,
    encode_pubcomp, encode_pubrec,
};

use crate::chance::Chance;
use crate::ledger::{Fault, Ledger, Reader, Topic};
use crate::link::Link;
use crate::publisher::number_of;

pub(crate) struct Subscriber {
    pub(crate) link: Link,
    pub(crate) reader: Reader,
    /// Comes and goes, so that queues build up.
    pub(crate) comes_and_goes: bool,
    filter: String,
    qos: QoS,
    pub(crate) subscribed: bool,
    asked_on: u32,
    /// QoS 2: identifiers that were received and not released, with what they stand for [MQTT-4.3.3-10].
    held: BTreeMap<u16, (Topic, u32)>,
    /// Acknowledgements that leave later, in order.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// Longest delay of an acknowledgement, 0 for none.
    lazy_ms: u64,
    chance: Chance,
    /// Deliveries that came again and did not say so.
    pub(crate) unmarked: u64,
}

impl Subscriber {
    pub(crate) fn new(link: Link, reader: Reader, filter: &str, qos: QoS, lazy_ms: u64, seed: u64) -> Subscriber {
        Subscriber {
            link,
            reader,
            comes_and_goes: false,
            filter: filter.to_owned(),
            qos,
            subscribed: false,
            asked_on: 0,
            held: BTreeMap::new(),
            waiting: VecDeque::new(),
            lazy_ms,
            chance: Chance::new(seed),
            unmarked: 0,
        }
    }

    pub(crate) fn told(&self) -> String {
        let state = if self.link.online { "is online" } else { "is not online" };
        format!("{} {state} and holds {} identifiers that are not released", self.link.name, self.held.len())
    }

    /// Nothing that it would have to answer, or be sent, is open.
    pub(crate) fn is_done(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn on_tick(&mut self, port: u16, now: Instant) {
        self.link.on_tick(port, now);
        if !self.link.online {
            return;
        }
        if !self.subscribed && self.asked_on != self.link.connection {
            self.asked_on = self.link.connection;
            let mut filters = Vec::new();
            Filters::write(&self.filter, SubscribeOptions::new(self.qos), &mut filters);
            let (packet_id, user_properties) = (1, UserProperties::EMPTY);
            let filters = Filters::from_encoded(&filters);
            Subscribe { packet_id, subscription_id: None, user_properties, filters }
                .encode(self.link.version, &mut self.link.out);
        }
        while let Some((due, bytes)) = self.waiting.front()
            && *due <= now
        {
            self.link.out.extend_from_slice(bytes);
            self.waiting.pop_front();
            self.link.note(|| "> an acknowledgement that was held back".to_owned());
        }
        self.link.flush();
    }

    /// When the next acknowledgement is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    pub(crate) fn read(&mut self, ledger: &mut Ledger) -> Result<(), Fault> {
        let mut link = std::mem::replace(&mut self.link, Link::new("", Version::V5, Instant::now()));
        let read = link.read(|link, packet| {
            std::mem::swap(&mut self.link, link);
            let result = self.on_packet(packet, ledger);
            std::mem::swap(&mut self.link, link);
            result
        });
        self.link = link;
        read
    }

    fn on_packet(&mut self, packet: Packet<'_>, ledger: &mut Ledger) -> Result<(), Fault> {
        match packet {
            Packet::ConnAck(connack) => {
                // What was not acknowledged on the connection before is not any more.
                self.waiting.clear();
                self.link.on_connack(&connack)?;
            }
            Packet::SubAck(ack) if ack.codes == [self.qos as u8] => self.subscribed = true,
            Packet::Publish(publish) => self.on_publish(&publish, ledger)?,
            Packet::PubRel(ack) => {
                let known = self.held.remove(&ack.packet_id).is_some();
                self.link
                    .note(|| format!("< PUBREL {}{}", ack.packet_id, if known { "" } else { ", which is unknown" }));
                let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
                let version = self.link.version;
                self.answer(|out| encode_pubcomp(version, ack.packet_id, reason, out));
            }
            other => return Err(Fault::Protocol(format!("{} was sent {other:?}", self.link.name))),
        }
        Ok(())
    }

    fn on_publish(&mut self, publish: &Publish<'_>, ledger: &mut Ledger) -> Result<(), Fault> {
        let known = number_of(publish.payload).unwrap_or(0);
        let dup = if publish.dup { ", DUP" } else { "" };
        self.link.note(|| {
            let Publish { topic, packet_id, qos, .. } = publish;
            format!("< PUBLISH {topic} {known} with id {packet_id}, QoS {}{dup}", *qos as u8)
        });
        let name = &self.link.name;
        let (topic, number) = match (ledger.topic(publish.topic), number_of(publish.payload)) {
            (Some(topic), Some(number)) => (topic, number),
            (None, _) => return Err(Fault::Protocol(format!("{name} was sent something to {}", publish.topic))),
            (_, None) => {
                return Err(Fault::Protocol(format!("{name} was sent a changed payload to {}", publish.topic)));
            }
        };
        let (id, version) = (publish.packet_id, self.link.version);
        if publish.qos == QoS::ExactlyOnce {
            match self.held.insert(id, (topic, number)) {
                Some(before) if before != (topic, number) => {
                    let (_, other) = before;
                    let text = format!(
                        "{name} was sent {} {number} with the identifier {id}, which stands for number {other} of topic {} \
                         and is not released: a client takes it for that one",
                        publish.topic, before.0.0
                    );
                    return Err(Fault::Protocol(text));
                }
                // [MQTT-3.3.1-1]
                Some(_) => self.unmarked += u64::from(!publish.dup),
                None => ledger.on_received(self.reader, self.link.connection, (topic, number), publish.qos)?,
            }
            self.answer(|out| encode_pubrec(version, id, ReasonCode::Success, out));
        } else {
            ledger.on_received(self.reader, self.link.connection, (topic, number), publish.qos)?;
            if publish.qos == QoS::AtLeastOnce {
                self.answer(|out| encode_puback(version, id, ReasonCode::Success, out));
            }
        }
        Ok(())
    }

    /// At once, or later; never before what came earlier.
    fn answer(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let late = self.lazy_ms > 0 && self.chance.percent(30);
        let delay = if late { self.chance.ms(0, self.lazy_ms) } else { std::time::Duration::ZERO };
        if self.waiting.is_empty() && !late {
            self.link.note(|| "> its acknowledgement".to_owned());
            self.link.out.extend_from_slice(&bytes);
        } else {
            let earliest = self.due_last().unwrap_or_else(Instant::now);
            self.waiting.push_back((earliest.max(Instant::now() + delay), bytes));
        }
    }

    fn due_last(&self) -> Option<Instant> {
        self.waiting.back().map(|(due, _)| *due)
    }
}
