//! Broker to client: one message.

use breakwater_proto::{ForwardProperties, Instant, MessageView, QoS, ReasonCode, Version, write_user_property};

use super::pair::{Got, Pair, Sent, view};
use crate::{Delivered, Delivery, DropReason, Env, Shared};

#[test]
fn a_message_arrives_as_it_was_published() {
    for version in Version::ALL {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = Pair::new(version);
            let delivery = Delivery { qos, retain: true, subscription_ids: &[], ..Delivery::default() };
            assert_eq!(pair.deliver_as(view("a/b", b"hello"), &delivery), Delivered::Sent);
            let id = if qos == QoS::AtMostOnce { 0 } else { 1 };
            let len = pair.out.len();
            let (topic, payload) = ("a/b".into(), b"hello".into());
            let expect = Sent { id, qos, retain: true, topic, payload, len, ..Sent::default() };
            assert_eq!(pair.got(), [Got::Publish(expect)]);
        }
    }
}

#[test]
fn subscription_identifiers_and_properties_go_to_v5_clients() {
    let mut raw = Vec::new();
    write_user_property("b", "2", &mut raw);
    write_user_property("a", "1", &mut raw);
    let message = MessageView { properties: ForwardProperties::from_stripped(&raw), ..view("t", b"") };
    for (version, expect) in [(Version::V5, vec![7, 300]), (Version::V311, vec![])] {
        let mut pair = Pair::new(version);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let delivery = Delivery { qos, retain: false, subscription_ids: &[7, 300], ..Delivery::default() };
            pair.deliver_as(message, &delivery);
        }
        let written = pair.out.windows(raw.len()).filter(|bytes| *bytes == raw).count();
        assert_eq!(written, if version.is_v5() { 2 } else { 0 });
        let got = pair.got_publishes();
        assert!(got.iter().all(|sent| sent.ids == expect));
        // and again when it is sent from the session's own copy
        pair.reconnect();
        assert_eq!(pair.got_publishes()[0].ids, expect);
    }
}

#[test]
fn the_remaining_expiry_is_forwarded_rounded_up() {
    let mut pair = Pair::v5();
    let now = pair.now;
    for (ms, expect) in [(10_000, 10), (9_999, 10), (9_001, 10), (9_000, 9), (1, 1)] {
        let message = MessageView { expires_at: Some(now.plus_ms(ms)), ..view("t", b"") };
        let delivery = Delivery { qos: QoS::AtMostOnce, retain: false, subscription_ids: &[], ..Delivery::default() };
        pair.deliver_as(message, &delivery);
        assert_eq!(pair.got_publishes()[0].expiry, Some(expect));
    }
}

#[test]
fn an_expired_message_is_not_begun() {
    let mut pair = Pair::v5();
    let message = MessageView { expires_at: Some(pair.now), ..view("t", b"") };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let delivery = Delivery { qos, retain: false, subscription_ids: &[], ..Delivery::default() };
        assert_eq!(pair.deliver_as(message, &delivery), Delivered::Dropped(DropReason::Expired));
    }
    assert_eq!((pair.got(), pair.report.drops.expired), (vec![], 2));
}

#[test]
fn a_message_above_the_clients_maximum_counts_as_delivered() {
    let mut pair = Pair::v5().maximum_packet_size(30);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(pair.deliver("t", &[0; 40], qos), Delivered::Dropped(DropReason::TooLarge));
        assert_eq!(pair.deliver("t", &[0; 10], qos), Delivered::Sent);
    }
    assert_eq!(pair.got_publishes().iter().map(|sent| sent.id).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(pair.report.drops.too_large, 3);
}

#[test]
fn qos_0_is_dropped_without_room_and_qos_1_waits() {
    let mut pair = Pair::v311();
    pair.deliver("t", b"first into an empty buffer", QoS::AtMostOnce);
    pair.room = 10;
    assert_eq!(pair.deliver("t", &[0; 100], QoS::AtMostOnce), Delivered::Dropped(DropReason::SlowConsumer));
    assert_eq!(pair.deliver("t", &[0; 100], QoS::AtLeastOnce), Delivered::Queued);
    assert_eq!(pair.deliver("t", b"", QoS::AtLeastOnce), Delivered::Queued, "behind the one that waits");
    assert_eq!(pair.got().len(), 1);
    let pumped = pair.pump();
    assert_eq!((pumped.sent, pumped.more), (1, true), "one packet into an empty buffer, whatever the room");
    pair.room = 1000;
    assert_eq!(pair.pump().sent, 1);
    assert!(!pair.session.has_backlog());
    assert_eq!(pair.report.drops.slow_consumer, 1);
}

