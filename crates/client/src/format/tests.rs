use jiff::civil::date;
use jiff::tz::TimeZone;

use super::*;

fn message() -> Received<'static> {
    Received {
        topic: "f/topic",
        payload: "hel\"lo\té".as_bytes(),
        qos: 1,
        retain: true,
        packet_id: 1,
        expiry: Some(1000),
        payload_format: Some(1),
        content_type: Some("text/plain"),
        response_topic: Some("re/sp"),
        correlation: Some(b"c\"d"),
        user_properties: vec![("k", "v 1"), ("k2", "v2")],
        ..Received::default()
    }
}

fn noon() -> Zoned {
    date(2026, 11, 22).at(12, 26, 37, 566_355_001).to_zoned(TimeZone::UTC).expect("a valid time")
}

fn print(format: &str, received: &Received<'_>) -> String {
    let mut out = Vec::new();
    let format = Format::parse(format, false).expect("the format is right");
    format.write(received, &noon(), &mut out).expect("the message can be printed");
    String::from_utf8(out).expect("the output is UTF-8")
}

/// Expected columns were taken from mosquitto_sub 2.0.11.
#[test]
fn fields_pad_and_cut_like_those_people_know() {
    for (format, expected) in [
        ("%t|%10t|%-10t|%10.3t|%.3t|%-6.3t|", "f/topic|   f/topic|f/topic   |       f/t|f/t|f/t   |"),
        ("%p|%12p|%-12p|%3p|", "hel\"lo\té|   hel\"lo\té|hel\"lo\té   |hel\"lo\té|"),
        ("%l|%5l|%05l|%-5l|%-05l|", "9|    9|00009|9    |9    |"),
        ("%m|%5m|%05m|%-5m|", "1|    1|00001|1    |"),
        ("%q|%5q|%r|%3r|", "1|1|1|1|"),
        ("%x|%X|%20x|%-20X|", "68656c226c6f09c3a9|68656C226C6F09C3A9|  68656c226c6f09c3a9|68656C226C6F09C3A9  |"),
        ("%020x", "0068656c226c6f09c3a9"),
        (
            "%A|%5A|%05A|%C|%12.4C|%D|%E|%8E|%08E|%-8E|%F|%3F|%03F|",
            "|     |00000|text/plain|        text|c\"d|1000|    1000|00001000|1000    |1|  1|001|",
        ),
        ("%P|%R|%10R|%-10.2R|%S|%5S|%05S|%%|@@|", "k:v 1 k2:v2|re/sp|     re/sp|re        ||     |00000|%|@|"),
        ("\\\\\\0\\a\\e\\n\\r\\t\\v", "\\\0\x07\x1b\n\r\t\x0b"),
        ("%I|%U|%26I|%.5I|", "2026-11-22T12:26:37+0000|1795350397.566355001|  2026-11-22T12:26:37+0000|2026-|"),
        ("@Y-@m-@dT@H:@M:@S@z|@N|@s", "2026-11-22T12:26:37+0000|566355001|1795350397"),
        ("plain é", "plain é"),
    ] {
        assert_eq!(print(format, &message()), expected, "{format}");
    }
}

#[test]
fn a_wrong_format_is_named() {
    for (format, expected) in [
        ("%", FormatError::Incomplete('%')),
        ("%05", FormatError::Incomplete('%')),
        ("abc@", FormatError::Incomplete('@')),
        ("abc\\", FormatError::Incomplete('\\')),
        ("%q%Z", FormatError::UnknownField('Z')),
        ("\\z", FormatError::UnknownEscape('z')),
        ("@!", FormatError::UnknownTime('!')),
    ] {
        assert_eq!(Format::parse(format, false).expect_err(format), expected);
    }
}

#[test]
fn json_has_the_members_that_scripts_read() {
    assert_eq!(
        print("%j", &message()),
        r#"{"tst":"2026-11-22T12:26:37.566355+0000","topic":"f/topic","qos":1,"retain":1,"payloadlen":9,"mid":1,"properties":{"user-properties":{"k":"v 1","k2":"v2"},"content-type":"text/plain","response-topic":"re/sp","correlation-data":"c\"d","payload-format-indicator":1,"message-expiry-interval":1000},"payload":"hel\"lo\té"}"#
    );
}

#[test]
fn json_text_stays_json_when_the_payload_is_binary() {
    let received = Received { topic: "a", payload: b"\x01\xffab\x7f/\\", ..Received::default() };
    assert!(print("%j", &received).ends_with("\"payload\":\"\\u0001\u{fffd}ab\x7f/\\\\\"}"));
}

#[test]
fn json_value_drops_blanks_and_keeps_numbers_as_written() {
    let payload = br#" {"a": [1, 2.50, "x", [] ], "b":{ }, "d":1e3, "e":true, "f":-0.1E-2} "#;
    let received = Received { topic: "a", payload, ..Received::default() };
    let text = print("%J", &received);
    assert!(text.ends_with(r#""payload":{"a":[1,2.50,"x",[]],"b":{},"d":1e3,"e":true,"f":-0.1E-2}}"#), "{text}");
}

#[test]
fn json_value_refuses_what_is_no_json() {
    let deep = "[".repeat(100_000);
    for payload in
        ["", "{", "[1,]", "01", "1.", "-", "\"a", "\"\\x\"", "{1:2}", "{\"a\"}", "tru", "1 2", "\"\t\"", &deep]
    {
        let received = Received { topic: "a", payload: payload.as_bytes(), ..Received::default() };
        let mut out = b"before".to_vec();
        let format = Format::parse("%t %J", false).expect("the format is right");
        assert_eq!(format.write(&received, &noon(), &mut out), Err(NotJson), "{payload:.20}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn pretty_json_puts_one_member_on_a_line() {
    let received = Received { topic: "a", payload: br#"{"x":[1,{}]}"#, ..Received::default() };
    let mut out = Vec::new();
    Format::parse("%J", true).expect("right").write(&received, &noon(), &mut out).expect("JSON");
    let text = String::from_utf8(out).expect("UTF-8");
    let expected = "\n  \"payload\": {\n    \"x\": [\n      1,\n      {}\n    ]\n  }\n}";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn verbose_marks_an_empty_payload() {
    let mut out = Vec::new();
    let received = Received { topic: "a/b", ..Received::default() };
    Format::verbose(false).write(&received, &noon(), &mut out).expect("printable");
    assert_eq!(out, b"a/b (null)");
}
