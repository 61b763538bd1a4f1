//! `$delayed/SECONDS/TOPIC`: messages that are published later.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, Authorizer, Metric, Verdict};
use breakwater_proto::{PacketKind, QoS, ReasonCode, Version};
use breakwater_shard::{Rewrite, RewriteRule};
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::{Broker, Client, out_publish};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const SECOND: Duration = Duration::from_secs(1);

fn on(disk: &SimulatedDisk) -> Broker {
    Broker::new().shards(3).on_disk(disk)
}

/// The broker after a power cut, so much later.
fn after(disk: &SimulatedDisk, seconds: u64) -> Broker {
    Broker::new().shards(2).later(Duration::from_secs(seconds)).on_disk(&disk.after(Crash::Nothing))
}

fn listening(broker: &Broker) -> Client {
    let mut listener = broker.client("listener").persistent().connect();
    listener.subscribe("#", QoS::ExactlyOnce);
    listener
}

#[test]
fn a_message_is_published_when_its_time_has_come() {
    for version in VERSIONS {
        let broker = Broker::new().shards(3);
        let mut listener = listening(&broker);
        let mut publisher = broker.client("publisher").version(version).connect();
        for qos in ALL_QOS {
            publisher.publish("$delayed/10/t/a", qos, b"later");
            publisher.publish("$delayed/5/t/b", qos, b"sooner");
            publisher.publish("t/c", qos, b"now");
            assert_eq!(listener.next_of(PacketKind::Publish).publish().topic, "t/c");
            broker.advance(SECOND * 5 - Duration::from_millis(1));
            listener.expect_nothing();
            broker.advance(Duration::from_millis(1));
            let sooner = listener.next_of(PacketKind::Publish);
            assert_eq!((sooner.publish().topic, sooner.publish().qos), ("t/b", qos));
            broker.advance(SECOND * 5);
            assert_eq!(listener.next_of(PacketKind::Publish).publish().payload, b"later");
        }
        assert_eq!(broker.counter(Metric::DelayedTaken), 6);
    }
}

#[test]
fn what_is_due_at_one_time_leaves_in_the_order_in_which_it_came() {
    let broker = Broker::new();
    let mut listener = listening(&broker);
    let mut publisher = broker.client("publisher").receive_maximum(2000).connect();
    for number in 0..600_u32 {
        publisher.send_publish("$delayed/5/t", QoS::AtMostOnce, false, &number.to_be_bytes());
    }
    publisher.ping();
    // More than one turn publishes.
    broker.advance(SECOND * 5);
    let numbers: Vec<u32> = listener
        .payloads()
        .iter()
        .map(|payload| u32::from_be_bytes(payload[..].try_into().expect("four bytes")))
        .collect();
    assert_eq!(numbers, (0..600).collect::<Vec<u32>>());
}

#[test]
fn retain_and_expiry_begin_when_it_is_published() {
    let broker = Broker::new();
    let mut publisher = broker.client("publisher").connect();
    publisher.send_publish("$delayed/5/kept", QoS::AtMostOnce, true, b"m");
    let mut expiring = out_publish("$delayed/100/brief", QoS::AtMostOnce, false, 0, b"m");
    expiring.expiry = Some(7);
    publisher.send_out(&expiring);
    publisher.ping();
    assert_eq!(broker.router().counts().retained, 0);
    broker.advance(SECOND * 5);
    assert_eq!(broker.router().counts().retained, 1);
    let mut listener = listening(&broker);
    assert!(listener.next_of(PacketKind::Publish).publish().retain);
    broker.advance(SECOND * 95);
    assert_eq!(listener.next_of(PacketKind::Publish).publish().expiry, Some(7));
}

#[test]
fn an_acknowledgement_waits_until_the_store_has_the_message() {
    for version in VERSIONS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let mut publisher = broker.client("publisher").version(version).connect();
            broker.halt_store(true);
            publisher.send_publish("$delayed/60/t", qos, false, b"m");
            publisher.expect_nothing();
            broker.halt_store(false);
            let kind = if qos == QoS::AtLeastOnce { PacketKind::PubAck } else { PacketKind::PubRec };
            publisher.next_of(kind);
            // What is acknowledged outlasts a power cut, and waits for the rest of its time.
            let again = after(&disk, 20);
            let mut listener = listening(&again);
            again.advance(SECOND * 39);
            listener.expect_nothing();
            again.advance(SECOND * 2);
            let received = listener.next_of(PacketKind::Publish);
            assert_eq!((received.publish().topic, received.publish().qos), ("t", qos));
        }
    }
}

