//! What a key of another broker becomes, and the listener of the result that it goes to.

use toml_edit::{Array, Value};

use super::draft::{Amount, At, Draft};
use super::written::{self, Rate, Reader};
use crate::listener;

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A word, a number, a text.
    Text(String),
    /// Several.
    List(Vec<String>),
    /// Something with blocks in it: those that hold words and nothing else, if all do.
    Block(Vec<Block>),
}

/// Keys and words of a block in a list.
pub(super) type Block = Vec<(String, String)>;

/// One key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As the file says it, in full.
    pub(super) key: String,
    /// Inside its listener or zone, in the spelling that both generations share here.
    pub(super) name: String,
    pub(super) given: Given,
    pub(super) at: At,
}

impl Entry {
    /// The value in one piece, the parts of a list with commas between.
    pub(super) fn text(&self) -> String {
        match &self.given {
            Given::Text(text) => text.trim().to_owned(),
            Given::List(parts) => parts.join(","),
            Given::Block(_) => String::new(),
        }
    }

    /// The parts of a list, however it is written.
    pub(super) fn parts(&self) -> Vec<String> {
        match &self.given {
            Given::Text(text) => {
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
            Given::List(parts) => parts.clone(),
            Given::Block(_) => Vec::new(),
        }
    }

    /// The blocks of a list; none for what is no such list.
    pub(super) fn blocks(&self) -> &[Block] {
        if let Given::Block(blocks) = &self.given { blocks } else { &[] }
    }

    pub(super) fn is_block(&self) -> bool {
        matches!(self.given, Given::Block(_))
    }

    pub(super) fn flag(&self) -> Option<bool> {
        written::flag(&self.text())
    }
}

/// What a key becomes. The first text is our key below the listener.
pub(super) enum Rule {
    /// The text as it is; nothing if it is empty.
    Text(&'static str),
    /// A number; left out where it means no bound.
    Count(&'static str),
    /// Bytes; left out where it means no bound.
    Size(&'static str),
    /// A time.
    Span(&'static str, Reader),
    /// On or off.
    Flag(&'static str),
    /// So many per second, and what may come at once.
    Rate(&'static str, &'static str),
    /// The same for connections of the whole listener, where we count without a unit.
    Connections(&'static str, &'static str),
    /// Nothing has to be done for these values, as it is like that here; what is said of others.
    Always(&'static [&'static str], &'static str),
    /// It has no counterpart.
    None(&'static str),
    /// Somebody has to do something.
    ToDo(&'static str),
    /// Its own way.
    By(fn(&mut Place<'_>, &Entry)),
    /// Read by another key's rule, which says what becomes of it.
    Elsewhere,
}

/// A listener of the result while it is written.
pub(super) struct Place<'a> {
    pub(super) draft: &'a mut Draft,
    /// Our type.
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    /// All that is said of the listener.
    pub(super) fields: &'a [Entry],
    /// What is being read.
    pub(super) now: (At, String),
}

impl<'a> Place<'a> {
    pub(super) fn new(draft: &'a mut Draft, kind: &'static str, name: &'a str, fields: &'a [Entry]) -> Self {
        Self { draft, kind, name, fields, now: (At::ALL, String::new()) }
    }

    pub(super) fn field(&self, name: &str) -> Option<&Entry> {
        self.fields.iter().find(|entry| entry.name == name)
    }

    /// Writes a key of the listener, if it may be there and the value is one that it takes.
    pub(super) fn put(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let useless = match key.split_once('.') {
            Some(("tls", _)) if !self.has_tls() => Some("this listener speaks no TLS"),
            Some(("websocket", _)) if !matches!(self.kind, "ws" | "wss") => Some("this listener speaks no WebSocket"),
            Some(("quic", _)) if self.kind != "quic" => Some("this listener is not for QUIC"),
            _ => None,
        };
        let (at, from) = self.now.clone();
        if let Some(reason) = useless {
            return self.draft.not_mapped(at, &from, reason);
        }
        if let Err(what) = listener::accepts(self.kind, key, &value) {
            return self.draft.action(at, &from, format!("not taken over: {key} {what}"));
        }
        let mut path = vec!["listeners", self.kind, self.name];
        path.extend(key.split('.'));
        self.draft.put(&path, value);
    }

    /// Takes a key back that does not go together with others.
    pub(super) fn withdraw(&mut self, key: &str) {
        let mut path = vec!["listeners", self.kind, self.name];
        path.extend(key.split('.'));
        self.draft.withdraw(&path);
    }

    pub(super) fn says(&self, key: &str) -> Option<String> {
        let mut path = vec!["listeners", self.kind, self.name];
        path.extend(key.split('.'));
        self.draft.get(&path).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Takes back what of TLS has no effect without the rest, each key with the entry that it comes from.
    pub(super) fn settle_tls(&mut self, sources: &[(&str, Option<&Entry>)]) {
        let asked = self.says("tls.client_certificate").is_some_and(|word| word != "none");
        for (key, entry) in sources {
            let (Some(entry), Some(_)) = (entry, self.says(key)) else { continue };
            match *key {
                "tls.username_from" | "tls.client_id_from" | "tls.revocation_lists" if !asked => {
                    self.withdraw(key);
                    self.draft.changed(entry.at, &entry.key, "no client is asked for a certificate, so none can count");
                }
                "tls.key_password" | "tls.key_password_file" if self.says("tls.key").is_none() => {
                    self.withdraw(key);
                    self.draft.changed(entry.at, &entry.key, "there is no key for this password");
                }
                "tls.certificate" if self.says("tls.key").is_none() => {
                    let text = format!(
                        "a certificate and its key go together: say tls.key in {} too, or it won't start",
                        self.table()
                    );
                    self.draft.action(entry.at, &entry.key, text);
                }
                "tls.key" if self.says("tls.certificate").is_none() => {
                    let text = format!(
                        "a certificate and its key go together: say tls.certificate in {} too, or it won't start",
                        self.table()
                    );
                    self.draft.action(entry.at, &entry.key, text);
                }
                _ => {}
            }
        }
    }

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.kind, "tls" | "wss" | "quic")
    }

    /// The name of the table, as remarks say it.
    pub(super) fn table(&self) -> String {
        format!("[listeners.{}.{}]", self.kind, self.name)
    }

    pub(super) fn apply(&mut self, rule: &Rule, entry: &Entry) {
        let (text, at, key) = (entry.text(), entry.at, entry.key.as_str());
        self.now = (at, entry.key.clone());
        match rule {
            Rule::Text(ours) => {
                if !text.is_empty() {
                    self.put(ours, text);
                }
                self.draft.mapped(at);
            }
            Rule::Count(ours) => self.amount(ours, entry, written::count, "a number"),
            Rule::Size(ours) => self.amount(ours, entry, written::size, "a size, such as 4KB"),
            Rule::Span(ours, reader) => self.amount(ours, entry, *reader, "a time, such as 15s"),
            Rule::Flag(ours) => match entry.flag() {
                Some(on) => {
                    self.put(ours, on);
                    self.draft.mapped(at);
                }
                None => self.draft.unreadable(at, key, "true or false"),
            },
            Rule::Rate(ours, burst) => self.rate(entry, ours, burst, true),
            Rule::Connections(ours, burst) => self.rate(entry, ours, burst, false),
            Rule::Always(values, otherwise) => {
                let same = values.iter().any(|value| value.eq_ignore_ascii_case(&text));
                if same { self.draft.mapped(at) } else { self.draft.not_mapped(at, key, *otherwise) }
            }
            Rule::None(reason) => self.draft.not_mapped(at, key, *reason),
            Rule::ToDo(what) => self.draft.action(at, key, what.replace("[listener]", &self.table())),
            Rule::By(own) => own(self, entry),
            Rule::Elsewhere => {}
        }
    }

    fn amount(&mut self, ours: &str, entry: &Entry, reader: Reader, allowed: &str) {
        match reader(&entry.text()) {
            Some(Amount::Number(number)) => {
                let value: Value = match allowed {
                    "a number" => number.min(u64::from(u32::MAX)).cast_signed().into(),
                    text if text.starts_with("a size") => written::size_text(number).into(),
                    _ => written::span_text(number).into(),
                };
                self.put(ours, value);
                self.draft.mapped(entry.at);
            }
            Some(Amount::Unlimited) => self.draft.mapped(entry.at),
            _ => self.draft.unreadable(entry.at, &entry.key, allowed),
        }
    }

    fn rate(&mut self, entry: &Entry, ours: &str, burst: &str, with_unit: bool) {
        let Some(rate) = written::rate(&entry.text()) else {
            return self.draft.unreadable(entry.at, &entry.key, "a rate, such as 1000/s or 100KB,10s");
        };
        let Some(rate) = rate else { return self.draft.mapped(entry.at) };
        let bytes = ours.starts_with("bytes");
        self.put(ours, rate_value(rate.per_second(), bytes, with_unit, true));
        if let Some(amount) = rate.burst() {
            self.put(burst, rate_value(amount, bytes, with_unit, false));
        }
        if needs_word(rate) {
            let text = format!("{ours} counts per second: {} a second, {} at once", rate.per_second(), rate.amount);
            self.draft.changed(entry.at, &entry.key, text);
        } else {
            self.draft.mapped(entry.at);
        }
    }
}

fn needs_word(rate: Rate) -> bool {
    !(u128::from(rate.amount) * 1000).is_multiple_of(u128::from(rate.window_ms))
}

/// A rate or a burst as our file writes it.
pub(super) fn rate_value(amount: u64, bytes: bool, with_unit: bool, per_second: bool) -> Value {
    let per = if per_second && with_unit { "/s" } else { "" };
    if bytes {
        format!("{}{per}", written::size_text(amount)).into()
    } else if with_unit && per_second {
        format!("{amount}{per}").into()
    } else {
        amount.min(u64::from(u32::MAX)).cast_signed().into()
    }
}

pub(super) fn list(parts: impl IntoIterator<Item = String>) -> Value {
    parts.into_iter().collect::<Array>().into()
}
