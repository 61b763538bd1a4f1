//! Findings as text for people and as JSON for scripts.

use std::fmt::Write as _;

use serde_json::json;

use super::{Facts, Finding, Severity};

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// The whole report.
pub(crate) fn report(facts: &Facts, findings: &[Finding], form: Form) -> String {
    match form {
        Form::Text => text(facts, findings),
        Form::Json => json_of(facts, findings),
    }
}

fn text(facts: &Facts, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{:8}  {}: {}", finding.severity.word(), finding.subject, finding.what);
        for (at, mend) in finding.mend.iter().enumerate() {
            let _ = writeln!(text, "          {} {mend}", if at == 0 { "mend:" } else { "  or:" });
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let asked = if facts.running { "the running node" } else { "the configuration; no node is running" };
    let _ = writeln!(
        text,
        "Looked at {asked}, {} listeners: {} critical, {} serious, {} warnings, {} notes.",
        facts.listeners.len(),
        count(Severity::Critical),
        count(Severity::Serious),
        count(Severity::Warning),
        count(Severity::Note)
    );
    text
}

fn json_of(facts: &Facts, findings: &[Finding]) -> String {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "severity": finding.severity.word(),
                "subject": finding.subject,
                "what": finding.what,
                "mend": finding.mend,
            })
        })
        .collect();
    let report = json!({ "running": facts.running, "listeners": facts.listeners.len(), "findings": findings });
    format!("{report:#}\n")
}
