//! The router itself: one value, shared by all shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use breakwater_proto::{Instant, Message, is_wildcard};

use crate::exact::ExactFilters;
use crate::exclusive::Claims;
use crate::keyed_hash::HashKey;
use crate::levels::first_level;
use crate::locks::Lanes;
use crate::match_cache::{MatchCache, Versions};
use crate::matches::Matches;
use crate::options::RouterOptions;
use crate::retained::{Progress, RetainOutcome, Retained, RetainedCursor, RetainedLife};
use crate::shared::{GroupRef, PickTicket};
use crate::snapshot::LargeSet;
use crate::subscriber::{FilterId, Grant, Subscribed, Subscriber, Target};
use crate::wild::{Change, WildFilters};

/// How much the router holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterCounts {
    pub exact_filters: u64,
    /// Filters in the trie: those with wildcards, and the exact ones of shared groups.
    pub trie_filters: u64,
    pub shared_groups: u64,
    /// Non-shared subscriptions.
    pub subscriptions: u64,
    pub shared_subscriptions: u64,
    pub retained: u64,
    pub retained_bytes: u64,
}

/// Topic to subscribers, shared groups and retained messages. Shared as `Arc<Router>` by all shards.
///
/// Filters and topics must have passed the checks of `breakwater_proto` before they come here. (Un)subscribing is seen by
/// every match that begins after the call returned.
pub struct Router {
    options: RouterOptions,
    key: HashKey,
    exact: ExactFilters,
    wild: Lanes<WildFilters>,
    /// Change counters of the trie: by the first level of filters that begin with a text, and one for all others.
    scopes: Box<[AtomicU64]>,
    root: AtomicU64,
    retained: Retained,
    claims: Claims,
    totals: Totals,
    /// Tells this router's remembered answers from another's.
    identity: Arc<()>,
}

#[derive(Default)]
struct Totals {
    exact_filters: AtomicU64,
    trie_filters: AtomicU64,
    shared_groups: AtomicU64,
    subscriptions: AtomicU64,
    shared_subscriptions: AtomicU64,
}

/// A change of one wildcard filter forgets the answers of about one in so many first levels.
const SCOPES: u64 = 1024;

/// The two upper bits of a filter id.
const KIND: u32 = 3 << 30;
const EXACT: u32 = 0;
const WILD: u32 = 1 << 30;
const SHARED: u32 = 2 << 30;

impl Router {
    pub fn new(options: RouterOptions) -> Self {
        Self {
            key: HashKey::new(options.hash_seed),
            exact: ExactFilters::new(),
            wild: Lanes::new(options.shards, WildFilters::new(options.strategy, options.shards)),
            scopes: (0..SCOPES).map(|_| AtomicU64::new(0)).collect(),
            root: AtomicU64::new(0),
            retained: Retained::new(options.retained),
            claims: Claims::default(),
            totals: Totals::default(),
            identity: Arc::new(()),
            options,
        }
    }

    pub fn options(&self) -> &RouterOptions {
        &self.options
    }

    /// Subscribes `who`, or replaces the grant that it has on this filter [MQTT-3.8.4-3] [MQTT3-3.8.4-3].
    pub fn subscribe(&self, filter: &str, who: Subscriber, grant: Grant) -> Subscribed {
        let target = Target { subscriber: who, grant: grant.into() };
        let (id, new) = if is_wildcard(filter) {
            let change = self.wild.write(|wild| {
                let change = wild.insert(&self.key, filter, target);
                self.tell(change, true, self.scope_counter(first_level(filter)));
                change
            });
            (WILD | change.id, change.member)
        } else {
            let inserted = self.exact.insert(&self.key, self.key.text(filter), filter, target);
            self.totals.exact_filters.fetch_add(u64::from(inserted.new_filter), Ordering::Relaxed);
            (EXACT | inserted.id, inserted.new_member)
        };
        self.totals.subscriptions.fetch_add(u64::from(new), Ordering::Relaxed);
        Subscribed { id: FilterId(id), new }
    }

    /// `None`: `who` had no such subscription. The id may become another filter's.
    pub fn unsubscribe(&self, filter: &str, who: Subscriber) -> Option<FilterId> {
        if is_wildcard(filter) {
            return self.wild.write(|wild| {
                let number = wild.trie.find(&self.key, filter)?;
                self.remove_wild(wild, number, who).then_some(FilterId(WILD | number))
            });
        }
        let removed = self.exact.remove_by_text(&self.key, self.key.text(filter), filter, who)?;
        self.count_removed_exact(removed.filter_gone);
        Some(FilterId(EXACT | removed.id))
    }

    /// Gives `who` a filter for itself, before it subscribes to it. False: another session has it.
    pub fn claim(&self, filter: &str, who: Subscriber) -> bool {
        self.claims.claim(filter, who)
    }

