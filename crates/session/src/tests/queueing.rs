//! What waits, and what gives way.

use breakwater_proto::{MessageView, QoS};

use super::pair::{Pair, view};
use crate::{Delivered, Delivery, DropReason, QueueFull};

fn offline(change: impl FnOnce(&mut crate::Limits)) -> Pair {
    let mut pair = Pair::v5().limits(change);
    pair.detach();
    pair
}

fn payloads(pair: &mut Pair) -> Vec<u8> {
    pair.connect();
    pair.got_publishes().iter().map(|sent| sent.payload[0]).collect()
}

#[test]
fn the_oldest_gives_way_when_the_queue_is_full_by_count() {
    let mut pair = offline(|limits| limits.queue_messages_max = 3);
    for payload in 1..=5 {
        assert_eq!(pair.deliver("t", &[payload], QoS::AtLeastOnce), Delivered::Queued);
    }
    assert_eq!((pair.session.queue_len(), pair.report.drops.queue_full), (3, 2));
    assert_eq!(payloads(&mut pair), [3, 4, 5]);
}

#[test]
fn the_newest_gives_way_where_that_is_the_policy() {
    let mut pair = offline(|limits| {
        limits.queue_messages_max = 3;
        limits.queue_full = QueueFull::DropNewest;
    });
    for payload in 1..=5 {
        let expect = if payload <= 3 { Delivered::Queued } else { Delivered::Dropped(DropReason::QueueFull) };
        assert_eq!(pair.deliver("t", &[payload], QoS::AtLeastOnce), expect);
    }
    assert_eq!(pair.report.drops.queue_full, 2);
    assert_eq!(payloads(&mut pair), [1, 2, 3]);
}

