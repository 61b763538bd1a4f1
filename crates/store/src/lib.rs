//! Implementations of the store contracts.
//!
//! So far one: [`Memory`], where nothing outlives the process and so nothing has to be written. Sessions, queues and
//! retained messages live in the shards and the router; this says so in the words of the contract.
//!
//! Not here: MQTT rules.
#![forbid(unsafe_code)]

use breakwater_contract::Token;
use breakwater_contract::store::{
    Loaded, LogRecord, MessageLog, RetainedStore, SessionRecord, SessionStore, Submitted,
};
use breakwater_proto::Message;

/// Keeps nothing: what is durable is exactly what is in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

impl SessionStore for Memory {
    fn load(&self, _token: Token, _client_id: &str) -> Loaded {
        Loaded::Now(None)
    }

    fn save(&self, _token: Token, _batch: &[SessionRecord]) -> Submitted {
        Submitted::Durable
    }

    fn remove(&self, _token: Token, _client_ids: &[&str]) -> Submitted {
        Submitted::Durable
    }
}

impl MessageLog for Memory {
    fn append(&self, _token: Token, _batch: &[LogRecord]) -> Submitted {
        Submitted::Durable
    }

    fn is_volatile(&self) -> bool {
        true
    }
}

impl RetainedStore for Memory {
    fn put(&self, _token: Token, _batch: &[(u64, Message)]) -> Submitted {
        Submitted::Durable
    }

    fn restore(&self, _each: &mut dyn FnMut(u64, Message)) {}
}
