//! Faults that other brokers had in their codecs, and every fault of ours, each named by the fact that was wrong.

#[path = "codec/wire.rs"]
mod wire;

use breakwater_proto::{
    Packet, QoS, Split, SubscribeOptions, TopicLimits, Version, Violation, decode, matches, parse_filter, split, topic,
    write_user_property,
};
use wire::{bytes, packet, varint};

use Version::{V5, V311};

fn outcome(version: Version, packet: &[u8]) -> Result<Packet<'_>, Violation> {
    match split(packet, 1 << 20)? {
        Split::Packet(frame) => decode(version, &frame),
        Split::Incomplete { .. } => panic!("not a whole packet: {packet:02X?}"),
    }
}

/// A header that announces 256 MB reserved memory before anything had arrived (CVE-2017-7651).
#[test]
fn a_huge_remaining_length_is_refused_from_its_header() {
    assert_eq!(split(&bytes("10 FF FF FF 7F"), 65_536), Err(Violation::PacketTooLarge));
}

/// The first packet was buffered whole before it was found not to be a CONNECT (CVE-2023-0809).
#[test]
fn a_large_first_packet_is_refused_after_five_bytes() {
    let stream = bytes("30 FF FF FF 7F");
    let needed = (1..=stream.len()).find(|len| split(&stream[..*len], 65_536).is_err());
    assert_eq!(needed, Some(5));
}

/// A packet at the limit passes, one byte more does not; a partial one says how much it needs.
#[test]
fn the_packet_limit_counts_the_whole_packet() {
    let wire = packet(0x30, "'t' 61 62 63");
    assert!(matches!(split(&wire, 8), Ok(Split::Packet(_))));
    assert_eq!(split(&wire, 7), Err(Violation::PacketTooLarge));
    assert_eq!(split(&wire[..2], 8), Ok(Split::Incomplete { need: Some(8) }));
    assert_eq!(split(&wire[..1], 8), Ok(Split::Incomplete { need: None }));
    assert_eq!(split(&[], 8), Ok(Split::Incomplete { need: None }));
}

/// Each added user property was compared with all before it (CVE-2021-41039). Counted in properties walked, not in time:
/// a walk that looked back would not end in the lifetime of a test run.
#[test]
fn a_million_user_properties_are_walked_once() {
    let mut properties = Vec::new();
    for _ in 0..1_000_000 {
        write_user_property("", "", &mut properties);
    }
    let mut body = bytes("'t'");
    varint(properties.len(), &mut body);
    body.extend_from_slice(&properties);
    let mut wire = vec![0x30];
    varint(body.len(), &mut wire);
    wire.extend_from_slice(&body);
    let Ok(Split::Packet(frame)) = split(&wire, u32::MAX) else { panic!() };
    let Ok(Packet::Publish(publish)) = decode(V5, &frame) else { panic!() };
    assert_eq!(publish.properties.user_properties().count(), 1_000_000);
    assert_eq!(publish.properties.len(), 5_000_000);
}

/// A property of a wrong place or type in a will leaked memory or worse (CVE-2023-3592): every identifier in every place.
#[test]
fn each_property_is_allowed_exactly_where_the_table_has_it() {
    let places: [(&str, u8, &str, &str); 14] = [
        ("connect", 0x10, "'MQTT' 05 02 00 00", "'c'"),
        ("will", 0x10, "'MQTT' 05 06 00 00 00 'c'", "'w' 'p'"),
        ("connack", 0x20, "00 00", ""),
        ("publish", 0x30, "'t'", ""),
        ("ack", 0x40, "00 01 00", ""),
        ("ack", 0x50, "00 01 00", ""),
        ("ack", 0x62, "00 01 00", ""),
        ("ack", 0x70, "00 01 00", ""),
        ("subscribe", 0x82, "00 01", "'f' 00"),
        ("suback", 0x90, "00 01 00", "00"),
        ("unsubscribe", 0xA2, "00 01", "'f'"),
        ("unsuback", 0xB0, "00 01 00", "00"),
        ("disconnect", 0xE0, "00", ""),
        ("auth", 0xF0, "00", ""),
    ];
    let samples: [(&str, &str); 27] = [
        ("01 01", "publish will"),
        ("02 00 00 00 01", "publish will"),
        ("03 'x'", "publish will"),
        ("08 'x'", "publish will"),
        ("09 'x'", "publish will"),
        ("0B 01", "publish subscribe"),
        ("11 00 00 00 01", "connect connack disconnect"),
        ("12 'x'", "connack"),
        ("13 00 01", "connack"),
        ("15 'x'", "connect connack auth"),
        ("16 'x'", "connect connack auth"),
        ("17 01", "connect"),
        ("18 00 00 00 01", "will"),
        ("19 01", "connect"),
        ("1A 'x'", "connack"),
        ("1C 'x'", "connack disconnect"),
        ("1F 'x'", "connack ack suback unsuback disconnect auth"),
        ("21 00 01", "connect connack"),
        ("22 00 01", "connect connack"),
        ("23 00 01", "publish"),
        ("24 01", "connack"),
        ("25 01", "connack"),
        ("26 'x' 'y'", "connect will connack publish ack subscribe suback unsubscribe unsuback disconnect auth"),
        ("27 00 00 00 01", "connect connack"),
        ("28 01", "connack"),
        ("29 01", "connack"),
        ("2A 01", "connack"),
    ];
    for (place, first, before, after) in places {
        for (sample, allowed) in samples {
            // Two properties need a partner: data needs a method, and AUTH needs a method always.
            let partner = match (place, sample) {
                (_, "15 'x'") => "",
                ("auth", _) | ("connect" | "connack", "16 'x'") => "15 'm'",
                _ => "",
            };
            let before = if matches!(first, 0x90 | 0xB0) { "00 01" } else { before };
            let wire = packet(first, &format!("{before} {{{partner} {sample}}} {after}"));
            let expected =
                if allowed.split(' ').any(|word| word == place) { None } else { Some(Violation::PropertyNotAllowed) };
            assert_eq!(outcome(V5, &wire).err(), expected, "{sample} in {place} ({first:02X})");
        }
        for id in (0u8..=0x7F).filter(|id| !samples.iter().any(|(sample, _)| bytes(sample)[0] == *id)) {
            let before = if matches!(first, 0x90 | 0xB0) { "00 01" } else { before };
            let wire = packet(first, &format!("{before} {{{id:02X} 00}} {after}"));
            assert_eq!(outcome(V5, &wire).err(), Some(Violation::PropertyUnknown), "{id:02X} in {place}");
        }
    }
}

