//! What a certificate says about itself: for display, for warnings, and for the identity of a client.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::tls::certified::EXPIRY_WARNING_DAYS;
use crate::tls::names;
use crate::tls::self_made;

/// Facts of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// File that it comes from; empty for a peer's.
    pub file: PathBuf,
    /// Subject as RFC 4514 writes it.
    pub subject: Box<str>,
    /// Subject alternative names: DNS names, mail addresses, URIs and addresses.
    pub names: Vec<Box<str>>,
    /// Issuer as RFC 4514 writes it.
    pub issuer: Box<str>,
    /// First second at which it counts, since 1970.
    pub not_before_s: i64,
    /// Last second at which it counts, since 1970.
    pub not_after_s: i64,
    /// Made by Breakwater itself on a first start: nobody outside trusts it.
    pub self_made: bool,
    /// Issued by itself.
    pub self_signed: bool,
    /// Kind of its key, such as `ECDSA P-256`.
    pub key: Box<str>,
    /// Serial number in lower-case hexadecimal.
    pub serial: Box<str>,
    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub fingerprint: Box<str>,
}

impl CertificateFacts {
    /// Reads a certificate in DER. `None` if it is none.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = parse(certificate)?;
        let issuer = names::distinguished(parsed.issuer());
        Some(Self {
            file: PathBuf::new(),
            subject: names::distinguished(parsed.subject()),
            names: names::alternative(&parsed),
            self_made: issuer.split(',').any(|part| part.strip_prefix("O=") == Some(self_made::ORGANIZATION)),
            self_signed: parsed.subject().as_raw() == parsed.issuer().as_raw(),
            issuer,
            not_before_s: parsed.validity().not_before.timestamp(),
            not_after_s: parsed.validity().not_after.timestamp(),
            key: key_kind(&parsed).into(),
            serial: serial(&parsed),
            fingerprint: fingerprint(certificate),
        })
    }

    /// Whole days that are left at `now_s`; negative once it has expired.
    #[must_use]
    pub fn days_left(&self, now_s: i64) -> i64 {
        (self.not_after_s - now_s).div_euclid(86_400)
    }

    /// From so many days before its end on it is warned of. For one of ninety days that is after the time at which it is renewed by
    /// whatever renews it by itself, at two thirds of its life.
    pub(crate) fn warning_days(&self) -> i64 {
        let life = (self.not_after_s - self.not_before_s).div_euclid(86_400);
        EXPIRY_WARNING_DAYS.min(life / 4)
    }
}

/// The whole of `certificate`, and nothing behind it.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}

pub(crate) fn serial(certificate: &X509Certificate<'_>) -> Box<str> {
    let bytes = certificate.raw_serial();
    let bytes = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    names::hex(bytes).into()
}

pub(crate) fn fingerprint(certificate: &[u8]) -> Box<str> {
    names::hex(digest(&SHA256, certificate).as_ref()).into()
}

fn key_kind(certificate: &X509Certificate<'_>) -> String {
    let info = certificate.public_key();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            521 | 528 => "ECDSA P-521".into(),
            size => format!("ECDSA P-{size}"),
        },
        Ok(PublicKey::DSA(_)) => "DSA".into(),
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".into(),
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.113" => "Ed448".into(),
        _ => info.algorithm.algorithm.to_id_string(),
    }
}
