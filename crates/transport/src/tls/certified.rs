//! One certificate with its key and its stapled answer, from files.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::tls::facts::{self, CertificateFacts};
use crate::tls::files::{self, TlsConfigFault};
use crate::tls::{CertificateFiles, OcspQuestion, OcspSource};

/// From so many days before its end on, a certificate's expiry is warned of; later than that if it doesn't live long.
pub const EXPIRY_WARNING_DAYS: i64 = 30;

/// What came of the files.
pub(crate) struct Loaded {
    pub(crate) certified: CertifiedKey,
    pub(crate) facts: CertificateFacts,
    /// What is to be asked for it.
    pub(crate) question: Option<OcspQuestion>,
}

/// Reads one certificate with what belongs to it.
pub(crate) fn load_certified(
    files: &CertificateFiles,
    provider: &CryptoProvider,
    now_s: i64,
    faults: &mut Vec<TlsConfigFault>,
    warnings: &mut Vec<TlsConfigFault>,
) -> Option<Loaded> {
    let (chain, key) = match (files::load_certificates(&files.certificate), files::load_key(files)) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => {
            faults.extend([chain.err(), key.err()].into_iter().flatten());
            return None;
        }
    };
    let (mut certified, facts) = join(files, chain, key, provider).map_err(|fault| faults.push(fault)).ok()?;
    let mut question = None;
    match &files.ocsp {
        None => {}
        Some(OcspSource::Fetch) => match OcspQuestion::about(&certified.cert) {
            Ok(asked) if asked.url.is_some() => question = Some(asked),
            Ok(_) => warnings.push(TlsConfigFault::at(
                &files.certificate,
                "names no OCSP responder with an http:// address: nothing is stapled, turn off ocsp for it",
            )),
            Err(why) => warnings.push(TlsConfigFault::at(&files.certificate, format!("nothing is stapled: {why}"))),
        },
        Some(OcspSource::File(path)) => match files::load_bytes(path) {
            Err(fault) => faults.push(fault),
            Ok(answer) => match check(&certified.cert, &answer, now_s) {
                Ok(()) => certified.ocsp = Some(answer),
                Err(why) => warnings.push(TlsConfigFault::at(path, format!("is not shown to clients: {why}"))),
            },
        },
    }
    warnings.extend(files::world_readable(&files.key));
    warn_of_certificate(&facts, &certified.cert, now_s, warnings);
    Some(Loaded { certified, facts, question })
}

fn join(
    files: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, CertificateFacts), TlsConfigFault> {
    let mut facts = CertificateFacts::of(&chain[0]).ok_or_else(|| {
        TlsConfigFault::at(&files.certificate, "its first certificate can't be decoded: copy the file again")
    })?;
    facts.file.clone_from(&files.certificate);
    let key = provider.key_provider.load_private_key(key).map_err(|error| {
        TlsConfigFault::at(
            &files.key,
            format!("this key can't be used ({error}): make one of ECDSA P-256/384/521, RSA of 2048 bits or more, or Ed25519"),
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok((certified, facts)),
        Err(_) => Err(TlsConfigFault::at(
            &files.key,
            format!(
                "this key does not belong to the first certificate in {}: the server's own has to come first, and both be of one pair",
                files.certificate.display()
            ),
        )),
    }
}

fn check(chain: &[CertificateDer<'static>], answer: &[u8], now_s: i64) -> Result<(), String> {
    let question = OcspQuestion::about(chain)?;
    question.accept(answer, u64::try_from(now_s).unwrap_or(0)).map(|_| ()).map_err(|fault| fault.to_string())
}

fn warn_of_certificate(
    facts: &CertificateFacts,
    chain: &[CertificateDer<'static>],
    now_s: i64,
    warnings: &mut Vec<TlsConfigFault>,
) {
    let file = &facts.file;
    let days = facts.days_left(now_s);
    if now_s > facts.not_after_s {
        warnings.push(TlsConfigFault::at(
            file,
            format!("this certificate expired {} days ago: no client will accept it, renew it", -days),
        ));
    } else if now_s < facts.not_before_s {
        warnings.push(TlsConfigFault::at(
            file,
            "this certificate is not valid yet: look at the clock here and where it was issued",
        ));
    } else if days < facts.warning_days() && !facts.self_made {
        warnings.push(TlsConfigFault::at(file, format!("this certificate expires in {days} days: renew it")));
    }
    if facts.names.is_empty() {
        warnings.push(TlsConfigFault::at(
            file,
            "this certificate has no subject alternative name: most clients refuse it, whatever its common name is",
        ));
    }
    // Each has to be followed by its issuer; clients don't put a chain in order.
    for pair in chain.windows(2) {
        let (Some(child), Some(parent)) = (facts::parse(&pair[0]), facts::parse(&pair[1])) else { continue };
        if child.issuer().as_raw() != parent.subject().as_raw() {
            warnings.push(TlsConfigFault::at(
                file,
                "its chain is not in order: after each certificate has to come the one that issued it",
            ));
            break;
        }
    }
}
