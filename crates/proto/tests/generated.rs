//! Facts about any input: nothing panics, what is written is read back, and reading allocates nothing.

use breakwater_proto::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filters, ForwardProperties, Message, MessageView, OutPublish, Packet,
    Property, QoS, ReasonCode, RetainHandling, Split, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe,
    UnsubscribeFilters, UserProperties, Version, Will, decode, matches, parse_filter, split, topic,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Everything that a packet holds, owned, so that a strategy can make it.
#[derive(Clone, Debug)]
struct Parts {
    version: Version,
    qos: QoS,
    flags: [bool; 6],
    numbers: [u32; 3],
    id: u16,
    texts: Vec<String>,
    topic: String,
    payload: Vec<u8>,
    pairs: Vec<(String, String)>,
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[^\u{0}]{0,12}").expect("a valid expression")
}

fn topic_name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[^\u{0}+#]{1,20}").expect("a valid expression")
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        select(&Version::ALL[..]),
        select(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][..]),
        any::<[bool; 6]>(),
        prop::array::uniform3(1u32..=268_435_455),
        1u16..,
        prop::collection::vec(text(), 4),
        topic_name(),
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec((text(), text()), 0..4),
    )
        .prop_map(|(version, qos, flags, numbers, id, texts, topic, payload, pairs)| Parts {
            version,
            qos,
            flags,
            numbers,
            id,
            texts,
            topic,
            payload,
            pairs,
        })
}

/// Encoded pieces that the borrowed packets point into.
struct Encoded {
    user: Vec<u8>,
    forwarded: Vec<u8>,
    filters: Vec<u8>,
    plain_filters: Vec<u8>,
}

impl Parts {
    fn v5(&self) -> bool {
        self.version.is_v5()
    }

    fn when<T>(&self, flag: usize, value: T) -> Option<T> {
        (self.flags[flag] && self.v5()).then_some(value)
    }

    fn encoded(&self) -> Encoded {
        let (mut user, mut forwarded) = (Vec::new(), Vec::new());
        if self.v5() {
            for (name, value) in &self.pairs {
                Property::UserProperty(name, value).encode(&mut user);
            }
            if self.flags[0] {
                Property::PayloadFormatIndicator(1).encode(&mut forwarded);
                Property::CorrelationData(&self.payload).encode(&mut forwarded);
            }
            forwarded.extend_from_slice(&user);
            if self.flags[1] {
                Property::ResponseTopic(&self.topic).encode(&mut forwarded);
                Property::ContentType(&self.texts[0]).encode(&mut forwarded);
            }
        }
        let options = SubscribeOptions {
            qos: self.qos,
            no_local: self.when(2, ()).is_some(),
            retain_as_published: self.when(3, ()).is_some(),
            retain_handling: self.when(4, RetainHandling::Never).unwrap_or_default(),
        };
        let (mut filters, mut plain_filters) = (Vec::new(), Vec::new());
        for text in &self.texts {
            let text = text.trim_start_matches("$share/");
            Filters::write(text, options, &mut filters);
            UnsubscribeFilters::write(text, &mut plain_filters);
        }
        Encoded { user, forwarded, filters, plain_filters }
    }

