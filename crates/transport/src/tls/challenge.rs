//! The certificate that proves to an ACME server that a name leads here (TLS-ALPN-01, RFC 8737): shown while such a proof is under
//! way, to whoever asks for nothing but it, and to nobody else.

use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// The protocol that a server of certificates names in its hello, alone.
pub const ACME_PROTOCOL: &str = "acme-tls/1";

/// Proofs that are under way in this process: a handful, changed a few times in a certificate's life, and looked at only by
/// hellos that name the protocol. All clones are one.
#[derive(Clone, Default)]
pub struct Challenges(Arc<RwLock<Vec<Entry>>>);

struct Entry {
    number: u64,
    /// In lower case.
    name: Box<str>,
    config: Arc<ServerConfig>,
}

/// A proof that is under way until this is dropped.
pub struct Proof {
    challenges: Challenges,
    number: u64,
}

impl Challenges {
    /// Shows a certificate for `name` that holds `digest`, the SHA-256 of the key authorization.
    ///
    /// # Errors
    /// The name can't stand in a certificate, or none can be made; in words.
    pub fn prove(&self, name: &str, digest: &[u8; 32]) -> Result<Proof, String> {
        let config = config(name, digest).map_err(|error| format!("no certificate can be made for {name}: {error}"))?;
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let number = entries.iter().map(|entry| entry.number).max().unwrap_or(0) + 1;
        entries.push(Entry { number, name: name.to_ascii_lowercase().into(), config: Arc::new(config) });
        drop(entries);
        Ok(Proof { challenges: self.clone(), number })
    }

    /// What a hello for `name` is answered with. The latest counts: an earlier one may be about to be dropped.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<ServerConfig>> {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().find(|entry| *entry.name == *name).map(|entry| Arc::clone(&entry.config))
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        let mut entries = self.challenges.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.number != self.number);
    }
}

/// Apart from that of the listener: nobody is asked for a certificate, no session is remembered, and no other protocol is
/// agreed on.
fn config(name: &str, digest: &[u8; 32]) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    // Marked as critical, as the RFC demands.
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let provider = aws_lc_rs::default_provider();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not by way of a check of the pair: that stumbles over the critical extension, as it should.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], provider.key_provider.load_private_key(key)?);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_PROTOCOL.as_bytes().to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests;
