//! `sub -F`: a format string becomes a list of parts once, and each message is printed through them.
//!
//! Three characters start a sequence: `%` a field of the message, `@` a part of the time as strftime(3) knows it, `\` a
//! character that is hard to type.

use std::fmt;

use jiff::Zoned;

pub mod json;
mod part;

use part::{Part, Style};

/// One received message as the printer sees it.
#[derive(Clone, Debug, Default)]
pub struct Received<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub packet_id: u16,
    pub topic_alias: Option<u16>,
    pub expiry: Option<u32>,
    pub payload_format: Option<u8>,
    pub content_type: Option<&'a str>,
    pub response_topic: Option<&'a str>,
    pub correlation: Option<&'a [u8]>,
    pub subscription_ids: Vec<u32>,
    pub user_properties: Vec<(&'a str, &'a str)>,
}

/// A parsed format string.
#[derive(Clone, Debug)]
pub struct Format {
    parts: Vec<Part>,
    pretty: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    Incomplete(char),
    UnknownField(char),
    UnknownEscape(char),
    UnknownTime(char),
}

impl fmt::Display for FormatError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(start) => write!(out, "the format ends after {start:?}: double it to print it"),
            Self::UnknownField(field) => {
                write!(out, "the format has no field %{field}: see --help for the ones there are")
            }
            Self::UnknownEscape(escape) => {
                write!(out, "the format has no escape \\{escape}: use one of \\\\ \\0 \\a \\e \\n \\r \\t \\v")
            }
            Self::UnknownTime(time) => write!(out, "the format has no time sequence @{time}: see strftime(3)"),
        }
    }
}

/// The payload is not JSON, which `%J` needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

impl Format {
    /// Prints the payload alone, as it came.
    pub fn payload() -> Format {
        Format { parts: vec![Part::Payload(Style::default())], pretty: false }
    }

    /// Prints topic and payload; `(null)` marks an empty payload, as scripts expect.
    pub fn verbose(colour: bool) -> Format {
        let mut parts = vec![Part::Topic(Style::default()), Part::Text(b" ".to_vec()), Part::PayloadOrNull];
        if colour {
            parts.insert(1, Part::Text(b"\x1b[0m".to_vec()));
            parts.insert(0, Part::Text(b"\x1b[36m".to_vec()));
        }
        Format { parts, pretty: false }
    }

    pub fn parse(text: &str, pretty: bool) -> Result<Format, FormatError> {
        Ok(Format { parts: part::parse(text)?, pretty })
    }

    /// Appends the message as text. Nothing is appended when it can't be printed.
    pub fn write(&self, received: &Received<'_>, now: &Zoned, out: &mut Vec<u8>) -> Result<(), NotJson> {
        let start = out.len();
        for part in &self.parts {
            if let Err(error) = part.write(received, now, self.pretty, out) {
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether printing looks at the clock.
    pub fn needs_time(&self) -> bool {
        self.parts.iter().any(Part::needs_time)
    }
}

#[cfg(test)]
mod tests;
