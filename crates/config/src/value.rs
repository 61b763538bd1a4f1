//! Kinds of values: how a setting is written, read, bounded and printed.

mod number;

use std::fmt::Write as _;

use crate::raw::Raw;
use number::{SIZES, TIMES, bits, digits, duration, hundredths, in_units, rate, size};

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
    /// So many per second; bytes take a unit.
    Rate { bytes: bool },
    /// `true` or `false`, kept as 1 or 0.
    Flag,
    /// One of some words, kept as its index.
    Choice(&'static [&'static str]),
    /// One or more of some words, a list or comma-separated, kept as a bit set.
    Several(&'static [&'static str]),
    /// Text of at most that many bytes.
    Text { bytes_max: usize },
    /// Text of a shape that whoever stores it knows.
    Shape(&'static str),
    /// A list of such texts, also comma-separated.
    List(&'static str),
    /// A list of tables with these keys.
    Tables(&'static [&'static str]),
    /// Text that is never shown.
    Secret,
}

/// A value of a setting, read and inside its bounds.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Text(Box<str>),
    List(Vec<Box<str>>),
    Tables(Vec<Vec<(Box<str>, Box<str>)>>),
}

/// Longest text, and most items in a list.
const TEXT_BYTES_MAX: usize = 4096;
const ITEMS_MAX: usize = 1024;

impl std::fmt::Debug for Value {
    /// Texts may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "Number({number})"),
            Self::Text(text) => write!(f, "Text of {} bytes", text.len()),
            Self::List(items) => write!(f, "List of {}", items.len()),
            Self::Tables(tables) => write!(f, "Tables of {}", tables.len()),
        }
    }
}

impl Value {
    /// The number, 0 for what is none.
    #[must_use]
    pub fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }

    /// The text, empty for what is none.
    #[must_use]
    pub fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// The items, none for what is no list.
    #[must_use]
    pub fn items(&self) -> &[Box<str>] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// The tables, none for what has none.
    #[must_use]
    pub fn tables(&self) -> &[Vec<(Box<str>, Box<str>)>] {
        if let Self::Tables(tables) = self { tables } else { &[] }
    }
}

impl Kind {
    /// Reads what stands in a source. The error says what is allowed.
    pub(crate) fn read(self, raw: &Raw) -> Result<Value, String> {
        match (self, raw) {
            (Self::List(_), Raw::Word(text)) if text.trim().is_empty() => Ok(Value::List(Vec::new())),
            (Self::List(_), Raw::Word(text)) => self.list(text.split(',').map(str::trim)),
            (Self::List(_), Raw::List(items)) => {
                let words: Option<Vec<&str>> = items.iter().map(Raw::word).collect();
                self.list(words.ok_or_else(|| self.wrong("a nested list"))?.into_iter())
            }
            (Self::Tables(keys), Raw::List(items)) => tables(keys, items),
            (Self::Tables(keys), table @ Raw::Table(_)) => tables(keys, std::slice::from_ref(table)),
            (Self::Several(_), Raw::List(items)) => {
                let words: Option<Vec<&str>> = items.iter().map(Raw::word).collect();
                self.parse(&words.ok_or_else(|| self.wrong("a nested list"))?.join(","))
            }
            (_, Raw::Word(text)) => self.parse(text),
            (_, Raw::List(_)) => Err(self.wrong("a list")),
            (_, Raw::Table(_) | Raw::Section) => Err(self.wrong("a section")),
        }
    }

