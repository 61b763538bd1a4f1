//! A publisher and a reader: at home on different shards where there are several.

use breakwater_proto::{QoS, SubscribeOptions, Version};
use breakwater_shard::{Options, ShardId};
use breakwater_testkit::{Broker, Client, Connecting};

pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// The levels with an acknowledgement.
pub(crate) const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Numbers of shards that tests are done with: one, and more than clients.
pub(crate) const SHARDS: [u16; 2] = [1, 3];

/// The reader has a session that outlives its connections.
pub(crate) struct Pair {
    pub(crate) version: Version,
    pub(crate) broker: Broker,
    pub(crate) publisher: Client,
    pub(crate) reader: Client,
    reader_id: String,
}

impl Pair {
    pub(crate) fn of(broker: Broker, shards: u16, version: Version) -> Pair {
        let publisher_id = broker.id_at(0, "publisher");
        let reader_id = broker.id_at(ShardId::from(shards) - 1, "reader");
        let publisher = broker.client(&publisher_id).version(version).connect();
        let reader = broker.client(&reader_id).version(version).persistent().connect();
        Pair { version, broker, publisher, reader, reader_id }
    }

    /// The reader breaks its connection, once everything that it sent has arrived.
    pub(crate) fn cut(&mut self) {
        self.broker.step();
        self.reader.reset();
        self.broker.step();
    }

    /// The reader comes back to its session.
    pub(crate) fn come_back(&mut self) {
        self.reader = self.again().connect();
    }

    /// The reader's next CONNECT.
    pub(crate) fn again(&self) -> Connecting<'_> {
        self.broker.client(&self.reader_id).version(self.version).persistent()
    }
}

/// Every version, on one shard and across shards.
pub(crate) fn pairs() -> impl Iterator<Item = Pair> {
    pairs_with(|_| {})
}

/// The same with other settings.
pub(crate) fn pairs_with(change: impl Fn(&mut Options) + Copy) -> impl Iterator<Item = Pair> {
    Version::ALL.into_iter().flat_map(move |version| pairs_of(version, change))
}

/// One version, on one shard and across shards.
pub(crate) fn pairs_of(version: Version, change: impl Fn(&mut Options) + Copy) -> impl Iterator<Item = Pair> {
    SHARDS.into_iter().map(move |shards| {
        let broker = Broker::with(|options, _| change(options)).shards(shards);
        Pair::of(broker, shards, version)
    })
}

/// 5.0, on one shard and across shards.
pub(crate) fn pairs_v5() -> impl Iterator<Item = Pair> {
    pairs_of(Version::V5, |_| {})
}

/// Options of a subscription, changed.
pub(crate) fn options(qos: QoS, change: impl FnOnce(&mut SubscribeOptions)) -> SubscribeOptions {
    let mut options = SubscribeOptions::new(qos);
    change(&mut options);
    options
}
