//! Cipher suites by the names that the IANA gives them.

use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use crate::tls::files::TlsConfigFault;

/// All suites that there are, in our order of preference.
pub(crate) const SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// IANA's name of a suite.
pub(crate) fn name_of(wanted: CipherSuite) -> Option<&'static str> {
    SUITES.iter().find(|(_, suite)| suite.suite() == wanted).map(|(name, _)| *name)
}

/// The suites with these names; a name that is not known is a fault that tells the nearest one.
pub(crate) fn parse(names: &[Box<str>], faults: &mut Vec<TlsConfigFault>) -> Vec<SupportedCipherSuite> {
    let mut found = Vec::new();
    for name in names {
        let wanted = name.trim().to_ascii_uppercase().replace('-', "_");
        match SUITES.iter().find(|(known, _)| *known == wanted) {
            Some((_, suite)) => {
                if !found.contains(suite) {
                    found.push(*suite);
                }
            }
            None => {
                let nearest = SUITES.iter().map(|(known, _)| *known).min_by_key(|known| distance(known, &wanted));
                let text = format!(
                    "unknown cipher suite \"{}\" in tls.ciphers: the nearest is {}",
                    name.escape_default(),
                    nearest.unwrap_or_default()
                );
                faults.push(TlsConfigFault::new(text));
            }
        }
    }
    found
}

/// Name of a version as people write it.
pub(crate) fn version_name(version: &SupportedProtocolVersion) -> &'static str {
    if version.version == ProtocolVersion::TLSv1_3 { "TLS 1.3" } else { "TLS 1.2" }
}

/// Steps of one letter between two names, each part between underscores compared with its best partner: OpenSSL's names
/// have the parts in another order and leave some out.
fn distance(known: &str, wanted: &str) -> usize {
    let parts = |text: &str| {
        text.split('_').filter(|part| *part != "TLS" && *part != "WITH").map(str::to_owned).collect::<Vec<_>>()
    };
    let (known, wanted) = (parts(known), parts(wanted));
    let one_way = |from: &[String], to: &[String]| -> usize {
        from.iter().map(|part| to.iter().map(|other| letters(part, other)).min().unwrap_or(part.len())).sum()
    };
    one_way(&known, &wanted) + one_way(&wanted, &known)
}

fn letters(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (other_at, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[other_at + 1];
            row[other_at + 1] = change.min(diagonal + 1).min(row[other_at] + 1);
        }
    }
    row[right.len()]
}
