//! `$exclusive/filter`: one session of the node has a filter for itself.

use std::time::Duration;

use breakwater_proto::{PacketKind, QoS, Version};
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::{Broker, Client};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

fn broker() -> Broker {
    Broker::with(|options, _| options.limits.exclusive_available = true).shards(3)
}

/// What SUBACK says of one filter.
fn subscribe(client: &mut Client, filter: &str) -> u8 {
    client.subscribe(filter, QoS::AtLeastOnce).suback().codes[0]
}

fn taken(version: Version) -> u8 {
    if version.is_v5() { 0x97 } else { 0x80 }
}

/// Clients whose sessions live at different shards.
fn pair(broker: &Broker, version: Version) -> (Client, Client) {
    let [one, two] = [0, 1].map(|shard| broker.id_at(shard, "client"));
    (broker.client(&one).version(version).connect(), broker.client(&two).version(version).connect())
}

#[test]
fn one_session_has_it_and_others_are_refused() {
    for version in VERSIONS {
        let broker = broker();
        let (mut one, mut two) = pair(&broker, version);
        assert_eq!(subscribe(&mut one, "$exclusive/t/+"), 1);
        assert_eq!(subscribe(&mut one, "$exclusive/t/+"), 1, "it has it already");
        assert_eq!(subscribe(&mut two, "$exclusive/t/+"), taken(version));
        assert_eq!(subscribe(&mut two, "$exclusive/t/1"), 1, "another filter");
        two.publish("t/2", QoS::AtLeastOnce, b"m");
        assert_eq!(one.next_of(PacketKind::Publish).publish().topic, "t/2");
        assert!(two.payloads().is_empty());
        // Who does not ask for it alone is not in the way.
        assert_eq!(subscribe(&mut two, "t/+"), 1);
        two.publish("t/2", QoS::AtLeastOnce, b"m");
        assert_eq!((one.payloads().len(), two.payloads().len()), (1, 1));
    }
}

#[test]
fn it_is_free_after_unsubscribe() {
    for version in VERSIONS {
        let broker = broker();
        let (mut one, mut two) = pair(&broker, version);
        subscribe(&mut one, "$exclusive/t");
        two.unsubscribe("$exclusive/t");
        assert_eq!(subscribe(&mut two, "$exclusive/t"), taken(version), "who does not have it can't let it go");
        one.unsubscribe("$exclusive/t");
        assert_eq!(subscribe(&mut two, "$exclusive/t"), 1);
        // By its filter alone, too: there is one subscription to it.
        two.unsubscribe("t");
        assert_eq!(subscribe(&mut one, "$exclusive/t"), 1);
        assert_eq!(broker.router().counts().subscriptions, 1);
    }
    let broker = broker();
    let (mut one, _) = pair(&broker, Version::V5);
    assert_eq!(subscribe(&mut one, "t"), 1);
    assert_eq!(one.unsubscribe("$exclusive/t").unsuback().codes, [0x11], "it has it, but not for itself");
}

#[test]
fn it_is_free_when_the_session_ends() {
    for version in VERSIONS {
        let broker = broker();
        let (mut one, mut two) = pair(&broker, version);
        subscribe(&mut one, "$exclusive/t");
        one.reset();
        broker.step();
        assert_eq!(subscribe(&mut two, "$exclusive/t"), 1, "a session without an expiry");
        let id = broker.id_at(2, "sleeper");
        let mut sleeper = broker.client(&id).version(version).persistent().connect();
        subscribe(&mut sleeper, "$exclusive/s");
        sleeper.disconnect();
        assert_eq!(subscribe(&mut two, "$exclusive/s"), taken(version), "it is away and will come back");
        let _anew = broker.client(&id).version(version).connect();
        assert_eq!(subscribe(&mut two, "$exclusive/s"), 1, "it has begun anew");
    }
}

#[test]
fn a_full_session_does_not_keep_what_it_could_not_get() {
    let broker = Broker::with(|options, _| {
        options.limits.exclusive_available = true;
        options.limits.subscriptions_max = 1;
    });
    let mut one = broker.client("one").connect();
    assert_eq!((subscribe(&mut one, "a"), subscribe(&mut one, "$exclusive/t")), (1, 0x97));
    let mut two = broker.client("two").connect();
    assert_eq!(subscribe(&mut two, "$exclusive/t"), 1);
}

#[test]
fn it_does_not_exist_until_it_is_switched_on() {
    let broker = Broker::new();
    let mut one = broker.client("one").connect();
    assert_eq!(subscribe(&mut one, "$exclusive/t"), 0x8F);
    let on = self::broker();
    let mut one = on.client("one").connect();
    for filter in
        ["$exclusive/", "$exclusive/a/#/b", "$exclusive/$share/g/t", "$share/g/$exclusive/t", "$exclusive/$exclusive/t"]
    {
        assert_eq!(subscribe(&mut one, filter), 0x8F, "{filter}");
    }
}

#[test]
fn mountpoints_are_apart() {
    let broker = broker().profile(1, |profile| profile.mountpoint = "one/".into());
    let mut one = broker.client("one").on(1).connect();
    let mut two = broker.client("two").connect();
    assert_eq!((subscribe(&mut one, "$exclusive/t"), subscribe(&mut two, "$exclusive/t")), (1, 1));
    assert_eq!(subscribe(&mut two, "$exclusive/one/t"), 0x97);
}

#[test]
fn it_outlasts_the_process_with_its_session() {
    for version in VERSIONS {
        let disk = SimulatedDisk::new();
        let first = broker().on_disk(&disk);
        let mut keeper = first.client("keeper").version(version).persistent().connect();
        subscribe(&mut keeper, "$exclusive/t");
        subscribe(&mut keeper, "$exclusive/gone");
        // Once shared with anybody, then for itself, and its options changed by its plain name.
        subscribe(&mut keeper, "u");
        subscribe(&mut keeper, "$exclusive/u");
        keeper.subscribe("u", QoS::AtMostOnce);
        keeper.unsubscribe("$exclusive/gone");
        let again = |disk: &SimulatedDisk| {
            let plan = Broker::with(|options, _| options.limits.exclusive_available = true).shards(2);
            plan.later(Duration::from_secs(1)).on_disk(&disk.after(Crash::Nothing))
        };
        let second = again(&disk);
        assert_eq!(second.router().counts().subscriptions, 2);
        let mut other = second.client("other").version(version).connect();
        for filter in ["$exclusive/t", "$exclusive/u"] {
            assert_eq!(subscribe(&mut other, filter), taken(version), "{filter}");
        }
        assert_eq!(subscribe(&mut other, "$exclusive/gone"), 1);
        let mut keeper = second.client("keeper").version(version).persistent().connect();
        other.publish("u", QoS::AtLeastOnce, b"m");
        assert_eq!(keeper.next_of(PacketKind::Publish).publish().qos, QoS::AtMostOnce);
        keeper.unsubscribe("$exclusive/t");
        assert_eq!(subscribe(&mut other, "$exclusive/t"), 1);
    }
}
