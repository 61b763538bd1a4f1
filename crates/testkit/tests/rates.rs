//! Rates per client and the longest time of a connection: terms of a listener that hold while it is connected.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_shard::{Profile, Rate, Rates};
use breakwater_testkit::{Broker, Client, out_publish};

const OTHER: u16 = 2;
const SECOND: Duration = Duration::from_secs(1);

fn rate(per_second: u64, burst: u64) -> Rate {
    Rate { per_second, burst }
}

fn with_rates(rates: Rates) -> Broker {
    Broker::new().shards(2).profile(OTHER, |profile| profile.rates = rates)
}

fn subscriber(broker: &Broker, qos: QoS) -> Client {
    let mut subscriber = broker.client("subscriber").receive_maximum(1000).connect();
    subscriber.subscribe("#", qos);
    subscriber
}

#[test]
fn messages_beyond_the_rate_wait_in_the_publishers_socket_and_none_is_lost() {
    let broker = with_rates(Rates { messages_in: rate(10, 20), ..Rates::default() });
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut subscriber = subscriber(&broker, QoS::AtMostOnce);
        let mut publisher = broker.client("publisher").on(OTHER).keep_alive(2).connect();
        (0..100_u8).for_each(|number| _ = publisher.send_publish("t", qos, false, &[number]));
        publisher.send_packet(&Packet::PingReq);
        let mut seen = subscriber.payloads();
        assert_eq!(seen.len(), 20, "the burst");
        for second in 1..=8 {
            broker.advance(SECOND);
            seen.append(&mut subscriber.payloads());
            let fair = 20 + 10 * second;
            assert!((fair - 1..=fair).contains(&seen.len()), "{} after {second} s", seen.len());
        }
        broker.advance(SECOND / 5);
        seen.append(&mut subscriber.payloads());
        assert_eq!(seen, (0..100_u8).map(|number| vec![number]).collect::<Vec<_>>());
        // Its keep-alive of two seconds has not ended it: the silence was ours.
        publisher.next_of(PacketKind::PingResp);
        assert!(!publisher.is_closed());
        subscriber.disconnect();
        publisher.disconnect();
    }
    assert!(broker.counter(Metric::ReadersThrottled) > 0);
    assert_eq!(broker.counter(Metric::DroppedSlowConsumer), 0);
}

#[test]
fn bytes_beyond_the_rate_stay_in_the_publishers_socket() {
    let broker = with_rates(Rates { bytes_in: rate(1000, 2000), ..Rates::default() });
    let mut subscriber = subscriber(&broker, QoS::AtMostOnce);
    let mut publisher = broker.client("publisher").on(OTHER).keep_alive(1).connect();
    // 1,007 bytes each.
    (0..10).for_each(|_| _ = publisher.send_publish("t", QoS::AtMostOnce, false, &[7; 1001]));
    assert_eq!(subscriber.payloads().len(), 1);
    assert!(publisher.unread() >= 8000, "{}", publisher.unread());
    let mut seen = 1;
    for second in 1..=8 {
        broker.advance(SECOND);
        seen += subscriber.payloads().len();
        assert!((second..=second + 2).contains(&seen), "{seen} after {second} s");
    }
    broker.advance(SECOND);
    assert_eq!(seen + subscriber.payloads().len(), 10);
    assert!(!publisher.is_closed());
}

#[test]
fn a_client_that_keeps_to_its_rate_is_never_paused() {
    let rates = Rates { messages_in: rate(10, 10), bytes_in: rate(1000, 1000), ..Rates::default() };
    let broker = with_rates(rates);
    let mut subscriber = subscriber(&broker, QoS::AtMostOnce);
    let mut publisher = broker.client("publisher").on(OTHER).connect();
    for _ in 0..200 {
        broker.advance(SECOND / 9);
        publisher.publish("t", QoS::AtMostOnce, b"m");
        assert_eq!(subscriber.payloads().len(), 1);
    }
    assert_eq!(broker.counter(Metric::ReadersThrottled), 0);
}

#[test]
fn packets_in_pieces_pass_whatever_is_bounded() {
    let many = rate(1_000_000, 1_000_000);
    let free = Rates::default();
    for rates in [
        Rates { messages_in: many, ..free },
        Rates { bytes_in: many, ..free },
        Rates { messages_out: many, ..free },
        Rates { bytes_out: many, ..free },
        Rates { bytes_in: rate(50, 50), messages_in: rate(3, 3), ..free },
    ] {
        let broker = with_rates(rates);
        let mut subscriber = subscriber(&broker, QoS::AtMostOnce);
        let mut publisher = broker.client("publisher").on(OTHER).connect();
        let mut bytes = Vec::new();
        (0..5).for_each(|_| out_publish("t", QoS::AtMostOnce, false, 0, &[7; 10]).encode(Version::V5, &mut bytes));
        for byte in bytes {
            publisher.send(&[byte]);
            broker.step();
        }
        broker.advance(3 * SECOND);
        assert_eq!(subscriber.payloads(), vec![vec![7; 10]; 5], "{rates:?}");
    }
}

