//! Clients of a listener with a mountpoint live below its prefix and don't see it.

use std::sync::{Arc, Mutex};

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, Authorizer, Verdict};
use breakwater_proto::{OutPublish, PacketKind, QoS, ReasonCode, SubscribeOptions, Version};
use breakwater_testkit::{Broker, Client, out_publish};

/// Listeners: 0 has none, `A` and `ALSO_A` have "a/", `B` has "b/".
const A: u16 = 1;
const B: u16 = 2;
const ALSO_A: u16 = 3;
/// "client/%c/user/%u/".
const OWN: u16 = 4;
/// "a", without a slash.
const BARE: u16 = 5;

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn broker() -> Broker {
    let mounts = [(A, "a/"), (B, "b/"), (ALSO_A, "a/"), (OWN, "client/%c/user/%u/"), (BARE, "a")];
    mounts.into_iter().fold(Broker::new().shards(3), |broker, (listener, mountpoint)| {
        broker.profile(listener, |profile| profile.mountpoint = mountpoint.into())
    })
}

/// A client that has subscribed to everything.
fn listening(broker: &Broker, id: &str, listener: u16, version: Version, qos: QoS) -> Client {
    let mut client = broker.client(id).version(version).on(listener).connect();
    client.subscribe("#", qos);
    client
}

/// Topics of all messages that are here.
fn topics(client: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| client.try_next()).map(|packet| packet.publish().topic.to_owned()).collect()
}

#[test]
fn each_client_knows_topics_by_the_names_of_its_own_listener() {
    for (publish, subscribe) in ALL_QOS.into_iter().flat_map(|publish| ALL_QOS.map(|subscribe| (publish, subscribe))) {
        for version in [Version::V31, Version::V311, Version::V5] {
            let broker = broker();
            let mut plain = listening(&broker, "plain", 0, version, subscribe);
            let mut a = listening(&broker, "a", A, version, subscribe);
            let mut b = listening(&broker, "b", B, version, subscribe);
            let mut from_a = broker.client("from a").on(A).connect();
            let mut from_plain = broker.client("from plain").connect();
            from_a.publish("t/1", publish, b"1");
            from_plain.publish("a/t/2", publish, b"2");
            from_plain.publish("b/t/3", publish, b"3");
            from_plain.publish("t/4", publish, b"4");
            assert_eq!(topics(&mut plain), ["a/t/1", "a/t/2", "b/t/3", "t/4"]);
            assert_eq!((topics(&mut a), topics(&mut b)), (vec!["t/1".into(), "t/2".into()], vec!["t/3".into()]));
        }
    }
}

#[test]
fn runs_of_messages_keep_their_order_and_their_count() {
    let broker = broker();
    let mut subscribers: Vec<_> = [(0, "plain"), (A, "a1"), (ALSO_A, "a2")]
        .into_iter()
        .map(|(listener, id)| (listener, listening(&broker, id, listener, Version::V311, QoS::AtMostOnce)))
        .collect();
    for (listener, topic) in [(0, "a/t"), (A, "t")] {
        let mut publisher = broker.client("publisher").v311().on(listener).connect();
        (0..200_u8).for_each(|number| _ = publisher.send_publish(topic, QoS::AtMostOnce, false, &[number]));
        broker.step();
        for (listener, subscriber) in &mut subscribers {
            for number in 0..200_u8 {
                let packet = subscriber.next_of(PacketKind::Publish);
                assert_eq!(packet.publish().topic, if *listener == 0 { "a/t" } else { "t" });
                assert_eq!(packet.publish().payload, [number]);
            }
        }
    }
}

#[test]
fn what_is_not_below_the_prefix_has_no_name_and_is_not_delivered() {
    let broker = broker();
    let mut a = listening(&broker, "a", A, Version::V5, QoS::AtLeastOnce);
    a.subscribe("+", QoS::AtLeastOnce);
    let mut plain = broker.client("plain").connect();
    // "a/#" and "a/+" match some of these in the router.
    for topic in ["a", "a/", "a/$x", "a/$x/y", "ab", "b/t"] {
        plain.publish(topic, QoS::AtLeastOnce, b"m");
        plain.publish_retained(topic, QoS::AtMostOnce, b"m");
    }
    a.subscribe("#", QoS::AtLeastOnce);
    assert!(topics(&mut a).is_empty());
    plain.publish("a//", QoS::AtLeastOnce, b"m");
    assert_eq!(topics(&mut a), ["/"]);
}

