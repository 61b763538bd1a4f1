//! Section 3.12: PINGREQ.

use breakwater_proto::{QoS, ReasonCode};

use crate::pair::{pairs, pairs_with};
use crate::wire;

/// [MQTT-3.12.4-1] [MQTT3-3.12.4-1]
#[test]
fn every_ping_is_answered() {
    for mut pair in pairs() {
        pair.reader.send(&[0xC0, 0, 0xC0, 0]);
        assert_eq!(pair.reader.receive(), [0xD0, 0, 0xD0, 0]);
        // Also behind other packets, and with a delivery that waits for its acknowledgement.
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.publisher.publish("t", QoS::AtLeastOnce, b"m");
        let bytes = wire::join(&[&wire::publish(pair.version, 0x30, b"x", 0, b"m"), &[0xC0, 0]]);
        pair.reader.next_packet();
        pair.reader.send(&bytes);
        assert_eq!(pair.reader.receive(), [0xD0, 0]);
    }
}

#[test]
fn ping_with_a_body_ends_the_connection() {
    for mut pair in pairs() {
        pair.reader.send(&[0xC0, 1, 0]);
        pair.reader.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

#[test]
fn pings_keep_a_connection_alive() {
    for mut pair in pairs_with(|options| options.limits.server_keep_alive_s = Some(10)) {
        for _ in 0..10 {
            pair.broker.advance(std::time::Duration::from_secs(9));
            pair.reader.ping();
        }
    }
}
