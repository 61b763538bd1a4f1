//! One line: a moment, a level, what happened, and fields, as text or JSON.

use std::fmt::{Display, Write as _};

use breakwater_shard::{Event, Peer};

use super::Level;
use super::escape::quoted;
use super::time::Utc;

/// A line in the making.
pub(crate) struct Line {
    json: bool,
    text: String,
}

impl Line {
    /// Begins a line. `what` is ours, in words.
    pub(crate) fn new(json: bool, unix_ms: u64, level: Level, what: &str) -> Self {
        let mut text = String::with_capacity(256);
        let (moment, level) = (Utc(unix_ms), level.name());
        if json {
            let _ = write!(text, r#"{{"time":"{moment}","level":"{level}","event":"#);
            quoted(&mut text, what);
        } else {
            let _ = write!(text, "{moment} {level:<5} {what}");
        }
        Self { json, text }
    }

    fn key(&mut self, key: &str) {
        let _ = if self.json { write!(self.text, r#","{key}":"#) } else { write!(self.text, " {key}=") };
    }

    /// A field with text that may come from anybody.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        quoted(&mut self.text, value);
    }

    /// A field with a number or a truth value.
    pub(crate) fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.text, "{value}");
    }

    /// A field with text of ours that holds no quote, control character or space.
    fn word(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = if self.json { write!(self.text, r#""{value}""#) } else { write!(self.text, "{value}") };
    }

    fn peer(&mut self, peer: Peer) {
        self.word("peer", peer.address);
    }

    /// The finished line.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str(if self.json { "}\n" } else { "\n" });
        self.text
    }
}

/// How important an event is.
pub(super) fn level(event: &Event<'_>) -> Level {
    match event {
        Event::Connected { .. } | Event::Disconnected { .. } => Level::Info,
        Event::Refused { .. } => Level::Warn,
        Event::Fault { .. } => Level::Error,
    }
}

/// The line of an event.
pub(super) fn describe(json: bool, unix_ms: u64, level: Level, event: &Event<'_>) -> String {
    let begin = |what| Line::new(json, unix_ms, level, what);
    match *event {
        Event::Connected { client, username, peer, version, clean_start, session_present, keep_alive_s } => {
            let mut line = begin("connected");
            line.text("client", client);
            if let Some(username) = username {
                line.text("user", username);
            }
            line.peer(peer);
            line.word("mqtt", version);
            line.number("clean_start", clean_start);
            line.number("session_present", session_present);
            line.number("keep_alive", keep_alive_s);
            line.finish()
        }
        Event::Disconnected { client, peer, reason, statement, code } => {
            let mut line = begin("disconnected");
            line.text("client", client);
            line.peer(peer);
            line.text("reason", reason);
            line.word("code", format_args!("{code:#04x}"));
            if !statement.is_empty() {
                line.word("statement", statement);
            }
            line.finish()
        }
        Event::Refused { peer, client, reason, code } => {
            let mut line = begin("refused");
            if !client.is_empty() {
                line.text("client", client);
            }
            line.peer(peer);
            line.text("reason", reason);
            line.word("code", format_args!("{code:#04x}"));
            line.finish()
        }
        Event::Fault { text } => {
            let mut line = begin("fault");
            line.text("what", text);
            line.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const PEER: fn() -> Peer = || Peer { address: SocketAddr::from(([127, 0, 0, 1], 5000)), listener: 0 };

    fn connected() -> Event<'static> {
        Event::Connected {
            client: "a\u{1b}[1m",
            username: Some("b"),
            peer: PEER(),
            version: "5.0",
            clean_start: true,
            session_present: false,
            keep_alive_s: 60,
        }
    }

    #[test]
    fn text_lines_are_for_people() {
        let line = describe(false, 0, Level::Info, &connected());
        let expected = "1970-01-01T00:00:00.000Z INFO  connected client=\"a\\u001b[1m\" user=\"b\" peer=127.0.0.1:5000 \
                        mqtt=5.0 clean_start=true session_present=false keep_alive=60\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn json_lines_are_for_programs() {
        let line = describe(true, 0, Level::Info, &connected());
        let expected = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"event\":\"connected\",\
                        \"client\":\"a\\u001b[1m\",\"user\":\"b\",\"peer\":\"127.0.0.1:5000\",\"mqtt\":\"5.0\",\
                        \"clean_start\":true,\"session_present\":false,\"keep_alive\":60}\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn an_end_names_its_reason_and_the_statement_that_was_broken() {
        let (reason, statement) = ("first packet was not CONNECT", "MQTT-3.1.0-1");
        let event = Event::Disconnected { client: "", peer: PEER(), reason, statement, code: 0x82 };
        let line = describe(false, 0, Level::Info, &event);
        assert!(line.ends_with("reason=\"first packet was not CONNECT\" code=0x82 statement=MQTT-3.1.0-1\n"), "{line}");
    }
}
