//! Bugs that other brokers had, as facts about this one. Those of the decoder alone are in `proto/tests/regressions.rs`,
//! those that show in live memory in `flat_memory.rs`; floods and limits are in `bad_input.rs`.

#[path = "bad_input/neighbour.rs"]
mod neighbour;

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{
    Connect, ForwardProperties, OutPublish, Packet, PacketKind, QoS, ReasonCode, SubscribeOptions, TopicLimits,
    Version, Will, encode_pubrel,
};
use breakwater_testkit::{Broker, Client, out_publish};

use neighbour::Neighbour;

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "one byte of length is enough here");
    let mut bytes = vec![first, body.len() as u8];
    bytes.extend_from_slice(body);
    bytes
}

/// One of each packet that a client may send, encoded.
fn valid_packets(version: Version) -> Vec<Vec<u8>> {
    let encode = |packet: &Packet<'_>| {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        bytes
    };
    let properties: &[u8] = &[0x26, 0, 1, b'k', 0, 1, b'v', 1, 0];
    let properties =
        if version.is_v5() { ForwardProperties::from_stripped(properties) } else { ForwardProperties::EMPTY };
    let will =
        Will { qos: QoS::AtLeastOnce, retain: true, topic: "w", payload: b"x", delay_s: 3, expiry: None, properties };
    let mut connect = Connect::new(version, "client");
    connect.will = Some(Will { delay_s: if version.is_v5() { 3 } else { 0 }, ..will });
    connect.username = Some("user");
    connect.password = Some(b"secret");
    let mut publish = Vec::new();
    OutPublish { properties, ..out_publish("a/b", QoS::ExactlyOnce, true, 7, b"payload") }
        .encode(version, &mut publish);
    let mut pubrel = Vec::new();
    encode_pubrel(version, 7, ReasonCode::Success, &mut pubrel);
    let mut raw = Vec::new();
    breakwater_proto::Filters::write("a/#", SubscribeOptions::new(QoS::AtLeastOnce), &mut raw);
    let subscribe = breakwater_proto::Subscribe::new(9, breakwater_proto::Filters::from_encoded(&raw));
    let mut names = Vec::new();
    breakwater_proto::UnsubscribeFilters::write("a/#", &mut names);
    let unsubscribe =
        breakwater_proto::Unsubscribe::new(10, breakwater_proto::UnsubscribeFilters::from_encoded(&names));
    vec![
        encode(&Packet::Connect(connect)),
        publish,
        pubrel,
        encode(&Packet::Subscribe(subscribe)),
        encode(&Packet::Unsubscribe(unsubscribe)),
        encode(&Packet::PingReq),
    ]
}

/// CVE-2017-7651 (Mosquitto): a huge remaining length made it reserve memory.
#[test]
fn a_huge_remaining_length_before_connect_closes_and_holds_nothing() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    for _ in 0..10_000 {
        let mut stranger = broker.connect();
        stranger.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(stranger.is_closed());
    }
    neighbour.is_well();
    assert_eq!((broker.connections(), broker.held_bytes()), (2, 0));
}

/// CVE-2023-0809 (Mosquitto): a large first packet that is not CONNECT was allocated.
#[test]
fn a_large_first_packet_that_is_not_connect_is_refused_by_its_first_byte() {
    let broker = Broker::new();
    let mut stranger = broker.connect();
    stranger.send(&[0x30]);
    assert!(stranger.is_closed());
    assert!(stranger.receive().is_empty());
}

/// CVE-2023-3592 (Mosquitto): a will with a property of the wrong type leaked.
#[test]
fn a_will_with_any_other_property_is_refused() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    // Allowed in a will: 01 02 03 08 09 18 26.
    for id in (0..=0x7F_u8).filter(|id| ![0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26].contains(id)) {
        let properties = [id, 0, 1, 0, 1, 0, 1];
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0b0000_0110, 0, 0, 0, 0, 1, b'c'];
        body.push(properties.len() as u8);
        body.extend_from_slice(&properties);
        body.extend_from_slice(&[0, 1, b'w', 0, 1, b'x']);
        let mut client = broker.connect();
        client.send(&packet(0x10, &body));
        assert!(client.is_closed(), "property {id:02x}");
        let answer = client.next_packet();
        assert!(answer.connack().reason.is_error(), "property {id:02x}");
    }
    neighbour.is_well();
    assert_eq!(broker.counter(Metric::WillsPublished), 0);
}

