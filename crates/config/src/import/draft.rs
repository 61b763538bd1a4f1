//! What an import writes: our configuration as it grows, the remarks, and what became of every line.

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value};

use super::{Fate, Format, Imported, Remark, Severity};
use crate::raw::Raw;
use crate::{Kind, Setting, TABLE};

/// Lines of one file, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Which file; 0 is the one that was asked for.
    pub(super) file: usize,
    /// From 1; 0 for no line at all.
    pub(super) line: u32,
    /// Not before `line`.
    pub(super) last: u32,
}

impl At {
    /// About the whole file.
    pub(super) const ALL: Self = Self { file: 0, line: 0, last: 0 };

    pub(super) fn line(file: usize, line: u32) -> Self {
        Self { file, line, last: line }
    }
}

/// A value in the unit that the settings table counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Items, bytes, milliseconds, hundredths; 0 and 1 for flags.
    Number(u64),
    /// No bound.
    Unlimited,
    /// A word, or text.
    Word(String),
}

/// Zones, as many as our file may have.
const ZONES_MAX: usize = 250;

pub(super) struct Draft {
    toml: DocumentMut,
    remarks: Vec<(At, Remark)>,
    files: Vec<(Option<Box<str>>, Vec<Fate>)>,
}

impl Draft {
    pub(super) fn new(text: &str) -> Self {
        let mut draft = Self { toml: DocumentMut::new(), remarks: Vec::new(), files: Vec::new() };
        draft.add_file(None, text);
        draft
    }

    /// Takes up a file, and says its number.
    pub(super) fn add_file(&mut self, name: Option<&str>, text: &str) -> usize {
        let fates = text.lines().map(|line| if blank(line) { Fate::Blank } else { Fate::Unread }).collect();
        self.files.push((name.map(|name| clean(name, 240).into()), fates));
        self.files.len() - 1
    }

    /// The lines say something that the result says too.
    pub(super) fn mapped(&mut self, at: At) {
        self.mark(at, Fate::Mapped);
    }

    /// The line only holds others together.
    pub(super) fn structure(&mut self, at: At) {
        self.mark(at, Fate::Structure);
    }

    /// What became of lines; empty ones stay empty, and more that is said of one counts more.
    pub(super) fn mark(&mut self, at: At, fate: Fate) {
        let Some((_, fates)) = self.files.get_mut(at.file) else { return };
        for line in at.line.max(1)..=at.last {
            if let Some(slot) = fates.get_mut(line as usize - 1)
                && *slot != Fate::Blank
                && (fate == Fate::Blank || rank(fate) > rank(*slot))
            {
                *slot = fate;
            }
        }
    }

    /// Whether anything is known of the line yet.
    pub(super) fn seen(&self, at: At) -> bool {
        let fate = self.files.get(at.file).and_then(|(_, fates)| fates.get(at.line.max(1) as usize - 1));
        matches!(fate, Some(Fate::Mapped | Fate::Remarked))
    }

    pub(super) fn remark(&mut self, at: At, severity: Severity, key: &str, text: impl Into<String>) {
        self.mark(at, Fate::Remarked);
        let file = self.files.get(at.file).and_then(|(name, _)| name.clone());
        let text = clean(&text.into(), 600);
        self.remarks.push((at, Remark { file, line: at.line, last_line: at.last, key: shown(key), text, severity }));
    }

    /// It has no counterpart here.
    pub(super) fn not_mapped(&mut self, at: At, key: &str, text: impl Into<String>) {
        self.remark(at, Severity::NotMapped, key, text);
    }

    /// Somebody has to do something.
    pub(super) fn action(&mut self, at: At, key: &str, text: impl Into<String>) {
        self.remark(at, Severity::Action, key, text);
    }

    /// It is in the result, but not word for word.
    pub(super) fn changed(&mut self, at: At, key: &str, text: impl Into<String>) {
        self.remark(at, Severity::Changed, key, text);
    }

    /// The value cannot be read.
    pub(super) fn unreadable(&mut self, at: At, key: &str, allowed: &str) {
        self.action(
            at,
            key,
            format!("the value can't be read ({allowed} was expected); write it into the result by hand"),
        );
    }

    /// Writes a value into the result.
    pub(super) fn put(&mut self, path: &[&str], value: impl Into<Value>) {
        if let Some((last, tables)) = path.split_last() {
            self.table(tables).insert(last, Item::Value(value.into()));
        }
    }

