//! The tree's own text files, read once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// Folders that hold nothing of ours: build output, caches, installed modules, what the fuzzer finds.
const SKIPPED: [&str; 7] = ["target", ".git", ".cache", "node_modules", "corpus", "artifacts", "__pycache__"];
const TEXT: [&str; 12] = ["rs", "toml", "md", "sh", "py", "js", "mjs", "ts", "json", "yml", "conf", "txt"];
/// Our own text files without an extension.
const BARE: [&str; 4] = ["Makefile", "run", ".gitignore", "LICENSE"];

pub struct Tree {
    pub root: PathBuf,
    pub files: Vec<SourceFile>,
}

pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
}

impl Tree {
    pub fn load(root: &Path) -> Result<Tree> {
        let mut tree = Tree { root: root.to_path_buf(), files: Vec::new() };
        tree.walk(root)?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    pub fn rust(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    pub fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|at| &self.files[at])
    }

    pub fn toml(&self, path: &str) -> Result<toml::Table> {
        let file = self.get(path).ok_or_else(|| anyhow!("{path} is missing"))?;
        file.text.parse().with_context(|| format!("{path} is not valid TOML"))
    }

    /// The folders of the workspace's members: `crates/*` and `xtask`.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml")).filter(|folder| {
            *folder == "xtask" || folder.strip_prefix("crates/").is_some_and(|name| !name.contains('/'))
        })
    }

    fn walk(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !SKIPPED.contains(&name.as_ref()) {
                    self.walk(&entry.path())?;
                }
            } else if kind.is_file() && is_text(&name) {
                self.read(&entry.path())?;
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let relative = path.strip_prefix(&self.root).expect("walked from the root");
        let relative = relative.to_string_lossy().replace('\\', "/");
        // An editor's file can vanish between the listing and the read.
        if let Ok(bytes) = fs::read(path) {
            self.files.push(SourceFile { path: relative, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
        Ok(())
    }
}

fn is_text(name: &str) -> bool {
    if BARE.contains(&name) {
        return true;
    }
    let locked = name == "Cargo.lock" || name == "package-lock.json";
    !locked && name.rsplit_once('.').is_some_and(|(_, ending)| TEXT.contains(&ending))
}

impl SourceFile {
    /// The folder of the crate that the file belongs to, such as `crates/proto`.
    pub fn member(&self) -> Option<&str> {
        if self.path.starts_with("xtask/") {
            return Some("xtask");
        }
        let name = self.path.strip_prefix("crates/")?.split('/').next()?;
        self.path.get(.."crates/".len() + name.len())
    }

    /// `clippy` for `crates/x/src/clippy.rs`.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split_once('.').map_or(name, |(stem, _)| stem)
    }

    /// Numbered lines outside `#[cfg(test)]` items. Relies on rustfmt: an item ends at the brace that stands as deep
    /// as its attribute.
    pub fn lines_without_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut item = TestItem::Outside;
        self.text.lines().enumerate().filter_map(move |(at, line)| {
            item.step(line);
            matches!(item, TestItem::Outside).then_some((at + 1, line))
        })
    }
}

/// Where a line stands with respect to a `#[cfg(test)]` item.
enum TestItem {
    Outside,
    /// The attribute has been read, at this depth; the item's first lines follow.
    Head(usize),
    /// Inside the item's braces.
    Body(usize),
    /// The line that closes the item.
    End,
}

impl TestItem {
    fn step(&mut self, line: &str) {
        let depth = line.len() - line.trim_start().len();
        let text = line.trim();
        *self = match self {
            TestItem::Outside | TestItem::End if text.starts_with("#[cfg(test)]") => TestItem::Head(depth),
            TestItem::Outside | TestItem::End => TestItem::Outside,
            TestItem::Head(_) if text.ends_with(';') || text.ends_with('}') => TestItem::End,
            TestItem::Head(at) if text.ends_with('{') => TestItem::Body(*at),
            TestItem::Head(at) => TestItem::Head(*at),
            TestItem::Body(at) if depth == *at && text.starts_with('}') => TestItem::End,
            TestItem::Body(at) => TestItem::Body(*at),
        };
    }
}

/// A line without its comment and without the insides of its string literals, for searches in code.
pub fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => {
                quoted = !quoted;
                code.push('"');
            }
            _ if quoted => {}
            '/' if chars.peek() == Some(&'/') => break,
            '\'' if chars.peek() == Some(&'"') => drop(chars.next()),
            _ => code.push(c),
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_only_tests_build_are_left_out() {
        let text = "a();\n#[cfg(test)]\nfn one() {}\nb();\n#[cfg(test)]\nuse x::y;\nc();\n#[cfg(test)]\nmod tests {\n    \
                    fn f() {\n    }\n}\nd();\n";
        let file = SourceFile { path: "x.rs".to_owned(), text: text.to_owned() };
        let left: Vec<&str> = file.lines_without_tests().map(|(_, line)| line).collect();
        assert_eq!(left, ["a();", "b();", "c();", "d();"]);
    }
}
