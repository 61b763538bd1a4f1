//! Kinds of values: how a setting is written, read, bounded and printed.

use std::fmt::Write as _;

/// What a setting may hold. Bounds are inclusive and in the unit in which the value is kept.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A plain number.
    Count { min: u64, max: u64 },
    /// Bytes, written with a unit. KB, MB and GB count in 1024, as EMQX users expect.
    Bytes { min: u64, max: u64 },
    /// A time span, kept in milliseconds, written with a unit.
    Duration { min_ms: u64, max_ms: u64 },
    /// A factor with up to two decimals, kept in hundredths.
    Factor { min: u64, max: u64 },
    /// `true` or `false`, kept as 1 or 0.
    Flag,
    /// One of some words, kept as its index.
    Choice(&'static [&'static str]),
    /// One or more of some words, comma-separated, kept as a bit set.
    Several(&'static [&'static str]),
    /// Text of at most that many bytes.
    Text { bytes_max: usize },
}

/// A value of a setting, parsed and inside its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Text(Box<str>),
}

impl Value {
    /// The number, 0 for text.
    pub fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(_) => 0,
        }
    }

    /// The text, empty for a number.
    pub fn text(&self) -> &str {
        match self {
            Self::Number(_) => "",
            Self::Text(text) => text,
        }
    }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Units of time, longest first, in milliseconds.
const TIMES: [(&str, u64); 5] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];

/// Units of size, largest first.
const SIZES: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

impl Kind {
    /// Reads a value. The error says what is allowed.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let number = match self {
            Self::Text { bytes_max } => {
                let fits = text.len() <= bytes_max && !text.chars().any(char::is_control);
                return if fits { Ok(Value::Text(text.into())) } else { Err(self.wrong(text)) };
            }
            Self::Count { .. } => digits(text),
            Self::Bytes { .. } => size(text),
            Self::Duration { .. } => duration(text),
            Self::Factor { .. } => hundredths(text),
            Self::Flag => match text {
                "true" | "on" | "yes" | "1" => Some(1),
                "false" | "off" | "no" | "0" => Some(0),
                _ => None,
            },
            Self::Choice(words) => words.iter().position(|word| *word == text).map(|at| at as u64),
            Self::Several(words) => bits(words, text),
        };
        let number = number.ok_or_else(|| self.wrong(text))?;
        let (min, max) = self.bounds();
        if (min..=max).contains(&number) { Ok(Value::Number(number)) } else { Err(self.wrong(text)) }
    }

    /// What is allowed, in words.
    pub fn allowed(self) -> String {
        let (min, max) = self.bounds();
        match self {
            Self::Flag => "true, false".into(),
            Self::Choice(words) => words.join(", "),
            Self::Several(words) => format!("one or more of {}", words.join(",")),
            Self::Text { bytes_max } => format!("text of at most {bytes_max} bytes"),
            _ => format!("{} to {}", self.written(min), self.written(max)),
        }
    }

    /// A number of this kind as a user would write it.
    pub fn written(self, number: u64) -> String {
        match self {
            Self::Count { .. } => number.to_string(),
            Self::Bytes { .. } => in_units(number, &SIZES, "B"),
            Self::Duration { .. } => in_units(number, &TIMES, "s"),
            Self::Factor { .. } if number.is_multiple_of(100) => (number / 100).to_string(),
            Self::Factor { .. } => format!("{}.{:02}", number / 100, number % 100).trim_end_matches('0').into(),
            Self::Flag => (number != 0).to_string(),
            Self::Choice(words) => words.get(number as usize).copied().unwrap_or_default().into(),
            Self::Several(words) => {
                let mut text = String::new();
                for (_, word) in words.iter().enumerate().filter(|(at, _)| number & (1 << at) != 0) {
                    let comma = if text.is_empty() { "" } else { "," };
                    let _ = write!(text, "{comma}{word}");
                }
                text
            }
            Self::Text { .. } => String::new(),
        }
    }

    fn bounds(self) -> (u64, u64) {
        match self {
            Self::Count { min, max } | Self::Bytes { min, max } | Self::Factor { min, max } => (min, max),
            Self::Duration { min_ms, max_ms } => (min_ms, max_ms),
            Self::Several(_) => (1, u64::MAX),
            Self::Flag | Self::Choice(_) | Self::Text { .. } => (0, u64::MAX),
        }
    }

    fn wrong(self, text: &str) -> String {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Duration { .. } if bare => {
                format!("needs a unit, such as {text}s ({})", self.allowed())
            }
            _ => format!("takes {}", self.allowed()),
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits(number)?.checked_mul(factor)
}

