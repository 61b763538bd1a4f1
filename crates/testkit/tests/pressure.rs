//! Full mailboxes, full memory, slow consumers.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Packet, QoS, ReasonCode};
use breakwater_testkit::{Broker, Client};

const KIB: usize = 1024;

fn flood(client: &mut Client, topic: &str, count: u32, size: usize) {
    for number in 0..count {
        let mut payload = vec![0; size];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        client.send_publish(topic, QoS::AtMostOnce, false, &payload);
    }
}

fn numbers(client: &mut Client) -> Vec<u32> {
    client
        .payloads()
        .iter()
        .map(|payload| u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]))
        .collect()
}

#[test]
fn full_mailboxes_on_both_sides_pause_the_readers_that_fill_them_and_nobody_else() {
    let broker = Broker::with(|options, _| {
        options.mailbox_bytes = 64 * KIB as u32;
        options.out_buffer_bytes = 64 << 20;
    })
    .shards(2)
    .mailbox_places(2);
    let [a, b] = [broker.id_at(0, "a"), broker.id_at(1, "b")];
    let [mut a, mut b] = [broker.client(&a).connect(), broker.client(&b).connect()];
    a.subscribe("to/a", QoS::AtMostOnce);
    b.subscribe("to/b", QoS::AtMostOnce);
    let mut quiet = broker.client(&broker.id_at(0, "quiet")).connect();
    flood(&mut a, "to/b", 1000, 4 * KIB);
    flood(&mut b, "to/a", 1000, 4 * KIB);
    // Shard 1 sleeps through this: the way to it fills up.
    (0..20).for_each(|_| broker.turn(0));
    assert!(a.unread() > 0, "the publisher that fills the mailbox waits");
    quiet.send_packet(&Packet::PingReq);
    broker.turn(0);
    assert_eq!(quiet.waiting(), 2, "others are served");
    // And the other way round, with the first way still full.
    (0..20).for_each(|_| {
        broker.turn(1);
        broker.turn(0);
    });
    for _ in 0..1000 {
        broker.advance(Duration::from_millis(1));
    }
    assert_eq!(numbers(&mut b), (0..1000).collect::<Vec<_>>());
    assert_eq!(numbers(&mut a), (0..1000).collect::<Vec<_>>());
    assert!(broker.counter(Metric::ReadersPaused) > 0);
    // One read may be under way when the bound is noticed.
    assert!(broker.mail_bytes_most() < 64 * KIB + 2 * 64 * KIB, "{} bytes under way", broker.mail_bytes_most());
    assert_eq!(broker.mail_bytes(), 0);
}

#[test]
fn readers_pause_while_the_shard_holds_too_much_and_go_on_after() {
    let broker = Broker::with(|options, _| {
        options.memory_bytes = 128 * KIB as u64;
        options.out_buffer_bytes = 16 << 20;
        options.write_stall_ms = 3_600_000;
    });
    let mut reader = broker.client("reader").connect();
    reader.subscribe("t", QoS::AtMostOnce);
    reader.stop_reading();
    let mut publisher = broker.client("publisher").connect();
    flood(&mut publisher, "t", 1000, 4 * KIB);
    broker.advance(Duration::from_secs(1));
    assert!(publisher.unread() > 0, "the publisher is paused");
    let held = broker.held_bytes();
    assert!((160 * KIB as u64..256 * KIB as u64).contains(&held), "{held} bytes held");
    assert!(broker.counter(Metric::ReadersPaused) > 0);
    let late = broker.connect();
    assert!(late.is_closed(), "further above the bound new connections are refused");
    reader.resume_reading();
    broker.advance(Duration::from_secs(1));
    assert_eq!(numbers(&mut reader), (0..1000).collect::<Vec<_>>());
    assert_eq!(broker.held_bytes(), 0);
    broker.client("late").connect().ping();
}

#[test]
fn a_slow_consumer_loses_qos_0_and_keeps_qos_1() {
    let broker = Broker::with(|options, _| options.out_buffer_bytes = 64 * KIB as u32);
    let mut slow = broker.client("slow").connect();
    slow.subscribe("t/#", QoS::AtLeastOnce);
    let mut fast = broker.client("fast").connect();
    fast.subscribe("t/#", QoS::AtMostOnce);
    slow.stop_reading();
    let mut publisher = broker.client("publisher").connect();
    flood(&mut publisher, "t/0", 100, KIB);
    for number in 0..100_u32 {
        assert_eq!(publisher.publish("t/1", QoS::AtLeastOnce, &number.to_be_bytes()), ReasonCode::Success);
    }
    assert_eq!(numbers(&mut fast).len(), 200, "others get everything");
    let shed = broker.counter(Metric::DroppedSlowConsumer);
    assert!((30..=45).contains(&shed), "{shed} shed");
    slow.resume_reading();
    let got = numbers(&mut slow);
    assert_eq!(got.len(), 200 - shed as usize);
    assert_eq!(got[got.len() - 100..], (0..100).collect::<Vec<_>>());
}

#[test]
fn a_client_that_takes_no_bytes_is_disconnected_in_time() {
    let broker = Broker::new();
    let mut stuck = broker.client("stuck").connect();
    stuck.subscribe("t", QoS::AtMostOnce);
    stuck.stop_reading();
    let mut publisher = broker.client("publisher").connect();
    publisher.publish("t", QoS::AtMostOnce, b"x");
    broker.advance(Duration::from_millis(9_900));
    assert!(!stuck.is_closed());
    broker.advance(Duration::from_millis(300));
    assert!(stuck.is_closed());
    assert_eq!(broker.counter(Metric::WriteStalls), 1);
    let events = broker.events();
    let code = ReasonCode::QuotaExceeded.as_u8();
    let is_it = |event: &breakwater_testkit::Logged| matches!(event, breakwater_testkit::Logged::Disconnected { client, code: told, .. } if client == "stuck" && *told == code);
    assert!(events.iter().any(is_it), "{events:?}");
    assert_eq!(broker.held_bytes(), 0);
}

