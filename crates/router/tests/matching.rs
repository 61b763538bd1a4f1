//! Which filters a topic matches, and what becomes of sessions that several of them reach.

use breakwater_proto::QoS;
use breakwater_router::{Grant, Matches, PickTicket, Router, RouterOptions, Subscriber};

fn session(shard: u16, slot: u32) -> Subscriber {
    Subscriber { shard, generation: 7, slot }
}

const PLAIN: Grant =
    Grant { qos: QoS::AtMostOnce, no_local: false, retain_as_published: false, durable: false, subscription_id: 0 };

fn router() -> Router {
    Router::new(RouterOptions { shards: 4, hash_seed: 42, ..RouterOptions::default() })
}

fn matches(router: &Router, topic: &str) -> Matches {
    let mut out = Matches::new();
    router.matches(0, topic, &mut out);
    out
}

fn ids(out: &Matches, target: usize, to_publisher: bool) -> Vec<u32> {
    let mut ids = Vec::new();
    out.subscription_ids(target, to_publisher, &mut ids);
    ids.sort_unstable();
    ids
}

const FILTERS: &[&str] = &[
    "#", "+", "/", "//", "/#", "/+", "+/", "+/+", "+/#", "a", "a/", "a/#", "a/+", "a/b", "a/b/#", "a/+/#", "a/+/c",
    "a//c", "+/b/c", "+/+/+", "+/b/#", "a/b/c", "$SYS/#", "$SYS/+", "$SYS/a", "$SYS/+/c", "$x", "$x/#", "ä/+", "a/ä",
    " ", "a/ /c",
];
const TOPICS: &[&str] = &[
    "a", "b", "/", "//", "a/", "/a", "a/b", "a/b/", "a/b/c", "a/b/c/d", "a//c", "a/ /c", "$SYS", "$SYS/a", "$SYS/a/c",
    "$x", "$x/y", "a/$x", "ä/b", "a/ä", " ", "A/b", "ab", "a/bc",
];

#[test]
fn every_filter_matches_what_the_reference_says() {
    // Each filter alone, so that nothing hides behind a neighbour, and all together, so that they share nodes.
    let together = router();
    for (slot, filter) in (0..).zip(FILTERS) {
        together.subscribe(filter, session(0, slot), PLAIN);
        let alone = router();
        alone.subscribe(filter, session(1, 1), PLAIN);
        for topic in TOPICS {
            let expect = breakwater_proto::matches(filter, topic);
            assert_eq!(!matches(&alone, topic).is_empty(), expect, "{filter} on {topic}");
        }
    }
    for topic in TOPICS {
        let expect: Vec<u32> =
            (0..).zip(FILTERS).filter(|(_, f)| breakwater_proto::matches(f, topic)).map(|(n, _)| n).collect();
        let out = matches(&together, topic);
        assert_eq!(out.few.iter().map(|target| target.subscriber.slot).collect::<Vec<_>>(), expect, "{topic}");
    }
}

#[test]
fn removing_every_filter_leaves_nothing() {
    let router = router();
    let ids: Vec<_> = FILTERS.iter().map(|filter| router.subscribe(filter, session(0, 1), PLAIN).id).collect();
    let mut text = String::new();
    for (id, filter) in ids.iter().zip(FILTERS) {
        text.clear();
        assert!(router.filter_text(*id, &mut text));
        assert_eq!(text, *filter);
        assert!(router.remove(*id, session(0, 1)));
    }
    assert_eq!(router.counts(), Router::new(RouterOptions::default()).counts());
    assert!(TOPICS.iter().all(|topic| matches(&router, topic).is_empty()));
}

#[test]
fn subscribing_again_replaces_the_grant() {
    let router = router();
    for filter in ["a/b", "a/+"] {
        let first = router.subscribe(filter, session(0, 1), PLAIN);
        let again = router.subscribe(filter, session(0, 1), Grant { qos: QoS::ExactlyOnce, ..PLAIN });
        assert!(first.new && !again.new);
        assert_eq!(first.id, again.id);
        assert_eq!(router.grant(again.id, session(0, 1)).unwrap().qos, QoS::ExactlyOnce);
        assert!(router.unsubscribe(filter, session(0, 1)).is_some());
        assert!(router.unsubscribe(filter, session(0, 1)).is_none());
    }
}

