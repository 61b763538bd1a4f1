//! EMQX 4: a line per key. Neither TOML nor HOCON: a key can hold a value and have keys below it at the same time, as
//! `listener.ssl.external = 8883` and `listener.ssl.external.keyfile = …` do.

mod families;

use super::draft::{Amount, At, Draft};
use super::emqx::{self, Listener, Scope, ZoneTerms};
use super::place::{Block, Entry, Given};
use super::written;

/// Zone keys that are said again on the zone's listeners.
const OF_LISTENERS: [&str; 5] =
    ["allow_anonymous", "mountpoint", "rate_limit.conn_messages_in", "rate_limit.conn_bytes_in", "publish_limit"];

const LOCAL: &str = "clients on this machine may come without a name all the same, if they connect directly";

#[derive(Default)]
struct Found {
    listeners: Vec<Listener>,
    zones: Vec<ZoneTerms>,
    anonymous: Option<Entry>,
    /// Rules for topics.
    rewrites: Vec<(At, Block)>,
    /// Topics for all clients, by their number.
    subscriptions: Vec<(String, Vec<Entry>)>,
    /// Something in the file knows who clients are.
    authenticates: Option<At>,
}

pub(super) fn read(text: &str, draft: &mut Draft) {
    let mut found = Found::default();
    for entry in entries(text, draft) {
        sort(entry, &mut found, draft);
    }
    for listener in &mut found.listeners {
        with_bind(listener, draft);
    }
    subscriptions(&found.subscriptions, draft);
    emqx::rewrites(draft, "module.rewrite", &found.rewrites);
    anonymous(&mut found, draft);
    if !found.listeners.is_empty() {
        // A file that names its listeners means those and no others.
        draft.put(&["listeners", "defaults"], false);
    }
    emqx::listeners(draft, &found.listeners, &found.zones, found.anonymous.as_ref());
}

/// The lines that say something. Of two for one key the last counts.
fn entries(text: &str, draft: &mut Draft) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut places = std::collections::HashMap::<String, usize>::new();
    for (number, line) in (1..).zip(text.lines()) {
        let at = At::line(0, number);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            draft.action(at, "", "this is no line of the form KEY = VALUE");
            continue;
        };
        let key = key.trim().to_owned();
        // Topics may hold what begins a comment elsewhere.
        let value = if key.starts_with("module.") { value.trim().to_owned() } else { value_of(value) };
        let entry = Entry { key: key.clone(), name: key.clone(), given: Given::Text(value), at };
        match places.get(&key) {
            Some(&place) => {
                let before = std::mem::replace(&mut entries[place], entry);
                draft.not_mapped(before.at, &key, format!("given again in line {number}, which counts"));
            }
            None => {
                places.insert(key, entries.len());
                entries.push(entry);
            }
        }
    }
    entries
}

/// The value without its quotes, or without the comment behind it.
fn value_of(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((inner, _)) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.to_owned();
        }
    }
    text.split('#').next().unwrap_or_default().trim().to_owned()
}

fn sort(mut entry: Entry, found: &mut Found, draft: &mut Draft) {
    let key = entry.key.clone();
    let mut parts = key.splitn(4, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("listener"), Some(kind), Some(name)) => {
            let Some(kind) = kind_of(kind) else {
                return draft.action(entry.at, &key, "listeners are of the types tcp, ssl, ws and wss");
            };
            entry.name = spelled(kind, parts.next().unwrap_or("bind"));
            emqx::listener(draft, &mut found.listeners, (kind, name), entry);
        }
        (Some("zone"), Some(name), Some(first)) => {
            entry.name = parts.next().map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}"));
            zone(name, entry, found, draft);
        }
        (Some("mqtt"), Some(name), None) => {
            entry.name = name.to_owned();
            if !emqx::limit(draft, Scope::All, &entry) {
                unknown(&entry, draft);
            }
        }
        _ => other(entry, found, draft),
    }
}