    /// `who` needs the filter no longer, after it has unsubscribed. False: it did not have it for itself.
    pub fn release(&self, filter: &str, who: Subscriber) -> bool {
        self.claims.release(filter, who)
    }

    /// Makes `who` a member of a shared group [MQTT-4.8.2-3]; it is online.
    pub fn subscribe_shared(&self, group: &str, filter: &str, who: Subscriber, grant: Grant) -> Subscribed {
        let target = Target { subscriber: who, grant: grant.into() };
        let change = self.wild.write(|wild| {
            let change = wild.insert_shared(&self.key, group, filter, target);
            self.tell_shared(change, true, self.scope_counter(first_level(filter)));
            change
        });
        self.totals.shared_subscriptions.fetch_add(u64::from(change.member), Ordering::Relaxed);
        Subscribed { id: FilterId(SHARED | change.id), new: change.member }
    }

    pub fn unsubscribe_shared(&self, group: &str, filter: &str, who: Subscriber) -> Option<FilterId> {
        self.wild.write(|wild| {
            let number = wild.find_group(&self.key, wild.trie.find(&self.key, filter)?, group)?;
            self.remove_shared(wild, number, who).then_some(FilterId(SHARED | number))
        })
    }

    /// Ends a subscription of any kind by its id. False: `who` has none there.
    pub fn remove(&self, id: FilterId, who: Subscriber) -> bool {
        let number = id.0 & !KIND;
        match id.0 & KIND {
            EXACT => self.exact.remove(&self.key, number, who).is_some_and(|removed| {
                self.count_removed_exact(removed.filter_gone);
                true
            }),
            WILD => self.wild.write(|wild| self.remove_wild(wild, number, who)),
            _ => self.wild.write(|wild| self.remove_shared(wild, number, who)),
        }
    }

