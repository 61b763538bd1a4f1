//! CONNECT, CONNACK and the server's DISCONNECT.

use breakwater_proto::{ConnAck, Connect, ForwardProperties, Packet, QoS, ReasonCode, Version, Will};

use super::pair::{Got, Pair, connack, decode_one};
use crate::{ConnAckFacts, Limits, Terms, Versions, refuse};

fn will<'a>(topic: &'a str, qos: QoS, retain: bool) -> Will<'a> {
    Will { qos, retain, topic, payload: b"", delay_s: 0, expiry: None, properties: ForwardProperties::EMPTY }
}

fn refusal(connect: &Connect<'_>, limits: &Limits) -> Option<ReasonCode> {
    Terms::agree(connect, limits).err().map(|refusal| refusal.reason)
}

fn answer<T>(connect: &Connect<'_>, limits: &Limits, look: impl FnOnce(&ConnAck<'_>) -> T) -> T {
    let terms = Terms::agree(connect, limits).unwrap();
    let bytes = connack(&terms, limits, &ConnAckFacts::default());
    decode_one(connect.version, &bytes, |packet| match packet {
        Packet::ConnAck(ack) => look(&ack),
        other => panic!("{other:?}"),
    })
}

#[test]
fn client_ids_are_judged_by_version() {
    let not_valid = Some(ReasonCode::ClientIdentifierNotValid);
    let long = "c".repeat(257);
    for (version, id, clean, expect) in [
        (Version::V31, "", true, not_valid),
        (Version::V31, "12345678901234567890123", true, None),
        (Version::V31, "123456789012345678901234", true, not_valid),
        (Version::V311, "", true, None),
        (Version::V311, "", false, not_valid),
        (Version::V311, &long[1..], false, None),
        (Version::V311, &long, false, not_valid),
        (Version::V5, "", true, None),
        (Version::V5, "", false, None),
        (Version::V5, &long, false, not_valid),
    ] {
        let mut connect = Connect::new(version, id);
        connect.clean_start = clean;
        assert_eq!(refusal(&connect, &Limits::default()), expect, "{version} {id:?} {clean}");
    }
    let strict = Limits { allow_empty_client_id: false, ..Limits::default() };
    assert_eq!(refusal(&Connect::new(Version::V5, ""), &strict), not_valid);
}

#[test]
fn a_version_that_is_turned_off_is_refused() {
    let limits = Limits { versions: Versions::ALL.without(Version::V31), ..Limits::default() };
    assert_eq!(refusal(&Connect::new(Version::V31, "c"), &limits), Some(ReasonCode::UnsupportedProtocolVersion));
    assert_eq!(refusal(&Connect::new(Version::V311, "c"), &limits), None);
    let only = Limits { versions: Versions::NONE.with(Version::V5), ..Limits::default() };
    assert_eq!(refusal(&Connect::new(Version::V311, "c"), &only), Some(ReasonCode::UnsupportedProtocolVersion));
    assert_eq!(refusal(&Connect::new(Version::V5, "c"), &only), None);
}

#[test]
fn a_will_beyond_what_is_offered_is_refused() {
    let mut limits = Limits { maximum_qos: QoS::AtLeastOnce, retain_available: false, ..Limits::default() };
    limits.topic.levels_max = 2;
    for (will, expect) in [
        (will("w", QoS::AtLeastOnce, false), None),
        (will("w", QoS::ExactlyOnce, false), Some(ReasonCode::QosNotSupported)),
        (will("w", QoS::AtMostOnce, true), Some(ReasonCode::RetainNotSupported)),
        (will("a/b/c", QoS::AtMostOnce, false), Some(ReasonCode::TopicNameInvalid)),
    ] {
        let mut connect = Connect::new(Version::V5, "c");
        connect.will = Some(will);
        assert_eq!(refusal(&connect, &limits), expect);
    }
}