    /// Appends a table to a list of them, which nothing else is written to.
    pub(super) fn put_table<const N: usize>(&mut self, path: &[&str], pairs: [(&str, Value); N]) {
        let Some((last, tables)) = path.split_last() else { return };
        let list = self.table(tables).entry(last).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        if let Some(list) = list.as_array_of_tables_mut() {
            let said = pairs.into_iter().filter(|(_, value)| value.as_str() != Some(""));
            list.push(said.map(|(key, value)| (key, Item::Value(value))).collect());
        }
    }

    /// A table of the result that is there even if nothing stands in it.
    pub(super) fn empty_table(&mut self, path: &[&str]) {
        self.table(path).set_implicit(false);
    }

    fn table(&mut self, path: &[&str]) -> &mut Table {
        let mut table = self.toml.as_table_mut();
        for part in path {
            let slot = table.entry(part).or_insert_with(|| {
                let mut inner = Table::new();
                inner.set_implicit(true);
                Item::Table(inner)
            });
            if !slot.is_table() {
                *slot = Item::Table(Table::new());
            }
            table = slot.as_table_mut().expect("it was just made one");
        }
        table
    }

    /// Takes a value back.
    pub(super) fn withdraw(&mut self, path: &[&str]) {
        if let Some((last, tables)) = path.split_last() {
            self.table(tables).remove(last);
        }
    }

    /// What the result says at a path.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Value> {
        let mut item = self.toml.as_item();
        for part in path {
            item = item.get(part)?;
        }
        item.as_value()
    }

    /// Writes a setting, of a zone or of all clients, within its bounds.
    pub(super) fn setting(&mut self, at: At, from: &str, zone: Option<&str>, key: &str, amount: &Amount) {
        let Some(setting) = TABLE.iter().find(|setting| setting.key == key) else {
            self.action(at, from, format!("there is no setting {key} to put it into"));
            return;
        };
        if zone.is_some() && !setting.in_zones() {
            let text = format!("{key} is one for the whole node, not for a zone; set it there if all may have it");
            return self.action(at, from, text);
        }
        let (value, note) = match fitted(setting, amount) {
            Ok(fitted) => fitted,
            Err(allowed) => return self.unreadable(at, from, &allowed),
        };
        if let Some(zone) = zone
            && !self.room_for_zone(&plain_name(zone))
        {
            return self.action(at, from, "there are too many zones");
        }
        let (group, name) = key.split_once('.').unwrap_or(("", key));
        match zone {
            Some(zone) => self.put(&["zones", &plain_name(zone), group, name], value),
            None => self.put(&[group, name], value),
        }
        match note {
            Some(note) => self.changed(at, from, note),
            None => self.mapped(at),
        }
    }

    fn room_for_zone(&self, name: &str) -> bool {
        let zones = self.toml.get("zones").and_then(Item::as_table);
        zones.is_none_or(|zones| zones.contains_key(name) || zones.len() < ZONES_MAX)
    }

    /// The end: remarks in order, those that say the same of neighbours in one.
    pub(super) fn finish(mut self, format: Format) -> Imported {
        self.settle_expiry();
        self.read_the_rest(format);
        self.remarks.sort_by_key(|(at, _)| (at.file, at.line));
        let mut remarks: Vec<(At, Remark)> = Vec::new();
        for (at, next) in std::mem::take(&mut self.remarks) {
            match remarks.last_mut() {
                Some((_, last)) if last == &next => {}
                Some((before, last)) if joins(&self.files, *before, last, at, &next) => {
                    last.key = joined(&last.key, &next.key);
                    last.last_line = next.last_line.max(last.last_line);
                    before.last = last.last_line;
                }
                _ => remarks.push((at, next)),
            }
        }
        let mut toml = self.toml;
        toml.decor_mut().set_prefix(format!("# Made from a file of {format} by `breakwater config import`.\n\n"));
        Imported { toml, remarks: remarks.into_iter().map(|(_, remark)| remark).collect(), fates: self.files }
    }

    /// Two settings that are checked against each other: what 3.x sessions get may not be above what any may ask for.
    fn settle_expiry(&mut self) {
        let longest = self.get(&["session", "expiry_max"]).is_some();
        let Some(text) = self.get(&["session", "expiry_default"]).and_then(Value::as_str).map(str::to_owned) else {
            return;
        };
        let [chosen, bound] = ["session.expiry_default", "session.expiry_max"].map(|key| {
            let setting = TABLE.iter().find(|setting| setting.key == key)?;
            let text = if key == "session.expiry_default" { &text } else { setting.default };
            setting.read(&Raw::Word(text.into())).ok()
        });
        let above = chosen.zip(bound).is_some_and(|(chosen, bound)| chosen.number() > bound.number());
        if above && !longest {
            self.put(&["session", "expiry_max"], text.as_str());
            self.changed(
                At::ALL,
                "",
                format!("session.expiry_max is raised to {text}, or session.expiry_default could not be that long"),
            );
        }
    }

    /// A line that no reader looked at is a fault of ours, but not one to keep quiet about.
    fn read_the_rest(&mut self, format: Format) {
        for file in 0..self.files.len() {
            let unread: Vec<u32> = (1..)
                .zip(&self.files[file].1)
                .filter(|(_, fate)| **fate == Fate::Unread)
                .map(|(line, _)| line)
                .collect();
            for line in unread {
                self.action(At::line(file, line), "", format!("this line is not understood as one of {format}"));
            }
        }
    }
}

