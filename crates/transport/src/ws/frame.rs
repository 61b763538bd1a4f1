//! Headers, masks, and the frames that are made here.

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its peer masks what it sends.
    Server,
    /// It masks what it sends; its peer must not.
    Client,
}

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// More of the message that is open.
    Continuation = 0,
    /// Text: not for MQTT.
    Text = 1,
    /// Binary.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// I am.
    Pong = 10,
}

impl OpCode {
    /// The kind that stands in the first byte of a frame; none if the RFC keeps it for later.
    pub fn of(first: u8) -> Option<Self> {
        Some(match first & 0x0F {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// May stand between the fragments of a message, and has no fragments of its own.
    pub fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }
}

/// Longest header: two bytes, a length of eight, and a mask.
pub const HEADER_MAX: usize = 14;

/// Longest payload of a control frame.
pub(super) const CONTROL_MAX: usize = 125;

/// Header of one whole message, to be written in front of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; HEADER_MAX],
    len: u8,
}

impl Header {
    /// The header of a frame with that much payload; with a key it is that of a client.
    pub fn new(opcode: OpCode, payload: usize, key: Option<[u8; 4]>) -> Self {
        const FIN: u8 = 0x80;
        const MASKED: u8 = 0x80;
        let mut header = Self { bytes: [0; HEADER_MAX], len: 2 };
        header.bytes[0] = FIN | opcode as u8;
        if let Ok(short) = u8::try_from(payload)
            && usize::from(short) <= CONTROL_MAX
        {
            header.bytes[1] = short;
        } else if let Ok(middle) = u16::try_from(payload) {
            header.bytes[1] = 126;
            header.push(&middle.to_be_bytes());
        } else {
            header.bytes[1] = 127;
            header.push(&(payload as u64).to_be_bytes());
        }
        if let Some(key) = key {
            header.bytes[1] |= MASKED;
            header.push(&key);
        }
        header
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(&mut self, more: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + more.len()].copy_from_slice(more);
        self.len += more.len() as u8;
    }
}

/// Masks, or unmasks, bytes whose first one meets the first byte of the key.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a whole frame.
pub fn put_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], key: Option<[u8; 4]>) {
    out.extend_from_slice(Header::new(opcode, payload.len(), key).as_bytes());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Appends a close frame. A reason that is too long is cut.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str, key: Option<[u8; 4]>) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_MAX - 2)];
    let mut payload = [0; CONTROL_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    put_frame(out, OpCode::Close, &payload[..2 + reason.len()], key);
}
