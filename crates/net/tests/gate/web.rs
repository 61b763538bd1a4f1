//! WebSocket.

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;

use breakwater_net::Refusal;
use breakwater_transport::ws::{End, OpCode};

use crate::ground::{Drops, Ground, Web, ask, echo, much, request, rest, speaks, who};

fn ground() -> Ground {
    Ground::new(speaks(|speaks| speaks.ws = true))
}

/// [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
#[test]
fn a_websocket_carries_bytes_in_frames_of_any_length() {
    let ground = ground();
    let mut web = ground.web();
    echo(&mut web, b"hello");
    web.frame = 1;
    echo(&mut web, &[7; 300]);
    web.frame = 70_000;
    echo(&mut web, &much()[..200_000]);
    let status = ground.status();
    assert_eq!((status.connections, status.refused), (1, vec![]));
}

#[test]
fn a_websocket_that_comes_byte_by_byte_is_served() {
    let ground = ground();
    let mut web = Web::open(Drops(ground.connect()), "");
    web.frame = 3;
    echo(&mut web, b"slow but sure");
}

#[test]
fn frames_right_behind_the_request_are_not_lost() {
    let ground = ground();
    let mut stream = ground.connect();
    // Masked with nothing, so that one can read it here.
    request(&mut stream, "", b"\x82\x85\0\0\0\0early");
    let mut frame = [0; 7];
    stream.read_exact(&mut frame).expect("the node answers");
    assert_eq!(&frame, b"\x82\x05early");
}

#[test]
fn a_peer_that_reads_slowly_gets_everything_in_order() {
    let ground = ground();
    let mut web = ground.web();
    let all = [much(), much(), much()].concat();
    (0..3).for_each(|_| web.put(OpCode::Binary, b"!"));
    echo(&mut ground.web(), b"others are served meanwhile");
    web.put(OpCode::Ping, b"now and then");
    let mut got = vec![0; all.len()];
    web.read_exact(&mut got).expect("the node answers");
    assert!(got == all);
    echo(&mut web, b"still here");
}

/// [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
#[test]
fn text_is_refused_with_the_code_for_it() {
    let ground = ground();
    let mut web = ground.web();
    web.put(OpCode::Text, b"text");
    let mut close = [0; 4];
    web.stream.read_exact(&mut close).expect("a close frame");
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1003));
    ground.told("WebSocket text frame: MQTT travels in binary frames");
}

#[test]
fn both_ends_close_in_good_order() {
    let ground = ground();
    let mut web = ground.web();
    web.close();
    assert_eq!(rest(&mut web), b"");
    assert_eq!(web.end, Some(End::Closed(Some(1000))));
    assert_eq!(rest(&mut web.stream), b"");
    let mut web = ground.web();
    web.write_all(b"q").expect("the node reads");
    assert_eq!(rest(&mut web), b"bye");
    assert_eq!(web.end, Some(End::Closed(Some(1000))));
    assert_eq!(rest(&mut web.stream), b"");
}

#[test]
fn whoever_asks_for_something_else_is_told_what_is_here() {
    let ground = ground();
    for (request, status, words) in [
        ("GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "426", "subprotocol mqtt"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404", "path /mqtt"),
        ("POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "404", "path /mqtt"),
        ("GET no-slash\r\n\r\n", "400", "malformed"),
    ] {
        let mut stream = ground.connect();
        stream.write_all(request.as_bytes()).expect("the node reads");
        let answer = String::from_utf8(rest(&mut stream)).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(words), "{answer}");
    }
    let mut stream = ground.connect();
    let answer = request(&mut stream, "Origin: http://evil.example\r\n", b"");
    assert!(answer.starts_with(b"HTTP/1.1 403 "));
    let lines = ground.refused(Refusal::WebSocket, 5);
    assert!(lines.contains("any.test: ") && lines.contains("plain HTTP request to a WebSocket port"), "{lines}");
}

#[test]
fn who_comes_from_a_page_of_another_host_or_a_proxy_is_not_direct() {
    let ground = Ground::with(speaks(|speaks| speaks.ws = true), |options, _| {
        options.websocket.origins = vec!["http://app.example".into()];
    });
    assert!(who(&mut ground.web()).ends_with(" true "));
    assert!(who(&mut Web::open(ground.connect(), "Origin: http://localhost:9\r\n")).ends_with(" true "));
    assert!(who(&mut Web::open(ground.connect(), "Origin: http://app.example\r\n")).ends_with(" false "));
    let forwarded = who(&mut Web::open(ground.connect(), "X-Forwarded-For: 192.0.2.1\r\n"));
    assert!(forwarded.starts_with("127.0.0.1:") && forwarded.ends_with(" false "), "{forwarded}");
}

#[test]
fn a_trusted_proxy_names_the_client_and_the_rules_are_for_the_client() {
    let ground = Ground::with(speaks(|speaks| speaks.ws = true), |options, _| {
        options.websocket.trusted_forwarders = vec!["127.0.0.0/8".parse().expect("a network")];
        options.access = vec![
            breakwater_net::AccessRule { allow: true, network: "127.0.0.0/8".parse().ok() },
            breakwater_net::AccessRule { allow: true, network: "192.0.2.1/32".parse().ok() },
            breakwater_net::AccessRule { allow: false, network: None },
        ];
    });
    let mut web = Web::open(ground.connect(), "X-Forwarded-For: 192.0.2.9, 192.0.2.1\r\n");
    assert_eq!(who(&mut web), "192.0.2.1:0 false ");
    let mut stream = ground.connect();
    stream
        .write_all(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        .expect("read");
    stream
        .write_all(b"Sec-WebSocket-Key: CQkJCQkJCQkJCQkJCQkJCQ==\r\nSec-WebSocket-Version: 13\r\n")
        .expect("the node reads");
    stream.write_all(b"Sec-WebSocket-Protocol: mqtt\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n").expect("the node reads");
    assert_eq!(rest(&mut stream), b"");
    ground.refused(Refusal::Denied, 1);
}

#[test]
fn a_thousand_idle_websockets_hold_no_buffers() {
    let ground = ground();
    let mut webs: Vec<_> = (0..1000).map(|_| ground.web()).collect();
    webs.iter_mut().for_each(|web| echo(web, b"hello"));
    ground.heard.buffers.store(0, Ordering::Relaxed);
    // One more turn at each shard.
    (0..20).for_each(|_| echo(&mut ground.web(), b"look"));
    assert_eq!(ground.heard.buffers.load(Ordering::Relaxed), 0);
    assert_eq!(ask(&mut webs[999], b"still there", 11), b"still there");
}
