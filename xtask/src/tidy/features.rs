//! Every feature that the broker promises names the tests that show it.

use anyhow::{Context, Result};

use super::Report;
use super::conformance::names;
use super::tags::Tests;
use super::tree::Tree;

const FILE: &str = "features.toml";

pub(super) fn check(tree: &Tree, strict: bool, report: &mut Report) -> Result<()> {
    let table = tree.toml(FILE)?;
    let rows = table.get("feature").and_then(toml::Value::as_array).context("features.toml has no features")?;
    let tests = Tests::of(tree);
    let mut shown = 0;
    for row in rows {
        let name = row.get("name").and_then(toml::Value::as_str).unwrap_or_default();
        let named = names(row.get("tests"));
        for test in named.iter().filter(|test| !tests.has(test)) {
            report.fault(format!("{FILE}: `{name}`: there is no test `{test}`"));
        }
        if named.is_empty() && strict {
            report.fault(format!("{FILE}: `{name}` has no test"));
        }
        shown += usize::from(!named.is_empty());
    }
    report.counts.push(format!("features: {shown}/{} shown by tests; {} tests in all", rows.len(), tests.found.len()));
    Ok(())
}
