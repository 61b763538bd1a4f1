//! Bad input: each case ends in the right reason code or a closed connection, holds a bounded number of bytes, and a
//! neighbour notices nothing. What the bytes held mean for memory is measured in `flat_memory.rs`.

#[path = "bad_input/neighbour.rs"]
mod neighbour;

use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::auth::{AuthRequest, AuthStep};
use breakwater_contract::{Authenticator, Metric, Token};
use breakwater_proto::{
    Connect, ForwardProperties, OutPublish, Packet, PacketKind, QoS, ReasonCode, Subscribe, SubscribeOptions,
    Unsubscribe, UnsubscribeFilters, UserProperties, Version, encode_puback, encode_pubrec, encode_pubrel,
};
use breakwater_testkit::{Broker, Client, out_publish};

use neighbour::Neighbour;

const KIB: usize = 1024;
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Asks every client with a method for one more round, and lets the others in.
struct Curious;

impl Authenticator for Curious {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep {
        match request.method {
            Some(_) => AuthStep::Challenge { data: None },
            None => AuthStep::Accept { principal: Default::default(), data: None },
        }
    }

    fn abandon(&self, _token: Token) {}

    fn offers(&self, _method: &str) -> bool {
        true
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    write_length(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

fn write_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn connect_bytes(connect: Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::Connect(connect).encode(Version::V5, &mut bytes);
    bytes
}

/// A CONNECT of just under the size that strangers may send.
fn large_connect() -> Vec<u8> {
    let payload = vec![7; 60 * KIB];
    let mut connect = Connect::new(Version::V311, "large");
    connect.username = Some("u");
    connect.password = Some(&payload);
    connect_bytes(connect)
}

fn deep_topic() -> String {
    let mut topic = "a/".repeat(32_767);
    topic.push('b');
    assert_eq!(topic.len(), 65_535);
    topic
}

// Packets in every state.

#[test]
fn whatever_comes_before_connect_closes_the_connection_without_an_answer() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    for first in (0..=255_u8).filter(|first| first >> 4 != PacketKind::Connect as u8) {
        for rest in [&[][..], &[0], &[2, 0, 1], &[0xFF, 0xFF, 0xFF, 0x7F]] {
            let mut stranger = broker.connect();
            let mut bytes = vec![first];
            bytes.extend_from_slice(rest);
            stranger.send(&bytes);
            assert!(stranger.is_closed(), "{bytes:02x?}");
            assert!(stranger.receive().is_empty(), "{bytes:02x?}");
        }
    }
    neighbour.is_well();
    assert_eq!((broker.connections(), broker.held_bytes()), (2, 0));
}

#[test]
fn every_packet_of_the_other_side_ends_a_client_with_protocol_error() {
    for version in VERSIONS {
        let broker = Broker::new();
        let mut neighbour = Neighbour::of(&broker);
        let bodies: [(u8, &[u8]); 5] = [
            (0x20, if version.is_v5() { &[0, 0, 0] } else { &[0, 0] }),
            (0x90, if version.is_v5() { &[0, 1, 0, 0] } else { &[0, 1, 0] }),
            (0xB0, if version.is_v5() { &[0, 1, 0, 0] } else { &[0, 1] }),
            (0xD0, &[]),
            (0x10, &[]),
        ];
        for (first, body) in bodies {
            let mut client = broker.client("confused").version(version).connect();
            let bytes = if first == 0x10 { connect_bytes(Connect::new(version, "again")) } else { packet(first, body) };
            client.send(&bytes);
            client.expect_disconnect(ReasonCode::ProtocolError);
        }
        neighbour.is_well();
    }
}

#[test]
fn a_reserved_type_ends_a_client_by_its_first_byte() {
    let broker = Broker::new();
    let mut client = broker.client("reserved").connect();
    client.send(&[0x00]);
    client.expect_disconnect(ReasonCode::MalformedPacket);
    let mut old = broker.client("auth-in-3.1.1").v311().connect();
    old.send(&[0xF0, 0]);
    old.expect_disconnect(ReasonCode::MalformedPacket);
}

/// A connection in each of its phases.
fn in_phase(broker: &Broker, phase: usize) -> Client {
    match phase {
        0 => broker.connect(),
        1 => broker.client("phase").v31().connect(),
        2 => broker.client("phase").v311().connect(),
        3 => broker.client("phase").connect(),
        4 => {
            let mut client = broker.client("phase").set(|connect| connect.auth_method = Some("rounds")).start();
            assert_eq!(client.next_packet().kind(), PacketKind::Auth);
            client
        }
        // With business under way in both directions.
        _ => {
            let mut client = broker.client("phase").persistent().connect();
            client.subscribe("phase/#", QoS::ExactlyOnce);
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                client.send_publish("phase/1", qos, true, b"x");
            }
            client.receive();
            client
        }
    }
}

#[test]
fn every_first_byte_in_every_phase_is_answered_or_ends_the_connection() {
    let broker = Broker::with(|options, _| options.limits.packet_bytes_max = 64 * 1024)
        .authenticator(Arc::new(Curious))
        .shards(2);
    let mut neighbour = Neighbour::of(&broker);
    let mut state = 7_u64;
    for phase in 0..6 {
        for first in 0..=255_u8 {
            for length in [0, 1, 2, 3, 4, 7, 20, 200] {
                let body: Vec<u8> = (0..length)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        // Small numbers are lengths, types and flags; anything else is mostly noise.
                        let byte = (state >> 56) as u8;
                        if state & 0x4000 == 0 { byte % 8 } else { byte }
                    })
                    .collect();
                let mut client = in_phase(&broker, phase);
                client.send(&packet(first, &body));
                if !client.is_closed() {
                    // It was taken, or waits for more: the connection is still one.
                    client.half_close();
                    assert!(client.is_closed(), "phase {phase}: {first:02x} {body:02x?}");
                }
            }
        }
        neighbour.is_well();
        assert_eq!(broker.connections(), 2);
    }
    broker.client("phase").connect().disconnect();
    neighbour.is_well();
    assert_eq!(broker.held_bytes(), 0);
}

