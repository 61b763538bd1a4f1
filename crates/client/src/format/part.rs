//! The parts of a format string: how each is spelled, and how each prints.

use std::iter::Peekable;
use std::str::Chars;

use jiff::Zoned;
use jiff::fmt::strtime;

use super::{FormatError, NotJson, Received, json};

#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(Vec<u8>),
    Time(String),
    Nanoseconds,
    Topic(Style),
    Payload(Style),
    PayloadOrNull,
    Hex(Style, &'static [u8; 16]),
    Length(Style),
    PacketId(Style),
    Qos,
    Retain,
    TopicAlias(Style),
    ContentType(Style),
    Correlation,
    Expiry(Style),
    PayloadFormat(Style),
    UserProperties,
    ResponseTopic(Style),
    SubscriptionIds(Style),
    Iso8601(Style),
    UnixTime,
    JsonText,
    JsonValue,
}

/// Flags, width and maximum width between `%` and the field's letter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    left: bool,
    zero: bool,
    width: usize,
    max: Option<usize>,
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";
/// Wider fields are surely a typing error; they would only eat memory.
const WIDTH_MAX: usize = 10_000;

pub(super) fn parse(text: &str) -> Result<Vec<Part>, FormatError> {
    let mut parts = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '%' => match field(&mut chars)? {
                Some(part) => parts.push(part),
                None => push_text(&mut parts, '%'),
            },
            '@' => match chars.next().ok_or(FormatError::Incomplete('@'))? {
                '@' => push_text(&mut parts, '@'),
                'N' => parts.push(Part::Nanoseconds),
                letter => parts.push(time(letter)?),
            },
            '\\' => {
                let letter = chars.next().ok_or(FormatError::Incomplete('\\'))?;
                push_text(&mut parts, escape(letter)?);
            }
            other => push_text(&mut parts, other),
        }
    }
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, char: char) {
    let bytes = &mut [0; 4];
    let bytes = char.encode_utf8(bytes).as_bytes();
    match parts.last_mut() {
        Some(Part::Text(text)) => text.extend_from_slice(bytes),
        _ => parts.push(Part::Text(bytes.to_vec())),
    }
}

/// Reads what follows a `%`; `None` is a doubled one.
fn field(chars: &mut Peekable<Chars<'_>>) -> Result<Option<Part>, FormatError> {
    let style = style(chars);
    let letter = chars.next().ok_or(FormatError::Incomplete('%'))?;
    Ok(Some(match letter {
        '%' => return Ok(None),
        't' => Part::Topic(style),
        'p' => Part::Payload(style),
        'x' => Part::Hex(style, LOWER),
        'X' => Part::Hex(style, UPPER),
        'l' => Part::Length(style),
        'm' => Part::PacketId(style),
        'q' => Part::Qos,
        'r' => Part::Retain,
        'A' => Part::TopicAlias(style),
        'C' => Part::ContentType(style),
        'D' => Part::Correlation,
        'E' => Part::Expiry(style),
        'F' => Part::PayloadFormat(style),
        'P' => Part::UserProperties,
        'R' => Part::ResponseTopic(style),
        'S' => Part::SubscriptionIds(style),
        'I' => Part::Iso8601(style),
        'U' => Part::UnixTime,
        'j' => Part::JsonText,
        'J' => Part::JsonValue,
        other => return Err(FormatError::UnknownField(other)),
    }))
}

fn style(chars: &mut Peekable<Chars<'_>>) -> Style {
    let mut style = Style::default();
    while let Some(flag) = chars.next_if(|char| matches!(char, '0' | '-')) {
        if flag == '0' {
            style.zero = true;
        } else {
            style.left = true;
        }
    }
    style.width = number(chars);
    if chars.next_if_eq(&'.').is_some() {
        style.max = Some(number(chars));
    }
    style
}

fn number(chars: &mut Peekable<Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = chars.next_if(char::is_ascii_digit).and_then(|char| char.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(digit as usize);
    }
    number.min(WIDTH_MAX)
}

fn escape(letter: char) -> Result<char, FormatError> {
    Ok(match letter {
        '\\' => '\\',
        '0' => '\0',
        'a' => '\x07',
        'e' => '\x1b',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        other => return Err(FormatError::UnknownEscape(other)),
    })
}

/// A letter that the formatter doesn't know shows itself at once, not with the first message.
fn time(letter: char) -> Result<Part, FormatError> {
    let pattern = format!("%{letter}");
    match strtime::format(&pattern, &Zoned::now()) {
        Ok(_) => Ok(Part::Time(pattern)),
        Err(_) => Err(FormatError::UnknownTime(letter)),
    }
}

