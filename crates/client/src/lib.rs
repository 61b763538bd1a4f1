//! The MQTT client: a core without sockets or clocks, and thin shells around it.
//!
//! [`Client`] turns bytes and time into bytes and events, for MQTT 3.1, 3.1.1 and 5.0. Around it stand the command line
//! tools [`publish`] and [`subscribe`].
//!
//! Promise: the core never reads a clock, never blocks, and keeps a session's unacknowledged messages across
//! connections until the server has acknowledged them.
//!
//! Not here: anything of the broker.

#![forbid(unsafe_code)]

pub mod args;
pub mod bench;
pub mod client;
pub mod console;
pub mod exit;
pub mod format;
pub mod probe;
pub mod publish;
pub mod quic;
pub mod subscribe;

pub mod dial;
mod failure;
mod link;

pub use client::{Client, Event, Fault, Options, Refusal, Terms, WillOptions};
