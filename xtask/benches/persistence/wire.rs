//! As much of MQTT 3.1.1 as the generator speaks.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};

use breakwater_proto::{
    Connect, Disconnect, Filters, ForwardProperties, OutPublish, Packet, QoS, ReasonCode, Split, Subscribe,
    SubscribeOptions, UserProperties, Version, decode, split,
};

pub(crate) const VERSION: Version = Version::V311;

pub(crate) fn connect(id: &str, clean: bool, out: &mut Vec<u8>) {
    let mut connect = Connect::new(VERSION, id);
    (connect.clean_start, connect.keep_alive_s) = (clean, 0);
    connect.encode(VERSION, out);
}

pub(crate) fn subscribe(filter: &str, out: &mut Vec<u8>) {
    let mut filters = Vec::new();
    Filters::write(filter, SubscribeOptions::new(QoS::AtLeastOnce), &mut filters);
    let filters = Filters::from_encoded(&filters);
    Subscribe { packet_id: 1, subscription_id: None, user_properties: UserProperties::EMPTY, filters }
        .encode(VERSION, out);
}

pub(crate) fn disconnect(out: &mut Vec<u8>) {
    Disconnect::new(ReasonCode::Success).encode(VERSION, out);
}

pub(crate) fn publish(topic: &str, packet_id: u16, retain: bool, payload: &[u8], out: &mut Vec<u8>) {
    let publish = OutPublish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain,
        packet_id,
        topic,
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        payload,
    };
    publish.encode(VERSION, out);
}

/// Calls `each` with the whole packets in `input`, and leaves the rest.
pub(crate) fn packets(input: &mut Vec<u8>, mut each: impl FnMut(Packet<'_>)) {
    let mut at = 0;
    while let Split::Packet(frame) = split(&input[at..], 1 << 20).expect("a broker speaks MQTT") {
        each(decode(VERSION, &frame).expect("a broker speaks MQTT"));
        at += frame.len;
    }
    input.drain(..at);
}

pub(crate) fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the broker listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Reads until one packet of the wanted kind has come.
pub(crate) fn await_packet(stream: &mut TcpStream, input: &mut Vec<u8>, wanted: impl Fn(&Packet<'_>) -> bool) {
    let (mut found, mut scratch) = (false, [0; 4096]);
    while !found {
        let read = stream.read(&mut scratch).expect("the broker answers");
        assert!(read > 0, "the broker has ended the connection");
        input.extend_from_slice(&scratch[..read]);
        packets(input, |packet| found |= wanted(&packet));
    }
}
