//! From frames to the stream of MQTT, in place.

use std::fmt;

use super::code;
use super::frame::{CONTROL_MAX, HEADER_MAX, OpCode, Role, mask, put_close, put_frame};

/// Takes frames apart. One per connection; between two reads it remembers the beginning of a header, or how much of a
/// payload is to come.
#[derive(Debug)]
pub struct Decoder {
    frame_bytes_max: u32,
    message_bytes_max: u32,
    /// Bytes of the message that is open.
    message: u32,
    /// Payload of the frame under way that is still to come.
    left: u32,
    /// Mask for the next byte of it, and those after.
    key: [u8; 4],
    /// The beginning of a header.
    partial: [u8; HEADER_MAX],
    partial_len: u8,
    role: Role,
    /// What the payload belongs to; none while a header is read.
    opcode: Option<OpCode>,
    /// The frame under way ends its message.
    last: bool,
    /// A message has begun and not ended.
    open: bool,
    /// Nothing more is listened to.
    ended: bool,
    /// Payload of a control frame that comes in pieces.
    control: Option<Box<Control>>,
}

/// Payload of a control frame.
#[derive(Debug)]
struct Control {
    bytes: [u8; CONTROL_MAX],
    len: u8,
}

/// What [`Decoder::decode`] made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the stream; they stand at the front now.
    pub payload: usize,
    /// No more will come. What it says stands behind the payload.
    pub end: Option<End>,
}

/// Why no more will come. The answer to it is among the answers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer has closed, with this code if it gave one.
    Closed(Option<u16>),
    /// The peer does not keep to the rules.
    Broken(Fault),
}

/// A rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A text frame: MQTT needs binary ones.
    Text,
    /// A bit that nobody has negotiated, such as that of compression.
    ReservedBits,
    /// A kind of frame that does not exist.
    UnknownOpCode,
    /// A client that does not mask, or a server that does.
    Mask,
    /// A control frame that is too long, or in fragments.
    Control,
    /// A continuation of nothing, or a new message within another.
    Order,
    /// A length in more bytes than it needs, or beyond what is possible.
    Length,
    /// A frame or a message above the bound.
    TooBig,
    /// A close frame with half a code, or one that must not be sent.
    Close,
    /// A reason that is not UTF-8.
    CloseText,
}

impl Fault {
    /// Code that the peer is told.
    pub fn code(self) -> u16 {
        match self {
            Self::Text => code::UNACCEPTABLE,
            Self::TooBig => code::TOO_BIG,
            Self::CloseText => code::INVALID_TEXT,
            _ => code::PROTOCOL,
        }
    }

    /// In words, for the peer and the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Text => "WebSocket text frame: MQTT travels in binary frames",
            Self::ReservedBits => "WebSocket frame with reserved bits: no extension was negotiated",
            Self::UnknownOpCode => "WebSocket frame of an unknown kind",
            Self::Mask => "WebSocket frame with the wrong masking: clients mask, servers don't",
            Self::Control => "WebSocket control frame that is fragmented or longer than 125 bytes",
            Self::Order => "WebSocket fragments out of order",
            Self::Length => "WebSocket frame whose length is written wrongly",
            Self::TooBig => "WebSocket frame or message larger than max_frame_size",
            Self::Close => "WebSocket close frame with a code that must not be sent",
            Self::CloseText => "WebSocket close frame whose reason is not UTF-8",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Fault {}

/// A header, read.
struct Head {
    opcode: OpCode,
    last: bool,
    length: u32,
    key: [u8; 4],
}

impl Decoder {
    /// For the frames that this end receives.
    pub fn new(role: Role, frame_bytes_max: u32, message_bytes_max: u32) -> Self {
        Self {
            frame_bytes_max,
            message_bytes_max,
            message: 0,
            left: 0,
            key: [0; 4],
            partial: [0; HEADER_MAX],
            partial_len: 0,
            role,
            opcode: None,
            last: false,
            open: false,
            ended: false,
            control: None,
        }
    }

    /// Whether the peer has closed, or has been told to.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes all of `bytes`, moves the stream in them to the front, and appends what has to be answered. `key` masks the
    /// answers of a client.
    ///
    /// A peer that pings more often than we look gets one answer, to its last ping (RFC 6455, 5.5.3): answers stay bounded.
    pub fn decode(&mut self, bytes: &mut [u8], key: [u8; 4], answers: &mut Vec<u8>) -> Decoded {
        let key = (self.role == Role::Client).then_some(key);
        let mut way = Way { at: 0, out: 0, answers_from: answers.len() };
        while way.at < bytes.len() && !self.ended {
            if let Err(end) = self.step(bytes, &mut way, key, answers) {
                self.ended = true;
                self.control = None;
                match end {
                    // The code goes back to who gave it.
                    End::Closed(code) => put_close(answers, code.unwrap_or(code::NORMAL), "", key),
                    End::Broken(fault) => put_close(answers, fault.code(), fault.text(), key),
                }
                return Decoded { payload: way.out, end: Some(end) };
            }
        }
        Decoded { payload: way.out, end: None }
    }

