//! A node with real shards behind a QUIC listener, and clients on `quinn`.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater_contract::{AuthRequest, AuthStep, Authenticator, Principal, Token};
use breakwater_net::{Bind, Journal, ListenerOptions, ListenerStatus, Node, Options, Protocols, Transport};
use breakwater_proto::{Connect, Filters, OutPublish, Packet, QoS, Split, Subscribe, SubscribeOptions, Version, Will};
use breakwater_proto::{ForwardProperties, split};
use breakwater_router::Router;
use breakwater_shard::{Event, Pages, Setup, Shard};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};

use crate::authority::Authority;

pub(crate) const V5: Version = Version::V5;
/// What clients say that they speak.
pub(crate) const MQTT: &[&str] = &["mqtt"];

/// What shards have told, and whom they have let in.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    pub(crate) certificates: Arc<Mutex<Vec<Option<String>>>>,
}

impl Journal for Heard {
    fn event(&mut self, _: u64, event: &Event<'_>) {
        self.lines.lock().expect("no panic in here").push(format!("{event:?}"));
    }

    fn end_of_turn(&mut self) {}
}

impl Authenticator for Heard {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep {
        let shown = request.certificate.map(|certificate| certificate.common_name.to_string());
        self.certificates.lock().expect("no panic in here").push(shown);
        AuthStep::Accept { principal: Principal::default(), data: None }
    }

    fn abandon(&self, _: Token) {}

    fn offers(&self, _: &str) -> bool {
        false
    }
}

pub(crate) struct Ground {
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    pub(crate) heard: Heard,
}

/// A listener of an own certificate, on a free port.
pub(crate) fn options(authority: &Authority) -> ListenerOptions {
    ListenerOptions {
        name: "quic.test".into(),
        bind: vec![Bind::Address(SocketAddr::from(([127, 0, 0, 1], 0)))],
        protocols: Protocols { quic: true, ..Protocols::NONE },
        tls: Some(authority.server()),
        ..ListenerOptions::default()
    }
}

impl Ground {
    pub(crate) fn new(change: impl FnOnce(&mut ListenerOptions, &Authority)) -> Self {
        let authority = Authority::new();
        let mut listener = options(&authority);
        change(&mut listener, &authority);
        let (listening, faults) = breakwater_net::bind(vec![listener], 2);
        assert!(faults.is_empty(), "{faults:?}");
        let heard = Heard::default();
        let router = breakwater_router::RouterOptions { shards: 2, ..breakwater_router::RouterOptions::default() };
        let setup = Setup {
            id: 0,
            shards: 2,
            options: Arc::default(),
            profiles: Vec::new(),
            zones: Vec::new(),
            router: Arc::new(Router::new(router)),
            seed: 7,
            authenticator: Arc::new(heard.clone()),
            authorizer: Arc::new(breakwater_auth::Open),
            pages: Arc::new(Pages::new(2)),
            store: Arc::new(breakwater_store::Memory::default()),
            returning: Arc::new(breakwater_shard::Returning::new(2)),
        };
        let engine = move |id, now| Shard::<Transport>::new(Setup { id, ..setup.clone() }, now);
        let journal = heard.clone();
        let node = breakwater_net::start(listening, 2, &Options::default(), engine, |_| Box::new(journal.clone()))
            .expect("threads can be started");
        let address = node.addresses()[0];
        Self { node, address, authority, heard }
    }

    pub(crate) fn status(&self) -> ListenerStatus {
        self.node.handle().listeners().remove(0)
    }

    /// Stops the node, while clients go on reading.
    pub(crate) async fn stop(self) {
        let stop = move || {
            self.node.stop(Duration::from_secs(20));
            self.node.join();
        };
        tokio::task::spawn_blocking(stop).await.expect("no panic");
    }

