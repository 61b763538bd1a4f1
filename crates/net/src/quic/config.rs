//! From the settings of a listener to those of QUIC.

use std::sync::Arc;
use std::time::Duration;

use breakwater_transport::tls::{ServerTls, TlsConfigFault, TlsOptions, TlsVersion};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ServerConfig, TransportConfig, VarInt};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::roll::Terms;

/// Bytes that a client may have under way on one stream, and on all streams of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const WINDOW: u32 = 256 * 1024;
/// Bytes under way to a client.
const SEND_WINDOW: u64 = 256 * 1024;
/// First packets that wait for a decision. It comes at once, so that this many mean that the thread can't keep up.
const INCOMING_MAX: usize = 1024;
/// Further packets of those that wait.
const INCOMING_BYTES: u64 = 16 * 1024;
const INCOMING_BYTES_ALL: u64 = 4 * 1024 * 1024;

/// TLS for QUIC.
#[derive(Clone)]
pub(crate) struct Crypto {
    server: Arc<QuicServerConfig>,
}

impl Crypto {
    /// From the TLS of a listener. QUIC is TLS 1.3, and starts out with one cipher suite whatever is agreed on later.
    pub(crate) fn new(tls: &ServerTls, options: &TlsOptions) -> Result<Self, TlsConfigFault> {
        if !options.versions.is_empty() && !options.versions.contains(&TlsVersion::Tls13) {
            return Err(TlsConfigFault::new("QUIC needs TLS 1.3: add \"1.3\" to versions"));
        }
        let mut config = (*tls.config).clone();
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        config.max_early_data_size = 0;
        let initial = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let initial = initial.expect("the provider has QUIC for the suite that QUIC requires");
        let server =
            QuicServerConfig::with_initial(Arc::new(config), initial).expect("it is the suite that QUIC requires");
        Ok(Self { server: Arc::new(server) })
    }
}

/// All that an endpoint has to know. None if the listener is none of QUIC, which nobody asks for.
pub(super) fn server(terms: &Terms) -> Option<ServerConfig> {
    let (options, crypto) = (&terms.options, terms.crypto.as_ref()?);
    let mut transport = TransportConfig::default();
    let idle = (options.quic.idle_timeout_ms > 0).then(|| VarInt::from_u32(options.quic.idle_timeout_ms).into());
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(u32::from(options.quic.streams_max.max(1))))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(idle)
        .keep_alive_interval(None);
    let mut config = ServerConfig::with_crypto(Arc::clone(&crypto.server) as _);
    config
        .transport_config(Arc::new(transport))
        .migration(true)
        .retry_token_lifetime(Duration::from_secs(15))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    Some(config)
}
