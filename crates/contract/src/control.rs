//! Commands into the data plane, and what it hands on.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use breakwater_proto::ReasonCode;

/// A command to the data plane.
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
    /// End the connections of users who have lost what let them in. Who is let in after that stays.
    Revoke(Arc<Revoked>),
}

/// What users have lost, by name. Users who can't be found here have lost nothing.
pub type Revoked = BTreeMap<Box<str>, Lost>;

/// What a user has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// The password: whom a certificate has let in stays.
    Password,
    /// The right to be here.
    Place,
}

/// What a command to end a client has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kicked {
    /// Nobody of that name.
    #[default]
    Unknown,
    /// A session without a connection.
    Away,
    /// A client.
    Client,
}

/// The management plane's only way into the shards.
pub trait Control: Send + Sync {
    /// Leaves a command with every shard that it concerns, in the order of the calls and behind the answers that were handed
    /// in before. Does not wait until it is carried out.
    fn command(&self, command: Command);
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
