//! A look at what passes, for rules and traces. Lossy by contract: a tap that lags misses, it never holds a shard.

use breakwater_proto::MessageView;

/// Sees messages and the life of clients.
pub trait Tap: Send + Sync {
    /// Whether this topic is of interest: asked before anything is copied.
    fn wants(&self, topic: &str) -> bool;

    /// A message was accepted. Must not block; `false`: it was missed for want of room.
    fn published(&self, client_id: &str, message: &MessageView<'_>) -> bool;
}
