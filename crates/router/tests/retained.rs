//! Retained messages: what is kept, what is found, what expires, what is refused.

use breakwater_proto::{ForwardProperties, Instant, Message, MessageView, QoS};
use breakwater_router::{Progress, Refusal, RetainedCursor, RetainedLimits, Router, RouterOptions};

fn message(topic: &str, payload: &[u8], expires_at: Option<u64>) -> Message {
    let view = MessageView {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: ForwardProperties::EMPTY,
        expires_at: expires_at.map(Instant),
        origin: 0,
    };
    Message::new(&view, &mut Vec::new())
}

fn router(retained: RetainedLimits) -> Router {
    Router::new(RouterOptions { retained, ..RouterOptions::default() })
}

/// Topics found, sorted, read in slices of `budget`.
fn read(router: &Router, filter: &str, now: u64, budget: usize) -> Vec<String> {
    let mut cursor = RetainedCursor::new(filter);
    let mut out = Vec::new();
    while router.retained_next(&mut cursor, Instant(now), budget, &mut out) == Progress::More {}
    let mut topics: Vec<String> = out.iter().map(|(message, _)| message.topic().to_owned()).collect();
    topics.sort_unstable();
    topics
}

const TOPICS: &[&str] =
    &["/", "$SYS/a", "$SYS/a/b", "a", "a/", "a//b", "a/b", "a/b/c", "a/c", "a/c/d/e", "b", "b/b/c", "x/y/z", "ä/b"];

#[test]
fn every_filter_finds_what_the_reference_says() {
    let router = router(RetainedLimits::default());
    for topic in TOPICS {
        assert!(!router.retain(message(topic, b"1", None)).replaced);
        assert!(router.retain(message(topic, b"2", None)).replaced);
    }
    assert_eq!(router.counts().retained, TOPICS.len() as u64);
    let filters = [
        "#", "+", "+/+", "+/#", "a", "a/#", "a/+", "a/b/#", "a/+/c", "+/b/c", "$SYS/#", "$SYS/+", "$SYS/a", "/", "/#",
        "+/", "a/c/+/e", "none", "none/#", "a/+/+/+", "ä/+",
    ];
    for filter in filters {
        let expect: Vec<&str> = TOPICS.iter().copied().filter(|t| breakwater_proto::matches(filter, t)).collect();
        let mut expect = expect;
        expect.sort_unstable();
        for budget in [1, 2, 3, 1000] {
            assert_eq!(read(&router, filter, 0, budget), expect, "{filter} in slices of {budget}");
        }
    }
    for topic in TOPICS {
        assert!(router.clear_retained(topic).replaced);
        assert!(!router.clear_retained(topic).replaced);
    }
    assert_eq!((router.counts().retained, router.counts().retained_bytes), (0, 0));
    assert!(read(&router, "#", 0, 100).is_empty());
}

#[test]
fn an_empty_payload_removes_and_is_not_kept() {
    let router = router(RetainedLimits::default());
    assert!(!router.retain(message("a", b"", None)).replaced);
    router.retain(message("a", b"1", None));
    assert!(router.retain(message("a", b"", None)).replaced);
    assert_eq!(router.counts().retained, 0);
}

#[test]
fn revisions_grow_also_across_removal() {
    let router = router(RetainedLimits::default());
    let mut last = 0;
    for payload in ["1", "2", "", "3", "", "", "4"] {
        let revision = router.retain(message("a", payload.as_bytes(), None)).revision;
        assert!(revision > last);
        last = revision;
    }
    let mut out = Vec::new();
    assert_eq!(router.retained_next(&mut RetainedCursor::new("a"), Instant(0), 1, &mut out), Progress::Done);
    assert_eq!(out[0].1, last);
}

