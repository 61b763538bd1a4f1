//! Section 3.3.2.3.4: topic aliases, in both directions.

use breakwater_proto::{Ack, OutPublish, Packet, PacketKind, QoS, ReasonCode};
use breakwater_testkit::{Broker, out_publish};

use crate::pair::{QOS, pairs_v5};
use crate::wire;

/// [MQTT-3.3.2-7]
#[test]
fn alias_of_an_earlier_connection_is_unknown() {
    for mut pair in pairs_v5() {
        pair.reader.send_out(&OutPublish { topic_alias: 1, ..out_publish("t", QoS::AtMostOnce, false, 0, b"m") });
        pair.reader.send_out(&OutPublish { topic_alias: 1, ..out_publish("", QoS::AtMostOnce, false, 0, b"m") });
        assert!(!pair.reader.is_closed());
        pair.cut();
        pair.come_back();
        pair.reader.send_out(&OutPublish { topic_alias: 1, ..out_publish("", QoS::AtMostOnce, false, 0, b"m") });
        pair.reader.expect_disconnect(ReasonCode::ProtocolError);
    }
}

/// [MQTT-3.3.2-7]
#[test]
fn aliases_towards_a_client_begin_anew_with_each_connection() {
    let broker = Broker::new();
    let mut publisher = broker.client("p").connect();
    for _ in 0..2 {
        let connecting = broker.client("r").persistent().set(|connect| connect.topic_alias_maximum = 5);
        let mut reader = connecting.connect();
        reader.subscribe("a/topic", QoS::AtMostOnce);
        for topic in ["a/topic", ""] {
            publisher.publish("a/topic", QoS::AtMostOnce, b"m");
            let message = reader.message();
            assert_eq!((message.publish().topic, message.publish().topic_alias), (topic, Some(1)));
        }
        reader.reset();
    }
}

/// [MQTT-3.3.2-8] What a client gets that goes beyond the maximum: [MQTT-3.3.2-9]
#[test]
fn alias_0_and_alias_above_the_maximum_end_the_connection() {
    for alias in [0_u16, 17, u16::MAX] {
        for topic in [&b"t"[..], b""] {
            for mut pair in pairs_v5() {
                let [high, low] = alias.to_be_bytes();
                pair.publisher.send(&wire::publish_with(topic, &[0x23, high, low], b"m"));
                pair.publisher.expect_disconnect(ReasonCode::TopicAliasInvalid);
            }
        }
    }
}

/// [MQTT-3.3.2-12]
#[test]
fn every_alias_up_to_the_announced_maximum_is_accepted() {
    for mut pair in pairs_v5() {
        pair.reader.subscribe("#", QoS::ExactlyOnce);
        let announced = pair.publisher.connack.as_ref().expect("connected").connack().topic_alias_maximum;
        let maximum = announced.expect("there is one by default");
        for round in 0..2 {
            for alias in (1..=maximum).rev() {
                let topic = format!("t/{round}/{alias}");
                for (topic, qos) in [(topic.as_str(), QoS::AtMostOnce), ("", QoS::AtLeastOnce), ("", QoS::ExactlyOnce)]
                {
                    let id = if qos == QoS::AtMostOnce { 0 } else { pair.publisher.next_id() };
                    let publish = out_publish(topic, qos, false, id, b"m");
                    pair.publisher.send_out(&OutPublish { topic_alias: alias, ..publish });
                    if qos == QoS::ExactlyOnce {
                        pair.publisher.next_of(PacketKind::PubRec);
                        pair.publisher.send_packet(&Packet::PubRel(Ack::new(id, ReasonCode::Success)));
                    }
                }
                for qos in QOS {
                    let message = pair.reader.message();
                    assert_eq!((message.publish().topic, message.publish().qos), (topic.as_str(), qos));
                    assert_eq!(message.publish().topic_alias, None, "an alias is between two parties");
                }
            }
        }
    }
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-11]
#[test]
fn broker_keeps_within_the_clients_alias_maximum_and_evicts() {
    for maximum in [0_u16, 1, 2, 5, u16::MAX] {
        for mut pair in pairs_v5() {
            let connecting = pair.broker.client("r").set(|connect| connect.topic_alias_maximum = maximum);
            let mut reader = connecting.connect();
            reader.subscribe("#", QoS::AtLeastOnce);
            let mut known = std::collections::HashMap::new();
            let mut short = 0;
            let mut changed = 0;
            // A few topics come again and again, and others come by.
            for number in 0..200_u32 {
                let topic = match number % 3 {
                    0 => format!("topic/{}", number % 4 + number / 100 * 10),
                    1 => "topic/often".to_owned(),
                    _ => format!("topic/{number}"),
                };
                let qos = if number % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                pair.publisher.publish(&topic, qos, topic.as_bytes());
                let message = reader.message();
                let publish = message.publish();
                if let Some(alias) = publish.topic_alias {
                    assert!((1..=maximum.min(16)).contains(&alias));
                    if publish.topic.is_empty() {
                        short += 1;
                    } else {
                        changed += u32::from(known.insert(alias, publish.topic.to_owned()).is_some());
                    }
                }
                let named = if publish.topic.is_empty() {
                    known[&publish.topic_alias.expect("no name, so an alias")].as_str()
                } else {
                    publish.topic
                };
                assert_eq!(named.as_bytes(), publish.payload);
            }
            assert_eq!(short > 0, maximum > 0, "aliases are used if they may be");
            assert_eq!(changed > 0, maximum > 0, "and given to other topics");
        }
    }
}
