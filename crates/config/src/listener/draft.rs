//! One listener while its settings are gathered, and the checks across them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use breakwater_net::{Bind, ListenerOptions, Protocols, ProxyOptions, QuicOptions, SocketOptions, WebSocketOptions};
use breakwater_session::{Limits, Versions};
use breakwater_shard::{Profile, Rates};
use breakwater_transport::tls::{CertificateFiles, ClientCertificate, KeyPassword, OcspSource, TlsOptions};
use ipnet::IpNet;

use super::{Listener, Scheme};
use crate::resolve::{Terms, Zone};
use crate::surroundings::Surroundings;

/// What the rows of the table store into.
pub(crate) struct Draft {
    pub(crate) kind: Scheme,
    pub(crate) name: Box<str>,
    /// The machine has IPv6.
    pub(super) ipv6: bool,
    pub(crate) enabled: bool,
    pub(crate) bind: Vec<Bind>,
    pub(super) unix_mode: u32,
    pub(crate) protocols: Protocols,
    pub(super) connections_max: u32,
    pub(super) connections_per_address_max: u32,
    pub(super) accept_rate: u32,
    pub(super) accept_burst: u32,
    pub(super) access: Vec<breakwater_net::AccessRule>,
    pub(super) proxy: bool,
    pub(super) trusted: Vec<IpNet>,
    pub(super) handshake_timeout_ms: u64,
    pub(super) socket: SocketOptions,
    pub(super) websocket: WebSocketOptions,
    pub(super) quic: QuicOptions,
    pub(super) tls: TlsOptions,
    pub(super) certificate: CertificateDraft,
    pub(crate) zone: Box<str>,
    pub(super) versions: Option<Versions>,
    pub(super) mountpoint: Box<str>,
    pub(super) authenticate: bool,
    pub(super) lifetime_ms: u64,
    pub(super) rates: Rates,
}

/// The default certificate, given by single keys.
#[derive(Default)]
pub(super) struct CertificateDraft {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) password: Option<KeyPassword>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ocsp: Option<OcspSource>,
    pub(super) acme: Option<Box<str>>,
}

impl Draft {
    pub(crate) fn new(kind: Scheme, name: &str, net: &breakwater_net::Options, ipv6: bool) -> Self {
        Self {
            kind,
            name: name.into(),
            ipv6,
            enabled: true,
            bind: Vec::new(),
            unix_mode: super::read::UNIX_MODE,
            protocols: protocols(kind),
            connections_max: 0,
            connections_per_address_max: 0,
            accept_rate: 0,
            accept_burst: 0,
            access: Vec::new(),
            proxy: false,
            trusted: Vec::new(),
            handshake_timeout_ms: 0,
            // The rest is filled by the table's defaults.
            socket: SocketOptions {
                backlog: net.backlog,
                nodelay: net.nodelay,
                keep_alive: None,
                receive_buffer: 0,
                send_buffer: 0,
            },
            websocket: WebSocketOptions {
                path: "/mqtt".into(),
                origins: Vec::new(),
                allow_no_subprotocol: false,
                trusted_forwarders: Vec::new(),
                frame_bytes_max: 0,
            },
            quic: QuicOptions { idle_timeout_ms: 0, streams_max: 0, retry_above: 0 },
            tls: TlsOptions::default(),
            certificate: CertificateDraft::default(),
            zone: "".into(),
            versions: None,
            mountpoint: "".into(),
            authenticate: true,
            lifetime_ms: 0,
            rates: Rates::default(),
        }
    }

    /// The section that its certificate comes by.
    pub(crate) fn acme(&self) -> Option<&str> {
        self.certificate.acme.as_deref()
    }

    pub(crate) fn speaks_tls(&self) -> bool {
        let Protocols { mqtts, wss, https, quic, .. } = self.protocols;
        mqtts || wss || https || quic
    }

    pub(crate) fn speaks_websocket(&self) -> bool {
        self.protocols.ws || self.protocols.wss
    }
}

/// What a type speaks unless it says otherwise.
fn protocols(kind: Scheme) -> Protocols {
    Protocols {
        mqtt: matches!(kind, Scheme::Tcp | Scheme::Unix),
        mqtts: kind == Scheme::Tls,
        ws: kind == Scheme::Ws,
        wss: kind == Scheme::Wss,
        http: false,
        https: false,
        quic: kind == Scheme::Quic,
    }
}

