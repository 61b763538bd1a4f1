//! Listeners of EMQX.

use super::super::draft::{Amount, Draft, plain_name};
use super::super::place::{Entry, Place, Rule, list, rate_value};
use super::super::written;
use super::{ZoneTerms, tls, web};

/// A listener with all that is said of it.
#[derive(Clone, Debug)]
pub(in super::super) struct Listener {
    /// Our type.
    pub(in super::super) kind: &'static str,
    pub(in super::super) name: String,
    /// The name that it has there.
    given_name: String,
    pub(in super::super) fields: Vec<Entry>,
}

/// Listeners that are taken over: as many as our file may have, less those that are there by themselves.
const LISTENERS_MAX: usize = 250;

/// Puts a key to the listener of that name, a new one if there is none yet.
pub(in super::super) fn listener(
    draft: &mut Draft,
    listeners: &mut Vec<Listener>,
    (kind, name): (&'static str, &str),
    entry: Entry,
) {
    if let Some(known) = listeners.iter_mut().find(|known| known.kind == kind && known.given_name == name) {
        return known.fields.push(entry);
    }
    if listeners.len() >= LISTENERS_MAX {
        return draft.action(entry.at, &entry.key, "there are too many listeners");
    }
    let base = plain_name(name);
    let taken = |free: &str| listeners.iter().any(|known| known.kind == kind && known.name == free);
    let numbered = (2_u32..).map(|number| format!("{}-{number}", &base[..base.len().min(24)]));
    let free = std::iter::once(base.clone()).chain(numbered).find(|free| !taken(free)).unwrap_or_default();
    listeners.push(Listener { kind, name: free, given_name: name.to_owned(), fields: vec![entry] });
}

const ACCEPTS: &str = "every shard accepts for itself; net.accepts_per_turn bounds how many at once";
const STALL: &str = "a client that takes nothing is ended after limits.write_stall, which is one for the whole node";
const BUFFERS: &str = "buffers are shared and bounded by limits.out_buffer; nothing is to be set per connection";

const RULES: &[(&str, Rule)] = &[
    ("bind", Rule::By(bind)),
    ("enable", Rule::Flag("enabled")),
    ("enabled", Rule::Flag("enabled")),
    ("acceptors", Rule::None(ACCEPTS)),
    ("active_n", Rule::None("how much is read at once is bounded by turn.read_bytes")),
    ("tcp_backend", Rule::None("there is one way to use sockets")),
    ("max_connections", Rule::By(connections)),
    ("max_conn_rate", Rule::Connections("accept_rate", "accept_burst")),
    ("max_conn_burst", Rule::By(burst)),
    ("messages_rate", Rule::Rate("messages_rate_in", "messages_rate_in_burst")),
    ("messages_burst", Rule::By(burst)),
    ("bytes_rate", Rule::Rate("bytes_rate_in", "bytes_rate_in_burst")),
    ("rate_limit", Rule::Rate("bytes_rate_in", "bytes_rate_in_burst")),
    ("bytes_burst", Rule::By(burst)),
    ("delivery_messages_rate", Rule::Rate("messages_rate_out", "messages_rate_out_burst")),
    ("delivery_messages_burst", Rule::By(burst)),
    ("delivery_bytes_rate", Rule::Rate("bytes_rate_out", "bytes_rate_out_burst")),
    ("delivery_bytes_burst", Rule::By(burst)),
    (
        "subscribes_rate",
        Rule::None("SUBSCRIBE packets have no rate of their own; mqtt.max_subscriptions and bytes_rate_in bound them"),
    ),
    (
        "subscribes_burst",
        Rule::None("SUBSCRIBE packets have no rate of their own; mqtt.max_subscriptions and bytes_rate_in bound them"),
    ),
    ("zone", Rule::By(zone)),
    ("mountpoint", Rule::By(mountpoint)),
    ("enable_authn", Rule::By(authentication)),
    ("access_rules", Rule::Elsewhere),
    ("proxy_protocol", Rule::By(web::proxy_protocol)),
    ("proxy_protocol_timeout", Rule::None("one time counts for all before the first byte of MQTT: handshake_timeout")),
    ("backlog", Rule::Count("backlog")),
    ("nodelay", Rule::Flag("nodelay")),
    ("recbuf", Rule::Size("receive_buffer")),
    ("sndbuf", Rule::Size("send_buffer")),
    ("keepalive", Rule::By(keepalive)),
    ("send_timeout", Rule::None(STALL)),
    ("send_timeout_close", Rule::Always(&["true", "on"], STALL)),
    ("buffer", Rule::None(BUFFERS)),
    ("tune_buffer", Rule::None(BUFFERS)),
    ("high_watermark", Rule::None(BUFFERS)),
    ("nolinger", Rule::Always(&["false", "off"], "sockets are closed in order, not reset")),
    ("reuseaddr", Rule::Always(&["true", "on"], "addresses are always reused at once")),
    ("allow_log_packet_data_from", Rule::None("what packets hold is never logged")),
    ("current_connections", Rule::None("it tells a state and sets nothing")),
    ("running", Rule::None("it tells a state and sets nothing")),
    ("quic_idle_timeout", Rule::By(quic_idle)),
    ("handshake_idle_timeout", Rule::Span("handshake_timeout", written::millis)),
    (
        "keep_alive_interval",
        Rule::Always(&["0", "0s"], "the server sends no keep-alives of QUIC; clients that need them do"),
    ),
    ("peer_bidi_stream_count", Rule::Count("quic.max_streams")),
];

/// Tuning of EMQX's QUIC library, which is another one.
const QUIC_TUNING: &str = "this tunes another QUIC library; there is nothing to set";

/// The rule for a name, if there is one.
fn rule(name: &str) -> Option<&'static Rule> {
    let mut all = RULES.iter().chain(tls::RULES).chain(web::RULES);
    all.find(|(known, _)| *known == name).map(|(_, rule)| rule)
}

