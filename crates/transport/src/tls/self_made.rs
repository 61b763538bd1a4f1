//! Our own authority and certificate, so that TLS works on a first start.
//!
//! Four files in one directory: `ca.pem` for clients, `ca.key`, and `server.pem` with `server.key` for listeners. Renewed is
//! only ever `server.pem`, which is one file and so replaced at once or not at all; its key stays.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

use crate::tls::facts::{self, CertificateFacts};
use crate::tls::files::{self, TlsConfigFault};
use crate::tls::{CertificateFiles, names};

mod place;

pub use place::put_secret;

/// Stands in the names of what is made here.
pub(crate) const ORGANIZATION: &str = "made by Breakwater for itself";

/// What a certificate has to be good for, besides `localhost` and the loopback addresses.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names of this host. What can't stand in a certificate is left out.
    pub names: Vec<Box<str>>,
    /// Addresses of this host.
    pub addresses: Vec<IpAddr>,
}

/// Where everything is, and what [`ensure`] had to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The authority's certificate: what clients have to trust.
    pub authority: PathBuf,
    /// The server's certificate and key.
    pub server: CertificateFiles,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was there and good, or is the operator's own.
    Kept,
    /// An authority and a certificate were made.
    Created,
    /// The server's certificate was made anew, by the same authority. Why, in words.
    Renewed(Box<str>),
}

/// Days before its end from which on a certificate is renewed.
const RENEW_DAYS: i64 = 30;
const AUTHORITY_DAYS: i64 = 3653;
/// The longest that the strictest clients accept of a server.
const SERVER_DAYS: i64 = 825;
/// Names and addresses in one certificate.
const NAMES_MAX: usize = 64;
/// 2026-01-01. A clock before that was never set: what is made is then valid from before and until long after.
const CLOCK_FLOOR_S: i64 = 1_767_225_600;
const DAY_S: i64 = 86_400;

/// Makes sure that `directory` has an authority and a server certificate for what is `wanted`. What is there and good is
/// left untouched; a server certificate that does not come from here is the operator's, and never replaced.
///
/// # Errors
/// Files that are half present, or can't be read or written; one line with the cure.
pub fn ensure(directory: &Path, wanted: &Wanted, now_s: u64) -> Result<Made, TlsConfigFault> {
    let now_s = i64::try_from(now_s).unwrap_or(i64::MAX / 2);
    let at = |name: &str| directory.join(name);
    let made = |outcome| Made {
        authority: at("ca.pem"),
        server: CertificateFiles {
            certificate: at("server.pem"),
            key: at("server.key"),
            ..CertificateFiles::default()
        },
        outcome,
    };
    let present = ["ca.pem", "ca.key", "server.pem", "server.key"].map(|name| at(name).exists());
    match present {
        [false, false, false, false] => create(directory, wanted, now_s).map(|()| made(Outcome::Created)),
        [authority, authority_key, true, true] => {
            let Some(why) = reason_to_renew(&at("server.pem"), wanted, now_s)? else { return Ok(made(Outcome::Kept)) };
            if !(authority && authority_key) {
                let missing = if authority { "ca.key" } else { "ca.pem" };
                return Err(half(directory, &present, &format!("{missing} is needed to renew server.pem ({why})")));
            }
            let key = load_key_pair(&at("server.key"))?;
            renew(directory, &key, wanted, now_s)?;
            Ok(made(Outcome::Renewed(why)))
        }
        [true, true, false, false] => {
            let key = generate()?;
            place::put(directory, "server.key", key.serialize_pem().as_bytes(), true)?;
            renew(directory, &key, wanted, now_s)?;
            Ok(made(Outcome::Renewed("it was missing".into())))
        }
        _ => Err(half(directory, &present, "some of them are missing")),
    }
}

