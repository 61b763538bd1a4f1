//! Replays where room is short, where input is odd, and where several things happen at once.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{PacketKind, QoS, ReasonCode, SubscribeOptions};
use breakwater_session::QueueFull;
use breakwater_shard::{Durability, Options, ReplayRule};
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::{Broker, Client};

const SECOND: Duration = Duration::from_secs(1);

fn rule(filter: &str) -> ReplayRule {
    ReplayRule { filter: filter.into(), max_age_s: 3600, max_messages: 1_000_000, max_bytes: 1 << 30 }
}

fn with(shards: u16, change: impl FnOnce(&mut Options)) -> Broker {
    let broker = Broker::with(|options, _| change(options)).shards(shards);
    broker.on_disk(&SimulatedDisk::new()).replay(&[rule("kept/#")])
}

/// The number that each payload begins with, of all that a client gets, answered.
fn take(broker: &Broker, client: &mut Client) -> Vec<usize> {
    let mut got = Vec::new();
    let mut silent = 0;
    while silent < 4 {
        let more = client.payloads();
        silent = if more.is_empty() { silent + 1 } else { 0 };
        got.extend(more.iter().map(|payload| {
            let text = std::str::from_utf8(&payload[..5]).expect("text");
            text.parse::<usize>().expect("a number")
        }));
        broker.advance(Duration::from_millis(300));
    }
    got
}

fn publish(client: &mut Client, topic: &str, range: std::ops::Range<usize>, bytes: usize) {
    for number in range {
        client.publish(topic, QoS::AtLeastOnce, format!("{number:0>5}{:1$}", "", bytes).as_bytes());
    }
}

fn all(range: std::ops::Range<usize>) -> Vec<usize> {
    range.collect()
}

fn dropped(broker: &Broker) -> u64 {
    [Metric::DroppedQueueFull, Metric::DroppedAllFull, Metric::DroppedUserFull, Metric::DroppedUntold]
        .iter()
        .map(|metric| broker.counter(*metric))
        .sum()
}

#[test]
fn a_replay_waits_for_room_where_queues_are_small_or_a_total_is_reached() {
    let small = |options: &mut Options| options.limits.queue_bytes_max = 8 * 1024;
    let totals = |options: &mut Options| options.queue_totals.messages_max = 6;
    for shards in [1, 2] {
        for change in [&small as &dyn Fn(&mut Options), &totals] {
            for full in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse] {
                for expiry in [0, 3600] {
                    let broker = with(shards, |options| {
                        options.limits.queue_full = full;
                        change(options);
                    });
                    let mut publisher = broker.client("publisher").connect();
                    publish(&mut publisher, "kept/t", 0..200, 1000);
                    // Somebody who is away has all that may wait.
                    let mut away = broker.client("away").expiry(3600).connect();
                    away.subscribe("away", QoS::AtLeastOnce);
                    away.disconnect();
                    publish(&mut publisher, "away", 0..6, 10);
                    broker.advance(SECOND);
                    let mut late = broker.client("late").expiry(expiry).receive_maximum(3).connect();
                    late.send_subscribe(&[("$replay/60/kept/t", SubscribeOptions::new(QoS::AtLeastOnce))], None);
                    assert_eq!(late.next_of(PacketKind::SubAck).suback().codes, [1]);
                    assert_eq!(take(&broker, &mut late), all(0..200), "{shards} {full:?} {expiry}");
                    assert_eq!(dropped(&broker), 0);
                }
            }
        }
    }
}

#[test]
fn what_a_rule_keeps_has_nobody_refused() {
    for shards in [1, 2] {
        let broker = with(shards, |options| {
            (options.limits.queue_bytes_max, options.limits.queue_full) = (4096, QueueFull::Refuse);
            options.queue_totals.messages_max = 3;
        });
        let mut publisher = broker.client("publisher").connect();
        let mut away = broker.client("away").expiry(3600).connect();
        away.subscribe("away", QoS::AtLeastOnce);
        away.disconnect();
        for _ in 0..3 {
            assert!(!publisher.publish("away", QoS::AtLeastOnce, b"m").is_error());
        }
        assert_eq!(publisher.publish("away", QoS::AtLeastOnce, b"m"), ReasonCode::QuotaExceeded);
        // More than a queue of a client may hold.
        for number in 0..5 {
            let payload = format!("{number:0>5}{:9000}", "");
            assert!(!publisher.publish("kept/t", QoS::AtLeastOnce, payload.as_bytes()).is_error(), "{number}");
        }
        broker.advance(2 * SECOND);
        assert_eq!(broker.kept_for_replay().0, 5);
    }
}

