//! Why a TLS connection ended, in words that help the one who reads the log.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::tls::hello::Hello;

/// Why TLS with a client failed. Its `Display` is one line for the log; [`TlsFault::reason`] is the label of its counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// MQTT without TLS.
    PlainMqtt,
    /// HTTP without TLS.
    PlainHttp,
    /// A PROXY header where none is expected.
    ProxyHeader,
    /// SSL 2 or its compatible hello: nobody has sent that in this decade but scanners.
    OldSsl,
    /// Something else that is not TLS; its first byte.
    NotTls(u8),
    /// The client's newest version is not spoken here.
    Version {
        /// The newest version that it offers, as TLS numbers them; 0 if unknown.
        newest: u16,
    },
    /// No cipher suite that both have.
    CipherSuite,
    /// No key exchange, signature scheme or something of the kind that both have.
    Incompatible(Box<str>),
    /// No application protocol (ALPN) that both have; what the client offers.
    ApplicationProtocol(Box<str>),
    /// The client has shown no certificate and has to.
    CertificateMissing,
    /// The client's certificate is past its time.
    CertificateExpired,
    /// The client's certificate is before its time.
    CertificateNotYetValid,
    /// The client's certificate is on a revocation list.
    CertificateRevoked,
    /// No revocation list says anything about the client's certificate.
    RevocationUnknown,
    /// The revocation list itself is past its time.
    RevocationListExpired,
    /// The client's certificate comes from an authority that is not known here.
    CertificateAuthorityUnknown,
    /// The client's certificate is not meant for clients.
    CertificatePurpose,
    /// Something else is wrong with the client's certificate.
    CertificateBad(Box<str>),
    /// The certificate counts, but the name in it can't be used.
    Identity(Box<str>),
    /// The client doesn't accept our certificate.
    ServerNotTrusted(Box<str>),
    /// The client has ended the handshake or the connection with an alert.
    Alert(Box<str>),
    /// The client has closed in the middle of the handshake.
    ClosedEarly,
    /// A record does not decrypt: damaged on its way, or forged.
    BadRecord,
    /// The client breaks the protocol.
    Misbehaved(Box<str>),
    /// A handshake message longer than any that makes sense.
    TooLong,
    /// So much was sent under one key of TLS 1.2 that more would be unsafe.
    KeyExhausted,
    /// The connection has ended already.
    Ended,
    /// Our own fault.
    Ours(Box<str>),
}

impl TlsFault {
    /// Short label: for counters and for `refused by reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PlainMqtt => "plain_mqtt_on_tls_port",
            Self::PlainHttp => "plain_http_on_tls_port",
            Self::ProxyHeader => "unexpected_proxy_header",
            Self::OldSsl | Self::Version { .. } => "tls_version",
            Self::NotTls(_) => "not_tls",
            Self::CipherSuite => "tls_cipher",
            Self::Incompatible(_) => "tls_incompatible",
            Self::ApplicationProtocol(_) => "tls_alpn",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateRevoked => "certificate_revoked",
            Self::RevocationUnknown | Self::RevocationListExpired => "revocation_unknown",
            Self::CertificateAuthorityUnknown => "certificate_authority_unknown",
            Self::CertificatePurpose => "certificate_purpose",
            Self::CertificateBad(_) => "certificate_bad",
            Self::Identity(_) => "certificate_identity",
            Self::ServerNotTrusted(_) => "server_not_trusted",
            Self::Alert(_) => "tls_alert",
            Self::ClosedEarly => "tls_closed_early",
            Self::BadRecord => "tls_bad_record",
            Self::Misbehaved(_) | Self::TooLong => "tls_protocol",
            Self::KeyExhausted => "tls_key_exhausted",
            Self::Ended => "tls_ended",
            Self::Ours(_) => "tls_internal",
        }
    }

    /// What the first bytes of a connection are, if they can't be TLS.
    pub(crate) fn of_first_bytes(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        Some(match first {
            0x16 => return None,
            0x15 => return None, // an alert: rustls reads what it says
            0x10 => Self::PlainMqtt,
            b'P' if bytes.starts_with(b"PROXY ") => Self::ProxyHeader,
            b'\r' => Self::ProxyHeader,
            b'A'..=b'Z' => Self::PlainHttp,
            0x80..=0xff if bytes.get(2).is_none_or(|kind| *kind == 1) => Self::OldSsl,
            other => Self::NotTls(other),
        })
    }

    /// What `error` of the library means here.
    pub(crate) fn of(error: &Error, hello: Option<&Hello>) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::PeerIncompatible(why) => Self::of_incompatible(why, hello),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::NoApplicationProtocol => {
                Self::ApplicationProtocol(hello.map_or_else(Box::default, |hello| hello.alpn.clone()))
            }
            Error::DecryptError => Self::BadRecord,
            Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
            ) => Self::TooLong,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord
            | Error::UnsupportedNameType => Self::Misbehaved(error.to_string().into()),
            // The resolver of certificates is ours, and it always has a default; what it can't serve is a scheme.
            Error::General(text) if text.contains("no server certificate chain resolved") => {
                Self::Incompatible("it can verify none of our certificates".into())
            }
            other => Self::Ours(other.to_string().into()),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::CertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::CertificateNotYetValid,
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                Self::RevocationListExpired
            }
            CertificateError::UnknownIssuer => Self::CertificateAuthorityUnknown,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::CertificatePurpose
            }
            CertificateError::BadSignature => Self::CertificateBad("its signature is wrong".into()),
            CertificateError::BadEncoding => Self::CertificateBad("it can't be decoded".into()),
            other => Self::CertificateBad(other.to_string().into()),
        }
    }

    fn of_incompatible(why: &PeerIncompatible, hello: Option<&Hello>) -> Self {
        match why {
            PeerIncompatible::NoCipherSuitesInCommon => Self::CipherSuite,
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => {
                Self::Version { newest: hello.map_or(0, |hello| hello.newest) }
            }
            PeerIncompatible::NoKxGroupsInCommon => Self::Incompatible("no key exchange group in common".into()),
            PeerIncompatible::NoSignatureSchemesInCommon => {
                Self::Incompatible("it can verify none of our certificates (no signature scheme in common)".into())
            }
            PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
                Self::Incompatible("it lacks the extended master secret".into())
            }
            other => Self::Incompatible(Error::PeerIncompatible(other.clone()).to_string().into()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::UnknownCA => {
                Self::ServerNotTrusted("it doesn't know the authority that issued it".into())
            }
            AlertDescription::CertificateExpired => Self::ServerNotTrusted("for it the certificate has expired".into()),
            AlertDescription::CertificateRevoked => Self::ServerNotTrusted("for it the certificate is revoked".into()),
            AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
                Self::ServerNotTrusted("it finds the certificate bad, or not made for the name it asked for".into())
            }
            AlertDescription::CertificateUnknown => Self::ServerNotTrusted("it doesn't say why".into()),
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Self::ClosedEarly,
            AlertDescription::ProtocolVersion => Self::Version { newest: 0 },
            AlertDescription::InsufficientSecurity => Self::CipherSuite,
            AlertDescription::DecryptError => {
                Self::ServerNotTrusted("its signature doesn't fit the authority that it knows under that name".into())
            }
            AlertDescription::BadRecordMac => Self::BadRecord,
            other => Self::Alert(format!("{other:?}").into()),
        }
    }
}

