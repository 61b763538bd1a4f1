//! Reading the retained messages of a filter, in slices.

use breakwater_proto::{Instant, Message, is_wildcard};

use super::Retained;
use super::tree::{ROOT, TopicTree};
use crate::keyed_hash::HashKey;
use crate::locks::read;

/// Where a subscriber stands in reading the retained messages of its filter. Resumable at any time: the retained messages
/// may change in between. A message that is there from the first slice to the last is read once; one that comes or goes in
/// the meantime may be read or not (the subscription, inserted before, brings it live).
#[derive(Debug)]
pub struct RetainedCursor {
    filter: Box<str>,
    levels: Box<[Level]>,
    /// The way from the root to the place reached; empty at the end.
    way: Vec<Step>,
    begun: bool,
}

#[derive(Clone, Copy, Debug)]
enum Level {
    Plus,
    Hash,
    Text { from: u32, to: u32 },
}

/// A node on the way, and the children seen.
#[derive(Clone, Copy, Debug)]
struct Step {
    node: u32,
    generation: u32,
    /// The filter level that its children must match.
    level: u32,
    /// Symbol of the child to look at next.
    next: u32,
    entered: bool,
}

/// Whether a cursor has reached its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    More,
}

/// Nodes looked at per locking of the tree: some ten microseconds, which is what a new retained topic waits at most.
const LOCKED_LOOKS: usize = 128;

impl RetainedCursor {
    /// `filter` is checked and without a share prefix.
    pub fn new(filter: &str) -> Self {
        let mut from = 0;
        let levels = filter.split('/').map(|level| {
            let to = from + level.len() as u32;
            let text = Level::Text { from, to };
            from = to + 1;
            match level {
                "+" => Level::Plus,
                "#" => Level::Hash,
                _ => text,
            }
        });
        // An exact filter is answered by one probe and needs no levels.
        let levels = if is_wildcard(filter) { levels.collect() } else { Box::default() };
        Self { filter: filter.into(), levels, way: Vec::new(), begun: false }
    }

    pub fn filter(&self) -> &str {
        &self.filter
    }

    fn is_done(&self) -> bool {
        self.begun && self.way.is_empty()
    }

    /// One look at the tree. Some: the number of a message that matches.
    fn step(&mut self, key: &HashKey, tree: &TopicTree) -> Option<u32> {
        let step = self.way.last_mut()?;
        let Some(node) = tree.node(step.node).filter(|node| node.generation == step.generation) else {
            self.way.pop(); // Its last topic went away.
            return None;
        };
        let level = self.levels.get(step.level as usize).copied();
        let first_look = !std::mem::replace(&mut step.entered, true);
        match level {
            None => {
                self.way.pop();
                node.kept()
            }
            Some(Level::Text { from, to }) => {
                let child = tree.child(key, step.node, &self.filter[from as usize..to as usize]);
                let level = step.level + 1;
                self.way.pop();
                self.enter(tree, child, level);
                None
            }
            Some(Level::Plus) => {
                let level = step.level + 1;
                self.next_child(tree, level);
                None
            }
            // `a/#` matches `a` as well.
            Some(Level::Hash) if first_look && node.kept().is_some() => node.kept(),
            Some(Level::Hash) => {
                let level = step.level;
                self.next_child(tree, level);
                None
            }
        }
    }

    fn next_child(&mut self, tree: &TopicTree, level: u32) {
        let Some(step) = self.way.last_mut() else { return };
        let Some((symbol, child)) = tree.next_child(step.node, step.next) else {
            self.way.pop();
            return;
        };
        step.next = symbol + 1;
        // [MQTT-4.7.2-1] [MQTT3-4.7.2-1] a leading wildcard doesn't match a topic that begins with `$`.
        if step.node != ROOT || !tree.level(symbol).starts_with('$') {
            self.enter(tree, Some(child), level);
        }
    }

    fn enter(&mut self, tree: &TopicTree, child: Option<u32>, level: u32) {
        if let Some(number) = child
            && let Some(node) = tree.node(number)
        {
            self.way.push(Step { node: number, generation: node.generation, level, next: 0, entered: false });
        }
    }
}

impl Retained {
    /// Appends messages that match the cursor's filter, with their revisions, after at most `budget` looks.
    pub(crate) fn next(
        &self,
        key: &HashKey,
        cursor: &mut RetainedCursor,
        now: Instant,
        budget: usize,
        out: &mut Vec<(Message, u64)>,
    ) -> Progress {
        if cursor.is_done() || budget == 0 {
            return if cursor.is_done() { Progress::Done } else { Progress::More };
        }
        if cursor.levels.is_empty() {
            cursor.begun = true;
            out.extend(self.get(key, &cursor.filter, now));
            return Progress::Done;
        }
        let mut looks = 0;
        while looks < budget && !cursor.is_done() {
            let tree = read(&self.tree);
            if !cursor.begun {
                cursor.begun = true;
                cursor.enter(&tree, Some(ROOT), 0);
            }
            let slice = budget.min(looks + LOCKED_LOOKS);
            while looks < slice && !cursor.way.is_empty() {
                looks += 1;
                // While the tree is locked for reading no message can leave it, so that the number is good.
                out.extend(cursor.step(key, &tree).and_then(|id| self.get_by_id(id, now)));
            }
        }
        if cursor.is_done() { Progress::Done } else { Progress::More }
    }
}
