//! Remembered answers of one shard: a topic published again costs no lock and no walk.

use std::sync::Arc;

use crate::matches::{ExtraId, Matches};
use crate::shared::GroupRef;
use crate::subscriber::Target;

/// The counters that an answer depends on, as they were before it was looked up. If none has moved since, it holds.
///
/// Scoped, so that change in one corner leaves the rest remembered: `stripe` counts changes of exact filters in the
/// topic's stripe, `scope` those of wildcard filters under the topic's first level, `root` those of filters that begin
/// with a wildcard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) stripe: u64,
    pub(crate) scope: u64,
    pub(crate) root: u64,
}

/// Bounded, four ways per set, found by the topic's keyed hash and confirmed by its text. Empty answers are remembered too.
#[derive(Debug, Default)]
pub(crate) struct MatchCache {
    /// Whose answers these are: a `Matches` may be handed to another router.
    owner: Option<Arc<()>>,
    tags: Vec<[u64; WAYS]>,
    answers: Vec<Answer>,
    misses: u32,
}

#[derive(Debug, Default)]
struct Answer {
    versions: Versions,
    /// The counter that `versions.scope` came from, so that a hit need not look for the first level.
    scope: u16,
    any_durable: bool,
    topic: String,
    few: Vec<Target>,
    extra_ids: Vec<ExtraId>,
    groups: Vec<GroupRef>,
}

const WAYS: usize = 4;
/// Larger answers cost so much to deliver that the walk is lost in it; remembering them would cost memory.
const TARGETS_MAX: usize = 16;
const TOPIC_MAX: usize = 256;
/// When a set is full of answers that hold, one miss in so many takes a place: with more topics than places, most misses
/// then don't pay for being written down.
const ADMIT_EVERY: u32 = 8;

impl MatchCache {
    /// Copies a remembered answer into `out`'s lists, if it still holds. `current` reads the counters of a scope.
    #[inline]
    pub(crate) fn recall(
        out: &mut Matches,
        owner: &Arc<()>,
        hash: u64,
        topic: &str,
        current: impl FnOnce(u16) -> Versions,
    ) -> bool {
        let Some(answer) = out.cache.find(hash, topic) else { return false };
        if answer.versions != current(answer.scope)
            || !out.cache.owner.as_ref().is_some_and(|own| Arc::ptr_eq(own, owner))
        {
            return false;
        }
        out.few.extend_from_slice(&answer.few);
        if !answer.extra_ids.is_empty() {
            out.extra_ids.extend_from_slice(&answer.extra_ids);
        }
        if !answer.groups.is_empty() {
            out.groups.extend_from_slice(&answer.groups);
        }
        out.any_durable = answer.any_durable;
        true
    }

    #[inline]
    fn find(&self, hash: u64, topic: &str) -> Option<&Answer> {
        let set = hash as usize & self.tags.len().checked_sub(1)?;
        let way = self.tags[set].iter().position(|tag| *tag == hash)?;
        Some(&self.answers[set * WAYS + way]).filter(|answer| answer.topic == topic)
    }

    /// Remembers what `out` holds, if it is worth it.
    pub(crate) fn remember(
        out: &mut Matches,
        owner: &Arc<()>,
        places: u32,
        topic: &str,
        scope: u16,
        versions: Versions,
    ) {
        let small =
            out.few.len() <= TARGETS_MAX && out.extra_ids.len() <= TARGETS_MAX && out.groups.len() <= TARGETS_MAX;
        let plain = out.large.is_empty() && out.mixed.is_empty() && !out.truncated;
        if places == 0 || !small || !plain || topic.len() > TOPIC_MAX {
            return;
        }
        let Matches { cache, few, extra_ids, groups, any_durable, topic_hash: hash, .. } = out;
        cache.adopt(owner, places);
        let Some(place) = cache.place(*hash) else { return };
        cache.tags[place / WAYS][place % WAYS] = *hash;
        let answer = &mut cache.answers[place];
        answer.versions = versions;
        answer.scope = scope;
        answer.any_durable = *any_durable;
        answer.topic.clear();
        answer.topic.push_str(topic);
        copy(&mut answer.few, few);
        copy(&mut answer.extra_ids, extra_ids);
        copy(&mut answer.groups, groups);
    }

    fn adopt(&mut self, owner: &Arc<()>, places: u32) {
        if self.owner.as_ref().is_some_and(|own| Arc::ptr_eq(own, owner)) {
            return;
        }
        let sets = (places as usize / WAYS).next_power_of_two();
        *self = Self { owner: Some(Arc::clone(owner)), ..Self::default() };
        self.tags.resize(sets, [0; WAYS]);
        self.answers.resize_with(sets * WAYS, Answer::default);
    }

    /// Where an answer goes: its old place, a free one, or now and then one that it drives out.
    fn place(&mut self, hash: u64) -> Option<usize> {
        let set = hash as usize & (self.tags.len() - 1);
        let ways = &self.tags[set];
        if let Some(way) = ways.iter().position(|tag| *tag == hash || *tag == 0) {
            return Some(set * WAYS + way);
        }
        self.misses = self.misses.wrapping_add(1);
        let way = (self.misses / ADMIT_EVERY) as usize % WAYS;
        self.misses.is_multiple_of(ADMIT_EVERY).then_some(set * WAYS + way)
    }
}

fn copy<T: Copy>(to: &mut Vec<T>, from: &[T]) {
    to.clear();
    to.extend_from_slice(from);
}