impl Part {
    pub(super) fn needs_time(&self) -> bool {
        matches!(
            self,
            Part::Time(_) | Part::Nanoseconds | Part::Iso8601(_) | Part::UnixTime | Part::JsonText | Part::JsonValue
        )
    }

    pub(super) fn write(
        &self,
        received: &Received<'_>,
        now: &Zoned,
        pretty: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), NotJson> {
        match self {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Time(pattern) => out.extend_from_slice(strftime(pattern, now).as_bytes()),
            Part::Nanoseconds => out.extend_from_slice(format!("{:09}", now.subsec_nanosecond()).as_bytes()),
            Part::Topic(style) => style.text(received.topic, out),
            Part::Payload(style) => style.bytes(received.payload, out),
            Part::PayloadOrNull if received.payload.is_empty() => out.extend_from_slice(b"(null)"),
            Part::PayloadOrNull => out.extend_from_slice(received.payload),
            Part::Hex(style, digits) => style.hex(received.payload, digits, out),
            Part::Length(style) => style.number(Some(received.payload.len()), out),
            Part::PacketId(style) => style.number(Some(received.packet_id), out),
            Part::Qos => out.push(b'0' + received.qos),
            Part::Retain => out.push(b'0' + u8::from(received.retain)),
            Part::TopicAlias(style) => style.number(received.topic_alias, out),
            Part::ContentType(style) => style.text(received.content_type.unwrap_or_default(), out),
            Part::Correlation => out.extend_from_slice(received.correlation.unwrap_or_default()),
            Part::Expiry(style) => style.number(received.expiry, out),
            Part::PayloadFormat(style) => style.number(received.payload_format, out),
            Part::UserProperties => write_user_properties(received, out),
            Part::ResponseTopic(style) => style.text(received.response_topic.unwrap_or_default(), out),
            Part::SubscriptionIds(style) => style.number(subscription_ids(received), out),
            Part::Iso8601(style) => style.text(&strftime("%Y-%m-%dT%H:%M:%S%z", now), out),
            Part::UnixTime => {
                let time = now.timestamp();
                out.extend_from_slice(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()).as_bytes());
            }
            Part::JsonText => json::write(received, &json_time(now), json::Payload::Text, pretty, out)?,
            Part::JsonValue => json::write(received, &json_time(now), json::Payload::Value, pretty, out)?,
        }
        Ok(())
    }
}

impl Style {
    /// Text is cut to the maximum and padded with blanks, counted in characters.
    fn text(self, text: &str, out: &mut Vec<u8>) {
        let (text, count) = match self.max {
            Some(max) => {
                let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
                (&text[..end], text[..end].chars().count())
            }
            None => (text, text.chars().count()),
        };
        self.padded(count, b' ', out, |out| out.extend_from_slice(text.as_bytes()));
    }

    fn bytes(self, bytes: &[u8], out: &mut Vec<u8>) {
        self.padded(bytes.len(), b' ', out, |out| out.extend_from_slice(bytes));
    }

    fn hex(self, bytes: &[u8], digits: &[u8; 16], out: &mut Vec<u8>) {
        self.padded(bytes.len() * 2, self.fill(), out, |out| {
            for byte in bytes {
                out.push(digits[usize::from(byte >> 4)]);
                out.push(digits[usize::from(byte & 15)]);
            }
        });
    }

    /// A missing number still fills its width, so that columns stay in line.
    fn number(self, number: Option<impl ToString>, out: &mut Vec<u8>) {
        let digits = number.map(|number| number.to_string()).unwrap_or_default();
        self.padded(digits.len(), self.fill(), out, |out| out.extend_from_slice(digits.as_bytes()));
    }

    fn fill(self) -> u8 {
        if self.zero && !self.left { b'0' } else { b' ' }
    }

    fn padded(self, len: usize, fill: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let padding = self.width.saturating_sub(len);
        if !self.left {
            out.resize(out.len() + padding, fill);
        }
        write(out);
        if self.left {
            out.resize(out.len() + padding, fill);
        }
    }
}

fn write_user_properties(received: &Received<'_>, out: &mut Vec<u8>) {
    for (index, (name, value)) in received.user_properties.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
}

/// Several subscriptions of one client may match: all their identifiers, with commas.
fn subscription_ids(received: &Received<'_>) -> Option<String> {
    let ids: Vec<String> = received.subscription_ids.iter().map(u32::to_string).collect();
    (!ids.is_empty()).then(|| ids.join(","))
}

fn json_time(now: &Zoned) -> String {
    strftime("%Y-%m-%dT%H:%M:%S.%6f%z", now)
}

fn strftime(pattern: &str, now: &Zoned) -> String {
    // The pattern was tried when the format was parsed.
    strtime::format(pattern, now).unwrap_or_default()
}
