//! Writing the fields of a packet, or only counting what they would take.

/// The largest value that a Variable Byte Integer holds, so also the largest remaining length.
pub(crate) const VARINT_MAX: usize = 268_435_455;

/// Where encoded fields go. The same walk over a packet serves twice: once to count, once to write.
pub(crate) trait Sink {
    fn bytes(&mut self, bytes: &[u8]);

    #[inline]
    fn byte(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Binary data behind a two-byte length. What is longer than the length field can say is cut, so that a caller's
    /// mistake can't break the framing.
    #[inline]
    fn binary(&mut self, value: &[u8]) {
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.u16(len);
        self.bytes(value.get(..usize::from(len)).unwrap_or(value));
    }

    /// A string behind a two-byte length.
    #[inline]
    fn string(&mut self, value: &str) {
        self.binary(fitting(value).as_bytes());
    }

    /// A Variable Byte Integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    fn varint(&mut self, value: usize) {
        let mut rest = value.min(VARINT_MAX);
        while rest > 0x7F {
            self.byte(low_seven_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.byte(low_seven_bits(rest));
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
const fn low_seven_bits(value: usize) -> u8 {
    (value & 0x7F) as u8
}

impl Sink for Vec<u8> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn byte(&mut self, value: u8) {
        self.push(value);
    }
}

/// The string, cut at a character's border where a two-byte length ends. Strings from packets always fit.
#[inline]
pub(crate) fn fitting(value: &str) -> &str {
    let max = usize::from(u16::MAX);
    if value.len() <= max { value } else { value.get(..value.floor_char_boundary(max)).unwrap_or_default() }
}

/// Counts instead of writing.
#[derive(Default)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// How many bytes `write` would put out.
#[inline]
pub(crate) fn count(write: impl FnOnce(&mut Count)) -> usize {
    let mut count = Count::default();
    write(&mut count);
    count.0
}

/// How many bytes a Variable Byte Integer of this value takes.
#[inline]
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// The length of a whole packet with a body of this size.
#[inline]
pub(crate) const fn packet_len(body: usize) -> usize {
    body.saturating_add(1).saturating_add(varint_len(body))
}
