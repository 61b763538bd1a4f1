//! The few packets the generator needs, written and scanned by hand.
//!
//! The generator must be many times cheaper than any broker it loads, so it looks at no more of a packet than its
//! bounds, its packet id and the stamp at the head of its payload. Full decoding lives in `breakwater-proto`.

use std::fmt;

/// Protocol level as CONNECT carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Level {
    V311 = 4,
    V5 = 5,
}

impl Level {
    fn is_v5(self) -> bool {
        self == Level::V5
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Level::V311 => "3.1.1",
            Level::V5 => "5",
        }
    }
}

pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
pub(super) const SUBACK: u8 = 9;
pub(super) const UNSUBACK: u8 = 11;
pub(super) const DISCONNECT: u8 = 14;

/// Largest value of the Remaining Length field.
const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// What heads each payload: when the message was due, who sent it and as which of its messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    pub(super) due_ns: u64,
    pub(super) publisher: u32,
    pub(super) sequence: u32,
}

impl Stamp {
    pub(super) const LEN: usize = 16;

    #[inline]
    pub(super) fn write(&self, to: &mut [u8]) {
        to[..8].copy_from_slice(&self.due_ns.to_le_bytes());
        to[8..12].copy_from_slice(&self.publisher.to_le_bytes());
        to[12..16].copy_from_slice(&self.sequence.to_le_bytes());
    }

    #[inline]
    pub(super) fn read(payload: &[u8]) -> Option<Stamp> {
        let head: &[u8; Stamp::LEN] = payload.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let due_ns = u64::from(word(0)) | u64::from(word(4)) << 32;
        Some(Stamp { due_ns, publisher: word(8), sequence: word(12) })
    }
}

/// First byte, body and whole length of a packet.
pub(super) type Found<'a> = (u8, &'a [u8], usize);

/// Finds the first packet in `buf`; `None` until it is complete.
#[inline]
pub(super) fn first_packet(buf: &[u8]) -> Result<Option<Found<'_>>, Malformed> {
    let [first, rest @ ..] = buf else { return Ok(None) };
    let Some((length, used)) = read_varint(rest)? else { return Ok(None) };
    match rest.get(used..used + length) {
        Some(body) => Ok(Some((*first, body, 1 + used + length))),
        None => Ok(None),
    }
}

/// A length field that runs over four bytes, or a body too short for its kind: the other side does not speak MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("received bytes that are no MQTT packet")
    }
}

/// Why the broker ended the connection, from its DISCONNECT.
pub(super) fn disconnected(body: &[u8]) -> String {
    match body.first() {
        Some(reason) => format!("the broker disconnected with reason {reason:#04x}"),
        None => "the broker disconnected".to_string(),
    }
}

#[inline]
fn read_varint(buf: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0usize;
    for (i, byte) in buf.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if buf.len() >= 4 { Err(Malformed) } else { Ok(None) }
}

/// Packet id (0 at QoS 0) and payload of a PUBLISH body.
#[inline]
pub(super) fn delivery(level: Level, first: u8, body: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let topic = usize::from(packet_id(body)?);
    let mut at = 2 + topic;
    let mut id = 0;
    if first & 0x06 != 0 {
        id = packet_id(body.get(at..).ok_or(Malformed)?)?;
        at += 2;
    }
    if level.is_v5() {
        let (length, used) = read_varint(body.get(at..).ok_or(Malformed)?)?.ok_or(Malformed)?;
        at += used + length;
    }
    Ok((id, body.get(at..).ok_or(Malformed)?))
}

/// The two-byte number that opens a body.
#[inline]
pub(super) fn packet_id(body: &[u8]) -> Result<u16, Malformed> {
    body.first_chunk().map(|two: &[u8; 2]| u16::from_be_bytes(*two)).ok_or(Malformed)
}

/// Return or reason code of a CONNACK, and the Receive Maximum in it.
pub(super) fn connack(level: Level, body: &[u8]) -> Result<(u8, Option<u16>), Malformed> {
    let code = *body.get(1).ok_or(Malformed)?;
    if !level.is_v5() || body.len() < 3 {
        return Ok((code, None));
    }
    let (length, used) = read_varint(&body[2..])?.ok_or(Malformed)?;
    let properties = body.get(2 + used..2 + used + length).ok_or(Malformed)?;
    Ok((code, receive_maximum(properties)))
}

/// Walks the properties that may stand in a CONNACK; stops at one it does not know.
fn receive_maximum(mut properties: &[u8]) -> Option<u16> {
    while let [id, rest @ ..] = properties {
        let size = match id {
            0x21 => return rest.first_chunk().map(|two: &[u8; 2]| u16::from_be_bytes(*two)),
            0x24 | 0x25 | 0x28..=0x2a => 1,
            0x13 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => 2 + usize::from(packet_id(rest).ok()?),
            0x26 => {
                let key = 2 + usize::from(packet_id(rest).ok()?);
                key + 2 + usize::from(packet_id(rest.get(key..)?).ok()?)
            }
            _ => return None,
        };
        properties = rest.get(size..)?;
    }
    None
}

