//! Malformed packets, one table: what was sent and the violation that must come out.

#[path = "codec/wire.rs"]
mod wire;

use std::collections::BTreeSet;

use breakwater_proto::{Split, Version, Violation, decode, split};
use wire::packet;

/// The violation that a whole packet ends in.
fn violation(version: Version, packet: &[u8]) -> Option<Violation> {
    match split(packet, 1 << 20) {
        Ok(Split::Packet(frame)) => decode(version, &frame).err(),
        Ok(Split::Incomplete { .. }) => None,
        Err(violation) => Some(violation),
    }
}

use Version::{V5, V31, V311};
use Violation as V;

/// Version, first byte, body, violation. The same bytes for more than one version stand once with each.
const BODIES: &[(Version, u8, &str, Violation)] = &[
    // Fixed header
    (V311, 0xF0, "", V::ReservedPacketType),
    (V31, 0xF0, "", V::ReservedPacketType),
    (V5, 0x11, "'MQTT' 05 02 00 00 00 'c'", V::FixedHeaderFlags),
    (V5, 0x21, "00 00 00", V::FixedHeaderFlags),
    (V5, 0x41, "00 01", V::FixedHeaderFlags),
    (V5, 0x50 | 0x02, "00 01", V::FixedHeaderFlags),
    (V5, 0x60, "00 01", V::FixedHeaderFlags),
    (V311, 0x60, "00 01", V::FixedHeaderFlags),
    (V311, 0x6A, "00 01", V::FixedHeaderFlags),
    (V31, 0x68, "00 01", V::FixedHeaderFlags),
    (V5, 0x71, "00 01", V::FixedHeaderFlags),
    (V5, 0x80, "00 01 00 'a' 00", V::FixedHeaderFlags),
    (V311, 0x83, "00 01 'a' 00", V::FixedHeaderFlags),
    (V5, 0x92, "00 01 00 00", V::FixedHeaderFlags),
    (V5, 0xA0, "00 01 00 'a'", V::FixedHeaderFlags),
    (V5, 0xB2, "00 01 00 00", V::FixedHeaderFlags),
    (V5, 0xC1, "", V::FixedHeaderFlags),
    (V5, 0xD8, "", V::FixedHeaderFlags),
    (V5, 0xE1, "", V::FixedHeaderFlags),
    (V311, 0xE2, "", V::FixedHeaderFlags),
    (V5, 0xF1, "", V::FixedHeaderFlags),
    // Strings
    (V311, 0x30, "00 02 C3 28", V::InvalidUtf8),
    (V311, 0x30, "00 03 ED A0 80", V::InvalidUtf8), // a surrogate
    (V5, 0x30, "00 02 C0 80 00", V::InvalidUtf8),   // an over-long NUL
    (V5, 0x30, "00 04 F4 90 80 80 00", V::InvalidUtf8),
    (V311, 0x30, "00 03 61 00 62", V::NulInString),
    (V5, 0x82, "00 01 00 00 01 00 00", V::NulInString),
    (V311, 0x10, "'MQTT' 04 02 00 00 00 01 00", V::NulInString),
    (V311, 0x10, "'MQTT' 04 02 00 00 00 01 FF", V::InvalidUtf8),
    (V5, 0x10, "'MQTT' 05 82 00 00 00 'c' 00 01 FF", V::InvalidUtf8),
    (V5, 0x10, "'MQTT' 05 06 00 00 00 'c' 00 00 02 C3 28 'p'", V::InvalidUtf8),
    (V5, 0xE0, "00 {1F 00 01 FF}", V::InvalidUtf8),
    (V5, 0x40, "00 01 00 {26 00 01 FF 'v'}", V::InvalidUtf8),
    (V5, 0x40, "00 01 00 {26 'k' 00 01 00}", V::NulInString),
    (V5, 0xA2, "00 01 00 00 01 FF", V::InvalidUtf8),
    // Packet identifiers
    (V311, 0x32, "'t' 00 00", V::PacketIdZero),
    (V5, 0x34, "'t' 00 00 00", V::PacketIdZero),
    (V311, 0x40, "00 00", V::PacketIdZero),
    (V5, 0x62, "00 00", V::PacketIdZero),
    (V311, 0x82, "00 00 'a' 00", V::PacketIdZero),
    (V31, 0xA2, "00 00 'a'", V::PacketIdZero),
    (V5, 0x90, "00 00 00 00", V::PacketIdZero),
    (V5, 0xB0, "00 00 00 00", V::PacketIdZero),
    // Bodies that end too early or too late
    (V311, 0x10, "", V::Truncated),
    (V311, 0x10, "'MQTT' 04 02 00", V::Truncated),
    (V311, 0x10, "'MQTT' 04 82 00 00 'c'", V::Truncated),
    (V311, 0x10, "'MQTT' 04 02 00 00 00 05 61", V::Truncated),
    (V311, 0x10, "'MQTT' 04 06 00 00 'c' 'will'", V::Truncated),
    (V5, 0x10, "'MQTT' 05 02 00 00", V::Truncated),
    (V311, 0x20, "00", V::Truncated),
    (V5, 0x20, "00 00", V::Truncated),
    (V311, 0x30, "00", V::Truncated),
    (V311, 0x30, "00 05 61", V::Truncated),
    (V311, 0x32, "'t' 00", V::Truncated),
    (V5, 0x30, "'t'", V::Truncated),
    (V311, 0x40, "00", V::Truncated),
    (V311, 0x82, "00 01 'a'", V::Truncated),
    (V5, 0x82, "00 01", V::Truncated),
    (V311, 0xA2, "00 01 00 03 61", V::Truncated),
    (V5, 0xF0, "00", V::Truncated),
    (V311, 0x10, "'MQTT' 04 02 00 00 'c' 00", V::TrailingBytes),
    (V5, 0x10, "'MQTT' 05 02 00 00 00 'c' 'not announced'", V::TrailingBytes),
    (V311, 0x20, "00 00 00", V::TrailingBytes),
    (V311, 0x40, "00 01 00", V::TrailingBytes),
    (V5, 0x40, "00 01 00 00 00", V::TrailingBytes),
    (V311, 0xB0, "00 01 00", V::TrailingBytes),
    (V5, 0xC0, "00", V::TrailingBytes),
    (V5, 0xD0, "00", V::TrailingBytes),
    (V311, 0xE0, "00", V::TrailingBytes),
    (V5, 0xE0, "00 00 00", V::TrailingBytes),
    (V5, 0xF0, "18 {15 'm'} 00", V::TrailingBytes),
    // Properties
    (V5, 0x30, "'t' {04 00}", V::PropertyUnknown),
    (V5, 0x30, "'t' {00}", V::PropertyUnknown),
    (V5, 0x30, "'t' {2B 00}", V::PropertyUnknown),
    (V5, 0x30, "'t' {7F 00}", V::PropertyUnknown),
    (V5, 0x30, "'t' {81 01 00}", V::PropertyUnknown), // identifier 129
    (V5, 0x30, "'t' {81 80 01 00}", V::PropertyUnknown),
    (V5, 0x30, "'t' {11 00 00 00 01}", V::PropertyNotAllowed),
    (V5, 0x10, "'MQTT' 05 02 00 00 {01 00} 'c'", V::PropertyNotAllowed),
    (V5, 0x10, "'MQTT' 05 06 00 00 00 'c' {23 00 01} 'w' 'p'", V::PropertyNotAllowed),
    (V5, 0x10, "'MQTT' 05 06 00 00 {18 00 00 00 01} 'c' 00 'w' 'p'", V::PropertyNotAllowed),
    (V5, 0x82, "00 01 {1F 'why'} 'a' 00", V::PropertyNotAllowed),
    (V5, 0xA2, "00 01 {0B 01} 'a'", V::PropertyNotAllowed),
    (V5, 0x40, "00 01 00 {1C 'x'}", V::PropertyNotAllowed),
    (V5, 0x30, "'t' {01 01 01 01}", V::PropertyRepeated),
    (V5, 0x30, "'t' {23 00 01 23 00 01}", V::PropertyRepeated),
    (V5, 0x10, "'MQTT' 05 02 00 00 {11 00 00 00 01 11 00 00 00 01} 'c'", V::PropertyRepeated),
    (V5, 0x82, "00 01 {0B 01 0B 02} 'a' 00", V::PropertyRepeated),
    (V5, 0x40, "00 01 00 {1F 'a' 1F 'b'}", V::PropertyRepeated),
    (V5, 0x30, "'t' {02 00 00}", V::PropertyTruncated),
    (V5, 0x30, "'t' {26 'only the name'}", V::PropertyTruncated),
    (V5, 0x30, "'t' {01}", V::PropertyTruncated),
    (V5, 0x30, "'t' {80}", V::PropertyTruncated),
    (V5, 0x30, "'t' {0B 80}", V::PropertyTruncated),
    (V5, 0x30, "'t' {09 00 05 01}", V::PropertyTruncated),
    (V5, 0x30, "'t' 05 01 00", V::PropertyLengthTooLong),
    (V5, 0x30, "'t' FF FF FF 7F", V::PropertyLengthTooLong),
    (V5, 0x40, "00 01 00 01", V::PropertyLengthTooLong),
    // Variable byte integers inside packets
    (V5, 0x30, "'t' 80 00", V::VariableByteIntegerNotShortest),
    (V5, 0x30, "'t' 82 00 01 00", V::VariableByteIntegerNotShortest),
    (V5, 0x30, "'t' 80 80 80 80 01", V::VariableByteIntegerTooLong),
    (V5, 0x30, "'t' {0B 80 80 80 80 01}", V::VariableByteIntegerTooLong),
    (V5, 0x30, "'t' {0B 81 00}", V::VariableByteIntegerNotShortest),
    (V5, 0x30, "'t' {81 00 00}", V::VariableByteIntegerNotShortest), // the identifier itself
    (V5, 0x82, "00 01 80 80 80 80 01", V::VariableByteIntegerTooLong),
    (V5, 0x10, "'MQTT' 05 02 00 00 80 80 80 80 01 'c'", V::VariableByteIntegerTooLong),
    (V5, 0x10, "'MQTT' 05 06 00 00 00 'c' 80 00 'w' 'p'", V::VariableByteIntegerNotShortest),
    // Values
    (V5, 0x30, "'t' {01 02}", V::PayloadFormatIndicatorInvalid),
    (V5, 0x10, "'MQTT' 05 06 00 00 00 'c' {01 02} 'w' 'p'", V::PayloadFormatIndicatorInvalid),
    (V5, 0x30, "'t' {08 'a/+'}", V::ResponseTopicInvalid),
    (V5, 0x30, "'t' {08 '#'}", V::ResponseTopicInvalid),
    (V5, 0x30, "'t' {08 ''}", V::ResponseTopicInvalid),
    (V5, 0x82, "00 01 {0B 00} 'a' 00", V::SubscriptionIdentifierZero),
    (V5, 0x30, "'t' {0B 00}", V::SubscriptionIdentifierZero),
    (V5, 0x10, "'MQTT' 05 02 00 00 {21 00 00} 'c'", V::ReceiveMaximumZero),
    (V5, 0x20, "00 00 {21 00 00}", V::ReceiveMaximumZero),
    (V5, 0x10, "'MQTT' 05 02 00 00 {27 00 00 00 00} 'c'", V::MaximumPacketSizeZero),
    (V5, 0x20, "00 00 {27 00 00 00 00}", V::MaximumPacketSizeZero),
    (V5, 0x10, "'MQTT' 05 02 00 00 {17 02} 'c'", V::RequestProblemInformationInvalid),
    (V5, 0x10, "'MQTT' 05 02 00 00 {19 02} 'c'", V::RequestResponseInformationInvalid),
    (V5, 0x20, "00 00 {24 02}", V::MaximumQosInvalid),
    (V5, 0x20, "00 00 {25 02}", V::RetainAvailableInvalid),
    (V5, 0x20, "00 00 {28 02}", V::WildcardSubscriptionAvailableInvalid),
    (V5, 0x20, "00 00 {29 FF}", V::SubscriptionIdentifierAvailableInvalid),
    (V5, 0x20, "00 00 {2A 02}", V::SharedSubscriptionAvailableInvalid),
    // CONNECT
    (V311, 0x10, "'MQTX' 04 02 00 00 'c'", V::ProtocolNameUnknown),
    (V311, 0x10, "'mqtt' 04 02 00 00 'c'", V::ProtocolNameUnknown),
    (V311, 0x10, "'' 04 02 00 00 'c'", V::ProtocolNameUnknown),
    (V311, 0x10, "'MQTT' 00 02 00 00 'c'", V::ProtocolLevelUnsupported),
    (V311, 0x10, "'MQTT' 03 02 00 00 'c'", V::ProtocolLevelUnsupported),
    (V311, 0x10, "'MQIsdp' 04 02 00 00 'c'", V::ProtocolLevelUnsupported),
    (V311, 0x10, "'MQIsdp' 05 02 00 00 'c'", V::ProtocolLevelUnsupported),
    (V311, 0x10, "'MQTT' 80 02 00 00 'c'", V::ProtocolLevelUnsupported),
    (V311, 0x10, "'MQTT' 06 02 00 00 'c'", V::ProtocolLevelAboveFive),
    (V311, 0x10, "'MQTT' 7F 02 00 00 'c'", V::ProtocolLevelAboveFive),
    (V311, 0x10, "'MQTT' 85 02 00 00 'c'", V::ProtocolLevelAboveFive),
    (V311, 0x10, "'MQTT' 04 03 00 00 'c'", V::ConnectReservedFlag),
    (V5, 0x10, "'MQTT' 05 01 00 00 00 'c'", V::ConnectReservedFlag),
    (V311, 0x10, "'MQTT' 04 0A 00 00 'c'", V::WillQosWithoutWill),
    (V5, 0x10, "'MQTT' 05 12 00 00 00 'c'", V::WillQosWithoutWill),
    (V5, 0x10, "'MQTT' 05 22 00 00 00 'c'", V::WillRetainWithoutWill),
    (V311, 0x10, "'MQTT' 04 1E 00 00 'c' 'w' 'p'", V::WillQosInvalid),
    (V31, 0x10, "'MQIsdp' 03 1E 00 00 'c' 'w' 'p'", V::WillQosInvalid),
    (V311, 0x10, "'MQTT' 04 06 00 00 'c' 'w/#' 'p'", V::WillTopicInvalid),
    (V5, 0x10, "'MQTT' 05 06 00 00 00 'c' 00 '' 'p'", V::WillTopicInvalid),
    (V311, 0x10, "'MQTT' 04 42 00 00 'c' 'password'", V::PasswordWithoutUserName),
    (V31, 0x10, "'MQIsdp' 03 42 00 00 'c' 'password'", V::PasswordWithoutUserName),
    (V5, 0x10, "'MQTT' 05 02 00 00 {16 'data'} 'c'", V::AuthenticationDataWithoutMethod),
    (V5, 0x20, "00 00 {16 'data'}", V::AuthenticationDataWithoutMethod),
    // CONNACK
    (V311, 0x20, "02 00", V::ConnAckFlagsReserved),
    (V5, 0x20, "80 00 00", V::ConnAckFlagsReserved),
    (V311, 0x20, "01 05", V::SessionPresentOnRefusal),
    (V5, 0x20, "01 87 00", V::SessionPresentOnRefusal),
    // PUBLISH
    (V311, 0x36, "'t' 00 01", V::PublishQosInvalid),
    (V31, 0x36, "'t' 00 01", V::PublishQosInvalid),
    (V5, 0x3E, "'t' 00 01 00", V::PublishQosInvalid),
    (V311, 0x38, "'t'", V::DupOnQos0),
    (V5, 0x38, "'t' 00", V::DupOnQos0),
    (V311, 0x30, "'a/+/b'", V::TopicNameWildcard),
    (V5, 0x30, "'a/#' 00", V::TopicNameWildcard),
    (V31, 0x30, "'a long name with one + in it'", V::TopicNameWildcard),
    (V311, 0x30, "''", V::TopicNameEmpty),
    (V5, 0x30, "'' 00", V::TopicNameEmpty),
    (V5, 0x30, "'' {02 00 00 00 01}", V::TopicNameEmpty),
    (V5, 0x30, "'t' {23 00 00}", V::TopicAliasZero),
    // Reason codes
    (V5, 0x40, "00 01 05", V::ReasonCodeUnknown),
    (V5, 0x40, "00 01 A3", V::ReasonCodeUnknown),
    (V5, 0xE0, "FF", V::ReasonCodeUnknown),
    (V311, 0x20, "00 06", V::ReasonCodeUnknown),
    (V31, 0x20, "00 80", V::ReasonCodeUnknown),
    (V5, 0x40, "00 01 92", V::ReasonCodeNotAllowed),
    (V5, 0x50, "00 01 01", V::ReasonCodeNotAllowed),
    (V5, 0x62, "00 01 10", V::ReasonCodeNotAllowed),
    (V5, 0x70, "00 01 87", V::ReasonCodeNotAllowed),
    (V5, 0x20, "00 92 00", V::ReasonCodeNotAllowed),
    (V5, 0xE0, "18", V::ReasonCodeNotAllowed),
    (V5, 0xF0, "87 {15 'm'}", V::ReasonCodeNotAllowed),
    (V5, 0x90, "00 01 00 11", V::ReasonCodeNotAllowed),
    (V5, 0xB0, "00 01 00 01", V::ReasonCodeNotAllowed),
    (V311, 0x90, "00 01 03", V::ReasonCodeNotAllowed),
    (V311, 0x90, "00 01 87", V::ReasonCodeNotAllowed),
    (V5, 0xF0, "18 {16 'data'}", V::AuthenticationMethodMissing),
    // SUBSCRIBE and its kin
    (V311, 0x82, "00 01", V::SubscribeWithoutFilter),
    (V5, 0x82, "00 01 00", V::SubscribeWithoutFilter),
    (V311, 0x82, "00 01 'a' 04", V::SubscribeOptionsReserved),
    (V311, 0x82, "00 01 'a' 80", V::SubscribeOptionsReserved),
    (V5, 0x82, "00 01 00 'a' 40", V::SubscribeOptionsReserved),
    (V5, 0x82, "00 01 00 'a' 00 'b' 80", V::SubscribeOptionsReserved),
    (V311, 0x82, "00 01 'a' 03", V::SubscribeQosInvalid),
    (V31, 0x82, "00 01 'a' 03", V::SubscribeQosInvalid),
    (V5, 0x82, "00 01 00 'a' 03", V::SubscribeQosInvalid),
    (V5, 0x82, "00 01 00 'a' 30", V::RetainHandlingInvalid),
    (V5, 0x82, "00 01 00 '$share/g/a' 04", V::NoLocalOnShared),
    (V311, 0xA2, "00 01", V::UnsubscribeWithoutFilter),
    (V5, 0xA2, "00 01 00", V::UnsubscribeWithoutFilter),
    (V311, 0x90, "00 01", V::SubAckWithoutCode),
    (V5, 0xB0, "00 01 00", V::SubAckWithoutCode),
];

