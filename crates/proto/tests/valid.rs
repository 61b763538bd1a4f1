//! Valid packets: the bytes, the values they stand for, and the way back.

#[path = "codec/wire.rs"]
mod wire;

use breakwater_proto::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filters, ForwardProperties, OutPublish, Packet, PacketKind, Publish, QoS,
    ReasonCode, RetainHandling, Split, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe, UnsubscribeFilters,
    UserProperties, Version, Will, decode, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel, split,
    write_user_property,
};
use wire::{bytes, packet};

use Version::{V5, V31, V311};

fn decoded(version: Version, bytes: &[u8]) -> Packet<'_> {
    let Ok(Split::Packet(frame)) = split(bytes, u32::MAX) else { panic!("no whole packet: {bytes:02X?}") };
    assert_eq!(frame.len, bytes.len());
    decode(version, &frame).unwrap_or_else(|violation| panic!("{violation}: {bytes:02X?}"))
}

/// The bytes decode to the value, and the value encodes to the bytes.
fn both_ways(version: Version, first: u8, body: &str, value: Packet<'_>) {
    let bytes = packet(first, body);
    assert_eq!(decoded(version, &bytes), value, "{first:02X} {body}");
    let mut out = Vec::new();
    value.encode(version, &mut out);
    assert_eq!(out, bytes, "{first:02X} {body}");
}

/// The bytes decode to the value, which has a shorter or tidier form of its own; that one leads back to the value.
fn reads_as(version: Version, first: u8, body: &str, value: Packet<'_>) {
    let bytes = packet(first, body);
    assert_eq!(decoded(version, &bytes), value, "{first:02X} {body}");
    let mut out = Vec::new();
    value.encode(version, &mut out);
    assert_eq!(decoded(version, &out), value);
}

fn user(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        write_user_property(name, value, &mut out);
    }
    out
}

#[test]
fn connect_of_each_version() {
    let connect = |version| Connect { keep_alive_s: 60, ..Connect::new(version, "c") };
    both_ways(V31, 0x10, "'MQIsdp' 03 02 00 3C 'c'", Packet::Connect(connect(V31)));
    both_ways(V311, 0x10, "'MQTT' 04 02 00 3C 'c'", Packet::Connect(connect(V311)));
    both_ways(V5, 0x10, "'MQTT' 05 02 00 3C 00 'c'", Packet::Connect(connect(V5)));
    // Its own version counts, whatever the connection was thought to speak.
    reads_as(V31, 0x10, "'MQTT' 05 02 00 3C 00 'c'", Packet::Connect(connect(V5)));
}

#[test]
fn connect_with_the_bridge_bit() {
    let connect = |version| Connect { bridge: true, ..Connect::new(version, "b") };
    both_ways(V31, 0x10, "'MQIsdp' 83 02 00 00 'b'", Packet::Connect(connect(V31)));
    both_ways(V311, 0x10, "'MQTT' 84 02 00 00 'b'", Packet::Connect(connect(V311)));
}

#[test]
fn connect_with_will_and_credentials() {
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "w",
        payload: b"gone",
        delay_s: 0,
        expiry: None,
        properties: ForwardProperties::EMPTY,
    };
    let connect = Connect {
        clean_start: false,
        will: Some(will),
        username: Some("u"),
        password: Some(b"p"),
        ..Connect::new(V311, "c")
    };
    both_ways(V311, 0x10, "'MQTT' 04 EC 00 00 'c' 'w' 'gone' 'u' 'p'", Packet::Connect(connect));
    let v5_only = Connect { username: None, version: V5, will: None, clean_start: true, ..connect };
    both_ways(V5, 0x10, "'MQTT' 05 42 00 00 00 'c' 'p'", Packet::Connect(v5_only));
    let user_only = Connect { username: Some(""), ..Connect::new(V311, "") };
    both_ways(V311, 0x10, "'MQTT' 04 82 00 00 '' ''", Packet::Connect(user_only));
}

