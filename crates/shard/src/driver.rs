//! What a shard needs from the outside world: sockets and neighbours, as a trait.
//!
//! `net` implements it over real sockets, `testkit` over a virtual network. The shard never sees a file descriptor, a
//! thread or a clock.

use std::net::SocketAddr;

use breakwater_contract::Identity;

use crate::mail::{Batch, Mail};

/// Number of a shard on this node.
pub type ShardId = u16;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address of the client: its socket's, or what a proxy that we trust has told.
    pub address: SocketAddr,
    /// Number of the listener that accepted it.
    pub listener: u16,
    /// It came straight from that address: no proxy in between, and no page of another host behind it.
    pub direct: bool,
}

/// Result of one read attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// That many bytes stand at the front of the buffer; fewer than the buffer holds means the socket is empty.
    Bytes(usize),
    /// That many bytes (none is possible) stand at the front of the buffer, and there may be more: read again.
    More(usize),
    /// Nothing to read: an edge will tell when there is.
    WouldBlock,
    /// The peer has closed its sending side in good order.
    Closed,
    /// The connection is broken.
    Failed,
}

/// Result of one write attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// That many bytes were taken; fewer than offered means the socket is full and an edge will come.
    Wrote(usize),
    /// That many bytes were taken, and some of them wait for a full socket: an edge will tell when they are gone.
    Held(usize),
    /// The socket is full: an edge will tell when it isn't.
    WouldBlock,
    /// The connection is broken.
    Failed,
}

/// Readiness of one connection, as a poller tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Bytes, or the end of them, can be read.
    pub readable: bool,
    /// The socket takes bytes again.
    pub writable: bool,
    /// The peer has closed its sending side (or the connection is broken): read to the end, a short read is not the end.
    pub read_closed: bool,
}

/// The shard's hands: one value per shard, owned by its driver.
///
/// `slot` names a connection: the shard picks it when a connection is accepted or placed, and frees it with
/// [`Driver::close`] or [`Driver::take`].
pub trait Driver {
    /// A connection that can move to another shard: descriptor and whatever its transport keeps.
    type Transport: Send;

    /// Reads once into `buffer`.
    fn read(&mut self, slot: u32, buffer: &mut [u8]) -> ReadOutcome;

    /// Writes once from `bytes`.
    fn write(&mut self, slot: u32, bytes: &[u8]) -> WriteOutcome;

    /// Drops the connection. What the kernel has taken is still sent; unread input must not turn it into a reset where
    /// the platform allows (a last DISCONNECT should arrive).
    fn close(&mut self, slot: u32);

    /// Takes the connection out of this shard, to be placed at another.
    fn take(&mut self, slot: u32) -> Self::Transport;

    /// Registers a connection under `slot` and watches it. `false`: it can't be watched, and is dropped.
    fn place(&mut self, slot: u32, transport: Self::Transport) -> bool;

    /// Hands mail to another shard; never blocks, keeps order per destination, wakes it if it sleeps.
    fn send(&mut self, to: ShardId, mail: Mail<Self::Transport>);

    /// Takes the next mail from another shard, in the order in which it was sent.
    fn receive(&mut self, from: ShardId) -> Option<Mail<Self::Transport>>;

    /// Sends a drained batch home, to be filled again. Wakes nobody; may simply drop it.
    fn give_back(&mut self, to: ShardId, batch: Box<Batch>);

    /// Bytes of mail for `to` that were sent and are not yet taken: the sender pauses readers above a bound.
    fn backlog_bytes(&self, to: ShardId) -> usize;

    /// What the connection has shown before its CONNECT, such as a client certificate.
    fn identity(&self, slot: u32) -> Option<&Identity> {
        let _ = slot;
        None
    }

    /// What has broken a connection whose read or write failed, in words; none for what is the network's doing.
    fn fault(&self, slot: u32) -> Option<String> {
        let _ = slot;
        None
    }

    /// The first bytes of a connection are no MQTT CONNECT: the driver knows what else may come to its ports, and whom to tell.
    /// The connection ends afterwards.
    fn misled(&mut self, slot: u32, peer: Peer, first: &[u8]) {
        let _ = (slot, peer, first);
    }

    /// One event in the life of a connection, for logs. Never called per message.
    fn event(&mut self, event: Event<'_>);
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A client was let in.
    Connected {
        /// Its client identifier.
        client: &'a str,
        /// Its user name, if it gave one.
        username: Option<&'a str>,
        /// Where it comes from.
        peer: Peer,
        /// Name of its listener.
        listener: &'a str,
        /// Protocol version in words.
        version: &'static str,
        /// Clean start asked for.
        clean_start: bool,
        /// A stored session was taken up again.
        session_present: bool,
        /// Keep-alive in seconds, 0 for none.
        keep_alive_s: u16,
    },
    /// A connection has ended.
    Disconnected {
        /// Its client identifier, empty if it never got that far.
        client: &'a str,
        /// Where it came from.
        peer: Peer,
        /// Why, in words.
        reason: &'a str,
        /// The statement of the specification that was broken, or empty.
        statement: &'static str,
        /// MQTT reason code.
        code: u8,
    },
    /// A connection was turned away before it became a client.
    Refused {
        /// Where it came from.
        peer: Peer,
        /// Client identifier, if the CONNECT was readable.
        client: &'a str,
        /// Why, in words.
        reason: &'a str,
        /// MQTT reason code.
        code: u8,
    },
    /// Something of ours went wrong.
    Fault {
        /// What, and what to do.
        text: &'a str,
    },
}
