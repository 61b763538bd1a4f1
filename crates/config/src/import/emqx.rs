//! What both generations of EMQX have in common: the meaning of keys, once they are brought to one spelling.

mod limits;
mod listener;
mod tls;
mod topics;
mod web;

use super::draft::Draft;
use super::place::Entry;

pub(super) use limits::{Scope, limit};
pub(super) use listener::{Listener, listener, listeners};
pub(super) use topics::{auto_subscribe, delayed, rewrites};

/// Zones that are taken over, as many as our file may have.
const ZONES_MAX: usize = 250;

/// What a zone says that belongs to listeners here: said again on each listener of the zone.
#[derive(Clone, Debug, Default)]
pub(super) struct ZoneTerms {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
}

/// Puts a key to the terms of that zone.
pub(super) fn zone_term(draft: &mut Draft, zones: &mut Vec<ZoneTerms>, name: &str, entry: Entry) {
    match zones.iter().position(|zone| zone.name == name) {
        Some(at) => zones[at].entries.push(entry),
        None if zones.len() >= ZONES_MAX => draft.action(entry.at, &entry.key, "there are too many zones"),
        None => zones.push(ZoneTerms { name: name.to_owned(), entries: vec![entry] }),
    }
}

/// Limits and the settings that they become, for tests.
#[cfg(test)]
pub(super) use limits::known;

/// Keys of listeners, for tests.
#[cfg(test)]
pub(super) use listener::known as listener_keys;