#[test]
fn connect_with_every_property() {
    let pairs = user(&[("k", "v"), ("k", "w")]);
    let forwarded = bytes("01 01 03 'text' 08 'answer' 09 'id' 26 'a' 'b'");
    let will = Will {
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: "w",
        payload: b"",
        delay_s: 5,
        expiry: Some(9),
        properties: ForwardProperties::from_stripped(&forwarded),
    };
    let connect = Connect {
        will: Some(will),
        session_expiry: Some(u32::MAX),
        receive_maximum: Some(10),
        maximum_packet_size: Some(1000),
        topic_alias_maximum: 7,
        request_response_information: true,
        request_problem_information: false,
        auth_method: Some("m"),
        auth_data: Some(b"d"),
        user_properties: UserProperties::from_encoded(&pairs),
        ..Connect::new(V5, "c")
    };
    let body = "'MQTT' 05 16 00 00
        {11 FF FF FF FF 21 00 0A 27 00 00 03 E8 22 00 07 19 01 17 00 15 'm' 16 'd' 26 'k' 'v' 26 'k' 'w'} 'c'
        {18 00 00 00 05 02 00 00 00 09 01 01 03 'text' 08 'answer' 09 'id' 26 'a' 'b'} 'w' ''";
    both_ways(V5, 0x10, body, Packet::Connect(connect));
    assert_eq!(will.properties.payload_format(), Some(1));
    assert_eq!(will.properties.content_type(), Some("text"));
    assert_eq!(will.properties.response_topic(), Some("answer"));
    assert_eq!(will.properties.correlation(), Some(&b"id"[..]));
    assert_eq!(will.properties.user_properties().collect::<Vec<_>>(), [("a", "b")]);
}

#[test]
fn connect_defaults_stated_outright() {
    let body = "'MQTT' 05 02 00 00 {17 01 19 00 22 00 00 11 00 00 00 00} 'c'";
    let connect = Connect { session_expiry: Some(0), ..Connect::new(V5, "c") };
    reads_as(V5, 0x10, body, Packet::Connect(connect));
}

/// 3.1 reserves bits without asking for a check, and lets the flags promise fields that are not there.
#[test]
fn connect_of_3_1_is_read_leniently() {
    reads_as(V31, 0x10, "'MQIsdp' 03 03 00 00 'c'", Packet::Connect(Connect::new(V31, "c")));
    reads_as(V31, 0x10, "'MQIsdp' 03 2A 00 00 'c'", Packet::Connect(Connect::new(V31, "c")));
    reads_as(V31, 0x10, "'MQIsdp' 03 C2 00 00 'c'", Packet::Connect(Connect::new(V31, "c")));
    let connect = Connect { username: Some("u"), ..Connect::new(V31, "c") };
    reads_as(V31, 0x10, "'MQIsdp' 03 C2 00 00 'c' 'u'", Packet::Connect(connect));
}

#[test]
fn connack() {
    both_ways(V311, 0x20, "01 00", Packet::ConnAck(ConnAck { session_present: true, ..ConnAck::default() }));
    both_ways(V311, 0x20, "00 05", Packet::ConnAck(ConnAck::new(ReasonCode::NotAuthorized)));
    both_ways(V31, 0x20, "00 02", Packet::ConnAck(ConnAck::new(ReasonCode::ClientIdentifierNotValid)));
    both_ways(V5, 0x20, "00 84 00", Packet::ConnAck(ConnAck::new(ReasonCode::UnsupportedProtocolVersion)));
    reads_as(V31, 0x20, "01 00", Packet::ConnAck(ConnAck::default()));
    let pairs = user(&[("k", "v")]);
    let everything = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        session_expiry: Some(1),
        receive_maximum: Some(2),
        maximum_qos: Some(1),
        retain_available: Some(false),
        maximum_packet_size: Some(3),
        assigned_client_id: Some("id"),
        topic_alias_maximum: Some(4),
        reason_string: Some("why"),
        user_properties: UserProperties::from_encoded(&pairs),
        wildcard_available: Some(true),
        subscription_ids_available: Some(false),
        shared_available: Some(true),
        server_keep_alive: Some(5),
        response_information: Some("ri"),
        server_reference: Some("sr"),
        auth_method: Some("m"),
        auth_data: Some(b"d"),
    };
    let body = "01 00 {11 00 00 00 01 21 00 02 24 01 25 00 27 00 00 00 03 12 'id' 22 00 04 1F 'why' 28 01 29 00 2A 01
        13 00 05 1A 'ri' 1C 'sr' 15 'm' 16 'd' 26 'k' 'v'}";
    both_ways(V5, 0x20, body, Packet::ConnAck(everything));
}

