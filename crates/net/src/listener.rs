//! What an operator may say about one listener, resolved: no strings to parse, no defaults to look up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use breakwater_shard::Profile;
use breakwater_transport::tls::TlsOptions;
use ipnet::IpNet;

/// One listener. Named; everything in it can be changed while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Its type and name, such as `tcp.default`: unique in a node.
    pub name: Box<str>,
    /// Where it listens; at least one place.
    pub bind: Vec<Bind>,
    /// What it speaks.
    pub protocols: Protocols,
    /// Connections that it holds at most; 0 for no bound of its own.
    pub connections_max: u32,
    /// The same for one address of peers; 0 for no bound. IPv6 peers count by their /64. Those who were there before the
    /// listener had such a bound don't count.
    pub connections_per_address_max: u32,
    /// Connections accepted per second, over all shards; 0 for no bound.
    pub accept_rate: u32,
    /// Connections that may come at once above the rate.
    pub accept_burst: u32,
    /// Who may connect: the first rule that fits decides; nobody's rule means yes. Peers on a unix socket have no address: there
    /// its permissions decide, unless a PROXY header names an address.
    pub access: Vec<AccessRule>,
    /// A PROXY header stands in front of every connection.
    pub proxy: Option<ProxyOptions>,
    /// TLS, for `tls`, `wss`, `quic` and what [`Protocols`] tells apart.
    pub tls: Option<TlsOptions>,
    /// WebSocket, for `ws`, `wss` and what [`Protocols`] tells apart.
    pub websocket: WebSocketOptions,
    /// QUIC.
    pub quic: QuicOptions,
    /// How its sockets are set up.
    pub socket: SocketOptions,
    /// Time for everything before the first byte of MQTT: PROXY header, TLS handshake and WebSocket upgrade together.
    pub handshake_timeout_ms: u64,
    /// Terms of its clients.
    pub profile: Arc<Profile>,
}

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address and a port; port 0 lets the system choose.
    Address(SocketAddr),
    /// All addresses of a network interface.
    Interface {
        /// Its name.
        name: Box<str>,
        /// The port.
        port: u16,
    },
    /// A unix socket. A stale one is replaced, a live one is not.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A socket that systemd has opened for us, by its name (`FileDescriptorName=`).
    Inherited(Box<str>),
}

/// What a listener speaks. More than one: told apart by the first bytes, and inside TLS by ALPN and first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of protocols")]
pub struct Protocols {
    /// Plain MQTT.
    pub mqtt: bool,
    /// MQTT in TLS.
    pub mqtts: bool,
    /// MQTT in WebSocket.
    pub ws: bool,
    /// MQTT in WebSocket in TLS.
    pub wss: bool,
    /// Requests for the dashboard and the API, handed over.
    pub http: bool,
    /// The same in TLS.
    pub https: bool,
    /// MQTT over QUIC: of UDP, and so alone on its listener.
    pub quic: bool,
}

/// One rule on who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// Let in, or turned away.
    pub allow: bool,
    /// Whom it concerns; none for all.
    pub network: Option<IpNet>,
}

/// PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyOptions {
    /// Proxies that are believed. Anybody else is turned away.
    pub trusted: Vec<IpNet>,
}

/// WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketOptions {
    /// Path of the upgrade request.
    pub path: Box<str>,
    /// Origins that may connect besides this host, loopback and the dashboard; `*` for all.
    pub origins: Vec<Box<str>>,
    /// Let clients in that name no subprotocol.
    pub allow_no_subprotocol: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_forwarders: Vec<IpNet>,
    /// Largest frame, in bytes. A message in fragments may be as large, or as large as the largest MQTT packet.
    pub frame_bytes_max: u32,
}

/// QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuicOptions {
    /// A connection without any packet for that long has ended.
    pub idle_timeout_ms: u32,
    /// Streams that one connection may have open, the control stream included.
    pub streams_max: u16,
    /// Handshakes under way above which clients have to prove their address first (Retry).
    pub retry_above: u32,
}

/// How sockets are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Connections that the kernel holds until they are accepted.
    pub backlog: i32,
    /// Small packets are sent at once.
    pub nodelay: bool,
    /// TCP keep-alive: idle time, interval, probes.
    pub keep_alive: Option<(u32, u32, u32)>,
    /// Receive buffer of the kernel; 0 for its own choice.
    pub receive_buffer: u32,
    /// Send buffer of the kernel; 0 for its own choice.
    pub send_buffer: u32,
}

/// What becomes of the connections of a listener that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They stay.
    Keep,
    /// They are ended bit by bit over so many milliseconds, so that they don't all come back at once.
    Drain {
        /// Over how long.
        over_ms: u64,
    },
    /// They are ended at once.
    Cut,
}

impl Protocols {
    /// Nothing.
    pub const NONE: Self =
        Self { mqtt: false, mqtts: false, ws: false, wss: false, http: false, https: false, quic: false };
    /// Plain MQTT alone.
    pub const MQTT: Self = Self { mqtt: true, ..Self::NONE };
}

impl Default for ListenerOptions {
    /// Plain MQTT, nowhere yet.
    fn default() -> Self {
        Self {
            name: "tcp.default".into(),
            bind: Vec::new(),
            protocols: Protocols::MQTT,
            connections_max: 0,
            connections_per_address_max: 0,
            accept_rate: 0,
            accept_burst: 0,
            access: Vec::new(),
            proxy: None,
            tls: None,
            websocket: WebSocketOptions::default(),
            quic: QuicOptions::default(),
            socket: SocketOptions::default(),
            handshake_timeout_ms: 10_000,
            profile: Arc::new(Profile::default()),
        }
    }
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            path: "/mqtt".into(),
            origins: Vec::new(),
            allow_no_subprotocol: false,
            trusted_forwarders: Vec::new(),
            frame_bytes_max: 1024 * 1024,
        }
    }
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self { idle_timeout_ms: 60_000, streams_max: 64, retry_above: 256 }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { backlog: 4096, nodelay: true, keep_alive: None, receive_buffer: 0, send_buffer: 0 }
    }
}
