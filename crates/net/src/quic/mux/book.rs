//! Which stream an exchange, an alias or a topic belongs to. Every map is bounded; what it has no room for belongs to the
//! control stream.

use std::collections::HashMap;

use breakwater_proto::{Frame, Packet, PacketKind, Split, Version, decode, peek_version, split};

use super::filters::Filters;
use super::{Breach, CONTROL, Stream, WHOLE_MAX};

/// Exchanges under way that remember their stream, in each direction. Far above what Receive Maximum lets through.
const EXCHANGES_MAX: usize = 4096;
/// Bytes of the body of a CONNECT that tell its version.
pub(super) const VERSION_BYTES: usize = 9;
/// First in the properties of a PUBLISH, as this broker writes them.
const TOPIC_ALIAS: u8 = 0x23;

#[derive(Default)]
pub(super) struct Book {
    /// Known when the CONNECT has begun to pass.
    version: Option<Version>,
    pub(super) data_streams: usize,
    /// Packet identifiers of the client that wait for an answer on a data stream.
    owed: HashMap<u16, Stream>,
    /// Packet identifiers of ours that wait for their PUBREL, likewise.
    releases: HashMap<u16, Stream>,
    /// Topic aliases that were introduced on a data stream. Bounded by what the client allows.
    aliases: HashMap<u16, Stream>,
    filters: Filters,
}

/// The head of a PUBLISH.
#[derive(Debug, PartialEq, Eq)]
struct Head<'a> {
    topic: &'a [u8],
    alias: Option<u16>,
}

impl Book {
    pub(super) fn is_connected(&self) -> bool {
        self.version.is_some()
    }

    /// Looks at a packet of the client: its body, or the beginning of a body that is too long to be collected.
    pub(super) fn inspect(&mut self, stream: Stream, first: u8, body: &[u8], whole: bool) -> Result<(), Breach> {
        let Some(version) = self.version else {
            // If this is no CONNECT, the shard ends the connection, whatever version is guessed here.
            self.version = Some(peek_version(body).unwrap_or(Version::V5));
            return Ok(());
        };
        let Some(kind) = PacketKind::from_first_byte(first) else { return Ok(()) };
        if stream != CONTROL && matches!(kind, PacketKind::Connect | PacketKind::Disconnect | PacketKind::Auth) {
            return Err(Breach::Misplaced(kind));
        }
        if self.data_streams == 0 {
            return Ok(());
        }
        let id = match kind {
            PacketKind::Publish if first & 0x06 != 0 => {
                let topic = usize::from(u16_at(body, 0).unwrap_or_default());
                u16_at(body, 2 + topic)
            }
            PacketKind::PubRec | PacketKind::PubRel | PacketKind::Subscribe | PacketKind::Unsubscribe => {
                u16_at(body, 0)
            }
            _ => None,
        };
        if let Some(id) = id {
            let map = if kind == PacketKind::PubRec { &mut self.releases } else { &mut self.owed };
            remember(map, id, stream);
        }
        if whole && matches!(kind, PacketKind::Subscribe | PacketKind::Unsubscribe) {
            self.note_filters(version, stream, &Frame { first, body, len: body.len() });
        }
        Ok(())
    }

    fn note_filters(&mut self, version: Version, stream: Stream, frame: &Frame<'_>) {
        // What can't be decoded is the shard's to refuse.
        match decode(version, frame) {
            Ok(Packet::Subscribe(packet)) => {
                packet.filters().for_each(|(filter, _)| self.filters.add(filter, stream));
            }
            Ok(Packet::Unsubscribe(packet)) => packet.filters().for_each(|filter| self.filters.remove(filter)),
            _ => {}
        }
    }