#[test]
fn topics_that_begin_with_a_dollar_do_not_exist_below_a_prefix() {
    let broker = broker();
    let mut a = broker.client("a").on(A).connect();
    for topic in ["$x", "$SYS/x", "$share/g/t", "$"] {
        assert_eq!(a.publish(topic, QoS::AtLeastOnce, b""), ReasonCode::NotAuthorized, "{topic}");
    }
    assert_eq!(a.subscribe("$x/#", QoS::AtMostOnce).suback().codes, [0x8F]);
    let mut plain = broker.client("plain").connect();
    assert_eq!(plain.publish("$x", QoS::AtLeastOnce, b""), ReasonCode::NoMatchingSubscribers);
    let (_, refused) = broker.client("w").on(A).will("$x", b"", QoS::AtMostOnce, false).attempt();
    assert_eq!(refused.expect("CONNACK").connack().reason, ReasonCode::NotAuthorized);
}

#[test]
fn the_brokers_own_topics_are_the_same_for_all() {
    let broker = broker();
    let mut a = broker.client("a").on(A).connect();
    a.subscribe("$SYS/#", QoS::AtMostOnce);
    broker.step();
    let seen = topics(&mut a);
    assert!(!seen.is_empty() && seen.iter().all(|topic| topic.starts_with("$SYS/")), "{seen:?}");
    assert_eq!(a.unsubscribe("$SYS/#").unsuback().codes, [0]);
}

#[test]
fn unsubscribing_finds_the_filter_by_the_clients_name() {
    let broker = broker();
    let mut a = broker.client("a").on(A).connect();
    for filter in ["t", "+/x", "$share/g/t"] {
        a.subscribe(filter, QoS::AtMostOnce);
        assert_eq!(a.unsubscribe(&format!("a/{filter}")).unsuback().codes, [0x11], "{filter}");
        assert_eq!(a.unsubscribe(filter).unsuback().codes, [0], "{filter}");
        assert_eq!(a.unsubscribe(filter).unsuback().codes, [0x11], "{filter}");
    }
    let mut plain = broker.client("plain").connect();
    assert_eq!(plain.publish("a/t", QoS::AtLeastOnce, b""), ReasonCode::NoMatchingSubscribers);
}

#[test]
fn groups_of_two_mountpoints_are_two_groups() {
    let broker = broker();
    let mut members: Vec<_> = [(A, "a1"), (A, "a2"), (B, "b1"), (0, "p1")]
        .into_iter()
        .map(|(listener, id)| {
            let mut member = broker.client(id).on(listener).connect();
            member.subscribe(if listener == 0 { "$share/g/a/t" } else { "$share/g/t" }, QoS::AtLeastOnce);
            member
        })
        .collect();
    let mut publisher = broker.client("publisher").on(A).connect();
    (0..30).for_each(|_| _ = publisher.publish("t", QoS::AtLeastOnce, b"m"));
    let seen: Vec<_> = members.iter_mut().map(topics).collect();
    assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 30);
    assert!(!seen[0].is_empty() && !seen[1].is_empty() && seen[2].is_empty() && !seen[3].is_empty());
    assert!(seen[0].iter().all(|topic| topic == "t") && seen[3].iter().all(|topic| topic == "a/t"));
}

#[test]
fn retained_messages_lie_below_the_prefix() {
    let broker = broker();
    let mut from_a = broker.client("from a").on(A).connect();
    from_a.publish_retained("kept/1", QoS::AtLeastOnce, b"1");
    let mut plain = broker.client("from plain").connect();
    plain.publish_retained("a/kept/2", QoS::AtLeastOnce, b"2");
    plain.publish_retained("kept/3", QoS::AtLeastOnce, b"3");
    for version in [Version::V311, Version::V5] {
        let mut a = listening(&broker, "a", ALSO_A, version, QoS::AtLeastOnce);
        let mut seen = topics(&mut a);
        seen.sort();
        assert_eq!(seen, ["kept/1", "kept/2"]);
    }
    assert!(topics(&mut listening(&broker, "b", B, Version::V5, QoS::AtLeastOnce)).is_empty());
    from_a.publish_retained("kept/2", QoS::AtMostOnce, b"");
    assert_eq!(topics(&mut listening(&broker, "a", A, Version::V5, QoS::AtMostOnce)), ["kept/1"]);
}

#[test]
fn a_will_is_published_below_the_prefix_of_its_client() {
    let broker = broker();
    let mut plain = listening(&broker, "plain", 0, Version::V5, QoS::AtMostOnce);
    let mut a = listening(&broker, "a", A, Version::V5, QoS::AtMostOnce);
    let mut dies = broker.client("dies").on(A).will("will", b"gone", QoS::AtMostOnce, true).connect();
    dies.reset();
    broker.step();
    assert_eq!((topics(&mut plain), topics(&mut a)), (vec!["a/will".into()], vec!["will".into()]));
    assert_eq!(topics(&mut listening(&broker, "later", A, Version::V5, QoS::AtMostOnce)), ["will"]);
}