/// The names of all keys of a listener.
#[cfg(test)]
pub(in super::super) fn known() -> impl Iterator<Item = &'static str> {
    RULES.iter().chain(tls::RULES).chain(web::RULES).map(|(name, _)| *name)
}

/// Writes all listeners; what their zones say comes with them.
pub(in super::super) fn listeners(
    draft: &mut Draft,
    listeners: &[Listener],
    zones: &[ZoneTerms],
    anonymous: Option<&Entry>,
) {
    for listener in listeners {
        let mut place = Place::new(draft, listener.kind, &listener.name, &listener.fields);
        for entry in &listener.fields {
            one(&mut place, entry);
        }
        if let Some(first) = listener.fields.first().filter(|_| listener.name != listener.given_name) {
            place.draft.changed(
                first.at,
                &first.key,
                format!("its name is {} here: letters, digits, - and _", listener.name),
            );
        }
        web::access(&mut place);
        web::leftovers(&mut place);
        tls::together(&mut place);
        let own = place.field("zone").map(Entry::text);
        let zone = zones.iter().find(|zone| Some(&zone.name) == own.as_ref());
        let mut open = anonymous.cloned();
        for entry in zone.iter().flat_map(|zone| &zone.entries) {
            match entry.name.as_str() {
                "allow_anonymous" => open = Some(entry.clone()),
                "mountpoint" if place.field("mountpoint").is_none() => mountpoint(&mut place, entry),
                "rate_limit.conn_messages_in" | "publish_limit" => {
                    place.apply(&Rule::Rate("messages_rate_in", "messages_rate_in_burst"), entry);
                }
                "rate_limit.conn_bytes_in" => place.apply(&Rule::Rate("bytes_rate_in", "bytes_rate_in_burst"), entry),
                "peer_cert_as_username" if place.has_tls() => {
                    tls::from_certificate(&mut place, entry, "tls.username_from")
                }
                "peer_cert_as_clientid" if place.has_tls() => {
                    tls::from_certificate(&mut place, entry, "tls.client_id_from")
                }
                _ => {}
            }
        }
        let terms = listener.fields.iter().chain(zone.iter().flat_map(|zone| &zone.entries));
        let term = |name: &str| terms.clone().find(|entry| entry.name == name);
        place.settle_tls(&[
            ("tls.username_from", term("peer_cert_as_username")),
            ("tls.client_id_from", term("peer_cert_as_clientid")),
            ("tls.key_password", term("password")),
            ("tls.key_password_file", term("password")),
            ("tls.certificate", term("certfile")),
            ("tls.key", term("keyfile")),
        ]);
        if let Some(open) = open.filter(|open| open.flag() == Some(true)) {
            place.put("authentication", false);
            let text = "everybody may connect under any name (authentication = false), as it was; take that out of the listeners and name your clients: `breakwater users add NAME`";
            place.draft.changed(open.at, &open.key, text);
        }
    }
    for zone in zones {
        unused(draft, zone);
    }
}