/// CVE-2026-21888 (NanoMQ): a variable byte integer of five bytes was accepted.
#[test]
fn over_long_integers_end_the_connection_with_malformed_packet() {
    for integer in [&[0x80, 0x80, 0x80, 0x80, 0x01][..], &[0x80, 0x00], &[0x80, 0x80, 0x00]] {
        let broker = Broker::new();
        let publish_properties = [&[0, 1, b't'], integer].concat();
        let subscribe_properties = [&[0, 1], integer, &[0, 1, b't', 0]].concat();
        let inner = [&[0x0B], integer].concat();
        let subscription_id = [&[0, 1, inner.len() as u8], &inner[..], &[0, 1, b't', 0]].concat();
        let disconnect = [&[0x00], integer].concat();
        let packets =
            [(0x30, publish_properties), (0x82, subscribe_properties), (0x82, subscription_id), (0xE0, disconnect)];
        for (first, body) in packets {
            let mut client = broker.client("long").connect();
            client.send(&packet(first, &body));
            client.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
}

/// CVE-2025-66168, CVE-2026-40046 (ActiveMQ): an over-long remaining length hid a second packet in the first.
#[test]
fn nothing_behind_a_malformed_length_is_obeyed() {
    let broker = Broker::new();
    let mut reader = broker.client("reader").connect();
    reader.subscribe("#", QoS::AtMostOnce);
    for version in VERSIONS {
        for length in [&[0x80, 0x80, 0x80, 0x80, 0x01][..], &[0x80, 0x00], &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]] {
            let mut smuggler = broker.client("smuggler").version(version).connect();
            let mut bytes = [&[0xC0], length].concat();
            out_publish("smuggled", QoS::AtMostOnce, false, 0, b"x").encode(version, &mut bytes);
            smuggler.send(&bytes);
            smuggler.expect_disconnect(ReasonCode::MalformedPacket);
        }
    }
    reader.expect_nothing();
}

/// NATS 778a0c6, 54e6bf2: a topic longer than its packet stopped the process.
#[test]
fn no_packet_cut_short_stops_anything() {
    for version in VERSIONS {
        let broker = Broker::new();
        let mut neighbour = Neighbour::of(&broker);
        for whole in valid_packets(version) {
            for end in 2..whole.len() {
                // Cut, with a length that says so: nothing is missing but the end.
                let bytes = packet(whole[0], &whole[2..end]);
                let mut client = match whole[0] >> 4 == PacketKind::Connect as u8 {
                    true => broker.connect(),
                    false => broker.client("cut").version(version).connect(),
                };
                client.send(&bytes);
                let _ = client.is_closed();
                client.reset();
            }
        }
        neighbour.is_well();
    }
}

/// CVE-2021-28166 (Mosquitto): a CONNACK from a client was followed through a null pointer.
#[test]
fn a_connack_from_a_client_ends_its_connection() {
    for version in VERSIONS {
        let broker = Broker::new();
        let mut client = broker.client("confused").version(version).connect();
        client.send(&packet(0x20, if version.is_v5() { &[0, 0, 0] } else { &[0, 0] }));
        client.expect_disconnect(ReasonCode::ProtocolError);
        assert_eq!(broker.counter(Metric::Panics), 0);
    }
}

/// CVE-2021-34432 (Mosquitto): a topic of no bytes crashed it.
#[test]
fn an_empty_topic_without_an_alias_ends_the_connection() {
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let broker = Broker::new();
            let mut client = broker.client("empty").version(version).connect();
            client.send_publish("", qos, true, b"x");
            client.expect_disconnect(ReasonCode::ProtocolError);
            assert_eq!(broker.counter(Metric::Panics), 0);
        }
    }
}

/// CVE-2018-12543 (Mosquitto): a topic that begins with `$` but not with `$SYS` stopped it.
#[test]
fn topics_that_begin_with_a_dollar_are_routed_or_denied() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    let mut reader = broker.client("reader").connect();
    let topics =
        ["$", "$x", "$CONTROL/x", "$delayed/5/x", "$SYSTEM/x", "$share", "$share/g/t", "$queue/t", "$SYS", "$SYS/x"];
    for topic in &topics[..5] {
        reader.subscribe(topic, QoS::AtMostOnce);
    }
    for (number, topic) in topics.iter().enumerate() {
        let mut client = broker.client("dollar").connect();
        let reason = client.publish_retained(topic, QoS::AtLeastOnce, b"x");
        let expected = if number < 5 { ReasonCode::Success } else { ReasonCode::NotAuthorized };
        assert_eq!(reason, expected, "{topic}");
        client.publish_retained(topic, QoS::AtLeastOnce, b"");
    }
    assert_eq!(broker.router().counts().retained, 0);
    neighbour.is_well();
}

