//! Section 4.8: shared subscriptions, and how the broker chooses among the members of a group.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Ack, Packet, PacketKind, QoS, ReasonCode, SubscribeOptions, Version};
use breakwater_router::Strategy;
use breakwater_testkit::{Broker, Client};

use crate::pair::{ACKNOWLEDGED, QOS, SHARDS, pairs, pairs_of, pairs_v5};
use crate::wire;

/// `count` members of one group, spread over the shards.
fn members(broker: &Broker, shards: u16, count: u16, qos: QoS) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let id = broker.id_at(number % shards, &format!("m{number}-"));
            let mut member = broker.client(&id).connect();
            assert_eq!(member.subscribe("$share/g/t/#", qos).suback().codes, [qos.as_u8()]);
            member
        })
        .collect()
}

fn publisher(broker: &Broker, number: u16, shard: u16) -> Client {
    broker.client(&broker.id_at(shard, &format!("p{number}-"))).connect()
}

fn counts(members: &mut [Client]) -> Vec<usize> {
    members.iter_mut().map(|member| member.payloads().len()).collect()
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn share_names_that_are_empty_or_hold_wildcards_are_refused() {
    let bad =
        ["$share//t", "$share/+/t", "$share/a+/t", "$share/#/t", "$share/g#/t", "$share/g", "$share/g/", "$share"];
    let good = ["$share/g/t", "$share/g/+/#", "$share/ö/t", "$share/g//", "$share/ /t", "$share/$x/t", "$queue/t"];
    for mut pair in pairs().filter(|pair| pair.version != Version::V31) {
        let refused = if pair.version.is_v5() { 0x8F } else { 0x80 };
        for filter in bad {
            assert_eq!(pair.reader.subscribe(filter, QoS::AtLeastOnce).suback().codes, [refused], "{filter}");
        }
        assert_eq!(pair.broker.router().counts().shared_subscriptions, 0);
        for filter in good {
            assert_eq!(pair.reader.subscribe(filter, QoS::AtLeastOnce).suback().codes, [1], "{filter}");
        }
        assert_eq!(pair.broker.router().counts().shared_subscriptions, 7);
    }
}

#[test]
fn shared_subscriptions_are_refused_where_they_are_not_available() {
    for mut pair in pairs_of(Version::V5, |options| options.limits.shared_available = false) {
        let connack = pair.reader.connack.as_ref().expect("connected").connack();
        assert_eq!(connack.shared_available, Some(false));
        for (filter, code) in [("$share/g/t", 0x9E), ("$queue/t", 0x9E), ("t", 0)] {
            assert_eq!(pair.reader.subscribe(filter, QoS::AtMostOnce).suback().codes, [code]);
        }
        pair.publisher.publish("t", QoS::AtMostOnce, b"m");
        assert_eq!(pair.reader.payloads(), [b"m"]);
    }
}

#[test]
fn each_message_goes_to_one_member_of_each_group_and_to_every_plain_subscriber() {
    for qos in QOS {
        for mut pair in pairs() {
            let mut others = Vec::new();
            for (id, filter) in
                [("a", "$share/g/t"), ("b", "$share/g/t"), ("c", "$share/h/t"), ("d", "$share/g/+"), ("e", "$queue/t")]
            {
                let mut other = pair.broker.client(id).version(pair.version).connect();
                other.subscribe(filter, qos);
                others.push(other);
            }
            pair.reader.subscribe("t", qos);
            for number in 0..20_u8 {
                pair.publisher.publish("t", qos, &[number]);
            }
            let got = counts(&mut others);
            // The same share name with another filter is another group.
            assert_eq!((got[0] + got[1], got[2], got[3], got[4]), (20, 20, 20, 20));
            assert_eq!(pair.reader.payloads().len(), 20);
        }
    }
}

#[test]
fn client_with_a_shared_and_a_plain_subscription_gets_one_copy_for_each() {
    for mut pair in pairs() {
        pair.reader.subscribe("t", QoS::AtLeastOnce);
        pair.reader.subscribe("$share/g/t", QoS::AtLeastOnce);
        pair.publisher.publish("t", QoS::AtLeastOnce, b"m");
        assert_eq!(pair.reader.payloads(), [b"m", b"m"]);
    }
}

#[test]
fn retained_messages_are_not_sent_for_shared_subscriptions() {
    for mut pair in pairs() {
        pair.publisher.publish_retained("t", QoS::AtLeastOnce, b"m");
        for _ in 0..2 {
            pair.reader.subscribe("$share/g/t", QoS::AtLeastOnce);
            pair.reader.expect_nothing();
        }
    }
}

/// [MQTT-4.8.2-3]
#[test]
fn each_member_gets_messages_with_the_qos_granted_to_it() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::RoundRobinPerGroup).shards(shards);
        let mut publisher = broker.client("p").connect();
        let mut members: Vec<Client> = QOS.map(|qos| broker.client(&format!("m{}", qos.as_u8())).connect()).into();
        for (member, qos) in members.iter_mut().zip(QOS) {
            member.subscribe("$share/g/t", qos);
        }
        for published in QOS {
            for _ in 0..3 {
                publisher.publish("t", published, b"m");
            }
            for (member, granted) in members.iter_mut().zip(QOS) {
                assert_eq!(member.message().publish().qos, granted.min(published));
                member.expect_nothing();
            }
        }
    }
}