#[test]
fn aliases_stand_for_the_names_that_the_client_knows() {
    let broker = broker();
    let mut plain = listening(&broker, "plain", 0, Version::V5, QoS::AtMostOnce);
    let mut a = broker.client("a").on(A).set(|connect| connect.topic_alias_maximum = 5).connect();
    a.subscribe("back/#", QoS::AtLeastOnce);
    let aliased = |topic| OutPublish { topic_alias: 2, ..out_publish(topic, QoS::AtMostOnce, false, 0, b"m") };
    a.send_out(&aliased("out/topic"));
    a.send_out(&aliased(""));
    a.send_out(&aliased("out/other"));
    a.send_out(&aliased(""));
    assert_eq!(topics(&mut plain), ["a/out/topic", "a/out/topic", "a/out/other", "a/out/other"]);
    let mut publisher = broker.client("publisher").connect();
    for qos in ALL_QOS {
        publisher.publish("a/back/again", qos, b"m");
    }
    let first = a.next_of(PacketKind::Publish);
    let alias = first.publish().topic_alias.expect("an alias");
    assert_eq!(first.publish().topic, "back/again");
    for _ in 0..2 {
        let packet = a.next_of(PacketKind::Publish);
        assert_eq!((packet.publish().topic, packet.publish().topic_alias), ("", Some(alias)));
    }
}

#[test]
fn what_waits_for_a_client_is_named_as_it_knows_it() {
    for version in [Version::V311, Version::V5] {
        let broker = broker();
        let connecting = |listener| broker.client("sleeper").version(version).persistent().on(listener);
        let mut sleeper = connecting(A).connect();
        sleeper.subscribe("t/#", QoS::AtLeastOnce);
        let mut publisher = broker.client("publisher").on(A).connect();
        publisher.publish("t/begun", QoS::AtLeastOnce, b"1");
        assert_eq!(sleeper.next_of(PacketKind::Publish).publish().topic, "t/begun");
        // Not acknowledged, since the network breaks.
        sleeper.reset();
        broker.step();
        publisher.publish("t/queued", QoS::AtLeastOnce, b"2");
        let mut sleeper = connecting(ALSO_A).connect();
        assert!(sleeper.connack.as_ref().is_some_and(|connack| connack.connack().session_present));
        let begun = sleeper.next_of(PacketKind::Publish);
        assert!(begun.publish().dup && begun.publish().topic == "t/begun");
        assert_eq!(sleeper.next_of(PacketKind::Publish).publish().topic, "t/queued");
    }
}

#[test]
fn below_another_prefix_a_client_begins_a_session_of_its_own() {
    let broker = broker();
    for listener in [0, B, BARE] {
        let connecting = |listener| broker.client("sleeper").persistent().on(listener);
        let mut sleeper = connecting(A).connect();
        sleeper.subscribe("t", QoS::AtLeastOnce);
        sleeper.disconnect();
        let mut publisher = broker.client("publisher").on(A).connect();
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"secret"), ReasonCode::Success);
        let mut other = connecting(listener).connect();
        assert!(other.connack.as_ref().is_some_and(|connack| !connack.connack().session_present));
        assert!(topics(&mut other).is_empty());
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b""), ReasonCode::NoMatchingSubscribers);
        other.disconnect();
        assert_eq!(broker.sessions(), 2);
        publisher.disconnect();
    }
}

#[test]
fn placeholders_keep_clients_apart_and_names_that_break_out_are_refused() {
    let broker = broker();
    let mut plain = listening(&broker, "plain", 0, Version::V5, QoS::AtMostOnce);
    let named = |id, username| broker.client(id).on(OWN).set(move |connect| connect.username = username);
    let mut one = named("one", Some("x")).connect();
    let mut two = named("two", Some("x")).connect();
    one.subscribe("#", QoS::AtMostOnce);
    two.subscribe("#", QoS::AtMostOnce);
    one.publish("t", QoS::AtMostOnce, b"m");
    assert_eq!(topics(&mut plain), ["client/one/user/x/t"]);
    assert_eq!((topics(&mut one), topics(&mut two).len()), (vec!["t".into()], 0));
    for (id, username, reason) in [
        ("one/user", Some("x"), ReasonCode::ClientIdentifierNotValid),
        ("+", Some("x"), ReasonCode::ClientIdentifierNotValid),
        ("one", Some("#"), ReasonCode::BadUserNameOrPassword),
        ("one", Some("x/y"), ReasonCode::BadUserNameOrPassword),
        ("one", None, ReasonCode::BadUserNameOrPassword),
    ] {
        let (client, refused) = named(id, username).attempt();
        assert_eq!(refused.expect("CONNACK").connack().reason, reason, "{id} {username:?}");
        assert!(client.is_closed());
    }
    // An identifier that the broker gives fits.
    let mut minted = named("", Some("x")).connect();
    minted.publish("t", QoS::AtMostOnce, b"m");
    assert_eq!(topics(&mut plain).len(), 1);
    // Nobody was taken over by those who were refused.
    one.ping();
}