#[test]
fn room_goes_down_with_each_packet() {
    let mut pair = Pair::v311();
    let (mut scratch, mut encoded) = (Vec::new(), Vec::new());
    let mut env = Env {
        now: pair.now,
        limits: &pair.limits,
        out: &mut pair.out,
        room: 25,
        report: &mut pair.report,
        scratch: &mut scratch,
    };
    let mut shared = Shared::borrowed(view("t", b"12345"), &mut encoded);
    let delivery = Delivery { qos: QoS::AtMostOnce, retain: false, subscription_ids: &[], ..Delivery::default() };
    for expect in [15, 5] {
        pair.session.deliver(pair.link.as_mut(), &mut shared, &delivery, &mut env);
        assert_eq!(env.room, expect);
    }
    let third = pair.session.deliver(pair.link.as_mut(), &mut shared, &delivery, &mut env);
    assert_eq!(third, Delivered::Dropped(DropReason::SlowConsumer));
}

#[test]
fn many_receivers_get_the_same_bytes_each_with_its_own_id() {
    let mut encoded = Vec::new();
    let message = view("a/b", b"to all");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut shared = Shared::borrowed(message, &mut encoded);
        let mut receivers: Vec<Pair> = Version::ALL.into_iter().cycle().take(12).map(Pair::new).collect();
        for (skip, pair) in receivers.iter_mut().enumerate() {
            for _ in 0..skip {
                pair.deliver("other", b"", QoS::AtLeastOnce);
            }
            pair.out.clear();
            let (mut scratch, mut alone) = (Vec::new(), Vec::new());
            let delivery = Delivery { qos, retain: skip % 5 == 4, subscription_ids: &[], ..Delivery::default() };
            let mut env = Env {
                now: Instant(0),
                limits: &pair.limits,
                out: &mut pair.out,
                room: 1000,
                report: &mut pair.report,
                scratch: &mut scratch,
            };
            pair.session.deliver(pair.link.as_mut(), &mut shared, &delivery, &mut env);
            let used = 1000 - env.room;
            let sent = pair.out.clone();
            assert_eq!(used, sent.len());
            let id = if qos == QoS::AtMostOnce { 0 } else { skip as u16 + 1 };
            let publish = breakwater_proto::OutPublish {
                dup: false,
                qos,
                retain: delivery.retain,
                packet_id: id,
                topic: "a/b",
                topic_alias: 0,
                expiry: None,
                subscription_ids: &[],
                properties: ForwardProperties::EMPTY,
                payload: b"to all",
            };
            publish.encode(pair.version, &mut alone);
            assert_eq!(sent, alone, "receiver {skip}");
        }
    }
}

#[test]
fn qos_0_to_nobody_is_dropped_unless_it_is_kept() {
    let mut pair = Pair::v311();
    pair.detach();
    assert_eq!(pair.deliver("t", b"", QoS::AtMostOnce), Delivered::Dropped(DropReason::Offline));
    pair.limits.queue_qos0 = true;
    assert_eq!(pair.deliver("t", b"", QoS::AtMostOnce), Delivered::Queued);
    assert_eq!(pair.report.drops.offline, 1);
}

#[test]
fn ids_wrap_without_zero() {
    let mut pair = Pair::v311();
    for round in 0..70_000_u32 {
        let id = (round % 65_535 + 1) as u16;
        pair.deliver("t", b"", QoS::AtLeastOnce);
        pair.out.clear();
        assert_eq!(pair.puback(id), crate::Acked::Finished);
    }
}

#[test]
fn dup_is_not_passed_on() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    assert!(!pair.got_publishes()[0].dup);
    assert_eq!(pair.puback(1), crate::Acked::Finished);
    assert_eq!(pair.got(), [], "nothing answers a PUBACK");
    assert_eq!(pair.pubrec_with(1, ReasonCode::Success), crate::Acked::Unknown);
}
