//! Section 3.15: the AUTH packet.

use breakwater_proto::{Auth, Packet, PacketKind, ReasonCode, Version};
use breakwater_testkit::{Broker, Client};

use crate::script::{self, Script};
use crate::wire;

/// The AUTH that came next.
fn auth_of(packet: &breakwater_testkit::Received) -> Auth<'_> {
    let Packet::Auth(auth) = packet.packet() else { panic!("expected AUTH, got {packet:?}") };
    auth
}

fn authenticated() -> (Broker, Client) {
    let broker = Broker::new().authenticator(Script::of([]));
    let client = broker.client("c").set(|connect| connect.auth_method = Some("SCRIPT")).connect();
    (broker, client)
}

/// [MQTT-3.15.1-1]
#[test]
fn auth_with_flags_ends_the_connection() {
    for flags in 1..16u8 {
        let (_broker, mut client) = authenticated();
        client.send(&[0xF0 | flags, 0]);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

/// [MQTT-3.15.2-1]
#[test]
fn auth_with_a_code_that_it_may_not_carry_ends_the_connection() {
    let method = wire::section(&[&[0x15][..], &wire::field(b"SCRIPT")].concat());
    for code in 0..=255u8 {
        let (_broker, mut client) = authenticated();
        client.send(&wire::packet(0xF0, &[&[code][..], &method].concat()));
        match ReasonCode::from_u8(code) {
            Some(ReasonCode::ReAuthenticate) => {
                let answer = client.next_packet();
                assert_eq!(auth_of(&answer).reason, ReasonCode::Success);
            }
            Some(_) => client.expect_disconnect(ReasonCode::ProtocolError),
            None => client.expect_disconnect(ReasonCode::MalformedPacket),
        }
    }
}

#[test]
fn auth_without_a_method_is_a_protocol_error() {
    let (_broker, mut client) = authenticated();
    client.send(&[0xF0, 2, 0x19, 0]);
    client.expect_disconnect(ReasonCode::ProtocolError);
}

#[test]
fn older_versions_have_no_auth() {
    for version in [Version::V31, Version::V311] {
        let broker = Broker::new();
        let mut client = broker.client("c").version(version).connect();
        client.send(&[0xF0, 0]);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

/// [MQTT-3.15.2-2] [MQTT-3.15.2-3]
#[test]
fn auth_from_the_broker_says_no_more_than_it_must() {
    let broker = Broker::new().authenticator(Script::of([script::challenge(b"?")]));
    let mut client = broker.client("c").set(|connect| connect.auth_method = Some("SCRIPT")).start();
    let answer = client.next_packet();
    assert_eq!(auth_of(&answer).reason_string, None);
    assert!(auth_of(&answer).user_properties.is_empty());
}

/// [MQTT-3.15.2-2] [MQTT-3.15.2-3] [MQTT-3.1.2-24]
#[test]
fn auth_above_the_clients_maximum_packet_size_is_not_sent_and_the_client_not_let_in() {
    let broker = Broker::new().authenticator(Script::of([script::challenge(&[0; 100])]));
    let connecting = broker.client("c").set(|connect| {
        connect.auth_method = Some("SCRIPT");
        connect.maximum_packet_size = Some(50);
    });
    let mut client = connecting.start();
    let answer = client.next_packet();
    assert_eq!(answer.kind(), PacketKind::ConnAck);
    assert_eq!(answer.connack().reason, ReasonCode::PacketTooLarge);
    assert!(answer.bytes().len() <= 50);
    assert!(client.is_closed());
    let script = Script::of([script::accept(), script::challenge(&[0; 100])]);
    let broker = Broker::new().authenticator(script);
    let mut client = broker
        .client("c")
        .set(|connect| {
            connect.auth_method = Some("SCRIPT");
            connect.maximum_packet_size = Some(50);
        })
        .connect();
    let again = Auth { reason: ReasonCode::ReAuthenticate, method: Some("SCRIPT"), ..Auth::default() };
    client.send_packet(&Packet::Auth(again));
    client.expect_disconnect(ReasonCode::PacketTooLarge);
}
