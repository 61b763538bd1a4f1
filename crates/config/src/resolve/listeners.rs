//! The listeners: which there are, and whether they go together.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use breakwater_acme::Options;
use breakwater_net::Bind;

use super::{Resolved, Zones};
use crate::gather::{Gathered, ListenerName, Section};
use crate::listener::{Draft, LISTENER_TABLE, Listener, Scheme, finish as build};
use crate::nearest::nearest;
use crate::raw::{Fault, Origin};
use crate::surroundings::Surroundings;
use crate::value::quoted;

/// A listener of which nobody has said anything has no section.
pub(super) struct Drafted<'a> {
    draft: Draft,
    section: Option<&'a Section>,
    spoiled: bool,
}

/// Names of all listeners: those that have a section, and the default ones.
pub(super) fn names(gathered: &Gathered, resolved: &Resolved) -> BTreeSet<ListenerName> {
    let mut names: BTreeSet<ListenerName> = gathered.listeners.keys().cloned().collect();
    if resolved.defaults {
        // There is no place where everybody would look for a unix socket.
        let ports = Scheme::ALL.into_iter().filter(|kind| kind.port().is_some());
        names.extend(ports.map(|kind| (kind, "default".into())));
    }
    names
}

/// All listeners as their settings say, those too that are not wanted in the end: faults in them are told all the same.
pub(super) fn drafts<'a>(
    gathered: &'a Gathered,
    resolved: &Resolved,
    around: &Surroundings,
    base: &Path,
    faults: &mut Vec<Fault>,
) -> Vec<Drafted<'a>> {
    let one = |name: ListenerName| {
        let section = gathered.listeners.get(&name);
        let mut draft = Draft::new(name.0, &name.1, &resolved.net, around.ipv6);
        let mut spoiled = section.is_some_and(|section| section.spoiled);
        let port = default_place(&name);
        for (row, setting) in LISTENER_TABLE.iter().enumerate() {
            let default = if setting.key == "bind" { port.clone() } else { setting.default_value() };
            if let Some(value) = default {
                let stored = (setting.store)(&mut draft, &value, base);
                debug_assert!(stored.is_ok(), "{}: {stored:?}", setting.key);
            }
            for given in section.map_or(&[][..], |section| section.given(row)) {
                let base = if matches!(given.origin, Origin::File { .. }) { base } else { &around.directory };
                if let Err(what) = (setting.store)(&mut draft, &given.value, base) {
                    let key = format!("listeners.{}.{}.{}", name.0, name.1, setting.key);
                    faults.push(Fault { origin: given.origin.clone(), key, what });
                    spoiled = true;
                }
            }
        }
        Drafted { draft, section, spoiled }
    };
    names(gathered, resolved).into_iter().map(one).collect()
}

/// Where a listener `default` listens unless it says otherwise.
pub(super) fn default_place((kind, name): &ListenerName) -> Option<crate::Value> {
    let port = kind.port().filter(|_| &**name == "default")?;
    Some(crate::Value::List(vec![port.to_string().into()]))
}

/// Checks each listener as a whole, and all of them against each other.
pub(super) fn finish(
    drafts: Vec<Drafted<'_>>,
    gathered: &Gathered,
    zones: &Zones,
    around: &Surroundings,
    resolved: &mut Resolved,
    faults: &mut Vec<Fault>,
) {
    let mut ready: Vec<(Listener, Option<&Section>)> = Vec::new();
    for Drafted { draft, section, spoiled } in drafts {
        let before = faults.len();
        let name = format!("listeners.{}.{}", draft.kind, draft.name);
        let place = |key: &str| {
            let row = LISTENER_TABLE.iter().position(|setting| setting.key == key).unwrap_or_default();
            let given = section.and_then(|section| section.given(row).last()).map(|given| given.origin.clone());
            given.or_else(|| section.and_then(|section| section.origin.clone())).unwrap_or(Origin::Default)
        };
        let fault = |(key, what): (&str, String)| Fault { origin: place(key), key: format!("{name}.{key}"), what };
        let foreign = section.map(|section| foreign_keys(&draft, section)).unwrap_or_default();
        let spoiled = spoiled || !foreign.is_empty();
        faults.extend(foreign.into_iter().map(fault));
        let zone = zones.get(&draft.zone);
        if zone.is_none() {
            let known: Vec<&str> = zones.keys().map(|name| &**name).filter(|name| !name.is_empty()).collect();
            let meant = match known.is_empty() {
                true => "there are none; write a section [zones.NAME]".to_owned(),
                false => format!("did you mean {}?", nearest(&draft.zone, known.into_iter())),
            };
            faults.push(fault(("zone", format!("there is no zone {}; {meant}", quoted(&draft.zone)))));
        }
        if let Some(acme) = draft.acme().filter(|name| !gathered.acme.contains_key(*name)) {
            faults.push(fault(("tls.acme", format!("there is no section [acme.{acme}]; write one"))));
        }
        let wanted = gathered.listen.is_empty() || gathered.listen.contains(&(draft.kind, draft.name.clone()));
        let enabled = draft.enabled && wanted;
        // Without its zone it is not taken up, and checked all the same.
        let Some(zone) = zone.or_else(|| zones.get("")) else { continue };
        match build(draft, zone, &resolved.terms, around) {
            Ok(listener) if enabled && faults.len() == before => {
                ready.push((Listener { written_down: section.is_some(), ..listener }, section));
            }
            Ok(_) => {}
            Err(_) if spoiled => {}
            Err(complaints) => faults.extend(complaints.into_iter().map(fault)),
        }
    }
    resolved.listeners = apart(ready, &mut resolved.remarks, faults);
    for Options { name, .. } in &resolved.acme {
        if !resolved.listeners.iter().any(|listener| listener.acme.as_ref() == Some(name)) {
            resolved.remarks.push(format!(
                "acme.{name} is ordered and no listener shows it; set tls.acme = \"{name}\" in that of a listener"
            ));
        }
    }
}