    /// One packet of each kind.
    fn packets<'a>(&'a self, encoded: &'a Encoded) -> Vec<Packet<'a>> {
        let user_properties = UserProperties::from_encoded(&encoded.user);
        let reason_string = self.when(0, self.texts[1].as_str());
        let ack = |failure: ReasonCode| Ack {
            reason_string,
            user_properties,
            ..Ack::new(self.id, self.when(5, failure).unwrap_or_default())
        };
        let codes: &[u8] = &[0, 1, 2, 0x80];
        let unsub_codes: &[u8] = if self.v5() { &[0, 0x11, 0x87] } else { &[] };
        let mut packets = vec![
            Packet::Connect(self.connect(encoded)),
            Packet::ConnAck(self.connack(encoded)),
            Packet::PubAck(ack(ReasonCode::NotAuthorized)),
            Packet::PubRec(ack(ReasonCode::QuotaExceeded)),
            Packet::PubRel(ack(ReasonCode::PacketIdentifierNotFound)),
            Packet::PubComp(ack(ReasonCode::PacketIdentifierNotFound)),
            Packet::Subscribe(Subscribe {
                packet_id: self.id,
                subscription_id: self.when(1, self.numbers[0]),
                user_properties,
                filters: Filters::from_encoded(&encoded.filters),
            }),
            Packet::SubAck(SubAck { packet_id: self.id, codes, reason_string, user_properties }),
            Packet::Unsubscribe(Unsubscribe {
                packet_id: self.id,
                user_properties,
                filters: UnsubscribeFilters::from_encoded(&encoded.plain_filters),
            }),
            Packet::UnsubAck(UnsubAck { packet_id: self.id, codes: unsub_codes, reason_string, user_properties }),
            Packet::PingReq,
            Packet::PingResp,
            Packet::Disconnect(Disconnect {
                reason: self.when(2, ReasonCode::ServerMoved).unwrap_or_default(),
                session_expiry: self.when(3, self.numbers[1]),
                reason_string,
                server_reference: self.when(4, self.texts[2].as_str()),
                user_properties,
            }),
        ];
        if self.v5() {
            packets.push(Packet::Auth(Auth {
                reason: ReasonCode::ContinueAuthentication,
                method: Some(&self.texts[3]),
                data: self.when(1, self.payload.as_slice()),
                reason_string,
                user_properties,
            }));
        }
        packets
    }

    fn connect<'a>(&'a self, encoded: &'a Encoded) -> Connect<'a> {
        let will = Will {
            qos: self.qos,
            retain: self.flags[1],
            topic: &self.topic,
            payload: &self.payload,
            delay_s: self.when(2, self.numbers[0]).unwrap_or_default(),
            expiry: self.when(3, self.numbers[1]),
            properties: ForwardProperties::from_stripped(&encoded.forwarded),
        };
        let auth_method = self.when(1, self.texts[2].as_str());
        let username = self.flags[3].then_some(self.texts[1].as_str());
        Connect {
            version: self.version,
            bridge: self.flags[5] && !self.v5(),
            clean_start: self.flags[4],
            keep_alive_s: self.id,
            client_id: &self.texts[0],
            will: self.flags[2].then_some(will),
            username,
            password: username.and(self.flags[4].then_some(self.payload.as_slice())),
            session_expiry: self.when(0, self.numbers[1]),
            receive_maximum: self.when(1, self.id),
            maximum_packet_size: self.when(2, self.numbers[2]),
            topic_alias_maximum: self.when(3, self.id).unwrap_or_default(),
            request_response_information: self.when(4, ()).is_some(),
            request_problem_information: self.when(5, ()).is_none(),
            auth_method,
            auth_data: auth_method.and(self.when(0, self.payload.as_slice())),
            user_properties: UserProperties::from_encoded(&encoded.user),
        }
    }

    fn connack<'a>(&'a self, encoded: &'a Encoded) -> ConnAck<'a> {
        let reason = if self.flags[0] { ReasonCode::Success } else { ReasonCode::NotAuthorized };
        ConnAck {
            session_present: self.flags[0] && self.version != Version::V31,
            reason,
            session_expiry: self.when(1, self.numbers[0]),
            receive_maximum: self.when(2, self.id),
            maximum_qos: self.when(3, 1),
            retain_available: self.when(4, self.flags[5]),
            maximum_packet_size: self.when(5, self.numbers[1]),
            assigned_client_id: self.when(1, self.texts[0].as_str()),
            topic_alias_maximum: self.when(2, self.id),
            reason_string: self.when(3, self.texts[1].as_str()),
            user_properties: UserProperties::from_encoded(&encoded.user),
            wildcard_available: self.when(4, self.flags[1]),
            subscription_ids_available: self.when(5, self.flags[2]),
            shared_available: self.when(1, self.flags[3]),
            server_keep_alive: self.when(2, self.id),
            response_information: self.when(3, self.texts[2].as_str()),
            server_reference: self.when(4, self.texts[3].as_str()),
            auth_method: self.when(5, self.texts[0].as_str()),
            auth_data: self.when(5, self.payload.as_slice()),
        }
    }

