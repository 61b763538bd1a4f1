//! What may wait in all queues together, and in those of one user.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{QoS, ReasonCode};
use breakwater_session::QueueFull;
use breakwater_shard::{Options, QueueTotals};
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::{Broker, Client, Connecting};

const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
const SECOND: Duration = Duration::from_secs(1);

type Change = fn(&mut Options);

fn messages_of_all(options: &mut Options) {
    options.queue_totals.messages_max = 6;
}

fn bytes_of_all(options: &mut Options) {
    options.queue_totals.bytes_max = 6 * 1000;
}

fn messages_of_users(options: &mut Options) {
    options.queue_totals.user_messages_max = 6;
}

fn bytes_of_users(options: &mut Options) {
    options.queue_totals.user_bytes_max = 6 * 1000;
}

/// Each bound by itself, and what it is counted as.
const BOUNDS: [(Change, Metric); 4] = [
    (messages_of_all, Metric::DroppedAllFull),
    (bytes_of_all, Metric::DroppedAllFull),
    (messages_of_users, Metric::DroppedUserFull),
    (bytes_of_users, Metric::DroppedUserFull),
];

fn broker(full: QueueFull, change: Change) -> Broker {
    Broker::with(|options, _| {
        options.limits.queue_full = full;
        change(options);
    })
}

/// One shard and two, with a store and without.
fn brokers(full: QueueFull, change: Change) -> [Broker; 4] {
    [(1, false), (2, false), (1, true), (2, true)].map(|(shards, stores)| {
        let broker = broker(full, change).shards(shards);
        if stores { broker.on_disk(&SimulatedDisk::new()) } else { broker }
    })
}

/// A client of one user, whose session lasts.
fn of<'a>(broker: &Broker, id: &'a str, user: &'a str) -> Connecting<'a> {
    broker.client(id).persistent().set(|connect| connect.username = Some(user).filter(|user| !user.is_empty()))
}

/// Subscribed and gone.
fn absent(broker: &Broker, id: &str, user: &str, filter: &str) {
    let mut client = of(broker, id, user).connect();
    client.subscribe(filter, QoS::ExactlyOnce);
    client.disconnect();
}

/// What a client finds that comes back; all acknowledged.
fn found(broker: &Broker, id: &str, user: &str) -> Vec<u8> {
    let mut client = of(broker, id, user).connect();
    let found = client.payloads().iter().map(|payload| payload[0]).collect();
    client.disconnect();
    found
}

/// About a thousand bytes where they count: topic and record make up for what is less.
fn publish(publisher: &mut Client, topic: &str, qos: QoS, number: u8) -> bool {
    let reason = publisher.publish(topic, qos, &[number; 960]);
    assert!(matches!(reason, ReasonCode::Success | ReasonCode::QuotaExceeded), "{reason:?}");
    reason == ReasonCode::Success
}

#[test]
fn a_queue_gives_its_oldest_while_a_total_is_reached_and_an_empty_one_takes_nothing() {
    for (change, metric) in BOUNDS {
        for broker in brokers(QueueFull::DropOldest, change) {
            absent(&broker, "one", "u", "one");
            absent(&broker, "other", "u", "other");
            let mut publisher = broker.client("publisher").connect();
            for number in 0..8 {
                assert!(publish(&mut publisher, "one", QoS::AtLeastOnce, number));
            }
            assert_eq!((broker.counter(metric), broker.counter(Metric::DroppedQueueFull)), (2, 0));
            assert!(publish(&mut publisher, "other", QoS::AtLeastOnce, 9));
            assert_eq!((broker.counter(metric), broker.counter(Metric::DroppedQueueFull)), (3, 0));
            assert_eq!(found(&broker, "one", "u"), [2, 3, 4, 5, 6, 7], "{metric:?}");
            assert!(publish(&mut publisher, "other", QoS::AtLeastOnce, 10));
            assert_eq!(found(&broker, "other", "u"), [10], "there is room again");
        }
    }
}

#[test]
fn what_comes_is_dropped_while_a_total_is_reached_where_that_is_the_rule() {
    for (change, metric) in BOUNDS {
        for broker in brokers(QueueFull::DropNewest, change) {
            absent(&broker, "one", "u", "one");
            absent(&broker, "other", "u", "other");
            let mut publisher = broker.client("publisher").connect();
            for number in 0..8 {
                let topic = if number % 2 == 0 { "one" } else { "other" };
                assert!(publish(&mut publisher, topic, QoS::AtLeastOnce, number));
            }
            assert_eq!((broker.counter(metric), broker.counter(Metric::DroppedQueueFull)), (2, 0));
            assert_eq!(found(&broker, "one", "u"), [0, 2, 4]);
            assert_eq!(found(&broker, "other", "u"), [1, 3, 5]);
        }
    }
}

