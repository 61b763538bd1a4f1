//! Answers to requests that are no upgrade, for people to read.

use std::fmt::Write as _;

/// Why a request is turned down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP, or a head that breaks its rules.
    Malformed(&'static str),
    /// A head above the bounds.
    TooLarge,
    /// Nothing is there.
    WrongPath,
    /// A request that doesn't ask for WebSocket.
    NotUpgrade,
    /// A WebSocket of another version.
    Version,
    /// Subprotocols, but none of MQTT's.
    Subprotocol,
    /// No subprotocol.
    NoSubprotocol,
    /// A page that may not connect.
    Origin,
}

impl Refusal {
    /// In words, for the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::TooLarge => "HTTP request with a head above 8 KiB or 64 headers",
            Self::WrongPath => "HTTP request for a path other than that of MQTT (websocket.path)",
            Self::NotUpgrade => "plain HTTP request to a WebSocket port",
            Self::Version => "WebSocket of a version other than 13",
            Self::Subprotocol => "WebSocket upgrade without a subprotocol of MQTT among those offered",
            Self::NoSubprotocol => {
                "WebSocket upgrade without a subprotocol: clients offer `mqtt`, or set \
                                    websocket.allow_no_subprotocol"
            }
            Self::Origin => "WebSocket upgrade by a page of another host: name its origin in websocket.origins",
        }
    }

    /// The whole answer. `path` is where MQTT is.
    pub fn answer(self, path: &str) -> Vec<u8> {
        let (status, more) = match self {
            Self::Malformed(_) | Self::Subprotocol | Self::NoSubprotocol => ("400 Bad Request", ""),
            Self::TooLarge => ("431 Request Header Fields Too Large", ""),
            Self::WrongPath => ("404 Not Found", ""),
            Self::NotUpgrade | Self::Version => {
                ("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
            }
            Self::Origin => ("403 Forbidden", ""),
        };
        let body = self.advice(path);
        let connection = if more.is_empty() { "close" } else { "Upgrade, close" };
        let mut answer = String::with_capacity(256 + body.len());
        write!(
            answer,
            "HTTP/1.1 {status}\r\nConnection: {connection}\r\n{more}Content-Type: text/plain; charset=utf-8\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a string takes all");
        answer.into_bytes()
    }

    fn advice(self, path: &str) -> String {
        match self {
            Self::NotUpgrade => format!(
                "This is an MQTT broker: it speaks MQTT over WebSocket here. Connect with an MQTT client (MQTT.js, Paho) to \
                 path {path}, subprotocol mqtt.\n"
            ),
            Self::WrongPath => format!("Nothing is here. MQTT over WebSocket is at path {path}.\n"),
            Self::Origin => {
                "Pages of this origin may not connect. Add it to websocket.origins of the listener.\n".into()
            }
            Self::Subprotocol | Self::NoSubprotocol => "Offer the WebSocket subprotocol mqtt.\n".into(),
            Self::Version => "Use version 13 of WebSocket (RFC 6455).\n".into(),
            Self::Malformed(what) => format!("{what}.\n"),
            Self::TooLarge => "The head of the request is too large.\n".into(),
        }
    }
}