    /// One header, or one piece of payload.
    fn step(
        &mut self,
        bytes: &mut [u8],
        way: &mut Way,
        key: Option<[u8; 4]>,
        answers: &mut Vec<u8>,
    ) -> Result<(), End> {
        let Some(opcode) = self.opcode else {
            way.at += self.on_header(&bytes[way.at..]).map_err(End::Broken)?;
            // A frame without payload ends with its header.
            return match self.opcode {
                Some(opcode) if self.left == 0 => self.on_frame_end(opcode, &[], way, key, answers),
                _ => Ok(()),
            };
        };
        let count = (self.left as usize).min(bytes.len() - way.at);
        let piece = way.at..way.at + count;
        self.left -= count as u32;
        way.at += count;
        if !opcode.is_control() {
            // Whatever packets begin or end in it [MQTT-6.0.0-2] [MQTT3-6.0.0-2].
            bytes.copy_within(piece, way.out);
            self.unmask(&mut bytes[way.out..way.out + count]);
            way.out += count;
            return if self.left == 0 { self.on_frame_end(opcode, &[], way, key, answers) } else { Ok(()) };
        }
        self.unmask(&mut bytes[piece.clone()]);
        if self.left == 0 && self.control.is_none() {
            return self.on_frame_end(opcode, &bytes[piece], way, key, answers);
        }
        let mut control = self.control.take().unwrap_or_else(|| Box::new(Control { bytes: [0; CONTROL_MAX], len: 0 }));
        let at = usize::from(control.len);
        control.bytes[at..at + count].copy_from_slice(&bytes[piece]);
        control.len += count as u8;
        if self.left == 0 {
            return self.on_frame_end(opcode, &control.bytes[..at + count], way, key, answers);
        }
        self.control = Some(control);
        Ok(())
    }

    /// Takes bytes until a header is complete; answers how many.
    fn on_header(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let had = usize::from(self.partial_len);
        let (head, used) = if had == 0
            && let Some(length) = bytes.get(1).map(|second| header_len(*second))
            && length <= bytes.len()
        {
            (self.head(&bytes[..length])?, length)
        } else {
            let mut have = had;
            for byte in bytes {
                self.partial[have] = *byte;
                have += 1;
                if have >= 2 && have == header_len(self.partial[1]) {
                    break;
                }
            }
            if have < 2 || have < header_len(self.partial[1]) {
                self.partial_len = have as u8;
                return Ok(bytes.len());
            }
            self.partial_len = 0;
            let header = self.partial;
            (self.head(&header[..have])?, have - had)
        };
        self.opcode = Some(head.opcode);
        self.last = head.last;
        self.left = head.length;
        self.key = head.key;
        Ok(used)
    }

    /// Reads a whole header and holds it against the rules.
    fn head(&mut self, header: &[u8]) -> Result<Head, Fault> {
        let (first, second) = (header[0], header[1]);
        if first & 0x70 != 0 {
            return Err(Fault::ReservedBits);
        }
        let opcode = OpCode::of(first).ok_or(Fault::UnknownOpCode)?;
        let last = first & 0x80 != 0;
        let masked = second & 0x80 != 0;
        if masked != (self.role == Role::Server) {
            return Err(Fault::Mask);
        }
        let (length, rest) = match second & 0x7F {
            126 => {
                let (length, rest) = header[2..].split_first_chunk().expect("the header is whole");
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = header[2..].split_first_chunk().expect("the header is whole");
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), &header[2..]),
        };
        let least = match second & 0x7F {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if length < least || length >> 63 != 0 {
            return Err(Fault::Length);
        }
        let key = rest.first_chunk().copied().unwrap_or_default();
        if opcode.is_control() {
            return if last && length <= CONTROL_MAX as u64 {
                Ok(Head { opcode, last, length: length as u32, key })
            } else {
                Err(Fault::Control)
            };
        }
        if opcode == OpCode::Text {
            return Err(Fault::Text); // [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
        }
        if self.open != (opcode == OpCode::Continuation) {
            return Err(Fault::Order);
        }
        let length = u32::try_from(length).map_err(|_| Fault::TooBig)?;
        let message = if self.open { self.message } else { 0 }.saturating_add(length);
        if length > self.frame_bytes_max || message > self.message_bytes_max {
            return Err(Fault::TooBig);
        }
        self.message = message;
        Ok(Head { opcode, last, length, key })
    }

    fn on_frame_end(
        &mut self,
        opcode: OpCode,
        control: &[u8],
        way: &Way,
        key: Option<[u8; 4]>,
        answers: &mut Vec<u8>,
    ) -> Result<(), End> {
        self.opcode = None;
        match opcode {
            OpCode::Continuation | OpCode::Text | OpCode::Binary => self.open = !self.last,
            OpCode::Ping => {
                answers.truncate(way.answers_from);
                put_frame(answers, OpCode::Pong, control, key);
            }
            OpCode::Pong => {}
            OpCode::Close => return Err(closed(control).map_or_else(End::Broken, End::Closed)),
        }
        Ok(())
    }

    /// Unmasks a piece of payload, and turns the key for the next one.
    fn unmask(&mut self, piece: &mut [u8]) {
        if self.role == Role::Server {
            mask(piece, self.key);
            self.key.rotate_left(piece.len() % 4);
        }
    }
}

/// Where one call stands in its bytes.
struct Way {
    at: usize,
    out: usize,
    /// Answers of earlier calls end here.
    answers_from: usize,
}

/// Length of a header, from its second byte.
fn header_len(second: u8) -> usize {
    let length = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

/// The code in a close frame.
fn closed(payload: &[u8]) -> Result<Option<u16>, Fault> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) = payload.split_first_chunk().ok_or(Fault::Close)?;
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::Close);
    }
    std::str::from_utf8(reason).map_err(|_| Fault::CloseText)?;
    Ok(Some(code))
}
