//! HOCON, as EMQX 5 writes it: text to a tree whose values know their lines.
//!
//! A reader of our own, for two reasons. Remarks need line numbers, which no value of the library at hand carries. And the
//! file may be hostile: nesting, references, what they grow to and what is included are all bounded here.

mod parse;
mod resolve;
mod tokens;

use std::collections::BTreeMap;

use super::draft::{At, Draft};
use super::place::{Block, Given};
use super::{BYTES_MAX, Files};

/// Blocks inside blocks, counting the parts of a path.
pub(super) const DEPTH_MAX: usize = 32;

/// A value that refers to its own former one, which may again, so many times over.
const FORMER_MAX: u32 = 64;

/// Files that are included, all told, and how deep.
const INCLUDES_MAX: u32 = 32;
const INCLUDE_DEPTH_MAX: usize = 4;

/// Keys of one block, before references are followed.
type Map = BTreeMap<String, Slot>;

/// What stands behind a key.
#[derive(Debug)]
struct Slot {
    /// Written one after the other: texts join, lists join, blocks merge.
    parts: Vec<Part>,
    /// What stood there before, if this refers to something.
    former: Option<Box<Slot>>,
    /// How many stand behind each other.
    formers: u32,
    at: At,
}

#[derive(Debug)]
enum Part {
    Text(String),
    /// Spaces between two parts: part of a text, nothing between blocks.
    Gap(String),
    Reference {
        path: Vec<String>,
        optional: bool,
    },
    List(Vec<Slot>),
    Map(Map),
}

/// A value, references followed.
#[derive(Clone, Debug)]
enum Node {
    Text(String, At),
    List(Vec<Self>, At),
    Map(BTreeMap<String, Self>, At),
    /// It refers to what isn't there.
    Missing(String, At),
}

/// A value with its path.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    pub(super) given: Given,
    pub(super) at: At,
    /// The value can't be known, as it refers to this.
    pub(super) missing: Option<String>,
    /// Other values refer to it.
    pub(super) used: bool,
}

/// Reads a file and what it includes. Remarks are made on what is overridden and on what can't be included.
pub(super) fn read(text: &str, files: &mut dyn Files, draft: &mut Draft) -> Result<Vec<Leaf>, String> {
    let mut root = Map::new();
    let mut reader = parse::Reader { files, draft, bytes_left: BYTES_MAX - text.len().min(BYTES_MAX), includes: 0 };
    reader.file(text, 0, &mut root, 0)?;
    let resolved = resolve::resolve(&root)?;
    for at in resolved.referring {
        draft.mapped(at);
    }
    let mut leaves = Vec::new();
    flatten(resolved.root, &mut Vec::new(), &mut leaves);
    for leaf in &mut leaves {
        leaf.used = (1..=leaf.path.len()).any(|parts| resolved.used.contains(&leaf.path[..parts].join(".")));
    }
    Ok(leaves)
}

fn flatten(map: BTreeMap<String, Node>, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    for (key, node) in map {
        path.push(key);
        let (given, at, missing) = match node {
            Node::Map(inner, _) if !inner.is_empty() => {
                flatten(inner, path, leaves);
                path.pop();
                continue;
            }
            Node::Map(_, at) => (Given::List(Vec::new()), at, None),
            Node::Text(text, at) => (Given::Text(text), at, None),
            Node::Missing(name, at) => (Given::Text(String::new()), at, Some(name)),
            Node::List(items, at) => {
                let texts = items.iter().map(|item| match item {
                    Node::Text(text, _) => Some(text.clone()),
                    _ => None,
                });
                let given = texts.collect::<Option<Vec<_>>>().map_or_else(|| Given::Block(blocks(&items)), Given::List);
                (given, at, None)
            }
        };
        leaves.push(Leaf { path: path.clone(), given, at, missing, used: false });
        path.pop();
    }
}

/// Blocks of a list, if they hold texts and nothing else.
fn blocks(items: &[Node]) -> Vec<Block> {
    let text = |(key, node): (&String, &Node)| match node {
        Node::Text(text, _) => Some((key.clone(), text.clone())),
        _ => None,
    };
    let block = |item: &Node| match item {
        Node::Map(inner, _) => inner.iter().map(text).collect(),
        _ => None,
    };
    items.iter().map(block).collect::<Option<Vec<_>>>().unwrap_or_default()
}

#[cfg(test)]
mod tests;
