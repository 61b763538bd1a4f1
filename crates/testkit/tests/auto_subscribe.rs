//! Subscriptions that every client gets when it connects.

use std::sync::Arc;

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, Authorizer, Metric, Verdict};
use breakwater_proto::{PacketKind, QoS, ReasonCode, RetainHandling, SubscribeOptions, Version};
use breakwater_shard::{AutoSubscribe, AutoSubscription, Profile};
use breakwater_store::SimulatedDisk;
use breakwater_testkit::Broker;

const PLAIN: u16 = 9;

fn topics(topics: &[(&str, SubscribeOptions)]) -> Arc<AutoSubscribe> {
    let one =
        |(topic, options): &(&str, SubscribeOptions)| AutoSubscription { topic: (*topic).into(), options: *options };
    Arc::new(AutoSubscribe::new(topics.iter().map(one).collect()).expect("good topics"))
}

fn broker(given: &[(&str, SubscribeOptions)]) -> Broker {
    Broker::new().shards(2).profile(0, |profile| profile.auto_subscribe = topics(given))
}

fn qos(qos: QoS) -> SubscribeOptions {
    SubscribeOptions::new(qos)
}

#[test]
fn every_client_is_subscribed_when_it_connects() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let broker = broker(&[("to/%c/#", qos(QoS::AtLeastOnce)), ("user/%u/%h", qos(QoS::AtMostOnce))]);
        let named = |id| broker.client(id).version(version).set(|connect| connect.username = Some("u"));
        let mut one = named("one").connect();
        let mut two = named("two").connect();
        let mut plain = broker.client("plain").on(PLAIN).connect();
        plain.publish("to/one/x", QoS::ExactlyOnce, b"1");
        plain.publish("user/u/127.0.0.1", QoS::AtLeastOnce, b"2");
        let received = one.next_of(PacketKind::Publish);
        assert_eq!((received.publish().topic, received.publish().qos), ("to/one/x", QoS::AtLeastOnce));
        assert_eq!((one.payloads(), two.payloads()), (vec![b"2".to_vec()], vec![b"2".to_vec()]));
        assert_eq!(broker.router().counts().subscriptions, 4);
        assert!(plain.payloads().is_empty());
    }
}

#[test]
fn a_session_that_is_resumed_has_each_subscription_once() {
    let broker = broker(&[("t", qos(QoS::AtLeastOnce)), ("$share/g/s", qos(QoS::AtLeastOnce))]);
    let connecting = || broker.client("one").persistent();
    let mut one = connecting().connect();
    one.disconnect();
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.publish("t", QoS::AtLeastOnce, b"away");
    let mut one = connecting().connect();
    plain.publish("t", QoS::AtLeastOnce, b"here");
    plain.publish("s", QoS::AtLeastOnce, b"shared");
    assert_eq!(one.payloads(), [&b"away"[..], b"here", b"shared"]);
    let counts = broker.router().counts();
    assert_eq!((counts.subscriptions, counts.shared_subscriptions), (1, 1));
    // It can be ended as any other, until the client comes again.
    one.unsubscribe("t");
    plain.publish("t", QoS::AtLeastOnce, b"none");
    assert!(one.payloads().is_empty());
}

#[test]
fn a_session_that_outlasts_the_process_has_each_subscription_once() {
    let disk = SimulatedDisk::new();
    let given = [("t", qos(QoS::AtLeastOnce))];
    let connecting = |broker: &Broker| broker.client("one").persistent().connect();
    let first = broker(&given).on_disk(&disk);
    let mut one = connecting(&first);
    one.disconnect();
    first.shutdown();
    first.step();
    drop((one, first));
    let second = broker(&given).on_disk(&disk);
    assert_eq!(second.router().counts().subscriptions, 1);
    let mut one = connecting(&second);
    assert!(one.connack.as_ref().is_some_and(|connack| connack.connack().session_present));
    let mut plain = second.client("plain").on(PLAIN).connect();
    plain.publish("t", QoS::AtLeastOnce, b"m");
    assert_eq!(one.payloads(), [b"m"]);
    assert_eq!(second.router().counts().subscriptions, 1);
}

