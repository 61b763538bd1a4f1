//! A client that publishes with QoS 1 and 2 and keeps what is not acknowledged, as the specification asks of it.

use std::collections::VecDeque;
use std::time::Instant;

use breakwater_proto::{ForwardProperties, OutPublish, Packet, QoS, ReasonCode, Version, encode_pubrel};

use crate::chance::Chance;
use crate::ledger::{Fault, Ledger, Topic};
use crate::link::Link;

/// Each so many messages one is retained.
const RETAINED_EACH: u64 = 12;
/// Longest text behind the number, mostly and now and then.
const LENGTH: u64 = 200;
const LONG: u64 = 12_000;

/// Retained messages of one topic.
pub(crate) struct Kept {
    pub(crate) topic: String,
    pub(crate) sent: u32,
    pub(crate) acknowledged: u32,
}

pub(crate) struct Publisher {
    pub(crate) link: Link,
    /// By QoS - 1.
    topics: [(String, Topic, QoS); 2],
    pub(crate) kept: [Kept; 2],
    window: usize,
    flight: VecDeque<Flight>,
    last_id: u16,
    /// Highest QoS of what is not retained.
    qos_max: u8,
    chance: Chance,
    /// Messages per second, and since when they are counted.
    rate: f64,
    since: Instant,
    owed: f64,
    /// How many of them go at once the next time.
    next: f64,
    pub(crate) idle: bool,
}

/// What all publishers have in common.
pub(crate) struct Terms {
    /// Messages per second of each.
    pub(crate) rate: f64,
    /// Highest QoS of messages that are not retained; 0 for none of them.
    pub(crate) qos_max: u8,
}

struct Flight {
    id: u16,
    what: What,
    qos: QoS,
    /// PUBREC has come: from now on PUBREL stands for it.
    released: bool,
    length: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Live(usize, u32),
    Kept(usize, u32),
}

impl Publisher {
    pub(crate) fn new(number: usize, ledger: &mut Ledger, seed: u64, terms: &Terms, now: Instant) -> Publisher {
        let mut chance = Chance::new(seed ^ ((number as u64 + 1) << 32));
        let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V311 };
        let topics = [QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| {
            let name = format!("work/{number}/{}", qos as u8);
            let topic = ledger.add_topic(&name, qos);
            (name, topic, qos)
        });
        let kept = [1, 2].map(|qos| Kept { topic: format!("kept/{number}/{qos}"), sent: 0, acknowledged: 0 });
        let link = Link::new(&format!("publisher-{number}"), version, now);
        let window = 1 + chance.below(40) as usize;
        Publisher {
            link,
            topics,
            kept,
            window,
            flight: VecDeque::new(),
            last_id: 0,
            qos_max: terms.qos_max,
            chance,
            rate: terms.rate,
            since: now,
            owed: 0.0,
            next: 1.0,
            idle: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.flight.is_empty()
    }

    pub(crate) fn told(&self) -> String {
        let flight: Vec<String> = self
            .flight
            .iter()
            .take(5)
            .map(|flight| {
                let what = match flight.what {
                    What::Live(at, number) => format!("{} {number}", self.topics[at].0),
                    What::Kept(at, number) => format!("{} {number}", self.kept[at].topic),
                };
                format!("{what} with id {}{}", flight.id, if flight.released { ", released" } else { "" })
            })
            .collect();
        format!("{} has {} under way: {}", self.link.name, self.flight.len(), flight.join("; "))
    }

    pub(crate) fn on_tick(&mut self, port: u16, ledger: &mut Ledger, now: Instant) {
        if self.link.leaves.is_some_and(|(at, _)| at <= now) {
            self.burst(ledger);
        }
        self.link.on_tick(port, now);
        if !self.link.online {
            self.since = now;
            return;
        }
        self.owed = (self.owed + self.rate * (now - self.since).as_secs_f64()).min(self.window as f64);
        self.since = now;
        // Mostly several at once, so that acknowledgements are under way when something ends.
        if self.owed >= self.next {
            self.owed -= self.next;
            (0..self.next as usize).for_each(|_| self.publish(ledger));
            self.next = 1.0 + self.chance.below(self.window as u64) as f64;
        }
        self.link.flush();
    }

    /// As much as the window takes, before anything is read again.
    pub(crate) fn burst(&mut self, ledger: &mut Ledger) {
        (0..self.chance.below(self.window as u64 + 1)).for_each(|_| self.publish(ledger));
        self.link.flush();
    }

    /// One message more for each topic, however full the window is: the last of a game.
    pub(crate) fn publish_last(&mut self, ledger: &mut Ledger) {
        for at in 0..usize::from(self.qos_max) {
            let number = ledger.on_published(self.topics[at].1);
            self.take(What::Live(at, number), self.topics[at].2, 0);
        }
        self.link.flush();
    }

    /// Unless the window is full.
    fn publish(&mut self, ledger: &mut Ledger) {
        if self.idle || !self.link.online || self.flight.len() >= self.window {
            return;
        }
        let (mut at, retained) = (self.chance.below(2) as usize, self.chance.below(RETAINED_EACH) == 0);
        let what = if retained || self.qos_max == 0 {
            self.kept[at].sent += 1;
            What::Kept(at, self.kept[at].sent)
        } else {
            at = at.min(usize::from(self.qos_max) - 1);
            What::Live(at, ledger.on_published(self.topics[at].1))
        };
        let qos = self.topics[at].2;
        let length = if self.chance.percent(2) { self.chance.below(LONG) } else { self.chance.below(LENGTH) };
        self.take(what, qos, length as usize);
    }

