//! Who lives next door to the bad clients, and must notice nothing.

use breakwater_contract::Metric;
use breakwater_proto::{QoS, ReasonCode};
use breakwater_testkit::{Broker, Client};

/// A publisher and a reader of its topic, both well behaved.
pub(crate) struct Neighbour {
    broker: Broker,
    publisher: Client,
    reader: Client,
    count: u32,
}

impl Neighbour {
    pub(crate) fn of(broker: &Broker) -> Self {
        let publisher = broker.client("neighbour-publisher").connect();
        let mut reader = broker.client("neighbour-reader").v311().connect();
        assert_eq!(reader.subscribe("neighbour/+", QoS::AtLeastOnce).suback().codes, [1]);
        Self { broker: broker.clone(), publisher, reader, count: 0 }
    }

    /// Answers come, messages come, and nothing inside the broker has gone wrong.
    pub(crate) fn is_well(&mut self) {
        self.publisher.ping();
        self.reader.ping();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            self.count += 1;
            let payload = self.count.to_be_bytes();
            assert_eq!(self.publisher.publish("neighbour/1", qos, &payload), ReasonCode::Success);
            assert_eq!(self.reader.payloads(), [payload]);
        }
        assert_eq!(self.broker.counter(Metric::Panics), 0);
    }
}
