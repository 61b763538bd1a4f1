//! Sockets and threads: shards driven by pollers.
//!
//! Promise: one thread, one poller and one listening socket per shard; a connection is registered once and never again
//! (twice if it stood at the gate first); no shard waits for another; a thread that panics ends the process.
//!
//! Not here: anything about MQTT. What happens with the bytes is the shard's business.
#![forbid(unsafe_code)]

mod accept;
mod access;
mod bell;
mod bind_fault;
mod book;
mod clock;
mod connections;
mod dock;
mod drain;
mod extra;
mod gate;
mod handover;
mod inherited;
mod known;
mod linger;
mod listen;
mod listener;
mod node;
mod ocsp;
mod open_files;
mod orders;
mod passes;
mod pipe;
mod place;
mod pool;
mod quic;
mod rate;
mod recheck;
mod refusal;
mod ring;
mod roll;
mod sockets;
mod status;
mod token;
mod turn;
mod turn_times;
#[cfg(unix)]
mod unix;

pub use bind_fault::{BindCause, BindFault};
pub use clock::Origin;
pub use inherited::take_inherited;
pub use listen::{BoundTo, Listening, bind};
pub use listener::{
    AccessRule, Bind, Ending, ListenerOptions, Protocols, ProxyOptions, QuicOptions, SocketOptions, WebSocketOptions,
};
pub use node::{Handle, Node, start, start_at};
pub use ocsp::{OcspNote, Stapler};
pub use open_files::{raise_open_files, running_out};
pub use refusal::Refusal;
pub use sockets::{Sockets, Transport};
pub use status::ListenerStatus;
pub use turn::Engine;
pub use turn_times::{TURN_BOUNDS_US, TurnCounts};

use breakwater_shard::Event;

/// Settings of sockets and threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections of the whole node.
    pub connections_max: usize,
    /// Connections that the kernel holds until they are accepted.
    pub backlog: i32,
    /// Small packets are sent at once.
    pub nodelay: bool,
    /// Connections accepted in one turn.
    pub accepts_per_turn: u32,
    /// Bytes on their way to one other shard above which a shard wants to hear when they have arrived.
    pub mailbox_bytes: usize,
    /// Time in which the peer of a connection that was closed may read the last words and close too.
    pub linger_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            backlog: 4096,
            nodelay: true,
            accepts_per_turn: 64,
            mailbox_bytes: 4 * 1024 * 1024,
            linger_ms: 2_000,
        }
    }
}

/// Where a shard's events go. Called on the shard's thread: it must never wait.
pub trait Journal: Send {
    /// One event in the life of a connection.
    fn event(&mut self, unix_ms: u64, event: &Event<'_>);

    /// The turn that brought these events is over: a good moment to pass them on together.
    fn end_of_turn(&mut self);
}
