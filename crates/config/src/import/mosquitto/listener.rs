//! Listeners of Mosquitto.

use std::net::{IpAddr, SocketAddr};

use toml_edit::Value;

use super::super::ciphers;
use super::super::draft::{Amount, At, Draft, plain_name};
use super::super::place::{Entry, Place, Rule, list};
use super::super::written;
use super::Listener;
use super::options::{self, Take};

const ACL: &str = "there is no access control list yet: who has been let in may publish and subscribe to everything";
const PLUGINS: &str = "plugins of Mosquitto can't be loaded; users are those of `breakwater users`";
const PASSWORDS: &str = "`breakwater users import FILE` takes over the users of that file";
const PSK: &str = "keys shared beforehand (PSK) are not spoken by the TLS library; use certificates";

/// Writes all listeners. The first one has no line of its own: it is there if anything is said of it.
pub(super) fn write(draft: &mut Draft, listeners: Vec<Listener>, security: &[Entry]) {
    let mut named: Vec<(&'static str, String)> = Vec::new();
    let first = listeners
        .first()
        .is_some_and(|first| first.port.is_some() || first.options.iter().any(|entry| opens(&entry.name)));
    let mut given = listeners;
    // What is said before the first listener, where that is none of its own, is of security alone.
    let before = if first || given.is_empty() { Vec::new() } else { given.remove(0).options };
    if given.is_empty() {
        secured(draft, &before, &[]);
    } else {
        for entry in &before {
            draft.not_mapped(entry.at, &entry.key, "it stands before the first listener, and so concerns none");
        }
    }
    for listener in &given {
        one(draft, listener, &mut named, security);
    }
    if given.is_empty() {
        draft.put(&["listeners", "tcp", "default", "bind"], list(["127.0.0.1:1883".into(), "[::1]:1883".into()]));
        draft.changed(
            At::ALL,
            "",
            "no listener is named, so only clients on this machine can connect, as with Mosquitto",
        );
        secured(draft, security, &[]);
    } else {
        secured(draft, security, &named);
    }
    draft.put(&["listeners", "defaults"], false);
}

/// Options that bring the first listener about; those of security speak of it but don't.
fn opens(name: &str) -> bool {
    matches!(options::find(name), Some(Take::Listener(_)))
}

fn find<'a>(listener: &'a Listener, name: &str) -> Option<&'a Entry> {
    listener.options.iter().rev().find(|entry| entry.name == name)
}

