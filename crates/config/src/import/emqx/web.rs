//! WebSocket and PROXY protocol of an EMQX listener, and whom it lets in.

use super::super::place::{Entry, Place, Rule, list};

pub(super) const SUBPROTOCOLS: &str =
    "the subprotocols mqtt and mqttv3.1 are spoken, as the specification names them; no others";

pub(super) const RULES: &[(&str, Rule)] = &[
    ("mqtt_path", Rule::By(path)),
    (
        "mqtt_piggyback",
        Rule::Always(&["multiple"], "frames may hold several packets or parts of one, as the specification has it"),
    ),
    ("fail_if_no_subprotocol", Rule::By(no_subprotocol)),
    ("supported_subprotocols", Rule::By(subprotocols)),
    ("proxy_address_header", Rule::By(forwarded)),
    ("proxy_port_header", Rule::None("the port of a forwarded client is not read; it stands in no decision")),
    ("compress", Rule::Always(&["false", "off"], "frames are not compressed: clients that offer it go on without")),
    ("validate_utf8", Rule::None("text frames end a connection: MQTT comes in binary frames")),
    ("max_frame_size", Rule::By(frame)),
    (
        "ws_idle_timeout",
        Rule::None("a silent client is ended by its keep alive, one that never connects by mqtt.connect_timeout"),
    ),
    ("check_origin_enable", Rule::By(origins)),
    ("check_origins", Rule::Elsewhere),
    (
        "allow_origin_absence",
        Rule::Always(&["true", "on"], "clients without an Origin, which are no browsers, are let in"),
    ),
];

fn path(place: &mut Place<'_>, entry: &Entry) {
    let text = entry.text();
    if !text.starts_with('/') {
        return place.draft.unreadable(entry.at, &entry.key, "a path that starts with /");
    }
    place.put("websocket.path", text);
    place.draft.mapped(entry.at);
}

fn no_subprotocol(place: &mut Place<'_>, entry: &Entry) {
    match entry.flag() {
        Some(fail) => {
            place.put("websocket.allow_no_subprotocol", !fail);
            place.draft.mapped(entry.at);
        }
        None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

fn subprotocols(place: &mut Place<'_>, entry: &Entry) {
    let all = entry
        .parts()
        .iter()
        .all(|part| matches!(part.trim(), "mqtt" | "mqttv3.1" | "mqtt-v3" | "mqtt-v3.1.1" | "mqtt-v5"));
    if all {
        // What EMQX's own default adds is offered by no client alone.
        place.draft.changed(entry.at, &entry.key, SUBPROTOCOLS);
    } else {
        place.draft.action(entry.at, &entry.key, SUBPROTOCOLS);
    }
}

fn forwarded(place: &mut Place<'_>, entry: &Entry) {
    if entry.text().is_empty() {
        return place.draft.mapped(entry.at);
    }
    let other =
        if entry.text().eq_ignore_ascii_case("x-forwarded-for") { "" } else { "only X-Forwarded-For is read; " };
    let table = format!("[listeners.{}.{}.websocket]", place.kind, place.name);
    let text = format!(
        "{other}a forwarded address is believed only from proxies that are named: set trusted_forwarders = [\"ADDRESS\"] in {table} if there is one"
    );
    place.draft.action(entry.at, &entry.key, text);
}

fn frame(place: &mut Place<'_>, entry: &Entry) {
    if entry.text() == "0" {
        return place.draft.mapped(entry.at);
    }
    place.apply(&Rule::Size("websocket.max_frame_size"), entry);
}

fn origins(place: &mut Place<'_>, entry: &Entry) {
    let Some(checked) = entry.flag() else {
        return place.draft.unreadable(entry.at, &entry.key, "true or false");
    };
    if !checked {
        place.put("websocket.origins", list(["*".to_owned()]));
        let text = "pages from anywhere may connect (websocket.origins = [\"*\"]), as they could before; leave the key out and only this host's may";
        place.draft.changed(entry.at, &entry.key, text);
        return;
    }
    place.draft.mapped(entry.at);
    if let Some(names) = place.field("check_origins").cloned() {
        place.put("websocket.origins", list(names.parts().into_iter().filter(|name| !name.is_empty())));
        place.draft.mapped(names.at);
    }
}

/// The key that [`origins`] reads stands without the one that turns it on.
pub(super) fn leftovers(place: &mut Place<'_>) {
    let checked = place.field("check_origin_enable").and_then(Entry::flag).unwrap_or(false);
    if let Some(names) = place.field("check_origins").cloned()
        && !checked
    {
        place.draft.not_mapped(names.at, &names.key, "it counts only with check_origin_enable = true");
    }
}

pub(super) fn proxy_protocol(place: &mut Place<'_>, entry: &Entry) {
    match entry.flag() {
        Some(true) => {
            place.put("proxy_protocol", true);
            place.put("trusted_proxies", list(["127.0.0.1".to_owned(), "::1".to_owned()]));
            let text = format!(
                "a PROXY header is believed only from proxies that are named, and others are turned away: put the addresses of yours into trusted_proxies in {} (this host alone stands there)",
                place.table()
            );
            place.draft.action(entry.at, &entry.key, text);
        }
        Some(false) => place.draft.mapped(entry.at),
        None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

/// `allow all`, `deny 10.0.0.0/8`: the rules of a listener, all together, in order.
pub(super) fn access(place: &mut Place<'_>) {
    let mut rules: Vec<(Vec<String>, Entry)> = Vec::new();
    for entry in place.fields {
        if entry.name == "access_rules" {
            rules.push((entry.parts(), entry.clone()));
        } else if entry.name.starts_with("access.") {
            rules.push((vec![entry.text()], entry.clone()));
        }
    }
    rules.sort_by_key(|(_, entry)| entry.name.strip_prefix("access.").and_then(|id| id.parse::<u32>().ok()));
    let mut kept = Vec::new();
    for (texts, entry) in rules {
        let good = texts.iter().filter_map(|text| access_rule(text));
        let before = kept.len();
        kept.extend(good);
        if kept.len() - before == texts.len() {
            place.draft.mapped(entry.at);
        } else {
            place.draft.unreadable(
                entry.at,
                &entry.key,
                "allow or deny, and all, an address or a network such as 10.0.0.0/8",
            );
        }
    }
    if !kept.is_empty() && kept != ["allow all"] {
        place.put("access", list(kept));
    }
}

/// A rule in our spelling.
fn access_rule(text: &str) -> Option<String> {
    let (verb, whom) = text.trim().split_once(char::is_whitespace)?;
    let (verb, whom) = (verb.to_ascii_lowercase(), whom.trim());
    let address = whom.parse::<std::net::IpAddr>().is_ok() || whom.parse::<ipnet::IpNet>().is_ok();
    let fits = matches!(verb.as_str(), "allow" | "deny") && (address || whom == "all");
    fits.then(|| format!("{verb} {whom}"))
}