#[test]
fn a_connack_that_an_older_version_has_no_code_for_is_not_written() {
    let mut out = Vec::new();
    let ack = ConnAck::new(ReasonCode::MalformedPacket);
    ack.encode(V311, &mut out);
    assert_eq!((out.len(), ack.encoded_len(V311)), (0, 0));
}

#[test]
fn every_v3_return_code_goes_both_ways() {
    for code in 0..=5 {
        let reason = ReasonCode::from_v3_return_code(code).unwrap();
        assert_eq!(reason.v3_return_code(), Some(code));
    }
    assert_eq!(ReasonCode::from_v3_return_code(6), None);
    assert_eq!(ReasonCode::ServerBusy.v3_return_code(), Some(3));
    assert_eq!(ReasonCode::ServerUnavailable.v3_return_code(), Some(3));
}

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: 0,
        topic_alias: None,
        expiry: None,
        subscription_ids: false,
        properties: ForwardProperties::EMPTY,
        payload,
    }
}

#[test]
fn publish_of_each_version_and_qos() {
    both_ways(V31, 0x30, "'a/b' 68 69", Packet::Publish(publish("a/b", b"hi")));
    both_ways(V311, 0x30, "'a/b' 68 69", Packet::Publish(publish("a/b", b"hi")));
    both_ways(V5, 0x30, "'a/b' 00 68 69", Packet::Publish(publish("a/b", b"hi")));
    both_ways(V311, 0x31, "'a'", Packet::Publish(Publish { retain: true, ..publish("a", b"") }));
    let qos1 = Publish { qos: QoS::AtLeastOnce, packet_id: 0xFFFF, dup: true, ..publish("a", b"x") };
    both_ways(V311, 0x3A, "'a' FF FF 78", Packet::Publish(qos1));
    let qos2 = Publish { qos: QoS::ExactlyOnce, packet_id: 1, ..publish("a", b"") };
    both_ways(V5, 0x34, "'a' 00 01 00", Packet::Publish(qos2));
    reads_as(V31, 0x38, "'a'", Packet::Publish(Publish { dup: true, ..publish("a", b"") }));
}

#[test]
fn publish_topics_of_any_length_and_script() {
    for topic in
        ["a", "/", "//", "$", "$x", "ab/ü", "1234567", "12345678", "123456789", "日本/東京", "\u{FEFF}bom", "a b"]
    {
        let body = format!("'{topic}'");
        both_ways(V311, 0x30, &body, Packet::Publish(publish(topic, b"")));
    }
}

#[test]
fn publish_with_every_property() {
    let forwarded = bytes("01 00 03 '' 08 'r' 09 '' 26 'k' 'v' 26 'k' ''");
    let value = Publish {
        topic_alias: Some(1),
        expiry: Some(60),
        properties: ForwardProperties::from_stripped(&forwarded),
        ..publish("", b"p")
    };
    let body = "'' {23 00 01 02 00 00 00 3C 01 00 03 '' 08 'r' 09 '' 26 'k' 'v' 26 'k' ''} 70";
    both_ways(V5, 0x30, body, Packet::Publish(value));
    // In any other order, with what is not forwarded in between.
    let body = "'' {26 'k' 'v' 23 00 01 09 '' 02 00 00 00 3C 26 'k' ''} 70";
    let bytes = packet(0x30, body);
    let Packet::Publish(mixed) = decoded(V5, &bytes) else { panic!() };
    let mut forwarded = Vec::new();
    mixed.properties.write(&mut forwarded);
    assert_eq!(forwarded, wire::bytes("26 'k' 'v' 09 '' 26 'k' ''"));
    assert_eq!(mixed.properties.len(), forwarded.len());
    assert_eq!((mixed.topic_alias, mixed.expiry), (Some(1), Some(60)));
}