#[test]
fn an_expired_message_is_neither_read_nor_kept_for_ever() {
    let router = router(RetainedLimits::default());
    for n in 0..1000u64 {
        router.retain(message(&format!("t/{n}"), b"1", (n % 2 == 0).then_some(n)));
    }
    assert_eq!(read(&router, "t/+", 499, 64).len(), 750);
    assert_eq!(read(&router, "t/10", 10, 64).len(), 0);
    assert_eq!(read(&router, "t/10", 9, 64).len(), 1);
    let mut swept = 0;
    for _ in 0..30 {
        swept += router.sweep_retained(Instant(499), 100, |_, _| {});
    }
    assert_eq!(swept, 250);
    assert_eq!(router.counts().retained, 750);
    assert_eq!(router.sweep_retained(Instant(2000), 10_000, |_, _| {}), 250);
    assert_eq!(router.sweep_retained(Instant(2000), 10_000, |_, _| {}), 0);
}

#[test]
fn limits_refuse_and_a_refused_message_still_ends_its_predecessor() {
    let limits = RetainedLimits { count_max: 2, bytes_max: 10_000, payload_max: 6000 };
    let router = router(limits);
    router.retain(message("a", b"1", None));
    router.retain(message("b", b"1", None));
    assert_eq!(router.retain(message("c", b"1", None)).refused, Some(Refusal::TooMany));
    assert_eq!(router.counts().retained, 2);
    let outcome = router.retain(message("a", &[1; 6001], None));
    assert_eq!((outcome.refused, outcome.replaced), (Some(Refusal::PayloadTooLarge), true));
    assert_eq!(router.retain(message("c", &[1; 6000], None)).refused, None);
    let outcome = router.retain(message("b", &[1; 6000], None));
    assert_eq!((outcome.refused, outcome.replaced), (Some(Refusal::TooManyBytes), true));
    assert_eq!(read(&router, "#", 0, 10), ["c"]);
    assert!(router.clear_retained("c").replaced);
    assert_eq!((router.counts().retained, router.counts().retained_bytes), (0, 0));
}

#[test]
fn a_cursor_survives_changes_under_it() {
    let router = router(RetainedLimits::default());
    for n in 0..100 {
        router.retain(message(&format!("a/{n}/x"), b"1", None));
        router.retain(message(&format!("stay/{n}"), b"1", None));
    }
    for budget in 1..40 {
        let mut cursor = RetainedCursor::new("#");
        let mut out = Vec::new();
        let mut round = 0;
        while router.retained_next(&mut cursor, Instant(0), budget, &mut out) == Progress::More {
            for n in 0..100 {
                // The same nodes' numbers are given to other topics while the cursor stands on them.
                router.clear_retained(&format!("a/{n}/x"));
                router.clear_retained(&format!("b/{}/x", n + round));
                router.retain(message(&format!("b/{}/x", n + round + 1), b"1", None));
            }
            round += 1;
            assert!(round < 10_000, "a cursor must come to its end");
        }
        let stayed = out.iter().filter(|(message, _)| message.topic().starts_with("stay/")).count();
        assert_eq!(stayed, 100);
        for n in 0..100 {
            router.retain(message(&format!("a/{n}/x"), b"1", None));
        }
    }
}

#[test]
fn a_topic_of_32767_levels_is_kept_found_and_removed() {
    let router = router(RetainedLimits::default());
    let topic = "a/".repeat(32_767) + "a";
    router.retain(message(&topic, b"1", None));
    assert_eq!(read(&router, "a/#", 0, 1000).len(), 1);
    assert_eq!(read(&router, &("+/".repeat(32_767) + "+"), 0, 1000).len(), 1);
    assert!(router.clear_retained(&topic).replaced);
    router.retain(message(&topic, b"1", None));
    drop(router);
}

#[test]
fn a_sweep_tells_what_has_gone_and_revisions_go_on_where_they_are_told_to() {
    let router = router(RetainedLimits::default());
    router.start_revisions_at(1 << 40);
    let kept = router.retain(message("stays", b"1", None)).revision;
    router.retain(message("goes", b"1", Some(5)));
    assert!(kept > 1 << 40);
    let mut gone = Vec::new();
    router.sweep_retained(Instant(6), 100, |topic, revision| gone.push((topic.to_owned(), revision)));
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].0, "goes");
    assert!(gone[0].1 > kept);
    router.start_revisions_at(7);
    assert!(router.clear_retained("stays").revision > gone[0].1, "they never go back");
}
