//! The configuration: every setting of the broker in one table, from which parsing, its errors, the defaults and the reference
//! page come, and the formats in which an operator writes settings down.
//!
//! Promise: text of any kind becomes the plain values that each plane reads, or all of its faults at once, one line each; nothing
//! is dropped in silence, and no input makes it panic.
//!
//! Not here: sockets, signals and threads; what a setting does.
#![forbid(unsafe_code)]

mod reference;
mod resolve;
mod table;
mod value;

pub use reference::reference;
pub use resolve::Resolved;
pub use table::TABLE;
pub use value::{Kind, Value};

/// From when on a changed setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// For connections made after the change.
    NewConnections,
    /// After a restart of the broker.
    Restart,
}

impl Applies {
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NewConnections => "new connections",
            Self::Restart => "restart",
        }
    }
}

/// One row of the table.
pub struct Setting {
    /// Its name: group and key with a dot between.
    pub key: &'static str,
    pub kind: Kind,
    /// A word that stands for one special number ("never", "none").
    pub word: Option<(&'static str, u64)>,
    /// As a user would write it.
    pub default: &'static str,
    pub applies: Applies,
    /// What it does, in a sentence or two, Markdown.
    pub meaning: &'static str,
    /// Stores it where its plane reads it.
    pub store: fn(&mut Resolved, &Value),
}

impl Setting {
    fn parse(&self, text: &str) -> Result<Value, String> {
        match self.word {
            Some((word, number)) if word == text => Ok(Value::Number(number)),
            Some((word, _)) => self.kind.parse(text).map_err(|fault| format!("{fault}, or {word}")),
            None => self.kind.parse(text),
        }
    }
}

/// Reads `key=value` pairs, the last of a key counting, and resolves all settings. All faults at once, one line each.
pub fn resolve<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Resolved, Vec<String>> {
    let mut resolved = Resolved::default();
    for setting in TABLE {
        let value = setting.parse(setting.default).expect("a test walks the table's defaults");
        (setting.store)(&mut resolved, &value);
    }
    let mut faults = Vec::new();
    for pair in pairs {
        match find(pair) {
            Ok((setting, value)) => (setting.store)(&mut resolved, &value),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        faults = resolved.settle();
    }
    if faults.is_empty() { Ok(resolved) } else { Err(faults) }
}

fn find(pair: &str) -> Result<(&'static Setting, Value), String> {
    let Some((key, text)) = pair.split_once('=') else {
        return Err(format!("--set {pair}: write it as key=value"));
    };
    let (key, text) = (key.trim(), text.trim());
    let Some(setting) = TABLE.iter().find(|setting| setting.key == key) else {
        return Err(format!("--set {pair}: there is no setting {key:?}; did you mean {}?", nearest(key)));
    };
    let value = setting.parse(text).map_err(|fault| format!("--set {pair}: {key} {fault}"))?;
    Ok((setting, value))
}

/// The known key that takes the fewest edits, a right last part counting for much.
fn nearest(key: &str) -> &'static str {
    let tail = |key: &str| key.rsplit('.').next().map(str::to_owned).unwrap_or_default();
    let distance = |known: &str| edits(key, known).min(1 + edits(&tail(key), &tail(known)));
    TABLE.iter().map(|setting| setting.key).min_by_key(|known| distance(known)).unwrap_or_default()
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
