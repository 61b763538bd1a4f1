//! Reading the fields of a packet from front to back.

use crate::utf8;
use crate::violation::Violation;

/// What is left of a packet's bytes. Every read shortens it; running out is [`Violation::Truncated`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(rest: &'a [u8]) -> Cursor<'a> {
        Cursor { rest }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Violation> {
        let (first, rest) = self.rest.split_first().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        let (bytes, rest) = self.rest.split_first_chunk::<2>().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Binary data behind a two-byte length: 65,535 bytes at most, as for a string [MQTT-4.7.3-3] [MQTT3-4.7.3-3].
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string behind a two-byte length.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, Violation> {
        utf8::check(self.binary()?)
    }

    /// A packet identifier, which is never 0.
    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<u16, Violation> {
        match self.u16()? {
            0 => Err(Violation::PacketIdZero), // [MQTT-2.2.1-3] [MQTT3-2.3.1-1]
            id => Ok(id),
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, Violation> {
        match varint(self.rest)? {
            Some((value, used)) => {
                self.take(used)?;
                Ok(value)
            }
            None => Err(Violation::Truncated),
        }
    }

    /// Ends the packet: nothing may be left.
    #[inline]
    pub(crate) fn end(&self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(Violation::TrailingBytes) }
    }
}

/// Reads a Variable Byte Integer: its value and how many bytes it took; `None` when the bytes end within it.
#[inline]
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    if let Some(first) = bytes.first()
        && *first < 0x80
    {
        return Ok(Some((u32::from(*first), 1)));
    }
    long_varint(bytes)
}

fn long_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    let mut value = 0u32;
    for (byte, (shift, used)) in bytes.iter().zip([(0, 1), (7, 2), (14, 3), (21, 4)]) {
        value |= u32::from(byte & 0x7F) << shift;
        if *byte == 0 && used > 1 {
            return Err(Violation::VariableByteIntegerNotShortest); // [MQTT-1.5.5-1]
        }
        if byte & 0x80 == 0 {
            return Ok(Some((value, used)));
        }
    }
    if bytes.len() >= 4 { Err(Violation::VariableByteIntegerTooLong) } else { Ok(None) }
}
