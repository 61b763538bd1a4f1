//! Certificates of clients: who issues them, who is revoked, and the same question again while a connection lives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::tls::facts::{self, CertificateFacts};
use crate::tls::files::{self, TlsConfigFault};
use crate::tls::{ClientCertificate, TlsFault, TlsOptions};

/// Judges client certificates again: after a reload of revocation lists and authorities, and for resumed connections.
#[derive(Clone)]
pub struct ClientCheck {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of what it judges by.
    digest: Digest,
}

impl ClientCheck {
    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }

    /// Whether both judge by the same mode, authorities and lists.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.digest.as_ref() == other.digest.as_ref()
    }

    /// Whether `peer`, a chain that counted when its connection began, still counts at `now_s`: not revoked, not expired,
    /// from an authority that is still listed.
    ///
    /// # Errors
    /// Why it doesn't.
    pub fn check(&self, peer: &[CertificateDer<'_>], now_s: u64) -> Result<(), TlsFault> {
        let (leaf, chain) = peer.split_first().ok_or(TlsFault::CertificateMissing)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        self.verifier.verify_client_cert(leaf, chain, now).map(|_| ()).map_err(|error| TlsFault::of(&error, None))
    }
}

/// What the options say about client certificates; `None` if none are asked for, or with a fault.
pub(crate) fn load_clients(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    now_s: i64,
    faults: &mut Vec<TlsConfigFault>,
    warnings: &mut Vec<TlsConfigFault>,
) -> Option<ClientCheck> {
    if options.client_certificate == ClientCertificate::None {
        if options.username_from.is_some() || options.client_id_from.is_some() {
            faults.push(TlsConfigFault::new(
                "username_from and client_id_from need client certificates: set client_certificate to required (or optional)",
            ));
        }
        if !options.client_authorities.is_empty() || !options.revocation_lists.is_empty() {
            warnings.push(TlsConfigFault::new(
                "client_authorities and revocation_lists have no effect while client_certificate is none",
            ));
        }
        return None;
    }
    if options.client_authorities.is_empty() {
        faults.push(TlsConfigFault::new(
            "client certificates are asked for, but from which authorities? set client_authorities",
        ));
        return None;
    }
    let before = faults.len();
    let mut roots = RootCertStore::empty();
    for (file, certificate) in files::load_authorities(&options.client_authorities, faults) {
        add_authority(&mut roots, &file, certificate, now_s, faults, warnings);
    }
    let lists = load_lists(&options.revocation_lists, now_s, faults, warnings);
    let digest = digest(options.client_certificate, &roots, &lists);
    if faults.len() > before {
        return None;
    }
    // The whole chain is looked up, not the leaf alone: an intermediate authority can be revoked too. Authorities that
    // publish no list stay usable, or one list for one of them would shut out the clients of all others. A list past its
    // time still counts: whom it revokes stays revoked, and a list that is late shuts nobody out; it is warned of.
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(lists)
        .allow_unknown_revocation_status();
    if options.client_certificate == ClientCertificate::Optional {
        builder = builder.allow_unauthenticated();
    }
    match builder.build() {
        Ok(verifier) => Some(ClientCheck { verifier, digest }),
        Err(error) => {
            faults.push(TlsConfigFault::new(format!("client certificates can't be checked: {error}")));
            None
        }
    }
}

fn digest(mode: ClientCertificate, roots: &RootCertStore, lists: &[CertificateRevocationListDer<'_>]) -> Digest {
    let mut context = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    };
    add(&[u8::from(mode == ClientCertificate::Required)]);
    add(&(roots.len() as u64).to_le_bytes());
    for root in &roots.roots {
        add(&root.subject);
        add(&root.subject_public_key_info);
        add(root.name_constraints.as_deref().unwrap_or_default());
    }
    lists.iter().for_each(|list| add(list));
    context.finish()
}

fn add_authority(
    roots: &mut RootCertStore,
    file: &Path,
    certificate: CertificateDer<'static>,
    now_s: i64,
    faults: &mut Vec<TlsConfigFault>,
    warnings: &mut Vec<TlsConfigFault>,
) {
    if let Some(facts) = CertificateFacts::of(&certificate) {
        if now_s > facts.not_after_s {
            warnings.push(TlsConfigFault::at(
                file,
                format!("the authority {} has expired: no client of it gets in", facts.subject),
            ));
        }
        if facts::parse(&certificate).is_some_and(|parsed| !parsed.is_ca()) {
            warnings.push(TlsConfigFault::at(
                file,
                format!("{} is no authority (basicConstraints lacks CA:TRUE)", facts.subject),
            ));
        }
    }
    if let Err(error) = roots.add(certificate) {
        faults.push(TlsConfigFault::at(file, format!("holds a certificate that can't be an authority: {error}")));
    }
}

fn load_lists(
    paths: &[PathBuf],
    now_s: i64,
    faults: &mut Vec<TlsConfigFault>,
    warnings: &mut Vec<TlsConfigFault>,
) -> Vec<CertificateRevocationListDer<'static>> {
    let mut lists = Vec::new();
    for path in paths {
        match files::load_revocation_lists(path) {
            Ok(found) => {
                for list in found {
                    match CertificateRevocationList::from_der(&list) {
                        Ok((_, parsed)) => {
                            if parsed.next_update().is_some_and(|time| time.timestamp() < now_s) {
                                warnings.push(TlsConfigFault::at(
                                    path,
                                    "this revocation list is past its time: fetch the current one",
                                ));
                            }
                        }
                        Err(_) => faults
                            .push(TlsConfigFault::at(path, "this revocation list can't be decoded: fetch it again")),
                    }
                    lists.push(list);
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    lists
}
