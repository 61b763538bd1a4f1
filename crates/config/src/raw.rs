//! What the sources say, before anybody knows what it means: keys, words, and where each stood.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A value as it stands in a source.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    /// A number, a word, a text: whatever is one thing.
    Word(Box<str>),
    List(Vec<Raw>),
    /// A table inside a list.
    Table(Vec<(Box<str>, Raw)>),
    /// A section was opened here; what is in it follows on its own.
    Section,
}

impl Raw {
    pub(crate) fn word(&self) -> Option<&str> {
        if let Self::Word(text) = self { Some(text) } else { None }
    }
}

/// One thing that a source says.
pub(crate) struct Entry {
    pub(crate) key: Vec<Box<str>>,
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}

impl Entry {
    /// Its key as a user would write it.
    pub(crate) fn name(&self) -> String {
        self.key.join(".")
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { origin: self.origin.clone(), key: self.name(), what: what.into() }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// A place in the file; lines and columns count from 1.
    File { path: Arc<Path>, line: u32, column: u32 },
    /// An environment variable.
    Environment(Box<str>),
    /// The flag `--set`.
    Set,
    /// The flag `--listen`.
    Listen,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "{name}"),
            Self::Set => f.write_str("--set"),
            Self::Listen => f.write_str("--listen"),
        }
    }
}

/// Something that is wrong with the configuration: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub origin: Origin,
    /// The key that it is about; may be empty.
    pub key: String,
    /// What is wrong, and what to do about it.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, what) = (&self.key, &self.what);
        let line = match (&self.origin, key.is_empty()) {
            (Origin::Default, true) => what.clone(),
            (Origin::Default, false) => format!("{key}: {what}"),
            (origin, true) => format!("{origin}: {what}"),
            (origin @ (Origin::Set | Origin::Listen), false) => format!("{origin} {key}: {what}"),
            (origin, false) => format!("{origin}: {key}: {what}"),
        };
        // Keys and names of variables come from outside: one line they stay, and harmless to a terminal.
        line.chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_harmless_line_whatever_its_key_is() {
        let origin = Origin::Environment("A\nB".into());
        let fault = Fault { origin, key: "\u{1b}[2J".into(), what: "is wrong".into() };
        assert_eq!(fault.to_string(), "A\\nB: \\u{1b}[2J: is wrong");
    }
}
