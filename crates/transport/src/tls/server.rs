//! From settings and files to what a listener's TLS runs with.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use crate::tls::clients::ClientCheck;
use crate::tls::facts::CertificateFacts;
use crate::tls::files::TlsConfigFault;
use crate::tls::resolver::Resolver;
use crate::tls::{OcspQuestion, TlsOptions, TlsVersion, certified, clients, suites};

/// What a listener's TLS runs with, made by [`load_server`]. Replaced as a whole when files or settings change; connections
/// that live keep what they began with.
#[derive(Clone)]
pub struct ServerTls {
    /// For [`crate::tls::Tls::server`]; for QUIC after a change of its own.
    pub config: Arc<ServerConfig>,
    /// The certificates shown, in the order of the settings.
    pub certificates: Vec<CertificateFacts>,
    /// What is not well but no reason to refuse the start.
    pub warnings: Vec<TlsConfigFault>,
    /// Questions whose answers are to be fetched and handed to [`ServerTls::staple`], each with the index of its certificate.
    pub questions: Vec<(usize, OcspQuestion)>,
    resolver: Arc<Resolver>,
    clients: Option<ClientCheck>,
    /// What is agreed on in a handshake, and goes on to hold when it is resumed.
    agreed: Agreed,
}

/// Versions and cipher suites, and whether there is resumption at all.
type Agreed = (Vec<TlsVersion>, Vec<Box<str>>, bool);

/// Sessions that a listener remembers for clients without tickets.
const SESSIONS_MAX: usize = 1024;
/// Protocols by ALPN: MQTT, what WebSocket and the API are negotiated as, and the name that AWS made common on port 443.
const APPLICATION_PROTOCOLS: [&str; 3] = ["mqtt", "http/1.1", "x-amzn-mqtt-ca"];

impl ServerTls {
    /// Staples an OCSP answer to the certificate at `index`; later handshakes show it.
    pub fn staple(&self, index: usize, answer: Option<Vec<u8>>) {
        self.resolver.staple(index, answer);
    }

    /// Judges client certificates again; `None` if clients aren't asked for any.
    #[must_use]
    pub fn client_check(&self) -> Option<&ClientCheck> {
        self.clients.as_ref()
    }

    /// Takes over the keys of tickets and the sessions of what a listener had `before`, so that its clients resume what they
    /// began there. Not if they began it under other rules about client certificates, versions or cipher suites: whoever
    /// resumes is spared a part of what a full handshake would look at.
    pub fn resume_from(&mut self, before: &Self) {
        let same = match (&self.clients, &before.clients) {
            (Some(now), Some(then)) => now.is_like(then),
            (None, None) => true,
            _ => false,
        };
        if same && self.agreed == before.agreed {
            let mut config = ServerConfig::clone(&self.config);
            config.ticketer = Arc::clone(&before.config.ticketer);
            config.session_storage = Arc::clone(&before.config.session_storage);
            self.config = Arc::new(config);
        }
    }
}

/// Reads all files that `options` name and builds what the listener runs with. `now_s` (since 1970) is for warnings about
/// certificates whose time is over or has not come.
///
/// # Errors
/// All faults at once, each one line with the file and the cure.
pub fn load_server(options: &TlsOptions, now_s: u64) -> Result<ServerTls, Vec<TlsConfigFault>> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
    let versions = versions(&options.versions);
    let provider = provider(options, &versions, &mut faults);
    if options.certificates.is_empty() {
        faults.push(TlsConfigFault::new("no certificate is set: set certificate and key"));
    }
    let mut entries = Vec::new();
    let mut certificates = Vec::new();
    let mut questions = Vec::new();
    for files in &options.certificates {
        if let Some(loaded) = certified::load_certified(files, &provider, now_s, &mut faults, &mut warnings) {
            questions.extend(loaded.question.map(|question| (entries.len(), question)));
            entries.push((loaded.facts.names.clone(), loaded.certified));
            certificates.push(loaded.facts);
        }
    }
    let clients = clients::load_clients(options, &provider, now_s, &mut faults, &mut warnings);
    if !faults.is_empty() {
        return Err(faults);
    }
    let resolver = Arc::new(Resolver::new(entries));
    match build(options, provider, &versions, resolver.clone(), clients.as_ref()) {
        Ok(config) => {
            let agreed = (options.versions.clone(), options.cipher_suites.clone(), options.no_resumption);
            Ok(ServerTls { config: Arc::new(config), certificates, warnings, questions, resolver, clients, agreed })
        }
        Err(error) => Err(vec![TlsConfigFault::new(format!("TLS can't be set up: {error}"))]),
    }
}

fn build(
    options: &TlsOptions,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    resolver: Arc<Resolver>,
    clients: Option<&ClientCheck>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let mut config = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        None => builder.with_no_client_auth(),
    }
    .with_cert_resolver(resolver);
    config.alpn_protocols = APPLICATION_PROTOCOLS.iter().map(|name| name.as_bytes().to_vec()).collect();
    // Data before the end of the handshake could be replayed: not for MQTT.
    config.max_early_data_size = 0;
    if !options.cipher_suites.is_empty() {
        config.ignore_client_order = true;
    }
    if options.no_resumption {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        // Its keys change every six hours; what is older than twelve is not accepted.
        config.ticketer = Ticketer::new()?;
        // A client resumes once per connection, and gets a new one then.
        config.send_tls13_tickets = 1;
    }
    Ok(config)
}

pub(crate) fn versions(wanted: &[TlsVersion]) -> Vec<&'static SupportedProtocolVersion> {
    let is_wanted = |version| wanted.is_empty() || wanted.contains(&version);
    let all = [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)];
    all.into_iter().filter(|(version, _)| is_wanted(*version)).map(|(_, version)| version).collect()
}

/// The provider, with the cipher suites that are wanted.
fn provider(
    options: &TlsOptions,
    versions: &[&'static SupportedProtocolVersion],
    faults: &mut Vec<TlsConfigFault>,
) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if options.cipher_suites.is_empty() {
        return Arc::new(provider);
    }
    let before = faults.len();
    provider.cipher_suites = suites::parse(&options.cipher_suites, faults);
    if faults.len() == before {
        for version in versions {
            if !provider.cipher_suites.iter().any(|suite| suite.version() == *version) {
                faults.push(TlsConfigFault::new(format!(
                    "no cipher suite in tls.ciphers is one of {}: add one, or leave that version out of tls.versions",
                    suites::version_name(version)
                )));
            }
        }
    }
    Arc::new(provider)
}

#[cfg(test)]
mod tests;
