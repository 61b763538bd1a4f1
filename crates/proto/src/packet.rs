//! The packets, borrowed from the bytes that they were read from.

pub mod ack;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod publish;
pub mod suback;
pub mod subscribe;
pub mod unsubscribe;

use crate::cursor::Cursor;
use crate::frame::{Frame, PacketKind};
use crate::sink::{self, Sink};
use crate::version::Version;
use crate::violation::Violation;
use ack::Ack;
use auth::Auth;
use connack::ConnAck;
use connect::Connect;
use disconnect::Disconnect;
use publish::{Publish, decode_publish};
use suback::{SubAck, UnsubAck};
use subscribe::Subscribe;
use unsubscribe::Unsubscribe;

/// Any packet of any version, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Decodes one packet. A CONNECT says its own version; for every other packet `version` is what the CONNECT agreed.
#[inline]
pub fn decode<'a>(version: Version, frame: &Frame<'a>) -> Result<Packet<'a>, Violation> {
    if frame.first >> 4 == PacketKind::Publish as u8 {
        return decode_publish(version, frame.first, frame.body).map(Packet::Publish);
    }
    decode_other(version, frame)
}

fn decode_other<'a>(version: Version, frame: &Frame<'a>) -> Result<Packet<'a>, Violation> {
    let kind = PacketKind::from_first_byte(frame.first).ok_or(Violation::ReservedPacketType)?;
    if kind == PacketKind::Auth && !version.is_v5() {
        return Err(Violation::ReservedPacketType);
    }
    check_flags(version, kind, frame.first)?;
    let body = Cursor::new(frame.body);
    Ok(match kind {
        PacketKind::Connect => Packet::Connect(Connect::decode(body)?),
        PacketKind::ConnAck => Packet::ConnAck(ConnAck::decode(version, body)?),
        PacketKind::Publish => Packet::Publish(decode_publish(version, frame.first, frame.body)?),
        PacketKind::PubAck => Packet::PubAck(Ack::decode(version, kind, body)?),
        PacketKind::PubRec => Packet::PubRec(Ack::decode(version, kind, body)?),
        PacketKind::PubRel => Packet::PubRel(Ack::decode(version, kind, body)?),
        PacketKind::PubComp => Packet::PubComp(Ack::decode(version, kind, body)?),
        PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(version, body)?),
        PacketKind::SubAck => Packet::SubAck(SubAck::decode(version, body)?),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(version, body)?),
        PacketKind::UnsubAck => Packet::UnsubAck(UnsubAck::decode(version, body)?),
        PacketKind::PingReq => body.end().map(|()| Packet::PingReq)?,
        PacketKind::PingResp => body.end().map(|()| Packet::PingResp)?,
        PacketKind::Disconnect => Packet::Disconnect(Disconnect::decode(version, body)?),
        PacketKind::Auth => Packet::Auth(Auth::decode(body)?),
    })
}

/// Reserved flags must be as prescribed [MQTT-2.1.3-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
/// [MQTT-3.6.1-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT3-3.6.1-1] [MQTT3-3.8.1-1] [MQTT3-3.10.1-1] [MQTT3-3.14.1-1].
/// In 3.1 PUBREL, SUBSCRIBE and UNSUBSCRIBE have a DUP flag for their retransmission.
#[inline]
fn check_flags(version: Version, kind: PacketKind, first: u8) -> Result<(), Violation> {
    let prescribed = kind.first_byte();
    let free = if version == Version::V31 && prescribed & 2 != 0 { 0x08 } else { 0 };
    if first & !free == prescribed { Ok(()) } else { Err(Violation::FixedHeaderFlags) }
}

impl Packet<'_> {
    #[must_use]
    pub const fn kind(&self) -> PacketKind {
        match self {
            Packet::Connect(_) => PacketKind::Connect,
            Packet::ConnAck(_) => PacketKind::ConnAck,
            Packet::Publish(_) => PacketKind::Publish,
            Packet::PubAck(_) => PacketKind::PubAck,
            Packet::PubRec(_) => PacketKind::PubRec,
            Packet::PubRel(_) => PacketKind::PubRel,
            Packet::PubComp(_) => PacketKind::PubComp,
            Packet::Subscribe(_) => PacketKind::Subscribe,
            Packet::SubAck(_) => PacketKind::SubAck,
            Packet::Unsubscribe(_) => PacketKind::Unsubscribe,
            Packet::UnsubAck(_) => PacketKind::UnsubAck,
            Packet::PingReq => PacketKind::PingReq,
            Packet::PingResp => PacketKind::PingResp,
            Packet::Disconnect(_) => PacketKind::Disconnect,
            Packet::Auth(_) => PacketKind::Auth,
        }
    }

    /// Appends the packet as it stands on the wire.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(packet) => packet.encode(version, out),
            Packet::ConnAck(packet) => packet.encode(version, out),
            Packet::Publish(packet) => packet.encode(version, out),
            Packet::PubAck(ack) => ack.encode(version, PacketKind::PubAck, out),
            Packet::PubRec(ack) => ack.encode(version, PacketKind::PubRec, out),
            Packet::PubRel(ack) => ack.encode(version, PacketKind::PubRel, out),
            Packet::PubComp(ack) => ack.encode(version, PacketKind::PubComp, out),
            Packet::Subscribe(packet) => packet.encode(version, out),
            Packet::SubAck(packet) => packet.encode(version, out),
            Packet::Unsubscribe(packet) => packet.encode(version, out),
            Packet::UnsubAck(packet) => packet.encode(version, out),
            Packet::PingReq => encode_pingreq(out),
            Packet::PingResp => encode_pingresp(out),
            Packet::Disconnect(packet) => packet.encode(version, out),
            Packet::Auth(packet) => packet.encode(version, out),
        }
    }
}

#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xC0, 0]);
}

#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}

/// A packet that can write what stands behind its fixed header.
pub(crate) trait Body {
    fn write_body<S: Sink>(&self, version: Version, out: &mut S);
}

pub(crate) fn encode_packet(first: u8, body: &impl Body, version: Version, out: &mut Vec<u8>) {
    let len = sink::count(|count| body.write_body(version, count));
    out.reserve(sink::packet_len(len));
    out.push(first);
    out.varint(len);
    body.write_body(version, out);
}

pub(crate) fn packet_len(body: &impl Body, version: Version) -> usize {
    sink::packet_len(sink::count(|count| body.write_body(version, count)))
}

/// The two public encoding methods of a packet with a fixed first byte.
macro_rules! encoding {
    ($packet:ident, $kind:ident) => {
        impl $packet<'_> {
            /// Appends the packet as it stands on the wire. A string or binary field longer than its two-byte length
            /// can say is cut; that the whole stays below 256 MiB is the caller's to check with `encoded_len`.
            pub fn encode(&self, version: $crate::version::Version, out: &mut Vec<u8>) {
                $crate::packet::encode_packet($crate::frame::PacketKind::$kind.first_byte(), self, version, out);
            }

            /// Bytes that `encode` appends.
            #[must_use]
            pub fn encoded_len(&self, version: $crate::version::Version) -> usize {
                $crate::packet::packet_len(self, version)
            }
        }
    };
}
pub(crate) use encoding;
