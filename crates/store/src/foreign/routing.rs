//! Who gets a message that a client has published before it moved here.

use std::collections::{BTreeMap, HashSet};

use breakwater_contract::store::{SessionNumber, Terms, Wanted};
use breakwater_proto::{FilterKind, QoS, SubscribeOptions, matches, parse_filter};

use super::mosquitto::Stored;

/// One more Subscription Identifier that it goes out with; 0 is none.
pub(super) fn identify(terms: &mut Terms, identifier: u32) {
    match terms.subscription_id {
        0 => terms.subscription_id = identifier,
        first => terms.more_ids |= identifier != 0 && identifier != first,
    }
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Routes<'a>(Vec<Route<'a>>);

#[derive(Debug)]
struct Route<'a> {
    session: SessionNumber,
    group: Option<&'a str>,
    filter: &'a str,
    options: SubscribeOptions,
    identifier: u32,
}

impl<'a> Routes<'a> {
    /// One more, with its options packed.
    pub(super) fn add(&mut self, session: SessionNumber, filter: &'a str, options: u8, identifier: u32) {
        let (Ok(kind), Ok(options)) = (parse_filter(filter), SubscribeOptions::from_byte(options)) else { return };
        let (group, filter) = match kind {
            FilterKind::Plain(filter) => (None, filter),
            FilterKind::Shared { group, filter } => (Some(group), filter),
        };
        self.0.push(Route { session, group, filter, options, identifier });
    }

    /// Who gets it, of those who are not there and wait for QoS 1 and 2.
    pub(super) fn of(&self, publisher: SessionNumber, message: &Stored<'_>) -> Vec<Wanted> {
        let (mut wants, mut groups): (BTreeMap<SessionNumber, Terms>, _) = (BTreeMap::new(), HashSet::new());
        for route in &self.0 {
            let qos = route.options.qos.min(message.qos);
            let own = route.options.no_local && route.session == publisher;
            if own || qos == QoS::AtMostOnce || !matches(route.filter, message.topic) {
                continue;
            }
            // Any member of a group will do, and only one.
            if route.group.is_some_and(|group| !groups.insert((group, route.filter))) {
                continue;
            }
            let retain = message.retain && route.options.retain_as_published;
            let terms = wants.entry(route.session).or_default();
            terms.qos = terms.qos.max(qos);
            terms.retain |= retain;
            terms.shared |= route.group.is_some();
            identify(terms, route.identifier);
        }
        wants.into_iter().map(|(session, terms)| Wanted { session, terms }).collect()
    }
}
