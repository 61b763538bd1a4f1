//! Which source files the compiler reaches, and which of them only tests do.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::tree::{SourceFile, Tree};

pub struct Modules {
    /// File to whether it is built only for tests.
    reached: BTreeMap<String, bool>,
}

impl Modules {
    pub fn of(tree: &Tree) -> Modules {
        let mut modules = Modules { reached: BTreeMap::new() };
        for file in tree.rust() {
            if let Some(test) = root_of(tree, file) {
                modules.reach(tree, file, test, true);
            }
        }
        modules
    }

    /// Test code: built only for tests, or lying in a folder that holds nothing else.
    pub fn is_test(&self, path: &str) -> bool {
        self.reached.get(path).copied().unwrap_or(false) || in_test_folder(path)
    }

    pub(super) fn check(&self, tree: &Tree, report: &mut Report) {
        let ours = |file: &&SourceFile| file.member().is_some() || file.path.starts_with("fuzz/");
        for file in tree.rust().filter(ours) {
            if !self.reached.contains_key(&file.path) {
                report.fault(format!("{}: no `mod` leads here, so nothing checks it", file.path));
            }
            if file.path.contains("/src/") && file.stem() == "mod" {
                report.fault(format!("{}: use `name.rs` beside `name/`, not `mod.rs`", file.path));
            }
        }
    }

    fn reach(&mut self, tree: &Tree, file: &SourceFile, test: bool, root: bool) {
        // Reached by both kinds of path: it is not test code.
        let known = self.reached.get(&file.path).copied();
        if known.is_some_and(|known| !known || test) {
            return;
        }
        self.reached.insert(file.path.clone(), test);
        for child in children(file, root) {
            let found: BTreeSet<&str> = child.candidates.iter().map(String::as_str).collect();
            if let Some(next) = found.into_iter().find_map(|path| tree.get(path)) {
                self.reach(tree, next, test || child.test, false);
            }
        }
    }
}

fn in_test_folder(path: &str) -> bool {
    ["/tests/", "/benches/", "/examples/"].iter().any(|folder| path.contains(folder))
        || path.starts_with("tests/")
        || path.starts_with("fuzz/")
        || path.ends_with("/tests.rs")
}

/// Whether the file is the root of a target, and if so, whether of a test's.
fn root_of(tree: &Tree, file: &SourceFile) -> Option<bool> {
    if let Some(rest) = file.path.strip_prefix("fuzz/") {
        return (rest.starts_with("fuzz_targets/") || rest == "src/lib.rs").then_some(true);
    }
    let member = file.member()?;
    let rest = file.path.strip_prefix(member)?.trim_start_matches('/');
    let parts: Vec<&str> = rest.split('/').collect();
    match parts.as_slice() {
        ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["build.rs"] => Some(false),
        ["tests" | "benches" | "examples", _] | ["tests" | "benches" | "examples", _, "main.rs"] => Some(true),
        _ => is_named_in_manifest(tree, member, rest).then_some(true),
    }
}

fn is_named_in_manifest(tree: &Tree, member: &str, rest: &str) -> bool {
    tree.get(&format!("{member}/Cargo.toml"))
        .is_some_and(|manifest| manifest.text.contains(&format!("path = \"{rest}\"")))
}

struct Child {
    candidates: Vec<String>,
    test: bool,
}

/// The files that the `mod name;` lines of a file may mean.
fn children(file: &SourceFile, root: bool) -> Vec<Child> {
    let (folder, _) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let below = if root || file.stem() == "mod" { folder.to_owned() } else { format!("{folder}/{}", file.stem()) };
    let mut found = Vec::new();
    let (mut test, mut path) = (false, None);
    for line in file.text.lines().map(str::trim) {
        if line.starts_with("#[cfg(test)]") {
            test = true;
        }
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next();
        }
        if line.starts_with("#[") || line.starts_with("//") {
            continue;
        }
        if let Some(name) = declared(line) {
            let candidates = match path {
                Some(path) => vec![normal(&format!("{folder}/{path}"))],
                None => vec![format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")],
            };
            found.push(Child { candidates, test });
        }
        (test, path) = (false, None);
    }
    found
}

/// `a/b/../c` as `a/c`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// `x` of `mod x;`, whatever its visibility.
fn declared(line: &str) -> Option<&str> {
    let line = line.strip_suffix(';')?;
    let at = line.find("mod ")?;
    let before = line[..at].trim();
    (before.is_empty() || before == "pub" || before.starts_with("pub(")).then(|| line[at + 4..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_declarations_are_found_whatever_their_visibility() {
        assert_eq!(declared("mod a;"), Some("a"));
        assert_eq!(declared("pub(crate) mod b;"), Some("b"));
        assert_eq!(declared("mod inline {"), None);
        assert_eq!(declared("let mod_x = 1;"), None);
    }

    #[test]
    fn a_path_attribute_may_climb() {
        assert_eq!(normal("crates/a/src/../tests/x.rs"), "crates/a/tests/x.rs");
    }
}
