//! Bridges of Mosquitto: they set a bit in the protocol level.

use breakwater_proto::{QoS, Version};
use breakwater_testkit::{Broker, Client};

use crate::pair::SHARDS;
use crate::wire;

fn bridge(broker: &Broker, version: Version) -> Client {
    let mut client = broker.connect();
    client.version = version;
    let mut bytes = wire::connect(version, 0x02, &[b"bridge"]);
    let level = if version == Version::V31 { 8 } else { 6 } + 2;
    assert_eq!(bytes[level], version as u8);
    bytes[level] |= 0x80;
    client.send(&bytes);
    assert_eq!(client.receive(), [0x20, 2, 0, 0]);
    client
}

#[test]
fn bridge_gets_no_echo_and_retained_messages_stay_retained() {
    for version in [Version::V31, Version::V311] {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut publisher = broker.client("p").connect();
            let mut bridge = bridge(&broker, version);
            bridge.subscribe("#", QoS::AtLeastOnce);
            for retain in [false, true] {
                bridge.send_publish("from/bridge", QoS::AtMostOnce, retain, b"m");
                bridge.expect_nothing();
                publisher.send_publish("to/bridge", QoS::AtLeastOnce, retain, b"m");
                let message = bridge.message();
                assert_eq!((message.publish().topic, message.publish().retain), ("to/bridge", retain));
            }
        }
    }
}

#[test]
fn client_without_the_bit_is_no_bridge() {
    for version in [Version::V31, Version::V311] {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        client.subscribe("#", QoS::AtMostOnce);
        client.publish_retained("t", QoS::AtMostOnce, b"m");
        let message = client.message();
        assert_eq!((message.publish().payload, message.publish().retain), (&b"m"[..], false));
    }
}