#[test]
fn publishers_are_refused_while_a_total_is_reached_where_that_is_the_rule() {
    for ((change, metric), qos) in BOUNDS.into_iter().flat_map(|bound| ACKNOWLEDGED.map(|qos| (bound, qos))) {
        for broker in brokers(QueueFull::Refuse, change) {
            absent(&broker, "one", "u", "one");
            absent(&broker, "other", "u", "other/#");
            let mut listener = broker.client("listener").connect();
            listener.subscribe("#", QoS::AtLeastOnce);
            let mut there = of(&broker, "there", "u").connect();
            there.subscribe("there", QoS::AtLeastOnce);
            let mut publisher = broker.client("publisher").connect();
            let mut old = broker.client("old").v311().connect();
            for number in 0..6 {
                assert!(publish(&mut publisher, "one", qos, number));
            }
            assert_eq!(listener.payloads().len(), 6);
            for topic in ["one", "other", "other/too"] {
                assert!(!publish(&mut publisher, topic, qos, 9), "{metric:?}");
                assert_eq!(broker.counter(metric), 0);
            }
            listener.expect_nothing();
            assert!(publish(&mut publisher, "there", qos, 9), "who takes what it gets is not in anybody's way");
            assert_eq!((there.payloads().len(), listener.payloads().len()), (1, 1));
            // One that is there and does not keep up may have one message more wait, and no second.
            let mut slow = of(&broker, "slow", "u").receive_maximum(1).connect();
            slow.subscribe("slow", QoS::AtLeastOnce);
            assert!([true; 2].map(|_| publish(&mut publisher, "slow", qos, 9)).iter().all(|taken| *taken));
            assert!(!publish(&mut publisher, "slow", qos, 9), "{metric:?}");
            assert_eq!((slow.payloads().len(), listener.payloads().len()), (2, 2));
            assert!(publish(&mut publisher, "slow", qos, 9));
            assert_eq!((slow.payloads().len(), listener.payloads().len()), (1, 1));
            assert!(publish(&mut old, "other", qos, 9), "it can't be told");
            assert_eq!((broker.counter(metric), broker.counter(Metric::DroppedUntold)), (1, 0));
            assert_eq!(listener.payloads().len(), 1);
            assert_eq!(found(&broker, "one", "u"), [0, 1, 2, 3, 4, 5]);
            assert!(publish(&mut publisher, "other", qos, 7));
            assert_eq!(found(&broker, "other", "u"), [7]);
        }
    }
}

#[test]
fn users_have_a_bound_each_and_clients_without_a_name_have_none() {
    for full in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse] {
        for broker in brokers(full, messages_of_users) {
            for (id, user) in [("u", "u"), ("v", "v"), ("nobody", "")] {
                absent(&broker, id, user, id);
            }
            let mut publisher = broker.client("publisher").connect();
            for (id, taken) in [("u", 6), ("v", 6), ("nobody", 10)] {
                for number in 0..10 {
                    publish(&mut publisher, id, QoS::AtLeastOnce, number);
                }
                assert_eq!(found(&broker, id, if taken == 6 { id } else { "" }).len(), taken, "{full:?} {id}");
            }
        }
    }
}

#[test]
fn a_session_takes_its_queue_along_when_it_comes_to_another_user() {
    for broker in brokers(QueueFull::DropNewest, messages_of_users) {
        absent(&broker, "one", "u", "one");
        absent(&broker, "other", "u", "other");
        let mut publisher = broker.client("publisher").connect();
        (0..4).for_each(|number| _ = publish(&mut publisher, "one", QoS::AtLeastOnce, number));
        // Its client takes nothing, and is another user's from here on.
        let mut one = of(&broker, "one", "v").receive_maximum(1).connect();
        one.reset();
        (0..8).for_each(|number| _ = publish(&mut publisher, "other", QoS::AtLeastOnce, number));
        assert_eq!(found(&broker, "other", "u").len(), 6);
        (4..10).for_each(|number| _ = publish(&mut publisher, "one", QoS::AtLeastOnce, number));
        assert!((6..=7).contains(&found(&broker, "one", "v").len()), "one may be under way");
    }
}

