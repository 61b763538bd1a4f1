//! Every statement of the specification is tied to a line that fulfils it and to a test that shows it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::Report;
use super::modules::Modules;
use super::tags::{self, Tests};
use super::tree::Tree;

const FILE: &str = "conformance.toml";
const SERVERS: [&str; 2] = ["server", "both"];

struct Statement {
    id: String,
    version: String,
    applies: String,
    status: String,
    reason: String,
    breach: String,
    tests: Vec<String>,
}

/// Returns whether gaps are faults: asked for, or declared by `complete = true` in the file.
pub(super) fn check(tree: &Tree, modules: &Modules, strict: bool, report: &mut Report) -> Result<bool> {
    let table = tree.toml(FILE)?;
    let strict = strict || table.get("complete").and_then(toml::Value::as_bool).unwrap_or(false);
    let statements = read(&table)?;
    let tests = Tests::of(tree);
    let tagged = tags::in_sources(tree, modules);
    for statement in &statements {
        judge(statement, &tests, &tagged, strict, report);
    }
    unknown_tags(&statements, &tests, &tagged, report);
    count(&statements, report);
    Ok(strict)
}

fn judge(
    statement: &Statement,
    tests: &Tests,
    tagged: &BTreeMap<String, Vec<String>>,
    strict: bool,
    report: &mut Report,
) {
    let id = &statement.id;
    let has_tag = tagged.contains_key(id);
    let for_server = SERVERS.contains(&statement.applies.as_str());
    for test in statement.tests.iter().filter(|test| !tests.has(test)) {
        report.fault(format!("{id}: there is no test `{test}`"));
    }
    match statement.status.as_str() {
        "enforced" => {
            if !has_tag {
                report.fault(format!("{id}: enforced, but no line in crates/*/src carries its tag"));
            }
            if statement.tests.is_empty() {
                report.fault(format!("{id}: enforced, but no test is named"));
            }
        }
        "structural" | "departs" if statement.reason.is_empty() => {
            report.fault(format!("{id}: {} needs a reason", statement.status));
        }
        "structural" | "departs" => {}
        "client" if for_server => report.fault(format!("{id}: binds the server, so its status cannot be client")),
        "client" if statement.breach.is_empty() => {
            report.fault(format!("{id}: say in `breach` what the broker does when a client breaks it"));
        }
        "client" => {}
        "todo" if strict => report.fault(format!("{id}: not tied to a line and a test")),
        "todo" => {}
        other => report.fault(format!("{id}: unknown status `{other}`")),
    }
}

fn unknown_tags(statements: &[Statement], tests: &Tests, tagged: &BTreeMap<String, Vec<String>>, report: &mut Report) {
    let known: BTreeSet<&str> = statements.iter().map(|statement| statement.id.as_str()).collect();
    for (tag, places) in tagged.iter().filter(|(tag, _)| !known.contains(tag.as_str())) {
        report.fault(format!("{}: there is no statement {tag}", places[0]));
    }
    for test in tests.found.values().flatten() {
        for tag in test.tags.iter().filter(|tag| !known.contains(tag.as_str())) {
            report.fault(format!("{}:{}: there is no statement {tag}", test.path, test.line));
        }
    }
}

fn count(statements: &[Statement], report: &mut Report) {
    let part = |version: &str| {
        let server = statements.iter().filter(|s| s.version == version && SERVERS.contains(&s.applies.as_str()));
        let (mut all, mut tied, mut structural) = (0, 0, 0);
        for statement in server {
            all += 1;
            tied += usize::from(statement.status != "todo");
            structural += usize::from(statement.status == "structural");
        }
        let aside = if structural > 0 { format!(" ({structural} structural)") } else { String::new() };
        format!("{version} server {tied}/{all} tied{aside}")
    };
    let clients = statements.iter().filter(|s| s.status == "client").count();
    report.counts.push(format!("conformance: {}, {}; {clients} bind only the client", part("5.0"), part("3.1.1")));
}

fn read(table: &toml::Table) -> Result<Vec<Statement>> {
    let rows = table.get("statement").and_then(toml::Value::as_array).context("conformance.toml has no statements")?;
    let text = |row: &toml::Value, key: &str| row.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    Ok(rows
        .iter()
        .map(|row| Statement {
            id: text(row, "id"),
            version: text(row, "version"),
            applies: text(row, "applies"),
            status: text(row, "status"),
            reason: text(row, "reason"),
            breach: text(row, "breach"),
            tests: names(row.get("tests")),
        })
        .collect())
}

pub(super) fn names(value: Option<&toml::Value>) -> Vec<String> {
    let array = value.and_then(toml::Value::as_array);
    array.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned).collect()
}
