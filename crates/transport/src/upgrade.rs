//! From an HTTP request to WebSocket: both ends of the upgrade (RFC 6455, chapter 4).
//!
//! A head is collected by the caller, up to [`HEAD_MAX`] bytes, and looked at as a whole.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

mod client;
mod forwarded;
mod origin;
mod refusal;
mod request;

pub use client::{Answer, check_answer, put_request};
pub use refusal::Refusal;
pub use request::{Accepted, Request, Rules, read};

/// Longest head of a request or an answer.
pub const HEAD_MAX: usize = 8 * 1024;
/// Most headers in it.
const HEADERS_MAX: usize = 64;

/// Names under which MQTT is spoken: the standard's first, then those of older clients.
const SUBPROTOCOLS: [&str; 5] = ["mqtt", "mqttv3.1", "mqtt-v3", "mqtt-v3.1.1", "mqtt-v5"];

/// An answer from the other end that is no upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// Not HTTP, or a head that is too long.
    NotHttp,
    /// Another status, with the first line of what it says.
    Status(u16, Box<str>),
    /// `Upgrade`, `Connection` or `Sec-WebSocket-Accept` are not as they have to be.
    Headers,
    /// A subprotocol that nobody asked for, or none.
    Subprotocol,
}

impl fmt::Display for AnswerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("the answer is not HTTP: is this a WebSocket port?"),
            Self::Status(code, text) if text.is_empty() => write!(f, "the answer to the WebSocket upgrade is {code}"),
            Self::Status(code, text) => write!(f, "the answer to the WebSocket upgrade is {code}: {text}"),
            Self::Headers => f.write_str("the answer to the WebSocket upgrade has wrong headers"),
            Self::Subprotocol => f.write_str("the other end does not speak MQTT over WebSocket"),
        }
    }
}

impl std::error::Error for AnswerFault {}

/// `Sec-WebSocket-Accept` to a key.
fn accept(key: &str) -> String {
    const OF_THE_RFC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(OF_THE_RFC);
    BASE64.encode(context.finish())
}

/// The head at the front of `bytes` with the empty line that ends it, if that has come.
fn head_len(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    bytes.windows(END.len()).position(|window| window == END).map(|at| at + END.len())
}

/// Whether a list in a header has this word, in any case.
fn has_word(list: &str, word: &str) -> bool {
    list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
