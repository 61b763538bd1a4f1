//! References followed, within a budget: what is short to write may be long to say.

use std::collections::{BTreeMap, BTreeSet};

use super::{At, Map, Node, Part, Slot};

/// Bytes that a file may grow to when its references are followed; a value counts for some as well.
const GROWN_MAX: usize = 4 << 20;
const VALUE_COST: usize = 32;

/// Values that are being looked up at the same time, each for the one before.
const OPEN_MAX: usize = 96;

pub(super) struct Resolved {
    pub(super) root: BTreeMap<String, Node>,
    /// Paths that references name.
    pub(super) used: BTreeSet<String>,
    /// Where references stand.
    pub(super) referring: Vec<At>,
}

struct Resolver<'a> {
    root: &'a Map,
    left: usize,
    open: Vec<String>,
    used: BTreeSet<String>,
    referring: Vec<At>,
}

pub(super) fn resolve(root: &Map) -> Result<Resolved, String> {
    let mut resolver =
        Resolver { root, left: GROWN_MAX, open: Vec::new(), used: BTreeSet::new(), referring: Vec::new() };
    let nodes = resolver.map(root, "")?;
    Ok(Resolved { root: nodes, used: resolver.used, referring: resolver.referring })
}

/// What parts have come to so far.
enum Sum {
    Nothing,
    Text(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
    Missing(String),
}

impl Resolver<'_> {
    fn spend(&mut self, bytes: usize, at: At) -> Result<(), String> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(format!("line {}: references make the file grow beyond {GROWN_MAX} bytes", at.line)),
        }
    }

    fn map(&mut self, map: &Map, path: &str) -> Result<BTreeMap<String, Node>, String> {
        let mut nodes = BTreeMap::new();
        for (key, slot) in map {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.spend(key.len(), slot.at)?;
            if let Some(node) = self.slot(slot, &inner)? {
                nodes.insert(key.clone(), node);
            }
        }
        Ok(nodes)
    }

    /// The value of a slot; nothing if it is only an optional reference to what isn't there.
    fn slot(&mut self, slot: &Slot, path: &str) -> Result<Option<Node>, String> {
        if self.open.len() >= OPEN_MAX {
            return Err(format!("line {}: references lead on and on", slot.at.line));
        }
        self.open.push(path.to_owned());
        let node = self.parts(slot, path);
        self.open.pop();
        let node = node?;
        let Some(former) = &slot.former else { return Ok(node) };
        match node {
            // An optional reference to nothing changes nothing; a block that comes by reference merges like any other.
            None => self.slot(former, path),
            Some(Node::Map(over, at)) => match self.slot(former, path)? {
                Some(Node::Map(mut under, _)) => {
                    merge(&mut under, over);
                    Ok(Some(Node::Map(under, at)))
                }
                _ => Ok(Some(Node::Map(over, at))),
            },
            node => Ok(node),
        }
    }

    fn parts(&mut self, slot: &Slot, path: &str) -> Result<Option<Node>, String> {
        let mut sum = Sum::Nothing;
        for part in &slot.parts {
            self.spend(VALUE_COST, slot.at)?;
            let next = match part {
                Part::Text(text) => {
                    self.spend(text.len(), slot.at)?;
                    Sum::Text(text.clone())
                }
                Part::Gap(gap) => match &sum {
                    Sum::Text(_) => Sum::Text(gap.clone()),
                    _ => continue,
                },
                Part::List(items) => Sum::List(self.list(items, path)?),
                Part::Map(map) => Sum::Map(self.map(map, path)?),
                Part::Reference { path: wanted, optional } => {
                    self.referring.push(slot.at);
                    self.reference(slot, path, wanted, *optional)?
                }
            };
            sum = add(sum, next, slot.at)?;
        }
        Ok(match sum {
            Sum::Nothing => None,
            Sum::Text(text) => Some(Node::Text(text, slot.at)),
            Sum::List(items) => Some(Node::List(items, slot.at)),
            Sum::Map(map) => Some(Node::Map(map, slot.at)),
            Sum::Missing(name) => Some(Node::Missing(name, slot.at)),
        })
    }

    fn list(&mut self, items: &[Slot], path: &str) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        for item in items {
            nodes.extend(self.slot(item, &format!("{path}[]"))?);
        }
        Ok(nodes)
    }

    fn reference(&mut self, slot: &Slot, own: &str, wanted: &[String], optional: bool) -> Result<Sum, String> {
        let name = wanted.join(".");
        let own = own.trim_end_matches("[]");
        let node = if name == own {
            match &slot.former {
                Some(former) => self.slot(former, own)?,
                None => None,
            }
        } else if self.open.contains(&name) {
            return Err(format!("line {}: {name:?} refers to itself", slot.at.line));
        } else {
            self.used.insert(name.clone());
            self.lookup(wanted, &name)?
        };
        Ok(match node {
            None if optional => Sum::Nothing,
            None => Sum::Missing(name),
            Some(Node::Text(text, _)) => Sum::Text(text),
            Some(Node::List(items, _)) => Sum::List(items),
            Some(Node::Map(map, _)) => Sum::Map(map),
            Some(Node::Missing(name, _)) => Sum::Missing(name),
        })
    }

    fn lookup(&mut self, path: &[String], name: &str) -> Result<Option<Node>, String> {
        let mut map = self.root;
        for (at, part) in path.iter().enumerate() {
            let Some(slot) = map.get(part) else { return Ok(None) };
            match slot.parts.as_slice() {
                [Part::Map(inner)] if slot.former.is_none() && at + 1 < path.len() => map = inner,
                _ => {
                    let here = path[..=at].join(".");
                    if at + 1 < path.len() && self.open.contains(&here) {
                        return Err(format!("line {}: {name:?} refers to itself", slot.at.line));
                    }
                    let node = self.slot(slot, &here)?;
                    return Ok(inside(node, &path[at + 1..]));
                }
            }
        }
        Ok(None)
    }
}

fn inside(node: Option<Node>, path: &[String]) -> Option<Node> {
    let mut node = node?;
    for part in path {
        match node {
            Node::Map(mut map, _) => node = map.remove(part)?,
            _ => return None,
        }
    }
    Some(node)
}

fn add(sum: Sum, next: Sum, at: At) -> Result<Sum, String> {
    Ok(match (sum, next) {
        (Sum::Nothing, next) => next,
        (sum, Sum::Nothing) => sum,
        (Sum::Missing(name), _) | (_, Sum::Missing(name)) => Sum::Missing(name),
        (Sum::Text(mut a), Sum::Text(b)) => {
            a.push_str(&b);
            Sum::Text(a)
        }
        (Sum::List(mut a), Sum::List(b)) => {
            a.extend(b);
            Sum::List(a)
        }
        (Sum::Map(mut a), Sum::Map(b)) => {
            merge(&mut a, b);
            Sum::Map(a)
        }
        _ => return Err(format!("line {}: text, lists and blocks can't be joined with each other", at.line)),
    })
}

fn merge(under: &mut BTreeMap<String, Node>, over: BTreeMap<String, Node>) {
    for (key, node) in over {
        match (under.get_mut(&key), node) {
            (Some(Node::Map(a, _)), Node::Map(b, _)) => merge(a, b),
            (_, node) => {
                under.insert(key, node);
            }
        }
    }
}
