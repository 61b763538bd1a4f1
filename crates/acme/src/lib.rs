//! Certificates by ACME (RFC 8555): ordered, proven by HTTP-01 or TLS-ALPN-01 (RFC 8737), kept in files, and renewed in time.
//!
//! Promise: one thread beside everything else does it, and nobody waits for it; files are replaced as a whole or not at all; what
//! fails leaves the certificate that there is in use, is told with what to do, and is tried again ever more rarely, so that no
//! limit of an authority is met.
//!
//! Not here: who shows the certificate. Listeners read the file and look at it themselves.
#![forbid(unsafe_code)]

mod agent;
mod duty;
mod fault;
mod folder;
mod http;
mod order;
mod responder;
mod schedule;

use std::path::PathBuf;

use breakwater_transport::tls::KeyPassword;

pub use agent::{Agent, Note, Status};
pub use folder::{Folder, PAIR};

/// What one certificate is ordered for, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Name of the section.
    pub name: Box<str>,
    /// Where the certificate, its key and the account are kept.
    pub folder: PathBuf,
    /// URL of the authority's directory.
    pub directory: Box<str>,
    /// File with the authority that the ACME server's own certificate comes from; none for those of the system.
    pub directory_ca: Option<PathBuf>,
    /// Mail address that the authority may write to; may be empty.
    pub email: Box<str>,
    /// DNS names in the certificate.
    pub domains: Vec<Box<str>>,
    /// How it is proven that they lead here.
    pub challenge: Challenge,
    /// Where HTTP-01 is answered: a port, or an address with its port.
    pub bind: Box<str>,
    /// The operator agrees to the authority's terms.
    pub terms_agreed: bool,
    /// Account at the authority to bind to, for those that want one: its identifier and its key (base64url).
    pub external_account: Option<(Box<str>, KeyPassword)>,
}

/// How it is proven that a name leads here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenge {
    /// By a TLS listener, which the authority reaches at port 443.
    #[default]
    TlsAlpn01,
    /// By a responder of our own, which the authority reaches at port 80.
    Http01,
}

/// Whether a text names a place where HTTP-01 can be answered: a port, or an address with its port.
#[must_use]
pub fn is_place(bind: &str) -> bool {
    responder::addresses(bind).is_some()
}

/// The key of an account to bind to, as authorities write it: base64url, with or without padding.
pub(crate) fn eab_key(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let text = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|key| !key.is_empty())
}