// Lengths.

#[test]
fn a_packet_larger_than_allowed_ends_the_connection_by_its_header() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    for header in [&[0x30, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0x82, 0x80, 0x80, 0x41]] {
        let mut client = broker.client("large").connect();
        client.send(header);
        client.expect_disconnect(ReasonCode::PacketTooLarge);
        let mut client = broker.client("large").v311().connect();
        client.send(header);
        assert!(client.is_closed());
    }
    neighbour.is_well();
}

#[test]
fn a_remaining_length_of_five_bytes_or_in_too_many_is_malformed() {
    let broker = Broker::new();
    for header in [&[0x30, 0x80, 0x80, 0x80, 0x80][..], &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &[0xC0, 0x80, 0x00]] {
        let mut client = broker.client("wrong").connect();
        client.send(header);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

#[test]
fn an_answer_larger_than_the_client_takes_is_not_sent() {
    let broker = Broker::new();
    let mut small = broker.client("small").set(|connect| connect.maximum_packet_size = Some(40)).connect();
    let filters: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let filters: Vec<_> =
        filters.iter().map(|filter| (filter.as_str(), SubscribeOptions::new(QoS::AtMostOnce))).collect();
    small.send_subscribe(&filters, None);
    assert!(small.is_closed());
    let last = small.next_packet();
    assert_eq!(last.disconnect().reason, ReasonCode::PacketTooLarge);
    assert!(last.bytes().len() <= 40);
}

// Slow and silent ones.

#[test]
fn half_a_connect_and_silence_ends_at_the_deadline() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    for bytes in [&b""[..], b"\x10", b"\x10\x20\x00\x04MQ"] {
        let mut silent = broker.connect();
        silent.send(bytes);
        broker.advance(Duration::from_millis(9_900));
        assert!(!silent.is_closed());
        broker.advance(Duration::from_millis(300));
        assert!(silent.is_closed());
        assert!(silent.receive().is_empty());
    }
    assert_eq!(broker.counter(Metric::ConnectTimeouts), 3);
    neighbour.is_well();
}

#[test]
fn a_byte_per_second_does_not_move_the_deadline_of_connect() {
    let broker = Broker::new().shards(2);
    let bytes = connect_bytes(Connect::new(Version::V5, "a-name-that-takes-longer-than-ten-seconds"));
    let mut slow = broker.connect();
    for byte in &bytes[..10] {
        assert!(!slow.is_closed());
        slow.send(&[*byte]);
        broker.advance(Duration::from_secs(1));
    }
    broker.advance(Duration::from_millis(100));
    assert!(slow.is_closed());
}

#[test]
fn a_move_between_shards_does_not_move_the_deadline_of_admission() {
    let broker = Broker::new().shards(2).authenticator(Arc::new(Curious));
    let id = broker.id_at(1, "slow");
    let bytes = connect_bytes(Connect { auth_method: Some("rounds"), ..Connect::new(Version::V5, &id) });
    let mut slow = broker.connect_at(0);
    slow.send(&bytes[..bytes.len() - 1]);
    broker.advance(Duration::from_secs(6));
    slow.send(&bytes[bytes.len() - 1..]);
    assert_eq!(slow.next_packet().kind(), PacketKind::Auth);
    broker.advance(Duration::from_millis(4_100));
    assert!(slow.is_closed());
}

#[test]
fn half_a_packet_and_silence_ends_by_keep_alive() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    let mut half = broker.client("half").keep_alive(10).connect();
    half.send(&packet(0x30, &[b'x'; 50 * KIB])[..40 * KIB]);
    broker.advance(Duration::from_millis(14_900));
    assert!(!half.is_closed());
    broker.advance(Duration::from_millis(300));
    half.expect_disconnect(ReasonCode::KeepAliveTimeout);
    neighbour.is_well();
    assert_eq!(broker.held_bytes(), 0);
}

