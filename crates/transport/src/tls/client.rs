//! TLS of a client: ours on the command line, and those of the tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::tls::files::{self, TlsConfigFault};
use crate::tls::server::versions;
use crate::tls::{CertificateFiles, TlsVersion, facts};

/// How a client does TLS.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsOptions {
    /// Files or directories of authorities that servers' certificates have to come from; none for those of the system.
    pub authorities: Vec<PathBuf>,
    /// Takes any certificate: for tests and for looking at one.
    pub insecure: bool,
    /// SHA-256 of the one certificate that is accepted, in hexadecimal, colons allowed: nothing else is looked at then.
    pub pinned: Option<Box<str>>,
    /// Certificate that the client shows.
    pub certificate: Option<CertificateFiles>,
    /// Application protocols offered, such as `mqtt`.
    pub alpn: Vec<Box<str>>,
    /// Versions spoken; none for all.
    pub versions: Vec<TlsVersion>,
}

/// Where systems keep the authorities that they trust, first found first used: Debian, Red Hat, SUSE, Alpine and BSDs.
const SYSTEM_AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Reads the files that `options` name and builds what a client's TLS runs with.
///
/// # Errors
/// All faults at once.
pub fn load_client(options: &ClientTlsOptions) -> Result<Arc<ClientConfig>, Vec<TlsConfigFault>> {
    let mut faults = Vec::new();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(options, &provider, &mut faults);
    let shown = options.certificate.as_ref().and_then(|files| {
        let chain = files::load_certificates(&files.certificate).map_err(|fault| faults.push(fault)).ok();
        let key = files::load_key(files).map_err(|fault| faults.push(fault)).ok();
        chain.zip(key)
    });
    let Some(verifier) = verifier.filter(|_| faults.is_empty()) else { return Err(faults) };
    let setup = |error: Error| vec![TlsConfigFault::new(format!("TLS can't be set up: {error}"))];
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&options.versions))
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            let files = options.certificate.clone().unwrap_or_default();
            let text = format!("can't be used together with {}: {error}", files.certificate.display());
            vec![TlsConfigFault::at(&files.key, text)]
        })?,
    };
    config.alpn_protocols = options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn verifier(
    options: &ClientTlsOptions,
    provider: &Arc<CryptoProvider>,
    faults: &mut Vec<TlsConfigFault>,
) -> Option<Arc<dyn ServerCertVerifier>> {
    if let Some(text) = &options.pinned {
        let pin: String = text.chars().filter(|letter| *letter != ':').collect::<String>().to_ascii_lowercase();
        if pin.len() != 64 || !pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            faults.push(TlsConfigFault::new("a fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits"));
            return None;
        }
        return Some(Arc::new(Lenient { pin: Some(pin.into()), provider: provider.clone() }));
    }
    if options.insecure {
        return Some(Arc::new(Lenient { pin: None, provider: provider.clone() }));
    }
    let roots = roots(options, faults)?;
    match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build() {
        Ok(verifier) => Some(verifier),
        Err(error) => {
            faults.push(TlsConfigFault::new(format!("servers' certificates can't be checked: {error}")));
            None
        }
    }
}

fn roots(options: &ClientTlsOptions, faults: &mut Vec<TlsConfigFault>) -> Option<RootCertStore> {
    let system: Vec<PathBuf>;
    let paths = if options.authorities.is_empty() {
        system = SYSTEM_AUTHORITIES.iter().map(PathBuf::from).filter(|path| Path::is_file(path)).take(1).collect();
        if system.is_empty() {
            faults.push(TlsConfigFault::new(
                "this system has no list of trusted authorities where one is expected: name a file with --cafile",
            ));
            return None;
        }
        &system
    } else {
        &options.authorities
    };
    let mut roots = RootCertStore::empty();
    let found = files::load_authorities(paths, faults);
    for (file, certificate) in found {
        // Lists of systems hold a few that nobody can use any more; in a file that somebody has named it is a fault.
        if let Err(error) = roots.add(certificate)
            && !options.authorities.is_empty()
        {
            faults.push(TlsConfigFault::at(&file, format!("holds a certificate that can't be an authority: {error}")));
        }
    }
    Some(roots)
}

/// Accepts any certificate, or exactly one. The server still has to prove that it owns the key.
#[derive(Debug)]
struct Lenient {
    pin: Option<Box<str>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pin {
            Some(pin) if *pin != facts::fingerprint(leaf) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