/// A fifth byte of a variable byte integer was read (CVE-2026-21888), also in the remaining length, where it let a second
/// command hide in the first (CVE-2025-66168, CVE-2026-40046); and longer forms than needed are not numbers at all.
#[test]
fn five_byte_and_over_long_integers_are_malformed_in_every_field() {
    type Field = fn(&str) -> Vec<u8>;
    let fields: [Field; 7] = [
        |number| bytes(&format!("30 {number}")),
        |number| packet(0x30, &format!("'t' {number}")),
        |number| packet(0x30, &format!("'t' {{0B {number}}}")),
        |number| packet(0x30, &format!("'t' {{{number} 00}}")),
        |number| packet(0x82, &format!("00 01 {number}")),
        |number| packet(0x10, &format!("'MQTT' 05 02 00 00 {number}")),
        |number| packet(0xE0, &format!("00 {number}")),
    ];
    for field in fields {
        for number in ["80 80 80 80 01", "FF FF FF FF 01", "80 80 80 80 00"] {
            assert_eq!(outcome(V5, &field(number)), Err(Violation::VariableByteIntegerTooLong), "{number}");
        }
        for number in ["80 00", "81 00", "FF 80 00", "80 80 80 00"] {
            assert_eq!(outcome(V5, &field(number)), Err(Violation::VariableByteIntegerNotShortest), "{number}");
        }
    }
}

/// A remaining length larger than what had arrived was believed (CVE-2026-25627): the packet waits for its bytes.
#[test]
fn a_length_that_lies_waits_for_the_bytes() {
    assert_eq!(split(&bytes("30 80 20 00 01 74"), 1 << 20), Ok(Split::Incomplete { need: Some(4099) }));
}

/// Packets split or merged in any way between reads come out the same.
#[test]
fn packets_cut_at_every_byte_come_out_the_same() {
    let mut stream = packet(0x10, "'MQTT' 04 02 00 3C 'c'");
    stream.extend(packet(0x30, &format!("'t' {}", "61 ".repeat(200))));
    stream.extend(packet(0xC0, ""));
    let mut at = 0;
    let mut lengths = Vec::new();
    for end in 1..=stream.len() {
        while let Ok(Split::Packet(frame)) = split(&stream[at..end], 1 << 20) {
            lengths.push((end, frame.len));
            at += frame.len;
        }
    }
    assert_eq!(lengths, [(15, 15), (221, 206), (223, 2)]);
}

/// A topic longer than the packet made a negative size (NATS, 2026-06).
#[test]
fn a_topic_longer_than_its_packet_is_truncated() {
    for body in ["FF FF", "FF FF 61", "00 02 61"] {
        assert_eq!(outcome(V311, &packet(0x30, body)), Err(Violation::Truncated));
        assert_eq!(outcome(V5, &packet(0x32, body)), Err(Violation::Truncated));
    }
}

/// An empty topic crashed (CVE-2021-34432).
#[test]
fn an_empty_topic_needs_an_alias() {
    assert_eq!(outcome(V311, &packet(0x30, "''")), Err(Violation::TopicNameEmpty));
    assert_eq!(outcome(V5, &packet(0x30, "'' 00")), Err(Violation::TopicNameEmpty));
    assert!(matches!(outcome(V5, &packet(0x30, "'' {23 00 05}")), Ok(Packet::Publish(p)) if p.topic_alias == Some(5)));
}