/// Whole streams whose fault lies in the fixed header.
const HEADERS: &[(&str, Violation)] = &[
    ("00 00", V::ReservedPacketType),
    ("0F", V::ReservedPacketType),
    ("30 80 00", V::VariableByteIntegerNotShortest),
    ("C0 80 80 80 00", V::VariableByteIntegerNotShortest),
    ("30 80 80 80 80", V::VariableByteIntegerTooLong),
    ("30 FF FF FF FF 7F", V::VariableByteIntegerTooLong),
    ("30 FF FF FF 7F", V::PacketTooLarge),
    ("10 FD FF 3F", V::PacketTooLarge),
];

#[test]
fn each_malformed_packet_ends_in_its_violation() {
    for (version, first, body, expected) in BODIES {
        let packet = packet(*first, body);
        assert_eq!(violation(*version, &packet), Some(*expected), "{version} {first:02X} {body}");
    }
    for (stream, expected) in HEADERS {
        assert_eq!(violation(V311, &wire::bytes(stream)), Some(*expected), "{stream}");
    }
}

/// Those that only a session can find stand behind this one in the table.
#[test]
fn each_violation_of_the_codec_is_hit_by_name() {
    let first_of_session = Violation::FirstPacketNotConnect;
    let hit: BTreeSet<Violation> = BODIES.iter().map(|row| row.3).chain(HEADERS.iter().map(|row| row.1)).collect();
    let missed: Vec<_> = Violation::ALL.iter().filter(|v| **v < first_of_session && !hit.contains(v)).collect();
    assert_eq!(missed, Vec::<&Violation>::new());
}