// Packets that are half here.

#[test]
fn half_packets_are_in_the_account_and_strangers_are_refused_when_they_are_too_much() {
    let broker = Broker::with(|options, _| options.memory_bytes = 8 << 20);
    let mut neighbour = Neighbour::of(&broker);
    let bytes = large_connect();
    let most = &bytes[..bytes.len() * 99 / 100];
    let strangers: Vec<Client> = (0..1000)
        .map(|_| {
            let mut stranger = broker.connect();
            stranger.send(most);
            broker.step();
            stranger
        })
        .collect();
    let open = strangers.iter().filter(|stranger| !stranger.is_closed()).count();
    assert!((10..=25).contains(&open), "{open} strangers hold {} bytes", broker.held_bytes());
    assert!(broker.held_bytes() <= 2 << 20, "{} bytes", broker.held_bytes());
    neighbour.is_well();
    broker.advance(Duration::from_millis(10_100));
    assert!(strangers.iter().all(Client::is_closed));
    assert_eq!(broker.held_bytes(), 0);
    neighbour.is_well();
}

#[test]
fn clients_that_never_finish_large_packets_do_not_stop_the_others() {
    let broker = Broker::with(|options, _| options.memory_bytes = 8 << 20);
    let mut neighbour = Neighbour::of(&broker);
    let bytes = packet(0x30, &vec![0; 1000 * KIB]);
    let mut held = 0;
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..40 {
        let (mut client, answer) = broker.client(&format!("never-{number}")).attempt();
        if answer.is_some() {
            client.send(&bytes[..bytes.len() - 1]);
            broker.step();
            held = held.max(broker.held_bytes());
            clients.push(client);
        }
        neighbour.is_well();
    }
    assert!(held <= 6 << 20, "{held} bytes");
    assert!(clients.iter().any(Client::is_closed));
    clients.iter_mut().for_each(Client::reset);
    broker.step();
    assert_eq!(broker.held_bytes(), 0);
    neighbour.is_well();
}

#[test]
fn a_promised_length_holds_nothing() {
    let broker = Broker::with(|options, _| options.limits.connect_bytes_max = 64 * 1024);
    let mut neighbour = Neighbour::of(&broker);
    let mut strangers: Vec<Client> = (0..10_000)
        .map(|_| {
            let mut stranger = broker.connect();
            stranger.send(&[0x10, 0xFF, 0xFF, 0x01, 0, 4]);
            stranger
        })
        .collect();
    broker.step();
    assert_eq!(broker.connections(), 10_002);
    assert!(broker.held_bytes() <= 10_000 * 64, "{} bytes", broker.held_bytes());
    neighbour.is_well();
    strangers.iter_mut().for_each(Client::reset);
    broker.step();
    assert_eq!(broker.connections(), 2);
}

// Floods by a client that never reads.

/// Sends `one` again and again to a broker that can't write back; answers the most bytes held, and whether it ended.
fn flood(broker: &Broker, client: &mut Client, one: &[u8]) -> (u64, bool) {
    client.stop_reading();
    let many = one.repeat((64 * KIB).div_ceil(one.len()));
    let mut held = 0;
    for _ in 0..400 {
        client.send(&many);
        broker.step();
        held = held.max(broker.held_bytes());
        if client.is_closed() {
            return (held, true);
        }
    }
    (held, false)
}

fn subscribe_bytes(version: Version, filter: &str) -> Vec<u8> {
    let mut raw = string(filter);
    raw.push(1);
    let mut bytes = Vec::new();
    let filters = breakwater_proto::Filters::from_encoded(&raw);
    Packet::Subscribe(Subscribe::new(1, filters)).encode(version, &mut bytes);
    bytes
}

fn unsubscribe_bytes(version: Version, filter: &str) -> Vec<u8> {
    let mut raw = Vec::new();
    UnsubscribeFilters::write(filter, &mut raw);
    let mut bytes = Vec::new();
    Packet::Unsubscribe(Unsubscribe::new(1, UnsubscribeFilters::from_encoded(&raw))).encode(version, &mut bytes);
    bytes
}