fn half(directory: &Path, present: &[bool; 4], why: &str) -> TlsConfigFault {
    let names = ["ca.pem", "ca.key", "server.pem", "server.key"];
    let list = |wanted: bool| {
        let found: Vec<&str> =
            names.iter().zip(present).filter(|(_, there)| **there == wanted).map(|(name, _)| *name).collect();
        found.join(", ")
    };
    TlsConfigFault::at(
        directory,
        format!(
            "has {} but not {}, and {why}: put back what is missing, or delete all four to have new ones made (clients then need the new ca.pem)",
            list(true),
            list(false)
        ),
    )
}

/// Why the certificate at `path` has to be made anew; `None` if it need not, or must not.
fn reason_to_renew(path: &Path, wanted: &Wanted, now_s: i64) -> Result<Option<Box<str>>, TlsConfigFault> {
    let chain = files::load_certificates(path)?;
    let facts = CertificateFacts::of(&chain[0])
        .ok_or_else(|| TlsConfigFault::at(path, "its first certificate can't be decoded: copy the file again"))?;
    if !facts.self_made {
        return Ok(None);
    }
    let days = facts.days_left(now_s);
    if days < RENEW_DAYS {
        return Ok(Some(format!("it had {days} days left").into()));
    }
    let missing = alternative_names(wanted).into_iter().find(|(text, _)| !facts.names.contains(text));
    Ok(missing.map(|(text, _)| format!("it was not good for {text}").into()))
}

/// Everything anew: beside the directory first, so that the first start has all of it or nothing.
fn create(directory: &Path, wanted: &Wanted, now_s: i64) -> Result<(), TlsConfigFault> {
    let authority_key = generate()?;
    let fingerprint = facts::fingerprint(authority_key.public_key_raw());
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Breakwater authority {}", &fingerprint[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, now_s, AUTHORITY_DAYS, i64::MAX);
    let authority = params.self_signed(&authority_key).map_err(|error| ours(directory, &error))?;
    let server_key = generate()?;
    let issuer = Issuer::from_params(&params, &authority_key);
    let server = issue(directory, &issuer, &server_key, wanted, now_s, i64::MAX)?;
    place::put_all(
        directory,
        &[
            ("ca.key", authority_key.serialize_pem().as_bytes(), true),
            ("ca.pem", authority.pem().as_bytes(), false),
            ("server.key", server_key.serialize_pem().as_bytes(), true),
            ("server.pem", server.as_bytes(), false),
        ],
    )
}

/// A new `server.pem` for `key`, by the authority in `directory`.
fn renew(directory: &Path, key: &KeyPair, wanted: &Wanted, now_s: i64) -> Result<(), TlsConfigFault> {
    let path = directory.join("ca.pem");
    let chain = files::load_certificates(&path)?;
    let undecodable = || TlsConfigFault::at(&path, "its first certificate can't be decoded: copy the file again");
    let facts = CertificateFacts::of(&chain[0]).ok_or_else(undecodable)?;
    if !facts.self_made {
        return Err(TlsConfigFault::at(
            &path,
            "is no authority of ours: name your own certificate in the listener's tls.certificate instead",
        ));
    }
    if facts.days_left(now_s) < RENEW_DAYS {
        return Err(TlsConfigFault::at(
            &path,
            "this authority is about to expire: delete the four files in its directory to have new ones made (clients then need the new ca.pem)",
        ));
    }
    let authority_key = load_key_pair(&directory.join("ca.key"))?;
    let parsed = facts::parse(&chain[0]).ok_or_else(undecodable)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&names::common_name(parsed.subject()));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = Issuer::from_params(&params, &authority_key);
    let server = issue(directory, &issuer, key, wanted, now_s, facts.not_after_s)?;
    // A key of another pair, or a name that came out differently, would only be noticed by clients.
    if !is_issued_by(&server, &chain[0]) {
        return Err(TlsConfigFault::at(
            &directory.join("ca.key"),
            "does not belong to ca.pem: put back the right one, or delete all four files",
        ));
    }
    place::put(directory, "server.pem", server.as_bytes(), false)
}

