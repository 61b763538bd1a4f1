//! Which data stream a topic was subscribed on.

use std::collections::HashMap;

use breakwater_proto::{FilterKind, exclusive, is_wildcard, matches, parse_filter};

use super::{CONTROL, Stream};

/// Filters without wildcards that are remembered for one connection.
const EXACT_MAX: usize = 1024;
/// Filters with wildcards, and shared ones: few, because each delivery is compared with all of them, on a thread that
/// serves everybody.
const WILD_MAX: usize = 128;

/// Filters of data streams. One that there is no room for delivers on the control stream.
#[derive(Default)]
pub(super) struct Filters {
    exact: HashMap<Box<str>, Stream>,
    wild: Vec<Wild>,
}

struct Wild {
    /// As it was subscribed.
    text: Box<str>,
    /// Where the filter of a shared or exclusive subscription begins.
    inner: usize,
    stream: Stream,
}

impl Filters {
    /// A subscription was asked for on this stream; the last one to ask for a filter has it.
    pub(super) fn add(&mut self, filter: &str, stream: Stream) {
        self.remove(filter);
        if stream == CONTROL {
            return;
        }
        let inner = match parse_filter(filter) {
            Ok(FilterKind::Plain(plain)) => filter.len() - exclusive(plain).unwrap_or(plain).len(),
            Ok(FilterKind::Shared { filter: inner, .. }) => filter.len() - inner.len(),
            // The shard refuses it.
            Err(_) => return,
        };
        if inner == 0 && !is_wildcard(filter) {
            if self.exact.len() < EXACT_MAX {
                self.exact.insert(filter.into(), stream);
            }
        } else if self.wild.len() < WILD_MAX {
            self.wild.push(Wild { text: filter.into(), inner, stream });
        }
    }

    pub(super) fn remove(&mut self, filter: &str) {
        if self.exact.remove(filter).is_none() {
            self.wild.retain(|wild| *wild.text != *filter);
        }
    }

    pub(super) fn forget(&mut self, stream: Stream) {
        self.exact.retain(|_, of| *of != stream);
        self.wild.retain(|wild| wild.stream != stream);
    }

    pub(super) fn find(&self, topic: &[u8]) -> Option<Stream> {
        if self.exact.is_empty() && self.wild.is_empty() {
            return None;
        }
        let topic = std::str::from_utf8(topic).ok()?;
        let fits = |wild: &&Wild| matches(&wild.text[wild.inner..], topic);
        self.exact.get(topic).copied().or_else(|| Some(self.wild.iter().find(fits)?.stream))
    }
}
