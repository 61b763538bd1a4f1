//! Version 1: a line of text.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Origin, Proxied, ProxyFault};

/// Longest line, its end included.
const LINE_MAX: usize = 107;
const START: &[u8] = b"PROXY ";

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    let seen = bytes.len().min(START.len());
    if bytes[..seen] != START[..seen] {
        return Err(ProxyFault::Absent);
    }
    let window = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= LINE_MAX { Err(ProxyFault::TooLong) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyFault::Line)?;
    let line = line.strip_prefix(START).ok_or(ProxyFault::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyFault::Line)?;
    let origin = origin(line).ok_or(ProxyFault::Line)?;
    Ok(Some(Proxied { used: end + 1, origin }))
}

fn origin(line: &str) -> Option<Origin> {
    // Whatever follows is to be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Origin::Unknown);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let (source, destination) = (address(family, words.next()?)?, address(family, words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let whole = words.next().is_none();
    let origin =
        Origin::Client { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) };
    whole.then_some(origin)
}

fn address(family: &str, word: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => word.parse::<Ipv6Addr>().ok().map(|address| address.to_canonical()),
        _ => None,
    }
}

/// Digits only, and none too many: `parse` alone would take a sign and leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || (word.starts_with(|first: char| ('1'..='9').contains(&first)));
    if plain { word.parse().ok() } else { None }
}

/// Appends a header. Addresses of two families can't be written, and become `UNKNOWN`.
pub fn put_v1(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    let mut line = String::from("PROXY ");
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => "UNKNOWN",
    };
    line.push_str(family);
    if family != "UNKNOWN" {
        let (from, to) = (source.port(), destination.port());
        write!(line, " {} {} {from} {to}", source.ip(), destination.ip()).expect("a string takes all");
    }
    line.push_str("\r\n");
    out.extend_from_slice(line.as_bytes());
}