#[test]
fn session_expiry_follows_version_and_bound() {
    let limits = Limits { session_expiry_default_s: 100, session_expiry_max_s: 1000, ..Limits::default() };
    for (version, clean, wanted, expect) in [
        (Version::V311, true, None, 0),
        (Version::V311, false, None, 100),
        (Version::V31, false, None, 100),
        (Version::V5, true, None, 0),
        (Version::V5, true, Some(50), 50),
        (Version::V5, false, Some(u32::MAX), 1000),
    ] {
        let mut connect = Connect::new(version, "c");
        connect.clean_start = clean;
        connect.session_expiry = wanted;
        let terms = Terms::agree(&connect, &limits).unwrap();
        assert_eq!(terms.session_expiry_s, expect);
        let told = answer(&connect, &limits, |ack| ack.session_expiry);
        assert_eq!(told, (wanted == Some(u32::MAX)).then_some(1000), "stated only where it differs");
    }
}

#[test]
fn keep_alive_follows_version_and_bound() {
    let free = Limits::default();
    let bounded = Limits { keep_alive_max_s: 300, ..Limits::default() };
    let fixed = Limits { server_keep_alive_s: Some(30), ..Limits::default() };
    for (limits, version, wanted, effective, told) in [
        (&free, Version::V5, 0, 0, None),
        (&free, Version::V5, 65535, 65535, None),
        (&bounded, Version::V5, 0, 300, Some(300)),
        (&bounded, Version::V5, 301, 300, Some(300)),
        (&bounded, Version::V5, 299, 299, None),
        (&bounded, Version::V311, 301, 301, None),
        (&fixed, Version::V5, 10, 30, Some(30)),
        (&fixed, Version::V5, 30, 30, None),
        (&fixed, Version::V31, 10, 10, None),
    ] {
        let mut connect = Connect::new(version, "c");
        connect.keep_alive_s = wanted;
        let terms = Terms::agree(&connect, limits).unwrap();
        assert_eq!(terms.keep_alive_s, effective);
        assert_eq!(terms.keep_alive_ms, u32::from(effective) * 1500);
        assert_eq!(answer(&connect, limits, |ack| ack.server_keep_alive), told);
    }
}

#[test]
fn connack_states_what_differs_from_what_a_client_assumes() {
    let connect = Connect::new(Version::V5, "c");
    let open =
        Limits { receive_maximum: u16::MAX, packet_bytes_max: u32::MAX, topic_alias_in_max: 0, ..Limits::default() };
    assert!(answer(&connect, &open, |ack| *ack == ConnAck::new(ReasonCode::Success)));
    let closed = Limits {
        receive_maximum: 10,
        packet_bytes_max: 1000,
        topic_alias_in_max: 5,
        maximum_qos: QoS::AtMostOnce,
        retain_available: false,
        wildcard_available: false,
        shared_available: false,
        subscription_ids_available: false,
        ..Limits::default()
    };
    answer(&connect, &closed, |ack| {
        assert_eq!(ack.receive_maximum, Some(10));
        assert_eq!(ack.maximum_packet_size, Some(1000));
        assert_eq!(ack.topic_alias_maximum, Some(5));
        assert_eq!(ack.maximum_qos, Some(0));
        let off = Some(false);
        assert_eq!((ack.retain_available, ack.wildcard_available), (off, off));
        assert_eq!((ack.shared_available, ack.subscription_ids_available), (off, off));
    });
}

#[test]
fn response_information_goes_to_those_who_ask() {
    let limits = Limits { response_information: Some("replies/".into()), ..Limits::default() };
    let mut connect = Connect::new(Version::V5, "c");
    assert!(answer(&connect, &limits, |ack| ack.response_information.is_none()));
    connect.request_response_information = true;
    assert!(answer(&connect, &limits, |ack| ack.response_information == Some("replies/")));
}