#[test]
fn overlaps_become_one_target_with_the_highest_qos_and_all_ids() {
    let router = router();
    let who = session(1, 5);
    router.subscribe("a/b", who, Grant { qos: QoS::AtMostOnce, subscription_id: 1, ..PLAIN });
    router.subscribe("a/+", who, Grant { qos: QoS::ExactlyOnce, subscription_id: 2, ..PLAIN });
    router.subscribe("#", who, Grant { retain_as_published: true, durable: true, ..PLAIN });
    router.subscribe("a/#", session(0, 9), PLAIN);
    let out = matches(&router, "a/b");
    assert_eq!(out.few.len(), 2);
    assert_eq!(out.few[0].subscriber, session(0, 9));
    let grant = out.grant(1, false).unwrap();
    assert_eq!(grant.qos(), QoS::ExactlyOnce);
    assert!(grant.retain_as_published() && grant.durable() && out.any_durable);
    assert_eq!(ids(&out, 1, false), [1, 2]);
    assert_eq!(ids(&out, 0, false), [0; 0]);
}

#[test]
fn no_local_drops_only_what_no_other_subscription_wants() {
    let router = router();
    let who = session(0, 1);
    let quiet = Grant { qos: QoS::ExactlyOnce, no_local: true, subscription_id: 1, ..PLAIN };
    router.subscribe("a/b", who, quiet);
    let out = matches(&router, "a/b");
    assert!(out.grant(0, true).is_none());
    assert!(out.grant(0, false).is_some());

    router.subscribe("a/+", who, Grant { qos: QoS::AtLeastOnce, subscription_id: 2, ..PLAIN });
    router.subscribe("a/#", who, Grant { subscription_id: 3, ..PLAIN });
    for _ in 0..3 {
        let out = matches(&router, "a/b");
        assert_eq!(out.grant(0, true).unwrap().qos(), QoS::AtLeastOnce);
        assert_eq!(out.grant(0, false).unwrap().qos(), QoS::ExactlyOnce);
        assert_eq!(ids(&out, 0, true), [2, 3]);
        assert_eq!(ids(&out, 0, false), [1, 2, 3]);
    }
}

#[test]
fn remembered_answers_see_every_change() {
    let router = router();
    let mut out = Matches::new();
    let mut slots = |topic: &str| {
        // Twice: the second answer is remembered.
        router.matches(0, topic, &mut out);
        router.matches(0, topic, &mut out);
        out.few.iter().map(|target| target.subscriber.slot).collect::<Vec<_>>()
    };
    assert_eq!(slots("a/b"), [0; 0]);
    router.subscribe("a/b", session(0, 1), PLAIN);
    assert_eq!(slots("a/b"), [1]);
    router.subscribe("a/+", session(0, 2), PLAIN);
    assert_eq!(slots("a/b"), [1, 2]);
    router.subscribe("#", session(0, 3), PLAIN);
    assert_eq!(slots("a/b"), [1, 2, 3]);
    router.unsubscribe("a/b", session(0, 1));
    assert_eq!(slots("a/b"), [2, 3]);
    router.unsubscribe("a/+", session(0, 2));
    assert_eq!(slots("a/b"), [3]);
    router.unsubscribe("#", session(0, 3));
    assert_eq!(slots("a/b"), [0; 0]);
}

#[test]
fn exact_subscriptions_elsewhere_leave_answers_remembered() {
    let router = router();
    router.subscribe("a/+", session(0, 1), PLAIN);
    router.subscribe("b/+", session(0, 1), PLAIN);
    let mut out = Matches::new();
    router.matches(0, "a/b", &mut out);
    assert!(out.visited > 0);
    router.matches(0, "a/b", &mut out);
    assert_eq!(out.visited, 0);
    router.subscribe("c/+", session(0, 1), PLAIN);
    router.matches(0, "a/b", &mut out);
    assert_eq!(out.visited, 0);
    let before = router.generation("a/b");
    router.subscribe("a/c/+", session(0, 1), PLAIN);
    assert_ne!(router.generation("a/b"), before);
    router.matches(0, "a/b", &mut out);
    assert!(out.visited > 0);
}

#[test]
fn matches_of_one_router_are_not_taken_for_anothers() {
    let (one, other) = (router(), router());
    one.subscribe("a", session(0, 1), PLAIN);
    let mut out = Matches::new();
    for _ in 0..2 {
        one.matches(0, "a", &mut out);
        assert_eq!(out.few.len(), 1);
        other.matches(0, "a", &mut out);
        assert!(out.is_empty());
    }
}

