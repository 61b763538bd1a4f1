//! One row of a table of settings: its name, bounds, default, what it does, and from when on a change of it counts.

use breakwater_session::Limits;
use breakwater_shard::Durability;

use crate::raw::Raw;
use crate::{Kind, Resolved, Value};

/// From when on a changed setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applies {
    /// At once, for those who are connected too.
    Live,
    /// For connections made after the change; who is connected keeps what it has until it connects again.
    NewConnections,
    /// The sockets of the listener are closed, and opened in their new form.
    Rebind,
    /// After a restart of the broker.
    Restart,
}

impl Applies {
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::NewConnections => "new connections",
            Self::Rebind => "at once, on new sockets",
            Self::Restart => "restart",
        }
    }
}

/// One row of a table. `S` stores its value where its plane reads it.
pub struct Setting<S = Store> {
    /// Its name: group and key with a dot between.
    pub key: &'static str,
    pub kind: Kind,
    /// A word that stands for one special number ("never", "none").
    pub word: Option<(&'static str, u64)>,
    /// As a user would write it; empty if there is none.
    pub default: &'static str,
    pub applies: Applies,
    /// What it does, in a sentence or two, Markdown.
    pub meaning: &'static str,
    pub store: S,
}

/// Where a setting goes.
#[derive(Clone, Copy)]
pub enum Store {
    /// Terms of clients: a zone can have its own.
    Limits(fn(&mut Limits, &Value)),
    /// What acknowledgements promise: so can this.
    Durability(fn(&mut Durability, &Value)),
    /// The whole broker.
    Node(fn(&mut Resolved, &Value) -> Result<(), String>),
}

impl Setting {
    /// Whether a zone can have its own.
    #[must_use]
    pub fn in_zones(&self) -> bool {
        matches!(self.store, Store::Limits(_) | Store::Durability(_))
    }
}

impl<S> Setting<S> {
    /// Reads what stands in a source. The error says what is allowed.
    pub(crate) fn read(&self, raw: &Raw) -> Result<Value, String> {
        match self.word {
            Some((word, number)) if raw.word() == Some(word) => Ok(Value::Number(number)),
            Some((word, _)) => self.kind.read(raw).map_err(|fault| format!("{fault}, or {word}")),
            None => self.kind.read(raw),
        }
    }

    /// Its default, if it has one.
    pub(crate) fn default_value(&self) -> Option<Value> {
        let written = !self.default.is_empty() || matches!(self.kind, Kind::Text { .. });
        written.then(|| self.read(&Raw::Word(self.default.into())).expect("a test walks the tables' defaults"))
    }

    /// A value in words. Secrets stay hidden.
    #[must_use]
    pub fn shown(&self, value: &Value) -> String {
        match (self.word, value) {
            (Some((word, special)), Value::Number(number)) if special == *number => word.to_owned(),
            _ => self.kind.shown(value),
        }
    }

    /// What it takes, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        let allowed = self.kind.allowed();
        self.word.map_or(allowed.clone(), |(word, _)| format!("{allowed}, or {word}"))
    }
}