/// CVE-2019-11779 (Mosquitto), CVE-2021-33175 (EMQX), CVE-2021-33176 (VerneMQ), GHSA-xxqp (Aedes): tens of thousands of
/// levels overflowed the stack. With the limits lifted, because a limit is no excuse for recursion.
#[test]
fn tens_of_thousands_of_levels_come_and_go_where_they_are_allowed() {
    let broker = Broker::with(|options, _| {
        options.limits.topic = TopicLimits { levels_max: u16::MAX, bytes_max: u16::MAX };
        options.limits.connect_bytes_max = 1 << 20;
    });
    let mut neighbour = Neighbour::of(&broker);
    let slashes = "/".repeat(65_534);
    let wild = "+/".repeat(32_766);
    let mut client = broker.client("deep").connect();
    for filter in [slashes.as_str(), &wild, &format!("{wild}#"), &format!("$share/g/{}", &slashes[..60_000])] {
        assert_eq!(client.subscribe(filter, QoS::AtMostOnce).suback().codes, [0]);
    }
    assert_eq!(client.publish_retained(&slashes, QoS::AtLeastOnce, b"x"), ReasonCode::Success);
    assert!(client.try_next().is_some_and(|packet| packet.publish().topic.len() == slashes.len()));
    let mut late = broker.client("late").connect();
    late.subscribe("#", QoS::AtMostOnce);
    assert_eq!(late.payloads(), [b"x"]);
    let mut mortal = broker.client("mortal").will(&slashes, b"", QoS::AtMostOnce, true).connect();
    mortal.reset();
    broker.step();
    assert_eq!(broker.router().counts().retained, 0);
    client.unsubscribe(&slashes);
    client.disconnect();
    late.disconnect();
    assert_eq!(broker.router().counts().trie_filters, 1);
    neighbour.is_well();
}

