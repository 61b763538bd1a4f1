//! A new connection to a stored session, and the end of one.

use breakwater_proto::{MessageView, QoS, ReasonCode, Version};

use super::pair::{Got, Pair, Sent, view};
use crate::{Acked, Delivered, Delivery};

const OK: ReasonCode = ReasonCode::Success;

fn ids(sent: &[Sent]) -> Vec<u16> {
    sent.iter().map(|sent| sent.id).collect()
}

#[test]
fn unacknowledged_deliveries_are_sent_again_in_order_with_their_ids_and_dup() {
    for version in Version::ALL {
        let mut pair = Pair::new(version);
        for payload in [b"1", b"2", b"3", b"4"] {
            pair.deliver("t", payload, QoS::AtLeastOnce);
        }
        let first = pair.got_publishes();
        assert!(first.iter().all(|sent| !sent.dup));
        pair.puback(2);
        pair.reconnect();
        let again = pair.got_publishes();
        assert_eq!(ids(&again), [1, 3, 4]);
        assert!(again.iter().all(|sent| sent.dup));
        assert_eq!(again[0].payload, first[0].payload);
    }
}

#[test]
fn released_deliveries_get_pubrel_again_and_never_the_message() {
    let mut pair = Pair::v311();
    pair.deliver("t", b"1", QoS::ExactlyOnce);
    pair.deliver("t", b"2", QoS::ExactlyOnce);
    pair.deliver("t", b"3", QoS::AtLeastOnce);
    pair.pubrec(1);
    pair.reconnect();
    let got = pair.got();
    assert_eq!(got[0], Got::PubRel(1, OK));
    assert!(matches!(&got[1], Got::Publish(sent) if sent.id == 2 && sent.dup));
    assert!(matches!(&got[2], Got::Publish(sent) if sent.id == 3 && sent.dup));
    assert_eq!(got.len(), 3);
    assert_eq!(pair.pubcomp(1), Acked::Finished);
}

#[test]
fn nothing_is_sent_again_on_a_connection_that_lasts() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    pair.got();
    pair.now = pair.now.plus_s(100_000);
    pair.pump();
    assert_eq!(pair.got(), []);
}

#[test]
fn a_smaller_receive_maximum_holds_for_what_is_sent_again() {
    let mut pair = Pair::v5();
    for _ in 0..5 {
        pair.deliver("t", b"", QoS::AtLeastOnce);
    }
    pair.receive_maximum = Some(2);
    pair.reconnect();
    assert_eq!(ids(&pair.got_publishes()), [1, 2]);
    assert_eq!(pair.deliver("t", b"", QoS::AtLeastOnce), Delivered::Queued);
    pair.puback(2);
    assert_eq!(ids(&pair.got_publishes()), [3]);
    pair.puback(1);
    pair.puback(3);
    assert_eq!(ids(&pair.got_publishes()), [4, 5]);
    pair.puback(5);
    let last = pair.got_publishes();
    assert_eq!((ids(&last), last[0].dup), (vec![6], false));
}

#[test]
fn little_room_spreads_the_resumption_over_several_writes() {
    let mut pair = Pair::v311();
    for payload in 0..10_u8 {
        pair.deliver("t", &[payload; 100], QoS::AtLeastOnce);
    }
    pair.detach();
    pair.room = 250;
    assert!(pair.connect().more);
    let mut all = pair.got_publishes();
    while pair.session.has_backlog() {
        let pumped = pair.pump();
        assert!(pumped.sent > 0, "each write makes progress");
        all.extend(pair.got_publishes());
    }
    assert_eq!(ids(&all), (1..=10).collect::<Vec<u16>>());
}

#[test]
fn an_acknowledgement_before_the_repetition_counts() {
    let mut pair = Pair::v5();
    for _ in 0..3 {
        pair.deliver("t", b"", QoS::AtLeastOnce);
    }
    pair.receive_maximum = Some(1);
    pair.reconnect();
    assert_eq!(ids(&pair.got_publishes()), [1]);
    assert_eq!(pair.puback(2), Acked::Finished);
    assert_eq!(pair.got(), [], "its quota was not in use");
    pair.puback(1);
    assert_eq!(ids(&pair.got_publishes()), [3]);
}

#[test]
fn what_was_begun_is_finished_although_it_expired() {
    let mut pair = Pair::v5();
    let message = MessageView { expires_at: Some(pair.now.plus_s(1)), ..view("t", b"") };
    let delivery = Delivery { qos: QoS::ExactlyOnce, retain: false, subscription_ids: &[], ..Delivery::default() };
    pair.deliver_as(message, &delivery);
    pair.detach();
    pair.now = pair.now.plus_s(60);
    pair.connect();
    let got = pair.got_publishes();
    assert_eq!((got[0].id, got[0].expiry), (1, Some(0)));
    assert_eq!(pair.pubrec(1), Acked::Released);
    assert_eq!(pair.pubcomp(1), Acked::Finished);
}

#[test]
fn a_client_may_come_back_with_another_version() {
    let mut pair = Pair::v311();
    pair.deliver("t", b"1", QoS::AtLeastOnce);
    pair.detach();
    pair.deliver("t", b"2", QoS::AtLeastOnce);
    pair.version = Version::V5;
    pair.connect();
    assert_eq!(ids(&pair.got_publishes()), [1, 2]);
}

#[test]
fn a_delivery_too_large_for_the_new_connection_is_given_up() {
    let mut pair = Pair::v5();
    pair.deliver("t", &[0; 100], QoS::AtLeastOnce);
    pair.deliver("t", &[0; 10], QoS::AtLeastOnce);
    pair.maximum_packet_size = Some(50);
    pair.reconnect();
    assert_eq!(ids(&pair.got_publishes()), [2]);
    assert_eq!((pair.session.inflight_len(), pair.report.drops.too_large), (1, 1));
}

#[test]
fn ids_go_on_where_they_were_although_nothing_is_under_way() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    pair.puback(1);
    pair.reconnect();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    assert_eq!(ids(&pair.got_publishes()), [2]);
}

#[test]
fn shared_messages_survive_the_session_but_for_begun_qos_2() {
    let mut pair = Pair::v5().receive_maximum(3);
    for (payload, qos, shared) in [
        (b"1", QoS::AtLeastOnce, true),
        (b"2", QoS::ExactlyOnce, true),
        (b"3", QoS::AtLeastOnce, false),
        (b"4", QoS::ExactlyOnce, true),
        (b"5", QoS::AtLeastOnce, true),
        (b"6", QoS::AtLeastOnce, false),
    ] {
        let delivery = Delivery { qos, retain: false, subscription_ids: &[], shared, ..Delivery::default() };
        pair.deliver_as(view("t", payload), &delivery);
    }
    let left: Vec<_> = pair.session.drain_unacked().map(|(message, qos, _)| (message.payload()[0], qos)).collect();
    assert_eq!(left, [(b'1', QoS::AtLeastOnce), (b'4', QoS::ExactlyOnce), (b'5', QoS::AtLeastOnce)]);
    assert_eq!((pair.session.queue_len(), pair.session.inflight_len()), (0, 0));
}