#[test]
fn session_present_is_told_but_in_3_1_where_the_byte_is_unused() {
    for (version, expect) in [(Version::V31, [0x20, 2, 0, 0]), (Version::V311, [0x20, 2, 1, 0])] {
        let terms = Terms::agree(&Connect::new(version, "c"), &Limits::default()).unwrap();
        let facts = ConnAckFacts { session_present: true, ..ConnAckFacts::default() };
        assert_eq!(connack(&terms, &Limits::default(), &facts), expect);
    }
}

#[test]
fn connack_leaves_out_what_the_client_has_no_room_for() {
    let mut connect = Connect::new(Version::V5, "");
    connect.maximum_packet_size = Some(40);
    let limits = Limits::default();
    let terms = Terms::agree(&connect, &limits).unwrap();
    let text = "a reason that is much longer than forty bytes in all";
    let facts =
        ConnAckFacts { reason_string: Some(text), assigned_client_id: Some("assigned"), ..ConnAckFacts::default() };
    let bytes = connack(&terms, &limits, &facts);
    assert!(bytes.len() <= 40);
    decode_one(Version::V5, &bytes, |packet| {
        let Packet::ConnAck(ack) = packet else { panic!("{packet:?}") };
        assert_eq!(ack.reason_string, None);
        assert_eq!(ack.assigned_client_id, Some("assigned"));
    });
    let tiny = Terms { maximum_packet_size: 10, ..terms };
    let mut out = Vec::new();
    assert!(!tiny.connack(&limits, &facts, &mut out));
    assert!(out.is_empty());
}

#[test]
fn a_refusal_speaks_the_clients_version() {
    let mut out = Vec::new();
    refuse(Version::V311, ReasonCode::NotAuthorized, Some("no"), u32::MAX, &mut out);
    assert_eq!(out, [0x20, 2, 0, 5]);
    out.clear();
    refuse(Version::V311, ReasonCode::QuotaExceeded, None, u32::MAX, &mut out);
    assert!(out.is_empty() || out[..3] == [0x20, 2, 0], "no code: nothing is sent");
    out.clear();
    refuse(Version::V5, ReasonCode::Banned, Some("go away"), u32::MAX, &mut out);
    decode_one(Version::V5, &out, |packet| {
        let Packet::ConnAck(ack) = packet else { panic!("{packet:?}") };
        assert_eq!((ack.reason, ack.session_present), (ReasonCode::Banned, false));
        assert_eq!(ack.reason_string, Some("go away"));
    });
    out.clear();
    refuse(Version::V5, ReasonCode::Banned, Some("go away"), 8, &mut out);
    assert_eq!(out, [0x20, 3, 0, 0x8A, 0], "without the text");
}

#[test]
fn the_windows_are_the_lower_of_both_sides() {
    let mut connect = Connect::new(Version::V5, "c");
    connect.receive_maximum = Some(5);
    connect.topic_alias_maximum = 100;
    let terms = Terms::agree(&connect, &Limits::default()).unwrap();
    assert_eq!((terms.receive_maximum, terms.alias_out_max), (5, 16));
    connect.receive_maximum = None;
    connect.topic_alias_maximum = 3;
    let terms = Terms::agree(&connect, &Limits::default()).unwrap();
    assert_eq!((terms.receive_maximum, terms.alias_out_max), (32, 3));
}

#[test]
fn disconnect_goes_to_v5_clients_only_and_without_text_where_that_is_too_long() {
    let reason = ReasonCode::SessionTakenOver;
    let text = "another connection";
    for (version, max, expect) in [
        (Version::V5, u32::MAX, vec![Got::Disconnect(reason, Some(text.into()))]),
        (Version::V5, 6, vec![Got::Disconnect(reason, None)]),
        (Version::V5, 1, vec![]),
        (Version::V311, u32::MAX, vec![]),
        (Version::V31, u32::MAX, vec![]),
    ] {
        let mut pair = Pair::new(version);
        let link = pair.link.as_mut().unwrap();
        link.maximum_packet_size = max;
        link.disconnect(reason, Some(text), &mut pair.out);
        assert_eq!(pair.got(), expect);
    }
}
