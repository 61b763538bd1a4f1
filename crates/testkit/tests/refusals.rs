//! `queue.when_full = "refuse"`: a publisher is told that a queue is full, and nobody has got a copy of what was refused.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{PacketKind, QoS, ReasonCode, Version};
use breakwater_session::QueueFull;
use breakwater_shard::Options;
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::{Broker, Client};

const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
const SECOND: Duration = Duration::from_secs(1);
const FULL: u32 = 5;

fn terms(options: &mut Options) {
    (options.limits.queue_messages_max, options.limits.queue_full) = (FULL, QueueFull::Refuse);
}

fn refusing(change: impl FnOnce(&mut Options)) -> Broker {
    Broker::with(|options, _| {
        terms(options);
        change(options);
    })
}

/// One shard and two, with a store and without: what each of them is like does not matter to anybody outside.
fn brokers() -> impl Iterator<Item = (Broker, Option<SimulatedDisk>)> {
    [1, 2].into_iter().flat_map(|shards| {
        let disk = SimulatedDisk::new();
        let without = refusing(|_| {}).shards(shards);
        [(without, None), (refusing(|_| {}).shards(shards).on_disk(&disk), Some(disk))]
    })
}

/// A client whose session lasts, subscribed and gone.
fn absent(broker: &Broker, id: &str, filter: &str) {
    let mut client = broker.client(id).persistent().connect();
    client.subscribe(filter, QoS::ExactlyOnce);
    client.disconnect();
}

fn listener(broker: &Broker, id: &str) -> Client {
    let mut client = broker.client(id).connect();
    client.subscribe("#", QoS::ExactlyOnce);
    client
}

/// What a client finds that comes back; all acknowledged.
fn found(broker: &Broker, id: &str) -> Vec<Vec<u8>> {
    let mut client = broker.client(id).persistent().connect();
    let found = client.payloads();
    client.disconnect();
    found
}

fn numbers(range: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    range.map(|number| vec![number]).collect()
}

fn fill(publisher: &mut Client, topic: &str, qos: QoS) {
    for number in 0..FULL as u8 {
        assert_eq!(publisher.publish(topic, qos, &[number]), ReasonCode::Success);
    }
}

#[test]
fn a_publish_that_meets_a_full_queue_is_refused_and_nobody_has_a_copy() {
    for (qos, lasts) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        for (broker, disk) in brokers() {
            let away = broker.id_at(0, "away");
            absent(&broker, &away, "t");
            // One listener on each shard, and another session that is away.
            let last = broker.shard_of("publisher").min(1);
            let mut listeners = [listener(&broker, "one"), listener(&broker, &broker.id_at(last, "other"))];
            absent(&broker, "too", "t");
            let publisher = broker.client("publisher");
            let mut publisher = if lasts { publisher.persistent() } else { publisher }.connect();
            fill(&mut publisher, "t", qos);
            listeners.iter_mut().for_each(|listener| assert_eq!(listener.payloads(), numbers(0..5)));
            for _ in 0..3 {
                assert_eq!(publisher.publish_retained("t", qos, b"refused"), ReasonCode::QuotaExceeded);
            }
            listeners.iter_mut().for_each(Client::expect_nothing);
            assert!(broker.router().retained("t", broker.now()).is_none(), "nor is it retained");
            assert_eq!(broker.counter(Metric::PublishRefused), 3);
            assert_eq!(publisher.publish("other", qos, b"m"), ReasonCode::Success, "others are none of its business");
            listeners.iter_mut().for_each(|listener| assert_eq!(listener.payloads(), [b"m"]));
            for id in ["too", &away] {
                assert_eq!(found(&broker, id), numbers(0..5), "{qos:?} {lasts} {}", disk.is_some());
            }
            // There is room again.
            assert_eq!(publisher.publish("t", qos, &[5]), ReasonCode::Success);
            for id in ["too", &away] {
                assert_eq!(found(&broker, id), numbers(5..6));
            }
            assert_eq!(broker.counter(Metric::DroppedQueueFull) + broker.counter(Metric::DroppedUntold), 0);
        }
    }
}

#[test]
fn a_queue_takes_messages_again_while_its_client_is_still_at_it() {
    for (broker, _) in brokers() {
        absent(&broker, "away", "t");
        let mut publisher = broker.client("publisher").connect();
        fill(&mut publisher, "t", QoS::AtLeastOnce);
        let mut away = broker.client("away").persistent().receive_maximum(1).connect();
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, &[5]), ReasonCode::Success, "one is under way");
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"refused"), ReasonCode::QuotaExceeded);
        assert_eq!(away.payloads(), numbers(0..6));
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, &[6]), ReasonCode::Success);
        assert_eq!(away.payloads(), numbers(6..7));
    }
}