    fn delivery<'a>(&'a self, encoded: &'a Encoded, ids: &'a [u32]) -> OutPublish<'a> {
        OutPublish {
            dup: self.flags[0] && self.qos != QoS::AtMostOnce,
            qos: self.qos,
            retain: self.flags[1],
            packet_id: if self.qos == QoS::AtMostOnce { 0 } else { self.id },
            topic: &self.topic,
            topic_alias: self.when(2, self.id).unwrap_or_default(),
            expiry: self.when(3, self.numbers[0]),
            subscription_ids: ids,
            properties: ForwardProperties::from_stripped(&encoded.forwarded),
            payload: &self.payload,
        }
    }

    /// Every packet of these parts in its encoded form, deliveries included.
    fn wires(&self) -> Vec<Vec<u8>> {
        let encoded = self.encoded();
        let mut wires: Vec<Vec<u8>> = Vec::new();
        for packet in self.packets(&encoded) {
            let mut out = Vec::new();
            packet.encode(self.version, &mut out);
            wires.push(out);
        }
        let mut out = Vec::new();
        self.delivery(&encoded, &self.numbers).encode(self.version, &mut out);
        wires.push(out);
        wires
    }
}

/// Decodes all that a stream holds, as a connection would, and walks through everything borrowed.
fn swallow(version: Version, mut stream: &[u8]) -> usize {
    let mut packets = 0;
    while let Ok(Split::Packet(frame)) = split(stream, 1 << 20) {
        if let Ok(packet) = decode(version, &frame) {
            packets += 1;
            walk(&packet);
        }
        stream = &stream[frame.len..];
    }
    packets
}