fn publish_bytes(version: Version, publish: &OutPublish<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    publish.encode(version, &mut bytes);
    bytes
}

#[test]
fn a_flood_of_requests_whose_answers_nobody_reads_is_ended() {
    for version in [Version::V311, Version::V5] {
        let mut pubrel = Vec::new();
        encode_pubrel(version, 9, ReasonCode::Success, &mut pubrel);
        let mut pubrec = Vec::new();
        encode_pubrec(version, 9, ReasonCode::Success, &mut pubrec);
        let floods = [
            ("PINGREQ", vec![0xC0, 0]),
            ("PUBREL", pubrel),
            ("PUBREC", pubrec),
            ("SUBSCRIBE", subscribe_bytes(version, "f")),
            ("UNSUBSCRIBE", unsubscribe_bytes(version, "f")),
            ("PUBLISH QoS 1", publish_bytes(version, &out_publish("t", QoS::AtLeastOnce, false, 3, b""))),
            ("PUBLISH QoS 2", publish_bytes(version, &out_publish("t", QoS::ExactlyOnce, false, 3, b""))),
        ];
        for (name, one) in floods {
            let broker = Broker::with(|options, _| options.out_buffer_bytes = 64 * KIB as u32);
            let mut neighbour = Neighbour::of(&broker);
            let mut rude = broker.client("rude").version(version).connect();
            let (held, ended) = flood(&broker, &mut rude, &one);
            assert!(ended, "{name} in {version:?}");
            assert!(held <= 3 * 64 * KIB as u64, "{name} in {version:?} holds {held} bytes");
            neighbour.is_well();
            assert_eq!(broker.held_bytes(), 0, "{name} in {version:?}");
        }
    }
}

#[test]
fn a_flood_of_requests_does_not_keep_others_waiting() {
    let broker = Broker::new();
    let mut quiet = broker.client("quiet").connect();
    let mut rude = broker.client("rude").connect();
    rude.send(&[0xC0, 0].repeat(500 * KIB));
    rude.send(&subscribe_bytes(Version::V5, "f").repeat(10_000));
    while rude.unread() > 0 {
        quiet.send_packet(&Packet::PingReq);
        broker.turn(0);
        assert_eq!(quiet.waiting(), 2, "answered in the turn in which it was asked");
        quiet.discard();
    }
}

#[test]
fn messages_to_oneself_that_nobody_reads_are_bounded() {
    let broker = Broker::with(|options, _| options.out_buffer_bytes = 64 * KIB as u32);
    let mut neighbour = Neighbour::of(&broker);
    let mut rude = broker.client("narcissus").connect();
    rude.subscribe("#", QoS::AtLeastOnce);
    let (held, _) =
        flood(&broker, &mut rude, &publish_bytes(Version::V5, &out_publish("t", QoS::AtMostOnce, false, 0, &[0; 100])));
    assert!(held <= 3 * 64 * KIB as u64, "{held} bytes");
    neighbour.is_well();
    broker.advance(Duration::from_secs(11));
    assert!(rude.is_closed());
    neighbour.is_well();
    assert_eq!(broker.held_bytes(), 0);
}

#[test]
fn a_flood_of_filters_in_one_packet_is_refused_behind_the_limit() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    let mut greedy = broker.client("greedy").connect();
    let filters: Vec<String> = (0..1000).map(|number| format!("f/{number}")).collect();
    let filters: Vec<_> =
        filters.iter().map(|filter| (filter.as_str(), SubscribeOptions::new(QoS::AtMostOnce))).collect();
    let suback = greedy.subscribe_with(&filters, None);
    let codes = suback.suback().codes.to_vec();
    assert!(codes[..100].iter().all(|code| *code == 0));
    assert!(codes[100..].iter().all(|code| *code == ReasonCode::QuotaExceeded.as_u8()));
    for batch in 1..12 {
        let suback = greedy.subscribe_with(
            &filters[..100].iter().map(|(filter, options)| (*filter, *options)).collect::<Vec<_>>(),
            None,
        );
        assert!(suback.suback().codes.iter().all(|code| *code == 0), "again, for the {batch}. time");
    }
    for number in 100..1000 {
        assert_eq!(greedy.subscribe(&format!("f/{number}"), QoS::AtMostOnce).suback().codes, [0]);
    }
    let suback = greedy.subscribe("one-more", QoS::AtMostOnce);
    assert_eq!(suback.suback().codes, [ReasonCode::QuotaExceeded.as_u8()]);
    assert_eq!(broker.router().counts().subscriptions, 1001);
    greedy.disconnect();
    assert_eq!(broker.router().counts().subscriptions, 1);
    neighbour.is_well();
}