#[test]
fn publish_with_subscription_identifiers() {
    let bytes = packet(0x30, "'t' {0B 01 26 'k' 'v' 0B FF FF FF 7F}");
    let Packet::Publish(publish) = decoded(V5, &bytes) else { panic!() };
    assert!(publish.subscription_ids);
    assert_eq!(publish.subscription_identifiers().collect::<Vec<_>>(), [1, 268_435_455]);
    assert_eq!(publish.properties.len(), 7);
    let mut out = Vec::new();
    publish.encode(V5, &mut out);
    assert_eq!(out, packet(0x30, "'t' {0B 01 0B FF FF FF 7F 26 'k' 'v'}"));
}

#[test]
fn deliveries_of_each_version() {
    let forwarded = user(&[("k", "v")]);
    let delivery = OutPublish {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: 3,
        topic: "t",
        topic_alias: 2,
        expiry: Some(1),
        subscription_ids: &[1, 128],
        properties: ForwardProperties::from_stripped(&forwarded),
        payload: b"x",
    };
    let check = |delivery: OutPublish<'_>, version, first, body: &str| {
        let mut out = Vec::new();
        delivery.encode(version, &mut out);
        assert_eq!(out, packet(first, body));
        assert_eq!(out.len(), delivery.encoded_len(version));
    };
    check(delivery, V311, 0x3B, "'t' 00 03 78");
    check(delivery, V5, 0x3B, "'t' 00 03 {23 00 02 02 00 00 00 01 0B 01 0B 80 01 26 'k' 'v'} 78");
    let plain = OutPublish {
        qos: QoS::AtMostOnce,
        dup: false,
        retain: false,
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        ..delivery
    };
    check(plain, V5, 0x30, "'t' 00 78");
    let long = "x".repeat(200);
    check(OutPublish { topic: &long, ..plain }, V5, 0x30, &format!("'{long}' 00 78"));
}

