//! Topic aliases in both directions.

use breakwater_proto::{QoS, Violation};

use super::pair::{Pair, publish};
use crate::Link;

fn aliased(topic: &str, alias: u16) -> breakwater_proto::Publish<'_> {
    let mut publish = publish(topic, QoS::AtMostOnce, 0);
    publish.topic_alias = Some(alias);
    publish
}

fn link(pair: &mut Pair) -> &mut Link {
    pair.link.as_mut().unwrap()
}

#[test]
fn a_registered_alias_stands_for_its_topic() {
    let mut pair = Pair::v5();
    assert_eq!(link(&mut pair).resolve_alias(&aliased("a/b", 3)), Ok("a/b"));
    assert_eq!(link(&mut pair).resolve_alias(&aliased("", 3)), Ok("a/b"));
    assert_eq!(link(&mut pair).resolve_alias(&aliased("c", 3)), Ok("c"));
    assert_eq!(link(&mut pair).resolve_alias(&aliased("", 3)), Ok("c"));
}

#[test]
fn every_alias_up_to_the_maximum_is_taken_and_none_beyond() {
    let mut pair = Pair::v5().limits(|limits| limits.topic_alias_in_max = 5);
    for alias in 1..=5 {
        assert_eq!(link(&mut pair).resolve_alias(&aliased("t", alias)), Ok("t"));
    }
    assert_eq!(link(&mut pair).resolve_alias(&aliased("t", 6)), Err(Violation::TopicAliasTooLarge));
    assert_eq!(link(&mut pair).resolve_alias(&aliased("t", 0)), Err(Violation::TopicAliasZero));
}

#[test]
fn an_unknown_alias_is_a_violation() {
    let mut pair = Pair::v5();
    assert_eq!(link(&mut pair).resolve_alias(&aliased("", 1)), Err(Violation::TopicAliasUnknown));
    link(&mut pair).resolve_alias(&aliased("t", 2)).unwrap();
    assert_eq!(link(&mut pair).resolve_alias(&aliased("", 1)), Err(Violation::TopicAliasUnknown));
}

#[test]
fn aliases_die_with_the_connection() {
    let mut pair = Pair::v5().topic_alias_maximum(5);
    link(&mut pair).resolve_alias(&aliased("t", 1)).unwrap();
    pair.deliver("topic", b"1", QoS::AtMostOnce);
    pair.reconnect();
    assert_eq!(link(&mut pair).resolve_alias(&aliased("", 1)), Err(Violation::TopicAliasUnknown));
    pair.deliver("topic", b"2", QoS::AtMostOnce);
    assert_eq!(pair.got_publishes()[0].topic, "topic");
}

#[test]
fn a_client_without_an_alias_maximum_gets_none() {
    let mut pair = Pair::v5();
    for _ in 0..3 {
        pair.deliver("a/topic", b"", QoS::AtMostOnce);
    }
    assert!(pair.got_publishes().iter().all(|sent| sent.alias.is_none() && sent.topic == "a/topic"));
}

#[test]
fn the_first_delivery_tells_the_alias_and_the_next_ones_use_it() {
    let mut pair = Pair::v5().topic_alias_maximum(1);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        pair.deliver("TopicA", b"", qos);
    }
    let got = pair.got_publishes();
    assert_eq!((got[0].topic.as_str(), got[0].alias), ("TopicA", Some(1)));
    assert_eq!((got[1].topic.as_str(), got[1].alias), ("", Some(1)));
    assert_eq!((got[2].topic.as_str(), got[2].alias), ("", Some(1)));
}

#[test]
fn an_alias_is_told_only_with_a_packet_that_left() {
    let mut pair = Pair::v5().topic_alias_maximum(5);
    pair.deliver("filler", b"", QoS::AtMostOnce);
    pair.room = 0;
    pair.deliver("a/topic", b"", QoS::AtMostOnce);
    pair.room = usize::MAX;
    pair.got();
    pair.deliver("a/topic", b"", QoS::AtMostOnce);
    let got = pair.got_publishes();
    assert_eq!((got[0].topic.as_str(), got[0].alias), ("a/topic", Some(2)));
}

#[test]
fn a_packet_that_fits_only_without_a_new_alias_goes_without() {
    // 2 fixed header, 2 + 7 topic, 1 property length, 8 payload; an alias would add 3
    let mut pair = Pair::v5().topic_alias_maximum(5).maximum_packet_size(20);
    pair.deliver("a/topic", b"12345678", QoS::AtMostOnce);
    let got = pair.got_publishes();
    assert_eq!((got[0].alias, got[0].len), (None, 20));
    pair.deliver("a/topic", b"123", QoS::AtMostOnce);
    assert_eq!(pair.got_publishes()[0].alias, Some(1));
    pair.deliver("a/topic", b"123456789012", QoS::AtMostOnce);
    assert_eq!(pair.got_publishes()[0].topic, "", "the alias makes room for a longer payload");
    assert_eq!(pair.report.drops.total(), 0);
}