#[test]
fn a_client_that_takes_few_bytes_now_and_then_is_kept() {
    let broker = Broker::new();
    let mut slow = broker.client("slow").connect();
    slow.subscribe("t", QoS::AtMostOnce);
    slow.stop_reading();
    let mut publisher = broker.client("publisher").connect();
    publisher.publish("t", QoS::AtMostOnce, &[7; 1000]);
    for _ in 0..10 {
        broker.advance(Duration::from_secs(9));
        slow.window(10);
    }
    assert!(!slow.is_closed());
    slow.resume_reading();
    assert_eq!(slow.payloads(), [[7; 1000]]);
}

#[test]
fn a_client_that_asks_and_never_reads_is_ended_before_its_answers_pile_up() {
    let broker = Broker::with(|options, _| options.out_buffer_bytes = 4 * KIB as u32);
    let mut rude = broker.client("rude").connect();
    rude.stop_reading();
    for _ in 0..2 {
        // The first read finds out that the socket is full, the second that the client goes on asking.
        (0..10_000).for_each(|_| rude.send_packet(&Packet::PingReq));
        broker.step();
    }
    assert!(rude.is_closed());
    assert_eq!(broker.held_bytes(), 0);
}

#[test]
fn qos_0_kept_for_an_offline_session_is_not_overtaken_when_it_comes_back() {
    let broker = Broker::with(|options, _| {
        options.limits.queue_qos0 = true;
        options.out_buffer_bytes = 16 * KIB as u32;
    });
    let mut publisher = broker.client("publisher").connect();
    broker.client("sleeper").persistent().connect().subscribe("t", QoS::AtMostOnce);
    let mut old = broker.client("sleeper").persistent().connect();
    old.reset();
    flood(&mut publisher, "t", 100, KIB);
    broker.step();
    let mut sleeper = broker.client("sleeper").persistent().start();
    sleeper.window(20 * KIB);
    broker.step();
    publisher.send_publish("t", QoS::AtMostOnce, false, &1000_u32.to_be_bytes());
    broker.step();
    sleeper.resume_reading();
    assert_eq!(sleeper.next_packet().connack().reason, ReasonCode::Success);
    let mut expected: Vec<u32> = (0..100).collect();
    expected.push(1000);
    assert_eq!(numbers(&mut sleeper), expected);
}

#[test]
fn qos_1_that_found_no_room_in_its_turn_goes_out_when_there_is_room() {
    let broker = Broker::with(|options, _| options.out_buffer_bytes = 4 * KIB as u32);
    let mut reader = broker.client("reader").connect();
    reader.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher").connect();
    publisher.send_publish("t", QoS::AtMostOnce, false, &[0; 3500]);
    publisher.send_publish("t", QoS::AtLeastOnce, false, &[1; 2000]);
    broker.step();
    assert_eq!(reader.payloads().len(), 2);
}

#[test]
fn what_waits_for_absent_clients_keeps_nobody_from_connecting_or_publishing() {
    let broker = Broker::with(|options, _| options.memory_bytes = 128 * KIB as u64);
    let ids: Vec<String> = (0..8).map(|number| format!("sleeper{number}")).collect();
    for id in &ids {
        let mut sleeper = broker.client(id).persistent().connect();
        sleeper.subscribe("t", QoS::AtLeastOnce);
        sleeper.disconnect();
    }
    let mut publisher = broker.client("publisher").connect();
    for number in 0..100_u32 {
        let mut payload = vec![0; 4 * KIB];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        assert_eq!(publisher.publish("t", QoS::AtLeastOnce, &payload), ReasonCode::Success);
    }
    let held = broker.held_bytes();
    assert!((64 * KIB as u64..96 * KIB as u64).contains(&held), "{held} bytes wait");
    assert!(broker.counter(Metric::DroppedQueueFull) > 0);
    for id in &ids {
        let got = numbers(&mut broker.client(id).persistent().connect());
        assert_eq!(got, (0..got.len() as u32).collect::<Vec<_>>());
    }
    assert_eq!(broker.held_bytes(), 0);
}

#[test]
fn clients_that_publish_and_subscribe_do_not_hold_each_other_when_memory_is_full() {
    let broker = Broker::with(|options, _| {
        options.memory_bytes = 64 * KIB as u64;
        options.limits.inflight_max = 2;
    });
    let mut clients: Vec<Client> = (0..4).map(|number| broker.client(&format!("peer{number}")).connect()).collect();
    clients.iter_mut().for_each(|client| _ = client.subscribe("all", QoS::AtLeastOnce));
    for client in &mut clients {
        (0..40).for_each(|_| _ = client.send_publish("all", QoS::AtLeastOnce, false, &[0; 1024]));
    }
    let mut got = [0; 4];
    for _ in 0..2000 {
        for (client, got) in clients.iter_mut().zip(&mut got) {
            while let Some(packet) = client.try_next() {
                if packet.kind() == breakwater_proto::PacketKind::Publish {
                    let mut ack = Vec::new();
                    let id = packet.publish().packet_id;
                    breakwater_proto::encode_puback(client.version, id, ReasonCode::Success, &mut ack);
                    client.send(&ack);
                    *got += 1;
                }
            }
        }
        broker.advance(Duration::from_millis(1));
    }
    let dropped = broker.counter(Metric::DroppedQueueFull);
    assert_eq!(got.iter().sum::<u64>() + dropped, 4 * 4 * 40);
    assert_eq!(broker.held_bytes(), 0);
}