    /// Waits until the listener says so of itself. The deadline is that of the run.
    pub(crate) async fn until(&self, is_so: impl Fn(&ListenerStatus) -> bool) {
        while !is_so(&self.status()) {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn connect(&self, client_id: &str) -> Client {
        let endpoint = endpoint();
        let config = quic(self.authority.client(None, MQTT));
        let connection = dial(&endpoint, config, self.address).await.expect("it is let in");
        Client::login(endpoint, connection, client_id, None).await
    }
}

/// Runs a test. Its deadline is far beyond what it takes, and ends one that hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs") });
}

pub(crate) fn udp() -> UdpSocket {
    UdpSocket::bind(("127.0.0.1", 0)).expect("a free port")
}

pub(crate) fn endpoint() -> Endpoint {
    Endpoint::new(quinn::EndpointConfig::default(), None, udp(), Arc::new(quinn::TokioRuntime)).expect("an endpoint")
}

pub(crate) fn quic(tls: rustls::ClientConfig) -> ClientConfig {
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")))
}

pub(crate) async fn dial(
    endpoint: &Endpoint,
    config: ClientConfig,
    address: SocketAddr,
) -> Result<Connection, quinn::ConnectionError> {
    endpoint.connect_with(config, address, "localhost").expect("a name").await
}

/// One stream of MQTT.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    bytes: Vec<u8>,
}

impl Stream {
    pub(crate) fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, bytes: Vec::new() }
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.expect("the broker reads");
    }

    /// The next packet. None: the stream has ended.
    pub(crate) async fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Ok(Split::Packet(frame)) = split(&self.bytes, u32::MAX) {
                let len = frame.len;
                return Some(self.bytes.drain(..len).collect());
            }
            match self.recv.read_chunk(65_536, true).await.expect("the stream is well") {
                Some(chunk) => self.bytes.extend_from_slice(&chunk.bytes),
                None => return None,
            }
        }
    }

    pub(crate) async fn hears(&mut self, expected: &[u8]) {
        assert_eq!(self.hear().await.as_deref(), Some(expected));
    }

    /// The next packet is a PUBLISH of this topic; answers its payload.
    pub(crate) async fn hears_message(&mut self, topic: &str) -> Vec<u8> {
        let bytes = self.hear().await.expect("a packet");
        let Ok(Split::Packet(frame)) = split(&bytes, u32::MAX) else { panic!("a whole packet") };
        match breakwater_proto::decode(V5, &frame) {
            Ok(Packet::Publish(publish)) => {
                assert_eq!(publish.topic, topic);
                publish.payload.to_vec()
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct Client {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
    pub(crate) control: Stream,
}

impl Client {
    pub(crate) async fn login(endpoint: Endpoint, connection: Connection, client_id: &str, will: Option<&str>) -> Self {
        let mut control = Stream::new(connection.open_bi().await.expect("a stream"));
        control.say(&connect(client_id, will)).await;
        let connack = control.hear().await.expect("a CONNACK");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
        Self { endpoint, connection, control }
    }

    pub(crate) async fn open(&self) -> Stream {
        Stream::new(self.connection.open_bi().await.expect("a stream"))
    }
}

pub(crate) fn connect(client_id: &str, will: Option<&str>) -> Vec<u8> {
    let mut packet = Connect::new(V5, client_id);
    packet.will = will.map(|topic| Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        payload: b"gone",
        delay_s: 0,
        expiry: None,
        properties: ForwardProperties::EMPTY,
    });
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes);
    bytes
}

/// QoS 1 with an identifier, else 0.
pub(crate) fn publish(topic: &str, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let packet = OutPublish {
        dup: false,
        qos: if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        retain: false,
        packet_id,
        topic,
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        payload,
    };
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes);
    bytes
}

pub(crate) fn subscribe(packet_id: u16, filter: &str) -> Vec<u8> {
    let (mut raw, mut bytes) = (Vec::new(), Vec::new());
    Filters::write(filter, SubscribeOptions::new(QoS::AtMostOnce), &mut raw);
    Subscribe::new(packet_id, Filters::from_encoded(&raw)).encode(V5, &mut bytes);
    bytes
}

pub(crate) fn suback(packet_id: u8) -> [u8; 6] {
    [0x90, 4, 0, packet_id, 0, 0]
}

/// "No matching subscribers" counts as well.
pub(crate) async fn hears_puback(stream: &mut Stream, packet_id: u8) {
    let bytes = stream.hear().await.expect("a PUBACK");
    assert_eq!((bytes[0], bytes[3]), (0x40, packet_id), "{bytes:?}");
}