/// Topics that begin with `$` but not with `$SYS` ran into an assertion (CVE-2018-12543).
#[test]
fn topics_that_begin_with_a_dollar_are_only_topics() {
    for name in ["$", "$x", "$share", "$share/", "$CONTROL/x", "$queue", "$delayed", "$SYS"] {
        let wire = packet(0x30, &format!("'{name}'"));
        assert!(matches!(outcome(V311, &wire), Ok(Packet::Publish(publish)) if publish.topic == name));
        assert!(matches(name, name));
        assert!(!matches("#", name) && !matches("+/#", name) && !matches("+", name));
    }
}

/// 65,535 slashes overflowed the stack or filled the memory (CVE-2019-11779, CVE-2021-33175, CVE-2021-33176).
#[test]
fn a_topic_of_65535_slashes_is_decoded_and_limited() {
    let name = "/".repeat(65_535);
    let wire = packet(0x30, &format!("'{name}'"));
    let Ok(Packet::Publish(publish)) = outcome(V311, &wire) else { panic!() };
    assert_eq!(topic::levels(publish.topic).count(), 65_536);
    assert!(!topic::within(publish.topic, &TopicLimits::default()));
    assert!(matches(&name, &name));
    let wire = packet(0x82, &format!("00 01 '{name}' 00"));
    let Ok(Packet::Subscribe(subscribe)) = outcome(V311, &wire) else { panic!() };
    let filters: Vec<_> = subscribe.filters().collect();
    assert_eq!(filters, [(name.as_str(), SubscribeOptions::new(QoS::AtMostOnce))]);
    let plus = "+/".repeat(32_767);
    assert!(parse_filter(&plus).is_ok());
    assert!(!matches(&plus, &name));
}

/// A user property without its second half crashed the parser (EMQX 15361).
#[test]
fn half_a_user_property_is_malformed() {
    for half in ["26", "26 00", "26 'k'", "26 'k' 00", "26 'k' 00 02 61"] {
        for (first, body) in [(0x30u8, "'t'"), (0x82, "00 01"), (0x10, "'MQTT' 05 02 00 00"), (0xE0, "00")] {
            let wire = packet(first, &format!("{body} {{{half}}}"));
            assert_eq!(outcome(V5, &wire), Err(Violation::PropertyTruncated), "{half}");
        }
    }
}

/// A reserved packet type kept the connection open (Mosquitto 2.0.21): its first byte ends it.
#[test]
fn a_reserved_packet_type_is_refused_by_its_first_byte() {
    assert_eq!(split(&[0x00], 100), Err(Violation::ReservedPacketType));
    assert_eq!(outcome(V311, &packet(0xF0, "")), Err(Violation::ReservedPacketType));
}

/// Shared filters without a second slash were stored (CVE-2025-68699).
#[test]
fn malformed_shared_filters_are_refused() {
    use breakwater_proto::FilterError as E;
    let cases = [
        ("$share", E::ShareWithoutFilter),
        ("$share/", E::ShareWithoutFilter),
        ("$share/ab", E::ShareWithoutFilter),
        ("$share/ab/", E::ShareWithoutFilter),
        ("$share//f", E::ShareName),
        ("$share/+/f", E::ShareName),
        ("$share/a#/f", E::ShareName),
        ("$share/g/$share/h/f", E::NestedShare),
        ("$share/g/$queue/f", E::NestedShare),
        ("$share/g/a#", E::MultiLevelWildcard),
        ("$queue/", E::ShareWithoutFilter),
        ("$queue/$share/g/f", E::NestedShare),
    ];
    for (filter, fault) in cases {
        assert_eq!(parse_filter(filter), Err(fault), "{filter}");
    }
}

/// A client that sent a server's packet crashed brokers (CVE-2021-28166): all of them decode, so that the session can
/// answer by kind.
#[test]
fn a_servers_packets_decode_on_either_side() {
    for (first, body) in [(0x20, "00 00"), (0x90, "00 01 00"), (0xB0, "00 01"), (0xD0, "")] {
        assert!(outcome(V311, &packet(first, body)).is_ok());
    }
}

/// Control characters went from a filter into other protocols (NATS): they pass here, and can be asked about.
#[test]
fn control_characters_pass_and_can_be_found() {
    use breakwater_proto::has_control_chars;
    for text in ["\u{1}", "a\r\nb", "\u{7F}", "\u{85}", "\u{FDD0}", "\u{1FFFF}", "\u{FFFE}"] {
        assert!(has_control_chars(text), "{text:?}");
        assert!(outcome(V311, &packet(0x30, &format!("'{text}'"))).is_ok());
    }
    for text in ["", "plain", "ü/日本", "\u{FEFF}", "\u{200E}", "\u{10FFFD}"] {
        assert!(!has_control_chars(text), "{text:?}");
    }
}