#[test]
fn acknowledgements() {
    type Wrap = fn(Ack<'_>) -> Packet<'_>;
    let kinds: [(u8, Wrap); 4] = [
        (0x40, |a| Packet::PubAck(a)),
        (0x50, |a| Packet::PubRec(a)),
        (0x62, |a| Packet::PubRel(a)),
        (0x70, |a| Packet::PubComp(a)),
    ];
    let pairs = user(&[("k", "v")]);
    for (first, wrap) in kinds {
        for version in Version::ALL {
            both_ways(version, first, "12 34", wrap(Ack::new(0x1234, ReasonCode::Success)));
        }
        let code = if first < 0x60 { ReasonCode::QuotaExceeded } else { ReasonCode::PacketIdentifierNotFound };
        both_ways(V5, first, &format!("00 01 {:02X}", code.as_u8()), wrap(Ack::new(1, code)));
        reads_as(V5, first, "00 01 00", wrap(Ack::new(1, ReasonCode::Success)));
        reads_as(V5, first, "00 01 00 00", wrap(Ack::new(1, ReasonCode::Success)));
        let full = Ack {
            reason_string: Some("why"),
            user_properties: UserProperties::from_encoded(&pairs),
            ..Ack::new(1, ReasonCode::Success)
        };
        both_ways(V5, first, "00 01 00 {1F 'why' 26 'k' 'v'}", wrap(full));
    }
    // 3.1 marks a repeated PUBREL with DUP.
    reads_as(V31, 0x6A, "00 01", Packet::PubRel(Ack::new(1, ReasonCode::Success)));
}

#[test]
fn the_fixed_encoders_write_what_the_packets_write() {
    type Fixed = fn(Version, u16, ReasonCode, &mut Vec<u8>);
    let kinds: [(PacketKind, Fixed, ReasonCode); 4] = [
        (PacketKind::PubAck, encode_puback, ReasonCode::NoMatchingSubscribers),
        (PacketKind::PubRec, encode_pubrec, ReasonCode::NotAuthorized),
        (PacketKind::PubRel, encode_pubrel, ReasonCode::PacketIdentifierNotFound),
        (PacketKind::PubComp, encode_pubcomp, ReasonCode::PacketIdentifierNotFound),
    ];
    for (kind, fixed, other) in kinds {
        for version in Version::ALL {
            for reason in [ReasonCode::Success, other] {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                fixed(version, 77, reason, &mut a);
                let ack = Ack::new(77, reason);
                ack.encode(version, kind, &mut b);
                assert_eq!(a, b);
                assert_eq!(ack.encoded_len(version), a.len());
            }
        }
    }
}

#[test]
fn subscribe_and_its_options() {
    let mut filters = Vec::new();
    Filters::write("a/+", SubscribeOptions::new(QoS::AtLeastOnce), &mut filters);
    Filters::write("#", SubscribeOptions::new(QoS::ExactlyOnce), &mut filters);
    let value = Subscribe::new(7, Filters::from_encoded(&filters));
    both_ways(V31, 0x82, "00 07 'a/+' 01 '#' 02", Packet::Subscribe(value));
    both_ways(V311, 0x82, "00 07 'a/+' 01 '#' 02", Packet::Subscribe(value));
    both_ways(V5, 0x82, "00 07 00 'a/+' 01 '#' 02", Packet::Subscribe(value));
    reads_as(V31, 0x8A, "00 07 'a/+' F9 '#' 02", Packet::Subscribe(value));

    let mut filters = Vec::new();
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Never,
    };
    Filters::write("a", options, &mut filters);
    Filters::write("b", SubscribeOptions { retain_handling: RetainHandling::IfNew, ..options }, &mut filters);
    let pairs = user(&[("k", "v")]);
    let value = Subscribe {
        subscription_id: Some(300),
        user_properties: UserProperties::from_encoded(&pairs),
        ..Subscribe::new(1, Filters::from_encoded(&filters))
    };
    both_ways(V5, 0x82, "00 01 {0B AC 02 26 'k' 'v'} 'a' 2D 'b' 1D", Packet::Subscribe(value));
    // The syntax of filters is not the codec's business: they get their codes in SUBACK.
    for filter in ["", "a/#/b", "$share/g", "+a"] {
        let bytes = packet(0x82, &format!("00 01 '{filter}' 00"));
        let Packet::Subscribe(subscribe) = decoded(V311, &bytes) else { panic!() };
        assert_eq!(subscribe.filters().next().unwrap().0, filter);
    }
}

#[test]
fn suback_and_unsuback() {
    both_ways(V311, 0x90, "00 01 00 01 02 80", Packet::SubAck(SubAck::new(1, &[0, 1, 2, 0x80])));
    both_ways(V5, 0x90, "00 01 00 00 8F A2", Packet::SubAck(SubAck::new(1, &[0, 0x8F, 0xA2])));
    both_ways(V311, 0xB0, "00 01", Packet::UnsubAck(UnsubAck::new(1, &[])));
    both_ways(V5, 0xB0, "00 01 00 00 11", Packet::UnsubAck(UnsubAck::new(1, &[0, 0x11])));
    let pairs = user(&[("k", "v")]);
    let user_properties = UserProperties::from_encoded(&pairs);
    let ack = SubAck { reason_string: Some("w"), user_properties, ..SubAck::new(1, &[0]) };
    both_ways(V5, 0x90, "00 01 {1F 'w' 26 'k' 'v'} 00", Packet::SubAck(ack));
    let ack = UnsubAck { reason_string: Some("w"), user_properties, ..UnsubAck::new(1, &[0]) };
    both_ways(V5, 0xB0, "00 01 {1F 'w' 26 'k' 'v'} 00", Packet::UnsubAck(ack));
    // Older versions know one failure code.
    let mut out = Vec::new();
    SubAck::new(1, &[0x8F, 0x87]).encode(V311, &mut out);
    assert_eq!(out, packet(0x90, "00 01 80 80"));
}