/// Keys that say something about what the listener doesn't do.
fn foreign_keys(draft: &Draft, section: &Section) -> Vec<(&'static str, String)> {
    let name = &draft.name;
    let unix = draft.bind.iter().any(|place| matches!(place, Bind::Unix { .. }));
    let mut foreign = Vec::new();
    for row in section.given.keys() {
        let key = LISTENER_TABLE[*row].key;
        let what = match key.split('.').next() {
            Some("tls") if !draft.speaks_tls() => {
                format!("this listener speaks no TLS: name it [listeners.tls.{name}], or add mqtts to its protocols")
            }
            Some("websocket") if !draft.speaks_websocket() => {
                format!("this listener speaks no WebSocket: name it [listeners.ws.{name}], or add ws to its protocols")
            }
            Some("quic") if draft.kind != Scheme::Quic => {
                format!("this listener is not for QUIC: name it [listeners.quic.{name}]")
            }
            Some("unix_mode") if !unix => "has no effect: bind names no unix socket".into(),
            _ => continue,
        };
        foreign.push((key, what));
    }
    foreign
}

/// Two listeners on one address are a fault, but one that nobody has asked for gives way.
fn apart(
    mut ready: Vec<(Listener, Option<&Section>)>,
    remarks: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) -> Vec<Listener> {
    let implicit = |section: &Option<&Section>| section.is_none();
    // Those that were written down first: who comes later meets them.
    ready.sort_by_key(|(_, section)| implicit(section));
    let mut kept: Vec<Listener> = Vec::new();
    for (listener, section) in ready {
        let met = kept.iter().find_map(|other| overlap(&listener, other).map(|place| (other, place)));
        match met {
            None => kept.push(listener),
            Some((other, place)) if section.is_none() => remarks.push(format!(
                "{} gives way to {}, which listens on {place} too; to have both, give one another port",
                listener.options.name, other.options.name
            )),
            Some((other, place)) => {
                let origin = section.and_then(|section| section.origin.clone()).unwrap_or(Origin::Default);
                let key = format!("listeners.{}.bind", listener.options.name);
                let what = format!("{} listens on {place} too; give one of them another port", other.options.name);
                faults.push(Fault { origin, key, what });
            }
        }
    }
    kept.sort_by(|a, b| (a.kind, &a.options.name).cmp(&(b.kind, &b.options.name)));
    kept
}

/// A place that both want.
pub(crate) fn overlap(one: &Listener, other: &Listener) -> Option<String> {
    let udp = |listener: &Listener| listener.kind == Scheme::Quic;
    if udp(one) != udp(other) {
        return None;
    }
    let both = |place: &&Bind| other.options.bind.iter().any(|taken| meets(place, taken));
    one.options.bind.iter().find(both).map(place)
}

/// A place in words.
pub(crate) fn place(place: &Bind) -> String {
    match place {
        Bind::Address(address) => address.to_string(),
        Bind::Interface { name, port } => format!("{name}:{port}"),
        Bind::Unix { path, .. } => path.display().to_string(),
        Bind::Inherited(name) => format!("systemd:{name}"),
    }
}

fn meets(one: &Bind, other: &Bind) -> bool {
    match (one, other) {
        (Bind::Address(one), Bind::Address(other)) => {
            let any = |address: &SocketAddr| address.ip().is_unspecified();
            let family = |ip: IpAddr| ip.is_ipv4();
            let alike = family(one.ip()) == family(other.ip()) && (any(one) || any(other) || one.ip() == other.ip());
            one.port() == other.port() && one.port() != 0 && alike
        }
        (Bind::Interface { name: one, port }, Bind::Interface { name: other, port: taken }) => {
            one == other && port == taken && *port != 0
        }
        (Bind::Interface { port, .. }, Bind::Address(address))
        | (Bind::Address(address), Bind::Interface { port, .. }) => {
            address.ip().is_unspecified() && address.port() == *port && *port != 0
        }
        (Bind::Unix { path: one, .. }, Bind::Unix { path: other, .. }) => one == other,
        (Bind::Inherited(one), Bind::Inherited(other)) => one == other,
        _ => false,
    }
}
