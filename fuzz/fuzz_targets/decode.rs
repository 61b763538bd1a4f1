//! Any stream of packets: nothing panics, and what is decoded survives being written and read again.
//!
//! The first byte of the input chooses the version and the packet limit, the rest is the stream.
#![no_main]

use breakwater_proto::{
    ForwardProperties, Message, MessageView, OutPublish, Packet, Publish, Split, Version, decode, peek_version, split,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, mut stream)) = input.split_first() else { return };
    let version = Version::ALL[usize::from(choice % 3)];
    let limit = if choice & 0x80 == 0 { u32::MAX } else { 64 };
    while let Ok(Split::Packet(frame)) = split(stream, limit) {
        assert!(frame.len <= limit as usize && frame.len <= stream.len());
        prefixes_wait(&stream[..frame.len], limit);
        let _ = peek_version(frame.body);
        if let Ok(packet) = decode(version, &frame) {
            survives(version, &packet);
            if let Packet::Publish(publish) = packet {
                can_be_delivered(version, &publish);
            }
        }
        stream = &stream[frame.len..];
    }
});

/// A part of a packet is no packet, and the length that it announces is the packet's.
fn prefixes_wait(packet: &[u8], limit: u32) {
    for len in (0..packet.len()).take(8).chain([packet.len() - 1]) {
        match split(&packet[..len], limit) {
            Ok(Split::Incomplete { need }) => assert!(need.is_none_or(|need| need == packet.len())),
            other => panic!("{other:?}"),
        }
    }
}

fn survives(version: Version, packet: &Packet<'_>) {
    let mut wire = Vec::new();
    packet.encode(version, &mut wire);
    let Ok(Split::Packet(frame)) = split(&wire, u32::MAX) else { panic!("not whole: {packet:?}") };
    assert_eq!(frame.len, wire.len());
    assert_eq!(decode(version, &frame).as_ref(), Ok(packet));
    let mut again = Vec::new();
    packet.encode(version, &mut again);
    assert_eq!(wire, again);
}

/// Through a message at rest and out to a subscriber of each version.
fn can_be_delivered(version: Version, publish: &Publish<'_>) {
    if publish.topic.is_empty() {
        return;
    }
    let view = MessageView {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        properties: publish.properties,
        expires_at: None,
        origin: 1,
    };
    let message = Message::new(&view, &mut Vec::new());
    assert_eq!(message.view(), view);
    assert_eq!(Message::from_bytes(message.as_bytes()).as_ref(), Some(&message));
    let ids: Vec<u32> = publish.subscription_identifiers().collect();
    for target in Version::ALL {
        let delivery = OutPublish {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            topic: publish.topic,
            topic_alias: publish.topic_alias.unwrap_or_default(),
            expiry: publish.expiry,
            subscription_ids: &ids,
            properties: message.view().properties,
            payload: publish.payload,
        };
        let mut wire = Vec::new();
        delivery.encode(target, &mut wire);
        assert_eq!(wire.len(), delivery.encoded_len(target));
        let Ok(Split::Packet(frame)) = split(&wire, u32::MAX) else { panic!("not whole: {delivery:?}") };
        // 3.1 reads a DUP on QoS 0 that the others refuse.
        if publish.dup && publish.qos as u8 == 0 {
            continue;
        }
        let Ok(Packet::Publish(received)) = decode(target, &frame) else { panic!("unreadable: {delivery:?}") };
        assert_eq!((received.topic, received.payload), (publish.topic, publish.payload));
        if target.is_v5() && version.is_v5() {
            assert_eq!(&received, publish);
        } else {
            assert!(received.properties == ForwardProperties::EMPTY || version.is_v5());
        }
    }
}