pub(super) fn connect(level: Level, client_id: &str, keep_alive_s: u16, receive_maximum: u16) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    text(&mut body, "MQTT");
    body.extend([level as u8, 0x02]); // clean session / clean start
    body.extend(keep_alive_s.to_be_bytes());
    if level.is_v5() {
        body.extend([3, 0x21]);
        body.extend(receive_maximum.to_be_bytes());
    }
    text(&mut body, client_id);
    packet(0x10, &body)
}

pub(super) fn subscribe(level: Level, id: u16, filters: &[impl AsRef<str>], qos: u8) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    body.extend(id.to_be_bytes());
    if level.is_v5() {
        body.push(0);
    }
    for filter in filters {
        text(&mut body, filter.as_ref());
        body.push(qos);
    }
    packet(0x82, &body)
}

pub(super) fn unsubscribe(level: Level, id: u16, filter: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    body.extend(id.to_be_bytes());
    if level.is_v5() {
        body.push(0);
    }
    text(&mut body, filter);
    packet(0xa2, &body)
}

pub(super) const DISCONNECT_PACKET: [u8; 2] = [DISCONNECT << 4, 0];

/// PUBACK, PUBREC, PUBREL or PUBCOMP with success: four bytes in every version.
#[inline]
pub(super) fn ack(kind: u8, id: u16) -> [u8; 4] {
    let flags = if kind == PUBREL { 0x02 } else { 0 };
    let [high, low] = id.to_be_bytes();
    [kind << 4 | flags, 2, high, low]
}

/// A PUBLISH ready but for its packet id and its stamp.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    stamp_at: usize,
}

impl Template {
    /// `size` counts payload bytes and is at least `Stamp::LEN`.
    pub(super) fn new(level: Level, topic: &str, qos: u8, size: usize) -> Template {
        assert!(size >= Stamp::LEN, "the payload must hold its stamp");
        let mut body = Vec::with_capacity(topic.len() + size + 8);
        text(&mut body, topic);
        let id_at = (qos > 0).then_some(body.len());
        if qos > 0 {
            body.extend([0, 0]);
        }
        if level.is_v5() {
            body.push(0);
        }
        let payload_at = body.len();
        body.resize(payload_at + size, b'x');
        let head = head_len(body.len());
        let bytes = packet(0x30 | qos << 1, &body);
        Template { bytes, id_at: id_at.map(|at| at + head), stamp_at: payload_at + head }
    }

    /// Length of the whole packet.
    pub(super) fn packet_len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(super) fn append(&self, id: u16, stamp: &Stamp, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if let Some(at) = self.id_at {
            packet[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        stamp.write(&mut packet[self.stamp_at..]);
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= REMAINING_LENGTH_MAX, "no MQTT packet is longer");
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    let mut left = body.len();
    loop {
        let seven = u8::try_from(left & 0x7f).expect("seven bits fit a byte");
        left >>= 7;
        out.push(if left > 0 { seven | 0x80 } else { seven });
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn head_len(body: usize) -> usize {
    match body {
        0..=0x7f => 2,
        0x80..=0x3fff => 3,
        0x4000..=0x1f_ffff => 4,
        _ => 5,
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("callers pass short names");
    out.extend(length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_reads_back_as_the_delivery_it_describes() {
        for level in [Level::V311, Level::V5] {
            for qos in 0..=2 {
                for size in [16, 64, 1024, 20_000, 3_000_000] {
                    let template = Template::new(level, "bench/1", qos, size);
                    let stamp = Stamp { due_ns: 0x0102_0304_0506_0708, publisher: 9, sequence: 4_000_000_000 };
                    let mut out = Vec::new();
                    template.append(77, &stamp, &mut out);
                    let (first, body, length) = first_packet(&out).unwrap().unwrap();
                    assert_eq!((first >> 4, length), (PUBLISH, out.len()));
                    let (id, payload) = delivery(level, first, body).unwrap();
                    assert_eq!(id, if qos == 0 { 0 } else { 77 });
                    assert_eq!(payload.len(), size);
                    assert_eq!(Stamp::read(payload), Some(stamp));
                }
            }
        }
    }

    #[test]
    fn a_packet_is_found_only_when_complete() {
        let whole = connect(Level::V5, "a", 0, 1000);
        for end in 0..whole.len() {
            assert_eq!(first_packet(&whole[..end]), Ok(None));
        }
        assert!(first_packet(&whole).unwrap().is_some());
        assert_eq!(first_packet(&[0x30, 0xff, 0xff, 0xff, 0xff]), Err(Malformed));
    }

    #[test]
    fn connack_tells_the_receive_maximum() {
        assert_eq!(connack(Level::V311, &[0, 5]), Ok((5, None)));
        assert_eq!(connack(Level::V5, &[0, 0, 6, 0x22, 0, 10, 0x21, 0, 20]), Ok((0, Some(20))));
        assert_eq!(connack(Level::V5, &[0, 0, 0]), Ok((0, None)));
    }
}