fn one(draft: &mut Draft, listener: &Listener, named: &mut Vec<(&'static str, String)>, security: &[Entry]) {
    let line = listener.opened.as_ref().or(listener.port.as_ref()).or_else(|| listener.options.first());
    let Some(line) = line.cloned() else { return };
    let (port, host) = match (&listener.opened, &listener.port) {
        (None, None) => ("1883".to_owned(), None),
        _ => {
            let text = line.text();
            let (port, host) = text
                .split_once(char::is_whitespace)
                .map_or((text.as_str(), None), |(port, host)| (port, Some(host.trim())));
            (port.to_owned(), host.map(str::to_owned))
        }
    };
    let host = host.filter(|host| !host.starts_with('#')).or_else(|| find(listener, "bind_address").map(Entry::text));
    let web = find(listener, "protocol").is_some_and(|entry| entry.text() == "websockets");
    let secure = find(listener, "certfile").is_some() || find(listener, "keyfile").is_some();
    let kind = match (port.as_str(), web, secure) {
        ("0", false, _) => "unix",
        (_, false, false) => "tcp",
        (_, false, true) => "tls",
        (_, true, false) => "ws",
        (_, true, true) => "wss",
    };
    let name = name_of(kind, &port, named);
    named.push((kind, name.clone()));
    let mut place = Place::new(draft, kind, &name, &listener.options);
    bind(&mut place, &line, &port, host.as_deref());
    for entry in &listener.options {
        option(&mut place, entry, secure);
    }
    if secure {
        tls(&mut place);
    }
    let own: Vec<Entry> = listener
        .options
        .iter()
        .filter(|entry| matches!(options::find(&entry.name), Some(Take::Security)))
        .cloned()
        .collect();
    if !own.is_empty() {
        secured(place.draft, &own, &[(kind, name.clone())]);
    } else if security.is_empty() && find(listener, "listener_allow_anonymous").is_none() {
        let text = "clients from other machines need a name, as with Mosquitto's default; `breakwater users add NAME` gives one";
        place.draft.changed(At::ALL, "allow_anonymous", text);
    }
}

fn name_of(kind: &str, port: &str, named: &[(&'static str, String)]) -> String {
    let taken = |name: &str| named.iter().any(|(known, other)| *known == kind && other == name);
    if !taken("default") {
        return "default".into();
    }
    let base =
        if kind == "unix" { "socket".to_owned() } else { plain_name(&format!("p{port}")).chars().take(24).collect() };
    let mut name = base.clone();
    for number in 2_u32.. {
        if !taken(&name) {
            break;
        }
        name = format!("{base}-{number}");
    }
    name
}

fn bind(place: &mut Place<'_>, line: &Entry, port: &str, host: Option<&str>) {
    for name in ["bind_address", "bind_interface", "socket_domain"] {
        if let Some(entry) = place.field(name).cloned() {
            place.draft.mapped(entry.at);
        }
    }
    let Ok(number) = port.parse::<u16>() else {
        place.put("enabled", false);
        return place.draft.unreadable(line.at, &line.key, "a port, and an address behind it if need be");
    };
    place.draft.mapped(line.at);
    let interface = place.field("bind_interface").map(Entry::text);
    let domain = place.field("socket_domain").map(Entry::text);
    let value: Value = match (host, interface, domain.as_deref()) {
        (Some(path), ..) if number == 0 => path.into(),
        (None, ..) if number == 0 => {
            place.put("enabled", false);
            return place.draft.action(line.at, &line.key, "port 0 needs the path of a unix socket behind it");
        }
        (Some("localhost"), ..) => list([format!("127.0.0.1:{port}"), format!("[::1]:{port}")]),
        (Some(host), ..) => match host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, number).to_string().into(),
            Err(_) => {
                place.put("enabled", false);
                let text = "a host name can't be bound to, so the listener stays shut (enabled = false): write its address into bind, or an interface as NAME:PORT";
                place.draft.action(line.at, &line.key, text);
                format!("127.0.0.1:{port}").into()
            }
        },
        (None, Some(interface), _) => format!("{interface}:{port}").into(),
        (None, None, Some("ipv4")) => format!("0.0.0.0:{port}").into(),
        (None, None, Some("ipv6")) => format!("[::]:{port}").into(),
        (None, None, _) => port.into(),
    };
    place.put("bind", value);
}

fn option(place: &mut Place<'_>, entry: &Entry, secure: bool) {
    if entry.name == "protocol" {
        return match entry.text().as_str() {
            "mqtt" | "websockets" => place.draft.mapped(entry.at),
            other => {
                place.put("enabled", false);
                let text = format!("{other} is not spoken, so the listener stays shut (enabled = false)");
                place.draft.action(entry.at, &entry.key, text);
            }
        };
    }
    let of_tls = matches!(
        entry.name.as_str(),
        "cafile"
            | "capath"
            | "ciphers"
            | "ciphers_tls1.3"
            | "crlfile"
            | "require_certificate"
            | "tls_version"
            | "use_identity_as_username"
            | "use_subject_as_username"
    );
    if of_tls && !secure {
        return place.draft.not_mapped(
            entry.at,
            &entry.key,
            "the listener has no certfile and keyfile, and so speaks no TLS",
        );
    }
    if let Some(Take::Listener(rule)) = options::find(&entry.name) {
        place.apply(rule, entry);
    }
}

/// What of TLS only counts together.
fn tls(place: &mut Place<'_>) {
    let required = place.field("require_certificate").and_then(Entry::flag).unwrap_or(false);
    if let Some(entry) = place.field("cafile").cloned() {
        if required {
            place.put("tls.client_authorities", list([entry.text()]));
            place.draft.mapped(entry.at);
        } else {
            let text = "without require_certificate no client is asked for one; if the file completes the chain of your own certificate, append it to certificate";
            place.draft.not_mapped(entry.at, &entry.key, text);
        }
    }
    let [certificate, key, revoked, common, subject] =
        ["certfile", "keyfile", "crlfile", "use_identity_as_username", "use_subject_as_username"]
            .map(|name| place.field(name).cloned());
    place.settle_tls(&[
        ("tls.certificate", certificate.as_ref()),
        ("tls.key", key.as_ref()),
        ("tls.revocation_lists", revoked.as_ref()),
        ("tls.username_from", common.as_ref()),
        ("tls.username_from", subject.as_ref()),
    ]);
    let lists = ["ciphers", "ciphers_tls1.3"].map(|name| place.field(name).cloned());
    if let [None, None] = lists {
        return;
    }
    let mut chosen = Vec::new();
    for (list, all) in lists.iter().zip([ciphers::of_tls12().collect::<Vec<_>>(), ciphers::of_tls13().collect()]) {
        let text = list.as_ref().map(Entry::text).unwrap_or_default();
        let (kept, left) = ciphers::translate(text.split(':'));
        let Some(entry) = list else {
            chosen.extend(all);
            continue;
        };
        if kept.is_empty() {
            place.draft.action(
                entry.at,
                &entry.key,
                "no cipher in it is one by its own name that is spoken here; the safe default stands",
            );
            chosen.extend(all);
        } else if left.is_empty() {
            place.draft.mapped(entry.at);
            chosen.extend(kept);
        } else {
            place.draft.changed(
                entry.at,
                &entry.key,
                format!("left out, as they are not spoken here: {}", left.join(", ")),
            );
            chosen.extend(kept);
        }
    }
    place.put("tls.ciphers", list(chosen.into_iter().map(str::to_owned)));
}

/// Who may come in, for some listeners.
fn secured(draft: &mut Draft, options: &[Entry], places: &[(&'static str, String)]) {
    let checked = options.iter().any(|entry| entry.name != "allow_anonymous" && entry.name != "acl_file");
    for entry in options {
        match (entry.name.as_str(), entry.flag()) {
            ("allow_anonymous", Some(true)) if checked => {
                let text = "the file also names users: clients are asked who they are, and only this machine's may come without a name";
                draft.action(entry.at, &entry.key, text);
            }
            ("allow_anonymous", Some(true)) if places.is_empty() => draft.mapped(entry.at),
            ("allow_anonymous", Some(true)) => {
                for (kind, name) in places {
                    draft.put(&["listeners", kind, name, "authentication"], false);
                }
                let text = "everybody may connect under any name (authentication = false), as it was; take that out of the listeners and name your clients: `breakwater users add NAME`";
                draft.changed(entry.at, &entry.key, text);
            }
            ("allow_anonymous", Some(false)) => {
                draft.changed(
                    entry.at,
                    &entry.key,
                    "clients on this machine may come without a name all the same, if they connect directly",
                );
            }
            ("allow_anonymous", None) => draft.unreadable(entry.at, &entry.key, "true or false"),
            ("password_file", _) => draft.action(entry.at, &entry.key, PASSWORDS),
            ("acl_file", _) => draft.action(entry.at, &entry.key, ACL),
            ("psk_file", _) => draft.action(entry.at, &entry.key, PSK),
            _ => draft.action(entry.at, &entry.key, PLUGINS),
        }
    }
}

pub(super) fn anonymous(place: &mut Place<'_>, entry: &Entry) {
    match entry.flag() {
        Some(true) => {
            place.put("authentication", false);
            let text = "everybody may connect to this listener under any name (authentication = false), as it was";
            place.draft.changed(entry.at, &entry.key, text);
        }
        Some(false) => place.draft.mapped(entry.at),
        None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

pub(super) fn connections(place: &mut Place<'_>, entry: &Entry) {
    if entry.text().starts_with('-') {
        place.draft.mapped(entry.at)
    } else {
        place.apply(&Rule::Count("max_connections"), entry)
    }
}

/// Limits that Mosquitto has per listener stand in a zone of the listener's own.
fn in_zone(place: &mut Place<'_>, entry: &Entry, key: &str) {
    let zone = format!("{}-{}", place.kind, place.name);
    place.put("zone", zone.as_str());
    place.draft.empty_table(&["zones", &zone]);
    match written::count(&entry.text()) {
        Some(amount @ Amount::Number(_)) => place.draft.setting(entry.at, &entry.key, Some(&zone), key, &amount),
        _ => place.draft.unreadable(entry.at, &entry.key, "a number"),
    }
}

pub(super) fn max_qos(place: &mut Place<'_>, entry: &Entry) {
    in_zone(place, entry, "mqtt.max_qos");
}

pub(super) fn aliases_in(place: &mut Place<'_>, entry: &Entry) {
    in_zone(place, entry, "mqtt.max_topic_alias");
}

pub(super) fn aliases_out(place: &mut Place<'_>, entry: &Entry) {
    in_zone(place, entry, "mqtt.max_topic_alias_out");
}

pub(super) fn versions(place: &mut Place<'_>, entry: &Entry) {
    let names: Option<Vec<String>> = entry
        .parts()
        .iter()
        .map(|part| match part.as_str() {
            "3" => Some("3.1".to_owned()),
            "4" => Some("3.1.1".to_owned()),
            "5" => Some("5.0".to_owned()),
            _ => None,
        })
        .collect();
    match names {
        Some(names) if !names.is_empty() => {
            place.put("versions", list(names));
            place.draft.mapped(entry.at);
        }
        _ => place.draft.unreadable(entry.at, &entry.key, "3, 4 and 5, with commas between"),
    }
}

/// Several lines are one list, which the first of them writes.
pub(super) fn origin(place: &mut Place<'_>, entry: &Entry) {
    let lines = place.fields.iter().filter(|other| other.name == "websockets_origin");
    if place.field("websockets_origin").is_some_and(|first| first.at == entry.at) {
        let all: Vec<String> = lines.map(Entry::text).collect();
        place.put("websocket.origins", list(all));
    }
    place.draft.mapped(entry.at);
}

pub(super) fn proxy(place: &mut Place<'_>, entry: &Entry) {
    place.put("proxy_protocol", true);
    place.put("trusted_proxies", list(["127.0.0.1".to_owned(), "::1".to_owned()]));
    let text = format!(
        "a PROXY header, of version 1 or 2, is believed only from proxies that are named: put the addresses of yours into trusted_proxies in {} (this host alone stands there)",
        place.table()
    );
    place.draft.action(entry.at, &entry.key, text);
}

pub(super) fn revocation(place: &mut Place<'_>, entry: &Entry) {
    place.put("tls.revocation_lists", list([entry.text()]));
    place.draft.mapped(entry.at);
}

pub(super) fn require(place: &mut Place<'_>, entry: &Entry) {
    match entry.flag() {
        Some(on) => {
            place.put("tls.client_certificate", if on { "required" } else { "none" });
            place.draft.mapped(entry.at);
            if on && place.field("cafile").is_none() {
                let text = format!(
                    "name the authorities of the clients' certificates: client_authorities in {} (.tls)",
                    place.table()
                );
                place.draft.action(entry.at, &entry.key, text);
            }
        }
        None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

/// The oldest version that is spoken.
pub(super) fn tls_version(place: &mut Place<'_>, entry: &Entry) {
    match entry.text().as_str() {
        "tlsv1.3" => {
            place.put("tls.versions", list(["1.3".to_owned()]));
            place.draft.mapped(entry.at);
        }
        "tlsv1.2" => {
            place.put("tls.versions", list(["1.2".to_owned(), "1.3".to_owned()]));
            place.draft.mapped(entry.at);
        }
        "tlsv1.1" | "tlsv1" => {
            place.put("tls.versions", list(["1.2".to_owned(), "1.3".to_owned()]));
            let text = "only TLS 1.2 and 1.3 are spoken; clients that know nothing newer can't connect by TLS";
            place.draft.changed(entry.at, &entry.key, text);
        }
        _ => place.draft.unreadable(entry.at, &entry.key, "tlsv1.2 or tlsv1.3"),
    }
}

pub(super) fn identity(place: &mut Place<'_>, entry: &Entry) {
    name_from(place, entry, "cn");
}

pub(super) fn subject(place: &mut Place<'_>, entry: &Entry) {
    let both = place.field("use_identity_as_username").and_then(Entry::flag) == Some(true);
    if both && entry.flag() == Some(true) {
        return place.draft.not_mapped(entry.at, &entry.key, "use_identity_as_username goes before it");
    }
    name_from(place, entry, "dn");
}

fn name_from(place: &mut Place<'_>, entry: &Entry, field: &str) {
    match entry.flag() {
        Some(true) => {
            place.put("tls.username_from", field);
            place.draft.mapped(entry.at);
        }
        Some(false) => place.draft.mapped(entry.at),
        None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}