#[test]
fn a_queue_that_refuses_is_full_at_its_bounds_and_until_a_sixteenth_is_free() {
    let mut pair = offline(|limits| {
        (limits.queue_messages_max, limits.queue_full) = (32, QueueFull::Refuse);
    });
    for _ in 0..32 {
        assert!(!pair.session.queue_is_full(&pair.limits, false));
        assert_eq!(pair.deliver("t", &[1], QoS::AtLeastOnce), Delivered::Queued);
    }
    assert!(pair.session.queue_is_full(&pair.limits, false));
    assert_eq!(pair.deliver("t", &[2], QoS::AtLeastOnce), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!((pair.session.queue_tally().0, pair.report.drops.queue_full), (32, 1));
    pair.connect();
    assert!(!pair.session.queue_is_full(&pair.limits, true));
    let mut pair = offline(|limits| {
        (limits.queue_bytes_max, limits.queue_full) = (4000, QueueFull::Refuse);
    });
    for size in [3000, 9000] {
        assert_eq!(pair.deliver("t", &vec![1; size], QoS::AtLeastOnce), Delivered::Queued, "the last may be too long");
    }
    assert_eq!(pair.deliver("t", &[2], QoS::AtLeastOnce), Delivered::Dropped(DropReason::QueueFull));
}

#[test]
fn a_full_queue_stays_full_for_those_who_were_refused_while_little_is_free() {
    let mut pair = offline(|limits| {
        (limits.queue_messages_max, limits.queue_full, limits.inflight_max) = (32, QueueFull::Refuse, 1);
    });
    (0..32).for_each(|_| _ = pair.deliver("t", &[1], QoS::AtLeastOnce));
    pair.connect();
    let full = |pair: &Pair| [true, false].map(|was| pair.session.queue_is_full(&pair.limits, was));
    assert_eq!((pair.session.queue_len(), full(&pair)), (31, [true, false]));
    pair.puback(1);
    assert_eq!((pair.session.queue_len(), full(&pair)), (30, [true, false]));
    pair.puback(2);
    assert_eq!((pair.session.queue_len(), full(&pair)), (29, [false, false]));
}

#[test]
fn what_was_counted_of_a_queue_is_told_as_it_goes() {
    let mut pair = offline(|_| {});
    let one = pair.session.queue_tally();
    assert_eq!((one, pair.session.recount_queue()), ((0, 0), (0, 0)));
    (0..3).for_each(|_| _ = pair.deliver("t", &[1; 100], QoS::AtLeastOnce));
    let (messages, bytes) = pair.session.recount_queue();
    assert!(messages == 3 && bytes > 300, "{bytes}");
    pair.session.add_behind(2, 50);
    assert_eq!((pair.session.recount_queue(), pair.session.counted_queue().0), ((2, 50), 5));
    let all = pair.session.take_counted_queue();
    assert_eq!((pair.session.counted_queue(), pair.session.recount_queue().0), ((0, 0), 5));
    assert_eq!(pair.session.counted_queue(), all);
    pair.session.join();
    pair.connect();
    (1..=3).for_each(|id| _ = pair.puback(id));
    pair.session.trim();
    assert_eq!(pair.session.recount_queue(), (-5, -bytes - 50), "not forgotten before it was told");
    assert_eq!(pair.session.counted_queue(), (0, 0));
}

#[test]
fn bytes_bound_the_queue_too() {
    let mut pair = offline(|limits| limits.queue_bytes_max = 10_000);
    for payload in 0..100_u8 {
        pair.deliver("t", &[payload; 1000], QoS::AtLeastOnce);
        assert!(pair.session.queue_bytes() <= 10_000);
    }
    assert_eq!(pair.deliver("t", &[0; 20_000], QoS::AtLeastOnce), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(pair.session.queue_len(), 9, "a message too large for any queue pushes nothing out");
    assert_eq!(payloads(&mut pair), (91..100).collect::<Vec<u8>>());
    assert_eq!(pair.session.queue_bytes(), 0);
}

#[test]
fn a_message_that_has_waited_for_too_long_is_dropped_when_its_turn_comes() {
    let mut pair = offline(|limits| limits.queue_age_max_s = 10);
    let now = pair.now;
    for (second, payload) in [(0, 1), (0, 2), (5, 3), (9, 4)] {
        pair.now = now.plus_ms(second * 1000);
        pair.deliver("t", &[payload], QoS::AtLeastOnce);
    }
    pair.now = now.plus_ms(10_999);
    pair.deliver("t", &[5], QoS::AtLeastOnce);
    assert_eq!((pair.session.queue_len(), pair.report.drops.too_old), (5, 0));
    pair.now = now.plus_ms(11_000);
    pair.deliver("t", &[6], QoS::AtLeastOnce);
    assert_eq!((pair.session.queue_len(), pair.report.drops.too_old), (4, 2));
    pair.now = now.plus_ms(16_000);
    assert_eq!(payloads(&mut pair), [4, 5, 6]);
    assert_eq!((pair.report.drops.too_old, pair.report.drops.total()), (3, 3));
}

#[test]
fn a_queue_of_nothing_takes_nothing() {
    let mut pair = offline(|limits| limits.queue_messages_max = 0);
    assert_eq!(pair.deliver("t", b"", QoS::AtLeastOnce), Delivered::Dropped(DropReason::QueueFull));
}

#[test]
fn expired_messages_are_dropped_where_the_queue_is_used() {
    let mut pair = offline(|_| {});
    let now = pair.now;
    let delivery = Delivery { qos: QoS::AtLeastOnce, retain: false, subscription_ids: &[], ..Delivery::default() };
    for (payload, ms) in [([1], 1000), ([2], 3000), ([3], 2000)] {
        let message = MessageView { expires_at: Some(now.plus_ms(ms)), ..view("t", &payload) };
        pair.deliver_as(message, &delivery);
    }
    pair.now = now.plus_ms(1000);
    pair.deliver("t", &[4], QoS::AtLeastOnce);
    assert_eq!((pair.session.queue_len(), pair.report.drops.expired), (3, 1));
    pair.now = now.plus_ms(2000);
    assert_eq!(payloads(&mut pair), [2, 4]);
    assert_eq!(pair.report.drops.expired, 2);
}

#[test]
fn kept_qos_0_and_later_qos_0_stay_in_order() {
    let mut pair = Pair::v311().limits(|limits| limits.queue_qos0 = true);
    pair.detach();
    for payload in 1..=3 {
        pair.deliver("t", &[payload; 50], QoS::AtMostOnce);
    }
    pair.room = 60;
    assert!(pair.connect().more);
    assert_eq!(pair.deliver("t", &[4; 50], QoS::AtMostOnce), Delivered::Queued, "not past those that wait");
    pair.room = 1000;
    pair.pump();
    let order: Vec<u8> = pair.got_publishes().iter().map(|sent| sent.payload[0]).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn a_queue_that_was_long_gives_its_memory_back_when_empty() {
    let mut pair = Pair::v5().limits(|limits| limits.inflight_max = 1000);
    pair.detach();
    for _ in 0..1000 {
        pair.deliver("t", b"", QoS::AtLeastOnce);
    }
    pair.connect();
    (1..=1000).for_each(|id| {
        pair.puback(id);
    });
    pair.session.trim();
    assert_eq!(pair.session.heap_bytes(), "client".len());
}

#[test]
fn what_is_too_large_by_the_time_it_is_sent_is_dropped() {
    let mut pair = Pair::v5();
    pair.detach();
    for payload in [&[1; 10][..], &[2; 100], &[3; 10]] {
        pair.deliver("t", payload, QoS::AtLeastOnce);
    }
    pair.maximum_packet_size = Some(50);
    assert_eq!(payloads(&mut pair), [1, 3]);
    assert_eq!(pair.report.drops.too_large, 1);
}

#[test]
fn large_messages_wait_while_the_client_holds_many_bytes_unacknowledged() {
    let mut pair = Pair::v5().limits(|limits| limits.inflight_bytes_max = 1000);
    pair.connect();
    assert_eq!(pair.deliver("t", &[1; 5000], QoS::AtLeastOnce), Delivered::Sent, "one always goes");
    assert_eq!(pair.deliver("t", &[2; 600], QoS::AtLeastOnce), Delivered::Queued);
    assert_eq!(pair.deliver("t", &[3; 600], QoS::ExactlyOnce), Delivered::Queued);
    assert_eq!(pair.deliver("t", &[4; 600], QoS::AtMostOnce), Delivered::Sent, "QoS 0 is not under way");
    pair.puback(1);
    assert!(!pair.pump().more, "acknowledgements call for it, not room");
    let order: Vec<u8> = pair.got_publishes().iter().map(|sent| sent.payload[0]).collect();
    assert_eq!(order, [1, 4, 2, 3]);
}
