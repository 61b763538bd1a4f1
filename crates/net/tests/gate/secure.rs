//! TLS, alone and under WebSocket.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use breakwater_net::Refusal;
use breakwater_transport::tls::ClientCertificate;
use rustls::HandshakeKind;

use crate::authority::Authority;
use crate::ground::{Drops, Ground, Web, ask, echo, much, rest, secure, speaks, who};

fn ground() -> Ground {
    Ground::new(speaks(|speaks| speaks.mqtts = true))
}

#[test]
fn tls_carries_bytes_both_ways() {
    let ground = ground();
    let mut stream = ground.secure(&["mqtt"]);
    echo(&mut stream, b"hello");
    echo(&mut stream, &much()[..300_000]);
    // Commands of one byte each are records of their own, and still may be read together.
    assert!(ask(&mut stream, b"!", 1_000_000) == much());
    assert!(who(&mut stream).ends_with(" true "));
}

#[test]
fn tls_that_comes_byte_by_byte_is_served() {
    let ground = ground();
    let config = Arc::new(ground.authority.client(None, &[]));
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let connection = rustls::ClientConnection::new(config, name).expect("a good configuration");
    echo(&mut rustls::StreamOwned::new(connection, Drops(ground.connect())), b"slow but sure");
}

#[test]
fn websocket_in_tls_carries_bytes_both_ways() {
    let ground = Ground::new(speaks(|speaks| speaks.wss = true));
    for alpn in [&["http/1.1"][..], &[]] {
        let mut web = Web::open(ground.secure(alpn), "");
        echo(&mut web, b"hello");
        web.frame = 50_000;
        echo(&mut web, &much()[..300_000]);
        web.write_all(b"q").expect("the node reads");
        assert_eq!(rest(&mut web), b"bye");
        // Then TLS itself is closed, or reading would fail.
        assert_eq!(web.stream.read(&mut [0]).expect("an orderly end"), 0);
    }
}

#[test]
fn last_words_close_tls() {
    let ground = ground();
    let mut stream = ground.secure(&[]);
    stream.write_all(b"q").expect("the node reads");
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("a close_notify before the end");
    assert_eq!(last, b"bye");
}

#[test]
fn many_handshakes_at_once_wait_in_line_and_all_are_done() {
    let ground = ground();
    let config = Arc::new(ground.authority.client(None, &[]));
    let mut streams: Vec<_> = (0..400).map(|_| secure(ground.connect(), config.clone())).collect();
    for stream in &mut streams {
        // Only the first flight.
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).expect("the node reads");
        }
    }
    streams.iter_mut().for_each(|stream| echo(stream, b"hello"));
    assert_eq!(ground.status().refused, []);
}

#[test]
fn half_a_handshake_ends_with_its_time_and_hinders_nobody() {
    let ground = Ground::with(speaks(|speaks| speaks.mqtts = true), |options, _| options.handshake_timeout_ms = 300);
    let mut half = ground.secure(&[]);
    let mut hello = Vec::new();
    half.conn.write_tls(&mut hello).expect("memory");
    half.sock.write_all(&hello[..hello.len() / 2]).expect("the node reads");
    let mut silent = ground.connect();
    assert_eq!(rest(&mut half.sock), b"");
    assert_eq!(rest(&mut silent), b"");
    let lines = ground.refused(Refusal::TimedOut, 2);
    assert!(lines.contains("handshake was not done in time"), "{lines}");
    let mut gone = ground.secure(&[]);
    gone.conn.write_tls(&mut gone.sock).expect("the node reads");
    drop(gone);
    ground.refused(Refusal::Left, 1);
    ground.holds(0);
}

