//! The wildcard filters, and the exact filters of shared groups: a trie laid flat.
//!
//! Nodes lie in a slab, edges in one hash table under (parent, level symbol), level texts in a symbol table. All walks are
//! loops: a filter of 32,767 levels costs time and memory in proportion, and no stack.

use crate::keyed_hash::HashKey;
use crate::levels::levels;
use crate::members::Members;
use crate::shared::GroupRef;
use crate::slab::Slab;
use crate::split_table::SplitTable;
use crate::symbols::Symbols;

pub(crate) struct Trie {
    nodes: Slab<Node>,
    edges: SplitTable<Edge>,
    symbols: Symbols,
    filters: Slab<TrieFilter>,
}

/// A filter in the trie. Its text is the way from the root, so it is not stored again.
#[derive(Default)]
pub(crate) struct TrieFilter {
    node: u32,
    ends_in_hash: bool,
    pub(crate) members: Members,
    pub(crate) groups: Option<Groups>,
}

/// Boxed once more, because most filters have none and a filter then pays 8 bytes, not 24.
type Groups = Box<Vec<GroupRef>>;

/// A place in the trie: the levels from the root to here.
#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    /// The level that leads here; [`PLUS`] for `+`.
    symbol: u32,
    /// The child under `+`.
    plus: u32,
    /// The filter that ends here.
    ends: u32,
    /// The filter that ends here with a `/#` behind.
    hash: u32,
    /// Children under plain levels.
    children: u32,
}

#[derive(Clone, Copy)]
struct Edge {
    parent: u32,
    symbol: u32,
    child: u32,
}

const NONE: u32 = u32::MAX;
const PLUS: u32 = u32::MAX;
const ROOT: u32 = 0;

impl Default for Node {
    fn default() -> Self {
        Self { parent: NONE, symbol: NONE, plus: NONE, ends: NONE, hash: NONE, children: 0 }
    }
}

impl Node {
    fn is_bare(&self) -> bool {
        self.children == 0 && self.plus == NONE && self.ends == NONE && self.hash == NONE
    }
}

/// Working space of a walk, reused.
#[derive(Debug, Default)]
pub(crate) struct WalkSpace {
    here: Vec<u32>,
    next: Vec<u32>,
    /// The filters found.
    pub(crate) found: Vec<u32>,
}

/// How a walk went.
pub(crate) struct Walked {
    pub(crate) visited: u32,
    pub(crate) truncated: bool,
}

