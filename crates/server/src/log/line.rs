//! One line: a moment, a level, what happened, and fields, as text or JSON.

use std::fmt::{Display, Write as _};

use breakwater_proto::ReasonCode;
use breakwater_shard::{Event, Peer};

use super::Level;
use super::escape::quoted;
use super::time::Stamp;

/// A line in the making, at the end of a text.
pub(super) struct Line<'a> {
    json: bool,
    text: &'a mut String,
}

impl<'a> Line<'a> {
    /// Begins a line. `what` is ours, in words.
    pub(super) fn begin(text: &'a mut String, form: &mut Form, unix_ms: u64, level: Level, what: &str) -> Self {
        let json = form.json;
        text.push_str(if json { r#"{"time":""# } else { "" });
        form.stamp.write(text, unix_ms);
        if json {
            text.push_str(r#"","level":""#);
            text.push_str(level.name());
            text.push_str(r#"","event":"#);
            quoted(text, what);
        } else {
            text.push(' ');
            text.push_str(level.name());
            text.push_str(if level.name().len() == 4 { "  " } else { " " });
            text.push_str(what);
        }
        Self { json, text }
    }

    fn key(&mut self, key: &str) {
        self.text.push_str(if self.json { ",\"" } else { " " });
        self.text.push_str(key);
        self.text.push_str(if self.json { "\":" } else { "=" });
    }

    /// A field with text that may come from anybody.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        quoted(self.text, value);
    }

    /// A field with a number.
    pub(super) fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.text, "{value}");
    }

    fn truth(&mut self, key: &str, value: bool) {
        self.key(key);
        self.text.push_str(if value { "true" } else { "false" });
    }

    /// A field with text of ours that holds no quote, control character or space.
    fn word(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let quote = if self.json { "\"" } else { "" };
        let _ = write!(self.text, "{quote}{value}{quote}");
    }

    fn peer(&mut self, peer: Peer) {
        self.word("peer", peer.address);
    }

    /// Ends the line.
    pub(super) fn end(self) {
        self.text.push_str(if self.json { "}\n" } else { "\n" });
    }
}

/// How lines are written.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) json: bool,
    pub(super) stamp: Stamp,
}

/// With these words and no others of its own.
const TOLD_ELSEWHERE: [ReasonCode; 3] =
    [ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized, ReasonCode::ServerBusy];

/// How important an event is.
pub(super) fn level(event: &Event<'_>) -> Level {
    match event {
        Event::Connected { .. } | Event::Disconnected { .. } => Level::Info,
        // Of who is not let in the chain tells itself: once for each address, with what to do.
        Event::Refused { reason, .. } if TOLD_ELSEWHERE.iter().any(|code| code.name() == *reason) => Level::Debug,
        Event::Refused { .. } => Level::Warn,
        Event::Fault { .. } => Level::Error,
    }
}

/// Appends the line of an event.
pub(super) fn describe(out: &mut String, form: &mut Form, unix_ms: u64, event: &Event<'_>) {
    let what = match event {
        Event::Connected { .. } => "connected",
        Event::Disconnected { .. } => "disconnected",
        Event::Refused { .. } => "refused",
        Event::Fault { .. } => "fault",
    };
    let mut line = Line::begin(out, form, unix_ms, level(event), what);
    match *event {
        Event::Connected { client, username, peer, listener, version, clean_start, session_present, keep_alive_s } => {
            line.text("client", client);
            if let Some(username) = username {
                line.text("user", username);
            }
            line.peer(peer);
            line.word("listener", listener);
            line.word("mqtt", version);
            line.truth("clean_start", clean_start);
            line.truth("session_present", session_present);
            line.number("keep_alive", keep_alive_s);
        }
        Event::Disconnected { client, peer, reason, statement, code } => {
            line.text("client", client);
            line.peer(peer);
            line.text("reason", reason);
            line.word("code", format_args!("{code:#04x}"));
            if !statement.is_empty() {
                line.word("statement", statement);
            }
        }
        Event::Refused { peer, client, reason, code } => {
            if !client.is_empty() {
                line.text("client", client);
            }
            line.peer(peer);
            line.text("reason", reason);
            line.word("code", format_args!("{code:#04x}"));
        }
        Event::Fault { text } => line.text("what", text),
    }
    line.end();
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const PEER: fn() -> Peer = || Peer { address: SocketAddr::from(([127, 0, 0, 1], 5000)), listener: 0, direct: true };

    fn connected() -> Event<'static> {
        Event::Connected {
            client: "a\u{1b}[1m",
            username: Some("b"),
            peer: PEER(),
            listener: "tls.default",
            version: "5.0",
            clean_start: true,
            session_present: false,
            keep_alive_s: 60,
        }
    }

    fn written(json: bool, event: &Event<'_>) -> String {
        let mut out = String::new();
        describe(&mut out, &mut Form { json, ..Form::default() }, 0, event);
        out
    }

    #[test]
    fn text_lines_are_for_people() {
        let line = written(false, &connected());
        let expected = "1970-01-01T00:00:00.000Z INFO  connected client=\"a\\u001b[1m\" user=\"b\" peer=127.0.0.1:5000 \
                        listener=tls.default mqtt=5.0 clean_start=true session_present=false keep_alive=60\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn json_lines_are_for_programs() {
        let line = written(true, &connected());
        let expected = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"event\":\"connected\",\
                        \"client\":\"a\\u001b[1m\",\"user\":\"b\",\"peer\":\"127.0.0.1:5000\",\"listener\":\"tls.default\",\"mqtt\":\"5.0\",\
                        \"clean_start\":true,\"session_present\":false,\"keep_alive\":60}\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn an_end_names_its_reason_and_the_statement_that_was_broken() {
        let (reason, statement) = ("first packet was not CONNECT", "MQTT-3.1.0-1");
        let event = Event::Disconnected { client: "", peer: PEER(), reason, statement, code: 0x82 };
        let line = written(false, &event);
        assert!(line.starts_with("1970-01-01T00:00:00.000Z INFO  disconnected client"), "{line}");
        assert!(line.ends_with("reason=\"first packet was not CONNECT\" code=0x82 statement=MQTT-3.1.0-1\n"), "{line}");
    }
}
