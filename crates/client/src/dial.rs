//! Connecting, over whatever lies between us and the server: TCP, a unix socket, TLS, WebSocket, QUIC.
//!
//! A connection comes in two halves, each for a thread of its own.

mod quic;
mod secure;
mod socket;
mod websocket;

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use breakwater_transport::Scheme;
use breakwater_transport::tls::{ClientTlsOptions, load_client};
use rustls::ClientConfig;

use crate::exit::Exit;
use crate::failure::Failure;
use socket::Socket;

/// Where to connect, and over what.
#[derive(Clone, Debug, Default)]
pub struct Target {
    pub scheme: Scheme,
    /// Name or address; what a certificate has to name.
    pub host: String,
    pub port: u16,
    /// Of the upgrade request.
    pub path: String,
    /// Of a unix socket.
    pub socket: PathBuf,
    pub tls: ClientTlsOptions,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.scheme;
        match self.scheme {
            Scheme::Unix => write!(f, "{word}://{}", self.socket.display()),
            _ if self.host.contains(':') => write!(f, "{word}://[{}]:{}", self.host, self.port),
            _ => write!(f, "{word}://{}:{}", self.host, self.port),
        }
    }
}

/// The writing half.
pub(crate) trait Outgoing: Write + Send {
    /// Says that nothing more will come, as far as the transport has a word for that.
    fn end(&mut self) -> io::Result<()>;

    /// Ends both directions.
    fn cut(&mut self);
}

/// A connection on which nothing of MQTT was said yet.
pub(crate) struct Dialled {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) writer: Box<dyn Outgoing>,
    pub(crate) seen: Seen,
}

/// What was seen on the way in, for those who want to know.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Address at the other end; empty for a unix socket.
    pub address: String,
    /// Protocol version and cipher suite, with TLS.
    pub cipher: Option<String>,
    /// The certificates that the server showed, in DER, its own first.
    pub certificates: Vec<Vec<u8>>,
    /// Subprotocol that the server chose, with WebSocket.
    pub subprotocol: Option<String>,
}

/// A write that takes no byte for that long gives the main thread a turn.
const WRITE_STALL: Duration = Duration::from_millis(100);

/// For everything before MQTT: handshake and upgrade together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects.
pub(crate) fn dial(target: &Target) -> Result<Dialled, Failure> {
    if target.scheme == Scheme::Quic {
        return quic::dial(target, (*tls_config(target)?).clone());
    }
    let socket = Socket::connect(target)?;
    let failed = |fault: io::Error| refused(target, &fault);
    let mut seen = Seen { address: socket.address(), ..Seen::default() };
    socket.set_timeouts(Some(HANDSHAKE_TIMEOUT), Some(HANDSHAKE_TIMEOUT)).map_err(failed)?;
    let (mut reader, mut writer): (Box<dyn Read + Send>, Box<dyn Outgoing>) = if target.scheme.is_encrypted() {
        let (reader, writer) = secure::handshake(&socket, target, tls_config(target)?, &mut seen)?;
        (Box::new(reader), Box::new(writer))
    } else {
        (Box::new(socket.try_clone().map_err(failed)?), Box::new(socket.try_clone().map_err(failed)?))
    };
    if target.scheme.is_websocket() {
        (reader, writer) = websocket::upgrade((reader, writer), target, &mut seen)?;
    }
    socket.set_timeouts(None, Some(WRITE_STALL)).map_err(failed)?;
    Ok(Dialled { reader, writer, seen })
}

fn tls_config(target: &Target) -> Result<Arc<ClientConfig>, Failure> {
    let mut options = target.tls.clone();
    if options.alpn.is_empty() {
        options.alpn.push(if target.scheme.is_websocket() { "http/1.1".into() } else { "mqtt".into() });
    }
    load_client(&options)
        .map_err(|faults| Failure::usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

/// A connection that ended before MQTT began.
fn refused(target: &Target, fault: &io::Error) -> Failure {
    Failure::new(Exit::USAGE, format!("{target}: {fault}"))
}
