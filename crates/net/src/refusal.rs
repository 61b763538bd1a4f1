//! Why a connection was turned away before it got as far as MQTT: counted by listener, and told in words.

use std::collections::HashMap;
use std::sync::{Mutex, TryLockError};

use breakwater_proto::Instant;

use crate::access::AddressKey;

/// The reasons, each with a counter of its own at every listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// An access rule.
    Denied,
    /// The listener's bound of connections.
    ListenerFull,
    /// The bound of connections of one address.
    AddressFull,
    /// The node's bound of connections.
    NodeFull,
    /// The shard has no room: connections, or memory.
    NoRoom,
    /// Not a proxy that is trusted, or no PROXY header that can be read.
    Proxy,
    /// The first bytes are of no protocol that the listener speaks.
    Protocol,
    /// The TLS handshake failed.
    Tls,
    /// No WebSocket upgrade that can be granted.
    WebSocket,
    /// The handshake was not done in time.
    TimedOut,
    /// The peer went away during the handshake.
    Left,
    /// More handshakes are under way than can be served.
    Overload,
}

impl Refusal {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 12] = [
        Self::Denied,
        Self::ListenerFull,
        Self::AddressFull,
        Self::NodeFull,
        Self::NoRoom,
        Self::Proxy,
        Self::Protocol,
        Self::Tls,
        Self::WebSocket,
        Self::TimedOut,
        Self::Left,
        Self::Overload,
    ];

    /// One word, for tables and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::ListenerFull => "listener_full",
            Self::AddressFull => "address_full",
            Self::NodeFull => "node_full",
            Self::NoRoom => "no_room",
            Self::Proxy => "proxy",
            Self::Protocol => "protocol",
            Self::Tls => "tls",
            Self::WebSocket => "websocket",
            Self::TimedOut => "timed_out",
            Self::Left => "left",
            Self::Overload => "overload",
        }
    }

    /// The reason as an operator reads it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Denied => "the access rules of the listener don't allow this address",
            Self::ListenerFull => "the listener has as many connections as its max_connections allows",
            Self::AddressFull => "this address has as many connections as max_connections_per_address allows",
            Self::NodeFull => "the node has as many connections as limits.connections allows",
            Self::NoRoom => "the broker has no room for more connections (limits.connections, limits.memory)",
            Self::Proxy => "no PROXY header of a trusted proxy",
            Self::Protocol => "the first bytes are of no protocol that this listener speaks",
            Self::Tls => "the TLS handshake failed",
            Self::WebSocket => "the WebSocket upgrade could not be granted",
            Self::TimedOut => "the handshake was not done in time",
            Self::Left => "the peer went away during the handshake",
            Self::Overload => "too many handshakes are under way",
        }
    }

    /// Reason code of MQTT 5.0 that fits, for the journal.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Denied | Self::Proxy => 0x87,
            Self::ListenerFull | Self::AddressFull | Self::NodeFull => 0x97,
            Self::NoRoom | Self::Overload => 0x89,
            Self::Protocol | Self::Tls | Self::WebSocket => 0x82,
            Self::TimedOut | Self::Left => 0x80,
        }
    }
}

/// Of whom a listener has told lately: a log line about one reason and one address comes once in a while.
///
/// Strangers choose how many addresses there are: those that find no room share a line.
#[derive(Default)]
pub(crate) struct Lately(Mutex<HashMap<(Refusal, Option<AddressKey>), Instant>>);

/// Time between two lines.
const TELL_MS: u64 = 10_000;
/// Reasons and addresses with lines of their own, at one listener.
const TOLD_MAX: usize = 64;

impl Lately {
    /// Whether a line may be written, which is taken for done then. Never waits: while another shard is here, none is.
    pub(crate) fn is_due(&self, refusal: Refusal, address: AddressKey, now: Instant) -> bool {
        let mut told = match self.0.try_lock() {
            Ok(told) => told,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut who = (refusal, Some(address));
        if !told.contains_key(&who) && told.len() >= TOLD_MAX {
            told.retain(|_, due| *due > now);
            if told.len() >= TOLD_MAX {
                who = (refusal, None);
            }
        }
        let due = told.entry(who).or_default();
        let is_due = *due <= now;
        if is_due {
            *due = now.plus_ms(TELL_MS);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_find_no_room_share_a_line_until_there_is_some() {
        let lately = Lately::default();
        let is_due = |host: u32, at| {
            let address = AddressKey::new(std::net::Ipv4Addr::from(0xC633_6400 + host).into());
            lately.is_due(Refusal::Denied, address, Instant(at))
        };
        let most = u32::try_from(TOLD_MAX).expect("few");
        assert!((0..most).all(|host| is_due(host, 0)));
        assert_eq!((most..most + 1000).filter(|host| is_due(*host, 1)).count(), 1);
        assert!((0..most).all(|host| !is_due(host, 2)), "who has a line of its own keeps it");
        assert!(lately.0.lock().expect("one thread").len() <= TOLD_MAX + Refusal::ALL.len());
        assert!(is_due(most, 20_000), "all others have passed");
    }

    #[test]
    fn every_reason_has_its_counter_and_its_words() {
        for (at, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, at);
            assert!(!refusal.text().contains('\n') && refusal.name().is_ascii());
        }
    }
}