    fn remove_wild(&self, wild: &mut WildFilters, number: u32, who: Subscriber) -> bool {
        let counter = self.scope_counter(wild.trie.first_level(number));
        let Some(change) = wild.remove(&self.key, number, who) else { return false };
        self.tell(change, false, counter);
        self.totals.subscriptions.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn remove_shared(&self, wild: &mut WildFilters, number: u32, who: Subscriber) -> bool {
        let Some(group) = wild.group(number) else { return false };
        let counter = self.scope_counter(wild.trie.first_level(group.filter));
        let Some(change) = wild.remove_shared(&self.key, number, who) else { return false };
        self.tell_shared(change, false, counter);
        self.totals.shared_subscriptions.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn count_removed_exact(&self, filter_gone: bool) {
        self.totals.exact_filters.fetch_sub(u64::from(filter_gone), Ordering::Relaxed);
        self.totals.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Appends the filter's text (`$share/group/filter` for a shared one).
    pub fn filter_text(&self, id: FilterId, out: &mut String) -> bool {
        let number = id.0 & !KIND;
        match id.0 & KIND {
            EXACT => self.exact.text(number, out),
            WILD => self.wild.read(0).trie.text(number, out),
            _ => self.wild.read(0).group_text(number, out),
        }
    }

    /// What `who` was granted on this filter.
    pub fn grant(&self, id: FilterId, who: Subscriber) -> Option<Grant> {
        let number = id.0 & !KIND;
        let target = match id.0 & KIND {
            EXACT => self.exact.get(&self.key, number, who),
            WILD => self.wild.read(who.shard).trie.filter(number)?.members.get(&self.key, who),
            _ => self.wild.read(who.shard).group(number)?.get(who),
        };
        target.map(|target| target.grant.unpack())
    }

    /// Says whether a member of a shared group is connected. Nothing for other subscriptions.
    pub fn set_online(&self, id: FilterId, who: Subscriber, online: bool) {
        if id.0 & KIND == SHARED {
            self.wild.write(|wild| {
                if let Some(group) = wild.group_mut(id.0 & !KIND) {
                    group.set_online(who, online);
                }
            });
        }
    }

    /// Finds everything that a message to `topic` reaches. `shard` is the caller's: it picks the reader's lane.
    pub fn matches(&self, shard: u16, topic: &str, out: &mut Matches) {
        out.clear();
        let hash = self.key.text(topic);
        out.topic_hash = hash;
        if MatchCache::recall(out, &self.identity, hash, topic, |scope| self.versions(hash, scope)) {
            return;
        }
        let scope = self.scope(first_level(topic));
        // Read before looking: what changes meanwhile makes the answer stale, never wrongly fresh.
        let versions = self.versions(hash, scope);
        self.look_up(shard, hash, topic, out);
        MatchCache::remember(out, &self.identity, self.options.cache_entries, topic, scope, versions);
    }

    fn look_up(&self, shard: u16, hash: u64, topic: &str, out: &mut Matches) {
        let stripe = self.exact.read(hash);
        let exact = stripe.members(hash, topic).and_then(|members| members.append_to(out));
        if exact.is_none() && self.totals.trie_filters.load(Ordering::Acquire) == 0 {
            drop(stripe);
            out.any_durable = out.few.iter().any(|target| target.grant.durable());
            return;
        }
        let wild = self.wild.read(shard);
        let walked = wild.trie.walk(&self.key, topic, self.options.visits_max, &mut out.space);
        (out.visited, out.truncated) = (walked.visited, walked.truncated);
        let found = std::mem::take(&mut out.space.found);
        let mut sources = usize::from(!out.few.is_empty()) + usize::from(exact.is_some());
        let mut large: Vec<&LargeSet> = exact.into_iter().collect();
        for filter in found.iter().filter_map(|&id| wild.trie.filter(id)) {
            sources += usize::from(!filter.members.is_empty());
            large.extend(filter.members.append_to(out));
            if let Some(groups) = &filter.groups {
                out.groups.extend_from_slice(groups);
            }
        }
        out.space.found = found;
        self.add_large(&large, out);
        if sources > 1 {
            out.merge_overlaps();
        }
        out.any_durable =
            out.few.iter().any(|target| target.grant.durable()) || out.large.iter().any(|set| set.any_durable);
    }

    /// Takes snapshots of the large sets. A member that `few` has already stays there, with what the large set grants it.
    fn add_large(&self, sets: &[&LargeSet], out: &mut Matches) {
        if sets.is_empty() {
            return;
        }
        out.few.sort_unstable_by_key(|target| target.subscriber.as_u64());
        let few = out.few.len();
        for set in sets {
            for mut snapshot in set.snapshots() {
                let mut last = None;
                for index in 0..few {
                    let who = out.few[index].subscriber;
                    if who.shard == snapshot.shard
                        && last.replace(who) != Some(who)
                        && let Some(also) = set.get(&self.key, who)
                    {
                        snapshot.skip(who);
                        out.few.push(also);
                    }
                }
                out.large.push(snapshot);
            }
        }
    }

    /// The group behind a shared subscription.
    pub fn group_of(&self, id: FilterId) -> Option<GroupRef> {
        if id.0 & KIND != SHARED {
            return None;
        }
        let wild = self.wild.read(0);
        let index = id.0 & !KIND;
        wild.group(index).map(|group| GroupRef { id: index, generation: group.generation })
    }

    /// The group of this name and filter, if it has members.
    pub fn find_group(&self, name: &str, filter: &str) -> Option<GroupRef> {
        let wild = self.wild.read(0);
        let id = wild.find_group(&self.key, wild.trie.find(&self.key, filter)?, name)?;
        wild.group(id).map(|group| GroupRef { id, generation: group.generation })
    }

    /// The member of a shared group that gets a message. `None`: all were tried, or the group is gone.
    pub fn pick(&self, group: GroupRef, ticket: &PickTicket<'_>) -> Option<Target> {
        let wild = self.wild.read(ticket.shard);
        let (target, _) = wild.group(group.id).filter(|found| found.generation == group.generation)?.pick(ticket)?;
        Some(target)
    }

    /// As [`Router::pick`]; and whether that member is connected.
    pub fn pick_present(&self, group: GroupRef, ticket: &PickTicket<'_>) -> Option<(Target, bool)> {
        let wild = self.wild.read(ticket.shard);
        wild.group(group.id).filter(|found| found.generation == group.generation)?.pick(ticket)
    }

    /// Whether a member of a group is connected.
    pub fn has_online(&self, group: GroupRef) -> bool {
        let wild = self.wild.read(0);
        let group = wild.group(group.id).filter(|found| found.generation == group.generation);
        group.is_some_and(crate::shared::Group::has_online)
    }

    /// A member of a group that `wanted` says yes to, if there is one: those that are connected are asked first. Looks at all of them, so
    /// it is for rare cases.
    pub fn find_member(&self, shard: u16, group: GroupRef, wanted: impl FnMut(Target) -> bool) -> Option<Target> {
        let wild = self.wild.read(shard);
        wild.group(group.id).filter(|found| found.generation == group.generation)?.find(wanted)
    }

    /// Appends a group's filter, `$share/…`. False: it is gone.
    pub fn group_text(&self, group: GroupRef, out: &mut String) -> bool {
        let wild = self.wild.read(0);
        let is_same = wild.group(group.id).is_some_and(|found| found.generation == group.generation);
        is_same && wild.group_text(group.id, out)
    }

    /// Changes whenever what `topic` reaches may have changed.
    pub fn generation(&self, topic: &str) -> u64 {
        let scope = self.scope(first_level(topic));
        let versions = self.versions(self.key.text(topic), scope);
        // Each of the three only grows, and so does their sum.
        versions.stripe.wrapping_add(versions.scope).wrapping_add(versions.root)
    }

    fn scope(&self, level: &str) -> u16 {
        (self.key.text(level) % SCOPES) as u16
    }

    #[inline]
    fn versions(&self, hash: u64, scope: u16) -> Versions {
        Versions {
            stripe: self.exact.version(hash),
            scope: self.scopes[usize::from(scope)].load(Ordering::Acquire),
            root: self.root.load(Ordering::Acquire),
        }
    }

    /// The change counter of filters that begin with this level.
    fn scope_counter(&self, level: &str) -> &AtomicU64 {
        match level {
            "+" | "#" => &self.root,
            level => &self.scopes[usize::from(self.scope(level))],
        }
    }

    /// Tells those who remember answers. Called while the lanes are still locked, and the filters are counted before: a
    /// match that sees the new version must not skip the trie because of an old count.
    fn tell(&self, change: Change, comes: bool, scope: &AtomicU64) {
        let totals = [(&self.totals.trie_filters, change.filter), (&self.totals.shared_groups, change.group)];
        for (total, _) in totals.into_iter().filter(|(_, changed)| *changed) {
            if comes {
                total.fetch_add(1, Ordering::Release);
            } else {
                total.fetch_sub(1, Ordering::Release);
            }
        }
        scope.fetch_add(1, Ordering::Release);
    }

    /// Who is in a group is asked when a member is picked; answers name the group only.
    fn tell_shared(&self, change: Change, comes: bool, scope: &AtomicU64) {
        if change.group {
            self.tell(change, comes, scope);
        }
    }

    /// Keeps `message` as its topic's retained one; an empty payload removes it.
    pub fn retain(&self, message: Message) -> RetainOutcome {
        self.retain_as(message, true)
    }

    /// As [`Router::retain`]; and whether the message is to outlast the process, for [`RetainOutcome::lasting`].
    pub fn retain_as(&self, message: Message, lasting: bool) -> RetainOutcome {
        self.retained.retain(&self.key, message, lasting)
    }

    /// How long messages live that are retained from here on.
    pub fn set_retained_life(&self, life: Arc<RetainedLife>) {
        self.retained.set_life(life);
    }

    /// When a message of this topic ends once it is retained, if it would end at `own`.
    pub fn retained_end(&self, topic: &str, own: Option<Instant>, now: Instant) -> Option<Instant> {
        self.retained.end(topic, own, now)
    }

    pub fn clear_retained(&self, topic: &str) -> RetainOutcome {
        self.retained.remove(&self.key, topic, None)
    }

    /// Removes a topic's message if it is still the one of this revision.
    pub fn clear_retained_at(&self, topic: &str, revision: u64) -> RetainOutcome {
        self.retained.remove(&self.key, topic, Some(revision))
    }

    /// Revisions from here on are greater than `revision`: a store may know greater ones than are kept here.
    pub fn start_revisions_at(&self, revision: u64) {
        self.retained.start_revisions_at(revision);
    }

    /// The retained message of one topic.
    pub fn retained(&self, topic: &str, now: Instant) -> Option<Message> {
        self.retained.get(&self.key, topic, now).map(|(message, _)| message)
    }

    /// Appends retained messages that match the cursor's filter and have not expired, with their revisions, after at most
    /// `budget` looks at the index.
    pub fn retained_next(
        &self,
        cursor: &mut RetainedCursor,
        now: Instant,
        budget: usize,
        out: &mut Vec<(Message, u64)>,
    ) -> Progress {
        self.retained.next(&self.key, cursor, now, budget, out)
    }

    /// Removes expired messages, looking at no more than `budget`; returns how many went, and tells `gone` topic and revision
    /// of each that was to outlast the process.
    pub fn sweep_retained(&self, now: Instant, budget: usize, gone: impl FnMut(&str, u64)) -> usize {
        self.retained.sweep(&self.key, now, budget, gone)
    }

    pub fn counts(&self) -> RouterCounts {
        let Totals { exact_filters, trie_filters, shared_groups, subscriptions, shared_subscriptions } = &self.totals;
        RouterCounts {
            exact_filters: exact_filters.load(Ordering::Relaxed),
            trie_filters: trie_filters.load(Ordering::Relaxed),
            shared_groups: shared_groups.load(Ordering::Relaxed),
            subscriptions: subscriptions.load(Ordering::Relaxed),
            shared_subscriptions: shared_subscriptions.load(Ordering::Relaxed),
            retained: self.retained.count(),
            retained_bytes: self.retained.bytes(),
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("options", &self.options).field("counts", &self.counts()).finish_non_exhaustive()
    }
}