#[test]
fn what_became_due_while_nobody_ran_is_published_at_the_start_to_sessions_that_wait() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    listening(&broker).disconnect();
    let mut publisher = broker.client("publisher").connect();
    publisher.publish("$delayed/60/t/1", QoS::AtLeastOnce, b"m");
    publisher.publish("$delayed/5/t/2", QoS::AtLeastOnce, b"m");
    broker.advance(SECOND * 6);
    // Published, and no longer in the store a little later.
    broker.advance(SECOND * 3);
    let again = after(&disk, 100);
    again.step();
    let mut listener = again.client("listener").persistent().connect();
    let topics = [(); 2].map(|()| listener.next_of(PacketKind::Publish).publish().topic.to_owned());
    assert_eq!(topics, ["t/2", "t/1"], "each once");
    listener.expect_nothing();
    drop((broker, publisher));
}

#[test]
fn there_are_bounds_and_those_beyond_are_refused() {
    let broker = Broker::with(|options, _| options.delayed_max = 2).shards(2);
    let mut publisher = broker.client("publisher").connect();
    for reason in [ReasonCode::Success, ReasonCode::Success, ReasonCode::QuotaExceeded] {
        assert_eq!(publisher.publish("$delayed/5/t", QoS::AtLeastOnce, b"m"), reason);
    }
    // One of QoS 0 is dropped.
    publisher.publish("$delayed/5/t", QoS::AtMostOnce, b"m");
    publisher.ping();
    assert_eq!(broker.counter(Metric::DelayedRefused), 2);
    broker.advance(SECOND * 5);
    assert_eq!(publisher.publish("$delayed/5/t", QoS::AtLeastOnce, b"m"), ReasonCode::Success);
    let broker = Broker::with(|options, _| options.delayed_bytes_max = 1000);
    let mut publisher = broker.client("publisher").connect();
    assert_eq!(publisher.publish("$delayed/5/t", QoS::AtLeastOnce, &[0; 900]), ReasonCode::QuotaExceeded);
    assert_eq!(publisher.publish("$delayed/5/t", QoS::AtLeastOnce, &[0; 500]), ReasonCode::Success);
}

#[test]
fn a_topic_that_names_no_time_is_not_valid() {
    let broker = Broker::new();
    let mut publisher = broker.client("publisher").connect();
    for topic in ["$delayed/x/t", "$delayed/5", "$delayed/4294968/t", "$delayed/-1/t"] {
        assert_eq!(publisher.publish(topic, QoS::AtLeastOnce, b"m"), ReasonCode::TopicNameInvalid, "{topic}");
    }
    publisher.send_publish("$delayed/x/t", QoS::AtMostOnce, false, b"m");
    publisher.expect_disconnect(ReasonCode::TopicNameInvalid);
    let (_, refused) = broker.client("will").will("$delayed/5/t", b"", QoS::AtMostOnce, false).attempt();
    assert_eq!(
        refused.expect("CONNACK").connack().reason,
        ReasonCode::TopicNameInvalid,
        "a will has a delay of its own"
    );
}

#[test]
fn topics_are_ordinary_ones_where_nothing_may_wait() {
    let broker = Broker::with(|options, _| options.delayed_max = 0);
    let mut client = broker.client("client").connect();
    client.subscribe("$delayed/#", QoS::AtMostOnce);
    client.publish("$delayed/5/t", QoS::AtMostOnce, b"m");
    assert_eq!(client.next_of(PacketKind::Publish).publish().topic, "$delayed/5/t");
}

#[test]
fn mountpoints_and_rules_go_together_with_it() {
    let broker = Broker::new().profile(1, |profile| {
        profile.mountpoint = "site/".into();
        let rule = RewriteRule {
            publish: true,
            subscribe: false,
            source: "slow/#".into(),
            expression: "^slow/(.*)$".into(),
            destination: "$delayed/5/quick/$1".into(),
        };
        profile.rewrite = Arc::new(Rewrite::new(vec![rule]).expect("a good rule"));
    });
    let mut listener = listening(&broker);
    let mut one = broker.client("one").on(1).connect();
    one.subscribe("#", QoS::AtMostOnce);
    one.publish("$delayed/5/t", QoS::AtMostOnce, b"m");
    one.publish("slow/t", QoS::AtMostOnce, b"m");
    one.ping();
    broker.advance(SECOND * 5);
    for topic in ["t", "quick/t"] {
        assert_eq!(listener.next_of(PacketKind::Publish).publish().topic, format!("site/{topic}"));
        assert_eq!(one.next_of(PacketKind::Publish).publish().topic, topic);
    }
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
fn authorization_is_asked_about_the_topic_that_it_will_have() {
    let nosy = Arc::new(Nosy(Mutex::default()));
    let broker = Broker::new().authorizer(nosy.clone());
    let mut publisher = broker.client("publisher").connect();
    assert_eq!(publisher.publish("$delayed/5/no", QoS::AtLeastOnce, b"m"), ReasonCode::NotAuthorized);
    assert_eq!(publisher.publish("$delayed/5/$SYS/x", QoS::AtLeastOnce, b"m"), ReasonCode::NotAuthorized);
    assert_eq!(publisher.publish("$delayed/5/yes", QoS::AtLeastOnce, b"m"), ReasonCode::Success);
    assert_eq!(*nosy.0.lock().expect("one thread"), ["no", "yes"]);
}