/// A name of a listener or a zone, as our file may have it.
pub(super) fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let name: String = name.chars().map(plain).take(32).collect();
    if name.is_empty() { "_".into() } else { name }
}

fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Unread | Fate::Blank => 0,
        Fate::Structure => 1,
        Fate::Mapped => 2,
        Fate::Remarked => 3,
    }
}

fn blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// Keys are shown, and come from anybody.
fn shown(key: &str) -> Box<str> {
    clean(key, 120).into()
}

/// One line that a terminal can be trusted with.
pub(super) fn clean(text: &str, chars_max: usize) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(chars_max).collect()
}

/// Whether two remarks say the same, and nothing of the result comes from between their lines.
fn joins(files: &[(Option<Box<str>>, Vec<Fate>)], before: At, last: &Remark, at: At, next: &Remark) -> bool {
    let same = before.file == at.file && last.text == next.text && last.severity == next.severity && before.line > 0;
    // Keys without dots stand beside each other; others belong together by their first part.
    let group = |key: &str| key.split_once('.').map(|(first, _)| first.to_owned());
    if !same || at.line <= before.last || group(&last.key) != group(&next.key) {
        return same && at.line == before.last && group(&last.key) == group(&next.key);
    }
    let between = &files[at.file].1[before.last as usize..at.line as usize - 1];
    between.iter().all(|fate| matches!(fate, Fate::Blank | Fate::Structure))
}

/// One name for two keys: what they have in common, or both.
fn joined(a: &str, b: &str) -> Box<str> {
    if a == b || a.ends_with(MORE) || a.split(", ").any(|one| one == b) {
        return a.into();
    }
    let stem = a.trim_end_matches(".*");
    let common: Vec<&str> = stem.split('.').zip(b.split('.')).take_while(|(x, y)| x == y).map(|(x, _)| x).collect();
    match common.is_empty() {
        false => format!("{}.*", common.join(".")).into(),
        true if a.matches(", ").count() >= 2 => format!("{a}{MORE}").into(),
        true => format!("{a}, {b}").into(),
    }
}

const MORE: &str = " and more";

/// The value as our file writes it, brought inside the bounds; with a note if it had to be.
fn fitted(setting: &Setting, amount: &Amount) -> Result<(Value, Option<String>), String> {
    let (min, max) = match setting.kind {
        Kind::Count { min, max } | Kind::Bytes { min, max } | Kind::Factor { min, max } => (min, max),
        Kind::Duration { min_ms, max_ms } => (min_ms, max_ms),
        _ => (0, u64::MAX),
    };
    let number = match amount {
        Amount::Word(word) => {
            return setting.read(&Raw::Word(word.as_str().into())).map(|_| (word.as_str().into(), None));
        }
        Amount::Unlimited => match setting.word {
            Some((word @ ("never" | "none"), _)) => return Ok((word.into(), None)),
            _ => max,
        },
        Amount::Number(number) => *number,
    };
    let kept = number.clamp(min, max);
    let text = setting.kind.written(kept);
    let value = match setting.kind {
        Kind::Count { .. } => i64::try_from(kept).map_err(|_| setting.kind.allowed())?.into(),
        Kind::Flag => (kept != 0).into(),
        Kind::Factor { .. } => text.parse::<f64>().map_err(|_| setting.kind.allowed())?.into(),
        _ => text.as_str().into(),
    };
    let note = (kept != number || *amount == Amount::Unlimited)
        .then(|| format!("{} = {text} is the nearest that is allowed ({})", setting.key, setting.kind.allowed()));
    Ok((value, note))
}