fn zone(name: &str, entry: Entry, found: &mut Found, draft: &mut Draft) {
    if OF_LISTENERS.contains(&entry.name.as_str()) {
        if entry.name == "allow_anonymous" && entry.flag() != Some(true) {
            draft.changed(entry.at, &entry.key, LOCAL);
        }
        emqx::zone_term(draft, &mut found.zones, name, entry);
    } else if entry.name == "bypass_auth_plugins" {
        let text = "say authentication = false on the listeners of this zone if their clients are not to be asked who they are";
        match entry.flag() {
            Some(false) => draft.mapped(entry.at),
            _ => draft.action(entry.at, &entry.key, text),
        }
    } else if !emqx::limit(draft, Scope::Zone(name), &entry) {
        unknown(&entry, draft);
    }
}

fn unknown(entry: &Entry, draft: &mut Draft) {
    draft.action(
        entry.at,
        &entry.key,
        "EMQX 4 has no such key that we know of; look whether it is spelled right and whether it matters",
    );
}

/// Everything outside listeners, zones and limits.
fn other(entry: Entry, found: &mut Found, draft: &mut Draft) {
    let text = entry.text();
    match entry.key.as_str() {
        "allow_anonymous" => {
            if entry.flag() != Some(true) {
                draft.changed(entry.at, &entry.key, LOCAL);
            }
            found.anonymous = Some(entry);
        }
        "broker.sys_interval" => setting(draft, &entry, "sys.interval", written::seconds(&text)),
        "broker.shared_subscription_strategy" => {
            let entry = Entry { name: "shared_subscription_strategy".into(), ..entry };
            emqx::limit(draft, Scope::All, &entry);
        }
        "flapping_detect_policy" => {
            emqx::limit(draft, Scope::All, &entry);
        }
        "retainer.max_retained_messages" => {
            setting(draft, &entry, "retained.max_messages", written::count_or_zero(&text))
        }
        "retainer.max_payload_size" => setting(draft, &entry, "retained.max_payload", written::size(&text)),
        "delayed.enable" | "delayed.max_delayed_messages" => {
            emqx::delayed(draft, entry.key.trim_start_matches("delayed."), &entry);
        }
        key if subscription(key).is_some() => {
            let (number, name) = subscription(key).map_or(("", ""), |parts| parts);
            let entry = Entry { name: name.to_owned(), ..entry.clone() };
            match found.subscriptions.iter_mut().find(|(known, _)| known == number) {
                Some((_, entries)) => entries.push(entry),
                None => found.subscriptions.push((number.to_owned(), vec![entry])),
            }
        }
        key if key.starts_with("module.rewrite.") => match rewrite(key, &text) {
            Some(rule) => found.rewrites.push((entry.at, rule)),
            None => draft.unreadable(entry.at, key, "a filter, an expression and a topic"),
        },
        "retainer.expiry_interval" if matches!(text.as_str(), "0" | "0s" | "") => draft.mapped(entry.at),
        "retainer.expiry_interval" => setting(draft, &entry, "retained.expiry", written::seconds(&text)),
        "retainer.storage_type" if text != "ram" => draft.mapped(entry.at),
        key => match families::of(key) {
            Some((severity, reason)) => {
                if key.starts_with("auth.") {
                    found.authenticates.get_or_insert(entry.at);
                }
                draft.remark(entry.at, severity, key, reason);
            }
            None => unknown(&entry, draft),
        },
    }
}

/// `module.subscription.1.topic`: the number and the rest.
fn subscription(key: &str) -> Option<(&str, &str)> {
    let (number, name) = key.strip_prefix("module.subscription.")?.split_once('.')?;
    ["topic", "qos", "nl", "rap", "rh"].contains(&name).then_some((number, name))
}

/// One subscription for all clients stands on several lines.
fn subscriptions(found: &[(String, Vec<Entry>)], draft: &mut Draft) {
    for (number, entries) in found {
        let block: Block = entries.iter().map(|entry| (entry.name.clone(), entry.text())).collect();
        let key = format!("module.subscription.{number}");
        for entry in entries {
            draft.mapped(entry.at);
        }
        if let Some(first) = entries.first() {
            emqx::auto_subscribe(draft, &key, &[(first.at, block)]);
        }
    }
}