/// A member that takes what comes to it, with a session that outlasts its connection, beside one without.
fn begun(broker: &Broker, ending: Option<u32>) -> (Client, Client, u16) {
    let mut other = broker.client("other").connect();
    let mut member = broker.client("member").resume().set(|connect| connect.session_expiry = ending).connect();
    member.subscribe("$share/g/t", QoS::ExactlyOnce);
    let mut publisher = broker.client("p").connect();
    publisher.publish("t", QoS::ExactlyOnce, b"m");
    let id = member.next_packet().publish().packet_id;
    other.subscribe("$share/g/t", QoS::ExactlyOnce);
    (member, other, id)
}

/// [MQTT-4.8.2-4]
#[test]
fn qos_2_delivery_begun_to_a_member_is_completed_when_it_comes_back() {
    for shards in SHARDS {
        let broker = Broker::new().shards(shards);
        let (mut member, mut other, id) = begun(&broker, Some(3600));
        member.reset();
        broker.step();
        other.expect_nothing();
        let mut member = broker.client("member").persistent().connect();
        let again = member.next_packet();
        assert_eq!((again.publish().packet_id, again.publish().dup), (id, true));
        member.send_packet(&Packet::PubRec(Ack::new(id, ReasonCode::Success)));
        assert_eq!(member.next_packet().kind(), PacketKind::PubRel);
        member.send_packet(&Packet::PubComp(Ack::new(id, ReasonCode::Success)));
        member.expect_nothing();
        other.expect_nothing();
    }
}

/// [MQTT-4.8.2-5]
#[test]
fn qos_2_delivery_begun_to_a_member_whose_session_ends_goes_to_nobody_else() {
    for shards in SHARDS {
        for (ending, wait_s) in [(None, 0), (Some(10), 11)] {
            for received in [false, true] {
                let broker = Broker::new().shards(shards);
                let (mut member, mut other, id) = begun(&broker, ending);
                if received {
                    member.send_packet(&Packet::PubRec(Ack::new(id, ReasonCode::Success)));
                    broker.step();
                }
                member.reset();
                broker.advance(Duration::from_secs(wait_s));
                assert_eq!(broker.sessions(), 2);
                other.expect_nothing();
            }
        }
    }
}

/// [MQTT-4.8.2-6]
#[test]
fn message_that_a_member_refuses_goes_to_nobody_else() {
    for qos in ACKNOWLEDGED {
        for mut pair in pairs_v5() {
            pair.reader.subscribe("$share/g/t", qos);
            pair.publisher.publish("t", qos, b"m");
            let id = pair.reader.next_packet().publish().packet_id.to_be_bytes();
            let mut other = pair.broker.client("other").connect();
            other.subscribe("$share/g/t", qos);
            let first = if qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
            pair.reader.send(&[first, 3, id[0], id[1], 0x80]);
            pair.reader.expect_nothing();
            pair.cut();
            let mut last = pair.again().clean().connect();
            last.expect_nothing();
            other.expect_nothing();
        }
    }
}

