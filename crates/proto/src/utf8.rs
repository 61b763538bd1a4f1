//! Strings of the wire: valid UTF-8 without U+0000.

use crate::violation::Violation;

/// Checks one string of the wire. U+FEFF is kept as an ordinary character [MQTT-1.5.4-3]; control characters and
/// non-characters may stand (see [`has_control_chars`] for those who refuse them).
#[inline]
pub fn check(bytes: &[u8]) -> Result<&str, Violation> {
    if holds_any(bytes, [0; 1]) {
        return Err(Violation::NulInString); // [MQTT-1.5.4-2]
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
    core::str::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8) // [MQTT-1.5.4-1]
}

#[cold]
fn topic_fault(bytes: &[u8]) -> Violation {
    if core::str::from_utf8(bytes).is_err() {
        Violation::InvalidUtf8
    } else if bytes.contains(&0) {
        Violation::NulInString // [MQTT-1.5.4-2]
    } else {
        Violation::TopicNameWildcard // [MQTT-3.3.2-2]
    }
}

/// Whether any byte is one of `wanted`. Without a branch per byte, so that it becomes vector code.
#[inline]
fn holds_any<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    bytes.iter().fold(false, |found, byte| found | wanted.iter().fold(false, |f, w| f | (byte == w)))
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
