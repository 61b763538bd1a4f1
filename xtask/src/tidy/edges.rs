//! Which crate knows which: the manifests and the table in ARCHITECTURE.md say the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};

use super::Report;
use super::tree::Tree;

const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Crate edges";
const PREFIX: &str = "breakwater-";

type Edges = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(tree: &Tree, report: &mut Report) -> Result<()> {
    let document = tree.get(DOCUMENT).ok_or_else(|| anyhow!("{DOCUMENT} is missing"))?;
    let written = from_table(&document.text);
    if written.is_empty() {
        report.fault(format!("{DOCUMENT}: no table under `{HEADING}`"));
    }
    let built = from_manifests(tree)?;
    for name in written.keys().chain(built.keys()).collect::<BTreeSet<_>>() {
        match (written.get(name), built.get(name)) {
            (Some(written), Some(built)) if written != built => report.fault(format!(
                "{name}: knows {} by its manifest, but {} by {DOCUMENT}",
                words(built),
                words(written)
            )),
            (None, _) => report.fault(format!("{DOCUMENT}: the crate {name} is not in the table of edges")),
            (_, None) => report.fault(format!("{DOCUMENT}: there is no crate {name}")),
            _ => {}
        }
    }
    let edges: usize = built.values().map(BTreeSet::len).sum();
    report.counts.push(format!("crate edges: {edges}"));
    Ok(())
}

fn words(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.iter().cloned().collect::<Vec<_>>().join(", ") }
}

/// Rows of the form `| crate | known, known | what it holds |`.
fn from_table(text: &str) -> Edges {
    let rows = text.lines().skip_while(|line| *line != HEADING).skip(1).take_while(|line| !line.starts_with("## "));
    let mut edges = Edges::new();
    for row in rows.filter(|line| line.starts_with("| ") && !line.starts_with("| crate ")) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (Some(name), Some(known)) = (cells.next(), cells.next()) else { continue };
        let known = known.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "–" | "-"));
        edges.insert(name.to_owned(), known.map(str::to_owned).collect());
    }
    edges
}

fn from_manifests(tree: &Tree) -> Result<Edges> {
    let mut edges = Edges::new();
    for member in tree.members() {
        let Some(name) = member.strip_prefix("crates/") else { continue };
        let manifest = tree.toml(&format!("{member}/Cargo.toml"))?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let known = dependencies.into_iter().flat_map(|table| table.keys());
        edges.insert(name.to_owned(), known.filter_map(|key| key.strip_prefix(PREFIX)).map(str::to_owned).collect());
    }
    Ok(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_read_from_the_table_under_the_heading() {
        let text = "| a | b |\n## Crate edges\n| crate | knows | holds |\n|---|---|---|\n| proto | – | wire |\n\
                    | shard | proto, session | turn |\n## Next\n| c | d | e |\n";
        let edges = from_table(text);
        assert_eq!(edges.keys().collect::<Vec<_>>(), ["proto", "shard"]);
        assert!(edges["proto"].is_empty());
        assert_eq!(edges["shard"].iter().collect::<Vec<_>>(), ["proto", "session"]);
    }
}