#[test]
fn unsubscribe() {
    let mut filters = Vec::new();
    UnsubscribeFilters::write("a", &mut filters);
    UnsubscribeFilters::write("b/#", &mut filters);
    let value = Unsubscribe::new(2, UnsubscribeFilters::from_encoded(&filters));
    both_ways(V31, 0xA2, "00 02 'a' 'b/#'", Packet::Unsubscribe(value));
    both_ways(V311, 0xA2, "00 02 'a' 'b/#'", Packet::Unsubscribe(value));
    both_ways(V5, 0xA2, "00 02 00 'a' 'b/#'", Packet::Unsubscribe(value));
    let pairs = user(&[("k", "v")]);
    let value = Unsubscribe { user_properties: UserProperties::from_encoded(&pairs), ..value };
    both_ways(V5, 0xA2, "00 02 {26 'k' 'v'} 'a' 'b/#'", Packet::Unsubscribe(value));
    assert_eq!(value.filters().collect::<Vec<_>>(), ["a", "b/#"]);
}

#[test]
fn pings() {
    for version in Version::ALL {
        both_ways(version, 0xC0, "", Packet::PingReq);
        both_ways(version, 0xD0, "", Packet::PingResp);
    }
}

#[test]
fn disconnect() {
    for version in Version::ALL {
        both_ways(version, 0xE0, "", Packet::Disconnect(Disconnect::default()));
    }
    both_ways(V5, 0xE0, "04", Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)));
    reads_as(V5, 0xE0, "00", Packet::Disconnect(Disconnect::default()));
    reads_as(V5, 0xE0, "00 00", Packet::Disconnect(Disconnect::default()));
    let pairs = user(&[("k", "v")]);
    let full = Disconnect {
        reason: ReasonCode::ServerMoved,
        session_expiry: Some(1),
        reason_string: Some("why"),
        server_reference: Some("there"),
        user_properties: UserProperties::from_encoded(&pairs),
    };
    both_ways(V5, 0xE0, "9D {11 00 00 00 01 1F 'why' 1C 'there' 26 'k' 'v'}", Packet::Disconnect(full));
}

#[test]
fn auth() {
    both_ways(V5, 0xF0, "", Packet::Auth(Auth::default()));
    let pairs = user(&[("k", "v")]);
    let full = Auth {
        reason: ReasonCode::ContinueAuthentication,
        method: Some("m"),
        data: Some(b"d"),
        reason_string: Some("w"),
        user_properties: UserProperties::from_encoded(&pairs),
    };
    both_ways(V5, 0xF0, "18 {15 'm' 16 'd' 1F 'w' 26 'k' 'v'}", Packet::Auth(full));
}

#[test]
fn encoded_len_is_what_encode_appends() {
    let samples = [
        (0x10, "'MQTT' 05 C6 00 00 {11 00 00 00 01} 'c' {18 00 00 00 05} 'w' 'p' 'u' 'p'"),
        (0x20, "01 00 {12 'id'}"),
        (0x34, "'t' 00 01 {02 00 00 00 01 26 'k' 'v'} 70"),
        (0x82, "00 01 {0B 01} 'a' 00"),
        (0x90, "00 01 {1F 'w'} 00"),
        (0xA2, "00 01 00 'a'"),
        (0xB0, "00 01 00 11"),
        (0xE0, "8E {1F 'w'}"),
        (0xF0, "18 {15 'm'}"),
    ];
    for (first, body) in samples {
        let bytes = packet(first, body);
        let value = decoded(V5, &bytes);
        for version in [V311, V5] {
            let mut out = Vec::new();
            value.encode(version, &mut out);
            let len = match value {
                Packet::Connect(packet) => packet.encoded_len(version),
                Packet::ConnAck(packet) => packet.encoded_len(version),
                Packet::Publish(packet) => packet.encoded_len(version),
                Packet::Subscribe(packet) => packet.encoded_len(version),
                Packet::SubAck(packet) => packet.encoded_len(version),
                Packet::Unsubscribe(packet) => packet.encoded_len(version),
                Packet::UnsubAck(packet) => packet.encoded_len(version),
                Packet::Disconnect(packet) => packet.encoded_len(version),
                Packet::Auth(packet) => packet.encoded_len(version),
                _ => unreachable!(),
            };
            assert_eq!(out.len(), len, "{version} {first:02X} {body}");
        }
    }
}
