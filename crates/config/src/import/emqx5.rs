//! EMQX 5 and 6: HOCON.

mod families;

use super::Files;
use super::draft::{Amount, At, Draft};
use super::emqx::{self, Listener, Scope, ZoneTerms};
use super::hocon::{self, Leaf};
use super::place::{Entry, Given};
use super::written;

/// Keys of `mqtt` that are said on listeners here.
const OF_LISTENERS: [&str; 2] = ["peer_cert_as_username", "peer_cert_as_clientid"];

#[derive(Default)]
struct Found {
    listeners: Vec<Listener>,
    zones: Vec<ZoneTerms>,
    /// For all listeners.
    terms: Vec<Entry>,
    authenticates: bool,
}

pub(super) fn read(text: &str, files: &mut dyn Files, draft: &mut Draft) -> Result<(), String> {
    let leaves = hocon::read(text, files, draft)?;
    let mut found = Found::default();
    for leaf in leaves {
        let key = leaf.path.join(".");
        if let Some(name) = &leaf.missing {
            let text = format!(
                "it refers to ${{{name}}}, which this file doesn't define; write the value into the result by hand"
            );
            draft.action(leaf.at, &key, text);
            continue;
        }
        sort(leaf, &key, &mut found, draft);
    }
    for listener in &mut found.listeners {
        with_bind(listener, draft);
        spread(listener, &found.terms);
    }
    for entry in &found.terms {
        if !found.listeners.iter().any(asks) {
            draft.not_mapped(
                entry.at,
                &entry.key,
                "no listener asks its clients for certificates (verify = verify_peer), so none can count",
            );
        }
    }
    if !found.authenticates {
        let text = "EMQX lets everybody in while it has no authenticator; here clients from other machines need a name: `breakwater users add NAME`";
        draft.action(At::ALL, "authentication", text);
    }
    if !found.listeners.iter().any(|listener| listener.kind == "quic" && listener.name == "default") {
        // EMQX opens the other four by itself.
        draft.put(&["listeners", "quic", "default", "enabled"], false);
    }
    emqx::listeners(draft, &found.listeners, &found.zones, None);
    Ok(())
}

fn sort(leaf: Leaf, key: &str, found: &mut Found, draft: &mut Draft) {
    let at = leaf.at;
    let used = leaf.used;
    let mut entry = Entry { key: key.to_owned(), name: String::new(), given: leaf.given, at };
    let path: Vec<&str> = leaf.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["listeners", kind @ ("tcp" | "ssl" | "ws" | "wss" | "quic"), name, rest @ ..] if !rest.is_empty() => {
            let kind = if *kind == "ssl" { "tls" } else { constant(kind) };
            entry.name = spelled(kind, rest);
            emqx::listener(draft, &mut found.listeners, (kind, name), entry);
        }
        ["listeners", ..] => {
            draft.action(at, key, "listeners are of the types tcp, ssl, ws, wss and quic, each with a name and keys");
        }
        ["mqtt", rest @ ..] => limit(entry, rest, None, found, draft),
        ["zones", zone, "mqtt", rest @ ..] => limit(entry, rest, Some(zone), found, draft),
        ["zones", _, rest @ ..] if !rest.is_empty() => family(&entry, rest, used, draft),
        ["authentication", ..] => {
            found.authenticates |= entry.given != Given::List(Vec::new());
            family(&entry, &path, used, draft);
        }
        ["broker", "shared_subscription_strategy"] => {
            entry.name = "shared_subscription_strategy".into();
            emqx::limit(draft, Scope::All, &entry);
        }
        ["sys_topics", "sys_msg_interval"] => interval(&entry, draft),
        ["auto_subscribe", "topics"] if entry.given == Given::List(Vec::new()) => draft.mapped(at),
        ["auto_subscribe", "topics"] if !entry.blocks().is_empty() => {
            let topics: Vec<_> = entry.blocks().iter().map(|block| (at, block.clone())).collect();
            emqx::auto_subscribe(draft, key, &topics);
        }
        ["delayed", name] => emqx::delayed(draft, name, &entry),
        ["rewrite"] if entry.given == Given::List(Vec::new()) => draft.mapped(at),
        ["rewrite"] if !entry.blocks().is_empty() => {
            let rules: Vec<_> = entry.blocks().iter().map(|block| (at, block.clone())).collect();
            emqx::rewrites(draft, key, &rules);
        }
        ["retainer", rest @ ..] => retainer(&entry, rest, used, draft),
        path => family(&entry, path, used, draft),
    }
}

/// A limit of clients. The zone `default` is that of all who have no other.
fn limit(mut entry: Entry, rest: &[&str], zone: Option<&str>, found: &mut Found, draft: &mut Draft) {
    entry.name = rest.join(".");
    if OF_LISTENERS.contains(&entry.name.as_str()) {
        if matches!(entry.text().as_str(), "disabled" | "") {
            return draft.mapped(entry.at);
        }
        match zone {
            None | Some("default") => found.terms.push(entry),
            Some(zone) => emqx::zone_term(draft, &mut found.zones, zone, entry),
        }
        return;
    }
    let scope = match zone {
        None | Some("default") => Scope::All,
        Some(zone) => Scope::Zone(zone),
    };
    let block = entry.is_block();
    let first = rest.first().copied().unwrap_or_default().to_owned();
    if emqx::limit(draft, scope, &entry) {
        return;
    }
    // Some limits are lists or blocks there; what they are about is said by the first part.
    entry.name = first;
    if (block || rest.len() > 1) && emqx::limit(draft, scope, &entry) {
        return;
    }
    unknown(&entry, draft);
}