/// `15s`, `500ms`, `1h30m`; a plain `0` needs no unit.
fn duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total, mut any) = (text, 0_u64, false);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = TIMES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)?;
        total = total.checked_add(digits(number)?.checked_mul(factor)?)?;
        (rest, any) = (tail, true);
    }
    any.then_some(total)
}

fn hundredths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let scale = match fraction.len() {
        1 => 10,
        2 => 1,
        _ => return None,
    };
    digits(whole)?.checked_mul(100)?.checked_add(digits(fraction)? * scale)
}

fn bits(words: &[&str], text: &str) -> Option<u64> {
    let mut set = 0;
    for part in text.split(',') {
        set |= 1 << words.iter().position(|word| *word == part.trim())?;
    }
    Some(set)
}

fn in_units(number: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => format!("{number}{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Kind = Kind::Duration { min_ms: 0, max_ms: 7 * DAY };
    const SIZE: Kind = Kind::Bytes { min: 1, max: 1 << 30 };

    #[test]
    fn sizes_count_in_1024() {
        for (text, bytes) in [("1MB", 1 << 20), ("64 KiB", 64 << 10), ("12", 12), ("3b", 3), ("1g", 1 << 30)] {
            assert_eq!(SIZE.parse(text), Ok(Value::Number(bytes)), "{text}");
        }
        for text in ["", "MB", "1.5MB", "1TB", "-1", "+1", "0", "2GB", "99999999999999999999GB"] {
            assert!(SIZE.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [("15s", 15_000), ("1h30m", 5_400_000), ("500ms", 500), ("0", 0), ("2d", 2 * DAY)] {
            assert_eq!(SPAN.parse(text), Ok(Value::Number(ms)), "{text}");
        }
        for text in ["", "s", "15", "1w", "8d", "1h30", "-1s", "99999999999999999999d"] {
            assert!(SPAN.parse(text).is_err(), "{text}");
        }
        assert!(SPAN.parse("15").unwrap_err().contains("15s"));
    }

    #[test]
    fn what_is_written_reads_back() {
        let words = Kind::Several(&["3.1", "3.1.1", "5.0"]);
        let factor = Kind::Factor { min: 100, max: 1000 };
        for (kind, number) in [
            (SIZE, 1 << 20),
            (SIZE, 1000),
            (SPAN, 90_000),
            (SPAN, 0),
            (SPAN, 1),
            (factor, 150),
            (factor, 200),
            (factor, 125),
            (words, 0b101),
            (Kind::Flag, 1),
            (Kind::Choice(&["a", "b"]), 1),
        ] {
            assert_eq!(kind.parse(&kind.written(number)), Ok(Value::Number(number)), "{kind:?} {number}");
        }
    }

    #[test]
    fn words_outside_the_list_are_refused() {
        assert!(Kind::Choice(&["a", "b"]).parse("c").is_err());
        assert!(Kind::Several(&["a", "b"]).parse("").is_err());
        assert!(Kind::Several(&["a", "b"]).parse("a,c").is_err());
        assert!(Kind::Flag.parse("maybe").is_err());
        assert!(Kind::Text { bytes_max: 3 }.parse("\u{1b}[m").is_err());
    }
}
