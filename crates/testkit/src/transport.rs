//! What lies between a client and the broker on the virtual network: nothing, or the layers of a real listener, with a
//! real client's at the other end.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use breakwater_transport::layers::Layers;
use breakwater_transport::tls::Tls;
use breakwater_transport::upgrade::{self, Request, Rules};
use breakwater_transport::ws::{Decoder, OpCode, Role, put_frame};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

/// How clients come to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Bytes as they are.
    #[default]
    Plain,
    /// In frames.
    WebSocket,
    /// Encrypted.
    Tls,
    /// Frames, encrypted.
    TlsWebSocket,
}

/// Names one of them for a whole run of the tests: `plain`, `ws`, `tls` or `wss`.
const VARIABLE: &str = "BREAKWATER_TRANSPORT";

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 4] = [Self::Plain, Self::WebSocket, Self::Tls, Self::TlsWebSocket];

    /// The one that the environment asks for; nothing in between if it asks for none.
    ///
    /// # Panics
    /// If it asks for one that does not exist.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) | Ok("" | "plain") => Self::Plain,
            Ok("ws") => Self::WebSocket,
            Ok("tls") => Self::Tls,
            Ok("wss") => Self::TlsWebSocket,
            Ok(other) => panic!("{VARIABLE} is plain, ws, tls or wss, not {other:?}"),
        }
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::TlsWebSocket)
    }

    fn is_framed(self) -> bool {
        matches!(self, Self::WebSocket | Self::TlsWebSocket)
    }
}

/// Both ends of one connection, above its bytes.
pub(crate) struct Ends {
    pub(crate) near: Layers,
    pub(crate) far: FarEnd,
}

/// The client's.
pub(crate) struct FarEnd {
    tls: Option<Box<ClientConnection>>,
    frames: Option<Decoder>,
    /// What the broker has said, plain; the test has not taken it.
    heard: Vec<u8>,
    /// Frames sent so far.
    count: usize,
}

/// Frames and messages up to here are taken.
const FRAME_MAX: u32 = 1 << 24;
/// Lengths of a client's frames, one after the other: all forms of the header, and frames of a byte.
const FRAMES: [usize; 6] = [1000, 125, 1, 126, 70_000, 7];
/// Bytes handed to TLS at once: it would buffer no more than four times that.
const PIECE: usize = 16 * 1024;

impl Ends {
    /// Both ends after their handshakes; none where bytes go as they are.
    pub(crate) fn open(transport: Transport) -> Option<Box<Self>> {
        if transport == Transport::Plain {
            return None;
        }
        let mut far = FarEnd { tls: None, frames: None, heard: Vec::new(), count: 0 };
        let mut tls = None;
        if transport.is_encrypted() {
            let (server, client) = configurations();
            let name = ServerName::try_from("localhost").expect("a name");
            far.tls = Some(Box::new(ClientConnection::new(client, name).expect("a good configuration")));
            let mut near = Box::new(Tls::server(server).expect("a good configuration"));
            let mut plain = Vec::new();
            loop {
                let mut flight = far.flight();
                let mut reply = Vec::new();
                near.on_bytes(&mut flight, &mut plain, &mut reply).expect("a client that keeps to the rules");
                if flight.is_empty() && reply.is_empty() {
                    break;
                }
                far.hear(&reply);
            }
            tls = Some(near);
        }
        let mut frames = None;
        if transport.is_framed() {
            far.upgrade(tls.as_deref_mut());
            frames = Some(Decoder::new(Role::Server, FRAME_MAX, FRAME_MAX));
        }
        Some(Box::new(Self { near: Layers::new(tls, frames, Vec::new()), far }))
    }
}

impl FarEnd {
    /// Bytes on the wire for what the client says.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.frames.is_none() {
            return self.encrypt(bytes);
        }
        let (mut framed, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(FRAMES[self.count % FRAMES.len()]));
            self.count += 1;
            let key = (self.count as u32).wrapping_mul(0x9E37_79B9).to_be_bytes();
            put_frame(&mut framed, OpCode::Binary, piece, Some(key));
            rest = behind;
        }
        self.encrypt(&framed)
    }

    /// Takes in bytes from the wire.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let mut plain = self.decrypt(bytes);
        let count = match &mut self.frames {
            Some(frames) => frames.decode(&mut plain, [1, 2, 3, 4], &mut Vec::new()).payload,
            None => plain.len(),
        };
        self.heard.extend_from_slice(&plain[..count]);
    }

    /// What the client has heard stays where it was: it was only looked at.
    pub(crate) fn put_back(&mut self, heard: &[u8]) {
        self.heard.splice(..0, heard.iter().copied());
    }

    pub(crate) fn take_heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }

    fn encrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.tls.is_none() {
            return bytes.to_vec();
        }
        let mut cipher = Vec::new();
        for piece in bytes.chunks(PIECE) {
            if let Some(tls) = &mut self.tls {
                tls.writer().write_all(piece).expect("all before is gone");
            }
            cipher.append(&mut self.flight());
        }
        cipher
    }

    fn decrypt(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return bytes.to_vec() };
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes).expect("memory");
            tls.process_new_packets().expect("a broker that keeps to the rules");
            // It ends with "would block", as there is no end of the stream.
            let _ = tls.reader().read_to_end(&mut plain);
        }
        plain
    }

    /// What TLS wants to send.
    fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut flight).expect("memory");
            }
        }
        flight
    }

    /// Asks for WebSocket, and is let in.
    fn upgrade(&mut self, near: Option<&mut Tls>) {
        const RANDOM: [u8; 16] = *b"as good as any..";
        let mut request = Vec::new();
        upgrade::put_request(&mut request, "localhost", "/mqtt", "mqtt", RANDOM);
        let mut wire = self.encrypt(&request);
        let mut read = Vec::new();
        let mut answer = Vec::new();
        let accept = |head: &[u8]| {
            let rules = Rules { path: "/mqtt", origins: &[], allow_no_subprotocol: false, trusted: &|_| false };
            match upgrade::read(head, IpAddr::from(Ipv4Addr::LOCALHOST), &rules) {
                Request::Accepted(accepted) => accepted.answer,
                other => panic!("the upgrade of a client that keeps to the rules comes to {other:?}"),
            }
        };
        match near {
            Some(tls) => {
                tls.on_bytes(&mut wire, &mut read, &mut Vec::new()).expect("a client that keeps to the rules");
                tls.encrypt(&accept(&read), &mut answer).expect("the handshake is done");
            }
            None => answer = accept(&wire),
        }
        self.hear(&answer);
        let head = self.take_heard();
        let answer = upgrade::check_answer(&head, "mqtt", RANDOM).expect("a server that keeps to the rules");
        assert_eq!(answer.map(|answer| answer.used), Some(head.len()));
        self.frames = Some(Decoder::new(Role::Client, FRAME_MAX, FRAME_MAX));
    }
}

/// A certificate that names itself its own authority, and who believes it. Made once per process.
fn configurations() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    static MADE: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    let (server, client) = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let chain = vec![made.cert.der().clone()];
        let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a good pair");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a good certificate");
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    });
    (Arc::clone(server), Arc::clone(client))
}
