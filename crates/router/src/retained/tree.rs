//! The topics that have a retained message, level by level, in an order that a cursor can resume in.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::keyed_hash::HashKey;
use crate::levels::levels;
use crate::slab::Slab;
use crate::symbols::Symbols;

/// A tree of topic levels. Edges are ordered, so that a reader who stops half-way needs only the last symbol it saw.
pub(super) struct TopicTree {
    nodes: Slab<TopicNode>,
    edges: BTreeMap<(u32, u32), u32>,
    symbols: Symbols,
    next_generation: u32,
}

#[derive(Clone, Copy)]
pub(super) struct TopicNode {
    parent: u32,
    symbol: u32,
    /// Tells this node from one that had its number before.
    pub(super) generation: u32,
    /// The retained message of this topic; [`NONE`] without.
    kept: u32,
    children: u32,
}

const NONE: u32 = u32::MAX;
pub(super) const ROOT: u32 = 0;

impl Default for TopicNode {
    fn default() -> Self {
        Self { parent: NONE, symbol: NONE, generation: 0, kept: NONE, children: 0 }
    }
}

impl TopicNode {
    pub(super) fn kept(&self) -> Option<u32> {
        (self.kept != NONE).then_some(self.kept)
    }
}

impl TopicTree {
    pub(super) fn new() -> Self {
        let mut nodes = Slab::default();
        nodes.insert(TopicNode::default());
        Self { nodes, edges: BTreeMap::new(), symbols: Symbols::new(), next_generation: 1 }
    }

    pub(super) fn node(&self, number: u32) -> Option<&TopicNode> {
        self.nodes.get(number)
    }

    pub(super) fn child(&self, key: &HashKey, parent: u32, level: &str) -> Option<u32> {
        let symbol = self.symbols.get(key, level)?;
        self.edges.get(&(parent, symbol)).copied()
    }

    /// The first child whose symbol is `from` or more, with its symbol.
    pub(super) fn next_child(&self, parent: u32, from: u32) -> Option<(u32, u32)> {
        let range = (Bound::Included((parent, from)), Bound::Included((parent, NONE)));
        self.edges.range(range).next().map(|((_, symbol), child)| (*symbol, *child))
    }

    pub(super) fn level(&self, symbol: u32) -> &str {
        self.symbols.text(symbol)
    }

    /// Names `kept` as the message of `topic`; returns the topic's node.
    pub(super) fn insert(&mut self, key: &HashKey, topic: &str, kept: u32) -> u32 {
        let mut number = ROOT;
        for level in levels(topic) {
            let symbol = self.symbols.acquire(key, level);
            if let Some(child) = self.edges.get(&(number, symbol)) {
                number = *child;
                self.symbols.release(key, symbol);
                continue;
            }
            let generation = self.next_generation;
            self.next_generation = generation.wrapping_add(1);
            let node = TopicNode { parent: number, symbol, generation, ..TopicNode::default() };
            let child = self.nodes.insert(node);
            self.edges.insert((number, symbol), child);
            self.nodes.get_mut(number).expect("just walked to").children += 1;
            number = child;
        }
        self.nodes.get_mut(number).expect("just walked to").kept = kept;
        number
    }

    /// Takes the message from a node, and removes the nodes that nothing needs any more.
    pub(super) fn remove(&mut self, key: &HashKey, node: u32) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.kept = NONE;
        }
        let mut number = node;
        while number != ROOT {
            let bare = |node: &&TopicNode| node.kept == NONE && node.children == 0;
            let Some(&node) = self.nodes.get(number).filter(bare) else { break };
            self.nodes.remove(number);
            self.edges.remove(&(node.parent, node.symbol));
            self.symbols.release(key, node.symbol);
            self.nodes.get_mut(node.parent).expect("a node's parent outlives it").children -= 1;
            number = node.parent;
        }
    }
}
