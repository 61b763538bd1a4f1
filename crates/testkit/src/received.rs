//! A packet that the broker has sent, kept with its bytes.

use breakwater_proto::{
    Ack, ConnAck, Disconnect, Packet, PacketKind, Publish, Split, SubAck, UnsubAck, Version, decode, split,
};

/// One whole packet, owned; borrow the decoded form with [`Received::packet`].
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    version: Version,
    bytes: Box<[u8]>,
}

impl Received {
    /// Cuts the first packet off the front of `bytes`. `None`: it is not all there.
    pub fn cut(version: Version, bytes: &mut Vec<u8>) -> Option<Received> {
        let length = match split(bytes, u32::MAX).expect("the broker sends well-formed packets") {
            Split::Packet(frame) => frame.len,
            Split::Incomplete { .. } => return None,
        };
        let packet: Box<[u8]> = bytes.drain(..length).collect();
        let received = Received { version, bytes: packet };
        let _ = received.packet();
        Some(received)
    }

    /// The packet, decoded. Panics if the broker sent nonsense.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        let Ok(Split::Packet(frame)) = split(&self.bytes, u32::MAX) else { unreachable!("a whole packet was kept") };
        match decode(self.version, &frame) {
            Ok(packet) => packet,
            Err(violation) => panic!("the broker sent a malformed packet ({violation}): {:02x?}", self.bytes),
        }
    }

    /// As it stood on the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn kind(&self) -> PacketKind {
        self.packet().kind()
    }

    /// The CONNACK; panics if it is something else.
    #[must_use]
    pub fn connack(&self) -> ConnAck<'_> {
        let Packet::ConnAck(packet) = self.packet() else { panic!("expected CONNACK, got {self:?}") };
        packet
    }

    /// The PUBLISH; panics if it is something else.
    #[must_use]
    pub fn publish(&self) -> Publish<'_> {
        let Packet::Publish(packet) = self.packet() else { panic!("expected PUBLISH, got {self:?}") };
        packet
    }

    /// The SUBACK; panics if it is something else.
    #[must_use]
    pub fn suback(&self) -> SubAck<'_> {
        let Packet::SubAck(packet) = self.packet() else { panic!("expected SUBACK, got {self:?}") };
        packet
    }

    /// The UNSUBACK; panics if it is something else.
    #[must_use]
    pub fn unsuback(&self) -> UnsubAck<'_> {
        let Packet::UnsubAck(packet) = self.packet() else { panic!("expected UNSUBACK, got {self:?}") };
        packet
    }

    /// The PUBACK, PUBREC, PUBREL or PUBCOMP; panics if it is something else.
    #[must_use]
    pub fn ack(&self) -> Ack<'_> {
        match self.packet() {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => ack,
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }

    /// The DISCONNECT; panics if it is something else.
    #[must_use]
    pub fn disconnect(&self) -> Disconnect<'_> {
        let Packet::Disconnect(packet) = self.packet() else { panic!("expected DISCONNECT, got {self:?}") };
        packet
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.packet().fmt(f)
    }
}
