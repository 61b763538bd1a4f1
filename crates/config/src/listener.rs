//! Listeners: their types, the table of their settings, and what becomes of one section.

mod draft;
pub(crate) mod read;
mod table;

use std::fmt;

use breakwater_net::ListenerOptions;

pub(crate) use draft::{Draft, finish};
pub(crate) use table::{LISTENER_TABLE, VERSION_WORDS, versions};

/// How a listener is reached, by the word that its URL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Tcp,
    Tls,
    Ws,
    Wss,
    Quic,
    Unix,
}

impl Scheme {
    pub const ALL: [Scheme; 6] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Quic, Self::Unix];

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

    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The port that everybody knows; none for a unix socket.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
            Self::Tls => 8883,
            Self::Ws => 8083,
            Self::Wss => 8084,
            Self::Quic => 14567,
            Self::Unix => 0,
        }
    }

    /// Whether a listener `default` of this type exists by itself.
    pub(crate) fn by_default(self) -> bool {
        self != Self::Unix
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One listener, resolved.
#[derive(Clone, Debug)]
pub struct Listener {
    pub kind: Scheme,
    pub options: ListenerOptions,
    /// Its certificate is the one that the broker makes by itself.
    pub self_made: bool,
    /// Section `[acme.NAME]` that its default certificate comes by.
    pub acme: Option<Box<str>>,
    /// Somebody has said something about it; otherwise it is one of those that exist by themselves.
    pub written_down: bool,
    /// Zone that its terms come from; empty for none.
    pub zone: Box<str>,
}

/// Whether a key of a listener takes a value, as whoever writes a file for others has to know.
pub(crate) fn accepts(kind: &str, key: &str, value: &toml_edit::Value) -> Result<(), String> {
    let setting = LISTENER_TABLE.iter().find(|setting| setting.key == key).ok_or("does not exist")?;
    let kind = Scheme::of(kind).ok_or("does not exist for a listener of that type")?;
    let read = setting.read(&crate::document::raw(value, "", 0)?)?;
    let mut scratch = Draft::new(kind, "scratch", &breakwater_net::Options::default(), true);
    (setting.store)(&mut scratch, &read, std::path::Path::new(""))
}
