//! Subscriptions that a session has for itself: `$exclusive/filter`. The router says who has which filter, so that two shards can't
//! both give it away; each shard knows those of its sessions. Whoever subscribes to the filter without `$exclusive/` is not in the way
//! and gets its messages too.

use std::borrow::Cow;

use crate::shard::Shard;

impl<T: Send> Shard<T> {
    /// Whether a session has a filter for itself.
    pub(crate) fn has_exclusive(&self, session: u32, whole: &str) -> bool {
        self.exclusives.get(&session).is_some_and(|held| held.iter().any(|filter| **filter == *whole))
    }

    /// The router has given a session a filter for itself. False: it had it before.
    pub(crate) fn note_exclusive(&mut self, session: u32, whole: &str) -> bool {
        let fresh = !self.has_exclusive(session, whole);
        if fresh {
            self.exclusives.entry(session).or_default().push(whole.into());
        }
        fresh
    }

    /// The subscription has ended: another session may have the filter.
    pub(crate) fn release_exclusive(&mut self, session: u32, whole: &str) {
        let who = self.subscriber_of(session);
        let Some(held) = self.exclusives.get_mut(&session) else { return };
        let Some(place) = held.iter().position(|filter| **filter == *whole) else { return };
        held.swap_remove(place);
        if held.is_empty() {
            self.exclusives.remove(&session);
        }
        self.router.release(whole, who);
    }

    /// A session ends, and all that it has with it. After its subscriptions.
    pub(crate) fn release_exclusives(&mut self, session: u32) {
        let who = self.subscriber_of(session);
        for whole in self.exclusives.remove(&session).unwrap_or_default() {
            self.router.release(&whole, who);
        }
    }

    /// What the store calls a subscription.
    pub(crate) fn name_of<'a>(&self, session: u32, group: Option<&str>, whole: &'a str) -> Cow<'a, str> {
        match group {
            Some(group) => Cow::Owned(format!("$share/{group}/{whole}")),
            None if self.has_exclusive(session, whole) => Cow::Owned(format!("$exclusive/{whole}")),
            None => Cow::Borrowed(whole),
        }
    }
}