#[test]
fn more_filters_to_unsubscribe_than_anybody_can_have_end_the_connection() {
    for version in VERSIONS {
        let broker = Broker::new();
        let mut client = broker.client("thorough").version(version).connect();
        let mut raw = Vec::new();
        (0..1000).for_each(|number| UnsubscribeFilters::write(&format!("{number}"), &mut raw));
        client.send_packet(&Packet::Unsubscribe(Unsubscribe::new(1, UnsubscribeFilters::from_encoded(&raw))));
        client.next_of(PacketKind::UnsubAck);
        (0..100_000).for_each(|_| UnsubscribeFilters::write("a", &mut raw));
        client.send_packet(&Packet::Unsubscribe(Unsubscribe::new(1, UnsubscribeFilters::from_encoded(&raw))));
        client.expect_disconnect(ReasonCode::QuotaExceeded);
    }
}

// Packet identifiers.

#[test]
fn all_identifiers_in_flight_to_the_broker_at_once() {
    let broker = Broker::with(|options, _| options.limits.receive_maximum = u16::MAX);
    let mut neighbour = Neighbour::of(&broker);
    let mut client = broker.client("all-ids").connect();
    for id in 1..=u16::MAX {
        client.send_out(&out_publish("t", QoS::ExactlyOnce, false, id, b""));
    }
    let answers = client.receive();
    assert_eq!(answers.len(), 65_535 * 5, "a PUBREC with a code for each");
    assert_eq!(broker.counter(Metric::PublishReceivedQos2), 65_535);
    client.send_out(&out_publish("t", QoS::ExactlyOnce, false, 77, b""));
    client.next_of(PacketKind::PubRec);
    let mut bytes = Vec::new();
    (1..=u16::MAX).rev().for_each(|id| encode_pubrel(Version::V5, id, ReasonCode::Success, &mut bytes));
    client.send(&bytes);
    assert_eq!(client.receive().len(), 65_535 * 4, "a PUBCOMP for each");
    client.ping();
    neighbour.is_well();
}

#[test]
fn one_publish_more_than_the_receive_maximum_ends_the_connection() {
    for (version, most) in [(Version::V5, 1024), (Version::V311, 4096)] {
        let broker = Broker::new();
        let mut neighbour = Neighbour::of(&broker);
        let mut client = broker.client("too-many").version(version).connect();
        for id in 1..=most {
            client.send_out(&out_publish("t", QoS::ExactlyOnce, false, id, b""));
        }
        client.receive();
        assert!(!client.is_closed());
        client.send_out(&out_publish("t", QoS::ExactlyOnce, false, most + 1, b""));
        client.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
        neighbour.is_well();
    }
}

#[test]
fn all_identifiers_in_flight_to_a_client_at_once() {
    let broker = Broker::with(|options, _| {
        options.limits.inflight_max = u16::MAX;
        options.limits.queue_messages_max = 100;
        options.out_buffer_bytes = 16 << 20;
    });
    let mut publisher = broker.client("publisher").connect();
    let mut client = broker.client("hoarder").receive_maximum(u16::MAX).connect();
    client.subscribe("t", QoS::AtLeastOnce);
    let count = 65_535 + 200;
    for number in 0..count {
        publisher.send_out(&out_publish("t", QoS::AtLeastOnce, false, 1, &u32::to_be_bytes(number)));
        if number % 1000 == 0 {
            publisher.receive();
        }
    }
    publisher.receive();
    let mut got = 0;
    let mut ids = Vec::new();
    while let Some(received) = client.try_next() {
        ids.push(received.publish().packet_id);
        got += 1;
    }
    assert!((65_000..=65_535).contains(&got), "{got} in flight");
    assert!(broker.held_bytes() < 100 * 200 + 65_535 * 200, "{} bytes", broker.held_bytes());
    let mut bytes = Vec::new();
    ids.iter().rev().for_each(|id| encode_puback(Version::V5, *id, ReasonCode::Success, &mut bytes));
    // Twice: the second time nobody waits for them.
    bytes.extend_from_within(..);
    client.send(&bytes);
    assert_eq!(client.payloads().len(), 100, "what the queue had kept");
    client.ping();
    assert_eq!(broker.held_bytes(), 0);
}

#[test]
fn a_qos_2_identifier_without_pubrel_stands_for_one_message() {
    let broker = Broker::new();
    let mut reader = broker.client("reader").connect();
    reader.subscribe("t", QoS::AtMostOnce);
    let mut client = broker.client("repeats").connect();
    for round in 0..10_000_u32 {
        client.send_out(&OutPublish { dup: round > 0, ..out_publish("t", QoS::ExactlyOnce, false, 1, b"x") });
    }
    assert_eq!(client.receive().len() % 10_000, 0, "a PUBREC for each");
    assert_eq!(reader.payloads(), [b"x"]);
    assert_eq!(broker.held_bytes(), 0);
}

