//! Commands into the data plane and read models out of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use breakwater_proto::ReasonCode;

/// A command to the data plane. Answered, where there is an answer, through the read models.
#[derive(Clone, Debug)]
pub enum Command {
    /// End the connection of a client; its session ends too if `discard`.
    Kick {
        /// Client identifier.
        client_id: Box<str>,
        /// Code that the client is told.
        reason: ReasonCode,
        /// Forget its session.
        discard: bool,
    },
    /// Stop: tell clients, publish wills as configured, flush.
    Shutdown,
}

/// Totals of a node, as read models show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connected clients.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
}

/// The management plane's only way into the shards.
pub trait Control: Send + Sync {
    /// Sends a command to every shard that it concerns.
    fn command(&self, command: Command);

    /// Totals as of the last tick.
    fn totals(&self) -> Totals;
}

/// Takes byte streams that turned out to be HTTP off a listener's hands.
pub trait Handoff: Send + Sync {
    /// Takes one. Called on a shard's thread: it must not wait.
    fn http(&self, visit: Visit);
}

/// An HTTP connection that came to a listener of the data plane.
pub struct Visit {
    /// What comes and goes, decrypted; the beginning that was read already comes first.
    pub stream: Box<dyn HttpStream>,
    /// Address of the client: its socket's, or what a proxy that we trust has told.
    pub peer: SocketAddr,
    /// It came straight from that address, without a proxy that said so.
    pub direct: bool,
    /// It came in TLS.
    pub encrypted: bool,
    /// Name of the listener, such as `tls.default`.
    pub listener: Box<str>,
}

/// A byte stream over a socket, in TLS or not. Counts as a connection of its listener until it is dropped.
///
/// It does not block, and answers `WouldBlock` instead: [`HttpStream::socket`] is there to wait with, or to be set to
/// blocking. Bytes that a full socket did not take leave with the next `write` or `flush`. Dropped, it says good-bye in TLS.
pub trait HttpStream: Read + Write + Send {
    /// Its socket. Never to be read or written past this stream.
    fn socket(&self) -> &TcpStream;
}