/// A fault of a finished section: the key in it that the fault is about, and what is wrong.
pub(crate) type Complaint = (&'static str, String);

/// Checks a section as a whole, and makes a listener of it. All faults at once.
pub(crate) fn finish(
    draft: Draft,
    zone: &Zone,
    terms: &Terms,
    around: &Surroundings,
) -> Result<Listener, Vec<Complaint>> {
    let mut faults = Vec::new();
    if draft.bind.is_empty() {
        faults.push(("bind", "is missing: say where to listen, such as bind = \"1883\"".into()));
    }
    if draft.proxy && draft.trusted.is_empty() {
        let what = "needs trusted_proxies: without, every connection would be turned away";
        faults.push(("proxy_protocol", what.into()));
    }
    if !draft.proxy && !draft.trusted.is_empty() {
        faults.push(("trusted_proxies", "has no effect without proxy_protocol = true".into()));
    }
    if draft.proxy && draft.kind == Scheme::Quic {
        faults.push(("proxy_protocol", "does not exist for QUIC; leave it out".into()));
    }
    check_client_certificates(&draft.tls, &mut faults);
    let own = own_certificate(&draft.certificate, around, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(build(draft, zone, terms, own, &around.data))
}

fn check_client_certificates(tls: &TlsOptions, faults: &mut Vec<Complaint>) {
    let asked = tls.client_certificate != ClientCertificate::None;
    if asked && tls.client_authorities.is_empty() {
        let what = "needs tls.client_authorities: the authorities that client certificates have to come from";
        faults.push(("tls.client_certificate", what.into()));
    }
    let useless = "has no effect without tls.client_certificate = \"optional\" or \"required\"";
    for (key, given) in [
        ("tls.client_authorities", !tls.client_authorities.is_empty()),
        ("tls.revocation_lists", !tls.revocation_lists.is_empty()),
        ("tls.username_from", tls.username_from.is_some()),
        ("tls.client_id_from", tls.client_id_from.is_some()),
    ] {
        if given && !asked {
            faults.push((key, useless.into()));
        }
    }
}

/// The certificate that the single keys name; none if they name none.
fn own_certificate(
    draft: &CertificateDraft,
    around: &Surroundings,
    faults: &mut Vec<Complaint>,
) -> Option<CertificateFiles> {
    let password = match (&draft.password, &draft.password_file) {
        (Some(_), Some(_)) => {
            faults.push(("tls.key_password_file", "and tls.key_password exclude each other; leave one out".into()));
            None
        }
        (Some(password), None) => Some(password.clone()),
        (None, Some(file)) => match around.secret(file) {
            Ok(secret) => Some(KeyPassword(secret)),
            Err(what) => {
                faults.push(("tls.key_password_file", what));
                None
            }
        },
        (None, None) => None,
    };
    if let Some(name) = &draft.acme {
        if draft.certificate.is_some() || draft.key.is_some() || password.is_some() {
            let what = "and tls.certificate with tls.key exclude each other; leave out one or the other";
            faults.push(("tls.acme", what.into()));
        }
        let pair = crate::acme::folder(&around.data, name).join(breakwater_acme::PAIR);
        let (certificate, key) = (pair.clone(), pair);
        return Some(CertificateFiles { certificate, key, key_password: None, ocsp: draft.ocsp.clone() });
    }
    match (&draft.certificate, &draft.key) {
        (Some(certificate), Some(key)) => Some(CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            key_password: password,
            ocsp: draft.ocsp.clone(),
        }),
        (Some(_), None) => {
            faults.push(("tls.certificate", "needs tls.key: the private key of the certificate".into()));
            None
        }
        (None, Some(_)) => {
            faults.push(("tls.key", "needs tls.certificate: the certificate of the key".into()));
            None
        }
        (None, None) => {
            if password.is_some() {
                faults.push(("tls.key_password", "has no effect without tls.key".into()));
            }
            None
        }
    }
}

fn build(draft: Draft, zone: &Zone, terms: &Terms, own: Option<CertificateFiles>, data: &Path) -> Listener {
    let (speaks_tls, acme) = (draft.speaks_tls(), draft.certificate.acme);
    let mut tls = draft.tls;
    if let Some(own) = own {
        tls.certificates.insert(0, own);
    }
    let self_made = speaks_tls && tls.certificates.is_empty();
    if self_made {
        let (certificate, key) = (data.join("tls/server.pem"), data.join("tls/server.key"));
        tls.certificates.push(CertificateFiles { certificate, key, ..CertificateFiles::default() });
    }
    let limits = match draft.versions {
        Some(versions) => Arc::new(Limits { versions, ..Limits::clone(&zone.limits) }),
        None => Arc::clone(&zone.limits),
    };
    let name: Box<str> = format!("{}.{}", draft.kind, draft.name).into();
    let mut bind = draft.bind;
    for place in &mut bind {
        if let Bind::Unix { mode, .. } = place {
            *mode = draft.unix_mode;
        }
    }
    let profile = Profile {
        name: name.clone(),
        zone: zone.name.clone(),
        durability: zone.durability,
        limits,
        mountpoint: draft.mountpoint,
        authenticate: draft.authenticate,
        lifetime_ms: draft.lifetime_ms,
        rates: draft.rates,
        rewrite: Arc::clone(&terms.rewrite),
        auto_subscribe: Arc::clone(&terms.auto_subscribe),
    };
    let options = ListenerOptions {
        name,
        bind,
        protocols: draft.protocols,
        connections_max: draft.connections_max,
        connections_per_address_max: draft.connections_per_address_max,
        accept_rate: draft.accept_rate,
        accept_burst: draft.accept_burst,
        access: draft.access,
        proxy: draft.proxy.then_some(ProxyOptions { trusted: draft.trusted }),
        tls: speaks_tls.then_some(tls),
        websocket: draft.websocket,
        quic: draft.quic,
        socket: draft.socket,
        handshake_timeout_ms: draft.handshake_timeout_ms,
        profile: Arc::new(profile),
    };
    Listener { kind: draft.kind, options, self_made, acme, written_down: true, zone: draft.zone }
}
