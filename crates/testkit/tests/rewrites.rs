//! Topics that rules rewrite.

use std::sync::{Arc, Mutex};

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, Authorizer, Metric, Verdict};
use breakwater_proto::{PacketKind, QoS, ReasonCode, Version};
use breakwater_shard::{Profile, Rewrite, RewriteRule};
use breakwater_testkit::Broker;

fn rules(rules: &[(&str, &str, &str, &str)]) -> Arc<Rewrite> {
    let one = |(action, source, expression, destination): &(&str, &str, &str, &str)| RewriteRule {
        publish: *action != "subscribe",
        subscribe: *action != "publish",
        source: (*source).into(),
        expression: (*expression).into(),
        destination: (*destination).into(),
    };
    Arc::new(Rewrite::new(rules.iter().map(one).collect()).expect("good rules"))
}

fn broker(given: &[(&str, &str, &str, &str)]) -> Broker {
    Broker::new().profile(0, |profile| profile.rewrite = rules(given))
}

const PLAIN: u16 = 9;

#[test]
fn what_is_published_and_subscribed_is_rewritten() {
    for version in [Version::V311, Version::V5] {
        let broker = broker(&[("all", "x/#", "^x/y/(.+)$", "z/$1"), ("publish", "in/+", "^in/(.*)$", "out/%c/$1")]);
        let mut one = broker.client("one").version(version).connect();
        let mut plain = broker.client("plain").version(version).on(PLAIN).connect();
        plain.subscribe("#", QoS::ExactlyOnce);
        one.subscribe("x/y/#", QoS::ExactlyOnce);
        one.subscribe("in/a", QoS::AtMostOnce);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            one.publish("x/y/a", qos, b"m");
            one.publish("in/a", qos, b"m");
            one.publish("x/1", qos, b"m");
            for topic in ["z/a", "out/one/a", "x/1"] {
                assert_eq!(plain.next_of(PacketKind::Publish).publish().topic, topic);
            }
            assert_eq!(one.next_of(PacketKind::Publish).publish().topic, "z/a");
            assert!(one.payloads().is_empty(), "the rule for in/+ is one for what is published");
        }
        assert_eq!(broker.counter(Metric::TopicsRewritten), 7);
        one.unsubscribe("x/y/#");
        one.publish("x/y/a", QoS::AtLeastOnce, b"m");
        assert!(one.payloads().is_empty());
    }
}

#[test]
fn a_run_of_messages_is_rewritten_one_by_one() {
    let broker = broker(&[("publish", "#", "^(.*)$", "new/$1")]);
    let mut one = broker.client("one").connect();
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.subscribe("#", QoS::AtMostOnce);
    for _ in 0..5 {
        one.send_publish("t", QoS::AtMostOnce, false, b"m");
    }
    let topics: Vec<String> = (0..5).map(|_| plain.next_of(PacketKind::Publish).publish().topic.to_owned()).collect();
    assert_eq!(topics, ["new/t"; 5]);
}

#[test]
fn shared_subscriptions_are_rewritten_behind_their_group() {
    let broker = broker(&[("subscribe", "x/#", "^x/(.*)$", "y/$1")]);
    let mut one = broker.client("one").connect();
    one.subscribe("$share/x/x/a", QoS::AtMostOnce);
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.publish("y/a", QoS::AtLeastOnce, b"m");
    assert_eq!(one.payloads(), [b"m"]);
}

