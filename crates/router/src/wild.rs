//! What lies behind the big-reader lock: the trie and the shared groups of its filters.

use crate::keyed_hash::HashKey;
use crate::options::Strategy;
use crate::shared::{Group, GroupRef};
use crate::slab::Slab;
use crate::split_table::{SplitTable, Tagged};
use crate::subscriber::{Subscriber, Target};
use crate::trie::Trie;

/// Wildcard filters and all shared groups. Groups of exact filters live here too, so that the flat table needs no room
/// for them and a pick takes only its shard's lane.
pub(crate) struct WildFilters {
    pub(crate) trie: Trie,
    groups: Slab<Group>,
    /// Groups by filter and share name.
    names: SplitTable<Tagged>,
    next_generation: u32,
    strategy: Strategy,
    lanes: usize,
}

/// What a change did; the router counts, and tells those who remember answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// The filter's or the group's number.
    pub(crate) id: u32,
    /// A member came or went.
    pub(crate) member: bool,
    /// A group came or went.
    pub(crate) group: bool,
    /// A filter of the trie came or went.
    pub(crate) filter: bool,
}

impl WildFilters {
    pub(crate) fn new(strategy: Strategy, lanes: u16) -> Self {
        Self {
            trie: Trie::new(),
            groups: Slab::default(),
            names: SplitTable::new(64),
            next_generation: 0,
            strategy,
            lanes: usize::from(lanes.max(1)),
        }
    }

    pub(crate) fn insert(&mut self, key: &HashKey, filter: &str, target: Target) -> Change {
        let (id, new) = self.trie.find_or_insert(key, filter);
        let entry = self.trie.filter_mut(id).expect("found or just inserted");
        let member = entry.members.insert(key, target);
        Change { id, member, group: false, filter: new }
    }

    pub(crate) fn remove(&mut self, key: &HashKey, id: u32, who: Subscriber) -> Option<Change> {
        let entry = self.trie.filter_mut(id)?;
        if !entry.members.remove(key, who) {
            return None;
        }
        let filter = self.trie.purge(key, id);
        Some(Change { id, member: true, group: false, filter })
    }

    pub(crate) fn insert_shared(&mut self, key: &HashKey, name: &str, filter: &str, target: Target) -> Change {
        let (filter, new_filter) = self.trie.find_or_insert(key, filter);
        let found = self.find_group(key, filter, name);
        let id = found.unwrap_or_else(|| self.new_group(key, name, filter));
        let group = self.groups.get_mut(id).expect("found or just inserted");
        let member = group.insert(target);
        Change { id, member, group: found.is_none(), filter: new_filter }
    }

    pub(crate) fn remove_shared(&mut self, key: &HashKey, id: u32, who: Subscriber) -> Option<Change> {
        let group = self.groups.get_mut(id)?;
        if !group.remove(who) {
            return None;
        }
        if !group.is_empty() {
            return Some(Change { id, member: true, ..Change::default() });
        }
        let filter = self.drop_group(key, id);
        Some(Change { id, member: true, group: true, filter })
    }

    fn name_hash(key: &HashKey, filter: u32, name: &str) -> u64 {
        key.number(key.text(name) ^ u64::from(filter))
    }

    pub(crate) fn find_group(&self, key: &HashKey, filter: u32, name: &str) -> Option<u32> {
        let hash = Self::name_hash(key, filter, name);
        let is = |entry: &Tagged| {
            entry.tag == hash as u32
                && self.groups.get(entry.id).is_some_and(|group| group.filter == filter && *group.name == *name)
        };
        self.names.find(Tagged::filed_under(hash), is).map(|entry| entry.id)
    }

    fn new_group(&mut self, key: &HashKey, name: &str, filter: u32) -> u32 {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let id = self.groups.insert(Group::new(name, filter, generation, self.strategy, self.lanes));
        let hash = Self::name_hash(key, filter, name);
        self.names.insert(Tagged::filed_under(hash), Tagged::new(hash, id), Tagged::hash);
        let entry = self.trie.filter_mut(filter).expect("a group belongs to a filter");
        let list = entry.groups.get_or_insert_default();
        let place = list.len() as u32;
        list.push(GroupRef { id, generation });
        self.groups.get_mut(id).expect("just inserted").place = place;
        id
    }

    /// True: the filter went along.
    fn drop_group(&mut self, key: &HashKey, id: u32) -> bool {
        let Some(group) = self.groups.remove(id) else { return false };
        let hash = Self::name_hash(key, group.filter, &group.name);
        self.names.remove(Tagged::filed_under(hash), |entry| entry.id == id, Tagged::hash);
        if let Some(entry) = self.trie.filter_mut(group.filter)
            && let Some(list) = &mut entry.groups
        {
            list.swap_remove(group.place as usize);
            if list.is_empty() {
                entry.groups = None;
            } else if let Some(moved) = list.get(group.place as usize)
                && let Some(moved) = self.groups.get_mut(moved.id)
            {
                moved.place = group.place;
            }
        }
        self.trie.purge(key, group.filter)
    }

    #[inline]
    pub(crate) fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(crate) fn group_mut(&mut self, id: u32) -> Option<&mut Group> {
        self.groups.get_mut(id)
    }

    pub(crate) fn group_text(&self, id: u32, out: &mut String) -> bool {
        let Some(group) = self.groups.get(id) else { return false };
        if *group.name != *breakwater_proto::filter::QUEUE_GROUP {
            out.push_str("$share/");
        }
        out.push_str(&group.name);
        out.push('/');
        self.trie.text(group.filter, out)
    }
}
