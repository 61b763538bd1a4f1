//! `%j` and `%J`: one message as one JSON object.

use super::{NotJson, Received};

mod value;

/// How the payload stands in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// As a string, whatever it is. Bytes that are no UTF-8 become U+FFFD, so that the line stays JSON.
    Text,
    /// As the JSON value that it is.
    Value,
}

/// Appends the object. With `pretty`, one member per line.
pub fn write(
    received: &Received<'_>,
    time: &str,
    payload: Payload,
    pretty: bool,
    out: &mut Vec<u8>,
) -> Result<(), NotJson> {
    let mut object = Object { out, pretty, depth: 0, first: true };
    object.open();
    object.text("tst", time);
    object.text("topic", received.topic);
    object.number("qos", received.qos);
    object.number("retain", u8::from(received.retain));
    object.number("payloadlen", received.payload.len());
    if received.qos > 0 {
        object.number("mid", received.packet_id);
    }
    write_properties(received, &mut object);
    object.key("payload");
    match payload {
        Payload::Text => write_string(&String::from_utf8_lossy(received.payload), object.out),
        Payload::Value => value::write(received.payload, pretty, object.depth, object.out).ok_or(NotJson)?,
    }
    object.close();
    Ok(())
}

fn write_properties(received: &Received<'_>, object: &mut Object<'_>) {
    let any = received.content_type.is_some()
        || received.response_topic.is_some()
        || received.correlation.is_some()
        || received.payload_format.is_some()
        || received.expiry.is_some()
        || received.topic_alias.is_some()
        || !received.subscription_ids.is_empty()
        || !received.user_properties.is_empty();
    if !any {
        return;
    }
    object.key("properties");
    object.open();
    if !received.user_properties.is_empty() {
        object.key("user-properties");
        object.open();
        for (name, value) in &received.user_properties {
            object.text(name, value);
        }
        object.close();
    }
    if let Some(content_type) = received.content_type {
        object.text("content-type", content_type);
    }
    if let Some(topic) = received.response_topic {
        object.text("response-topic", topic);
    }
    if let Some(correlation) = received.correlation {
        object.text("correlation-data", &String::from_utf8_lossy(correlation));
    }
    if let Some(format) = received.payload_format {
        object.number("payload-format-indicator", format);
    }
    if let Some(expiry) = received.expiry {
        object.number("message-expiry-interval", expiry);
    }
    if let Some(alias) = received.topic_alias {
        object.number("topic-alias", alias);
    }
    if let Some(id) = received.subscription_ids.first() {
        object.number("subscription-identifier", id);
    }
    object.close();
}

/// Writes the members of nested objects with commas and, when pretty, lines between them.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    pretty: bool,
    depth: usize,
    first: bool,
}

impl Object<'_> {
    fn open(&mut self) {
        self.out.push(b'{');
        self.depth += 1;
        self.first = true;
    }

    fn close(&mut self) {
        self.depth -= 1;
        if self.pretty && !self.first {
            new_line(self.depth, self.out);
        }
        self.out.push(b'}');
        self.first = false;
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        if self.pretty {
            new_line(self.depth, self.out);
        }
        write_string(key, self.out);
        self.out.extend_from_slice(if self.pretty { b": " } else { b":" });
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        write_string(text, self.out);
    }

    fn number(&mut self, key: &str, number: impl ToString) {
        self.key(key);
        self.out.extend_from_slice(number.to_string().as_bytes());
    }
}

fn new_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.resize(out.len() + depth * 2, b' ');
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            control if control < ' ' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