#[test]
fn a_shared_group_is_reached_once_and_picks_a_member() {
    let router = router();
    let mut groups = Vec::new();
    for slot in 0..3 {
        groups.push(router.subscribe_shared("g", "a/b", session(0, slot), PLAIN).id);
        router.subscribe_shared("h", "a/+", session(1, slot), PLAIN);
    }
    assert!(groups.iter().all(|id| *id == groups[0]));
    let out = matches(&router, "a/b");
    assert_eq!((out.few.len(), out.groups.len()), (0, 2));
    let mut text = String::new();
    router.filter_text(groups[0], &mut text);
    assert_eq!(text, "$share/g/a/b");
    let ticket = PickTicket { shard: 0, topic_hash: 0, client_hash: 0, random: 1, tried: &[] };
    let picked: Vec<u16> = out.groups.iter().map(|g| router.pick(*g, &ticket).unwrap().subscriber.shard).collect();
    assert_eq!(picked.iter().sum::<u16>(), 1);

    for slot in 0..3 {
        router.set_online(groups[0], session(0, slot), slot == 2);
    }
    let group = out.groups[picked.iter().position(|shard| *shard == 0).unwrap()];
    assert_eq!(router.pick(group, &ticket).unwrap().subscriber.slot, 2);
    assert!(router.unsubscribe_shared("g", "a/b", session(0, 9)).is_none());
    for slot in 0..3 {
        assert!(router.unsubscribe_shared("g", "a/b", session(0, slot)).is_some());
        assert!(router.unsubscribe_shared("h", "a/+", session(1, slot)).is_some());
    }
    // The reference is stale; another group in its place must not be taken for it.
    router.subscribe_shared("i", "x", session(0, 1), PLAIN);
    assert!(router.pick(group, &ticket).is_none());
    router.unsubscribe_shared("i", "x", session(0, 1));
    assert_eq!(router.counts(), Router::new(RouterOptions::default()).counts());
}

#[test]
fn shared_and_plain_subscriptions_of_one_filter_live_side_by_side() {
    let router = router();
    router.subscribe("a/+", session(0, 1), PLAIN);
    router.subscribe_shared("g", "a/+", session(0, 1), PLAIN);
    router.subscribe_shared("$queue", "a/+", session(0, 2), PLAIN);
    let out = matches(&router, "a/b");
    assert_eq!((out.few.len(), out.groups.len()), (1, 2));
    router.unsubscribe("a/+", session(0, 1));
    let out = matches(&router, "a/b");
    assert_eq!((out.few.len(), out.groups.len()), (0, 2));
}

#[test]
fn a_filter_of_32767_levels_is_inserted_matched_and_removed() {
    let router = router();
    for filter in ["+/".repeat(32_767) + "#", "/".repeat(65_535), "a/".repeat(32_766) + "+"] {
        let id = router.subscribe(&filter, session(0, 1), PLAIN).id;
        let topic = filter.replace(['+', '#'], "a");
        assert_eq!(matches(&router, &topic).few.len(), 1);
        let mut text = String::new();
        router.filter_text(id, &mut text);
        assert_eq!(text, filter);
        router.remove(id, session(0, 1));
    }
    assert_eq!(router.counts(), Router::new(RouterOptions::default()).counts());
    router.subscribe(&("+/".repeat(32_767) + "+"), session(0, 1), PLAIN);
    drop(router);
}

#[test]
fn a_match_stops_at_its_budget_and_says_so() {
    let router = Router::new(RouterOptions { visits_max: 500, ..RouterOptions::default() });
    // All filters of {a,+} on 10 levels: each topic of a's visits 2^11 nodes.
    for bits in 0..1024u32 {
        let levels: Vec<&str> = (0..10).map(|level| if bits & (1 << level) == 0 { "a" } else { "+" }).collect();
        router.subscribe(&levels.join("/"), session(0, bits), PLAIN);
    }
    let out = matches(&router, &["a"; 10].join("/"));
    assert!(out.truncated);
    assert!(out.visited <= 1100);
    let out = matches(&router, &["b"; 10].join("/"));
    assert!(!out.truncated);
    assert_eq!(out.few.len(), 1);
}
