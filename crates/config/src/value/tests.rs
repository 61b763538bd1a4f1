use super::number::DAY;
use super::*;

const SPAN: Kind = Kind::Duration { min_ms: 0, max_ms: 7 * DAY };
const SIZE: Kind = Kind::Bytes { min: 1, max: 1 << 30 };

#[test]
fn sizes_count_in_1024() {
    for (text, bytes) in [("1MB", 1 << 20), ("64 KiB", 64 << 10), ("12", 12), ("3b", 3), ("1g", 1 << 30)] {
        assert_eq!(SIZE.parse(text), Ok(Value::Number(bytes)), "{text}");
    }
    for text in ["", "MB", "1.5MB", "1TB", "-1", "+1", "0", "2GB", "99999999999999999999GB"] {
        assert!(SIZE.parse(text).is_err(), "{text}");
    }
}

#[test]
fn durations_need_a_unit() {
    for (text, ms) in [("15s", 15_000), ("1h30m", 5_400_000), ("500ms", 500), ("0", 0), ("2d", 2 * DAY)] {
        assert_eq!(SPAN.parse(text), Ok(Value::Number(ms)), "{text}");
    }
    for text in ["", "s", "15", "1w", "8d", "1h30", "-1s", "99999999999999999999d"] {
        assert!(SPAN.parse(text).is_err(), "{text}");
    }
    assert!(SPAN.parse("15").unwrap_err().contains("15s"));
}

#[test]
fn what_is_written_reads_back() {
    let words = Kind::Several(&["3.1", "3.1.1", "5.0"]);
    let factor = Kind::Factor { min: 100, max: 1000 };
    for (kind, number) in [
        (SIZE, 1 << 20),
        (SIZE, 1000),
        (SPAN, 90_000),
        (SPAN, 0),
        (SPAN, 1),
        (factor, 150),
        (factor, 200),
        (factor, 125),
        (words, 0b101),
        (Kind::Flag, 1),
        (Kind::Choice(&["a", "b"]), 1),
    ] {
        assert_eq!(kind.parse(&kind.written(number)), Ok(Value::Number(number)), "{kind:?} {number}");
    }
}

#[test]
fn words_outside_the_list_are_refused() {
    assert!(Kind::Choice(&["a", "b"]).parse("c").is_err());
    assert!(Kind::Several(&["a", "b"]).parse("").is_err());
    assert!(Kind::Several(&["a", "b"]).parse("a,c").is_err());
    assert!(Kind::Flag.parse("maybe").is_err());
    assert!(Kind::Text { bytes_max: 3 }.parse("\u{1b}[m").is_err());
}

#[test]
fn rates_are_per_second() {
    for (bytes, text, number) in
        [(false, "100/s", 100), (false, "7", 7), (true, "1MB/s", 1 << 20), (true, "5 KB/s", 5120)]
    {
        assert_eq!(Kind::Rate { bytes }.parse(text), Ok(Value::Number(number)), "{text}");
    }
    assert!(Kind::Rate { bytes: false }.parse("1MB/s").is_err());
    assert!(Kind::Rate { bytes: true }.parse("1MB/m").is_err());
}

#[test]
fn secrets_are_not_in_what_is_said_about_them() {
    let fault = Kind::Secret.parse("hunter2\n").unwrap_err();
    assert!(!fault.contains("hunter2"), "{fault}");
    assert_eq!(Kind::Secret.shown(&Value::Text("hunter2".into())), "***");
}