#[test]
fn a_prefix_without_a_slash_has_no_wildcard_right_behind_it() {
    let broker = broker();
    let mut bare = broker.client("bare").on(BARE).connect();
    for filter in ["#", "+", "+/x", "$share/g/#"] {
        assert_eq!(bare.subscribe(filter, QoS::AtMostOnce).suback().codes, [0x8F], "{filter}");
    }
    bare.subscribe("t/+", QoS::AtMostOnce);
    let mut plain = broker.client("plain").connect();
    plain.publish("at/1", QoS::AtMostOnce, b"m");
    assert_eq!(topics(&mut bare), ["t/1"]);
}

#[test]
fn the_bounds_of_topics_count_the_whole() {
    let broker = Broker::new().profile(A, |profile| {
        profile.mountpoint = "prefix/".into();
        Arc::make_mut(&mut profile.limits).topic.bytes_max = 12;
        Arc::make_mut(&mut profile.limits).topic.levels_max = 3;
    });
    let mut a = broker.client("a").on(A).connect();
    assert_eq!(a.publish("12345", QoS::AtLeastOnce, b""), ReasonCode::NoMatchingSubscribers);
    for topic in ["123456", "1/2/3"] {
        assert_eq!(a.publish(topic, QoS::AtLeastOnce, b""), ReasonCode::TopicNameInvalid, "{topic}");
        assert_eq!(a.subscribe(topic, QoS::AtMostOnce).suback().codes, [0x8F], "{topic}");
        let (_, refused) = broker.client("w").on(A).will(topic, b"", QoS::AtMostOnce, false).attempt();
        assert_eq!(refused.expect("CONNACK").connack().reason, ReasonCode::TopicNameInvalid);
    }
    assert_eq!(a.subscribe("1/#", QoS::AtMostOnce).suback().codes, [0]);
    a.send_publish("123456", QoS::AtMostOnce, false, b"");
    a.expect_disconnect(ReasonCode::TopicNameInvalid);
}

#[test]
fn the_largest_packet_of_a_client_is_measured_without_the_prefix() {
    let broker = Broker::new().profile(A, |profile| profile.mountpoint = "a-rather-long-prefix/".into());
    let mut a = broker.client("a").on(A).set(|connect| connect.maximum_packet_size = Some(30)).connect();
    a.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").on(A).connect();
    // Two bytes of header, three of topic, two of identifier, one of properties.
    publisher.publish("t", QoS::AtLeastOnce, &[0; 22]);
    publisher.publish("t", QoS::AtLeastOnce, &[0; 23]);
    assert_eq!(a.payloads(), [vec![0; 22]]);
}

/// Notes what it is asked about, and denies "no".
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
        if name == "no" { Verdict::Deny(ReasonCode::NotAuthorized) } else { Verdict::Allow }
    }
}

#[test]
fn rules_speak_of_topics_as_their_clients_do() {
    let nosy = Arc::new(Nosy(Mutex::default()));
    let broker = broker().authorizer(nosy.clone());
    let mut a = broker.client("a").on(A).will("will", b"", QoS::AtMostOnce, false).connect();
    let filters = [("yes/#", SubscribeOptions::new(QoS::AtMostOnce)), ("no", SubscribeOptions::new(QoS::AtMostOnce))];
    assert_eq!(a.subscribe_with(&filters, None).suback().codes, [0, 0x87]);
    assert_eq!(a.publish("no", QoS::AtLeastOnce, b""), ReasonCode::NotAuthorized);
    assert_eq!(a.publish("yes", QoS::AtLeastOnce, b""), ReasonCode::Success);
    let asked = nosy.0.lock().expect("one thread").clone();
    assert!(asked.iter().all(|name| !name.starts_with("a/")), "{asked:?}");
    assert_eq!(asked.last().map(String::as_str), Some("yes"));
}

#[test]
fn a_mountpoint_that_changes_holds_for_the_next_connection() {
    let broker = broker();
    let mut plain = listening(&broker, "plain", 0, Version::V5, QoS::AtMostOnce);
    let mut old = broker.client("old").on(A).connect();
    broker.set_profile(A, breakwater_shard::Profile { mountpoint: "new/".into(), ..Default::default() });
    let mut new = broker.client("new").on(A).connect();
    old.publish("t", QoS::AtMostOnce, b"");
    new.publish("t", QoS::AtMostOnce, b"");
    assert_eq!(topics(&mut plain), ["a/t", "new/t"]);
}