#[test]
fn unacknowledged_messages_of_a_member_that_goes_away_go_to_another() {
    for shards in SHARDS {
        for left_s in [0, 10] {
            let broker = Broker::with(|options, _| options.limits.inflight_max = 3).shards(shards);
            let mut publisher = broker.client("p").connect();
            // One after the other goes away with everything on its hands, under way and queued.
            let ids: Vec<String> = (0..4).map(|n| broker.id_at((n + 1) % shards, &format!("m{n}-"))).collect();
            let mut member = broker.client(&ids[0]).expiry(left_s).connect();
            member.subscribe("$share/g/t", QoS::AtLeastOnce);
            for number in 0..10_u8 {
                publisher.publish("t", QoS::AtLeastOnce, &[number]);
            }
            for id in &ids[1..] {
                let mut next = broker.client(id).expiry(left_s).connect();
                next.subscribe("$share/g/t", QoS::AtLeastOnce);
                assert_eq!(std::iter::from_fn(|| member.try_next()).count(), 3);
                member.reset();
                broker.advance(Duration::from_secs(u64::from(left_s) + 1));
                member = next;
            }
            let mut got: Vec<u8> = member.payloads().into_iter().flatten().collect();
            got.sort_unstable();
            assert_eq!(got, (0..10).collect::<Vec<_>>());
            assert!(broker.counter(Metric::SharedBounced) >= 30);
        }
    }
}

#[test]
fn members_that_are_away_are_passed_over_while_another_is_there() {
    for qos in QOS {
        for shards in SHARDS {
            let broker = Broker::new().shards(shards);
            let mut publisher = broker.client("p").connect();
            let mut away = broker.client("away").persistent().connect();
            away.subscribe("$share/g/t", qos);
            away.reset();
            let mut here = broker.client("here").connect();
            here.subscribe("$share/g/t", qos);
            for number in 0..10_u8 {
                publisher.publish("t", qos, &[number]);
            }
            assert_eq!(here.payloads().len(), 10);
            // With nobody there a queue takes what can be queued.
            here.disconnect();
            publisher.publish("t", qos, b"kept");
            let mut away = broker.client("away").persistent().connect();
            assert_eq!(away.payloads().len(), usize::from(qos > QoS::AtMostOnce));
            publisher.publish("t", qos, b"live");
            assert_eq!(away.payloads(), [b"live"]);
        }
    }
}

#[test]
fn message_that_a_slow_member_cannot_take_goes_to_another() {
    for shards in SHARDS {
        let broker = Broker::with(|options, _| options.out_buffer_bytes = 32 * 1024).shards(shards);
        let mut publisher = broker.client("p").connect();
        let mut members = members(&broker, shards, 3, QoS::AtMostOnce);
        members[1].stop_reading();
        for _ in 0..300 {
            publisher.publish("t", QoS::AtMostOnce, &[0; 1024]);
        }
        members[1].resume_reading();
        let got = counts(&mut members);
        assert_eq!(got.iter().sum::<usize>(), 300);
        assert!(got[1] < 40, "{got:?}");
    }
}

#[test]
fn random_gives_every_member_a_share() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::Random).shards(shards);
        let mut publisher = broker.client("p").connect();
        let mut members = members(&broker, shards, 4, QoS::AtLeastOnce);
        for _ in 0..400 {
            publisher.publish("t", QoS::AtLeastOnce, b"m");
        }
        let got = counts(&mut members);
        assert_eq!(got.iter().sum::<usize>(), 400);
        assert!(got.iter().all(|count| (50..=150).contains(count)), "{got:?}");
    }
}

#[test]
fn round_robin_gives_each_publishing_shards_messages_in_turn() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::RoundRobin).shards(shards);
        let mut members = members(&broker, shards, 4, QoS::AtLeastOnce);
        for shard in 0..shards {
            let mut publisher = broker.client(&broker.id_at(shard, "p")).connect();
            for qos in QOS {
                for _ in 0..40 {
                    publisher.publish("t", qos, b"m");
                }
                assert_eq!(counts(&mut members), [10, 10, 10, 10]);
            }
        }
    }
}

