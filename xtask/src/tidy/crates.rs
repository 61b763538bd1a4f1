//! Every crate inherits the workspace's lints and its metadata, and forbids unsafe code in its root.

use anyhow::Result;

use super::Report;
use super::tree::Tree;

const INHERITED: [&str; 4] = ["version", "edition", "license", "rust-version"];

pub(super) fn check(tree: &Tree, report: &mut Report) -> Result<()> {
    let members: Vec<&str> = tree.members().collect();
    for member in &members {
        let path = format!("{member}/Cargo.toml");
        let manifest = tree.toml(&path)?;
        if !inherits(manifest.get("lints")) {
            report.fault(format!("{path}: `[lints] workspace = true` is missing"));
        }
        let package = manifest.get("package").and_then(toml::Value::as_table);
        for key in INHERITED {
            if !inherits(package.and_then(|package| package.get(key))) {
                report.fault(format!("{path}: `{key}.workspace = true` is missing"));
            }
        }
        if package.and_then(|package| package.get("publish")).and_then(toml::Value::as_bool) != Some(false) {
            report.fault(format!("{path}: `publish = false` is missing"));
        }
        roots(tree, member, report);
    }
    report.counts.push(format!("crates: {}", members.len()));
    Ok(())
}

fn inherits(value: Option<&toml::Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
}

fn roots(tree: &Tree, member: &str, report: &mut Report) {
    for root in ["lib.rs", "main.rs"] {
        let path = format!("{member}/src/{root}");
        if tree.get(&path).is_some_and(|file| !file.text.contains("#![forbid(unsafe_code)]")) {
            report.fault(format!("{path}: `#![forbid(unsafe_code)]` is missing"));
        }
    }
}
