//! A request, judged.

use std::net::IpAddr;

use base64::Engine as _;
use httparse::Status;

use super::origin::{Page, judge};
use super::refusal::Refusal;
use super::{BASE64, HEAD_MAX, HEADERS_MAX, SUBPROTOCOLS, accept, forwarded, has_word, head_len};

/// What a listener lets in.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Where MQTT is.
    pub path: &'a str,
    /// Origins that may connect besides those of this host and loopback; `*` for all.
    pub origins: &'a [Box<str>],
    /// Let clients in that offer no subprotocol.
    pub allow_no_subprotocol: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted: &'a dyn Fn(IpAddr) -> bool,
}

/// What the first bytes of a connection ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The head is not whole yet.
    More,
    /// A WebSocket with MQTT in it.
    Accepted(Accepted),
    /// Something at another path: for whoever serves HTTP here, if anybody does.
    Elsewhere,
    /// Not to be had.
    Refused(Refusal),
}

/// An upgrade that is granted.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Length of the head; what stands behind it are frames already.
    pub used: usize,
    /// What the client is told.
    pub answer: Vec<u8>,
    /// The client, where a trusted proxy names it.
    pub forwarded: Option<IpAddr>,
    /// It came itself: no proxy in between, and no page of another host behind it.
    pub direct: bool,
}

/// A head that could be read.
#[derive(Clone, Copy, Debug)]
struct Head<'h> {
    method: &'h str,
    target: &'h str,
    /// 0 or 1, behind `HTTP/1.`.
    minor: u8,
    headers: &'h [httparse::Header<'h>],
}

/// Judges the head at the front of `bytes`, of a client at `peer`.
pub fn read(bytes: &[u8], peer: IpAddr, rules: &Rules<'_>) -> Request {
    let window = &bytes[..bytes.len().min(HEAD_MAX)];
    let Some(used) = head_len(window) else {
        return if bytes.len() >= HEAD_MAX { Request::Refused(Refusal::TooLarge) } else { Request::More };
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(&bytes[..used]) {
        Ok(Status::Complete(length)) if length == used => {}
        Ok(_) => return Request::Refused(Refusal::Malformed("The line ends of the HTTP request are mixed")),
        Err(httparse::Error::TooManyHeaders) => return Request::Refused(Refusal::TooLarge),
        Err(_) => return Request::Refused(Refusal::Malformed("The HTTP request is malformed")),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Request::Refused(Refusal::Malformed("The HTTP request is malformed"));
    };
    let head = Head { method, target, minor, headers: request.headers };
    if head.path() != rules.path && head.path().strip_suffix('/') != Some(rules.path) {
        return Request::Elsewhere;
    }
    match head.judge(used, peer, rules) {
        Ok(accepted) => Request::Accepted(accepted),
        Err(refusal) => Request::Refused(refusal),
    }
}

impl<'h> Head<'h> {
    fn judge(&self, used: usize, peer: IpAddr, rules: &Rules<'_>) -> Result<Accepted, Refusal> {
        if self.method != "GET" || !self.lists("upgrade", "websocket") || !self.lists("connection", "upgrade") {
            return Err(Refusal::NotUpgrade);
        }
        if self.minor != 1 || self.all("content-length").chain(self.all("transfer-encoding")).next().is_some() {
            return Err(Refusal::Malformed("A WebSocket upgrade is a GET of HTTP/1.1 without a body"));
        }
        if self.one("sec-websocket-version")? != "13" {
            return Err(Refusal::Version);
        }
        let key = self.one("sec-websocket-key")?;
        if !BASE64.decode(key).is_ok_and(|key| key.len() == 16) {
            return Err(Refusal::Malformed("Sec-WebSocket-Key is not 16 bytes in Base64"));
        }
        let host = self.one("host")?;
        let page = if self.all("origin").next().is_some() {
            judge(self.one("origin")?, host, rules.origins)
        } else {
            Page::Loopback
        };
        if page == Page::Foreign {
            return Err(Refusal::Origin);
        }
        let subprotocol = self.subprotocol(rules)?;
        let forwarded =
            if (rules.trusted)(peer) { forwarded::client(self.all("x-forwarded-for"), rules.trusted) } else { None };
        let proxies = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];
        let through_proxy = proxies.iter().any(|name| self.all(name).next().is_some());
        Ok(Accepted {
            used,
            answer: answer(key, subprotocol),
            forwarded,
            direct: !through_proxy && page == Page::Loopback,
        })
    }

    /// The subprotocol to choose; none if none is offered and that is allowed.
    fn subprotocol(&self, rules: &Rules<'_>) -> Result<Option<&'static str>, Refusal> {
        const NAME: &str = "sec-websocket-protocol";
        if self.all(NAME).next().is_none() {
            return if rules.allow_no_subprotocol { Ok(None) } else { Err(Refusal::NoSubprotocol) };
        }
        // The standard's name wherever it is offered [MQTT-6.0.0-4] [MQTT3-6.0.0-4].
        SUBPROTOCOLS.into_iter().find(|name| self.lists(NAME, name)).map(Some).ok_or(Refusal::Subprotocol)
    }

    /// The path, without a query; a request in the form that proxies are sent is understood.
    fn path(&self) -> &'h str {
        let target = self.target.split_once('?').map_or(self.target, |(path, _)| path);
        match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
            _ => target,
        }
    }

    /// Values of all headers of this name; those that are not text are left out.
    fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &'h str> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim())
    }

    fn lists(&self, name: &str, word: &str) -> bool {
        self.all(name).any(|list| has_word(list, word))
    }

    /// The value of a header that stands there exactly once.
    fn one(&self, name: &'static str) -> Result<&'h str, Refusal> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(Refusal::Malformed(match name {
                "host" => "The HTTP request needs one Host header",
                "origin" => "The HTTP request has more than one Origin header",
                "sec-websocket-key" => "The WebSocket upgrade needs one Sec-WebSocket-Key header",
                _ => "The WebSocket upgrade needs one Sec-WebSocket-Version header",
            })),
        }
    }
}

fn answer(key: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        accept(key)
    );
    // No extension is ever named: what a client offers, such as compression, is turned down by silence.
    if let Some(subprotocol) = subprotocol {
        answer.push_str("Sec-WebSocket-Protocol: ");
        answer.push_str(subprotocol);
        answer.push_str("\r\n");
    }
    answer.push_str("\r\n");
    answer.into_bytes()
}