#[test]
fn acknowledgements_that_nobody_waits_for_are_counted_and_harmless() {
    let broker = Broker::new();
    let mut client = broker.client("acks").connect();
    let mut bytes = Vec::new();
    for id in [1, 2, 77, 65_535] {
        encode_puback(Version::V5, id, ReasonCode::Success, &mut bytes);
        encode_pubrec(Version::V5, id, ReasonCode::Success, &mut bytes);
        breakwater_proto::encode_pubcomp(Version::V5, id, ReasonCode::Success, &mut bytes);
    }
    client.send(&bytes);
    client.ping();
    assert_eq!(broker.counter(Metric::AckUnknownId), 12);
}

// Topics and filters.

#[test]
fn a_topic_of_65535_bytes_and_32768_levels_is_refused_everywhere() {
    let topic = deep_topic();
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = broker.client("deep").version(version).connect();
            client.send_publish(&topic, qos, true, b"x");
            client.expect_disconnect(ReasonCode::TopicNameInvalid);
        }
    }
    let mut client = broker.client("deep").connect();
    let invalid = [ReasonCode::TopicFilterInvalid.as_u8()];
    let shared = format!("$share/g/{}", &topic[..60_000]);
    let wild = format!("{}/#", &topic[..60_000]);
    for filter in [&topic, &shared, &wild, &"+/".repeat(32_767), &"/".repeat(65_535)] {
        assert_eq!(client.subscribe(filter, QoS::AtMostOnce).suback().codes, invalid);
        let code = client.unsubscribe(filter).unsuback().codes[0];
        assert!(code == invalid[0] || code == ReasonCode::NoSubscriptionExisted.as_u8(), "{code:02x}");
    }
    client.disconnect();
    let (_, answer) = broker.client("deep").will(&topic, b"x", QoS::AtMostOnce, true).attempt();
    // Larger than what a stranger may send: closed without an answer, or refused.
    assert!(answer.is_none_or(|answer| answer.connack().reason.is_error()));
    let (_, answer) = broker.client("deep").will(&topic[..30_001], b"x", QoS::AtMostOnce, true).attempt();
    assert_eq!(answer.expect("an answer").connack().reason, ReasonCode::TopicNameInvalid);
    neighbour.is_well();
    assert_eq!((broker.router().counts().retained, broker.held_bytes()), (0, 0));
    assert_eq!(broker.router().counts().trie_filters, 1);
}

#[test]
fn a_long_topic_behind_an_alias_is_refused_too() {
    let topic = deep_topic();
    let broker = Broker::new();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut client = broker.client("deep").connect();
        client.send_out(&OutPublish { topic_alias: 1, ..out_publish(&topic, qos, false, qos as u16, b"x") });
        client.expect_disconnect(ReasonCode::TopicNameInvalid);
    }
}

#[test]
fn filters_that_branch_at_every_level_cost_a_bounded_number_of_visits() {
    let broker = Broker::with(|_, router| router.visits_max = 2000);
    let mut neighbour = Neighbour::of(&broker);
    // Every combination of `a` and `+` at twelve levels: one topic matches all 4096.
    let mut attackers: Vec<Client> =
        (0..5).map(|number| broker.client(&format!("branch-{number}")).connect()).collect();
    for number in 0..4096_usize {
        let levels: Vec<&str> = (0..12).map(|bit| if number >> bit & 1 == 0 { "a" } else { "+" }).collect();
        let filter = levels.join("/");
        assert_eq!(attackers[number / 1000].subscribe(&filter, QoS::AtMostOnce).suback().codes, [0]);
    }
    let topic = ["a"; 12].join("/");
    let mut exact = broker.client("exact").connect();
    exact.subscribe(&topic, QoS::AtMostOnce);
    let mut everything = broker.client("everything").connect();
    everything.subscribe("#", QoS::AtMostOnce);
    let mut publisher = broker.client("publisher").connect();
    publisher.publish(&topic, QoS::AtLeastOnce, b"x");
    assert_eq!(exact.payloads(), [b"x"], "a filter without wildcards is found whatever the others are");
    assert_eq!(everything.payloads(), [b"x"]);
    neighbour.is_well();
    attackers.iter_mut().for_each(Client::disconnect);
    assert_eq!(broker.router().counts().trie_filters, 2);
}

