//! What a message reaches: filled by `Router::matches`, reused by its shard.

use crate::shared::GroupRef;
use crate::snapshot::Snapshot;
use crate::subscriber::{PackedGrant, Target};

/// A subscription identifier of `few[target]` beyond the first one, which its grant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraId {
    pub target: u32,
    pub id: u32,
}

/// What one message reaches. One per shard, reused, so that a match allocates nothing in steady state.
#[derive(Debug, Default)]
pub struct Matches {
    /// One entry per session, sorted by shard, then slot. See [`PackedGrant`] for how overlaps are merged.
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
        let _ = (target, to_publisher);
        todo!()
    }

    /// Appends all subscription identifiers of `few[target]` [MQTT-3.3.4-4].
    #[inline]
    pub fn subscription_ids(&self, target: usize, to_publisher: bool, out: &mut Vec<u32>) {
        let _ = (target, to_publisher, out);
        todo!()
    }
}
