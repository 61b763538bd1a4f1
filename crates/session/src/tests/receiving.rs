//! Client to broker.

use breakwater_proto::{QoS, ReasonCode, Version, Violation};

use super::pair::{Got, Pair, publish};
use crate::Received;

#[test]
fn qos_0_is_routed_and_not_answered() {
    let mut pair = Pair::v5();
    assert_eq!(pair.publish_qos(QoS::AtMostOnce, 0), Ok(Received::Route));
    assert_eq!(pair.got(), []);
}

#[test]
fn qos_1_is_routed_each_time_and_answered_with_its_id() {
    let mut pair = Pair::v311();
    assert_eq!(pair.publish_qos(QoS::AtLeastOnce, 7), Ok(Received::Route));
    let mut again = publish("t", QoS::AtLeastOnce, 7);
    again.dup = true;
    assert_eq!(pair.publish(&again), Ok(Received::Route));
    pair.acknowledge(QoS::AtLeastOnce, 7, ReasonCode::Success);
    assert_eq!(pair.got(), [Got::PubAck(7, ReasonCode::Success), Got::PubAck(7, ReasonCode::Success)]);
}

#[test]
fn qos_2_is_routed_once_until_it_is_released() {
    for version in Version::ALL {
        let mut pair = Pair::new(version);
        assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 7), Ok(Received::Route));
        assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 7), Ok(Received::Repeat));
        pair.pubrel(7);
        assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 7), Ok(Received::Route));
        let ok = ReasonCode::Success;
        assert_eq!(pair.got(), [Got::PubRec(7, ok), Got::PubRec(7, ok), Got::PubComp(7, ok), Got::PubRec(7, ok)]);
    }
}

#[test]
fn a_qos_2_id_is_remembered_across_connections() {
    let mut pair = Pair::v311();
    pair.publish_qos(QoS::ExactlyOnce, 7).unwrap();
    pair.reconnect();
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 7), Ok(Received::Repeat));
    assert_eq!(pair.got(), [Got::PubRec(7, ReasonCode::Success)]);
    assert_eq!(pair.session.awaiting_release_len(), 1);
}

#[test]
fn a_repeated_pubrel_is_answered_again() {
    let mut pair = Pair::v311();
    pair.publish_qos(QoS::ExactlyOnce, 7).unwrap();
    pair.got();
    pair.pubrel(7);
    pair.pubrel(7);
    assert_eq!(pair.got(), [Got::PubComp(7, ReasonCode::Success), Got::PubComp(7, ReasonCode::Success)]);
}

#[test]
fn a_pubrel_for_an_unknown_id_says_so_in_v5() {
    let mut pair = Pair::v5();
    pair.pubrel(9);
    assert_eq!(pair.got(), [Got::PubComp(9, ReasonCode::PacketIdentifierNotFound)]);
}

#[test]
fn a_refused_qos_2_publish_frees_its_id_in_v5() {
    let mut pair = Pair::v5();
    pair.publish(&publish("t", QoS::ExactlyOnce, 7)).unwrap();
    pair.acknowledge(QoS::ExactlyOnce, 7, ReasonCode::NotAuthorized);
    assert_eq!(pair.got(), [Got::PubRec(7, ReasonCode::NotAuthorized)]);
    assert_eq!(pair.session.awaiting_release_len(), 0);
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 7), Ok(Received::Route));
}

#[test]
fn a_refused_qos_2_publish_keeps_its_id_in_v311_where_the_client_is_not_told() {
    let mut pair = Pair::v311();
    pair.publish(&publish("t", QoS::ExactlyOnce, 7)).unwrap();
    pair.acknowledge(QoS::ExactlyOnce, 7, ReasonCode::NotAuthorized);
    assert_eq!(pair.got(), [Got::PubRec(7, ReasonCode::Success)]);
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 7), Ok(Received::Repeat));
}

#[test]
fn more_than_the_receive_maximum_is_a_violation() {
    let mut pair = Pair::v5().limits(|limits| limits.receive_maximum = 2);
    pair.publish_qos(QoS::ExactlyOnce, 1).unwrap();
    pair.publish_qos(QoS::ExactlyOnce, 2).unwrap();
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 3), Err(Violation::ReceiveMaximumExceeded));
    assert_eq!(pair.publish_qos(QoS::AtLeastOnce, 3), Err(Violation::ReceiveMaximumExceeded));
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 2), Ok(Received::Repeat));
    assert_eq!(pair.publish_qos(QoS::AtMostOnce, 0), Ok(Received::Route));
    pair.pubrel(1);
    assert_eq!(pair.publish_qos(QoS::AtLeastOnce, 3), Ok(Received::Route));
}