#[test]
fn retained_messages_end_at_their_limits_by_count_and_by_bytes() {
    for by_count in [true, false] {
        let broker = Broker::with(|_, router| {
            router.retained.count_max = if by_count { 500 } else { u64::MAX };
            router.retained.bytes_max = if by_count { u64::MAX } else { 500 * 200 };
        });
        let mut neighbour = Neighbour::of(&broker);
        let mut client = broker.client("hoarder").connect();
        for number in 0..2000 {
            client.publish_retained(&format!("hoard/{number}"), QoS::AtLeastOnce, &[7; 100]);
        }
        let counts = broker.router().counts();
        assert!((400..=1000).contains(&counts.retained), "{} retained", counts.retained);
        assert!(counts.retained_bytes <= 500 * 200);
        assert_eq!(broker.counter(Metric::RetainedRefused), 2000 - counts.retained);
        neighbour.is_well();
        for number in 0..2000 {
            client.publish_retained(&format!("hoard/{number}"), QoS::AtMostOnce, b"");
        }
        let counts = broker.router().counts();
        assert_eq!((counts.retained, counts.retained_bytes), (0, 0));
    }
}

#[test]
fn asking_again_for_retained_messages_does_not_pile_up() {
    let broker = Broker::with(|options, _| options.out_buffer_bytes = 256 * KIB as u32);
    let mut neighbour = Neighbour::of(&broker);
    let mut publisher = broker.client("publisher").connect();
    for number in 0..500 {
        publisher.publish_retained(&format!("kept/{number}"), QoS::AtMostOnce, &[7; 100]);
    }
    let mut greedy = broker.client("greedy").connect();
    // Reads its acknowledgements, but asks a hundred times as fast as it reads.
    greedy.window(64 * KIB);
    for round in 0..600 {
        greedy.send(&subscribe_bytes(Version::V5, if round % 2 == 0 { "kept/#" } else { "kept/+" }));
        if round % 100 == 0 {
            broker.step();
        }
    }
    broker.step();
    neighbour.is_well();
    greedy.resume_reading();
    for _ in 0..200 {
        broker.advance(Duration::from_millis(10));
    }
    greedy.ping();
    let mut got = 0;
    while greedy.try_next().is_some() {
        got += 1;
    }
    assert!((1000..=10_000).contains(&got), "{got} packets");
    neighbour.is_well();
}

// Readers that stall.

#[test]
fn a_reader_of_everything_that_stalls_is_ended_and_nobody_waits_for_it() {
    let broker = Broker::new().shards(2);
    let mut stalled = broker.client("stalled").connect();
    stalled.subscribe("#", QoS::AtLeastOnce);
    stalled.stop_reading();
    let mut neighbour = Neighbour::of(&broker);
    let mut publisher = broker.client("publisher").connect();
    for _ in 0..90 {
        for _ in 0..50 {
            publisher.send_publish("flood", QoS::AtMostOnce, false, &[0; 4 * KIB]);
        }
        broker.advance(Duration::from_millis(100));
        neighbour.is_well();
        // Its out buffer, its queue, and what was being written.
        assert!(broker.held_bytes() <= (1 + 8) * 1024 * KIB as u64 + 64 * KIB as u64, "{}", broker.held_bytes());
    }
    assert!(!stalled.is_closed());
    broker.advance(Duration::from_secs(2));
    assert!(stalled.is_closed());
    assert_eq!(broker.counter(Metric::WriteStalls), 1);
    assert_eq!(broker.held_bytes(), 0);
    neighbour.is_well();
}

#[test]
fn messages_for_absent_clients_do_not_stop_those_who_are_here() {
    let broker = Broker::with(|options, _| {
        options.memory_bytes = 2 << 20;
        options.limits.queue_bytes_max = 512 * KIB as u32;
    });
    let mut neighbour = Neighbour::of(&broker);
    for number in 0..20 {
        let mut absent = broker.client(&format!("absent-{number}")).persistent().connect();
        absent.subscribe("flood/#", QoS::AtLeastOnce);
        absent.disconnect();
    }
    let mut publisher = broker.client("publisher").connect();
    for number in 0..300 {
        // Not the same message for all: each is counted where it is kept.
        publisher.send_publish(&format!("flood/{number}"), QoS::AtLeastOnce, false, &[0; 4 * KIB]);
        broker.advance(Duration::from_millis(5));
        neighbour.is_well();
    }
    assert_eq!(publisher.unread(), 0, "the publisher got through");
    assert!(broker.held_bytes() <= 3 << 20, "{} bytes", broker.held_bytes());
    assert!(broker.counter(Metric::DroppedQueueFull) > 0);
}

