//! PROXY protocol.

use std::io::Write as _;
use std::net::SocketAddr;

use breakwater_net::{AccessRule, ListenerOptions, Protocols, ProxyOptions, Refusal};
use breakwater_transport::proxy::{put_v1, put_v2};

use crate::ground::{Drops, Ground, Web, echo, rest, secure, speaks, who};

fn trusting(options: &mut ListenerOptions) {
    options.proxy = Some(ProxyOptions { trusted: vec!["127.0.0.1/32".parse().expect("a network")] });
}

fn header(second: bool, source: &str) -> Vec<u8> {
    let mut header = Vec::new();
    let source: SocketAddr = source.parse().expect("an address");
    let destination = SocketAddr::from((source.ip(), 1883));
    if second {
        put_v2(&mut header, Some((source, destination)), &[(3, &[0; 4])]);
    } else {
        put_v1(&mut header, source, destination);
    }
    header
}

#[test]
fn the_header_names_the_client_of_every_kind_of_connection() {
    let any = speaks(|speaks| (speaks.mqtt, speaks.mqtts, speaks.ws) = (true, true, true));
    for protocols in [Protocols::MQTT, any] {
        let ground = Ground::with(protocols, |options, _| trusting(options));
        for (second, source) in [(false, "192.0.2.1:4711"), (true, "192.0.2.2:4712"), (true, "[2001:db8::1]:4713")] {
            let known = format!("{source} false ");
            let mut stream = ground.connect();
            stream.write_all(&header(second, source)).expect("the node reads");
            if protocols == Protocols::MQTT {
                assert_eq!(who(&mut stream), known);
                continue;
            }
            assert_eq!(who(&mut Web::open(stream, "")), known);
            let mut stream = ground.connect();
            stream.write_all(&header(second, source)).expect("the node reads");
            assert_eq!(who(&mut secure(stream, ground.authority.client(None, &[]))), known);
        }
    }
}

#[test]
fn a_header_that_comes_byte_by_byte_with_bytes_behind_it_is_read() {
    let ground = Ground::with(Protocols::MQTT, |options, _| trusting(options));
    for second in [false, true] {
        let mut stream = Drops(ground.connect());
        stream.write_all(&header(second, "192.0.2.1:4711")).expect("the node reads");
        echo(&mut stream, b"\x10MQTT");
        let mut stream = ground.connect();
        let both = [header(second, "192.0.2.1:4711"), b"at once".to_vec()].concat();
        stream.write_all(&both).expect("the node reads");
        let mut back = [0; 7];
        std::io::Read::read_exact(&mut stream, &mut back).expect("the node answers");
        assert_eq!(&back, b"at once");
    }
}

#[test]
fn the_proxy_itself_is_served_and_is_not_direct() {
    let ground = Ground::with(Protocols::MQTT, |options, _| trusting(options));
    let mut itself = Vec::new();
    put_v2(&mut itself, None, &[]);
    for header in [itself, b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut stream = ground.connect();
        stream.write_all(&header).expect("the node reads");
        let known = who(&mut stream);
        assert!(known.starts_with("127.0.0.1:") && known.ends_with(" false "), "{known}");
    }
}

#[test]
fn a_header_that_is_missing_wrong_or_of_a_stranger_ends_the_connection() {
    let ground = Ground::with(Protocols::MQTT, |options, _| trusting(options));
    for bytes in [&b"\x10\x0c\0\x04MQTT"[..], b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0"] {
        let mut stream = ground.connect();
        stream.write_all(bytes).expect("the node reads");
        assert_eq!(rest(&mut stream), b"");
    }
    let lines = ground.refused(Refusal::Proxy, 3);
    assert!(lines.contains("send-proxy-v2"), "{lines}");
    let ground = Ground::with(Protocols::MQTT, |options, _| options.proxy = Some(ProxyOptions::default()));
    let mut stream = ground.connect();
    let _ = stream.write_all(&header(true, "192.0.2.1:1"));
    assert_eq!(rest(&mut stream), b"");
    let lines = ground.refused(Refusal::Proxy, 1);
    assert!(lines.contains("127.0.0.1 is not one of the trusted_proxies"), "{lines}");
}

#[test]
fn rules_and_bounds_are_for_the_client_behind_the_proxy() {
    let ground = Ground::with(Protocols::MQTT, |options, _| {
        trusting(options);
        options.access = vec![AccessRule { allow: false, network: "192.0.2.66/32".parse().ok() }];
        options.connections_per_address_max = 1;
    });
    let come = |source| {
        let mut stream = ground.connect();
        stream.write_all(&header(true, source)).expect("the node reads");
        stream
    };
    assert_eq!(rest(&mut come("192.0.2.66:1")), b"");
    ground.refused(Refusal::Denied, 1);
    let mut first = come("192.0.2.1:1");
    echo(&mut first, b"here");
    assert_eq!(rest(&mut come("192.0.2.1:2")), b"");
    ground.refused(Refusal::AddressFull, 1);
    echo(&mut come("192.0.2.2:2"), b"another");
}
