//! What can be said of a listener while the node runs.

use breakwater_transport::tls::CertificateFacts;

use crate::listen::BoundTo;
use crate::listener::ListenerOptions;
use crate::refusal::Refusal;

/// One listener as it is at the moment of the question.
#[derive(Clone, Debug)]
pub struct ListenerStatus {
    /// Number that its connections carry ([`breakwater_shard::Peer::listener`]).
    pub number: u16,
    /// It takes connections; otherwise it is closed and has some left.
    pub open: bool,
    /// Its options: name, protocols, access rules, bounds, and whatever else tells how exposed it is.
    pub options: ListenerOptions,
    /// Where it really listens.
    pub bound: Vec<BoundTo>,
    /// The certificates that it shows, as they were read when it was opened or last changed.
    pub certificates: Vec<CertificateFacts>,
    /// What is not well with its TLS but no reason to refuse it, one line each.
    pub warnings: Vec<String>,
    /// Connections now, those whose handshake is under way included.
    pub connections: u32,
    /// Connections let in since it was opened, with all handshakes done.
    pub accepted: u64,
    /// Connections turned away since then, by reason; reasons without any are left out.
    pub refused: Vec<(Refusal, u64)>,
    /// Bytes from clients since then, as of the last second.
    pub bytes_in: u64,
    /// Bytes to clients since then, as of the last second.
    pub bytes_out: u64,
    /// When it was opened, in milliseconds of Unix time.
    pub since_unix_ms: u64,
}
