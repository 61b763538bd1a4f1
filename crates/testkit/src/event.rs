//! Log events of the shards, owned.

use breakwater_shard::Event;

/// One log event of a shard, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A client was let in.
    Connected {
        client: String,
        username: Option<String>,
        version: &'static str,
        clean_start: bool,
        session_present: bool,
        keep_alive_s: u16,
    },
    /// A connection has ended.
    Disconnected { client: String, reason: String, statement: &'static str, code: u8 },
    /// A connection was turned away.
    Refused { client: String, reason: String, code: u8 },
    /// Something of ours went wrong.
    Fault { text: String },
}

impl From<Event<'_>> for Logged {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Connected { client, username, version, clean_start, session_present, keep_alive_s, .. } => {
                Logged::Connected {
                    client: client.into(),
                    username: username.map(Into::into),
                    version,
                    clean_start,
                    session_present,
                    keep_alive_s,
                }
            }
            Event::Disconnected { client, reason, statement, code, .. } => {
                Logged::Disconnected { client: client.into(), reason: reason.into(), statement, code }
            }
            Event::Refused { client, reason, code, .. } => {
                Logged::Refused { client: client.into(), reason: reason.into(), code }
            }
            Event::Fault { text } => Logged::Fault { text: text.into() },
        }
    }
}