#[test]
fn messages_for_clients_that_never_acknowledge_do_not_stop_the_others() {
    let broker = Broker::with(|options, _| {
        options.memory_bytes = 2 << 20;
        options.limits.queue_bytes_max = 512 * KIB as u32;
    });
    let mut neighbour = Neighbour::of(&broker);
    let mut mute: Vec<Client> = (0..20)
        .map(|number| {
            let mut mute = broker.client(&format!("mute-{number}")).connect();
            mute.subscribe("flood/#", QoS::AtLeastOnce);
            mute
        })
        .collect();
    let mut publisher = broker.client("publisher").connect();
    for number in 0..300 {
        publisher.send_publish(&format!("flood/{number}"), QoS::AtLeastOnce, false, &[0; 4 * KIB]);
        broker.advance(Duration::from_millis(5));
        mute.iter_mut().for_each(|mute| {
            mute.discard();
        });
        neighbour.is_well();
    }
    assert_eq!(publisher.unread(), 0, "the publisher got through");
    assert!(broker.held_bytes() <= 3 << 20, "{} bytes", broker.held_bytes());
}

// Properties and aliases.

#[test]
fn user_properties_by_the_thousand_are_refused() {
    let mut raw = Vec::new();
    for _ in 0..10_000 {
        breakwater_proto::write_user_property("", "", &mut raw);
    }
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut client = broker.client("wordy").connect();
        let properties = ForwardProperties::from_stripped(&raw);
        client.send_out(&OutPublish { properties, ..out_publish("t", qos, false, qos as u16, b"x") });
        client.expect_disconnect(ReasonCode::QuotaExceeded);
    }
    let (client, answer) = broker
        .client("wordy")
        .set(|connect| connect.user_properties = UserProperties::from_encoded(&raw[..5 * 1000]))
        .attempt();
    assert_eq!(answer.expect("an answer").connack().reason, ReasonCode::QuotaExceeded);
    assert!(client.is_closed());
    neighbour.is_well();
}

#[test]
fn aliases_out_of_range_or_unknown_end_the_connection() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    let cases = [
        (17, "t", ReasonCode::TopicAliasInvalid),
        (65_535, "t", ReasonCode::TopicAliasInvalid),
        (3, "", ReasonCode::ProtocolError),
    ];
    for (alias, topic, reason) in cases {
        let mut client = broker.client("alias").connect();
        client.send_out(&OutPublish { topic_alias: alias, ..out_publish(topic, QoS::AtMostOnce, false, 0, b"x") });
        client.expect_disconnect(reason);
    }
    let mut client = broker.client("alias").connect();
    let mut body = string("t");
    body.extend([3, 0x23, 0, 0]);
    client.send(&packet(0x30, &body));
    client.expect_disconnect(ReasonCode::TopicAliasInvalid);
    neighbour.is_well();
}

#[test]
fn an_alias_lives_no_longer_than_its_connection_and_is_its_own() {
    let broker = Broker::new();
    let mut reader = broker.client("reader").connect();
    reader.subscribe("#", QoS::AtMostOnce);
    let mut one = broker.client("one").persistent().connect();
    let mut two = broker.client("two").connect();
    one.send_out(&OutPublish { topic_alias: 1, ..out_publish("of/one", QoS::AtMostOnce, false, 0, b"") });
    two.send_out(&OutPublish { topic_alias: 1, ..out_publish("of/two", QoS::AtMostOnce, false, 0, b"") });
    one.send_out(&OutPublish { topic_alias: 1, ..out_publish("", QoS::AtMostOnce, false, 0, b"") });
    let topics: Vec<String> = (0..3).map(|_| reader.message().publish().topic.to_owned()).collect();
    assert_eq!(topics.iter().filter(|topic| *topic == "of/one").count(), 2);
    one.disconnect();
    let mut one = broker.client("one").persistent().connect();
    one.send_out(&OutPublish { topic_alias: 1, ..out_publish("", QoS::AtMostOnce, false, 0, b"") });
    one.expect_disconnect(ReasonCode::ProtocolError);
    // Named again and again: sixteen topics at a time, whatever their number.
    for number in 0..10_000_u32 {
        let topic = format!("renamed/{number}");
        let alias = (number % 16 + 1) as u16;
        two.send_out(&OutPublish { topic_alias: alias, ..out_publish(&topic, QoS::AtMostOnce, false, 0, b"") });
        two.send_out(&OutPublish { topic_alias: alias, ..out_publish("", QoS::AtMostOnce, false, 0, b"") });
        if number % 100 == 99 {
            let got: Vec<String> =
                std::iter::from_fn(|| reader.try_next()).map(|packet| packet.publish().topic.to_owned()).collect();
            assert!(got.len() == 200 && got.ends_with(&[topic.clone(), topic]));
        }
    }
    assert_eq!(broker.held_bytes(), 0);
}
