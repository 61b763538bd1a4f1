//! Topic Names.

use crate::utf8;
use crate::violation::Violation;

/// How large a Topic Name or Topic Filter may be. The wire allows 65,535 bytes and as many levels; a trie walk and a log
/// line want less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    pub levels_max: u16,
    pub bytes_max: u16,
}

impl Default for TopicLimits {
    fn default() -> TopicLimits {
        TopicLimits { levels_max: 128, bytes_max: u16::MAX }
    }
}

/// The levels of a name or filter; an empty level counts ("/a" has two).
#[inline]
pub fn levels(name: &str) -> core::str::Split<'_, char> {
    name.split('/')
}

/// Checks a Topic Name that does not come from a decoded packet (a will, an API, a configuration).
pub fn check(name: &str) -> Result<(), Violation> {
    if name.is_empty() {
        return Err(Violation::TopicNameEmpty); // [MQTT-4.7.3-1]
    }
    utf8::check_topic(name.as_bytes()).map(|_| ()) // [MQTT-4.7.0-1] [MQTT-4.7.3-2]
}

/// Whether a name or filter stays inside the limits.
#[inline]
#[must_use]
pub fn within(name: &str, limits: &TopicLimits) -> bool {
    name.len() <= usize::from(limits.bytes_max) && has_levels_at_most(name, usize::from(limits.levels_max))
}

#[inline]
fn has_levels_at_most(name: &str, max: usize) -> bool {
    // A name of n bytes has at most n + 1 levels, so a short one needs no count.
    name.len() < max || name.bytes().filter(|byte| *byte == b'/').count() < max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_at_their_border() {
        let limits = TopicLimits { levels_max: 3, bytes_max: 6 };
        for (name, expected) in [
            ("a", true),
            ("a/b/c", true),
            ("a/b/c/d", false),
            ("//", true),
            ("///", false),
            ("abcdef", true),
            ("abcdefg", false),
        ] {
            assert_eq!(within(name, &limits), expected, "{name}");
        }
        assert!(!within("a", &TopicLimits { levels_max: 0, bytes_max: 9 }));
    }

    #[test]
    fn names_with_wildcards_nul_or_nothing_are_refused() {
        assert_eq!(check(""), Err(Violation::TopicNameEmpty));
        assert_eq!(check("a/+"), Err(Violation::TopicNameWildcard));
        assert_eq!(check("a\0"), Err(Violation::NulInString));
        assert_eq!(check("a b/ü"), Ok(()));
    }
}