#[test]
fn clients_are_known_by_their_certificate() {
    let ground = Ground::with(speaks(|speaks| speaks.mqtts = true), |options, authority| {
        let tls = options.tls.as_mut().expect("it speaks TLS");
        tls.client_certificate = ClientCertificate::Required;
        tls.client_authorities = vec![authority.file()];
    });
    let config = Arc::new(ground.authority.client(Some(&ground.authority.sign("sensor-7")), &[]));
    assert!(who(&mut secure(ground.connect(), config.clone())).ends_with(" true sensor-7"));
    // By a ticket this time, where the server gave one.
    assert!(who(&mut secure(ground.connect(), config)).ends_with(" true sensor-7"));
    let mut nobody = ground.secure(&[]);
    let _ = nobody.write_all(b"hello");
    assert!(nobody.read(&mut [0]).is_err());
    let lines = ground.refused(Refusal::Tls, 1);
    assert!(lines.contains("the client has shown no certificate"), "{lines}");
}

#[test]
fn clients_whose_certificate_is_revoked_are_ended_and_no_others() {
    let ground = Ground::with(speaks(|speaks| speaks.mqtts = true), |options, authority| {
        let tls = options.tls.as_mut().expect("it speaks TLS");
        tls.client_certificate = ClientCertificate::Required;
        tls.client_authorities = vec![authority.file()];
    });
    let of = |name: &str| secure(ground.connect(), ground.authority.client(Some(&ground.authority.sign(name)), &[]));
    let (mut bad, mut good) = (of("sensor-7"), of("sensor-8"));
    echo(&mut bad, b"still welcome");
    echo(&mut good, b"welcome");
    let list = ground.authority.revoke("sensor-7");
    ground.change(|options| options.tls.as_mut().expect("it speaks TLS").revocation_lists = vec![list]);
    // Without a word from the client.
    assert!(matches!(bad.read(&mut [0; 10]), Ok(0) | Err(_)));
    echo(&mut good, b"still welcome");
    ground.holds(1);
}

#[test]
fn sessions_are_resumed_after_a_reload_and_not_under_other_rules() {
    let ground = Ground::with(speaks(|speaks| speaks.mqtts = true), |options, authority| {
        let tls = options.tls.as_mut().expect("it speaks TLS");
        tls.client_certificate = ClientCertificate::Required;
        tls.client_authorities = vec![authority.file()];
    });
    let config = Arc::new(ground.authority.client(Some(&ground.authority.sign("sensor-7")), &[]));
    let kind = || {
        let mut stream = secure(ground.connect(), Arc::clone(&config));
        echo(&mut stream, b"and take the ticket");
        stream.conn.handshake_kind().expect("it is done")
    };
    assert_eq!([kind(), kind()], [HandshakeKind::Full, HandshakeKind::Resumed]);
    // With a certificate of its own that is new.
    ground.change(|options| {
        options.tls.as_mut().expect("it speaks TLS").certificates = ground.authority.server().certificates
    });
    assert_eq!(kind(), HandshakeKind::Resumed);
    let other = Authority::new();
    ground.change(|options| options.tls.as_mut().expect("it speaks TLS").client_authorities.push(other.file()));
    assert_eq!([kind(), kind()], [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[test]
fn plain_bytes_on_a_tls_port_are_told_with_what_to_do() {
    let ground = ground();
    for (bytes, words) in [
        (&b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"[..], "plain MQTT on a TLS port: use mqtts://"),
        (b"GET / HTTP/1.1\r\n\r\n", "plain HTTP on a TLS port"),
        (b"SSH-2.0-OpenSSH_9\r\n", "SSH"),
        (b"\x80\x2e\x01\x03\x01", "SSL 2.0"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "a PROXY header on a listener without proxy_protocol"),
    ] {
        let ground = Ground::new(speaks(|speaks| speaks.mqtts = true));
        let mut stream = ground.connect();
        stream.write_all(bytes).expect("the node reads");
        let answer = rest(&mut stream);
        assert_eq!(answer.starts_with(b"HTTP/1.1 400 "), bytes.starts_with(b"GET"));
        let lines = ground.refused(Refusal::Protocol, 1);
        assert!(lines.contains(words), "{lines}");
    }
    echo(&mut ground.secure(&[]), b"others are served");
}