/// EMQX #15361: half a user property crashed its parser.
#[test]
fn half_a_user_property_ends_the_connection_with_malformed_packet() {
    let broker = Broker::new();
    for cut in 1..8 {
        let property = &[0x26, 0, 2, b'k', b'k', 0, 2, b'v', b'v'][..cut];
        let body = [&[0, 1, b't', cut as u8], property].concat();
        let mut client = broker.client("half").connect();
        client.send(&packet(0x30, &body));
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

/// Mosquitto 2.0.21: a packet of the reserved type was not disconnected at once.
#[test]
fn a_reserved_packet_type_ends_the_connection_at_once() {
    for version in VERSIONS {
        let broker = Broker::new();
        let mut client = broker.client("reserved").version(version).connect();
        client.send(&[0x0F]);
        client.expect_disconnect(ReasonCode::MalformedPacket);
    }
}

/// EMQX #14815, RMQTT #456, NATS #8358: identifiers of QoS 2 stayed occupied, duplicates came twice, PUBREL got lost.
#[test]
fn exactly_once_holds_over_a_storm_of_reconnects() {
    let broker = Broker::new().shards(2);
    let mut reader = broker.client("reader").persistent().connect();
    reader.subscribe("t", QoS::ExactlyOnce);
    let mut expected = Vec::new();
    for round in 0..500_u32 {
        let id = (round % 3 + 1) as u16;
        let payload = round.to_be_bytes();
        // The connection breaks before PUBREC is seen, after it, and before PUBCOMP is.
        let mut sender = broker.client("sender").persistent().connect();
        sender.send_out(&out_publish("t", QoS::ExactlyOnce, false, id, &payload));
        broker.step();
        sender.reset();
        let mut sender = broker.client("sender").persistent().connect();
        sender.send_out(&OutPublish { dup: true, ..out_publish("t", QoS::ExactlyOnce, false, id, &payload) });
        assert_eq!(sender.next_of(PacketKind::PubRec).ack().packet_id, id);
        sender.reset();
        let mut sender = broker.client("sender").persistent().connect();
        for _ in 0..2 {
            let mut bytes = Vec::new();
            encode_pubrel(Version::V5, id, ReasonCode::Success, &mut bytes);
            sender.send(&bytes);
            assert_eq!(sender.next_of(PacketKind::PubComp).ack().packet_id, id);
        }
        sender.disconnect();
        expected.push(payload.to_vec());
        if round % 50 == 0 {
            reader.reset();
            reader = broker.client("reader").persistent().connect();
        }
    }
    // What went to a connection that was never read comes again, in order, marked as such.
    assert_eq!(reader.payloads(), expected);
    assert_eq!(broker.counter(Metric::Panics), 0);
}

/// CVE-2019-11778 (Mosquitto) and its 2.1.3: wills with a delay beside the end of the session.
#[test]
fn a_will_is_published_once_when_its_delay_or_its_session_ends() {
    // Delay, session expiry, seconds until the will.
    let table =
        [(0, 0, 0), (5, 0, 0), (0, 5, 0), (5, 5, 5), (5, 20, 5), (20, 5, 5), (1000, 100, 100), (100, u32::MAX, 100)];
    for (delay, expiry, due) in table {
        let broker = Broker::new();
        let mut reader = broker.client("reader").connect();
        reader.subscribe("will", QoS::AtMostOnce);
        let mut mortal = broker
            .client("mortal")
            .will("will", b"x", QoS::AtMostOnce, false)
            .will_delay(delay)
            .expiry(expiry)
            .connect();
        mortal.reset();
        broker.step();
        if due > 0 {
            broker.advance(Duration::from_millis(due * 1000 - 100));
            assert!(reader.payloads().is_empty(), "{delay} {expiry}: too early");
            broker.advance(Duration::from_millis(300));
        }
        assert_eq!(reader.payloads(), [b"x"], "{delay} {expiry}");
        broker.advance(Duration::from_secs(2000));
        assert!(reader.payloads().is_empty(), "{delay} {expiry}: twice");
        assert_eq!(broker.counter(Metric::WillsPublished), 1);
    }
}

/// The same will beside a client that comes back: in time it takes the will away, by clean start it lets it out.
#[test]
fn a_client_that_comes_back_in_time_takes_its_will_away() {
    for (clean, wills) in [(false, 0), (true, 1)] {
        let broker = Broker::new();
        for _ in 0..2 {
            let connecting = broker.client("mortal").will("will", b"x", QoS::AtMostOnce, false).will_delay(50);
            let mut mortal =
                if clean { connecting.clean().expiry(100) } else { connecting.resume().expiry(100) }.connect();
            mortal.reset();
            broker.advance(Duration::from_secs(30));
        }
        let mut mortal = broker.client("mortal").resume().expiry(100).connect();
        assert_eq!(broker.counter(Metric::WillsPublished), wills);
        mortal.disconnect();
        broker.advance(Duration::from_secs(99));
        assert_eq!(broker.sessions(), 1);
        broker.advance(Duration::from_secs(2));
        assert_eq!((broker.sessions(), broker.counter(Metric::WillsPublished)), (0, wills));
    }
}

/// CVE-2026-22040, CVE-2025-59946 (NanoMQ): a storm of reconnects with the same identifier corrupted its memory.
#[test]
fn a_storm_of_connections_with_few_identifiers_leaves_one_connection_each() {
    let broker = Broker::new().shards(4);
    let mut neighbour = Neighbour::of(&broker);
    let ids: Vec<String> = (0..8).map(|number| format!("storm-{number}")).collect();
    let mut state = 11_u64;
    let mut sockets: Vec<Client> = Vec::new();
    for round in 0..3000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let [pick, action, socket, _] = ((state >> 32) as u32).to_be_bytes();
        let id = &ids[usize::from(pick % 8)];
        if sockets.len() < 64 {
            let connecting = broker.client(id);
            sockets.push(if pick & 0x10 == 0 { connecting.persistent() } else { connecting.clean() }.start());
            continue;
        }
        let place = usize::from(socket) % sockets.len();
        let client = &mut sockets[place];
        match action % 6 {
            0 => {
                client.reset();
                sockets.swap_remove(place);
            }
            1 => drop(sockets.swap_remove(place)),
            2 => drop(client.send_subscribe(&[("storm/#", SubscribeOptions::new(QoS::AtLeastOnce))], None)),
            3 => drop(client.send_publish("storm/1", QoS::AtLeastOnce, false, b"x")),
            4 => client.send(&[0xC0, 0]),
            _ => broker.turn(u16::from(action % 4)),
        }
        if round % 100 == 0 {
            neighbour.is_well();
        }
    }
    broker.step();
    assert!(broker.sessions() <= 10 && broker.connections() <= 10 + 64);
    for id in &ids {
        let mut last = broker.client(id).clean().connect();
        last.ping();
        last.disconnect();
    }
    neighbour.is_well();
    assert_eq!((broker.sessions(), broker.router().counts().trie_filters), (2, 1));
}

/// CVE-2025-68699 (NanoMQ): `$share/ab` was stored and crashed the next PUBLISH.
#[test]
fn malformed_shared_filters_are_refused_and_never_stored() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    let mut client = broker.client("sharer").connect();
    let filters = [
        "$share",
        "$share/",
        "$share/ab",
        "$share/ab/",
        "$share//t",
        "$share/+/t",
        "$share/#/t",
        "$share/a+b/t",
        "$share/a#/t",
        "$share/g/t#",
        "$share/g/#/t",
        "$share/g/+t",
        "$share/$share/g/t",
    ];
    for filter in filters {
        let code = client.subscribe(filter, QoS::AtLeastOnce).suback().codes[0];
        if filter == "$share/$share/g/t" {
            // Odd, but a group named `$share`; it must not reach into another group.
            continue;
        }
        assert_eq!(code, ReasonCode::TopicFilterInvalid.as_u8(), "{filter}");
        assert_eq!(client.unsubscribe(filter).unsuback().codes, [ReasonCode::TopicFilterInvalid.as_u8()], "{filter}");
    }
    let mut publisher = broker.client("publisher").connect();
    for topic in ["t", "ab", "g/t", "$x"] {
        publisher.publish(topic, QoS::AtLeastOnce, b"x");
    }
    client.disconnect();
    assert_eq!(broker.router().counts().shared_groups, 0);
    neighbour.is_well();
}

