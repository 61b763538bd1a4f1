//! Any filter and any topic: nothing panics, and the matcher agrees with a plain recursive one.
//!
//! The input is a filter, a line feed, and a topic.
#![no_main]

use breakwater_proto::{FilterKind, TopicLimits, is_wildcard, matches, parse_filter, topic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (filter, name) = text.split_once('\n').unwrap_or((text, ""));
    let limits = TopicLimits { levels_max: 8, bytes_max: 64 };
    assert_eq!(topic::within(name, &limits), name.len() <= 64 && topic::levels(name).count() <= 8);
    let name_is_valid = topic::check(name).is_ok();
    let inner = match parse_filter(filter) {
        Ok(FilterKind::Plain(inner)) => {
            assert_eq!(inner, filter);
            inner
        }
        Ok(FilterKind::Shared { group, filter: inner }) => {
            assert!(!group.is_empty() && !group.contains(['/', '+', '#']));
            assert!(filter.ends_with(inner));
            inner
        }
        Err(_) => {
            let _ = matches(filter, name);
            return;
        }
    };
    assert!(matches!(parse_filter(inner), Ok(FilterKind::Plain(same)) if same == inner));
    let matched = matches(inner, name);
    if name_is_valid {
        let hidden = name.starts_with('$') && inner.starts_with(['+', '#']);
        let levels = |text: &str| topic::levels(text).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(matched, !hidden && agrees(&levels(inner), &levels(name)));
        if !is_wildcard(inner) {
            assert_eq!(matched, inner == name);
            assert!(topic::check(inner).is_ok());
        }
    }
});

fn agrees(filter: &[String], name: &[String]) -> bool {
    match (filter.split_first(), name.split_first()) {
        (Some((level, _)), _) if level == "#" => true,
        (Some((level, filter)), Some((own, name))) => (level == "+" || level == own) && agrees(filter, name),
        (None, None) => true,
        _ => false,
    }
}
