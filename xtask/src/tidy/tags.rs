//! Statement tags: which lines fulfil a statement of the specification, and which tests show it.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::Modules;
use super::tree::{SourceFile, Tree};

/// Every test function of the tree, by name.
pub struct Tests {
    pub found: BTreeMap<String, Vec<TestFn>>,
}

pub struct TestFn {
    pub path: String,
    pub line: usize,
    /// Tags in the function or in the comment above it.
    pub tags: BTreeSet<String>,
}

impl Tests {
    pub fn of(tree: &Tree) -> Tests {
        let mut tests = Tests { found: BTreeMap::new() };
        for file in tree.rust() {
            tests.read(file);
        }
        tests
    }

    pub fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    fn read(&mut self, file: &SourceFile) {
        let lines: Vec<&str> = file.text.lines().collect();
        let mut at = 0;
        while at < lines.len() {
            if is_test_attribute(lines[at]) {
                at = self.read_one(file, &lines, at);
            }
            at += 1;
        }
    }

    /// Reads the test whose attribute stands on `attribute`; returns its last line.
    fn read_one(&mut self, file: &SourceFile, lines: &[&str], attribute: usize) -> usize {
        let Some(ahead) = lines[attribute..].iter().take(12).position(|line| fn_name(line).is_some()) else {
            return attribute;
        };
        let start = attribute + ahead;
        let name = fn_name(lines[start]).expect("found above").to_owned();
        let depth = indent(lines[start]);
        let closes = |line: &&str| indent(line) == depth && line.trim_start().starts_with('}');
        let one_line = lines[start].trim_end().ends_with('}');
        let end = if one_line { start } else { start + lines[start..].iter().position(closes).unwrap_or(0) };
        let above = lines[..attribute].iter().rev().take_while(|line| is_lead(line)).count();
        let tags = lines[attribute - above..=end].iter().flat_map(|line| tags_in(line)).map(|(_, tag)| tag.to_owned());
        // The chores' own tests use invented ids.
        let tags = tags.filter(|_| !file.path.starts_with("xtask/"));
        let test = TestFn { path: file.path.clone(), line: start + 1, tags: tags.collect() };
        self.found.entry(name).or_default().push(test);
        end
    }
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim();
    line == "#[test]" || line.starts_with("#[tokio::test")
}

/// A comment or an attribute above a function.
fn is_lead(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn fn_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
    rest.split(['(', '<']).next()
}

/// Tags in the sources of the crates outside tests: tag to the places where it stands.
pub fn in_sources(tree: &Tree, modules: &Modules) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sources = tree.rust().filter(|file| file.path.starts_with("crates/") && file.path.contains("/src/"));
    for file in sources.filter(|file| !modules.is_test(&file.path)) {
        for (number, line) in file.lines_without_tests() {
            for (_, tag) in tags_in(line) {
                found.entry(tag.to_owned()).or_default().push(format!("{}:{number}", file.path));
            }
        }
    }
    found
}

/// Tags such as `MQTT-3.1.0-2` (5.0) and `MQTT3-3.1.0-2` (3.1.1) in a line, each with where it starts.
pub fn tags_in(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.match_indices("MQTT").filter_map(|(at, _)| tag_at(&line[at..]).map(|tag| (at, tag)))
}

fn tag_at(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("MQTT3-").or_else(|| text.strip_prefix("MQTT-"))?;
    let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(rest.len());
    let number = rest[..number].trim_end_matches(['.', '-']);
    let (section, statement) = number.split_once('-')?;
    let sections: Vec<&str> = section.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let whole = sections.len() == 3 && sections.iter().all(digits) && digits(&statement);
    whole.then(|| &text[..text.len() - rest.len() + number.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(line: &str) -> Vec<&str> {
        tags_in(line).map(|(_, tag)| tag).collect()
    }

    #[test]
    fn tags_of_both_versions_are_found_in_comments_and_strings() {
        assert_eq!(tags("x(); // [MQTT-3.1.2-3] [MQTT3-3.1.2-24]."), ["MQTT-3.1.2-3", "MQTT3-3.1.2-24"]);
        assert_eq!(tags("A => B, \"MQTT-3.3.4-7\", \"text\";"), ["MQTT-3.3.4-7"]);
    }

    #[test]
    fn what_only_looks_like_a_tag_is_none() {
        assert!(tags("MQTT-5 MQTT-3.1-2 MQTT-a.b.c-1 MQTTX-1.2.3-4").is_empty());
    }

    #[test]
    fn a_test_owns_the_tags_in_and_above_it() {
        let text = "#[cfg(test)]\nmod tests {\n    /// [MQTT-1.2.3-4]\n    #[test]\n    fn one() {\n        \
                    // [MQTT-5.6.7-8]\n    }\n\n    #[test]\n    fn two() {}\n}\n";
        let mut tests = Tests { found: BTreeMap::new() };
        tests.read(&SourceFile { path: "x.rs".to_owned(), text: text.to_owned() });
        assert_eq!(tests.found["one"][0].tags.len(), 2);
        assert!(tests.found["two"][0].tags.is_empty());
    }
}
