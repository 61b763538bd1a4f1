//! OCSP for our own certificates (RFC 6960, in the profile of RFC 5019): the question, and whether an answer may be shown to
//! clients. Asking over the network is the business of `net`.

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::tls::der::{BITS, Der, ENUMERATED, GENERALIZED_TIME, INTEGER, OCTETS, OID, SEQUENCE, Value, encode};
use crate::tls::facts;

/// The question about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspQuestion {
    /// Where to ask: the responder that the certificate names, by plain HTTP; `None` if it names none.
    pub url: Option<Box<str>>,
    /// The request: body of a POST with the type `application/ocsp-request`.
    pub request: Vec<u8>,
    /// The certificate's name in request and answer.
    id: Vec<u8>,
    issuer: CertificateDer<'static>,
}

/// An answer that may be shown to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspAnswer {
    /// As it came: what is stapled.
    pub der: Vec<u8>,
    /// Since when it holds, seconds since 1970.
    pub this_update_s: i64,
    /// Until when it may be shown.
    pub next_update_s: i64,
}

/// Why an answer may not be shown. Its `Display` is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspFault {
    /// It can't be decoded.
    Damaged,
    /// The responder answers with an error; its number.
    Status(u8),
    /// It is about other certificates.
    OtherCertificate,
    /// Its signature is wrong, or by somebody who may not sign it.
    Signature,
    /// Not valid yet, or no more.
    Outdated,
    /// The certificate is revoked.
    Revoked,
    /// The responder does not know the certificate.
    Unknown,
}

impl std::fmt::Display for OcspFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged => f.write_str("the OCSP answer can't be decoded"),
            Self::Status(1) => f.write_str("the OCSP responder finds the request malformed"),
            Self::Status(2) => f.write_str("the OCSP responder has an internal error"),
            Self::Status(3) => f.write_str("the OCSP responder says: try later"),
            Self::Status(6) => f.write_str("the OCSP responder does not answer for this certificate (unauthorized)"),
            Self::Status(number) => write!(f, "the OCSP responder answers with error {number}"),
            Self::OtherCertificate => f.write_str("the OCSP answer is about another certificate"),
            Self::Signature => f.write_str("the OCSP answer is not signed by the certificate's issuer or its delegate"),
            Self::Outdated => f.write_str("the OCSP answer is outdated, or not valid yet: look at the clock here"),
            Self::Revoked => f.write_str("the certificate is REVOKED by its issuer: replace it"),
            Self::Unknown => f.write_str("the OCSP responder does not know the certificate"),
        }
    }
}

impl std::error::Error for OcspFault {}

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
/// `id-kp-OCSPSigning`.
const OCSP_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x09";
/// `id-ad-ocsp`.
const ACCESS_OCSP: &str = "1.3.6.1.5.5.7.48.1";
/// SHA-1 with its parameters: what all responders understand. It names the certificate and protects nothing.
const SHA1: &[u8] = b"\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00";
/// Clocks may differ by so much.
const SKEW_S: i64 = 300;
/// An answer that names no end may be shown for so long.
const ENDLESS_S: i64 = 86_400;

