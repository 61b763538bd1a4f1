//! `cargo xtask tie`: a test that carries a statement's tag shows that statement. Writes their names into
//! `conformance.toml`, and marks a statement enforced once it has both a tagged line and a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tidy::modules::Modules;
use crate::tidy::tags::{self, Tests};
use crate::tidy::tree::Tree;

const FILE: &str = "conformance.toml";
const ROW: &str = "[[statement]]\n";

pub fn command(root: &Path) -> Result<()> {
    let tree = Tree::load(root)?;
    let tests = Tests::of(&tree);
    let sources = tags::in_sources(&tree, &Modules::of(&tree));
    let text = &tree.get(FILE).context("conformance.toml is missing")?.text;
    let mut parts = text.split(ROW);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut tied = 0;
    for row in parts {
        let id = value_of(row, "id").unwrap_or_default();
        let mut names: BTreeSet<&str> = strings(row, "tests").into_iter().filter(|name| tests.has(name)).collect();
        names.extend(
            tests
                .found
                .iter()
                .filter(|(_, all)| all.iter().any(|t| t.tags.contains(id)))
                .map(|(name, _)| name.as_str()),
        );
        let complete = !names.is_empty() && sources.contains_key(id);
        tied += usize::from(complete);
        out.push_str(ROW);
        out.push_str(&rewritten(row, &names, complete));
    }
    fs::write(root.join(FILE), out)?;
    println!("{tied} statements have a tagged line and a test");
    Ok(())
}

fn rewritten(row: &str, tests: &BTreeSet<&str>, complete: bool) -> String {
    let mut out = String::with_capacity(row.len() + 64);
    for line in row.lines() {
        if line.starts_with("tests = ") {
            let names: Vec<String> = tests.iter().map(|name| format!("\"{name}\"")).collect();
            out.push_str(&format!("tests = [{}]", names.join(", ")));
        } else if line == "status = \"todo\"" && complete {
            out.push_str("status = \"enforced\"");
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

fn value_of<'a>(row: &'a str, key: &str) -> Option<&'a str> {
    row.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
}

fn strings<'a>(row: &'a str, key: &str) -> Vec<&'a str> {
    let list = row.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ["));
    list.into_iter().flat_map(|list| list.split('"').skip(1).step_by(2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gets_its_tests_and_its_status() {
        let row = "id = \"MQTT-1.2.3-4\"\nstatus = \"todo\"\ntests = [\"old\"]\n\n";
        let out = rewritten(row, &BTreeSet::from(["new", "old"]), true);
        assert_eq!(out, "id = \"MQTT-1.2.3-4\"\nstatus = \"enforced\"\ntests = [\"new\", \"old\"]\n\n");
        assert_eq!(strings(row, "tests"), ["old"]);
    }
}