fn interval(entry: &Entry, draft: &mut Draft) {
    match (entry.text().as_str(), written::seconds(&entry.text())) {
        ("disabled", _) => draft.setting(entry.at, &entry.key, None, "sys.interval", &Amount::Word("never".into())),
        (_, Some(amount)) => draft.setting(entry.at, &entry.key, None, "sys.interval", &amount),
        _ => draft.unreadable(entry.at, &entry.key, "a time, such as 1m"),
    }
}

fn retainer(entry: &Entry, rest: &[&str], used: bool, draft: &mut Draft) {
    let (at, text) = (entry.at, entry.text());
    match rest {
        ["enable"] => match entry.flag() {
            Some(on) => draft.setting(at, &entry.key, None, "mqtt.retain_available", &Amount::Number(u64::from(on))),
            None => draft.unreadable(at, &entry.key, "true or false"),
        },
        ["max_payload_size"] => amount(entry, "retained.max_payload", written::size(&text), draft),
        ["backend", "max_retained_messages"] => {
            amount(entry, "retained.max_messages", written::count_or_zero(&text), draft);
        }
        ["msg_expiry_interval"] if matches!(text.as_str(), "0" | "0s") => draft.mapped(at),
        ["msg_expiry_interval"] => amount(entry, "retained.expiry", written::seconds(&text), draft),
        ["backend", "type"] if text == "built_in_database" => draft.mapped(at),
        ["backend", "storage_type"] if text != "ram" => draft.mapped(at),
        rest => {
            let mut path = vec!["retainer"];
            path.extend(rest);
            family(entry, &path, used, draft);
        }
    }
}

fn amount(entry: &Entry, ours: &str, amount: Option<Amount>, draft: &mut Draft) {
    match amount {
        Some(amount) => draft.setting(entry.at, &entry.key, None, ours, &amount),
        None => draft.unreadable(entry.at, &entry.key, "a number or a size"),
    }
}

/// What has no counterpart. A value that others refer to has done its work there.
fn family(entry: &Entry, path: &[&str], used: bool, draft: &mut Draft) {
    match families::of(&path.join(".")) {
        Some((severity, reason)) => draft.remark(entry.at, severity, &entry.key, reason),
        None if used => draft.mapped(entry.at),
        None => unknown(entry, draft),
    }
}

fn unknown(entry: &Entry, draft: &mut Draft) {
    draft.action(
        entry.at,
        &entry.key,
        "EMQX 5 has no such key that we know of; look whether it is spelled right and whether it matters",
    );
}

fn constant(kind: &str) -> &'static str {
    ["tcp", "ws", "wss", "quic"].into_iter().find(|known| *known == kind).unwrap_or("tcp")
}

/// Whether its clients are asked for certificates.
fn asks(listener: &Listener) -> bool {
    let verified = |field: &Entry| field.name == "verify" && field.text() == "verify_peer";
    matches!(listener.kind, "tls" | "wss" | "quic") && listener.fields.iter().any(verified)
}

/// The spelling that both generations share.
fn spelled(kind: &str, rest: &[&str]) -> String {
    match rest {
        ["websocket", "idle_timeout"] => "ws_idle_timeout".into(),
        ["idle_timeout"] if kind == "quic" => "quic_idle_timeout".into(),
        ["ssl_options", "ocsp", "enable_ocsp_stapling"] => "enable_ocsp_stapling".into(),
        ["ssl_options", "ocsp", name] => format!("ocsp_{name}"),
        ["ssl_options", "managed_certs", ..] => "managed_certs".into(),
        ["tcp_options" | "ssl_options" | "websocket", rest @ ..] if !rest.is_empty() => rest.join("."),
        rest => rest.join("."),
    }
}

/// A listener needs a place; only those of the name `default` have one without being told.
fn with_bind(listener: &Listener, draft: &mut Draft) {
    let bound = listener.fields.iter().any(|field| field.name == "bind") || listener.name == "default";
    if let Some(first) = listener.fields.first().filter(|_| !bound) {
        let port = ["tcp", "tls", "ws", "wss", "quic"].into_iter().zip(["1883", "8883", "8083", "8084", "14567"]);
        let port = port.into_iter().find(|(kind, _)| *kind == listener.kind).map_or("1883", |(_, port)| port);
        draft.put(&["listeners", listener.kind, &listener.name, "bind"], port);
        draft.put(&["listeners", listener.kind, &listener.name, "enabled"], false);
        draft.action(first.at, &first.key, "the listener has no bind, so it stays shut (enabled = false)");
    }
}

/// What `mqtt` says of certificates, on each listener that asks for some.
fn spread(listener: &mut Listener, terms: &[Entry]) {
    if asks(listener) {
        for term in terms {
            listener.fields.push(Entry { name: term.name.clone(), ..term.clone() });
        }
    }
}

/// What has no counterpart, for tests.
#[cfg(test)]
pub(super) use families::all as families;