#[test]
fn round_robin_per_group_counts_over_all_publishers() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::RoundRobinPerGroup).shards(shards);
        let mut members = members(&broker, shards, 4, QoS::AtLeastOnce);
        let mut publishers: Vec<_> = (0..3).map(|number| publisher(&broker, number, number % shards)).collect();
        for number in 0..40 {
            publishers[number % 3].publish("t", QoS::AtLeastOnce, b"m");
        }
        assert_eq!(counts(&mut members), [10, 10, 10, 10]);
    }
}

#[test]
fn sticky_stays_with_one_member_until_it_goes_away() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::Sticky).shards(shards);
        let mut publishers: Vec<_> = (0..2).map(|number| publisher(&broker, number, number % shards)).collect();
        let mut members = members(&broker, shards, 4, QoS::AtLeastOnce);
        while !members.is_empty() {
            for number in 0..20 {
                publishers[number % 2].publish("t/x", QoS::AtLeastOnce, b"m");
            }
            let got = counts(&mut members);
            let chosen = got.iter().position(|count| *count == 20).expect("one has them all");
            assert_eq!(got.iter().sum::<usize>(), 20);
            members.remove(chosen).disconnect();
        }
    }
}

#[test]
fn local_prefers_members_at_the_publishers_shard() {
    let broker = Broker::with(|_, router| router.strategy = Strategy::Local).shards(3);
    let mut members = members(&broker, 2, 4, QoS::AtLeastOnce);
    for (shard, local) in [(0, Some([0, 2])), (1, Some([1, 3])), (2, None)] {
        let mut publisher = broker.client(&broker.id_at(shard, "p")).connect();
        for _ in 0..40 {
            publisher.publish("t", QoS::AtLeastOnce, b"m");
        }
        let got = counts(&mut members);
        assert_eq!(got.iter().sum::<usize>(), 40);
        match local {
            Some([a, b]) => assert_eq!(got[a] + got[b], 40),
            None => assert!(got.iter().all(|count| *count < 40), "any will do where none is near"),
        }
    }
}

#[test]
fn hash_of_topic_gives_one_topic_to_one_member() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::HashTopic).shards(shards);
        let mut members = members(&broker, shards, 4, QoS::AtLeastOnce);
        let mut publishers: Vec<_> = (0..2).map(|number| publisher(&broker, number, number % shards)).collect();
        let mut chosen = std::collections::HashSet::new();
        for topic in 0..20 {
            let topic = format!("t/{topic}");
            for number in 0..6 {
                publishers[number % 2].publish(&topic, QoS::AtLeastOnce, b"m");
            }
            let got = counts(&mut members);
            chosen.insert(got.iter().position(|count| *count == 6).expect("one has them all"));
        }
        assert_eq!(chosen.len(), 4, "and topics spread");
    }
}

#[test]
fn hash_of_client_identifier_gives_one_publisher_to_one_member() {
    for shards in SHARDS {
        let broker = Broker::with(|_, router| router.strategy = Strategy::HashClientId).shards(shards);
        let mut members = members(&broker, shards, 4, QoS::AtLeastOnce);
        let mut chosen = std::collections::HashSet::new();
        for number in 0..20 {
            let mut publisher = broker.client(&format!("p{number}")).connect();
            for topic in 0..6 {
                publisher.publish(&format!("t/{topic}"), QoS::AtLeastOnce, b"m");
            }
            let got = counts(&mut members);
            chosen.insert(got.iter().position(|count| *count == 6).expect("one has them all"));
        }
        assert_eq!(chosen.len(), 4, "and publishers spread");
    }
}

#[test]
fn shared_subscription_is_replaced_and_removed_like_any_other() {
    for mut pair in pairs() {
        for qos in [QoS::ExactlyOnce, QoS::AtMostOnce] {
            pair.reader.subscribe_with(&[("$share/g/t", SubscribeOptions::new(qos))], None);
            pair.publisher.publish("t", QoS::ExactlyOnce, b"m");
            assert_eq!(pair.reader.message().publish().qos, qos);
            pair.reader.expect_nothing();
        }
        pair.reader.send(&wire::unsubscribe(pair.version, 9, b"$share/g/t"));
        pair.reader.next_of(PacketKind::UnsubAck);
        pair.publisher.publish("t", QoS::ExactlyOnce, b"m");
        pair.reader.expect_nothing();
    }
}