impl Trie {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::default();
        let root = nodes.insert(Node::default());
        debug_assert_eq!(root, ROOT);
        Self { nodes, edges: SplitTable::new(256), symbols: Symbols::new(), filters: Slab::default() }
    }

    pub(crate) fn filter(&self, id: u32) -> Option<&TrieFilter> {
        self.filters.get(id)
    }

    pub(crate) fn filter_mut(&mut self, id: u32) -> Option<&mut TrieFilter> {
        self.filters.get_mut(id)
    }

    /// Finds every filter that matches `topic`, level by level, into `space.found`. Stops after `visits_max` nodes: filters
    /// made of `{a,+}` at every level could otherwise make one message visit all of them.
    pub(crate) fn walk(&self, key: &HashKey, topic: &str, visits_max: u32, space: &mut WalkSpace) -> Walked {
        let WalkSpace { here, next, found } = space;
        found.clear();
        here.clear();
        here.push(ROOT);
        let mut visited = 1u32;
        // [MQTT-4.7.2-1] [MQTT3-4.7.2-1] a leading wildcard doesn't match a topic that begins with `$`.
        let mut wildcards_apply = !topic.starts_with('$');
        for level in levels(topic) {
            let mut symbol = None;
            next.clear();
            for &number in &*here {
                let Some(node) = self.nodes.get(number) else { continue };
                if node.hash != NONE && wildcards_apply {
                    found.push(node.hash);
                }
                if node.plus != NONE && wildcards_apply {
                    next.push(node.plus);
                }
                if node.children != 0 {
                    // No normalization, bytes only [MQTT-4.7.3-4] [MQTT3-4.7.3-4].
                    let symbol = *symbol.get_or_insert_with(|| self.symbols.get(key, level));
                    next.extend(symbol.and_then(|symbol| self.child(key, number, symbol)));
                }
            }
            std::mem::swap(here, next);
            visited = visited.saturating_add(here.len() as u32);
            if here.is_empty() {
                return Walked { visited, truncated: false };
            }
            if visited > visits_max {
                return Walked { visited, truncated: true };
            }
            wildcards_apply = true;
        }
        for &number in &*here {
            let Some(node) = self.nodes.get(number) else { continue };
            // `a/#` matches `a` as well.
            found.extend([node.ends, node.hash].into_iter().filter(|&id| id != NONE));
        }
        Walked { visited, truncated: false }
    }

    #[inline]
    fn child(&self, key: &HashKey, parent: u32, symbol: u32) -> Option<u32> {
        let is = |edge: &Edge| edge.parent == parent && edge.symbol == symbol;
        self.edges.find(key.pair(parent, symbol), is).map(|edge| edge.child)
    }

    pub(crate) fn find(&self, key: &HashKey, filter: &str) -> Option<u32> {
        let mut node = ROOT;
        for level in levels(filter) {
            node = match level {
                "#" => return Some(self.nodes.get(node)?.hash).filter(|&id| id != NONE),
                "+" => Some(self.nodes.get(node)?.plus).filter(|&child| child != NONE)?,
                level => self.child(key, node, self.symbols.get(key, level)?)?,
            };
        }
        Some(self.nodes.get(node)?.ends).filter(|&id| id != NONE)
    }

    /// The number of `filter`, and whether it is new. A new one must get a member or a group, or be purged.
    pub(crate) fn find_or_insert(&mut self, key: &HashKey, filter: &str) -> (u32, bool) {
        let mut number = ROOT;
        let mut ends_in_hash = false;
        for level in levels(filter) {
            match level {
                "#" => ends_in_hash = true,
                level => number = self.descend(key, number, level),
            }
        }
        let node = self.nodes.get_mut(number).expect("just walked to");
        let place = if ends_in_hash { &mut node.hash } else { &mut node.ends };
        if *place != NONE {
            return (*place, false);
        }
        let id = self.filters.insert(TrieFilter { node: number, ends_in_hash, ..TrieFilter::default() });
        *place = id;
        (id, true)
    }

    fn descend(&mut self, key: &HashKey, parent: u32, level: &str) -> u32 {
        if level == "+" {
            let plus = self.nodes.get(parent).map_or(NONE, |node| node.plus);
            if plus != NONE {
                return plus;
            }
            let child = self.nodes.insert(Node { parent, symbol: PLUS, ..Node::default() });
            self.nodes.get_mut(parent).expect("the parent was just walked to").plus = child;
            return child;
        }
        let symbol = self.symbols.acquire(key, level);
        if let Some(child) = self.child(key, parent, symbol) {
            self.symbols.release(key, symbol);
            return child;
        }
        let child = self.nodes.insert(Node { parent, symbol, ..Node::default() });
        self.nodes.get_mut(parent).expect("the parent was just walked to").children += 1;
        let edge = Edge { parent, symbol, child };
        self.edges.insert(key.pair(parent, symbol), edge, |edge| key.pair(edge.parent, edge.symbol));
        child
    }

    /// Removes a filter that has neither members nor groups, and the nodes that only it needed. True: it is gone.
    pub(crate) fn purge(&mut self, key: &HashKey, id: u32) -> bool {
        let Some(filter) = self.filters.get(id) else { return false };
        if !filter.members.is_empty() || filter.groups.is_some() {
            return false;
        }
        let mut number = filter.node;
        if let Some(node) = self.nodes.get_mut(number) {
            *(if filter.ends_in_hash { &mut node.hash } else { &mut node.ends }) = NONE;
        }
        self.filters.remove(id);
        while number != ROOT {
            let Some(&node) = self.nodes.get(number).filter(|node| node.is_bare()) else { break };
            self.nodes.remove(number);
            let parent = self.nodes.get_mut(node.parent).expect("a node's parent outlives it");
            if node.symbol == PLUS {
                parent.plus = NONE;
            } else {
                parent.children -= 1;
                let is = |edge: &Edge| edge.parent == node.parent && edge.symbol == node.symbol;
                let rehash = |edge: &Edge| key.pair(edge.parent, edge.symbol);
                self.edges.remove(key.pair(node.parent, node.symbol), is, rehash);
                self.symbols.release(key, node.symbol);
            }
            number = node.parent;
        }
        true
    }

    /// The first level of a filter.
    pub(crate) fn first_level(&self, id: u32) -> &str {
        let Some(filter) = self.filters.get(id) else { return "#" };
        let (mut number, mut first) = (filter.node, "#");
        while let Some(node) = self.nodes.get(number).filter(|_| number != ROOT) {
            first = if node.symbol == PLUS { "+" } else { self.symbols.text(node.symbol) };
            number = node.parent;
        }
        first
    }

    /// Appends the text of a filter, put together from the root on.
    pub(crate) fn text(&self, id: u32, out: &mut String) -> bool {
        let Some(filter) = self.filters.get(id) else { return false };
        let mut levels = Vec::new();
        let mut number = filter.node;
        while let Some(node) = self.nodes.get(number).filter(|_| number != ROOT) {
            levels.push(if node.symbol == PLUS { "+" } else { self.symbols.text(node.symbol) });
            number = node.parent;
        }
        if filter.ends_in_hash {
            levels.insert(0, "#");
        }
        for (place, level) in levels.iter().rev().enumerate() {
            if place > 0 {
                out.push('/');
            }
            out.push_str(level);
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn node_count(&self) -> u32 {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purging_leaves_only_nodes_that_other_filters_need() {
        let key = HashKey::new(1);
        let mut trie = Trie::new();
        let filters = ["a/+/c", "a/+/c/#", "a/+", "+", "#", "a/b/+/d"];
        let ids: Vec<u32> = filters.iter().map(|filter| trie.find_or_insert(&key, filter).0).collect();
        assert_eq!(trie.node_count(), 8);
        for (filter, id) in filters.iter().zip(&ids) {
            assert_eq!(trie.find(&key, filter), Some(*id));
            assert!(trie.purge(&key, *id));
            assert_eq!(trie.find(&key, filter), None);
        }
        assert_eq!(trie.node_count(), 1);
    }
}
