//! Large subscriber sets: paged per shard, so that a publisher takes a consistent view for the price of a reference count.

use std::sync::Arc;

use crate::keyed_hash::HashKey;
use crate::split_table::{SplitTable, Tagged};
use crate::subscriber::{Subscriber, Target};

/// The members on one shard of a large set, as they were when the message was matched. Owned and `Send`; cheap to make and
/// to clone; later (un)subscribes copy the page that they change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub shard: u16,
    /// A member is durable.
    pub any_durable: bool,
    members: Arc<Pages>,
    /// Members that are in `Matches::few` because another of their subscriptions matched as well.
    skip: Vec<Subscriber>,
}

impl Snapshot {
    /// Members, those skipped included.
    pub fn len(&self) -> usize {
        self.members.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands at most `budget` members to `each`, from `position` on, which it moves. True: that was the last.
    /// A no-local member that is the publisher itself is for the caller to skip: the grant says so.
    pub fn walk(&self, position: &mut usize, budget: usize, mut each: impl FnMut(Target)) -> bool {
        let end = self.len().min(position.saturating_add(budget));
        while *position < end {
            let page = &self.members.pages[*position / PAGE];
            let from = *position % PAGE;
            let to = page.len().min(from + (end - *position));
            for target in &page[from..to] {
                if !self.skips(target.subscriber) {
                    each(*target);
                }
            }
            *position += to - from;
        }
        *position >= self.len()
    }

    /// Whether this member gets the message through `Matches::few` instead.
    #[inline]
    pub fn skips(&self, who: Subscriber) -> bool {
        !self.skip.is_empty() && self.skip.binary_search(&who).is_ok()
    }

    /// `who` must come in ascending order.
    pub(crate) fn skip(&mut self, who: Subscriber) {
        self.skip.push(who);
    }
}

/// 512 targets are 8 KiB: what a change copies while a snapshot is out.
const PAGE: usize = 512;

#[derive(Clone, Debug, Default)]
struct Pages {
    pages: Vec<Arc<Vec<Target>>>,
    len: usize,
}

impl Pages {
    fn get(&self, position: usize) -> Option<&Target> {
        self.pages.get(position / PAGE)?.get(position % PAGE)
    }

    fn page_mut(&mut self, position: usize) -> &mut Vec<Target> {
        Arc::make_mut(&mut self.pages[position / PAGE])
    }

    fn push(&mut self, target: Target) {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Arc::new(Vec::with_capacity(PAGE)));
        }
        let last = self.len;
        self.page_mut(last).push(target);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Target> {
        let last = self.len.checked_sub(1)?;
        let target = self.page_mut(last).pop();
        self.len = last;
        if last.is_multiple_of(PAGE) {
            self.pages.pop();
        }
        target
    }
}

/// A set of more members than are copied into `Matches::few`.
pub(crate) struct LargeSet {
    /// By shard, ascending.
    shards: Vec<ShardMembers>,
    len: usize,
}

/// The members of a large set on one shard, in no order, with the position of each.
struct ShardMembers {
    shard: u16,
    members: Arc<Pages>,
    durable: usize,
    positions: SplitTable<Tagged>,
}

impl LargeSet {
    pub(crate) fn new(key: &HashKey, members: &[Target]) -> Self {
        let mut set = Self { shards: Vec::new(), len: 0 };
        for target in members {
            set.insert(key, *target);
        }
        set
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// True: `target` is new; else its grant was replaced.
    pub(crate) fn insert(&mut self, key: &HashKey, target: Target) -> bool {
        let shard = target.subscriber.shard;
        let index = match self.shards.binary_search_by_key(&shard, |members| members.shard) {
            Ok(index) => index,
            Err(index) => {
                self.shards.insert(index, ShardMembers::new(shard));
                index
            }
        };
        let new = self.shards[index].insert(key, target);
        self.len += usize::from(new);
        new
    }

    pub(crate) fn remove(&mut self, key: &HashKey, who: Subscriber) -> Option<Target> {
        let index = self.shards.binary_search_by_key(&who.shard, |members| members.shard).ok()?;
        let removed = self.shards[index].remove(key, who)?;
        self.len -= 1;
        if self.shards[index].members.len == 0 {
            self.shards.remove(index);
        }
        Some(removed)
    }

    pub(crate) fn get(&self, key: &HashKey, who: Subscriber) -> Option<Target> {
        let index = self.shards.binary_search_by_key(&who.shard, |members| members.shard).ok()?;
        let members = &self.shards[index];
        members.members.get(members.position(key, who)?).copied()
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.shards.iter().flat_map(|shard| shard.members.pages.iter()).flat_map(|page| page.iter().copied())
    }

    pub(crate) fn snapshots(&self) -> impl Iterator<Item = Snapshot> + '_ {
        self.shards.iter().map(|shard| Snapshot {
            shard: shard.shard,
            any_durable: shard.durable > 0,
            members: Arc::clone(&shard.members),
            skip: Vec::new(),
        })
    }
}

impl ShardMembers {
    fn new(shard: u16) -> Self {
        Self { shard, members: Arc::default(), durable: 0, positions: SplitTable::new(64) }
    }

    fn position(&self, key: &HashKey, who: Subscriber) -> Option<usize> {
        let hash = key.number(who.as_u64());
        let is = |entry: &Tagged| {
            entry.tag == hash as u32
                && self.members.get(entry.id as usize).is_some_and(|target| target.subscriber == who)
        };
        self.positions.find(Tagged::filed_under(hash), is).map(|entry| entry.id as usize)
    }

    fn insert(&mut self, key: &HashKey, target: Target) -> bool {
        self.durable += usize::from(target.grant.durable());
        if let Some(position) = self.position(key, target.subscriber) {
            let place = &mut Arc::make_mut(&mut self.members).page_mut(position)[position % PAGE];
            self.durable -= usize::from(place.grant.durable());
            *place = target;
            return false;
        }
        let position = u32::try_from(self.members.len).expect("a shard has fewer than 2^32 sessions");
        Arc::make_mut(&mut self.members).push(target);
        let hash = key.number(target.subscriber.as_u64());
        self.positions.insert(Tagged::filed_under(hash), Tagged::new(hash, position), Tagged::hash);
        true
    }

    /// Moves the last member into the place of the one that leaves.
    fn remove(&mut self, key: &HashKey, who: Subscriber) -> Option<Target> {
        let position = self.position(key, who)?;
        let hash = key.number(who.as_u64());
        self.positions.remove(Tagged::filed_under(hash), |entry| entry.id as usize == position, Tagged::hash);
        let members = Arc::make_mut(&mut self.members);
        let last = members.pop()?;
        let removed = if last.subscriber == who {
            last
        } else {
            let removed = std::mem::replace(&mut members.page_mut(position)[position % PAGE], last);
            let moved = members.len as u32;
            let hash = Tagged::filed_under(key.number(last.subscriber.as_u64()));
            if let Some(entry) = self.positions.find_mut(hash, |entry| entry.id == moved) {
                entry.id = position as u32;
            }
            removed
        };
        self.durable -= usize::from(removed.grant.durable());
        Some(removed)
    }
}