/// sol #17: a second connection with the same identifier did not take over, and stole messages.
#[test]
fn a_second_connection_with_the_same_identifier_takes_over_and_gets_each_message_once() {
    let broker = Broker::new().shards(2);
    let mut first = broker.client("same").persistent().at(0).connect();
    first.subscribe("t", QoS::AtLeastOnce);
    let mut second = broker.client("same").persistent().at(1).connect();
    first.expect_disconnect(ReasonCode::SessionTakenOver);
    let mut publisher = broker.client("publisher").connect();
    for number in 0..10_u8 {
        publisher.publish("t", QoS::AtLeastOnce, &[number]);
    }
    assert_eq!(second.payloads(), (0..10_u8).map(|number| vec![number]).collect::<Vec<_>>());
}

/// CVE-2024-42645, CVE-2026-42209 (FlashMQ): a crafted retained message, and a setting of 0, stopped it.
#[test]
fn retained_messages_work_under_the_smallest_settings() {
    for (count, bytes, payload) in [(0, 0, 0), (1, 1, 1), (1, u64::MAX, u32::MAX), (u64::MAX, 1, u32::MAX)] {
        let broker = Broker::with(|options, router| {
            router.retained.count_max = count;
            router.retained.bytes_max = bytes;
            router.retained.payload_max = payload;
            options.retained_per_turn = 1;
        });
        let mut client = broker.client("keeper").connect();
        for topic in ["a", "a/b", "a", "/", "a//b", "$x"] {
            for payload in [&b"x"[..], b"", b"xyz"] {
                client.publish_retained(topic, QoS::AtLeastOnce, payload);
            }
        }
        for filter in ["#", "+", "a/#", "$x"] {
            client.subscribe(filter, QoS::AtMostOnce);
        }
        client.ping();
        assert!(broker.router().counts().retained <= count);
        assert_eq!(broker.counter(Metric::Panics), 0);
    }
}

/// GHSA-p957 (NATS), VerneMQ: the wrong protocol on a port crashed the server.
#[test]
fn the_wrong_protocol_closes_the_connection() {
    let broker = Broker::new();
    let mut neighbour = Neighbour::of(&broker);
    let hello = [&[0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x03][..], &[0x03; 200]].concat();
    let talks: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x05\x01\x00",
        &hello,
    ];
    for talk in talks {
        let mut stranger = broker.connect();
        stranger.send(talk);
        // One that looks like half a CONNECT waits for the rest, until the deadline.
        broker.advance(Duration::from_millis(10_100));
        assert!(stranger.is_closed(), "{talk:02x?}");
        assert!(stranger.receive().len() <= 5, "{talk:02x?}");
    }
    neighbour.is_well();
    assert_eq!(broker.connections(), 2);
}

/// CVE-2023-5632 (Mosquitto): connections that sent nothing kept a core busy.
#[test]
fn a_thousand_silent_connections_cost_no_turns() {
    let broker = Broker::new();
    let _silent: Vec<Client> = (0..1000).map(|_| broker.connect()).collect();
    broker.step();
    let before = broker.counter(Metric::Turns);
    broker.advance(Duration::from_secs(9));
    let turns = broker.counter(Metric::Turns) - before;
    assert!(turns < 100, "{turns} turns");
}
