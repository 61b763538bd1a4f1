//! What the client answers to deliveries.

use breakwater_proto::{Ack, QoS, ReasonCode, Version};

use super::pair::{Got, Pair};
use crate::{Acked, Delivered};

const OK: ReasonCode = ReasonCode::Success;

#[test]
fn qos_1_ends_with_puback() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    assert_eq!(pair.session.inflight_len(), 1);
    assert_eq!(pair.puback(1), Acked::Finished);
    assert_eq!(pair.session.inflight_len(), 0);
    assert_eq!(pair.puback(1), Acked::Unknown);
}

#[test]
fn qos_2_goes_through_pubrec_pubrel_pubcomp() {
    for version in Version::ALL {
        let mut pair = Pair::new(version);
        pair.deliver("t", b"", QoS::ExactlyOnce);
        pair.got();
        assert_eq!(pair.pubrec(1), Acked::Released);
        assert_eq!(pair.got(), [Got::PubRel(1, OK)]);
        assert_eq!(pair.pubcomp(1), Acked::Finished);
        assert_eq!(pair.session.inflight_len(), 0);
        assert_eq!(pair.got(), []);
    }
}

#[test]
fn a_repeated_pubrec_is_answered_again() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::ExactlyOnce);
    pair.got();
    pair.pubrec(1);
    assert_eq!(pair.pubrec(1), Acked::Released);
    assert_eq!(pair.got(), [Got::PubRel(1, OK), Got::PubRel(1, OK)]);
}

#[test]
fn the_message_itself_is_freed_when_pubrec_comes() {
    let mut pair = Pair::v5();
    pair.deliver("t", &[0; 1000], QoS::ExactlyOnce);
    let before = pair.session.heap_bytes();
    pair.pubrec(1);
    assert!(pair.session.heap_bytes() < before - 1000);
    assert_eq!(pair.session.inflight_len(), 1);
}

#[test]
fn an_unknown_pubrec_gets_a_pubrel_that_says_so() {
    let mut pair = Pair::v5();
    assert_eq!(pair.pubrec(9), Acked::Unknown);
    assert_eq!(pair.got(), [Got::PubRel(9, ReasonCode::PacketIdentifierNotFound)]);
}

#[test]
fn a_pubrec_that_refuses_ends_the_delivery() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::ExactlyOnce);
    pair.got();
    assert_eq!(pair.pubrec_with(1, ReasonCode::NotAuthorized), Acked::Finished);
    assert_eq!((pair.got(), pair.session.inflight_len()), (vec![], 0));
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_changes_nothing() {
    let mut pair = Pair::v311();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    pair.deliver("t", b"", QoS::ExactlyOnce);
    assert_eq!(pair.pubcomp(1), Acked::Unknown);
    assert_eq!(pair.puback(2), Acked::Unknown);
    assert_eq!(pair.pubcomp(2), Acked::Unknown, "before its PUBREC");
    assert_eq!(pair.puback(0), Acked::Unknown);
    assert_eq!(pair.puback(3), Acked::Unknown);
    assert_eq!(pair.session.inflight_len(), 2);
}

#[test]
fn no_more_than_the_receive_maximum_is_under_way() {
    let mut pair = Pair::v5().receive_maximum(2);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(pair.deliver("t", b"", qos), Delivered::Sent);
    }
    assert_eq!(pair.deliver("t", b"third", QoS::AtLeastOnce), Delivered::Queued);
    assert_eq!(pair.deliver("t", b"", QoS::AtMostOnce), Delivered::Sent, "QoS 0 has no quota");
    pair.got();
    pair.pubrec(2);
    assert_eq!(pair.got(), [Got::PubRel(2, OK)], "PUBREC gives nothing back");
    pair.pubcomp(2);
    assert_eq!(pair.got_publishes()[0].payload, b"third");
    assert!(!pair.session.has_backlog());
}

#[test]
fn a_refusing_pubrec_gives_its_quota_back() {
    let mut pair = Pair::v5().receive_maximum(1);
    pair.deliver("t", b"1", QoS::ExactlyOnce);
    pair.deliver("t", b"2", QoS::ExactlyOnce);
    pair.got();
    pair.pubrec_with(1, ReasonCode::QuotaExceeded);
    assert_eq!(pair.got_publishes()[0].payload, b"2");
}

#[test]
fn acknowledgements_out_of_order_keep_quota_and_order() {
    let mut pair = Pair::v5().receive_maximum(3);
    for payload in 1..=9_u8 {
        pair.deliver("t", &[payload], QoS::AtLeastOnce);
    }
    for id in [3, 2, 1, 6, 4, 5] {
        assert_eq!(pair.puback(id), Acked::Finished);
        assert!(pair.session.inflight_len() <= 3);
    }
    let order: Vec<u8> = pair.got_publishes().iter().map(|sent| sent.payload[0]).collect();
    assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

/// A client that acknowledges all but one delivery can't make the ring of ids grow, nor come round to the id in use.
#[test]
fn one_delivery_never_acknowledged_stops_the_flow_before_ids_repeat() {
    let mut pair = Pair::v5().receive_maximum(10);
    pair.deliver("t", b"", QoS::AtLeastOnce);
    let mut sent = 1;
    for id in 2..1000 {
        if pair.deliver("t", b"", QoS::AtLeastOnce) != Delivered::Sent {
            break;
        }
        pair.puback(id);
        sent += 1;
    }
    assert_eq!(sent, 128);
    assert_eq!(pair.puback(1), Acked::Finished);
    assert!(!pair.session.has_backlog(), "goes on once it is acknowledged");
}

#[test]
fn reasons_of_acknowledgements_do_not_matter_to_qos_1() {
    let mut pair = Pair::v5();
    pair.deliver("t", b"", QoS::AtLeastOnce);
    let link = pair.link.as_mut().unwrap();
    let mut env = crate::Env {
        now: pair.now,
        limits: &pair.limits,
        out: &mut pair.out,
        room: 100,
        report: &mut pair.report,
        scratch: &mut Vec::new(),
    };
    let refused = Ack::new(1, ReasonCode::UnspecifiedError);
    assert_eq!(pair.session.on_puback(link, &refused, &mut env), Acked::Finished);
}