#[test]
fn every_violation_has_an_error_code_a_statement_and_a_text() {
    for violation in Violation::ALL {
        assert!(violation.reason().is_error(), "{}", violation.name());
        assert!(!violation.text().is_empty());
        let statement = violation.statement();
        let number = statement.strip_prefix("MQTT-").or_else(|| statement.strip_prefix("MQTT3-")).unwrap_or(statement);
        assert!(number.starts_with(|c: char| c.is_ascii_digit()), "{statement}");
        assert!(number.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-'), "{statement}");
        assert_eq!(violation.to_string(), format!("{} [{}]", violation.text(), statement));
    }
    let names: BTreeSet<&str> = Violation::ALL.iter().map(|v| v.name()).collect();
    assert_eq!(names.len(), Violation::ALL.len());
    let texts: BTreeSet<&str> = Violation::ALL.iter().map(|v| v.text()).collect();
    assert_eq!(texts.len(), Violation::ALL.len(), "two violations say the same");
}

/// A DISCONNECT or CONNACK must be able to carry the code of every violation.
#[test]
fn every_violation_code_may_end_a_connection() {
    use breakwater_proto::PacketKind::{ConnAck, Disconnect};
    for violation in Violation::ALL {
        let code = violation.reason();
        assert!(code.allowed_in(Disconnect) || code.allowed_in(ConnAck), "{}", violation.name());
    }
}

#[test]
fn an_unknown_protocol_level_tells_the_form_of_the_refusal() {
    let refusal = |body: &str| {
        let packet = packet(0x10, body);
        violation(V311, &packet).and_then(Violation::connack_version)
    };
    assert_eq!(refusal("'MQTT' 03 02 00 00 'c'"), Some(V311));
    assert_eq!(refusal("'MQTT' 06 02 00 00 00 'c'"), Some(V5));
    assert_eq!(refusal("'MQTX' 04 02 00 00 'c'"), None);
    let peek = |body: &str| breakwater_proto::peek_version(&wire::bytes(body));
    assert_eq!(peek("'MQTT' 05 01"), Some(V5));
    assert_eq!(peek("'MQTT' 04 FF"), Some(V311));
    assert_eq!(peek("'MQIsdp' 83"), Some(V31));
    assert_eq!(peek("'MQTT' 09"), Some(V5));
    assert_eq!(peek("'HTTP' 09"), None);
    assert_eq!(peek("00"), None);
}