    /// Where a packet of the shard belongs, and its length. None: more of it is needed to tell.
    pub(super) fn target(&mut self, bytes: &[u8]) -> Option<(Stream, usize)> {
        let (len, body) = match split(bytes, u32::MAX) {
            Ok(Split::Packet(frame)) => (frame.len, frame.body),
            Ok(Split::Incomplete { need: Some(len) }) => (len, super::beginning(bytes)),
            Ok(Split::Incomplete { need: None }) => return None,
            // The shard writes none such.
            Err(_) => return Some((CONTROL, bytes.len())),
        };
        if self.data_streams == 0 {
            return Some((CONTROL, len));
        }
        let whole = bytes.len() >= len;
        let id = u16_at(body, 0);
        let target = match PacketKind::from_first_byte(bytes[0]) {
            // An identifier, and behind it what has become of a PUBLISH.
            Some(kind) if is_answer(kind) && !whole && body.len() < 3 => return None,
            Some(PacketKind::PubRec) if body.get(2).is_none_or(|reason| *reason < REFUSED) => {
                id.and_then(|id| self.owed.get(&id).copied())
            }
            Some(PacketKind::PubRel) => id.and_then(|id| self.releases.remove(&id)),
            Some(kind) if is_answer(kind) => id.and_then(|id| self.owed.remove(&id)),
            Some(PacketKind::Publish) => match self.head(bytes[0], body) {
                Some(head) => self.delivery(&head),
                // Longer than any head that this broker writes.
                None if whole || bytes.len() > WHOLE_MAX => None,
                None => return None,
            },
            _ => None,
        };
        Some((target.unwrap_or(CONTROL), len))
    }

    /// Topic and alias of a PUBLISH; none if its beginning is not enough.
    fn head<'a>(&self, first: u8, body: &'a [u8]) -> Option<Head<'a>> {
        let behind = 2 + usize::from(u16_at(body, 0)?);
        let topic = body.get(2..behind)?;
        if self.version != Some(Version::V5) {
            return Some(Head { topic, alias: None });
        }
        let properties = if first & 0x06 == 0 { behind } else { behind + 2 };
        let length = body.get(properties..)?;
        let digits = length.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
        if length[0] == 0 {
            return Some(Head { topic, alias: None });
        }
        let alias = match length.get(digits)? {
            &TOPIC_ALIAS => Some(u16_at(length, digits + 1)?),
            _ => None,
        };
        Some(Head { topic, alias })
    }

    fn delivery(&mut self, head: &Head<'_>) -> Option<Stream> {
        let Some(alias) = head.alias else { return self.filters.find(head.topic) };
        if head.topic.is_empty() {
            return self.aliases.get(&alias).copied();
        }
        let target = self.filters.find(head.topic);
        match target {
            Some(stream) => self.aliases.insert(alias, stream),
            None => self.aliases.remove(&alias),
        };
        target
    }

    /// Whether an answer to this stream is outstanding.
    pub(super) fn owes(&self, stream: Stream) -> bool {
        self.owed.values().any(|of| *of == stream)
    }

    /// Nothing is delivered on this stream because of its subscriptions.
    pub(super) fn forget_filters(&mut self, stream: Stream) {
        self.filters.forget(stream);
    }

    /// Nothing belongs to this stream any more.
    pub(super) fn forget(&mut self, stream: Stream) {
        self.filters.forget(stream);
        for map in [&mut self.owed, &mut self.releases, &mut self.aliases] {
            map.retain(|_, of| *of != stream);
        }
    }
}

/// Reason codes from here on are refusals.
const REFUSED: u8 = 0x80;

/// Whether a packet of the broker belongs to an exchange with an identifier.
fn is_answer(kind: PacketKind) -> bool {
    use PacketKind::{PubAck, PubComp, PubRec, PubRel, SubAck, UnsubAck};
    matches!(kind, PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck)
}

/// An entry for a data stream; none for the control stream.
fn remember(map: &mut HashMap<u16, Stream>, id: u16, stream: Stream) {
    if stream == CONTROL {
        map.remove(&id);
    } else if map.len() < EXCHANGES_MAX || map.contains_key(&id) {
        map.insert(id, stream);
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().expect("two bytes")))
}
