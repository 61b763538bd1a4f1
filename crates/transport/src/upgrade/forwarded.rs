//! The client behind proxies, as `X-Forwarded-For` names it.

use std::net::{IpAddr, SocketAddr};

/// The last address in the list, read from its end, that no trusted proxy has: what stands before it may be anybody's
/// invention. None if the list ends, from that side, with something that is no address.
pub(super) fn client<'a>(
    lists: impl DoubleEndedIterator<Item = &'a str>,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut last = None;
    for entry in lists.rev().flat_map(|list| list.rsplit(',')) {
        let Some(address) = address(entry.trim()) else { return last };
        last = Some(address);
        if !trusted(address) {
            break;
        }
    }
    last
}

/// An address, with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|both| both.ip())).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rightmost_address_that_no_trusted_proxy_has_is_the_client() {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        for (lists, client_is) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["192.0.2.9, 192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1, 10.0.0.1,10.0.0.2"], Some("192.0.2.1")),
            (&["192.0.2.9", "192.0.2.1 , 10.0.0.1"], Some("192.0.2.1")),
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            (&["192.0.2.1:4711"], Some("192.0.2.1")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, unknown, 10.0.0.1"], Some("10.0.0.1")),
            (&[""], None),
            (&[], None),
        ] {
            let found = client(lists.iter().copied(), trusted).map(|address| address.to_string());
            assert_eq!(found.as_deref(), client_is, "{lists:?}");
        }
    }
}
