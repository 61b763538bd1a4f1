//! How long retained messages live, by their topics: what an operator says of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use breakwater_proto::{Instant, matches};

use crate::locks::{read, write};

/// What an operator says of the life of retained messages. Counts when a message is retained, not for those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedLife {
    /// For messages that name none and that no rule is for, in seconds.
    pub default_s: Option<u32>,
    /// Filter, and the most that messages of its topics get, in seconds. The first one that matches counts.
    pub rules: Vec<(Box<str>, u32)>,
}

impl RetainedLife {
    fn is_unbounded(&self) -> bool {
        self.default_s.is_none() && self.rules.is_empty()
    }

    /// When a message ends that would end at `own`.
    fn end(&self, topic: &str, own: Option<Instant>, now: Instant) -> Option<Instant> {
        let at = |seconds: u32| Instant(now.0.saturating_add(u64::from(seconds) * 1000));
        match self.rules.iter().find(|(filter, _)| matches(filter, topic)) {
            Some((_, most)) => Some(own.map_or(at(*most), |own| own.min(at(*most)))),
            None => own.or(self.default_s.map(at)),
        }
    }
}

/// The one that counts, for all shards. Changes only when the settings do.
#[derive(Default)]
pub(super) struct Life {
    /// Most brokers have none: then a retained message costs one relaxed load more.
    bounded: AtomicBool,
    life: RwLock<Arc<RetainedLife>>,
}

impl Life {
    pub(super) fn set(&self, life: Arc<RetainedLife>) {
        self.bounded.store(!life.is_unbounded(), Ordering::Relaxed);
        *write(&self.life) = life;
    }

    pub(super) fn end(&self, topic: &str, own: Option<Instant>, now: Instant) -> Option<Instant> {
        if !self.bounded.load(Ordering::Relaxed) {
            return own;
        }
        read(&self.life).end(topic, own, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_bounds_a_life_and_the_default_is_for_those_without() {
        let life = Life::default();
        let ends = |life: &Life, topic: &str, own: Option<u64>| {
            life.end(topic, own.map(Instant), Instant(1000)).map(|at| at.0)
        };
        assert_eq!((ends(&life, "t", None), ends(&life, "t", Some(7))), (None, Some(7)));
        let rules = vec![("a/b".into(), 10), ("a/#".into(), 20), ("b".into(), 100)];
        life.set(Arc::new(RetainedLife { default_s: Some(50), rules }));
        for (topic, own, wanted) in [
            ("a/b", None, 11_000),
            ("a/b", Some(60_000), 11_000),
            ("a/b", Some(2000), 2000),
            ("a/c", None, 21_000),
            ("b", None, 101_000),
            ("t", None, 51_000),
            ("t", Some(90_000), 90_000),
        ] {
            assert_eq!(ends(&life, topic, own), Some(wanted), "{topic} {own:?}");
        }
        life.set(Arc::default());
        assert_eq!(ends(&life, "a/b", None), None);
    }
}