#[test]
fn a_moment_to_come_leaves_nothing_of_what_comes_out() {
    for shards in [1, 2] {
        for since in ["0", "99999999999"] {
            let broker = with(shards, |_| ());
            let mut publisher = broker.client("publisher").connect();
            publish(&mut publisher, "kept/t", 0..50, 10);
            broker.advance(SECOND);
            let mut late = broker.client("late").connect();
            late.subscribe(&format!("$replay/{since}/kept/t"), QoS::AtLeastOnce);
            publish(&mut publisher, "kept/t", 50..150, 10);
            assert_eq!(take(&broker, &mut late), all(50..150), "{shards} {since}");
        }
    }
}

#[test]
fn a_client_may_ask_for_several_filters_while_one_of_them_is_at_its_seam() {
    for shards in [1, 2] {
        for turns in 0..24 {
            let broker = with(shards, |_| ());
            let mut publisher = broker.client("publisher").connect();
            publish(&mut publisher, "kept/a", 0..20, 10);
            publish(&mut publisher, "kept/b", 20..40, 10);
            broker.advance(SECOND);
            let mut late = broker.client("late").connect();
            let qos = SubscribeOptions::new(QoS::AtLeastOnce);
            late.send_subscribe(&[("$replay/60/kept/a", qos)], None);
            for turn in 0..turns {
                broker.turn(turn % shards);
            }
            late.send_subscribe(&[("$replay/60/kept/b", qos)], None);
            for _ in 0..2 {
                assert_eq!(late.next_of(PacketKind::SubAck).suback().codes, [1], "{shards} {turns}");
            }
            publish(&mut publisher, "kept/a", 40..45, 10);
            publish(&mut publisher, "kept/b", 45..50, 10);
            let mut got = take(&broker, &mut late);
            got.sort_unstable();
            assert_eq!(got, all(0..50), "{shards} {turns}");
        }
    }
}

#[test]
fn replays_count_as_subscriptions_before_they_are_live() {
    let broker = with(1, |options| options.limits.subscriptions_max = 2);
    let mut publisher = broker.client("publisher").connect();
    publish(&mut publisher, "kept/t", 0..100, 10);
    broker.advance(SECOND);
    // Nothing is acknowledged, so that none of them is live.
    let mut late = broker.client("late").receive_maximum(1).connect();
    let mut ask = |filter| {
        late.send_subscribe(&[(filter, SubscribeOptions::new(QoS::AtLeastOnce))], None);
        late.next_of(PacketKind::SubAck).suback().codes[0]
    };
    let codes = ["$replay/60/kept/t", "one", "two", "$replay/60/kept/+", "$replay/9/kept/t", "one"].map(&mut ask);
    assert_eq!(codes, [1, 1, 0x97, 0x97, 1, 1]);
}

#[test]
fn who_follows_a_rule_that_is_taken_away_goes_on_live() {
    for shards in [1, 2] {
        let broker = with(shards, |_| ());
        let mut publisher = broker.client("publisher").connect();
        publish(&mut publisher, "kept/t", 0..500, 10);
        broker.advance(SECOND);
        let mut late = broker.client("late").receive_maximum(5).connect();
        late.subscribe("$replay/60/kept/t", QoS::AtLeastOnce);
        broker.set_replay_rules(&[]);
        broker.advance(3 * SECOND);
        let got = take(&broker, &mut late);
        assert!(got.len() < 200 && got == all(0..got.len()), "{got:?}");
        publish(&mut publisher, "kept/t", 500..505, 10);
        assert_eq!(take(&broker, &mut late), all(500..505));
    }
}

#[test]
fn what_is_kept_is_as_durable_as_the_zone_of_its_publisher_promises() {
    const FSYNC: u16 = 1;
    const MEMORY: u16 = 2;
    let on = |disk: &SimulatedDisk| {
        Broker::with(|options, _| options.durability = Durability::Os)
            .profile(FSYNC, |profile| (profile.zone, profile.durability) = ("fsync".into(), Durability::Fsync))
            .profile(MEMORY, |profile| (profile.zone, profile.durability) = ("memory".into(), Durability::Memory))
            .on_disk(disk)
            .replay(&[rule("kept/#")])
    };
    for (zone, crash) in [(FSYNC, Crash::Nothing), (MEMORY, Crash::Process)] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            broker.advance(SECOND);
            let mut publisher = broker.client("publisher").on(zone).connect();
            assert!(!publisher.publish("kept/t", qos, b"00007").is_error());
            let again = on(&disk.after(crash));
            let mut late = again.client("late").connect();
            late.subscribe("$replay/60/kept/t", QoS::ExactlyOnce);
            assert_eq!(take(&again, &mut late), [7], "{zone} {qos:?}");
        }
    }
}
