//! What one client and its session owe each other: the terms of CONNECT, QoS 1 and 2 in both directions, quotas, topic
//! aliases, the will, message expiry, and the queue of what waits.
//!
//! Promise: no I/O, no clock (`now` is an argument) and no randomness, so the same calls give the same bytes. Delivering a
//! QoS 0 message to a connected client is one encode into the out buffer and allocates nothing.
//!
//! Not here: routing (who gets a message), sockets, timers, authorization, durability. Their results come in as arguments.
#![forbid(unsafe_code)]

mod acks;
mod ages;
mod aliases;
mod awaiting_release;
mod delivery;
mod inbound;
mod inflight;
mod limits;
mod link;
mod outbound;
mod queue;
mod session;
mod subscriptions;
mod terms;

#[cfg(test)]
mod tests;

pub use acks::AckTicket;
pub use delivery::{Delivered, Delivery, DropReason, Drops, Env, Kept, Note, Pumped, Report, Shared, Spill};
pub use inbound::{Received, check_publish};
pub use limits::{Limits, QueueFull, Versions};
pub use link::Link;
pub use outbound::Acked;
pub use session::{Session, StoredWill};
pub use subscriptions::Subscriptions;
pub use terms::{ConnAckFacts, Refusal, Terms, refuse};
