//! A client without a session that looks at what is retained.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use breakwater_proto::{
    Filters, ForwardProperties, OutPublish, Packet, QoS, ReasonCode, Subscribe, SubscribeOptions, UserProperties,
    Version, encode_puback,
};

use crate::ledger::{Fault, check_retained};
use crate::link::Link;
use crate::publisher::{Kept, number_of, payload};

/// Between two visits.
const PAUSE: Duration = Duration::from_millis(150);
/// What is retained comes in the order of the filters, so this one comes last.
const LAST: &str = "last";

pub(crate) struct Visitor {
    pub(crate) link: Link,
    /// Whether `LAST` was acknowledged.
    marked: bool,
    asked_on: u32,
    /// What was acknowledged when it asked, by topic.
    acknowledged: Vec<(String, u32)>,
    found: BTreeMap<String, u32>,
    pub(crate) visits: u64,
}

impl Visitor {
    pub(crate) fn new(now: Instant) -> Visitor {
        let mut link = Link::new("visitor", Version::V5, now);
        link.clean = true;
        let (acknowledged, found) = (Vec::new(), BTreeMap::new());
        Visitor { link, marked: false, asked_on: 0, acknowledged, found, visits: 0 }
    }

    pub(crate) fn on_tick<'a>(&mut self, port: u16, kept: impl Iterator<Item = &'a Kept>, now: Instant) {
        self.link.on_tick(port, now);
        if !self.link.online || self.asked_on == self.link.connection {
            return;
        }
        self.asked_on = self.link.connection;
        if !self.marked {
            let publish = OutPublish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: true,
                packet_id: 2,
                topic: LAST,
                topic_alias: 0,
                expiry: None,
                subscription_ids: &[],
                properties: ForwardProperties::EMPTY,
                payload: &payload(1, 0),
            };
            publish.encode(self.link.version, &mut self.link.out);
        }
        self.found.clear();
        self.acknowledged = kept.map(|kept| (kept.topic.clone(), kept.acknowledged)).collect();
        let mut filters = Vec::new();
        for filter in ["kept/#", LAST] {
            Filters::write(filter, SubscribeOptions::new(QoS::AtLeastOnce), &mut filters);
        }
        let (packet_id, user_properties, filters) = (1, UserProperties::EMPTY, Filters::from_encoded(&filters));
        Subscribe { packet_id, subscription_id: None, user_properties, filters }
            .encode(self.link.version, &mut self.link.out);
        self.link.flush();
    }

    pub(crate) fn read<'a>(&mut self, kept: impl Iterator<Item = &'a Kept>) -> Result<(), Fault> {
        let (mut last, mut marked) = (false, self.marked);
        let found = &mut self.found;
        self.link.read(|link, packet| {
            match packet {
                Packet::ConnAck(connack) => link.on_connack(&connack)?,
                Packet::PubAck(ack) if !ack.reason.is_error() => marked = true,
                Packet::SubAck(_) => {}
                Packet::Publish(publish) => {
                    encode_puback(link.version, publish.packet_id, ReasonCode::Success, &mut link.out);
                    let number = number_of(publish.payload);
                    let number = number.ok_or_else(|| Fault::Protocol(format!("{publish:?} is changed")))?;
                    last |= publish.topic == LAST;
                    if publish.retain && publish.topic != LAST && !last {
                        found.insert(publish.topic.to_owned(), number);
                    }
                }
                other => return Err(Fault::Protocol(format!("the visitor was sent {other:?}"))),
            }
            Ok(())
        })?;
        self.marked = marked;
        if !last {
            return Ok(());
        }
        for (kept, (topic, acknowledged)) in kept.zip(&self.acknowledged) {
            check_retained(topic, *acknowledged, kept.sent, self.found.get(topic).copied().unwrap_or(0))?;
        }
        self.visits += 1;
        self.link.lose();
        self.link.away_until = Instant::now() + PAUSE;
        Ok(())
    }
}