    fn list<'a>(self, words: impl Iterator<Item = &'a str>) -> Result<Value, String> {
        let items: Vec<Box<str>> = words.map(Into::into).collect();
        let fits = items.len() <= ITEMS_MAX && items.iter().all(|item| plain(item, TEXT_BYTES_MAX));
        if fits { Ok(Value::List(items)) } else { Err(format!("takes at most {ITEMS_MAX} items of plain text")) }
    }

    /// Reads one word.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let number = match self {
            Self::Text { bytes_max } => return self.plain(text, bytes_max),
            Self::Shape(_) | Self::Secret => return self.plain(text, TEXT_BYTES_MAX),
            Self::List(_) | Self::Tables(_) => return Err(self.wrong(text)),
            Self::Count { .. } => digits(text),
            Self::Bytes { .. } => size(text),
            Self::Duration { .. } => duration(text),
            Self::Factor { .. } => hundredths(text),
            Self::Rate { bytes } => rate(text, bytes),
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

    fn plain(self, text: &str, bytes_max: usize) -> Result<Value, String> {
        if plain(text, bytes_max) { Ok(Value::Text(text.into())) } else { Err(self.wrong(text)) }
    }

    /// What is allowed, in words.
    #[must_use]
    pub fn allowed(self) -> String {
        let (min, max) = self.bounds();
        match self {
            Self::Flag => "true, false".into(),
            Self::Choice(words) => words.join(", "),
            Self::Several(words) => format!("one or more of {}", words.join(",")),
            Self::Text { bytes_max } => format!("text of at most {bytes_max} bytes"),
            Self::Shape(shape) => shape.into(),
            Self::List(shape) => format!("a list of {shape}"),
            Self::Tables(keys) => format!("a list of tables with the keys {}", keys.join(", ")),
            Self::Secret => "text".into(),
            Self::Rate { bytes: true } => "bytes per second, such as 1MB/s".into(),
            Self::Rate { bytes: false } => "a number per second, such as 100/s".into(),
            _ => format!("{} to {}", self.written(min), self.written(max)),
        }
    }

    /// A number of this kind as a user would write it.
    #[must_use]
    pub fn written(self, number: u64) -> String {
        match self {
            Self::Count { .. } => number.to_string(),
            Self::Bytes { .. } => in_units(number, &SIZES, "B"),
            Self::Duration { .. } => in_units(number, &TIMES, "s"),
            Self::Factor { .. } if number.is_multiple_of(100) => (number / 100).to_string(),
            Self::Factor { .. } => format!("{}.{:02}", number / 100, number % 100).trim_end_matches('0').into(),
            Self::Rate { bytes: true } => format!("{}/s", in_units(number, &SIZES, "B")),
            Self::Rate { bytes: false } => format!("{number}/s"),
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
            Self::Text { .. } | Self::Shape(_) | Self::List(_) | Self::Tables(_) | Self::Secret => String::new(),
        }
    }

    /// A value of this kind in words for the terminal. Secrets stay hidden.
    #[must_use]
    pub fn shown(self, value: &Value) -> String {
        match value {
            _ if matches!(self, Self::Secret) => "***".into(),
            Value::Number(number) => self.written(*number),
            Value::Text(text) => text.to_string(),
            Value::List(items) => items.join(", "),
            Value::Tables(tables) => {
                let table = |table: &Vec<(Box<str>, Box<str>)>| {
                    let pair = |(key, text): &(Box<str>, Box<str>)| {
                        let hidden = key.ends_with("password");
                        format!("{key} = {}", if hidden { "***" } else { text })
                    };
                    format!("{{ {} }}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
                };
                tables.iter().map(table).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn bounds(self) -> (u64, u64) {
        match self {
            Self::Count { min, max } | Self::Bytes { min, max } | Self::Factor { min, max } => (min, max),
            Self::Duration { min_ms, max_ms } => (min_ms, max_ms),
            Self::Several(_) => (1, u64::MAX),
            _ => (0, u64::MAX),
        }
    }

    fn wrong(self, text: &str) -> String {
        let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Duration { .. } if bare => {
                format!("needs a unit, such as {text}s ({})", self.allowed())
            }
            Self::Secret => "takes one line of text".into(),
            _ => format!("takes {}, not {}", self.allowed(), quoted(text)),
        }
    }
}

/// A text from outside as it may stand in a line for the terminal: short, and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(64).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn plain(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

fn tables(keys: &'static [&'static str], items: &[Raw]) -> Result<Value, String> {
    let shape = Kind::Tables(keys);
    if items.len() > ITEMS_MAX {
        return Err(format!("takes at most {ITEMS_MAX} tables"));
    }
    let mut tables = Vec::new();
    for item in items {
        let Raw::Table(pairs) = item else { return Err(shape.wrong("something else")) };
        let mut table = Vec::new();
        for (key, raw) in pairs {
            if !keys.contains(&&**key) {
                return Err(format!("has tables with the keys {}, but not {}", keys.join(", "), quoted(key)));
            }
            let text = raw.word().filter(|text| plain(text, TEXT_BYTES_MAX));
            table.push((key.clone(), text.ok_or_else(|| format!("takes plain text for {key}"))?.into()));
        }
        tables.push(table);
    }
    Ok(Value::Tables(tables))
}

#[cfg(test)]
mod tests;
