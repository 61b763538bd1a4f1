//! Anything that comes to a TLS port: nothing panics, nothing is kept beyond its bounds, a connection that failed stays
//! failed, and what was not tampered with arrives as it was sent, both ways.
//!
//! The first byte chooses version and mode. Mode 0 sends the rest as it is, mode 1 lets a real client play and the rest
//! says what happens to its flights on their way.
#![no_main]

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use breakwater_transport::tls::{Challenges, Progress, Proof, Tls, TlsFault, Window};
use libfuzzer_sys::fuzz_target;
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// One record and a handshake message of the largest size that is let through, with what their buffer may grow beyond.
const HELD_MAX: usize = 2 * (0x1_0000 + 3 * 18_437);

static CONFIGS: LazyLock<[(Arc<ServerConfig>, Arc<ClientConfig>); 2]> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let provider = Arc::new(aws_lc_rs::default_provider());
    [&TLS12, &TLS13].map(|version| {
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], made.signing_key.serialize_der().try_into().unwrap())
            .unwrap();
        server.alpn_protocols = vec![b"mqtt".to_vec()];
        server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        (Arc::new(server), Arc::new(client))
    })
});

/// A name is being proven to an ACME server all the time.
static CHALLENGES: LazyLock<(Challenges, Proof)> = LazyLock::new(|| {
    let challenges = Challenges::default();
    let proof = challenges.prove("localhost", &[7; 32]).unwrap();
    (challenges, proof)
});

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let (server, client) = &CONFIGS[usize::from(choice & 1)];
    let mut game = Game::new(server, client);
    if choice & 2 == 0 {
        let step = usize::from(choice >> 2) + 1;
        game.tampered = true;
        rest.chunks(step).for_each(|part| game.serve(part));
    } else {
        game.play(rest);
    }
});

struct Game {
    server: Tls,
    client: ClientConnection,
    /// What the client has said, and what of it came out.
    said: Vec<u8>,
    heard: Vec<u8>,
    told: Vec<u8>,
    understood: Vec<u8>,
    /// Something was changed on its way, and so may fail or be missing.
    tampered: bool,
    failed: bool,
    room: usize,
    updates: usize,
    /// The client has failed or said goodbye: it is not fed any more.
    deaf: bool,
}

impl Game {
    fn new(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Self {
        let mut client = ClientConnection::new(client.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
        client.set_buffer_limit(None);
        Self {
            server: Tls::server(server.clone()).unwrap().answering(CHALLENGES.0.clone()),
            client,
            said: Vec::new(),
            heard: Vec::new(),
            told: Vec::new(),
            understood: Vec::new(),
            tampered: false,
            failed: false,
            room: 40_000,
            updates: 0,
            deaf: false,
        }
    }

    fn play(&mut self, mut rest: &[u8]) {
        while let [op, argument, tail @ ..] = rest {
            rest = tail;
            let argument = usize::from(*argument);
            let mut flight = self.flight();
            match op % 12 {
                0 => self.serve(&flight),
                1 if !flight.is_empty() => {
                    let at = (argument * 8) % flight.len();
                    flight[at] ^= 1 << (argument % 8);
                    self.tamper(&flight);
                }
                2 => {
                    flight.truncate(argument);
                    self.tamper(&flight);
                }
                3 => {
                    let (raw, tail) = rest.split_at(argument.min(rest.len()));
                    rest = tail;
                    self.tamper(raw);
                    self.tamper(&flight);
                }
                4 => {
                    self.serve(&flight);
                    self.say(argument * 100);
                }
                5 => {
                    // In the middle of a handshake that is an error.
                    self.tampered |= self.server.is_handshaking();
                    self.client.send_close_notify();
                    self.deaf = true;
                    self.serve(&flight);
                }
                6 => {
                    self.serve(&flight);
                    self.tell(argument * 150);
                }
                7 => flight.chunks(argument + 1).for_each(|part| self.serve(part)),
                8 => {
                    self.room = argument + 1;
                    self.serve(&flight);
                }
                9 => {
                    // More without data in between are refused as an attack.
                    self.updates += 1;
                    if self.updates < 16 {
                        let _ = self.client.refresh_traffic_keys();
                    }
                    self.serve(&flight);
                }
                10 => {
                    let mut out = Vec::new();
                    self.server.close_notify(&mut out);
                    self.failed = true;
                    self.answer(&out);
                }
                _ => {
                    self.tamper(&flight);
                    self.tamper(&flight);
                }
            }
        }
        let flight = self.flight();
        self.serve(&flight);
        let told_all = self.told == self.understood;
        assert!(self.tampered || self.failed || self.deaf || told_all, "the client did not get all");
        assert!(self.said.starts_with(&self.heard), "the server got something else");
        assert!(self.tampered || self.failed || self.said == self.heard, "the server did not get all");
    }

    fn flight(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn tamper(&mut self, bytes: &[u8]) {
        self.tampered = true;
        self.serve(bytes);
    }

    fn serve(&mut self, bytes: &[u8]) {
        let mut reply = Vec::new();
        let mut bytes = bytes.to_vec();
        let mut input: &mut [u8] = &mut bytes;
        loop {
            let mut window = vec![0; self.room];
            let mut sink = Window::new(&mut window);
            let outcome = self.server.on_bytes(input, &mut sink, &mut reply);
            let len = sink.len;
            self.heard.extend_from_slice(&window[..len]);
            input = &mut [];
            match outcome {
                Ok(Progress { more: true, plain, .. }) => assert!(plain > 0, "no progress"),
                Ok(_) => break,
                Err(fault) => {
                    assert!(self.tampered || self.failed, "{fault}");
                    assert!(self.failed || fault != TlsFault::Ended);
                    self.failed = true;
                    break;
                }
            }
        }
        let held_max = if self.failed { 0 } else { HELD_MAX + bytes.len() };
        assert!(self.server.buffer_bytes() <= held_max);
        self.answer(&reply);
    }

    fn answer(&mut self, mut bytes: &[u8]) {
        while !self.deaf && !bytes.is_empty() && self.client.read_tls(&mut bytes).is_ok() {
            if self.client.process_new_packets().is_err() {
                self.tampered = true;
                self.deaf = true;
                return;
            }
            let _ = self.client.reader().read_to_end(&mut self.understood);
        }
    }

    fn say(&mut self, len: usize) {
        if self.client.is_handshaking() || self.deaf {
            return;
        }
        let bytes: Vec<u8> = (0..len).map(|at| (at + self.said.len()) as u8).collect();
        self.said.extend_from_slice(&bytes);
        // A client that has failed says nothing any more.
        self.tampered |= self.client.writer().write_all(&bytes).is_err();
    }

    fn tell(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 3 + self.told.len()) as u8).collect();
        let mut out = Vec::new();
        if self.server.encrypt(&bytes, &mut out).is_ok() {
            self.told.extend_from_slice(&bytes);
            self.answer(&out);
        }
    }
}
