//! What the clients of one listener get.

mod table;

use std::sync::Arc;

use breakwater_contract::store::Durability;
use breakwater_session::Limits;

use crate::auto_subscribe::AutoSubscribe;
use crate::rewrite::Rewrite;

pub(crate) use table::{DEFAULT, Profiles};

/// Terms of one listener. Shared by all shards, replaced as a whole when the listener changes: then rates and lifetime hold
/// at once for everybody who came through it, limits, durability and mountpoint for those who connect from then on, because CONNACK has
/// promised the old ones to the others. A session without a connection goes on under the terms of its last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name of the listener, such as `tcp.default`.
    pub name: Box<str>,
    /// Name of its zone; empty for none. The store knows a session's by it.
    pub zone: Box<str>,
    /// What an acknowledgement promises that is given for one of its sessions, or to one of its publishers. `Memory`: nothing of
    /// them is stored.
    pub durability: Durability,
    /// What a client and its session may use: the limits of the listener's zone, with its own protocol versions.
    pub limits: Arc<Limits>,
    /// Put in front of every topic and filter of its clients, and taken off what they are sent; empty for none.
    pub mountpoint: Box<str>,
    /// Who connects is asked who it is. Otherwise every CONNECT is accepted under the name that it gives.
    pub authenticate: bool,
    /// A connection is ended after that long, in milliseconds; 0 for never.
    pub lifetime_ms: u64,
    /// What each client may send and is sent.
    pub rates: Rates,
    /// What becomes of the topics that its clients name.
    pub rewrite: Arc<Rewrite>,
    /// What its clients are subscribed to when they connect.
    pub auto_subscribe: Arc<AutoSubscribe>,
}

/// Bounds per client and second; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// PUBLISH packets from the client.
    pub messages_in: Rate,
    /// Bytes from the client.
    pub bytes_in: Rate,
    /// PUBLISH packets to the client.
    pub messages_out: Rate,
    /// Bytes to the client.
    pub bytes_out: Rate,
}

/// A token bucket's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Refilled per second; 0 for no bound.
    pub per_second: u64,
    /// What may pass at once after a pause; never below `per_second` in effect.
    pub burst: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "default".into(),
            zone: "".into(),
            durability: Durability::default(),
            limits: Arc::new(Limits::default()),
            mountpoint: "".into(),
            authenticate: true,
            lifetime_ms: 0,
            rates: Rates::default(),
            rewrite: Arc::default(),
            auto_subscribe: Arc::default(),
        }
    }
}
