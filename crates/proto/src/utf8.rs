//! Strings of the wire: valid UTF-8 without U+0000.

use crate::violation::Violation;

/// Checks one string of the wire. U+FEFF is kept as an ordinary character [MQTT-1.5.4-3] [MQTT3-1.5.3-3]; control characters and
/// non-characters may stand (see [`has_control_chars`] for those who refuse them).
#[inline]
pub fn check(bytes: &[u8]) -> Result<&str, Violation> {
    if holds_any(bytes, [0; 1]) {
        return Err(Violation::NulInString); // [MQTT-1.5.4-2] [MQTT3-1.5.3-2]
    }
    text(bytes)
}

/// Checks a Topic Name: a string without wildcards. Emptiness is for the caller to judge.
#[inline]
pub fn check_topic(bytes: &[u8]) -> Result<&str, Violation> {
    if holds_any(bytes, [0, b'+', b'#']) {
        return Err(topic_fault(bytes));
    }
    text(bytes)
}

#[inline]
fn text(bytes: &[u8]) -> Result<&str, Violation> {
    core::str::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8) // [MQTT-1.5.4-1] [MQTT3-1.5.3-1]
}

#[cold]
fn topic_fault(bytes: &[u8]) -> Violation {
    if core::str::from_utf8(bytes).is_err() {
        Violation::InvalidUtf8
    } else if bytes.contains(&0) {
        Violation::NulInString // [MQTT-4.7.3-2] [MQTT3-4.7.3-2]
    } else {
        Violation::TopicNameWildcard // [MQTT-4.7.0-1] [MQTT3-4.7.1-1]
    }
}

/// Whether any byte is one of `wanted`.
///
/// Eight bytes at a time, the last eight overlapping those before: topics are short, and a tail byte by byte costs more
/// than the rest (20 ns to 14 ns per PUBLISH with a topic of 23 bytes).
#[inline]
fn holds_any<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (words, _) = bytes.as_chunks::<8>();
        let found = words.iter().fold(0, |found, word| found | marks(u64::from_ne_bytes(*word), wanted));
        found | marks(u64::from_ne_bytes(*last), wanted) != 0
    } else if let (Some([a, b, c, d]), Some([e, f, g, h])) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        marks(u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), wanted) != 0
    } else {
        bytes.iter().any(|byte| wanted.contains(byte))
    }
}

/// Not 0 when one of the word's eight bytes is wanted (the classic "has a zero byte", once per wanted one).
#[inline]
fn marks<const N: usize>(word: u64, wanted: [u8; N]) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = LOW << 7;
    wanted.iter().fold(0, |found, byte| {
        let zero_where_equal = word ^ u64::from_ne_bytes([*byte; 8]);
        found | (zero_where_equal.wrapping_sub(LOW) & !zero_where_equal & HIGH)
    })
}

/// Whether the text holds a control character (U+0001..U+001F, U+007F..U+009F) or a Unicode non-character, which 1.5.4
/// lets a receiver refuse. They are accepted by default; an operator may want them kept out of logs and other protocols.
#[must_use]
pub fn has_control_chars(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || is_noncharacter(c))
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}