#[test]
fn a_queue_is_full_after_a_restart_too() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = refusing(|_| {}).shards(2).on_disk(&disk);
        absent(&broker, "away", "t");
        fill(&mut broker.client("publisher").connect(), "t", qos);
        let disk = disk.after(Crash::Nothing);
        let broker = refusing(|_| {}).shards(2).on_disk(&disk);
        let mut publisher = broker.client("publisher").connect();
        assert_eq!(publisher.publish("t", qos, b"refused"), ReasonCode::QuotaExceeded);
        assert_eq!(found(&broker, "away"), numbers(0..5));
        assert_eq!(publisher.publish("t", qos, &[5]), ReasonCode::Success);
        assert_eq!(found(&broker, "away"), numbers(5..6));
    }
}

#[test]
fn a_session_that_ends_has_nothing_refused_any_more() {
    for (broker, _) in brokers() {
        absent(&broker, "away", "t");
        let mut publisher = broker.client("publisher").connect();
        fill(&mut publisher, "t", QoS::AtLeastOnce);
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"m"), ReasonCode::QuotaExceeded);
        drop(broker.client("away").clean().connect());
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"m"), ReasonCode::NoMatchingSubscribers);
    }
}

#[test]
fn a_session_that_ends_with_its_connection_has_nobody_refused() {
    for (broker, _) in brokers() {
        let mut slow = broker.client("slow").receive_maximum(1).connect();
        slow.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = broker.client("publisher").connect();
        for number in 0..10 {
            assert_eq!(publisher.publish("t", QoS::AtLeastOnce, &[number]), ReasonCode::Success);
        }
        assert_eq!(broker.counter(Metric::DroppedQueueFull), 4);
        assert_eq!(slow.payloads(), numbers(0..6));
    }
}

#[test]
fn who_cannot_be_told_is_acknowledged_and_the_full_session_misses_it() {
    for (qos, lasts) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        for (broker, _) in brokers() {
            absent(&broker, "away", "t");
            let mut listener = listener(&broker, "listener");
            let publisher = broker.client("publisher").v311();
            let mut publisher = if lasts { publisher.persistent() } else { publisher }.connect();
            for number in 0..FULL as u8 + 2 {
                assert_eq!(publisher.publish("t", qos, &[number]), ReasonCode::Success);
            }
            let mut gone = broker.client("gone").will("t", &[7], qos, false).connect();
            gone.reset();
            broker.client("v5").connect().publish("$delayed/1/t", qos, &[8]);
            broker.advance(SECOND * 2);
            assert_eq!(listener.payloads(), numbers(0..9));
            assert_eq!((broker.counter(Metric::DroppedUntold), broker.counter(Metric::PublishRefused)), (4, 0));
            assert_eq!(found(&broker, "away"), numbers(0..5), "{qos:?} {lasts}");
        }
    }
}

#[test]
fn qos_0_is_dropped_for_the_full_session_alone() {
    for shards in [1, 2] {
        let broker = refusing(|options| options.limits.queue_qos0 = true).shards(shards);
        absent(&broker, "away", "t");
        let mut listener = listener(&broker, "listener");
        let mut publisher = broker.client("publisher").connect();
        for number in 0..FULL as u8 + 3 {
            publisher.publish("t", QoS::AtMostOnce, &[number]);
        }
        broker.step();
        assert_eq!(listener.payloads(), numbers(0..8));
        assert_eq!(broker.counter(Metric::DroppedUntold), 3);
        assert_eq!(found(&broker, "away"), numbers(0..5));
    }
}

#[test]
fn what_is_under_way_when_a_queue_becomes_full_joins_it_all_the_same() {
    for (qos, lasts) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        for ((broker, _), shards) in brokers().zip([1, 1, 2, 2]) {
            let away = broker.id_at(shards - 1, "away");
            absent(&broker, &away, "t");
            let publisher = |number: usize| {
                let id = broker.id_at(0, &format!("publisher-{number}"));
                let publisher = broker.client(&id);
                if lasts { publisher.persistent() } else { publisher }.connect()
            };
            let mut publishers: Vec<Client> = (0..12).map(publisher).collect();
            broker.halt_store(true);
            for (number, publisher) in (0..).zip(&mut publishers) {
                publisher.send_publish("t", qos, false, &[number]);
            }
            broker.step();
            broker.halt_store(false);
            broker.step();
            let kind = if qos == QoS::AtLeastOnce { PacketKind::PubAck } else { PacketKind::PubRec };
            let mut taken = Vec::new();
            for (number, publisher) in (0..).zip(&mut publishers) {
                if publisher.next_of(kind).ack().reason == ReasonCode::Success {
                    taken.push(vec![number]);
                }
            }
            let mut got = found(&broker, &away);
            got.sort();
            assert!(got.len() > FULL as usize || shards == 1, "{}", got.len());
            assert_eq!(got, taken, "what was acknowledged, and nothing else: {qos:?} {lasts}");
            assert_eq!(broker.counter(Metric::DroppedQueueFull) + broker.counter(Metric::DroppedUntold), 0);
        }
    }
}

