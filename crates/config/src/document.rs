//! `breakwater.toml`: a document becomes a flat list of keys and words, each with its line and column.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml_edit::{Document, InlineTable, Item, Table, Value};

use crate::raw::{Entry, Fault, Origin, Raw};

/// Largest file that is read.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting that any key has, with some room.
const DEPTH_MAX: usize = 8;

/// Entries of a document, and what is wrong with it as a document.
pub(crate) fn entries(path: &Arc<Path>, text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let mut walk = Walk { path, lines: Lines::of(text), entries: Vec::new(), faults: Vec::new() };
    if text.len() > FILE_BYTES_MAX {
        walk.fault(None, "", "is longer than 1 MB, which is the most that is read".into());
        return (walk.entries, walk.faults);
    }
    match Document::parse(text) {
        Ok(document) => walk.table(&mut Vec::new(), document.as_table()),
        Err(fault) => {
            let what = fault.message().replace(['\n', '\r'], ", ");
            walk.fault(fault.span(), "", format!("this is not TOML: {what}"));
        }
    }
    (walk.entries, walk.faults)
}

/// One value, as it would stand behind the `=`.
pub(crate) fn value(text: &str) -> Option<Raw> {
    let document = format!("x = {text}");
    let parsed = Document::parse(document.as_str()).ok()?;
    // One value and nothing behind it.
    let value = parsed.as_table().get("x").filter(|_| parsed.as_table().len() == 1)?.as_value()?;
    raw(value, &document, 0).ok()
}

struct Walk<'a> {
    path: &'a Arc<Path>,
    lines: Lines<'a>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
}

type Key = Vec<Box<str>>;

impl Walk<'_> {
    fn table(&mut self, key: &mut Key, table: &Table) {
        for (name, item) in table {
            let span = table.key(name).and_then(toml_edit::Key::span);
            self.item(key, name, span, item);
        }
    }

    fn inline(&mut self, key: &mut Key, table: &InlineTable) {
        for (name, value) in table {
            let span = table.key(name).and_then(toml_edit::Key::span);
            self.value(key, name, span, value);
        }
    }

    fn item(&mut self, key: &mut Key, name: &str, span: Option<Range<usize>>, item: &Item) {
        match item {
            Item::None => {}
            Item::Value(value) => self.value(key, name, span, value),
            Item::Table(table) => self.nested(key, name, span, |walk, key| walk.table(key, table)),
            Item::ArrayOfTables(tables) => {
                let all: Result<Vec<Raw>, String> =
                    tables.iter().map(|table| raw_table(table, self.lines.text, 1)).collect();
                self.entry(key, name, span, all.map(Raw::List));
            }
        }
    }

    fn value(&mut self, key: &mut Key, name: &str, span: Option<Range<usize>>, value: &Value) {
        match value {
            Value::InlineTable(table) => self.nested(key, name, span, |walk, key| walk.inline(key, table)),
            value => self.entry(key, name, span, raw(value, self.lines.text, 0)),
        }
    }

    /// A section: an entry of its own, because an empty one means something too.
    fn nested(
        &mut self,
        key: &mut Key,
        name: &str,
        span: Option<Range<usize>>,
        body: impl FnOnce(&mut Self, &mut Key),
    ) {
        if key.len() >= DEPTH_MAX {
            return self.fault(span, name, "stands deeper in sections than any key does".into());
        }
        self.entry(key, name, span, Ok(Raw::Section));
        key.push(name.into());
        body(self, key);
        key.pop();
    }

    fn entry(&mut self, key: &Key, name: &str, span: Option<Range<usize>>, raw: Result<Raw, String>) {
        let mut key = key.clone();
        key.push(name.into());
        match raw {
            Ok(raw) => self.entries.push(Entry { key, raw, origin: self.lines.origin(self.path, span) }),
            Err(what) => self.fault(span, &key.join("."), what),
        }
    }

    fn fault(&mut self, span: Option<Range<usize>>, key: &str, what: String) {
        self.faults.push(Fault { origin: self.lines.origin(self.path, span), key: key.into(), what });
    }
}

