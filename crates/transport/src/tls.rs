//! TLS: settings, certificates, and the bytes of one connection.

use std::path::PathBuf;

mod certified;
mod challenge;
mod client;
mod clients;
mod connection;
mod der;
mod facts;
mod fault;
mod files;
mod hello;
mod identity;
mod names;
mod ocsp;
mod pbes2;
#[cfg(test)]
pub(crate) mod pki;
mod resolver;
pub mod self_made;
mod server;
mod stamp;
mod suites;

pub use certified::EXPIRY_WARNING_DAYS;
pub use challenge::{ACME_PROTOCOL, Challenges, Proof};
pub use client::{ClientTlsOptions, load_client};
pub use clients::ClientCheck;
pub use connection::{Plain, Progress, Tls, Window};
pub use facts::CertificateFacts;
pub use fault::TlsFault;
pub use files::TlsConfigFault;
pub use identity::identity;
pub use ocsp::{OcspAnswer, OcspFault, OcspQuestion};
pub use server::{ServerTls, load_server};
pub use stamp::{FilesStamp, load_stamp};

/// TLS of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates with their keys: the first is the default, the others are chosen by the name that a client asks for.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show a certificate.
    pub client_certificate: ClientCertificate,
    /// Authorities that client certificates have to come from.
    pub client_authorities: Vec<PathBuf>,
    /// Revocation lists for client certificates.
    pub revocation_lists: Vec<PathBuf>,
    /// Versions spoken.
    pub versions: Vec<TlsVersion>,
    /// Cipher suites by their IANA names, in order of preference; none for the safe default.
    pub cipher_suites: Vec<Box<str>>,
    /// Field of the client's certificate that counts as its user name.
    pub username_from: Option<CertificateField>,
    /// Field of the client's certificate that counts as its client identifier.
    pub client_id_from: Option<CertificateField>,
    /// Resumption by tickets and session identifiers is off.
    pub no_resumption: bool,
}

/// Files of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM: PKCS #8, PKCS #1 or SEC1).
    pub key: PathBuf,
    /// Password of the key, if it is encrypted.
    pub key_password: Option<KeyPassword>,
    /// Where the stapled OCSP answer comes from.
    pub ocsp: Option<OcspSource>,
}

/// A secret: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPassword(pub Box<str>);

impl std::fmt::Debug for KeyPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where an OCSP answer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OcspSource {
    /// A file (DER) that somebody else keeps current.
    File(PathBuf),
    /// Asked from the responder that the certificate names.
    Fetch,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Not asked for.
    #[default]
    None,
    /// Asked for; who has none may still come in.
    Optional,
    /// Nobody comes in without one.
    Required,
}

/// A TLS version that is still safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A field of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateField {
    /// Common name of the subject.
    CommonName,
    /// The whole subject.
    Subject,
    /// The first subject alternative name.
    AlternativeName,
    /// Serial number, in hexadecimal.
    Serial,
    /// SHA-256 of the certificate, in hexadecimal.
    Fingerprint,
}
