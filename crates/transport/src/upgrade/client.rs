//! The end that asks.

use base64::Engine as _;
use httparse::Status;

use super::{AnswerFault, BASE64, HEAD_MAX, HEADERS_MAX, accept, has_word, head_len};

/// What a server has granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Length of the head; what stands behind it are frames already.
    pub used: usize,
}

/// Appends a request. `host` is the authority, with the port if it is not the usual one; `random` has to be fresh.
pub fn put_request(out: &mut Vec<u8>, host: &str, path: &str, subprotocol: &str, random: [u8; 16]) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
        BASE64.encode(random)
    );
    out.extend_from_slice(request.as_bytes());
}

/// Checks the answer to [`put_request`] at the front of `bytes`; none as long as it is not whole.
pub fn check_answer(bytes: &[u8], subprotocol: &str, random: [u8; 16]) -> Result<Option<Answer>, AnswerFault> {
    let window = &bytes[..bytes.len().min(HEAD_MAX)];
    let Some(used) = head_len(window) else {
        let http = b"HTTP/";
        let seen = bytes.len().min(http.len());
        let hopeless = bytes.len() >= HEAD_MAX || bytes[..seen] != http[..seen];
        return if hopeless { Err(AnswerFault::NotHttp) } else { Ok(None) };
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(Status::Complete(_)) = response.parse(&bytes[..used]) else { return Err(AnswerFault::NotHttp) };
    let code = response.code.unwrap_or_default();
    if code != 101 {
        let text = String::from_utf8_lossy(&bytes[used..]);
        let first: String =
            text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(AnswerFault::Status(code, first.into()));
    }
    let all = |name: &str| {
        let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim()).collect::<Vec<_>>()
    };
    let lists = |name: &str, word: &str| all(name).iter().any(|list| has_word(list, word));
    let key = BASE64.encode(random);
    if !lists("upgrade", "websocket") || !lists("connection", "upgrade") {
        return Err(AnswerFault::Headers);
    }
    if all("sec-websocket-accept") != [accept(&key)] || !all("sec-websocket-extensions").is_empty() {
        return Err(AnswerFault::Headers);
    }
    // [MQTT-6.0.0-4]
    if all("sec-websocket-protocol") != [subprotocol] {
        return Err(AnswerFault::Subprotocol);
    }
    Ok(Some(Answer { used }))
}
