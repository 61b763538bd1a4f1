//! Wills at the ends of a connection that are not the client's doing.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{QoS, ReasonCode, Version};
use breakwater_testkit::Broker;

use crate::pair::SHARDS;

#[test]
fn will_is_published_when_the_client_takes_no_bytes() {
    for version in Version::ALL {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut watcher = broker.client(&broker.id_at(0, "w")).connect();
            watcher.subscribe("gone", QoS::AtLeastOnce);
            let id = broker.id_at(shards - 1, "c");
            let connecting = broker.client(&id).version(version).will("gone", b"c", QoS::AtLeastOnce, false);
            let mut client = connecting.connect();
            client.subscribe("t", QoS::AtMostOnce);
            client.stop_reading();
            watcher.publish("t", QoS::AtMostOnce, b"m");
            broker.advance(Duration::from_secs(9));
            watcher.expect_nothing();
            broker.advance(Duration::from_secs(2));
            assert!(client.is_closed());
            assert_eq!(watcher.payloads(), [b"c"]);
            assert_eq!(broker.counter(Metric::WriteStalls), 1);
        }
    }
}

#[test]
fn wills_at_shutdown_are_kept_as_retained_unless_withheld() {
    for (publish, delay_s) in [(true, 0), (true, 600), (false, 0)] {
        for shards in SHARDS {
            let broker = Broker::with(|options, _| options.wills_on_shutdown = publish).shards(shards);
            let connecting = broker.client("c").persistent().will("gone", b"c", QoS::AtLeastOnce, true);
            let mut client = connecting.will_delay(delay_s).connect();
            broker.shutdown();
            client.expect_disconnect(ReasonCode::ServerShuttingDown);
            assert_eq!(broker.router().counts().retained, u64::from(publish));
        }
    }
}

#[test]
fn will_reaches_readers_at_other_shards_with_its_delay() {
    for shards in SHARDS {
        let broker = Broker::new().shards(shards);
        let mut watchers: Vec<_> =
            (0..shards).map(|shard| broker.client(&broker.id_at(shard, "w")).connect()).collect();
        watchers.iter_mut().for_each(|watcher| drop(watcher.subscribe("gone", QoS::ExactlyOnce)));
        let connecting = broker.client("c").persistent().will("gone", b"c", QoS::ExactlyOnce, false);
        connecting.will_delay(5).connect().reset();
        broker.advance(Duration::from_millis(4_900));
        watchers.iter_mut().for_each(breakwater_testkit::Client::expect_nothing);
        broker.advance(Duration::from_millis(200));
        for watcher in &mut watchers {
            assert_eq!(watcher.payloads(), [b"c"]);
        }
    }
}