    fn take(&mut self, what: What, qos: QoS, length: usize) {
        let flight = Flight { id: self.next_id(), what, qos, released: false, length };
        self.send(&flight, false);
        self.flight.push_back(flight);
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.flight.iter().all(|flight| flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    fn send(&mut self, flight: &Flight, dup: bool) {
        let (topic, number) = match flight.what {
            What::Live(at, number) => (&self.topics[at].0, number),
            What::Kept(at, number) => (&self.kept[at].topic, number),
        };
        let publish = OutPublish {
            dup,
            qos: flight.qos,
            retain: matches!(flight.what, What::Kept(..)),
            packet_id: flight.id,
            topic,
            topic_alias: 0,
            expiry: None,
            subscription_ids: &[],
            properties: ForwardProperties::EMPTY,
            payload: &payload(number, flight.length),
        };
        publish.encode(self.link.version, &mut self.link.out);
        self.link
            .note(|| format!("> PUBLISH {topic} {number} with id {}{}", flight.id, if dup { ", DUP" } else { "" }));
    }

    pub(crate) fn read(&mut self, ledger: &mut Ledger) -> Result<(), Fault> {
        let mut link = std::mem::replace(&mut self.link, Link::new("", Version::V5, Instant::now()));
        let read = link.read(|link, packet| {
            // What it answers goes out through the link that is lent.
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
                self.link.on_connack(&connack)?;
                self.resend(ledger);
            }
            Packet::PubAck(ack) => {
                self.link.note(|| format!("< PUBACK {}", ack.packet_id));
                let at = self.oldest(QoS::AtLeastOnce, ack.packet_id, ack.reason)?;
                let flight = self.flight.remove(at).expect("it was found there");
                self.taken_over(flight.what, ledger);
            }
            Packet::PubRec(ack) if self.find(ack.packet_id).is_some_and(|at| self.flight[at].released) => {
                encode_pubrel(self.link.version, ack.packet_id, ReasonCode::Success, &mut self.link.out);
            }
            Packet::PubRec(ack) => {
                self.link.note(|| format!("< PUBREC {}, > PUBREL", ack.packet_id));
                let at = self.oldest(QoS::ExactlyOnce, ack.packet_id, ack.reason)?;
                self.flight[at].released = true;
                self.taken_over(self.flight[at].what, ledger);
                encode_pubrel(self.link.version, ack.packet_id, ReasonCode::Success, &mut self.link.out);
            }
            Packet::PubComp(ack) => match self.find(ack.packet_id) {
                Some(at) if self.flight[at].released => {
                    self.link.note(|| format!("< PUBCOMP {}", ack.packet_id));
                    self.flight.remove(at);
                }
                _ => return Err(self.strange("PUBCOMP", ack.packet_id)),
            },
            other => return Err(Fault::Protocol(format!("{} was sent {other:?}", self.link.name))),
        }
        Ok(())
    }

    /// In the order in which they were sent first [MQTT-4.6.0-1].
    fn resend(&mut self, ledger: &mut Ledger) {
        let flight = std::mem::take(&mut self.flight);
        for entry in &flight {
            if entry.released {
                self.link.note(|| format!("> PUBREL {} again", entry.id));
                encode_pubrel(self.link.version, entry.id, ReasonCode::Success, &mut self.link.out);
                continue;
            }
            self.send(entry, true);
            if let What::Live(at, number) = entry.what {
                ledger.on_resent(self.topics[at].1, number);
            }
        }
        self.flight = flight;
    }

    fn taken_over(&mut self, what: What, ledger: &mut Ledger) {
        match what {
            What::Live(at, number) => ledger.on_acknowledged(self.topics[at].1, number),
            What::Kept(at, number) => self.kept[at].acknowledged = self.kept[at].acknowledged.max(number),
        }
    }

    fn find(&self, id: u16) -> Option<usize> {
        self.flight.iter().position(|flight| flight.id == id)
    }

    /// The first that waits for this acknowledgement: they come in the order of the publishes [MQTT-4.6.0-2].
    fn oldest(&self, qos: QoS, id: u16, reason: ReasonCode) -> Result<usize, Fault> {
        let name = if qos == QoS::AtLeastOnce { "PUBACK" } else { "PUBREC" };
        if reason.is_error() {
            return Err(Fault::Protocol(format!("{} was refused {id} with {reason:?}", self.link.name)));
        }
        match self.flight.iter().position(|flight| flight.qos == qos && !flight.released) {
            Some(at) if self.flight[at].id == id => Ok(at),
            _ => Err(self.strange(name, id)),
        }
    }

    fn strange(&self, what: &str, id: u16) -> Fault {
        Fault::Protocol(format!("{} got {what} of {id}, which is not due; {}", self.link.name, self.told()))
    }
}

/// The number, and a text that follows from it.
pub(crate) fn payload(number: u32, length: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend((0..length).map(|at| (number as usize + at) as u8));
    payload
}

/// The number, if all of the text is as it was sent.
pub(crate) fn number_of(bytes: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(*bytes.first_chunk()?);
    (payload(number, bytes.len() - 4) == bytes).then_some(number)
}