/// A value as it stands in a text, or as it was made without one.
pub(crate) fn raw(value: &Value, text: &str, depth: usize) -> Result<Raw, String> {
    let written = || value.span().and_then(|span| text.get(span)).map(str::trim);
    let word = match value {
        _ if depth > DEPTH_MAX => return Err(format!("nests lists deeper than {DEPTH_MAX}")),
        Value::String(text) => text.value().clone(),
        Value::Integer(number) => integer(written(), *number.value()),
        Value::Float(number) => written().map_or_else(|| number.value().to_string(), str::to_owned),
        Value::Boolean(flag) => flag.value().to_string(),
        Value::Datetime(time) => time.value().to_string(),
        Value::Array(array) => {
            let all: Result<Vec<Raw>, String> = array.iter().map(|value| raw(value, text, depth + 1)).collect();
            return Ok(Raw::List(all?));
        }
        Value::InlineTable(table) => {
            let pair = |(key, value): (&str, &Value)| Ok((key.into(), raw(value, text, depth + 1)?));
            let pairs: Result<Vec<(Box<str>, Raw)>, String> = table.iter().map(pair).collect();
            return Ok(Raw::Table(pairs?));
        }
    };
    Ok(Raw::Word(word.into()))
}

fn raw_table(table: &Table, text: &str, depth: usize) -> Result<Raw, String> {
    let pair = |(key, item): (&str, &Item)| {
        let raw = item.as_value().map(|value| raw(value, text, depth)).ok_or("has a section inside of a list")?;
        Ok((key.into(), raw?))
    };
    let pairs: Result<Vec<(Box<str>, Raw)>, String> = table.iter().map(pair).collect();
    Ok(Raw::Table(pairs?))
}

/// Decimal, but for octal numbers: those are permissions, and read as they are written.
fn integer(written: Option<&str>, number: i64) -> String {
    written.filter(|written| written.starts_with("0o")).map_or_else(|| number.to_string(), str::to_owned)
}

/// Where each line of a text begins.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    fn origin(&self, path: &Arc<Path>, span: Option<Range<usize>>) -> Origin {
        let at = span.map_or(0, |span| span.start).min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts[line - 1];
        let column = 1 + self.text.get(start..at).map_or(0, |before| before.chars().count());
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Origin::File { path: Arc::clone(path), line: number(line), column: number(column) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let (entries, faults) = entries(&Path::new("b.toml").into(), text);
        let entry = |entry: &Entry| {
            let word = match &entry.raw {
                Raw::Word(word) => word.to_string(),
                Raw::List(items) => format!("[{}]", items.len()),
                Raw::Table(_) => "{}".into(),
                Raw::Section => "§".into(),
            };
            format!("{} {}={word}", entry.origin, entry.name())
        };
        (entries.iter().map(entry).collect(), faults.iter().map(Fault::to_string).collect())
    }

    #[test]
    fn entries_know_their_line_and_column() {
        let (entries, faults) =
            read("# first\n[mqtt]\n  max_qos = 1\nb.c = 'ü'\n[listeners.tcp.x]\nbind = [1, \"2\"]\n");
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(
            entries,
            [
                "b.toml:2:2 mqtt=§",
                "b.toml:3:3 mqtt.max_qos=1",
                "b.toml:4:1 mqtt.b=§",
                "b.toml:4:3 mqtt.b.c=ü",
                "b.toml:5:2 listeners=§",
                "b.toml:5:12 listeners.tcp=§",
                "b.toml:5:16 listeners.tcp.x=§",
                "b.toml:6:1 listeners.tcp.x.bind=[2]",
            ]
        );
    }

    #[test]
    fn numbers_are_read_as_they_are_meant() {
        let (entries, _) = read("a = 1_000\nb = 0x10\nc = 0o660\nd = 1.50\ne = true\nf = 1979-05-27\n");
        let words: Vec<&str> = entries.iter().filter_map(|entry| entry.split_once('=')).map(|(_, word)| word).collect();
        assert_eq!(words, ["1000", "16", "0o660", "1.50", "true", "1979-05-27"]);
    }

    #[test]
    fn broken_text_has_a_place() {
        let (_, faults) = read("[mqtt]\nmax_qos = \n");
        assert!(faults[0].starts_with("b.toml:2:1") && faults[0].contains("not TOML"), "{faults:?}");
        assert!(!faults[0].contains('\n'));
    }

    #[test]
    fn hostile_nesting_costs_a_fault_and_not_the_stack() {
        for text in [
            format!("a = {}", "[".repeat(500_000)),
            format!("{}.b = 1", ["a"; 250_000].join(".")),
            format!("[{}]", ["a"; 250_000].join(".")),
            format!("a = {}", "{a=".repeat(200_000)),
            format!("a = {}1{}", "[".repeat(60), "]".repeat(60)),
            "[a.a.a.a.a.a.a.a.a.a.a.a]".to_owned(),
        ] {
            let (_, faults) = read(&text);
            assert!(!faults.is_empty(), "{}", &text[..20]);
        }
        assert!(!read(&"#".repeat(FILE_BYTES_MAX + 1)).1.is_empty());
    }
}