/// `module.rewrite.pub.rule.1 = FILTER EXPRESSION TOPIC`.
fn rewrite(key: &str, text: &str) -> Option<Block> {
    let action = match key.split('.').nth(2)? {
        "pub" => "publish",
        "sub" => "subscribe",
        "rule" => "all",
        _ => return None,
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [source, expression, destination] = words[..] else { return None };
    let pairs = [("action", action), ("source_topic", source), ("re", expression), ("dest_topic", destination)];
    Some(pairs.map(|(key, text)| (key.to_owned(), text.to_owned())).to_vec())
}

fn setting(draft: &mut Draft, entry: &Entry, ours: &str, amount: Option<Amount>) {
    match amount {
        Some(Amount::Number(0)) if ours == "sys.interval" => {
            draft.setting(entry.at, &entry.key, None, ours, &Amount::Word("never".into()));
        }
        Some(amount) => draft.setting(entry.at, &entry.key, None, ours, &amount),
        None => draft.unreadable(entry.at, &entry.key, "a number, a size or a time"),
    }
}

fn kind_of(kind: &str) -> Option<&'static str> {
    match kind {
        "tcp" => Some("tcp"),
        "ssl" => Some("tls"),
        "ws" => Some("ws"),
        "wss" => Some("wss"),
        _ => None,
    }
}

/// The spelling that both generations share.
fn spelled(kind: &str, name: &str) -> String {
    match name {
        "key_password" => "password",
        "tls_versions" => "versions",
        "idle_timeout" if kind.starts_with('w') => "ws_idle_timeout",
        other => other,
    }
    .to_owned()
}

/// A listener is opened by the line with its port. Without it there are only keys that wait for one.
fn with_bind(listener: &mut Listener, draft: &mut Draft) {
    if listener.fields.iter().any(|field| field.name == "bind") {
        return;
    }
    let (their, port) = match listener.kind {
        "tls" => ("ssl", 8883),
        "ws" => ("ws", 8083),
        "wss" => ("wss", 8084),
        _ => ("tcp", 1883),
    };
    let path = ["listeners", listener.kind, listener.name.as_str()];
    draft.put(&[path[0], path[1], path[2], "enabled"], false);
    draft.put(&[path[0], path[1], path[2], "bind"], i64::from(port).to_string());
    if let Some(first) = listener.fields.first() {
        let text = format!(
            "the line listener.{their}.{} = PORT is missing, so the listener stays shut (enabled = false)",
            listener.name
        );
        draft.action(first.at, &first.key, text);
    }
}

/// What becomes of `allow_anonymous`.
fn anonymous(found: &mut Found, draft: &mut Draft) {
    let given = found.anonymous.clone();
    let wanted = given.as_ref().is_some_and(|entry| entry.flag() == Some(true))
        || found
            .zones
            .iter()
            .flat_map(|zone| &zone.entries)
            .any(|entry| entry.name == "allow_anonymous" && entry.flag() == Some(true));
    if wanted && found.authenticates.is_some() {
        let text = "clients are asked who they are, because the file names a source of users (auth.*); nobody may come in without a name but from this machine";
        for entry in found.anonymous.iter().chain(found.zones.iter().flat_map(|zone| &zone.entries)) {
            if entry.flag() == Some(true) && entry.key.ends_with("allow_anonymous") {
                draft.action(entry.at, &entry.key, text);
            }
        }
        found.anonymous = None;
        for zone in &mut found.zones {
            zone.entries.retain(|entry| entry.name != "allow_anonymous");
        }
    } else if given.is_none() && !found.listeners.is_empty() {
        let text = "EMQX 4 lets everybody in unless allow_anonymous = false; here clients from other machines need a name: `breakwater users add NAME`";
        draft.action(At::ALL, "allow_anonymous", text);
    } else if wanted && found.listeners.is_empty() {
        for entry in given.iter() {
            draft.not_mapped(entry.at, &entry.key, "no listener is in this file that it could concern");
        }
    }
}

/// What has no counterpart, for tests.
#[cfg(test)]
pub(super) use families::all as families;
