//! One port for everything.

use std::io::{Read as _, Write as _};

use breakwater_net::{Protocols, Refusal};

use crate::ground::{Drops, Ground, Web, echo, rest, speaks, who};

const CONNECT: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";
const REQUEST: &[u8] = b"GET /dashboard HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn everything() -> Protocols {
    let mut all = Protocols::NONE;
    (all.mqtt, all.mqtts, all.ws, all.wss, all.http, all.https) = (true, true, true, true, true, true);
    all
}

#[test]
fn whatever_comes_is_told_apart() {
    let ground = Ground::new(everything());
    ground.serve_http();
    echo(&mut ground.connect(), CONNECT);
    echo(&mut Drops(ground.connect()), CONNECT);
    echo(&mut ground.web(), b"hello");
    echo(&mut ground.secure(&["mqtt"]), b"by its name");
    echo(&mut ground.secure(&["x-amzn-mqtt-ca"]), b"by its other name");
    echo(&mut ground.secure(&[]), CONNECT);
    echo(&mut Web::open(ground.secure(&["http/1.1"]), ""), b"hello");
    echo(&mut Web::open(ground.secure(&[]), ""), b"hello");
    let served = [b"HTTP/1.1 200 OK\r\n\r\n", REQUEST].concat();
    let mut plain = ground.connect();
    plain.write_all(REQUEST).expect("read");
    assert_eq!(rest(&mut plain), served);
    for alpn in [&["http/1.1"][..], &[]] {
        let mut secure = ground.secure(alpn);
        secure.write_all(REQUEST).expect("read");
        let mut answer = Vec::new();
        secure.read_to_end(&mut answer).expect("a close_notify before the end");
        assert_eq!(answer, served);
    }
    let visits: Vec<_> = ground
        .heard
        .visits
        .lock()
        .expect("visits")
        .iter()
        .map(|(peer, direct, tls)| (peer.ip().is_loopback(), *direct, *tls))
        .collect();
    assert_eq!(visits, [(true, true, false), (true, true, true), (true, true, true)]);
    assert_eq!(ground.status().refused, []);
}

#[test]
fn http_that_nobody_serves_is_told_where_mqtt_is() {
    let ground = Ground::new(everything());
    let mut plain = ground.connect();
    plain.write_all(REQUEST).expect("read");
    let mut secure = ground.secure(&[]);
    secure.write_all(REQUEST).expect("read");
    for answer in [rest(&mut plain), rest(&mut secure)] {
        let answer = String::from_utf8(answer).expect("text");
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("MQTT over WebSocket is at path /mqtt.\n"),
            "{answer}"
        );
    }
    ground.refused(Refusal::WebSocket, 2);
}

#[test]
fn what_a_listener_does_not_speak_is_turned_away_with_advice() {
    let tls_only = speaks(|speaks| speaks.mqtts = true);
    let web_only = speaks(|speaks| speaks.ws = true);
    let secure_web_only = speaks(|speaks| speaks.wss = true);
    for (protocols, bytes, words) in [
        (web_only, CONNECT, "plain MQTT on a WebSocket port: use ws://"),
        (web_only, b"\x16\x03\x01\x02\0\x01", "TLS on a port without TLS"),
        (secure_web_only, CONNECT, "plain MQTT on a TLS port"),
        (secure_web_only, REQUEST, "plain HTTP on a TLS port"),
        (tls_only, b"\0\0\0\0", "neither an MQTT CONNECT nor TLS nor HTTP"),
    ] {
        let ground = Ground::new(protocols);
        let mut stream = ground.connect();
        stream.write_all(bytes).expect("the node reads");
        rest(&mut stream);
        let lines = ground.refused(Refusal::Protocol, 1);
        assert!(lines.contains(words), "{lines}");
    }
}

#[test]
fn what_a_listener_does_not_speak_in_tls_is_turned_away_with_advice() {
    let ground = Ground::new(speaks(|speaks| speaks.mqtts = true));
    let mut browser = ground.secure(&["http/1.1"]);
    browser.write_all(REQUEST).expect("read");
    assert!(rest(&mut browser).starts_with(b"HTTP/1.1 400 "));
    assert!(ground.refused(Refusal::Protocol, 1).contains("use mqtts://"));
    let ground = Ground::new(speaks(|speaks| speaks.wss = true));
    let mut client = ground.secure(&["mqtt"]);
    client.write_all(CONNECT).expect("read");
    assert_eq!(rest(&mut client), b"");
    assert!(ground.refused(Refusal::Protocol, 1).contains("use wss://"));
}

#[test]
fn who_leaves_the_gate_is_counted_no_more() {
    let ground = Ground::new(everything());
    let mut some: Vec<_> = (0..50).map(|_| ground.connect()).collect();
    some.iter_mut().for_each(|stream| stream.write_all(b"G").expect("read"));
    assert!(who(&mut ground.web()).ends_with(" true "));
    drop(some);
    ground.refused(Refusal::Left, 50);
    while ground.status().connections > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn what_comes_to_a_plain_port_and_is_no_mqtt_is_told_by_the_shard_that_took_it() {
    for (first, words) in [
        (&b"\x16\x03\x01\x02\0\x01"[..], "TLS on a port without TLS: connect to the tls or wss listener"),
        (REQUEST, "HTTP on an MQTT port"),
    ] {
        let ground = Ground::new(Protocols::MQTT);
        let mut stream = ground.connect();
        // The engine of these tests takes it for what a shard takes it for.
        stream.write_all(&[b"###", first].concat()).expect("the node reads");
        assert_eq!(rest(&mut stream).starts_with(b"HTTP/1.1 400 "), first == REQUEST);
        let lines = ground.refused(Refusal::Protocol, 1);
        assert!(lines.contains(words), "{lines}");
    }
}
