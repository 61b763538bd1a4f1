use std::io::{Read, Write};

use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use super::*;
use crate::tls::pki::{Authority, pair, provider};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// A client in memory, and the server's side that is looked at.
struct Wire {
    client: ClientConnection,
    heard: Vec<u8>,
    server: Tls,
    plain: Vec<u8>,
    progress: Progress,
}

impl Wire {
    fn new(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        client.set_buffer_limit(None);
        Self {
            client,
            heard: Vec::new(),
            server: Tls::server(server.clone()).unwrap(),
            plain: Vec::new(),
            progress: Progress::default(),
        }
    }

    fn open(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let (server, client) = pair(versions);
        let mut wire = Self::new(&server, &client);
        wire.settle(usize::MAX);
        assert!(wire.progress.handshaken && !wire.client.is_handshaking());
        wire
    }

    /// All that the client has to send.
    fn flight(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn serve(&mut self, bytes: &[u8], step: usize) -> Result<(), TlsFault> {
        let mut reply = Vec::new();
        let mut outcome = Ok(());
        for part in bytes.chunks(step.min(bytes.len().max(1))) {
            match self.server.on_bytes(&mut part.to_vec(), &mut self.plain, &mut reply) {
                Ok(progress) => self.progress = progress,
                Err(fault) => {
                    outcome = Err(fault);
                    break;
                }
            }
        }
        self.tell(&reply);
        outcome
    }

    fn tell(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            if self.client.process_new_packets().is_err() {
                return;
            }
            match self.client.reader().read_to_end(&mut self.heard) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    }

    /// Back and forth until nobody has anything to say, `step` bytes at a time.
    fn settle(&mut self, step: usize) {
        loop {
            let flight = self.flight();
            if flight.is_empty() {
                return;
            }
            self.serve(&flight, step).unwrap();
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.client.writer().write_all(bytes).unwrap();
        self.flight()
    }

    fn hear(&mut self) -> Vec<u8> {
        mem::take(&mut self.heard)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn a_connection_may_move_between_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Tls>();
    assert_send::<TlsFault>();
}

#[test]
fn a_handshake_tells_what_was_agreed() {
    for versions in VERSIONS {
        let wire = Wire::open(versions);
        assert_eq!(wire.server.alpn(), Some(b"mqtt".as_slice()));
        assert_eq!(wire.server.server_name(), Some("localhost"));
        assert_eq!(wire.server.peer_certificates(), None);
        assert!(!wire.server.resumed());
        let (version, prefix) = if versions[0].version == ProtocolVersion::TLSv1_3 {
            ("TLS 1.3", "TLS_AES_")
        } else {
            ("TLS 1.2", "TLS_ECDHE_ECDSA_")
        };
        assert_eq!(wire.server.version(), Some(version));
        assert!(wire.server.cipher().unwrap().starts_with(prefix));
    }
}

#[test]
fn a_second_connection_is_resumed() {
    for versions in VERSIONS {
        let (server, client) = pair(versions);
        for resumed in [false, true, true] {
            let mut wire = Wire::new(&server, &client);
            wire.settle(usize::MAX);
            assert_eq!(wire.server.resumed(), resumed);
        }
    }
}

/// Whether the server says after each flight of the client that only the last word is missing.
fn last_word_awaited(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Vec<bool> {
    let mut wire = Wire::new(server, client);
    let mut said = Vec::new();
    while wire.server.is_handshaking() {
        let flight = wire.flight();
        wire.serve(&flight, usize::MAX).unwrap();
        said.push(wire.server.awaits_last_word());
    }
    said
}

#[test]
fn the_last_word_of_a_handshake_is_known_before_it_comes() {
    let (server, client) = pair(&[&TLS13]);
    for _ in ["full", "resumed"] {
        assert_eq!(last_word_awaited(&server, &client), [true, false]);
    }
    let (server, client) = pair(&[&TLS12]);
    for awaited in [vec![false, false], vec![false, false]] {
        assert_eq!(last_word_awaited(&server, &client), awaited);
    }
    // A server that asks for another key share still has its keys to agree on and to sign.
    let authority = Authority::new("test authority");
    let leaf = authority.issue(&["localhost"], |_| {});
    let only = rustls::crypto::CryptoProvider {
        kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::SECP384R1],
        ..Arc::unwrap_or_clone(provider())
    };
    let server = ServerConfig::builder_with_provider(Arc::new(only))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.certificate.clone()], leaf.key_der())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    assert_eq!(last_word_awaited(&Arc::new(server), &Arc::new(client)), [false, false, false]);
}

#[test]
fn bytes_may_come_in_any_portions() {
    for versions in VERSIONS {
        for step in [1, 2, 3, 4, 5, 6, 7, 64, 1000] {
            let (server, client) = pair(versions);
            let mut wire = Wire::new(&server, &client);
            wire.settle(step);
            assert!(wire.progress.handshaken);
            let text = pattern(40_000);
            let cipher = wire.say(&text);
            wire.serve(&cipher, step).unwrap();
            assert!(wire.plain == text);
            assert_eq!(wire.server.buffer_bytes(), 0);
        }
    }
}

#[test]
fn every_split_in_two_gives_the_same() {
    for versions in VERSIONS {
        let mut wire = Wire::open(versions);
        let mut expected = Vec::new();
        for split in 0..180 {
            let mut cipher = wire.say(b"a first message");
            cipher.extend(wire.say(b"second"));
            cipher.extend(wire.say(&[7; 40]));
            expected.extend_from_slice(b"a first messagesecond");
            expected.extend_from_slice(&[7; 40]);
            let (front, back) = cipher.split_at(split.min(cipher.len()));
            wire.serve(front, usize::MAX).unwrap();
            wire.serve(back, usize::MAX).unwrap();
            assert!(wire.plain == expected, "split at {split}");
        }
    }
}

#[test]
fn large_transfers_arrive_both_ways() {
    for versions in VERSIONS {
        let mut wire = Wire::open(versions);
        let text = pattern(3_000_000);
        for part in text.chunks(50_000) {
            let cipher = wire.say(part);
            wire.serve(&cipher, 33_333).unwrap();
        }
        assert!(wire.plain == text);
        let mut heard = Vec::new();
        for part in text.chunks(70_001) {
            let mut out = Vec::new();
            wire.server.encrypt(part, &mut out).unwrap();
            assert!(out.len() <= Tls::cipher_len(part.len()) && out.len() > part.len());
            wire.tell(&out);
            heard.extend(wire.hear());
        }
        assert!(heard == text);
        assert_eq!(wire.server.buffer_bytes(), 0);
    }
}

#[test]
fn plaintext_without_room_waits() {
    for versions in VERSIONS {
        for room in [1, 7, 100, 16_384, 20_000] {
            let mut wire = Wire::open(versions);
            let text = pattern(60_000);
            let mut cipher = wire.say(&text);
            let mut heard = Vec::new();
            let mut window = vec![0; room];
            let mut input: &mut [u8] = &mut cipher;
            loop {
                let mut sink = Window::new(&mut window);
                let progress = wire.server.on_bytes(input, &mut sink, &mut Vec::new()).unwrap();
                assert_eq!(progress.plain, sink.len);
                assert_eq!(progress.more, wire.server.has_more());
                heard.extend_from_slice(&window[..progress.plain]);
                input = &mut [];
                if !progress.more {
                    break;
                }
                // Writing goes on meanwhile.
                let mut out = Vec::new();
                wire.server.encrypt(b"x", &mut out).unwrap();
                wire.tell(&out);
            }
            assert!(heard == text);
            assert_eq!(wire.server.held(), 0);
            assert_eq!(wire.server.buffer_bytes(), 0);
        }
    }
}

#[test]
fn room_for_what_is_held_and_read_is_always_enough() {
    for versions in VERSIONS {
        let mut wire = Wire::open(versions);
        let text = pattern(100_000);
        let cipher = wire.say(&text);
        let mut heard = Vec::new();
        for part in cipher.chunks(5_003) {
            let mut window = vec![0; wire.server.held() + part.len()];
            let mut sink = Window::new(&mut window);
            let progress = wire.server.on_bytes(&mut part.to_vec(), &mut sink, &mut Vec::new()).unwrap();
            assert!(!progress.more);
            assert!(wire.server.held() < RECORD_MAX);
            heard.extend_from_slice(&window[..progress.plain]);
        }
        assert!(heard == text);
    }
}

#[test]
fn an_open_connection_keeps_no_buffer() {
    let mut wire = Wire::open(VERSIONS[1]);
    assert_eq!(wire.server.buffer_bytes(), 0);
    let cipher = wire.say(&pattern(10_000));
    wire.serve(&cipher[..9_000], usize::MAX).unwrap();
    assert_eq!(wire.server.held(), 9_000);
    wire.serve(&cipher[9_000..], usize::MAX).unwrap();
    assert_eq!(wire.server.buffer_bytes(), 0);
    assert!(size_of::<Tls>() <= 1408, "{}", size_of::<Tls>());
}

#[test]
fn a_goodbye_is_understood_on_both_sides() {
    for versions in VERSIONS {
        let mut wire = Wire::open(versions);
        let mut cipher = wire.say(b"last words");
        wire.client.send_close_notify();
        cipher.extend(wire.flight());
        cipher.extend_from_slice(b"what follows is not looked at");
        wire.serve(&cipher, usize::MAX).unwrap();
        assert!(wire.progress.closed);
        assert_eq!(wire.plain, b"last words");
        let mut out = Vec::new();
        wire.server.encrypt(b"answer", &mut out).unwrap();
        wire.server.close_notify(&mut out);
        wire.server.close_notify(&mut out);
        wire.tell(&out);
        assert_eq!(wire.hear(), b"answer");
        assert!(wire.client.process_new_packets().unwrap().peer_has_closed());
        assert_eq!(wire.server.encrypt(b"more", &mut out), Err(TlsFault::Ended));
        assert_eq!(wire.server.on_bytes(&mut [1], &mut Vec::new(), &mut out), Err(TlsFault::Ended));
    }
}

#[test]
fn a_key_update_is_answered_and_survived() {
    let mut wire = Wire::open(VERSIONS[1]);
    for round in 0..3u8 {
        wire.client.refresh_traffic_keys().unwrap();
        let cipher = wire.say(&[round; 10]);
        wire.serve(&cipher, 1).unwrap();
        let mut out = Vec::new();
        wire.server.encrypt(&[round; 20_000], &mut out).unwrap();
        wire.tell(&out);
        assert_eq!(wire.hear(), [round; 20_000]);
    }
    assert_eq!(wire.plain.len(), 30);
    assert_eq!(wire.server.buffer_bytes(), 0);
}

#[test]
fn nothing_can_be_encrypted_before_the_handshake_is_done() {
    let (server, _) = pair(VERSIONS[1]);
    let mut tls = Tls::server(server).unwrap();
    let mut out = Vec::new();
    assert!(matches!(tls.encrypt(b"early", &mut out), Err(TlsFault::Ours(_))));
    assert!(out.is_empty());
    tls.close_notify(&mut out);
    assert!(out.is_empty());
    assert_eq!(tls.encrypt(b"late", &mut out), Err(TlsFault::Ended));
}

#[test]
fn other_protocols_on_a_tls_port_are_told_apart() {
    let (server, _) = pair(VERSIONS[1]);
    let table: [(&[u8], TlsFault); 7] = [
        (b"\x10\x0c\x00\x04MQTT", TlsFault::PlainMqtt),
        (b"GET /mqtt HTTP/1.1\r\n", TlsFault::PlainHttp),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", TlsFault::ProxyHeader),
        (b"\r\n\r\n\0\r\nQUIT\n", TlsFault::ProxyHeader),
        (b"\x80\x2e\x01\x00\x02", TlsFault::OldSsl),
        (b"\x00\x00", TlsFault::NotTls(0)),
        (b"hello", TlsFault::NotTls(b'h')),
    ];
    for (bytes, fault) in table {
        for step in [1, bytes.len()] {
            let mut tls = Tls::server(server.clone()).unwrap();
            let mut reply = Vec::new();
            let mut outcome = Ok(Progress::default());
            for part in bytes.chunks(step) {
                outcome = tls.on_bytes(&mut part.to_vec(), &mut Vec::new(), &mut reply);
                if outcome.is_err() {
                    break;
                }
            }
            if step > 1 {
                assert_eq!(outcome, Err(fault.clone()));
                assert_eq!(reply.starts_with(b"HTTP/1.1 400 "), fault == TlsFault::PlainHttp);
            } else {
                assert!(outcome.is_err());
            }
        }
    }
    let body = PLAIN_HTTP_ANSWER.split_once("\r\n\r\n").unwrap().1;
    assert!(PLAIN_HTTP_ANSWER.contains(&format!("Content-Length: {}\r\n", body.len())));
}

#[test]
fn what_does_not_fit_is_said_in_words() {
    let (server12, client12) = pair(VERSIONS[0]);
    let (server13, client13) = pair(VERSIONS[1]);
    for (server, client, newest) in [(&server12, &client13, 0x304), (&server13, &client12, 0x303)] {
        let mut wire = Wire::new(server, client);
        let flight = wire.flight();
        assert_eq!(wire.serve(&flight, usize::MAX), Err(TlsFault::Version { newest }));
        // The alert has arrived.
        assert!(wire.client.process_new_packets().is_err());
    }
    let mut client = ClientConfig::clone(&client13);
    client.alpn_protocols = vec![b"h2".to_vec(), b"x\x01".to_vec()];
    let mut wire = Wire::new(&server13, &Arc::new(client));
    let flight = wire.flight();
    let fault = wire.serve(&flight, usize::MAX).unwrap_err();
    assert_eq!(fault, TlsFault::ApplicationProtocol("h2, x?".into()));
}

#[test]
fn a_client_that_does_not_trust_us_says_so() {
    for versions in VERSIONS {
        let (server, _) = pair(versions);
        let (_, stranger) = pair(versions);
        let mut wire = Wire::new(&server, &stranger);
        let flight = wire.flight();
        wire.serve(&flight, usize::MAX).unwrap();
        let alert = wire.flight();
        let fault = wire.serve(&alert, 1).unwrap_err();
        assert!(matches!(fault, TlsFault::ServerNotTrusted(_)), "{fault:?}");
        assert!(fault.to_string().contains("--cafile"));
    }
}

#[test]
fn garbage_at_every_stage_is_an_error_and_nothing_else() {
    for versions in VERSIONS {
        for stage in 0..3 {
            for garbage in [
                &[0u8; 64][..],
                &[0x16, 3, 1, 0, 4, 1, 2, 3, 4],
                &[0x17, 3, 3, 0, 20],
                &[0x14, 2, 0, 0, 1, 1],
                b"\xff\xff\xff\xff\xff\xff",
            ] {
                let (server, client) = pair(versions);
                let mut wire = Wire::new(&server, &client);
                for _ in 0..stage {
                    let flight = wire.flight();
                    wire.serve(&flight, usize::MAX).unwrap();
                }
                let mut bytes = garbage.to_vec();
                bytes.resize(200, 0x16);
                let fault = wire.serve(&bytes, 1).unwrap_err();
                assert!(!fault.to_string().is_empty());
                assert_eq!(wire.server.buffer_bytes(), 0);
                assert_eq!(wire.serve(&bytes, 1), Err(TlsFault::Ended));
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    for versions in VERSIONS {
        for at in 0..60 {
            let mut wire = Wire::open(versions);
            let mut cipher = wire.say(&[1; 30]);
            let at = at % cipher.len();
            cipher[at] ^= 0x10;
            // More follows, for lengths that grew.
            cipher.extend(wire.say(&[2; 9000]));
            let outcome = wire.serve(&cipher, usize::MAX);
            // The minor version of a record is not looked at.
            assert!(outcome.is_err() || at == 2, "byte {at}");
            assert!(wire.plain.is_empty() || at == 2);
        }
    }
}

#[test]
fn an_endless_handshake_message_is_refused() {
    let (server, _) = pair(VERSIONS[1]);
    let mut tls = Tls::server(server).unwrap();
    // A hello of 60,000 bytes is announced and comes in records of one byte each.
    let mut first = vec![0x16, 3, 1, 0, 4, 1, 0, 0xea, 0x60];
    let mut outcome = tls.on_bytes(&mut first, &mut Vec::new(), &mut Vec::new()).map(|_| ());
    let mut most = 0;
    while outcome.is_ok() {
        outcome = tls.on_bytes(&mut [0x16, 3, 1, 0, 1, 0], &mut Vec::new(), &mut Vec::new()).map(|_| ());
        most = most.max(tls.buffer_bytes());
    }
    assert!(most <= 2 * HANDSHAKE_HELD_MAX, "{most}");
}
