//! Queues of offline and slow clients: what they keep, and what gives way.

use breakwater_contract::Metric;
use breakwater_proto::QoS;
use breakwater_session::QueueFull;

use crate::pair::{ACKNOWLEDGED, pairs_with};

#[test]
fn queue_of_an_offline_client_is_bounded_by_count() {
    for (rule, kept) in [(QueueFull::DropOldest, 5..10), (QueueFull::DropNewest, 0..5)] {
        for mut pair in pairs_with(|options| {
            options.limits.queue_messages_max = 5;
            options.limits.queue_full = rule;
        }) {
            pair.reader.subscribe("t", QoS::ExactlyOnce);
            pair.cut();
            for number in 0..10_u8 {
                pair.publisher.publish("t", ACKNOWLEDGED[usize::from(number % 2)], &[number]);
            }
            assert_eq!(pair.broker.counter(Metric::DroppedQueueFull), 5);
            pair.come_back();
            assert_eq!(pair.reader.payloads().concat(), kept.clone().collect::<Vec<u8>>());
            assert_eq!(pair.broker.held_bytes(), 0);
        }
    }
}

#[test]
fn queue_of_an_offline_client_is_bounded_by_bytes() {
    for (rule, kept) in [(QueueFull::DropOldest, 1..4), (QueueFull::DropNewest, 0..3)] {
        for mut pair in pairs_with(|options| {
            options.limits.queue_bytes_max = 3500;
            options.limits.queue_full = rule;
        }) {
            pair.reader.subscribe("t", QoS::AtLeastOnce);
            pair.cut();
            for number in 0..4_u8 {
                pair.publisher.publish("t", QoS::AtLeastOnce, &[number; 1000]);
            }
            // What can never fit moves nobody out of its place.
            pair.publisher.publish("t", QoS::AtLeastOnce, &[9; 4000]);
            assert!((3000..=3500).contains(&pair.broker.held_bytes()));
            assert_eq!(pair.broker.counter(Metric::DroppedQueueFull), 2);
            pair.come_back();
            let got: Vec<u8> = pair.reader.payloads().iter().map(|payload| payload[0]).collect();
            assert_eq!(got, kept.clone().collect::<Vec<u8>>());
        }
    }
}

#[test]
fn qos_0_is_kept_for_an_offline_client_only_if_so_configured() {
    for keep in [false, true] {
        for mut pair in pairs_with(|options| options.limits.queue_qos0 = keep) {
            pair.reader.subscribe("t", QoS::ExactlyOnce);
            pair.cut();
            for (number, qos) in [(0_u8, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::AtMostOnce)] {
                pair.publisher.publish("t", qos, &[number]);
            }
            pair.come_back();
            let expected: &[u8] = if keep { &[0, 1, 2] } else { &[1] };
            assert_eq!(pair.reader.payloads().concat(), expected);
            assert_eq!(pair.broker.counter(Metric::DroppedOffline), if keep { 0 } else { 2 });
        }
    }
}

#[test]
fn queue_of_a_slow_client_is_bounded_and_nobody_else_notices() {
    for mut pair in pairs_with(|options| {
        options.limits.queue_messages_max = 50;
        options.out_buffer_bytes = 8 * 1024;
        options.limits.inflight_max = 1000;
    }) {
        let mut quick = pair.broker.client("quick").version(pair.version).connect();
        quick.subscribe("t", QoS::AtLeastOnce);
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.reader.stop_reading();
        for number in 0..200_u8 {
            pair.publisher.publish("t", QoS::AtLeastOnce, &[number; 500]);
        }
        let firsts = |payloads: Vec<Vec<u8>>| payloads.iter().map(|payload| payload[0]).collect::<Vec<u8>>();
        assert_eq!(firsts(quick.payloads()), (0..200).collect::<Vec<_>>());
        assert!(pair.broker.counter(Metric::DroppedQueueFull) > 100);
        pair.reader.resume_reading();
        let got = firsts(pair.reader.payloads());
        // What was in the buffer, then the last 50.
        assert!(got.is_sorted() && (51..=75).contains(&got.len()), "{got:?}");
        assert_eq!(got[got.len() - 50..], (150..200).collect::<Vec<_>>());
        assert_eq!(pair.broker.held_bytes(), 0);
    }
}
