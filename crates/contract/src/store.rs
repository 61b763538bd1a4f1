//! What outlives a connection, and may outlive the process.
//!
//! Batch-first and idempotent: the same batch submitted twice stores once. Revisions allow compare-and-set, so that a
//! remote, replicated implementation fits behind the same traits.

use breakwater_proto::{Message, QoS};

use crate::Token;

/// Answer of a store to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Done: what it promises holds now.
    Durable,
    /// Under way: [`crate::Completion::Durable`] follows.
    Pending,
    /// Refused for want of room or because the store is down.
    Refused,
}

/// One stored session.
#[derive(Clone, Debug, Default)]
pub struct SessionRecord {
    /// Client identifier.
    pub client_id: Box<str>,
    /// Revision for compare-and-set; 0 for a new record.
    pub revision: u64,
    /// Session Expiry Interval in seconds.
    pub expiry_s: u32,
    /// When the connection ended, in milliseconds of Unix time; 0 while connected.
    pub detached_unix_ms: u64,
    /// Filter (with `$share/…` where shared), packed options, subscription identifier.
    pub subscriptions: Vec<(Box<str>, u8, u32)>,
    /// Packet identifiers of QoS 2 messages received and not yet released.
    pub awaiting_release: Vec<u16>,
    /// Unacknowledged deliveries: packet identifier, state, message; then the queue with identifier 0.
    pub outbound: Vec<(u16, QoS, Message)>,
    /// Will and its delay in seconds.
    pub will: Option<(Message, u32)>,
}

/// Sessions that outlive their connection.
pub trait SessionStore: Send + Sync {
    /// Asks for a session; answers at once from memory or completes later.
    fn load(&self, token: Token, client_id: &str) -> Loaded;

    /// Stores a batch of sessions.
    fn save(&self, token: Token, batch: &[SessionRecord]) -> Submitted;

    /// Forgets sessions.
    fn remove(&self, token: Token, client_ids: &[&str]) -> Submitted;
}

/// Answer to [`SessionStore::load`].
#[derive(Debug)]
pub enum Loaded {
    /// Here it is, or there is none.
    Now(Option<Box<SessionRecord>>),
    /// [`crate::Completion::Session`] follows.
    Pending,
}

/// One record for the message log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Identifies the record for deduplication: publishing session and its own sequence.
    pub origin: (u64, u64),
    /// The message, once, however many sessions want it.
    pub message: Message,
}

/// Messages that a durable session wants, written once each.
pub trait MessageLog: Send + Sync {
    /// Appends a batch. An acknowledgement that promises durability leaves only after this is durable.
    fn append(&self, token: Token, batch: &[LogRecord]) -> Submitted;

    /// Whether appending can be skipped since sessions live in memory only.
    fn is_volatile(&self) -> bool;
}

/// Retained messages that outlive the process. The index for matching lives in `router`.
pub trait RetainedStore: Send + Sync {
    /// Sets or clears (an empty payload) a batch of topics; the higher revision wins.
    fn put(&self, token: Token, batch: &[(u64, Message)]) -> Submitted;

    /// Calls `each` with what is stored, at start.
    fn restore(&self, each: &mut dyn FnMut(u64, Message));
}