#[test]
fn a_message_for_a_group_is_refused_when_no_member_has_room() {
    for (broker, disk) in brokers() {
        let mut publisher = broker.client("publisher").connect();
        for id in ["one", "other"] {
            absent(&broker, id, "$share/g/t");
        }
        let mut taken = 0;
        while publisher.publish("t", QoS::AtLeastOnce, &[taken]) == ReasonCode::Success {
            taken += 1;
            assert!(taken < 100);
        }
        // The two members, and the group itself where it has a pool.
        let queues = if disk.is_some() { 3 } else { 2 };
        assert_eq!(usize::from(taken), queues * FULL as usize);
        let mut got = Vec::new();
        for _ in 0..20 {
            broker.advance(SECOND);
            got.extend(found(&broker, "one"));
            got.extend(found(&broker, "other"));
        }
        got.sort();
        assert_eq!(got, numbers(0..taken));
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"m"), ReasonCode::Success);
    }
}

#[test]
fn a_member_that_has_room_gets_what_the_others_have_none_for() {
    for (qos, lasts) in ACKNOWLEDGED.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        for (broker, _) in brokers() {
            let publisher = broker.client("publisher");
            let mut publisher = if lasts { publisher.persistent() } else { publisher }.connect();
            let mut busy = Vec::new();
            for number in 0..4 {
                let mut client = broker.client(&format!("busy-{number}")).persistent().receive_maximum(1).connect();
                let own = format!("own/{number}");
                client.subscribe(&own, QoS::AtLeastOnce);
                for number in 0..=FULL as u8 {
                    assert_eq!(publisher.publish(&own, QoS::AtLeastOnce, &[number]), ReasonCode::Success);
                }
                client.subscribe("$share/g/t", QoS::ExactlyOnce);
                busy.push(client);
            }
            let mut idle = broker.client("idle").persistent().connect();
            idle.subscribe("$share/g/t", QoS::ExactlyOnce);
            for number in 0..20 {
                assert_eq!(publisher.publish("t", qos, &[number]), ReasonCode::Success);
                assert_eq!(idle.payloads(), [[number]], "{qos:?} {lasts}");
            }
            for client in &mut busy {
                assert_eq!(client.payloads(), numbers(0..6));
            }
        }
    }
}

#[test]
fn new_terms_hold_for_a_session_when_its_client_connects() {
    for (broker, _) in brokers() {
        let broker = broker.profile(0, |profile| profile.limits = profile.limits.clone());
        let terms = |full: QueueFull| {
            let mut limits = breakwater_session::Limits::default();
            (limits.queue_messages_max, limits.queue_full) = (FULL, full);
            breakwater_shard::Profile { limits: limits.into(), ..Default::default() }
        };
        broker.set_profile(0, terms(QueueFull::DropNewest));
        absent(&broker, "away", "t");
        let mut publisher = broker.client("publisher").connect();
        fill(&mut publisher, "t", QoS::AtLeastOnce);
        broker.set_profile(0, terms(QueueFull::Refuse));
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"dropped"), ReasonCode::Success);
        let mut away = broker.client("away").persistent().receive_maximum(1).connect();
        let _ = publisher.publish("t", QoS::AtLeastOnce, &[5]);
        away.reset();
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"refused"), ReasonCode::QuotaExceeded);
        broker.set_profile(0, terms(QueueFull::DropNewest));
        let mut away = broker.client("away").persistent().connect();
        assert_eq!(away.payloads(), numbers(0..6));
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, b"m"), ReasonCode::Success);
    }
}

#[test]
fn a_3_x_client_is_never_refused() {
    for version in [Version::V31, Version::V311] {
        let broker = refusing(|_| {}).shards(2);
        absent(&broker, "away", "t");
        let mut publisher = broker.client("publisher").version(version).connect();
        for number in 0..20 {
            assert_eq!(publisher.publish("t", QoS::AtLeastOnce, &[number]), ReasonCode::Success);
        }
        assert!(!publisher.is_closed());
    }
}
