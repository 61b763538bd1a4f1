//! What both generations of EMQX have in common: the meaning of keys, once they are brought to one spelling.

mod limits;
mod listener;
mod tls;
mod web;

use super::place::Entry;

pub(super) use limits::{Scope, limit};
pub(super) use listener::{Listener, listener, listeners};

/// What a zone says that belongs to listeners here: said again on each listener of the zone.
#[derive(Clone, Debug, Default)]
pub(super) struct ZoneTerms {
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
}

/// Limits and the settings that they become, for tests.
#[cfg(test)]
pub(super) use limits::known;

/// Keys of listeners, for tests.
#[cfg(test)]
pub(super) use listener::known as listener_keys;
