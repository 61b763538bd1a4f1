//! What MQTT runs over, in one word: the types of listeners, and what URLs begin with.

use std::fmt;

/// What lies under MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP and nothing else.
    #[default]
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket in TLS.
    Wss,
    /// QUIC.
    Quic,
    /// A unix socket.
    Unix,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Quic, Self::Unix];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
            Self::Unix => "unix",
        }
    }

    /// By its word.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// By any of the words that people write in front of `://`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "mqtt" => Some(Self::Tcp),
            "mqtts" | "ssl" => Some(Self::Tls),
            word => Self::of(word),
        }
    }

    /// Where a server listens for it by custom. A unix socket has no port.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Tcp => Some(1883),
            Self::Tls => Some(8883),
            Self::Ws => Some(8083),
            Self::Wss => Some(8084),
            Self::Quic => Some(14567),
            Self::Unix => None,
        }
    }

    /// Nothing can be read on the way.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss | Self::Quic)
    }

    /// MQTT travels in WebSocket.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_found_by_its_word_and_by_those_that_people_use() {
        for scheme in Scheme::ALL {
            assert_eq!((Scheme::of(scheme.name()), Scheme::parse(scheme.name())), (Some(scheme), Some(scheme)));
        }
        let parsed = ["mqtt", "mqtts", "ssl", "http", ""].map(Scheme::parse);
        assert_eq!(parsed, [Some(Scheme::Tcp), Some(Scheme::Tls), Some(Scheme::Tls), None, None]);
        assert_eq!(Scheme::of("mqtt"), None, "no listener is named so");
    }
}