/// Zone terms that no listener has taken up.
fn unused(draft: &mut Draft, zone: &ZoneTerms) {
    for entry in &zone.entries {
        if !draft.seen(entry.at) {
            draft.not_mapped(entry.at, &entry.key, "no listener that it could concern is in this file");
        }
    }
}

fn one(place: &mut Place<'_>, entry: &Entry) {
    let name = entry.name.as_str();
    if entry.is_block() {
        let text = "blocks are not expected there; nothing of it is taken over";
        let authentication = name.starts_with("authentication");
        let text = if authentication {
            "a listener has no chain of authenticators of its own yet; users are those of `breakwater users`"
        } else {
            text
        };
        return place.draft.action(entry.at, &entry.key, text);
    }
    if name.starts_with("access.") {
        return;
    }
    if name.starts_with("deflate_opts") {
        return place.draft.not_mapped(
            entry.at,
            &entry.key,
            "frames are not compressed: clients that offer it go on without",
        );
    }
    if name.starts_with("limiter") {
        let text = "limits of this old form are not read: say them as messages_rate_in, bytes_rate_in and accept_rate";
        return place.draft.action(entry.at, &entry.key, text);
    }
    if name.starts_with("authentication") {
        let text = "a listener has no chain of authenticators of its own yet; users are those of `breakwater users`";
        return place.draft.action(entry.at, &entry.key, text);
    }
    let secured = tls::RULES.iter().any(|(known, _)| *known == name);
    let certificate = name.starts_with("peer_cert_as");
    match rule(name) {
        Some(_) if secured && !certificate && !place.has_tls() => {
            place.draft.not_mapped(entry.at, &entry.key, "this listener speaks no TLS");
        }
        Some(rule) => place.apply(rule, entry),
        None if place.kind == "quic" => place.draft.not_mapped(entry.at, &entry.key, QUIC_TUNING),
        None => place.draft.action(
            entry.at,
            &entry.key,
            format!("{} has no key {name:?} that we know of; look whether it matters", "a listener"),
        ),
    }
}