#[test]
fn an_answered_qos_1_publish_gives_its_quota_back() {
    let mut pair = Pair::v5().limits(|limits| limits.receive_maximum = 1);
    for id in 1..100 {
        assert_eq!(pair.publish_qos(QoS::AtLeastOnce, id), Ok(Received::Route));
    }
}

#[test]
fn publishes_that_wait_for_durability_use_up_the_quota() {
    let mut pair = Pair::v5().limits(|limits| limits.receive_maximum = 2);
    for id in [1, 2] {
        pair.publish(&publish("t", QoS::AtLeastOnce, id)).unwrap();
        pair.session.acknowledge_later(QoS::AtLeastOnce, id, 1);
    }
    assert_eq!(pair.session.receive_quota(Version::V5, &pair.limits), 0);
    assert_eq!(pair.publish(&publish("t", QoS::AtLeastOnce, 3)), Err(Violation::ReceiveMaximumExceeded));
}

/// A client that releases ids before it was told to can't make the ring grow.
#[test]
fn early_releases_do_not_lift_the_quota() {
    let mut pair = Pair::v5().limits(|limits| limits.receive_maximum = 10);
    let mut taken = 0;
    for _ in 0..100 {
        if pair.publish(&publish("t", QoS::ExactlyOnce, 1)).is_err() {
            break;
        }
        pair.session.acknowledge_later(QoS::ExactlyOnce, 1, 1);
        pair.pubrel(1);
        taken += 1;
    }
    assert_eq!(taken, 10);
}

/// CVE-2023-28366 of another broker: many QoS 2 publishes and never a PUBREL.
#[test]
fn ids_that_are_never_released_are_bounded_for_3x_clients_too() {
    let mut pair = Pair::v311();
    let bound = pair.limits.awaiting_release_max;
    for id in 1..=bound {
        pair.publish_qos(QoS::ExactlyOnce, id).unwrap();
    }
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, bound + 1), Err(Violation::ReceiveMaximumExceeded));
    for _ in 0..1000 {
        assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 5), Ok(Received::Repeat));
    }
    assert!(pair.session.heap_bytes() < 4 * usize::from(bound) + 1024);
}

#[test]
fn answers_leave_in_the_order_of_the_publishes() {
    let mut pair = Pair::v5();
    let first = pair.session.acknowledge_later(QoS::AtLeastOnce, 1, 1);
    let second = pair.session.acknowledge_later(QoS::ExactlyOnce, 2, 1);
    pair.acknowledge(QoS::AtLeastOnce, 3, ReasonCode::Success);
    pair.ready(second, ReasonCode::Success);
    assert_eq!(pair.got(), []);
    pair.ready(first, ReasonCode::QuotaExceeded);
    let ok = ReasonCode::Success;
    assert_eq!(pair.got(), [Got::PubAck(1, ReasonCode::QuotaExceeded), Got::PubRec(2, ok), Got::PubAck(3, ok)]);
    assert_eq!(pair.session.waiting_acks_len(), 0);
}

#[test]
fn an_answer_of_an_earlier_connection_is_not_sent() {
    let mut pair = Pair::v5();
    let ticket = pair.session.acknowledge_later(QoS::AtLeastOnce, 1, 1);
    pair.reconnect();
    pair.ready(ticket, ReasonCode::Success);
    assert_eq!(pair.got(), []);
    pair.publish_qos(QoS::AtLeastOnce, 2).unwrap();
    assert_eq!(pair.got(), [Got::PubAck(2, ReasonCode::Success)]);
}

#[test]
fn a_late_completion_of_an_earlier_connection_lets_no_new_answer_out() {
    let mut pair = Pair::v5();
    let old = pair.session.acknowledge_later(QoS::AtLeastOnce, 1, 1);
    pair.reconnect();
    let new = pair.session.acknowledge_later(QoS::AtLeastOnce, 2, 1);
    pair.ready(old, ReasonCode::Success);
    assert_eq!(pair.got(), []);
    pair.ready(new, ReasonCode::Success);
    assert_eq!(pair.got(), [Got::PubAck(2, ReasonCode::Success)]);
}