#[test]
fn what_no_name_can_be_made_of_stays_and_is_counted() {
    let broker =
        broker(&[("all", "x/#", "^x/(.*)$", "%u/$1"), ("all", "y", "y", "$SYS/y"), ("all", "w", "(w)", "a/#/$1")]);
    let mut one = broker.client("one").connect();
    for topic in ["x/a", "y", "w"] {
        // `$SYS` may be subscribed to from this machine.
        assert_eq!(one.subscribe(topic, QoS::AtMostOnce).suback().codes, [0]);
        let met = if topic == "y" { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
        assert_eq!(one.publish(topic, QoS::AtLeastOnce, b"m"), met, "{topic}");
    }
    assert_eq!(broker.counter(Metric::RewritesRefused), 5);
    let named = |name| broker.client("two").set(move |connect| connect.username = Some(name)).connect();
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.subscribe("#", QoS::AtMostOnce);
    for (name, topic) in [("u", "u/a"), ("u/v", "x/a"), ("+", "x/a")] {
        let mut two = named(name);
        two.publish("x/a", QoS::AtLeastOnce, b"m");
        assert_eq!(plain.next_of(PacketKind::Publish).publish().topic, topic);
    }
}

#[test]
fn wills_are_rewritten_too() {
    let broker = broker(&[("publish", "gone/#", "^gone/(.*)$", "left/$1/%c")]);
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.subscribe("#", QoS::AtMostOnce);
    let mut one = broker.client("one").will("gone/now", b"w", QoS::AtMostOnce, false).connect();
    one.reset();
    broker.step();
    assert_eq!(plain.next_of(PacketKind::Publish).publish().topic, "left/now/one");
}

#[test]
fn a_mountpoint_stands_in_front_of_what_is_rewritten() {
    let broker = Broker::new().profile(0, |profile| {
        profile.mountpoint = "site/".into();
        profile.rewrite = rules(&[("all", "x/#", "^x/(.*)$", "y/$1"), ("publish", "z", "z", "$x/z")]);
    });
    let mut one = broker.client("one").connect();
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.subscribe("#", QoS::AtMostOnce);
    one.subscribe("x/#", QoS::AtMostOnce);
    one.publish("x/a", QoS::AtMostOnce, b"m");
    one.publish("z", QoS::AtMostOnce, b"m");
    assert_eq!(one.next_of(PacketKind::Publish).publish().topic, "y/a");
    assert_eq!(plain.next_of(PacketKind::Publish).publish().topic, "site/y/a");
    assert_eq!(plain.next_of(PacketKind::Publish).publish().topic, "site/z", "below a prefix $x has no name");
}

/// Notes what it is asked about.
struct Nosy(Mutex<Vec<String>>);

impl Authorizer for Nosy {
    fn allows_everything(&self) -> bool {
        false
    }

    fn check(&self, _subject: &Subject<'_>, action: Action<'_>) -> Verdict {
        let (Action::Publish { topic: name, .. }
        | Action::Subscribe { filter: name, .. }
        | Action::Receive { topic: name }) = action;
        self.0.lock().expect("one thread").push(name.into());
        Verdict::Allow
    }
}

#[test]
fn authorization_is_asked_about_what_rules_have_made() {
    let nosy = Arc::new(Nosy(Mutex::default()));
    let broker = broker(&[("all", "x/#", "^x/(.*)$", "y/$1")]).authorizer(nosy.clone());
    let mut one = broker.client("one").will("x/will", b"", QoS::AtMostOnce, false).connect();
    one.subscribe("x/sub", QoS::AtMostOnce);
    one.publish("x/pub", QoS::AtLeastOnce, b"m");
    let asked = nosy.0.lock().expect("one thread").clone();
    assert!(asked.iter().all(|name| name.starts_with("y/")) && asked.len() >= 3, "{asked:?}");
    assert_eq!(broker.counter(Metric::TopicsRewritten), 3);
}

#[test]
fn new_rules_hold_for_those_who_are_connected() {
    let broker = Broker::new().profile(1, |_| {});
    let mut one = broker.client("one").on(1).connect();
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.subscribe("#", QoS::AtMostOnce);
    let mut topic = |broker: &Broker| {
        broker.step();
        one.publish("t", QoS::AtMostOnce, b"m");
        plain.next_of(PacketKind::Publish).publish().topic.to_owned()
    };
    assert_eq!(topic(&broker), "t");
    for (destination, wanted) in [("a", "a"), ("b", "b")] {
        broker.set_profile(1, Profile { rewrite: rules(&[("all", "#", ".*", destination)]), ..Profile::default() });
        broker.step();
        // Who is connected stays at the terms that it came with, but for this.
        assert_eq!(broker.counter(Metric::ClientsConnected), 2);
        assert_eq!(topic(&broker), wanted);
    }
    broker.set_profile(1, Profile::default());
    assert_eq!(topic(&broker), "t");
}