#[test]
fn a_paused_client_costs_no_busy_turns() {
    let broker = with_rates(Rates { messages_in: rate(1, 1), ..Rates::default() });
    let mut publisher = broker.client("publisher").on(OTHER).connect();
    (0..50).for_each(|_| _ = publisher.send_publish("t", QoS::AtMostOnce, false, b"m"));
    broker.step();
    let before = broker.counter(Metric::Turns);
    broker.advance(10 * SECOND);
    let turns = broker.counter(Metric::Turns) - before;
    assert!(turns < 120, "{turns} turns in ten seconds");
}

#[test]
fn over_its_rate_a_subscriber_misses_qos_0_and_gets_qos_1_later() {
    let broker = with_rates(Rates { messages_out: rate(10, 10), ..Rates::default() });
    let mut slow = broker.client("slow").on(OTHER).receive_maximum(1000).connect();
    slow.subscribe("zero", QoS::AtMostOnce);
    slow.subscribe("one", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    (0..30).for_each(|_| _ = publisher.publish("zero", QoS::AtMostOnce, b"0"));
    assert_eq!(slow.payloads().len(), 10);
    assert_eq!(broker.counter(Metric::DroppedSlowConsumer), 20);
    broker.advance(2 * SECOND);
    (0..50_u8).for_each(|number| _ = publisher.publish("one", QoS::AtLeastOnce, &[number]));
    let mut seen = slow.payloads();
    assert_eq!(seen.len(), 10);
    for second in 1..=4 {
        broker.advance(SECOND);
        seen.append(&mut slow.payloads());
        let fair = 10 + 10 * second;
        assert!((fair - 1..=fair).contains(&seen.len()), "{} after {second} s", seen.len());
    }
    broker.advance(SECOND / 5);
    seen.append(&mut slow.payloads());
    assert_eq!(seen, (0..50_u8).map(|number| vec![number]).collect::<Vec<_>>());
    slow.ping();
}

#[test]
fn what_was_begun_before_a_reconnect_is_resent_at_the_rate() {
    let broker = with_rates(Rates { messages_out: rate(5, 5), ..Rates::default() });
    let connecting = || broker.client("slow").on(OTHER).persistent().receive_maximum(1000);
    let mut slow = connecting().connect();
    slow.subscribe("t", QoS::AtLeastOnce);
    slow.disconnect();
    let mut publisher = broker.client("publisher").connect();
    (0..20_u8).for_each(|number| _ = publisher.publish("t", QoS::AtLeastOnce, &[number]));
    let mut slow = connecting().connect();
    (0..5).for_each(|_| _ = slow.next_of(PacketKind::Publish));
    slow.disconnect();
    let mut slow = connecting().connect();
    let mut seen = slow.payloads();
    assert_eq!(seen.len(), 5);
    for _ in 0..8 {
        broker.advance(SECOND / 2);
        seen.append(&mut slow.payloads());
    }
    assert_eq!(seen, (0..20_u8).map(|number| vec![number]).collect::<Vec<_>>());
}

#[test]
fn bytes_to_a_client_go_out_at_its_rate_and_only_about_a_seconds_worth_waits() {
    let broker = with_rates(Rates { bytes_out: rate(1000, 1000), ..Rates::default() });
    let mut slow = broker.client("slow").on(OTHER).receive_maximum(1000).keep_alive(3).connect();
    slow.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    broker.advance(SECOND);
    (0..20).for_each(|_| _ = publisher.publish("zero", QoS::AtMostOnce, &[0; 193]));
    let at_once = slow.waiting();
    assert_eq!(at_once, 1000, "the burst");
    assert!(broker.counter(Metric::DroppedSlowConsumer) >= 9, "{}", broker.counter(Metric::DroppedSlowConsumer));
    (0..20_u8).for_each(|_| _ = publisher.publish("one", QoS::AtLeastOnce, &[1; 190]));
    let mut received = slow.waiting();
    for second in 1..=3 {
        broker.advance(SECOND);
        slow.send_packet(&Packet::PingReq);
        broker.step();
        received = slow.waiting();
        assert!((second * 1000 + 900..=second * 1000 + 1000).contains(&received), "{received} after {second} s");
    }
    assert!(received > 3000);
    broker.advance(4 * SECOND);
    let payloads: Vec<_> = slow.receive();
    assert!(payloads.len() > 20 * 190, "{}", payloads.len());
    assert!(!slow.is_closed());
    assert_eq!(broker.counter(Metric::WriteStalls), 0);
}

#[test]
fn answers_to_a_client_over_its_rate_do_not_pile_up() {
    let broker = with_rates(Rates { bytes_out: rate(100, 100), ..Rates::default() });
    let mut asks = broker.client("asks").on(OTHER).connect();
    for _ in 0..100 {
        asks.send(&[0xC0, 0].repeat(10_000));
        broker.step();
    }
    assert!(broker.held_bytes() < 200_000, "{}", broker.held_bytes());
    assert!(asks.unread() > 1_000_000, "{}", asks.unread());
    let before = asks.waiting();
    broker.advance(10 * SECOND);
    let sent = asks.waiting() - before;
    assert!((900..=1100).contains(&sent), "{sent} bytes in ten seconds");
}

#[test]
fn retained_messages_come_at_the_rate_and_all_of_them() {
    let broker = with_rates(Rates { messages_out: rate(20, 20), ..Rates::default() });
    let mut publisher = broker.client("publisher").connect();
    for number in 0..100 {
        publisher.publish_retained(&format!("kept/{number}"), QoS::AtLeastOnce, b"k");
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut slow = broker.client("slow").on(OTHER).receive_maximum(1000).connect();
        slow.subscribe("kept/#", qos);
        let mut seen = slow.payloads().len();
        assert_eq!(seen, 20);
        let before = broker.counter(Metric::Turns);
        for _ in 0..9 {
            broker.advance(SECOND / 2);
            seen += slow.payloads().len();
        }
        assert_eq!(seen, 100);
        let turns = broker.counter(Metric::Turns) - before;
        assert!(turns < 300, "{turns} turns in 4.5 seconds");
        slow.disconnect();
    }
    assert_eq!(broker.counter(Metric::DroppedSlowConsumer), 0);
}

#[test]
fn new_rates_hold_at_once_for_who_is_connected() {
    let slow = Rates { messages_in: rate(1, 1), ..Rates::default() };
    let broker = with_rates(slow);
    let mut subscriber = subscriber(&broker, QoS::AtMostOnce);
    let mut publisher = broker.client("publisher").on(OTHER).connect();
    let send = |publisher: &mut Client| {
        (0..60).for_each(|_| _ = publisher.send_publish("t", QoS::AtMostOnce, false, b"m"));
    };
    send(&mut publisher);
    assert_eq!(subscriber.payloads().len(), 1);
    // None at all: the pause is over at once.
    broker.set_profile(OTHER, Profile::default());
    assert_eq!(subscriber.payloads().len(), 59);
    send(&mut publisher);
    assert_eq!(subscriber.payloads().len(), 60);
    broker.set_profile(OTHER, Profile { rates: slow, ..Profile::default() });
    broker.step();
    send(&mut publisher);
    assert_eq!(subscriber.payloads().len(), 1);
    // Faster: although its timer was set for the old rate.
    let faster = Rates { messages_in: rate(30, 30), ..Rates::default() };
    broker.set_profile(OTHER, Profile { rates: faster, ..Profile::default() });
    broker.advance(SECOND);
    assert!((28..=31).contains(&subscriber.payloads().len()));
}

fn with_lifetime(seconds: u64) -> Broker {
    Broker::new().shards(3).profile(OTHER, |profile| profile.lifetime_ms = seconds * 1000)
}

#[test]
fn connections_end_after_their_lifetime_and_not_all_at_once() {
    let broker = with_lifetime(1000);
    let connect = |index: u32| {
        let version = if index.is_multiple_of(2) { Version::V5 } else { Version::V311 };
        broker.client(&format!("c{index}")).version(version).on(OTHER).connect()
    };
    let mut clients: Vec<_> = (0..40).map(connect).collect();
    let mut stays = broker.client("stays").connect();
    broker.advance(899 * SECOND);
    assert_eq!(broker.connections_of(OTHER), 40);
    let mut most = 0;
    for _ in 0..20 {
        let before = broker.connections_of(OTHER);
        broker.advance(5 * SECOND + SECOND / 10);
        most = most.max(before - broker.connections_of(OTHER));
    }
    assert_eq!(broker.connections_of(OTHER), 0);
    assert!(most < 10, "{most} left within five seconds");
    for client in clients.iter_mut().filter(|client| client.version == Version::V5) {
        client.expect_disconnect(ReasonCode::MaximumConnectTime);
    }
    assert!(clients.iter().all(Client::is_closed));
    assert_eq!(broker.counter(Metric::LifetimesOver), 40);
    stays.ping();
}

#[test]
fn a_client_whose_time_is_over_leaves_its_will() {
    let broker = with_lifetime(60);
    let mut watcher = broker.client("watcher").connect();
    watcher.subscribe("will", QoS::AtMostOnce);
    let mut goes = broker.client("goes").on(OTHER).will("will", b"gone", QoS::AtMostOnce, false).connect();
    broker.advance(61 * SECOND);
    goes.expect_disconnect(ReasonCode::MaximumConnectTime);
    assert_eq!(watcher.payloads(), [b"gone"]);
}

#[test]
fn a_new_lifetime_holds_for_who_is_connected() {
    let broker = with_lifetime(10_000);
    let mut client = broker.client("client").on(OTHER).connect();
    broker.advance(500 * SECOND);
    broker.set_profile(OTHER, Profile::default());
    broker.advance(20_000 * SECOND);
    client.ping();
    broker.set_profile(OTHER, Profile { lifetime_ms: 100_000, ..Profile::default() });
    broker.advance(89 * SECOND);
    client.ping();
    // Made shorter than it has been there: it goes soon, though not in the same moment as all others.
    broker.set_profile(OTHER, Profile { lifetime_ms: 50_000, ..Profile::default() });
    broker.advance(6 * SECOND);
    client.expect_disconnect(ReasonCode::MaximumConnectTime);
}
