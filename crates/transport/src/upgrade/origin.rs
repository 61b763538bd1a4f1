//! Pages that may connect.
//!
//! A browser sends the origin of the page that opens a WebSocket, and cannot be talked out of it: so a page of a stranger, in
//! the browser of somebody who may connect, is kept out.

use std::net::IpAddr;

/// How a page stands to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Of this machine itself: `localhost` or a loopback address.
    Loopback,
    /// Allowed: of the host that was asked for, or named in the settings.
    Allowed,
    /// Anybody's.
    Foreign,
}

/// Judges the page `origin`; `host` is the `Host` header of the same request.
pub(super) fn judge(origin: &str, host: &str, allowed: &[Box<str>]) -> Page {
    let name = origin.split_once("://").map(|(_, rest)| hostname(rest));
    if name.is_some_and(is_loopback) {
        return Page::Loopback;
    }
    let same_host = name.is_some_and(|name| !name.is_empty() && name.eq_ignore_ascii_case(hostname(host)));
    let named = allowed.iter().any(|entry| {
        &**entry == "*"
            || entry.trim_end_matches('/').eq_ignore_ascii_case(origin)
            || name.is_some_and(|name| name.eq_ignore_ascii_case(entry))
    });
    if same_host || named { Page::Allowed } else { Page::Foreign }
}

/// An authority without its port; brackets of an IPv6 address are kept off.
fn hostname(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_host_and_of_loopback_may_connect_and_others_only_when_named() {
        let named: &[Box<str>] = &["https://app.example.com".into(), "example.org".into(), "null".into()];
        let (all, none): (&[Box<str>], &[Box<str>]) = (&["*".into()], &[]);
        for (origin, host, allowed, page) in [
            ("http://broker.example:18083", "broker.example:8083", none, Page::Allowed),
            ("https://BROKER.example", "broker.example", none, Page::Allowed),
            ("http://[2001:db8::1]:80", "[2001:db8::1]:8083", none, Page::Allowed),
            ("http://localhost:3000", "broker.example", none, Page::Loopback),
            ("http://127.0.0.5", "127.0.0.1:8083", none, Page::Loopback),
            ("http://[::1]:18083", "broker.example", none, Page::Loopback),
            ("http://evil.example", "broker.example", none, Page::Foreign),
            ("http://broker.example.evil.example", "broker.example", none, Page::Foreign),
            ("http://localhost.evil.example", "broker.example", none, Page::Foreign),
            ("http://evil.example@broker.example", "broker.example", none, Page::Foreign),
            ("null", "broker.example", none, Page::Foreign),
            ("null", "null", none, Page::Foreign),
            ("http://", "", none, Page::Foreign),
            ("https://app.example.com", "broker.example", named, Page::Allowed),
            ("http://app.example.com", "broker.example", named, Page::Foreign),
            ("https://app.example.com:444", "broker.example", named, Page::Foreign),
            ("http://example.org:81", "broker.example", named, Page::Allowed),
            ("null", "broker.example", named, Page::Allowed),
            ("http://evil.example", "broker.example", all, Page::Allowed),
        ] {
            assert_eq!(judge(origin, host, allowed), page, "{origin} at {host} with {allowed:?}");
        }
    }
}
