//! The router itself: one value, shared by all shards.

use breakwater_proto::{Instant, Message};

use crate::matches::Matches;
use crate::options::RouterOptions;
use crate::retained::{Progress, RetainOutcome, RetainedCursor};
use crate::shared::{GroupRef, PickTicket};
use crate::subscriber::{FilterId, Grant, Subscribed, Subscriber, Target};

/// How much the router holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterCounts {
    pub exact_filters: u64,
    pub wildcard_filters: u64,
    pub shared_groups: u64,
    /// Non-shared subscriptions.
    pub subscriptions: u64,
    pub shared_subscriptions: u64,
    pub retained: u64,
    pub retained_bytes: u64,
}

/// Topic to subscribers, shared groups and retained messages. Shared as `Arc<Router>` by all shards.
///
/// Filters and topics must have passed the checks of `breakwater_proto` before they come here.
#[derive(Debug)]
pub struct Router {
    options: RouterOptions,
}

#[allow(clippy::todo, clippy::unused_self, unused_variables, reason = "signatures first; bodies follow")]
impl Router {
    pub fn new(options: RouterOptions) -> Self {
        Self { options }
    }

    pub fn options(&self) -> &RouterOptions {
        &self.options
    }

    pub fn subscribe(&self, filter: &str, who: Subscriber, grant: Grant) -> Subscribed {
        todo!()
    }

    pub fn unsubscribe(&self, filter: &str, who: Subscriber) -> Option<FilterId> {
        todo!()
    }

    /// A new member is online.
    pub fn subscribe_shared(&self, group: &str, filter: &str, who: Subscriber, grant: Grant) -> Subscribed {
        todo!()
    }

    pub fn unsubscribe_shared(&self, group: &str, filter: &str, who: Subscriber) -> Option<FilterId> {
        todo!()
    }

    pub fn remove(&self, id: FilterId, who: Subscriber) -> bool {
        todo!()
    }

    /// Appends the filter's text (`$share/group/filter` for a shared one).
    pub fn filter_text(&self, id: FilterId, out: &mut String) -> bool {
        todo!()
    }

    /// The grant that `who` has on this filter.
    pub fn grant(&self, id: FilterId, who: Subscriber) -> Option<Grant> {
        todo!()
    }

    pub fn set_online(&self, id: FilterId, who: Subscriber, online: bool) {
        todo!()
    }

    pub fn matches(&self, shard: u16, topic: &str, out: &mut Matches) {
        todo!()
    }

    pub fn pick(&self, group: GroupRef, ticket: &PickTicket<'_>) -> Option<Target> {
        todo!()
    }

    /// Changes whenever what `topic` reaches may have changed.
    pub fn generation(&self, topic: &str) -> u64 {
        todo!()
    }

    pub fn retain(&self, message: Message) -> RetainOutcome {
        todo!()
    }

    pub fn clear_retained(&self, topic: &str) -> bool {
        todo!()
    }

    pub fn retained_next(
        &self,
        cursor: &mut RetainedCursor,
        now: Instant,
        budget: usize,
        out: &mut Vec<(Message, u64)>,
    ) -> Progress {
        todo!()
    }

    /// Removes expired messages, looking at no more than `budget`; returns how many went.
    pub fn sweep_retained(&self, now: Instant, budget: usize) -> usize {
        todo!()
    }

    pub fn counts(&self) -> RouterCounts {
        todo!()
    }
}
