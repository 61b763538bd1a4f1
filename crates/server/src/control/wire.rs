//! Requests and answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{FindingRow, RetainedRow, StoreStats};

/// What a node is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// How it is.
    Status,
    /// Its ports.
    Listeners,
    /// What it has counted.
    Metrics,
    /// Read the configuration, certificates and users again.
    Reload,
    /// Change settings, in the file and at once; a value of none removes the key.
    Edit {
        /// Keys with values as TOML writes them.
        changes: Vec<(String, Option<String>)>,
    },
    /// How it stands with the certificates that are ordered.
    Certificates,
    /// Order one now.
    Renew {
        /// Name of its section.
        name: String,
    },
    /// End the connections of a listener, over so many milliseconds.
    Drain {
        /// Its name.
        listener: String,
        /// 0: at once.
        over_ms: u64,
    },
    /// End the connection of a client.
    Kick {
        /// Its identifier.
        client_id: String,
        /// Its session ends too.
        end_session: bool,
    },
    /// What is retained.
    Retained {
        /// Under these topics.
        filter: String,
        /// At most so many.
        limit: u32,
    },
    /// One retained message with its payload.
    RetainedMessage {
        /// Its topic.
        topic: String,
    },
    /// Remove retained messages.
    Unretain {
        /// Of these topics.
        filter: String,
        /// Otherwise they are only counted.
        really: bool,
    },
    /// What its store holds.
    StoreStats,
    /// Whether its store is as it was written.
    StoreCheck,
    /// Copy its store.
    StoreBackup {
        /// Into this folder; absolute.
        folder: PathBuf,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done; what that meant, line by line.
    Done {
        /// The plan that was carried out, or what there was to say.
        lines: Vec<String>,
    },
    /// To [`Request::Status`].
    Status(StatusRow),
    /// To [`Request::Listeners`].
    Listeners {
        /// In the order of their names.
        rows: Vec<ListenerRow>,
    },
    /// To [`Request::Certificates`].
    Certificates {
        /// In the order of their names.
        rows: Vec<AcmeRow>,
    },
    /// To [`Request::Retained`] and [`Request::RetainedMessage`].
    Retained {
        /// By topic.
        rows: Vec<RetainedRow>,
        /// There are others.
        more: bool,
    },
    /// To [`Request::StoreStats`].
    StoreStats(StoreStats),
    /// To [`Request::StoreCheck`].
    StoreFindings {
        /// None: it is.
        rows: Vec<FindingRow>,
    },
    /// Nothing was changed.
    Refused {
        /// All that is wrong, one line each.
        faults: Vec<String>,
    },
}

/// A node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StatusRow {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) up_s: u64,
    pub(crate) shards: u16,
    pub(crate) connections: u64,
    /// The configuration file, if there is one.
    pub(crate) config: Option<String>,
    pub(crate) loopback_anonymous: bool,
    pub(crate) store: StoreRow,
}

/// What outlasts the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StoreRow {
    /// Something outlasts the process.
    pub(crate) open: bool,
    /// `fsync`, `os` or `memory`.
    pub(crate) durability: String,
    /// The same of zones of listeners where it is another, by name.
    pub(crate) zones: BTreeMap<String, String>,
    /// `well`, `full` or `failing`.
    pub(crate) condition: String,
    /// What went wrong last, and what to do.
    pub(crate) fault: Option<String>,
    pub(crate) disk_bytes: u64,
    pub(crate) waiting_bytes: u64,
    /// Things that were lost or set aside since the start.
    pub(crate) damages: u64,
}

/// A listener.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ListenerRow {
    pub(crate) name: String,
    /// Places where it listens, as text.
    pub(crate) places: Vec<String>,
    /// What it speaks.
    pub(crate) protocols: String,
    /// `loopback`, `private` or `public`.
    pub(crate) exposure: String,
    /// Takes MQTT that is not encrypted.
    pub(crate) plain: bool,
    pub(crate) authentication: bool,
    pub(crate) proxy_protocol: bool,
    pub(crate) has_address_rules: bool,
    pub(crate) has_limits: bool,
    pub(crate) certificates: Vec<CertificateRow>,
    /// Files of its private keys.
    pub(crate) keys: Vec<String>,
    pub(crate) weak_tls: Vec<String>,
    pub(crate) connections: u64,
    /// 0: no bound.
    pub(crate) connections_max: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: Refusals,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) open_for_s: u64,
    /// Why it isn't open, if it isn't.
    pub(crate) fault: Option<String>,
}

/// Connections turned away, by reason in words.
pub(crate) type Refusals = Vec<(String, u64)>;

/// A certificate that a listener shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CertificateRow {
    pub(crate) subject: String,
    pub(crate) names: Vec<String>,
    pub(crate) self_made: bool,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

/// A certificate that is ordered from an authority.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AcmeRow {
    /// Name of its section.
    pub(crate) name: String,
    pub(crate) domains: Vec<String>,
    pub(crate) directory: String,
    /// End of the one in use, in seconds since 1970; none if there is none of an authority.
    pub(crate) not_after: Option<i64>,
    /// When it is ordered next.
    pub(crate) next: i64,
    /// Tries since the last one that succeeded.
    pub(crate) failures: u32,
    /// Why the last one failed.
    pub(crate) fault: Option<String>,
}
