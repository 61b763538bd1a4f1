//! Finding packet bounds in a byte stream.

use crate::cursor::varint;
use crate::violation::Violation;

/// One whole packet: its first byte and everything behind the remaining length. Borrows from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub first: u8,
    pub body: &'a [u8],
    /// Bytes of the whole packet, fixed header included: how far to move on in the buffer.
    pub len: usize,
}

impl Frame<'_> {
    #[inline]
    #[must_use]
    pub fn kind(&self) -> Option<PacketKind> {
        PacketKind::from_first_byte(self.first)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    Packet(Frame<'a>),
    /// More bytes must come; `need` is the length of the whole packet as soon as the header tells it.
    Incomplete {
        need: Option<usize>,
    },
}

/// Finds the first packet in `buf`.
///
/// Reads at most five bytes of header, and refuses a packet that is larger than `max_packet` (whole packet, in bytes) from
/// its header alone, before the body has arrived: nobody buffers by a peer's number.
#[inline]
pub fn split(buf: &[u8], max_packet: u32) -> Result<Split<'_>, Violation> {
    let Some((first, behind)) = buf.split_first() else {
        return Ok(Split::Incomplete { need: None });
    };
    if *first < 0x10 {
        return Err(Violation::ReservedPacketType);
    }
    let Some((remaining, used)) = varint(behind)? else {
        return Ok(Split::Incomplete { need: None });
    };
    let header = used.wrapping_add(1);
    let len = (remaining as usize).wrapping_add(header);
    if len > max_packet as usize {
        return Err(Violation::PacketTooLarge);
    }
    match buf.get(header..len) {
        Some(body) => Ok(Split::Packet(Frame { first: *first, body, len })),
        None => Ok(Split::Incomplete { need: Some(len) }),
    }
}

/// The sixteen packet types; the number is the upper half of a packet's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketKind {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketKind {
    pub const ALL: [PacketKind; 15] = [
        PacketKind::Connect,
        PacketKind::ConnAck,
        PacketKind::Publish,
        PacketKind::PubAck,
        PacketKind::PubRec,
        PacketKind::PubRel,
        PacketKind::PubComp,
        PacketKind::Subscribe,
        PacketKind::SubAck,
        PacketKind::Unsubscribe,
        PacketKind::UnsubAck,
        PacketKind::PingReq,
        PacketKind::PingResp,
        PacketKind::Disconnect,
        PacketKind::Auth,
    ];

    /// `None` for type 0, which every version reserves.
    #[inline]
    #[must_use]
    pub const fn from_first_byte(first: u8) -> Option<PacketKind> {
        Some(match first >> 4 {
            1 => PacketKind::Connect,
            2 => PacketKind::ConnAck,
            3 => PacketKind::Publish,
            4 => PacketKind::PubAck,
            5 => PacketKind::PubRec,
            6 => PacketKind::PubRel,
            7 => PacketKind::PubComp,
            8 => PacketKind::Subscribe,
            9 => PacketKind::SubAck,
            10 => PacketKind::Unsubscribe,
            11 => PacketKind::UnsubAck,
            12 => PacketKind::PingReq,
            13 => PacketKind::PingResp,
            14 => PacketKind::Disconnect,
            15 => PacketKind::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this kind: type and prescribed flags (all clear for PUBLISH).
    #[inline]
    #[must_use]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            PacketKind::PubRel | PacketKind::Subscribe | PacketKind::Unsubscribe => 2,
            _ => 0,
        };
        ((self as u8) << 4) | flags
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PacketKind::Connect => "CONNECT",
            PacketKind::ConnAck => "CONNACK",
            PacketKind::Publish => "PUBLISH",
            PacketKind::PubAck => "PUBACK",
            PacketKind::PubRec => "PUBREC",
            PacketKind::PubRel => "PUBREL",
            PacketKind::PubComp => "PUBCOMP",
            PacketKind::Subscribe => "SUBSCRIBE",
            PacketKind::SubAck => "SUBACK",
            PacketKind::Unsubscribe => "UNSUBSCRIBE",
            PacketKind::UnsubAck => "UNSUBACK",
            PacketKind::PingReq => "PINGREQ",
            PacketKind::PingResp => "PINGRESP",
            PacketKind::Disconnect => "DISCONNECT",
            PacketKind::Auth => "AUTH",
        }
    }
}