fn walk(packet: &Packet<'_>) {
    match packet {
        Packet::Publish(publish) => {
            assert!(publish.properties.iter().count() <= publish.properties.len());
            publish.subscription_identifiers().count();
        }
        Packet::Subscribe(subscribe) => assert!(subscribe.filters().count() >= 1),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters().count() >= 1),
        Packet::Connect(connect) => {
            let _ = connect.user_properties.count();
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_to_the_same(parts in parts()) {
        let encoded = parts.encoded();
        for packet in parts.packets(&encoded) {
            let mut out = Vec::new();
            packet.encode(parts.version, &mut out);
            let Ok(Split::Packet(frame)) = split(&out, u32::MAX) else { panic!("not whole: {packet:?}") };
            prop_assert_eq!(frame.len, out.len());
            prop_assert_eq!(decode(parts.version, &frame), Ok(packet));
        }
    }

    #[test]
    fn a_delivery_is_decoded_to_what_was_sent(parts in parts()) {
        let encoded = parts.encoded();
        let ids: &[u32] = if parts.v5() && parts.flags[4] { &parts.numbers } else { &[] };
        let delivery = parts.delivery(&encoded, ids);
        let mut out = Vec::new();
        delivery.encode(parts.version, &mut out);
        prop_assert_eq!(out.len(), delivery.encoded_len(parts.version));
        let Ok(Split::Packet(frame)) = split(&out, u32::MAX) else { panic!("not whole") };
        let Ok(Packet::Publish(publish)) = decode(parts.version, &frame) else { panic!("no publish") };
        prop_assert_eq!(publish.topic, delivery.topic);
        prop_assert_eq!(publish.payload, delivery.payload);
        prop_assert_eq!((publish.qos, publish.dup, publish.retain), (delivery.qos, delivery.dup, delivery.retain));
        prop_assert_eq!(publish.packet_id, delivery.packet_id);
        prop_assert_eq!(publish.properties, delivery.properties);
        prop_assert_eq!(publish.expiry, delivery.expiry);
        prop_assert_eq!(publish.topic_alias.unwrap_or_default(), delivery.topic_alias);
        prop_assert_eq!(publish.subscription_identifiers().collect::<Vec<_>>(), ids);
        let mut again = Vec::new();
        publish.encode(parts.version, &mut again);
        prop_assert_eq!(out, again);
    }

    #[test]
    fn any_bytes_never_panic_and_never_allocate(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for version in Version::ALL {
            let used = allocation_counter::measure(|| {
                swallow(version, &bytes);
            });
            prop_assert_eq!(used.count_total, 0);
        }
    }

    #[test]
    fn any_body_behind_any_first_byte_never_panics(first: u8, body in prop::collection::vec(any::<u8>(), 0..128)) {
        let mut stream = vec![first, body.len() as u8];
        if body.len() >= 128 { stream[1] = 0; }
        stream.extend_from_slice(&body);
        for version in Version::ALL {
            swallow(version, &stream);
        }
    }

    #[test]
    fn any_truncation_or_bit_flip_of_a_valid_packet_never_panics(parts in parts(), at: prop::sample::Index, bit in 0..8u8) {
        for wire in parts.wires() {
            let cut = at.index(wire.len());
            swallow(parts.version, &wire[..cut]);
            // The same with a length that does not lie about what is left.
            if let Ok(Split::Packet(frame)) = split(&wire, u32::MAX) {
                let body = &frame.body[..at.index(frame.body.len() + 1)];
                let frame = breakwater_proto::Frame { body, ..frame };
                let _ = decode(parts.version, &frame).map(|packet| walk(&packet));
            }
            let mut flipped = wire.clone();
            flipped[cut] ^= 1 << bit;
            for version in Version::ALL {
                swallow(version, &flipped);
            }
        }
    }

    #[test]
    fn decoding_valid_packets_never_allocates(parts in parts()) {
        for wire in parts.wires() {
            let used = allocation_counter::measure(|| assert_eq!(swallow(parts.version, &wire), 1));
            prop_assert_eq!(used.count_total, 0);
        }
    }

    /// A prefix of a packet is never a packet, and the length that it names is the packet's.
    #[test]
    fn a_prefix_is_incomplete(parts in parts(), at: prop::sample::Index) {
        for wire in parts.wires() {
            let prefix = &wire[..at.index(wire.len())];
            match split(prefix, u32::MAX) {
                Ok(Split::Incomplete { need }) => prop_assert!(need.is_none_or(|need| need == wire.len())),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_message_survives_its_bytes(parts in parts(), origin: u64, at: prop::sample::Index, bit in 0..8u8) {
        let encoded = parts.encoded();
        let view = MessageView {
            topic: &parts.topic,
            payload: &parts.payload,
            qos: parts.qos,
            retain: parts.flags[0],
            properties: ForwardProperties::from_stripped(&encoded.forwarded),
            expires_at: parts.flags[1].then_some(breakwater_proto::Instant(u64::from(parts.numbers[0]))),
            origin,
        };
        let message = Message::new(&view, &mut Vec::new());
        prop_assert_eq!(message.view(), view);
        prop_assert_eq!((message.qos(), message.retain(), message.origin()), (view.qos, view.retain, view.origin));
        prop_assert_eq!(message.expires_at(), view.expires_at);
        prop_assert_eq!(Message::from_bytes(message.as_bytes()).map(|m| m == message), Some(true));
        // What comes from a disk may be anything.
        let mut bytes = message.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Some(message) = Message::from_bytes(&bytes) {
            let _ = message.view();
        }
        let _ = Message::from_bytes(&bytes[..at]);
    }

    #[test]
    fn any_filter_and_topic_never_panic(filter in "[a/+#$ü\u{0}]{0,12}|\\$share/[a/+#$]{0,8}", name in "[a/$ü]{0,12}") {
        let _ = parse_filter(&filter);
        let _ = matches(&filter, &name);
        let _ = topic::check(&name);
        let _ = topic::check(&filter);
    }

    #[test]
    fn a_topic_name_matches_itself(name in "[a-c/$]{1,12}") {
        prop_assert!(topic::check(&name).is_ok());
        prop_assert!(matches(&name, &name));
        prop_assert_eq!(matches("#", &name), !name.starts_with('$'));
    }
}