impl OcspQuestion {
    /// The question about the first certificate in `chain`; the second has to be its issuer.
    ///
    /// # Errors
    /// What the chain lacks, in words.
    pub fn about(chain: &[CertificateDer<'static>]) -> Result<Self, &'static str> {
        let [leaf, issuer, ..] = chain else {
            return Err("OCSP needs the issuer's certificate: put it behind the server's own in the same file");
        };
        let undecodable = "a certificate can't be decoded: copy the file again";
        let parsed = facts::parse(leaf).ok_or(undecodable)?;
        let parsed_issuer = facts::parse(issuer).ok_or(undecodable)?;
        if parsed.issuer().as_raw() != parsed_issuer.subject().as_raw() {
            return Err("OCSP needs the issuer's certificate: it has to stand second in the file");
        }
        let url = responder(&parsed);
        let id = certificate_id(&parsed, &parsed_issuer);
        let request = [SEQUENCE; 4].iter().fold(id.clone(), |inner, tag| encode(*tag, &inner));
        Ok(Self { url, request, id, issuer: issuer.clone() })
    }

    /// Whether `answer` may be shown to clients at `now_s`.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, answer: &[u8], now_s: u64) -> Result<OcspAnswer, OcspFault> {
        let basic = Basic::read(answer)?;
        let single = basic.about(&self.id).ok_or(OcspFault::OtherCertificate)?;
        if !basic.is_signed_for(&self.issuer, now_s) {
            return Err(OcspFault::Signature);
        }
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let next_update_s = single.next_update_s.unwrap_or(single.this_update_s.saturating_add(ENDLESS_S));
        if single.this_update_s > now_s.saturating_add(SKEW_S) || next_update_s <= now_s {
            return Err(OcspFault::Outdated);
        }
        match single.status {
            0x80 => Ok(OcspAnswer { der: answer.to_vec(), this_update_s: single.this_update_s, next_update_s }),
            0xa1 => Err(OcspFault::Revoked),
            _ => Err(OcspFault::Unknown),
        }
    }
}

impl OcspAnswer {
    /// When to ask again: half way to its end, so that a responder may be away for as long.
    #[must_use]
    pub fn refresh_at_s(&self) -> i64 {
        self.this_update_s + (self.next_update_s - self.this_update_s) / 2
    }
}

fn responder(certificate: &X509Certificate<'_>) -> Option<Box<str>> {
    certificate.iter_extensions().find_map(|extension| {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { return None };
        access.accessdescs.iter().find_map(|each| match &each.access_location {
            GeneralName::URI(url) if each.access_method.to_id_string() == ACCESS_OCSP && url.starts_with("http://") => {
                Some((*url).into())
            }
            _ => None,
        })
    })
}

/// `CertID`: hashes of the issuer's name and key, and the serial number.
fn certificate_id(leaf: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Vec<u8> {
    let hash = |bytes: &[u8]| encode(OCTETS, digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    let content = [
        SHA1.to_vec(),
        hash(issuer.subject().as_raw()),
        hash(&issuer.public_key().subject_public_key.data),
        encode(INTEGER, leaf.raw_serial()),
    ];
    encode(SEQUENCE, &content.concat())
}

/// `BasicOCSPResponse`, taken apart.
struct Basic<'a> {
    signed: &'a [u8],
    responses: Der<'a>,
    /// Content of the algorithm identifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Der<'a>,
}

/// `SingleResponse`.
struct Single {
    /// Tag of the status.
    status: u8,
    this_update_s: i64,
    next_update_s: Option<i64>,
}

impl<'a> Basic<'a> {
    fn read(answer: &'a [u8]) -> Result<Self, OcspFault> {
        let mut outer = Der(answer).sequence().ok_or(OcspFault::Damaged)?;
        match outer.optional(ENUMERATED) {
            Some([0]) => {}
            Some([number]) => return Err(OcspFault::Status(*number)),
            _ => return Err(OcspFault::Damaged),
        }
        Self::read_bytes(outer).ok_or(OcspFault::Damaged)
    }

    fn read_bytes(mut outer: Der<'a>) -> Option<Self> {
        let mut bytes = Der(outer.optional(0xa0)?).sequence()?;
        if bytes.optional(OID)? != BASIC {
            return None;
        }
        let mut basic = Der(bytes.optional(OCTETS)?).sequence()?;
        let Value { tag: SEQUENCE, content, whole: signed } = basic.next()? else { return None };
        let algorithm = basic.optional(SEQUENCE)?;
        let [0, signature @ ..] = basic.optional(BITS)? else { return None };
        let certificates = basic.optional(0xa0).and_then(|content| Der(content).sequence()).unwrap_or(Der(&[]));
        let mut content = Der(content);
        let _version = content.optional(0xa0);
        let _responder = content.next()?;
        content.optional(GENERALIZED_TIME)?;
        Some(Self { signed, responses: content.sequence()?, algorithm, signature, certificates })
    }

    /// What it says about the certificate with this `CertID`.
    fn about(&self, id: &[u8]) -> Option<Single> {
        let mut responses = self.responses;
        while let Some(mut single) = responses.sequence() {
            if !is_same_certificate(single.next()?.whole, id) {
                continue;
            }
            let status = single.next()?.tag;
            let this_update_s = seconds(single.optional(GENERALIZED_TIME)?)?;
            let next_update_s = match single.optional(0xa0) {
                None => None,
                Some(content) => Some(seconds(Der(content).optional(GENERALIZED_TIME)?)?),
            };
            return Some(Single { status, this_update_s, next_update_s });
        }
        None
    }

    /// Signed by the issuer itself, or by somebody whom it has certified for that.
    fn is_signed_for(&self, issuer: &CertificateDer<'static>, now_s: u64) -> bool {
        if self.is_signed_by(issuer) {
            return true;
        }
        let Ok(anchor) = anchor_from_trusted_cert(issuer) else { return false };
        let mut certificates = self.certificates;
        while let Some(Value { whole, .. }) = certificates.next() {
            let delegate = CertificateDer::from(whole);
            if may_sign(&delegate, &anchor, now_s) && self.is_signed_by(&delegate) {
                return true;
            }
        }
        false
    }

    fn is_signed_by(&self, signer: &CertificateDer<'_>) -> bool {
        let Ok(signer) = EndEntityCert::try_from(signer) else { return false };
        webpki::ALL_VERIFICATION_ALGS
            .iter()
            .filter(|each| each.signature_alg_id().as_ref() == self.algorithm)
            .any(|each| signer.verify_signature(*each, self.signed, self.signature).is_ok())
    }
}

fn may_sign(delegate: &CertificateDer<'_>, anchor: &TrustAnchor<'_>, now_s: u64) -> bool {
    let Ok(delegate) = EndEntityCert::try_from(delegate) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let usage = KeyUsage::required(OCSP_SIGNING);
    delegate
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, std::slice::from_ref(anchor), &[], now, usage, None, None)
        .is_ok()
}

/// The same hashes and serial number. The parameters of the hash may be written out or left out.
fn is_same_certificate(left: &[u8], right: &[u8]) -> bool {
    let parts = |id| -> Option<[&[u8]; 4]> {
        let mut id = Der(id).sequence()?;
        Some([id.sequence()?.optional(OID)?, id.optional(OCTETS)?, id.optional(OCTETS)?, id.optional(INTEGER)?])
    };
    parts(left).is_some_and(|left| Some(left) == parts(right))
}

/// Seconds since 1970 of a `GeneralizedTime` as RFC 5280 wants it: `YYYYMMDDHHMMSSZ`.
fn seconds(text: &[u8]) -> Option<i64> {
    let (digits, zone) = text.split_at_checked(14)?;
    (zone == b"Z" && digits.iter().all(u8::is_ascii_digit)).then_some(())?;
    let number = |from: usize, to: usize| {
        digits[from..to].iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    let sound = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    sound.then_some(())?;
    // Years that begin in March have their leap day at the end, so that months are told by one formula.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests;