/// Name of a version number of TLS.
pub(crate) fn version_name(version: u16) -> &'static str {
    match version {
        0x0002 => "SSL 2",
        0x0300 => "SSL 3",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304 => "TLS 1.3",
        _ => "an unknown version",
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainMqtt => f.write_str("plain MQTT came to a TLS port: turn on TLS in the client, or let it use the plain port"),
            Self::PlainHttp => f.write_str("plain HTTP came to a TLS port: use https:// or wss://, or the plain port"),
            Self::ProxyHeader => f.write_str(
                "a PROXY header came, but this listener doesn't expect one: set proxy_protocol and trusted_proxies, or turn it off in the proxy",
            ),
            Self::OldSsl => f.write_str("the client speaks SSL 2 or 3: it needs TLS 1.2 or 1.3"),
            Self::NotTls(byte) => write!(f, "what came is not TLS (its first byte is 0x{byte:02x})"),
            Self::Version { newest: 0 } => f.write_str("no TLS version in common with the client: see the listener's tls.versions"),
            Self::Version { newest } => write!(
                f,
                "no TLS version in common: the client's newest is {}, see the listener's tls.versions",
                version_name(*newest)
            ),
            Self::CipherSuite => f.write_str("no cipher suite in common with the client: see the listener's tls.ciphers"),
            Self::Incompatible(why) => write!(f, "the client's TLS doesn't fit ours: {why}"),
            Self::ApplicationProtocol(offered) => write!(
                f,
                "no application protocol in common: the client offers {offered}, this listener wants mqtt or http/1.1, or no ALPN at all"
            ),
            Self::CertificateMissing => {
                f.write_str("the client has shown no certificate, and this listener asks for one (client_certificate = \"required\")")
            }
            Self::CertificateExpired => f.write_str("the client's certificate has expired: issue it a new one (or look at the clock here)"),
            Self::CertificateNotYetValid => {
                f.write_str("the client's certificate is not valid yet: look at the clocks here and where it was issued")
            }
            Self::CertificateRevoked => f.write_str("the client's certificate is revoked"),
            Self::RevocationUnknown => {
                f.write_str("no revocation list says whether the client's certificate still counts: add its authority's list")
            }
            Self::RevocationListExpired => f.write_str("the revocation list for the client's certificate has expired: load a current one"),
            Self::CertificateAuthorityUnknown => f.write_str(
                "the client's certificate comes from an authority unknown here: see client_authorities, and let the client send its whole chain",
            ),
            Self::CertificatePurpose => {
                f.write_str("the client's certificate is not meant for clients (extended key usage lacks clientAuth)")
            }
            Self::CertificateBad(why) => write!(f, "the client's certificate is refused: {why}"),
            Self::Identity(why) => write!(f, "the client's certificate gives it no usable name: {why}"),
            Self::ServerNotTrusted(why) => {
                write!(f, "the client doesn't trust our certificate ({why}): give it the authority's certificate (--cafile)")
            }
            Self::Alert(what) => write!(f, "the client ended TLS with the alert {what}"),
            Self::ClosedEarly => f.write_str("the client closed in the middle of the TLS handshake"),
            Self::BadRecord => f.write_str("a TLS record can't be decrypted: damaged on its way, or keys that don't match"),
            Self::Misbehaved(what) => write!(f, "the client breaks the TLS protocol: {what}"),
            Self::TooLong => f.write_str("the client sent a TLS handshake message beyond all bounds"),
            Self::KeyExhausted => f.write_str("the keys of this TLS 1.2 connection are used up: the client has to connect again"),
            Self::Ended => f.write_str("TLS on this connection has ended already"),
            Self::Ours(what) => write!(f, "TLS failed on our side: {what}"),
        }
    }
}

impl std::error::Error for TlsFault {}
