use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn client(source: &str, destination: &str) -> Origin {
    Origin::Client { source: at(source), destination: at(destination) }
}

fn v2(addresses: Option<(SocketAddr, SocketAddr)>, extensions: &[Tlv<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_v2(&mut out, addresses, extensions);
    out
}

/// The header is found whatever follows it, and no shorter piece of it is taken for it.
fn assert_read(header: &[u8], origin: Origin) {
    for cut in 0..header.len() {
        assert_eq!(parse(&header[..cut]), Ok(None), "{cut} bytes of {:?}", header.escape_ascii().to_string());
    }
    let behind = [header, b"\x10\x0c\0\x04MQTT"].concat();
    assert_eq!(parse(&behind), Ok(Some(Proxied { used: header.len(), origin })));
}

#[test]
fn lines_of_version_1_are_read() {
    let longest =
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let long = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let full = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(full.len(), 107);
    for (line, origin) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", client("192.0.2.1:56324", "198.51.100.2:443")),
        ("PROXY TCP6 2001:db8::1 ::1 0 1883\r\n", client("[2001:db8::1]:0", "[::1]:1883")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 5 6\r\n", client("192.0.2.1:5", "[::1]:6")),
        (longest, client(long, long)),
        ("PROXY UNKNOWN\r\n", Origin::Unknown),
        ("PROXY UNKNOWN whatever it says\r\n", Origin::Unknown),
        (&full, Origin::Unknown),
    ] {
        assert_read(line.as_bytes(), origin);
    }
}

#[test]
fn lines_of_version_1_that_are_not_as_they_should_be_are_refused() {
    use ProxyFault::{Absent, Line, TooLong};
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(93));
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    for (line, fault) in [
        ("GET / HTTP/1.1\r\n", Absent),
        ("PROX1", Absent),
        ("proxy TCP4 ", Absent),
        ("\x10\x0c\0\x04MQTT", Absent),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", Line),
        ("PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n", Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n", Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n", Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 5\r\n", Line),
        ("PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n", Line),
        ("PROXY TCP4 ::1 ::1 56324 443\r\n", Line),
        ("PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n", Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n", Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 +5 443\r\n", Line),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", Line),
        ("PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n", Line),
        ("PROXY UNKNOWNS\r\n", Line),
        ("PROXY \r\n", Line),
        (&endless, TooLong),
        (&too_long, TooLong),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(fault), "{line:?}");
    }
}

#[test]
fn what_is_written_is_read() {
    for (source, destination) in
        [("192.0.2.1:1", "198.51.100.2:65535"), ("[2001:db8::1]:7", "[::1]:8"), ("192.0.2.1:1", "[::1]:8")]
    {
        let (from, to) = (at(source), at(destination));
        let mut line = Vec::new();
        put_v1(&mut line, from, to);
        let one_family = from.is_ipv4() == to.is_ipv4();
        assert_read(&line, if one_family { client(source, destination) } else { Origin::Unknown });
        for extensions in [&[][..], &[(4, &[0; 9][..]), (3, &[0; 4]), (1, b"mqtt"), (0xE0, b"")]] {
            assert_read(&v2(Some((from, to)), extensions), client(source, destination));
        }
    }
    assert_read(&v2(None, &[]), Origin::Proxy);
    assert_read(&v2(None, &[(4, b"padding")]), Origin::Proxy);
}

/// As HAProxy and the specification write it, byte by byte.
#[test]
fn headers_of_version_2_are_read() {
    let start = b"\r\n\r\n\0\r\nQUIT\n".as_slice();
    let four = [start, &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 0xDC, 4, 1, 0xBB]].concat();
    assert_read(&four, client("192.0.2.1:56324", "198.51.100.2:443"));
    let unix = [start, &[0x21, 0x31, 0, 219], &[b'/'; 216], &[4, 0, 0]].concat();
    assert_read(&unix, Origin::Unknown);
    let unspecified = [start, &[0x21, 0x00, 0, 5], b"hello"].concat();
    assert_read(&unspecified, Origin::Unknown);
    let datagram = [start, &[0x21, 0x12, 0, 12], &[1; 12]].concat();
    assert_read(&datagram, Origin::Unknown);
    let itself = [start, &[0x20, 0x11, 0, 3, 1, 2, 3]].concat();
    assert_read(&itself, Origin::Proxy);
}

#[test]
fn headers_of_version_2_that_are_not_as_they_should_be_are_refused() {
    let addresses = Some((at("192.0.2.1:1"), at("192.0.2.2:2")));
    let good = v2(addresses, &[(3, &[0; 4]), (4, b"x")]);
    let changed = |at: usize, to: u8| {
        let mut header = good.clone();
        header[at] = to;
        header
    };
    for (what, header, fault) in [
        ("signature", changed(11, b'!'), ProxyFault::Absent),
        ("version 1", changed(12, 0x11), ProxyFault::Kind),
        ("command 2", changed(12, 0x22), ProxyFault::Kind),
        ("family 4", changed(13, 0x41), ProxyFault::Kind),
        ("transport 3", changed(13, 0x13), ProxyFault::Kind),
        ("above the bound", changed(14, 0x03), ProxyFault::TooLong),
        ("shorter than its addresses", changed(15, 11), ProxyFault::Addresses),
        ("IPv6 in the length of IPv4", changed(13, 0x21), ProxyFault::Addresses),
        ("half an extension", changed(15, 14), ProxyFault::Tlv),
        ("extension beyond the end", changed(30, 9), ProxyFault::Tlv),
        ("checksum of another length", v2(addresses, &[(3, &[0; 5])]), ProxyFault::Tlv),
        ("wrong address for the checksum", changed(16, 193), ProxyFault::Checksum),
        ("wrong extension for the checksum", changed(38, b'y'), ProxyFault::Checksum),
    ] {
        assert_eq!(parse(&header), Err(fault), "{what}");
    }
    // Told before the rest has come.
    assert_eq!(parse(&changed(14, 0x03)[..16]), Err(ProxyFault::TooLong));
    assert!(good.len() <= HEADER_MAX);
}
