//! What a message reaches: filled by `Router::matches`, reused by its shard.

use crate::match_cache::MatchCache;
use crate::shared::GroupRef;
use crate::snapshot::Snapshot;
use crate::subscriber::{PackedGrant, Target};
use crate::trie::WalkSpace;

/// A subscription identifier of `few[target]` beyond the first one, which its grant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraId {
    pub target: u32,
    pub id: u32,
}

/// What one message reaches. Keep one per shard and reuse it: it holds the shard's remembered answers, and a match then
/// allocates nothing in steady state.
///
/// A session appears once, whatever number of its subscriptions match, with one exception: a session that is a member of
/// several sets in `large` gets a copy for each, as the standard permits [MQTT-3.3.4-5].
#[derive(Debug, Default)]
pub struct Matches {
    /// Sorted by shard, then slot. Overlapping subscriptions are merged: highest QoS [MQTT-3.3.4-2] [MQTT3-3.3.5-1],
    /// retain-as-published and durable if any is, no-local if all are, and all identifiers.
    pub few: Vec<Target>,
    /// Sorted by `target`.
    pub extra_ids: Vec<ExtraId>,
    /// Sets too large to copy, one snapshot per set and shard.
    pub large: Vec<Snapshot>,
    pub groups: Vec<GroupRef>,
    /// A target of `few` or `large` is durable. Targets picked from `groups` say it themselves.
    pub any_durable: bool,
    /// The budget of visited trie nodes ran out: some subscribers may be missing.
    pub truncated: bool,
    /// Trie nodes visited: work to charge to the publisher. 0 when the answer was remembered.
    pub visited: u32,
    /// Keyed hash of the topic, for [`PickTicket::topic_hash`](crate::PickTicket).
    pub topic_hash: u64,
    /// Sessions of which some matching subscriptions say no-local and some don't. Rare.
    pub(crate) mixed: Vec<Mixed>,
    pub(crate) mixed_ids: Vec<ExtraId>,
    pub(crate) space: WalkSpace,
    pub(crate) cache: MatchCache,
}

/// How `few[target]` looks if it is the publisher: merged over those subscriptions only that don't say no-local.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixed {
    target: u32,
    grant: PackedGrant,
}

impl Matches {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.few.is_empty() && self.large.is_empty() && self.groups.is_empty()
    }

    /// On which terms `few[target]` gets the message; `to_publisher`: it is the publisher's own session. `None`: all its
    /// matching subscriptions say no-local [MQTT-3.8.3-3].
    #[inline]
    pub fn grant(&self, target: usize, to_publisher: bool) -> Option<PackedGrant> {
        let grant = self.few[target].grant;
        if !to_publisher {
            return Some(grant);
        }
        if grant.no_local() {
            return None;
        }
        let mixed = self.mixed.iter().find(|mixed| mixed.target as usize == target);
        Some(mixed.map_or(grant, |mixed| mixed.grant))
    }

    /// Appends all subscription identifiers of `few[target]` [MQTT-3.3.4-3] [MQTT-3.3.4-4]; to the publisher itself only
    /// those of subscriptions that don't say no-local.
    #[inline]
    pub fn subscription_ids(&self, target: usize, to_publisher: bool, out: &mut Vec<u32>) {
        let Some(grant) = self.grant(target, to_publisher) else { return };
        if grant.subscription_id() == 0 {
            return;
        }
        out.push(grant.subscription_id());
        let mixed = to_publisher && self.mixed.iter().any(|mixed| mixed.target as usize == target);
        let extra = if mixed { &self.mixed_ids } else { &self.extra_ids };
        if extra.is_empty() {
            return;
        }
        let first = extra.partition_point(|extra| (extra.target as usize) < target);
        out.extend(extra[first..].iter().take_while(|extra| extra.target as usize == target).map(|extra| extra.id));
    }

    pub(crate) fn clear(&mut self) {
        self.few.clear();
        self.extra_ids.clear();
        self.large.clear();
        self.groups.clear();
        self.mixed.clear();
        self.mixed_ids.clear();
        self.any_durable = false;
        self.truncated = false;
        self.visited = 0;
    }

    /// Sorts `few` and makes one target per session of what came from several filters.
    pub(crate) fn merge_overlaps(&mut self) {
        self.few.sort_unstable_by_key(|target| target.subscriber.as_u64());
        let Some(overlap) = self.few.windows(2).position(|pair| pair[0].subscriber == pair[1].subscriber) else {
            return;
        };
        let (mut read, mut write) = (overlap, overlap);
        while read < self.few.len() {
            let who = self.few[read].subscriber;
            let count = self.few[read..].iter().take_while(|target| target.subscriber == who).count();
            let merged = if count == 1 { self.few[read].grant } else { self.merge_run(read, count, write as u32) };
            self.few[write] = Target { subscriber: who, grant: merged };
            read += count;
            write += 1;
        }
        self.few.truncate(write);
    }

    fn merge_run(&mut self, first: usize, count: usize, target: u32) -> PackedGrant {
        let run = &self.few[first..first + count];
        let merged = merge(run.iter().map(|member| member.grant), target, &mut self.extra_ids);
        let heard = run.iter().map(|member| member.grant).filter(|grant| !grant.no_local());
        let (Some(merged), false) = (merged, heard.clone().count() == count) else {
            return merged.unwrap_or(run[0].grant);
        };
        if let Some(grant) = merge(heard, target, &mut self.mixed_ids) {
            self.mixed.push(Mixed { target, grant });
        }
        merged
    }
}

/// The merged grant; identifiers beyond the first go to `extra`.
fn merge(grants: impl Iterator<Item = PackedGrant>, target: u32, extra: &mut Vec<ExtraId>) -> Option<PackedGrant> {
    grants.reduce(|merged, grant| {
        if merged.subscription_id() != 0 && grant.subscription_id() != 0 {
            extra.push(ExtraId { target, id: grant.subscription_id() });
        }
        merged.merged(grant)
    })
}