/// `1883`, `0.0.0.0:1883`, `[::]:1883`, `:::1883`, `:1883`.
fn bind(place: &mut Place<'_>, entry: &Entry) {
    let text = entry.text();
    let (host, port) = text.rsplit_once(':').unwrap_or(("", &text));
    let Ok(port) = port.parse::<u16>() else {
        return place.draft.unreadable(entry.at, &entry.key, "a port, or ADDRESS:PORT");
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let bound = match host {
        "" => port.to_string(),
        "localhost" => {
            place.put("bind", list([format!("127.0.0.1:{port}"), format!("[::1]:{port}")]));
            return place.draft.mapped(entry.at);
        }
        _ => match host.parse::<std::net::IpAddr>() {
            Ok(address) => std::net::SocketAddr::new(address, port).to_string(),
            Err(_) => {
                place.put("bind", format!("127.0.0.1:{port}"));
                let text = "a host name can't be bound to, so only this machine can connect; write the address, or an interface as NAME:PORT";
                return place.draft.action(entry.at, &entry.key, text);
            }
        },
    };
    place.put("bind", bound);
    place.draft.mapped(entry.at);
}

fn connections(place: &mut Place<'_>, entry: &Entry) {
    match written::count_or_zero(&entry.text()) {
        Some(_) => place.apply(&Rule::Count("max_connections"), entry),
        None => place.draft.unreadable(entry.at, &entry.key, "a number"),
    }
}

/// What may come at once above a rate: said there per time, here as an amount.
fn burst(place: &mut Place<'_>, entry: &Entry) {
    let ours = match entry.name.as_str() {
        "max_conn_burst" => "accept_burst",
        "messages_burst" => "messages_rate_in_burst",
        "bytes_burst" => "bytes_rate_in_burst",
        "delivery_messages_burst" => "messages_rate_out_burst",
        _ => "bytes_rate_out_burst",
    };
    match written::rate(&entry.text()) {
        Some(Some(rate)) => {
            place.put(ours, rate_value(rate.amount, ours.starts_with("bytes"), false, false));
            let text = format!("{ours} is an amount that fills up at the ordinary rate, without a time of its own");
            place.draft.changed(entry.at, &entry.key, text);
        }
        Some(None) => place.draft.mapped(entry.at),
        None => place.draft.unreadable(entry.at, &entry.key, "a rate, such as 1000/1m"),
    }
}

fn zone(place: &mut Place<'_>, entry: &Entry) {
    let name = entry.text();
    if !name.is_empty() && name != "default" {
        let name = plain_name(&name);
        place.put("zone", name.as_str());
        place.draft.empty_table(&["zones", &name]);
    }
    place.draft.mapped(entry.at);
}

fn mountpoint(place: &mut Place<'_>, entry: &Entry) {
    let text = entry.text();
    if text.contains("%c") || text.contains("%u") || text.contains("${") {
        let what =
            "a mountpoint is the same for all clients of a listener; placeholders are not filled in, so none is set";
        return place.draft.action(entry.at, &entry.key, what);
    }
    place.apply(&Rule::Text("mountpoint"), entry);
}

fn authentication(place: &mut Place<'_>, entry: &Entry) {
    match (entry.text().as_str(), entry.flag()) {
        ("quick_deny_anonymous", _) => {
            place.put("authentication", true);
            place.draft.mapped(entry.at);
        }
        (_, Some(on)) => {
            place.put("authentication", on);
            place.draft.mapped(entry.at);
        }
        _ => place.draft.unreadable(entry.at, &entry.key, "true, false or quick_deny_anonymous"),
    }
}

/// `none`, or idle time, interval and probes in seconds.
fn keepalive(place: &mut Place<'_>, entry: &Entry) {
    let parts: Vec<Option<u64>> = entry.parts().iter().map(|part| written::digits(part.trim())).collect();
    match parts.as_slice() {
        _ if entry.text() == "none" => place.put("keep_alive", "off"),
        [Some(idle), Some(interval), Some(probes)] => place.put("keep_alive", format!("{idle}s,{interval}s,{probes}")),
        _ => return place.draft.unreadable(entry.at, &entry.key, "none, or three numbers such as 240,30,5"),
    }
    place.draft.mapped(entry.at);
}

fn quic_idle(place: &mut Place<'_>, entry: &Entry) {
    match written::millis(&entry.text()) {
        Some(Amount::Number(0)) => {
            place.draft.changed(
                entry.at,
                &entry.key,
                "a QUIC connection always has an idle timeout (quic.idle_timeout); the default stands",
            );
        }
        Some(_) => place.apply(&Rule::Span("quic.idle_timeout", written::millis), entry),
        None => place.draft.unreadable(entry.at, &entry.key, "a time, such as 30s"),
    }
}