#[test]
fn a_repeated_pubrec_keeps_its_place_behind_earlier_answers() {
    let mut pair = Pair::v5();
    pair.publish_qos(QoS::ExactlyOnce, 1).unwrap();
    let ticket = pair.session.acknowledge_later(QoS::AtLeastOnce, 2, 1);
    pair.got();
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 1), Ok(Received::Repeat));
    assert_eq!(pair.got(), []);
    pair.ready(ticket, ReasonCode::Success);
    assert_eq!(pair.got(), [Got::PubAck(2, ReasonCode::Success), Got::PubRec(1, ReasonCode::Success)]);
}

#[test]
fn a_repeated_qos_2_publish_is_not_answered_before_its_message_is_durable() {
    let mut pair = Pair::v5();
    pair.publish(&publish("t", QoS::ExactlyOnce, 1)).unwrap();
    let ticket = pair.session.acknowledge_later(QoS::ExactlyOnce, 1, 1);
    pair.reconnect();
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 1), Ok(Received::Repeat));
    assert_eq!(pair.got(), []);
    pair.ready(ticket, ReasonCode::Success);
    assert_eq!(pair.got(), [Got::PubRec(1, ReasonCode::Success)]);
    pair.pubrel(1);
    assert_eq!(pair.session.awaiting_release_len(), 0);
}

#[test]
fn a_qos_2_publish_that_failed_to_be_kept_is_new_when_it_comes_again() {
    let mut pair = Pair::v5();
    pair.publish(&publish("t", QoS::ExactlyOnce, 1)).unwrap();
    let ticket = pair.session.acknowledge_later(QoS::ExactlyOnce, 1, 1);
    pair.detach();
    pair.ready(ticket, ReasonCode::UnspecifiedError);
    pair.connect();
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 1), Ok(Received::Route));
}

#[test]
fn a_ticket_counts_once() {
    let mut pair = Pair::v5();
    let first = pair.session.acknowledge_later(QoS::AtLeastOnce, 1, 1);
    pair.session.acknowledge_later(QoS::AtLeastOnce, 2, 1);
    pair.ready(first, ReasonCode::Success);
    pair.ready(first, ReasonCode::Success);
    assert_eq!(pair.got(), [Got::PubAck(1, ReasonCode::Success)]);
}

#[test]
fn what_the_server_does_not_offer_is_a_violation() {
    let mut pair = Pair::v5().limits(|limits| {
        limits.maximum_qos = QoS::AtLeastOnce;
        limits.retain_available = false;
        limits.topic.levels_max = 3;
        limits.topic.bytes_max = 10;
    });
    assert_eq!(pair.publish_qos(QoS::ExactlyOnce, 1), Err(Violation::PublishQosNotSupported));
    let mut retained = publish("t", QoS::AtMostOnce, 0);
    retained.retain = true;
    assert_eq!(pair.publish(&retained), Err(Violation::RetainNotSupported));
    assert_eq!(pair.publish(&publish("a/b/c/d", QoS::AtMostOnce, 0)), Err(Violation::TopicTooLarge));
    assert_eq!(pair.publish(&publish("12345678901", QoS::AtMostOnce, 0)), Err(Violation::TopicTooLarge));
    assert_eq!(pair.publish(&publish("a/b/c", QoS::AtMostOnce, 0)), Ok(Received::Route));
    let mut with_id = publish("t", QoS::AtMostOnce, 0);
    with_id.subscription_ids = true;
    assert_eq!(pair.publish(&with_id), Err(Violation::SubscriptionIdentifierFromClient));
}

#[test]
fn too_many_user_properties_are_a_violation() {
    use breakwater_proto::{ForwardProperties, write_user_property};
    let mut pair = Pair::v5().limits(|limits| limits.user_properties_max = 3);
    for (count, expect) in [(3, Ok(Received::Route)), (4, Err(Violation::TooManyUserProperties))] {
        let mut raw = Vec::new();
        (0..count).for_each(|_| write_user_property("k", "v", &mut raw));
        let mut with_properties = publish("t", QoS::AtMostOnce, 0);
        with_properties.properties = ForwardProperties::from_stripped(&raw);
        assert_eq!(pair.publish(&with_properties), expect);
    }
}