/// A certificate for `key`, in PEM.
fn issue(
    directory: &Path,
    issuer: &Issuer<'_, &KeyPair>,
    key: &KeyPair,
    wanted: &Wanted,
    now_s: i64,
    not_after_max_s: i64,
) -> Result<String, TlsConfigFault> {
    let mut params = CertificateParams::default();
    let names = alternative_names(wanted);
    // The last name is the most telling one: the host's own, if it has any.
    let own =
        names.iter().rev().find(|(_, name)| matches!(name, SanType::DnsName(_))).map_or("localhost", |(text, _)| text);
    params.distinguished_name = name(own);
    params.subject_alt_names = names.iter().map(|(_, name)| name.clone()).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    last(&mut params, now_s, SERVER_DAYS, not_after_max_s);
    params.signed_by(key, issuer).map(|certificate| certificate.pem()).map_err(|error| ours(directory, &error))
}

fn is_issued_by(server: &str, authority: &CertificateDer<'_>) -> bool {
    use rustls::server::ParsedCertificate;
    let Ok(section) = pem::parse(server) else { return false };
    let server = CertificateDer::from(section.into_contents());
    let mut roots = rustls::RootCertStore::empty();
    if roots.add(authority.clone().into_owned()).is_err() {
        return false;
    }
    let Ok(parsed) = ParsedCertificate::try_from(&server) else { return false };
    let now = facts::parse(&server).map_or(0, |parsed| parsed.validity().not_after.timestamp());
    let now = std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0));
    let schemes = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let now = rustls::pki_types::UnixTime::since_unix_epoch(now);
    rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, schemes.all).is_ok()
}

fn name(common_name: &str) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::OrganizationName, ORGANIZATION);
    name.push(DnType::CommonName, common_name);
    name
}

/// From a day before now (clocks differ) for so many days, but not beyond `not_after_max_s`.
fn last(params: &mut CertificateParams, now_s: i64, days: i64, not_after_max_s: i64) {
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| epoch + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let start = now_s.max(CLOCK_FLOOR_S);
    params.not_before = at(now_s.min(start) - DAY_S);
    params.not_after = at((start + days * DAY_S - 1).min(not_after_max_s));
}

/// `localhost`, the loopback addresses and what is wanted, each once, as text and as it stands in a certificate.
fn alternative_names(wanted: &Wanted) -> Vec<(Box<str>, SanType)> {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let hosts = std::iter::once("localhost").chain(wanted.names.iter().map(|name| name.trim_end_matches('.')));
    let hosts = hosts.filter(|name| is_host_name(name)).map(str::to_ascii_lowercase);
    let hosts = hosts.filter_map(|name| Some((name.as_str().into(), SanType::DnsName(name.try_into().ok()?))));
    let addresses = loopback.iter().chain(&wanted.addresses).filter(|address| !address.is_unspecified());
    let addresses = addresses.map(|address| (address.to_string().into(), SanType::IpAddress(*address)));
    let mut found: Vec<(Box<str>, SanType)> = Vec::new();
    for (text, name) in hosts.chain(addresses).take(NAMES_MAX) {
        if found.iter().all(|(known, _)| *known != text) {
            found.push((text, name));
        }
    }
    found
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

fn generate() -> Result<KeyPair, TlsConfigFault> {
    KeyPair::generate().map_err(|error| TlsConfigFault::new(format!("a key could not be made: {error}")))
}

fn load_key_pair(path: &Path) -> Result<KeyPair, TlsConfigFault> {
    let bytes = files::load_bytes(path)?;
    let fault = |why: String| {
        TlsConfigFault::at(path, format!("this key can't be used ({why}): put back the one that was made here"))
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| fault(error.to_string()))?;
    KeyPair::from_pem(text).map_err(|error| fault(error.to_string()))
}

fn ours(directory: &Path, error: &rcgen::Error) -> TlsConfigFault {
    TlsConfigFault::at(directory, format!("a certificate could not be made: {error}"))
}

#[cfg(test)]
mod tests;
