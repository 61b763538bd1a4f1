//! Facts from a running node and from files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::control::{AcmeRow, Answer, ListenerRow, Request};
use crate::doctor::{CertificateFacts, Exposure, Facts, FileFacts, ListenerFacts, OrderedFacts, StoreFacts, UserFacts};
use crate::remote;
use crate::sources::Place;

/// Programs that pass connections on, by the names of their processes.
const REVERSE_PROXIES: [&str; 10] =
    ["nginx", "haproxy", "caddy", "traefik", "envoy", "apache2", "httpd", "stunnel", "stunnel4", "cloudflared"];

/// Asks the node and looks at the files of its data directory. The error: no node runs, with what to do.
pub(crate) fn gather(node: &Place) -> Result<Facts, Vec<String>> {
    let data = node.directory();
    let rows = remote::rows(node)?;
    let status = match remote::ask(node, &Request::Status)? {
        Answer::Status(status) => status,
        _ => return Err(vec!["the broker answered something else".into()]),
    };
    Ok(Facts {
        listeners: rows.iter().filter(|row| row.fault.is_none()).map(listener).collect(),
        ordered: remote::certificates(node)?.into_iter().map(ordered).collect(),
        users: users(&data),
        has_access_rules: false,
        loopback_anonymous: status.loopback_anonymous,
        store: StoreFacts {
            full: status.store.condition == "full",
            failing: status.store.condition == "failing",
            fault: status.store.fault,
            damages: status.store.damages,
            folder: data.join("store"),
        },
        secrets: secrets(&data, &rows),
        reverse_proxies: reverse_proxies(),
        running: true,
        now_unix_s: crate::clock::now_unix_s(),
    })
}

fn listener(row: &ListenerRow) -> ListenerFacts {
    let port = row.places.first().and_then(|place| place.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
    ListenerFacts {
        name: row.name.clone(),
        exposure: match row.exposure.as_str() {
            "public" => Some(Exposure::Public),
            "private" => Some(Exposure::Private),
            _ => Some(Exposure::Loopback),
        },
        port: port.unwrap_or_default(),
        plain: row.plain,
        certificates: row
            .certificates
            .iter()
            .map(|certificate| CertificateFacts {
                subject: certificate.subject.clone(),
                names: certificate.names.clone(),
                not_before: certificate.not_before,
                self_made: certificate.self_made,
                not_after: certificate.not_after,
            })
            .collect(),
        weak_tls: row.weak_tls.clone(),
        authentication: row.authentication,
        has_address_rules: row.has_address_rules,
        has_limits: row.has_limits,
        behind_proxy: row.proxy_protocol,
        accepted: Some(row.accepted),
        open_for_s: row.open_for_s,
    }
}

fn ordered(row: AcmeRow) -> OrderedFacts {
    let AcmeRow { name, domains, not_after, failures, fault, .. } = row;
    OrderedFacts { name, domains, not_after, failures, fault }
}

fn users(data: &Path) -> Option<Vec<UserFacts>> {
    let guessed = crate::users::guessed(data).ok()?;
    Some(guessed.into_iter().map(|(name, guessed)| UserFacts { name, guessed }).collect())
}

/// Files of the data directory that nobody else should read, and keys that listeners name.
fn secrets(data: &Path, rows: &[ListenerRow]) -> Vec<FileFacts> {
    let mut secrets = Vec::new();
    let mut look = |path: &Path, purpose: &'static str| {
        if let Ok(meta) = fs::metadata(path) {
            secrets.push(FileFacts { path: path.to_owned(), purpose, mode: meta.permissions().mode() & 0o777 });
        }
    };
    look(&data.join("users"), "the file of users");
    look(&crate::control::path(data), "the control socket");
    for name in ["ca.key", "server.key"] {
        look(&data.join("tls").join(name), "a private key");
    }
    for key in rows.iter().flat_map(|row| &row.keys) {
        look(Path::new(key), "a private key");
    }
    for entry in fs::read_dir(data.join("tls/acme")).into_iter().flatten().flatten() {
        look(&entry.path().join("account.json"), "the key of an account");
    }
    secrets.dedup_by(|a, b| a.path == b.path);
    secrets
}

/// Names of processes of this machine that pass connections on.
fn reverse_proxies() -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let names = processes.flatten().filter_map(|entry| {
        entry.file_name().to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
        fs::read_to_string(entry.path().join("comm")).ok()
    });
    let mut found: Vec<String> =
        names.map(|name| name.trim().to_owned()).filter(|name| REVERSE_PROXIES.contains(&name.as_str())).collect();
    found.sort();
    found.dedup();
    found
}