#[test]
fn retained_messages_follow_the_connack_as_the_retain_handling_says() {
    for (retain_handling, first, again) in
        [(RetainHandling::AtSubscribe, 1, 1), (RetainHandling::IfNew, 1, 0), (RetainHandling::Never, 0, 0)]
    {
        let broker = broker(&[("t", SubscribeOptions { retain_handling, ..qos(QoS::AtLeastOnce) })]);
        let mut plain = broker.client("plain").on(PLAIN).connect();
        plain.send_publish("t", QoS::AtMostOnce, true, b"kept");
        for wanted in [first, again] {
            let mut one = broker.client("one").persistent().connect();
            assert_eq!(one.payloads().len(), wanted, "{retain_handling:?}");
            one.disconnect();
        }
    }
}

#[test]
fn no_local_and_retain_as_published_are_as_in_subscribe() {
    let options = SubscribeOptions { no_local: true, retain_as_published: true, ..qos(QoS::AtMostOnce) };
    let broker = broker(&[("t", options)]);
    let mut one = broker.client("one").connect();
    let mut two = broker.client("two").connect();
    one.send_publish("t", QoS::AtMostOnce, true, b"m");
    assert!(two.next_of(PacketKind::Publish).publish().retain);
    assert!(one.payloads().is_empty());
}

#[test]
fn what_can_not_be_subscribed_is_counted_and_the_client_stays() {
    let broker = Broker::new().profile(0, |profile| {
        profile.auto_subscribe = topics(&[
            ("c/%c", qos(QoS::AtMostOnce)),
            ("u/%u", qos(QoS::AtMostOnce)),
            ("one/too/many", qos(QoS::AtMostOnce)),
            ("two/too/many", qos(QoS::AtMostOnce)),
        ]);
        Arc::make_mut(&mut profile.limits).subscriptions_max = 2;
    });
    for (id, refused) in [("one", 2), ("a/b", 2 + 2), ("+", 2 + 2 + 2)] {
        let mut client = broker.client(id).connect();
        client.ping();
        assert_eq!(broker.counter(Metric::AutoSubscriptionsRefused), refused, "{id}");
    }
}

/// Denies all there is.
struct No;

impl Authorizer for No {
    fn allows_everything(&self) -> bool {
        false
    }

    fn check(&self, _subject: &Subject<'_>, _action: Action<'_>) -> Verdict {
        Verdict::Deny(ReasonCode::NotAuthorized)
    }
}

#[test]
fn authorization_is_not_asked_about_what_the_operator_gives() {
    let broker = broker(&[("t", qos(QoS::AtMostOnce))]).authorizer(Arc::new(No));
    let mut one = broker.client("one").connect();
    assert_eq!(one.subscribe("t", QoS::AtMostOnce).suback().codes, [0x87]);
    assert_eq!(broker.router().counts().subscriptions, 1);
}

#[test]
fn a_mountpoint_stands_in_front() {
    let broker = Broker::new().profile(0, |profile| {
        profile.mountpoint = "site/".into();
        profile.auto_subscribe = topics(&[("t/#", qos(QoS::AtMostOnce))]);
    });
    let mut one = broker.client("one").connect();
    let mut plain = broker.client("plain").on(PLAIN).connect();
    plain.publish("t/1", QoS::AtMostOnce, b"no");
    plain.publish("site/t/1", QoS::AtMostOnce, b"m");
    assert_eq!(one.next_of(PacketKind::Publish).publish().topic, "t/1");
}

#[test]
fn topics_that_change_hold_for_the_next_connection() {
    let broker = Broker::new().profile(0, |_| {});
    let mut old = broker.client("old").connect();
    broker.set_profile(0, Profile { auto_subscribe: topics(&[("t", qos(QoS::AtMostOnce))]), ..Profile::default() });
    let mut new = broker.client("new").connect();
    old.publish("t", QoS::AtMostOnce, b"m");
    assert_eq!((old.payloads().len(), new.payloads().len()), (0, 1));
}