#[test]
fn totals_are_the_same_after_a_restart() {
    for (change, metric) in BOUNDS {
        for full in [QueueFull::DropNewest, QueueFull::Refuse] {
            let disk = SimulatedDisk::new();
            let before = broker(full, change).shards(2).on_disk(&disk);
            absent(&before, "one", "u", "one");
            absent(&before, "other", "u", "other");
            let mut publisher = before.client("publisher").connect();
            for number in 0..4 {
                assert!(publish(
                    &mut publisher,
                    if number % 2 == 0 { "one" } else { "other" },
                    QoS::AtLeastOnce,
                    number
                ));
            }
            let broker = broker(full, change).shards(2).on_disk(&disk.after(Crash::Nothing));
            let mut publisher = broker.client("publisher").connect();
            let taken = (4..14).filter(|number| publish(&mut publisher, "one", QoS::AtLeastOnce, *number)).count();
            let dropped = broker.counter(metric);
            assert!((7..=8).contains(&(dropped + 10 - taken as u64)), "{metric:?}: {taken} taken, {dropped} dropped");
            let (one, other) = (found(&broker, "one", "u"), found(&broker, "other", "u"));
            assert_eq!((&one[..3], &other[..]), (&[0, 2, 4][..], &[1, 3][..]));
            // All is read and gone, from memory and from the totals.
            for number in 0..6 {
                assert!(publish(&mut publisher, "one", QoS::AtLeastOnce, number));
            }
            assert_eq!((found(&broker, "one", "u").len(), broker.counter(metric)), (6, dropped));
        }
    }
}

#[test]
fn what_a_session_had_waiting_counts_no_longer_when_it_ends() {
    for (change, metric) in BOUNDS {
        for filter in ["one", "$share/g/one"] {
            for broker in brokers(QueueFull::DropNewest, change) {
                absent(&broker, "one", "u", filter);
                absent(&broker, "other", "u", "other");
                let mut publisher = broker.client("publisher").connect();
                (0..6).for_each(|number| _ = publish(&mut publisher, "one", QoS::AtLeastOnce, number));
                drop(broker.client("one").clean().connect());
                broker.advance(SECOND * 2);
                (0..8).for_each(|number| _ = publish(&mut publisher, "other", QoS::AtLeastOnce, number));
                assert_eq!(found(&broker, "other", "u").len(), 6, "{metric:?} {filter}");
            }
        }
    }
}

#[test]
fn qos_0_that_waits_counts_as_well() {
    let change = |options: &mut Options| {
        options.limits.queue_qos0 = true;
        options.queue_totals = QueueTotals { messages_max: 6, ..QueueTotals::default() };
    };
    for broker in brokers(QueueFull::DropNewest, change) {
        absent(&broker, "one", "u", "one");
        let mut publisher = broker.client("publisher").connect();
        for number in 0..8 {
            publisher.publish("one", QoS::AtMostOnce, &[number]);
        }
        assert_eq!((found(&broker, "one", "u").len(), broker.counter(Metric::DroppedAllFull)), (6, 2));
    }
}

#[test]
fn a_long_queue_counts_whole_though_most_of_it_is_on_the_disk() {
    let change = |options: &mut Options| {
        options.limits.queue_memory_messages = 2;
        options.queue_totals.messages_max = 100;
    };
    for full in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse] {
        let broker = broker(full, change).shards(2).on_disk(&SimulatedDisk::new());
        absent(&broker, "one", "u", "one");
        let mut publisher = broker.client("publisher").connect();
        (0..120).for_each(|number| _ = publish(&mut publisher, "one", QoS::AtLeastOnce, number));
        let counted = broker.counter(Metric::DroppedAllFull) + broker.counter(Metric::PublishRefused);
        assert_eq!(counted, 20, "{full:?}");
        let mut one = of(&broker, "one", "u").connect();
        let mut got = Vec::new();
        for _ in 0..200 {
            got.extend(one.payloads().iter().map(|payload| payload[0]));
            broker.advance(SECOND / 10);
        }
        let expected = if full == QueueFull::DropOldest { 20..120 } else { 0..100 };
        assert_eq!(got, expected.collect::<Vec<u8>>());
        one.disconnect();
        (0..120).for_each(|number| _ = publish(&mut publisher, "one", QoS::AtLeastOnce, number));
        let counted = broker.counter(Metric::DroppedAllFull) + broker.counter(Metric::PublishRefused);
        assert_eq!(counted, 40, "{full:?}: the total was right in between");
    }
}
