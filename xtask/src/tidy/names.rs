//! Names that say nothing are not names.

use super::Report;
use super::tree::{SourceFile, Tree, code_of};

const EMPTY: [&str; 11] =
    ["manager", "helper", "helpers", "util", "utils", "common", "misc", "handler", "handlers", "data", "info"];
const EMPTY_TOO: [&str; 3] = ["processor", "types", "type"];
const TYPES: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.rust() {
        if let Some(word) = file.stem().split('_').find(|word| is_empty(word)) {
            report.fault(format!("{}: `{word}` says nothing, name the thing", file.path));
        }
        type_names(file, report);
    }
}

fn type_names(file: &SourceFile, report: &mut Report) {
    for (at, line) in file.text.lines().enumerate() {
        let code = code_of(line);
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        // An associated type of a foreign trait has a given name; those stand alone as `type Item = ...` in an impl.
        let Some(name) = words.by_ref().find(|word| TYPES.contains(word)).and_then(|_| words.next()) else { continue };
        let declares =
            code.trim_start().starts_with("pub") || TYPES.iter().any(|word| code.trim_start().starts_with(word));
        if !declares {
            continue;
        }
        if let Some(word) = segments(name).find(|word| is_empty(word)) {
            report.fault(format!("{}:{}: `{name}`: `{word}` says nothing, name the thing", file.path, at + 1));
        }
    }
}

fn is_empty(word: &str) -> bool {
    EMPTY.contains(&word) || EMPTY_TOO.contains(&word)
}

/// `ClientInfo` as `client`, `info`.
fn segments(name: &str) -> impl Iterator<Item = String> {
    let mut parts: Vec<String> = Vec::new();
    for c in name.chars() {
        if c.is_uppercase() || parts.is_empty() {
            parts.push(String::new());
        }
        parts.last_mut().expect("pushed above").extend(c.to_lowercase());
    }
    parts.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_judged_by_its_words() {
        assert!(segments("SessionManager").any(|word| is_empty(&word)));
        assert!(!segments("Metadata").any(|word| is_empty(&word)));
        assert!(!segments("PacketKind").any(|word| is_empty(&word)));
    }
}
