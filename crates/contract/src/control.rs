//! Commands into the data plane and read models out of it.

use std::net::SocketAddr;

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

/// Takes a byte stream that turned out to be HTTP off a listener's hands.
pub trait Handoff: Send + Sync {
    /// `first` holds what was read already.
    fn http(&self, stream: std::net::TcpStream, peer: SocketAddr, first: Vec<u8>);
}
