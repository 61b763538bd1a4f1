//! What a changed configuration means for a broker that runs: a pure comparison of two of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::listener::Listener;
use crate::raw::Origin;
use crate::resolve::{Effective, OnRebind, Resolved};
use crate::setting::Applies;

/// All that is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Listeners that stay as they are, and whose certificates are read again.
    pub renewed: Vec<Listener>,
    /// Changed settings that are not of one listener.
    pub changes: Vec<Change>,
    /// What becomes of connections whose listener closes.
    pub on_rebind: OnRebind,
    pub drain_over_ms: u64,
}

/// What is to be done with one listener.
#[derive(Clone, Debug)]
pub enum Step {
    Open(Listener),
    Change {
        before: Box<Listener>,
        after: Box<Listener>,
        /// Its changed keys; none if only the settings behind it have changed, or what its files hold.
        changes: Vec<Change>,
    },
    Close(Listener),
}

/// One value that is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    /// In words; secrets hidden.
    pub before: String,
    pub after: String,
    /// Where the new value comes from.
    pub origin: String,
    pub applies: Applies,
}

impl Step {
    /// The listener as it will be, or was.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        match self {
            Self::Open(listener) | Self::Close(listener) => listener,
            Self::Change { after, .. } => after,
        }
    }

    /// Whether it leaves places where it listened.
    #[must_use]
    pub fn moves(&self) -> bool {
        match self {
            Self::Change { before, after, .. } => {
                before.options.bind.iter().any(|place| !after.options.bind.contains(place))
            }
            Self::Open(_) => false,
            Self::Close(_) => true,
        }
    }
}

/// Compares what runs with what is wanted.
#[must_use]
pub fn plan(old: &Resolved, new: &Resolved) -> Plan {
    let mut plan = Plan { on_rebind: new.reload.on_rebind, drain_over_ms: new.reload.drain_over_ms, ..Plan::default() };
    let mut changed = changed(&old.values, &new.values);
    for change in changed.iter_mut().filter(|change| old.waits_for_store(&change.key, new)) {
        change.applies = Applies::Restart;
    }
    let find = |all: &[Listener], name: &str| all.iter().find(|other| &*other.options.name == name).cloned();
    for before in &old.listeners {
        let name = &before.options.name;
        match find(&new.listeners, name) {
            None => plan.steps.push(Step::Close(before.clone())),
            Some(after) if after.options != before.options => {
                let prefix = format!("listeners.{name}.");
                let changes = changed.iter().filter(|change| change.key.starts_with(&prefix)).cloned().collect();
                plan.steps.push(Step::Change { before: Box::new(before.clone()), after: Box::new(after), changes });
            }
            Some(after) if after.options.tls.is_some() => plan.renewed.push(after),
            Some(_) => {}
        }
    }
    let fresh = new.listeners.iter().filter(|after| find(&old.listeners, &after.options.name).is_none());
    plan.steps.extend(fresh.cloned().map(Step::Open));
    let of_listener = |change: &&Change| change.key.starts_with("listeners.") && change.key.matches('.').count() > 2;
    plan.changes = changed.iter().filter(|change| !of_listener(change)).cloned().collect();
    plan
}

fn changed(old: &[Effective], new: &[Effective]) -> Vec<Change> {
    let mut before: BTreeMap<&str, &Effective> = old.iter().map(|value| (value.key.as_str(), value)).collect();
    let mut changes = Vec::new();
    for after in new {
        let before = before.remove(after.key.as_str());
        // Of a new section only what it says is news.
        let silent = before.is_none() && after.origin == Origin::Default;
        if !silent && before.map(|before| &before.value) != Some(&after.value) {
            let before = before.map_or_else(String::new, |before| before.shown.clone());
            changes.push(Change {
                key: after.key.clone(),
                before,
                after: after.shown.clone(),
                origin: after.origin.to_string(),
                applies: after.applies,
            });
        }
    }
    // Of a zone or listener that is gone.
    for gone in before.into_values() {
        let (key, before) = (gone.key.clone(), gone.shown.clone());
        changes.push(Change { key, before, after: String::new(), origin: "default".into(), applies: gone.applies });
    }
    changes
}

impl Plan {
    /// Whether there is nothing to do and nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.changes.is_empty()
    }

    /// Settings that were changed and don't count before a restart.
    pub fn restarts(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.applies == Applies::Restart)
    }

    /// The plan in words, one line for each thing that is done or has to be known.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.steps.iter().flat_map(|step| self.step_lines(step)).collect();
        lines.extend(self.changes.iter().map(|change| {
            let when = match change.applies {
                Applies::Live | Applies::Rebind => "at once",
                Applies::NewConnections => "for new connections",
                Applies::Restart => "after a restart: not applied, restart the broker for it",
            };
            format!("setting {}, {when}", words(&change.key, change))
        }));
        if lines.is_empty() {
            lines.push("nothing has changed".into());
        }
        if !self.renewed.is_empty() {
            let names: Vec<&str> = self.renewed.iter().map(|listener| &*listener.options.name).collect();
            lines.push(format!("certificates read again: {}", names.join(", ")));
        }
        lines
    }

    fn step_lines(&self, step: &Step) -> Vec<String> {
        let listener = step.listener();
        let name = &listener.options.name;
        match step {
            Step::Open(_) => vec![format!("listener {name}: added on {}", places(listener))],
            Step::Close(_) => vec![format!("listener {name}: removed from {}; {}", places(listener), self.fate())],
            Step::Change { before, changes, .. } => {
                let mut lines = Vec::new();
                if step.moves() {
                    let (from, to) = (places(before), places(listener));
                    lines.push(format!("listener {name}: moved from {from} to {to}; {}", self.fate()));
                }
                let short = |change: &Change| words(change.key.splitn(4, '.').nth(3).unwrap_or(&change.key), change);
                for (applies, when) in [
                    (Applies::Live, "changed at once"),
                    (Applies::NewConnections, "changed for new connections, who is connected has to reconnect for it"),
                ] {
                    let of: Vec<String> =
                        changes.iter().filter(|change| change.applies == applies).map(short).collect();
                    if !of.is_empty() {
                        lines.push(format!("listener {name}: {when}: {}", of.join("; ")));
                    }
                }
                let added = before.options.bind.iter().all(|place| listener.options.bind.contains(place));
                if added && changes.iter().any(|change| change.applies == Applies::Rebind) {
                    lines.push(format!("listener {name}: changed at once, listens on {}", places(listener)));
                }
                if lines.is_empty() {
                    lines.push(format!("listener {name}: new terms for new connections, from settings that it shares"));
                }
                lines
            }
        }
    }

    fn fate(&self) -> String {
        match self.on_rebind {
            OnRebind::Keep => "its connections stay".into(),
            OnRebind::Drain => format!("its connections end over {} s", self.drain_over_ms / 1000),
            OnRebind::Cut => "its connections end".into(),
        }
    }
}

fn words(key: &str, change: &Change) -> String {
    let none = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
    let mut text = format!("{key}: {} -> {}", none(&change.before), none(&change.after));
    if change.origin != "default" {
        let _ = write!(text, " ({})", change.origin);
    }
    text
}

/// Where a listener listens, in words.
fn places(listener: &Listener) -> String {
    let all: Vec<String> = listener.options.bind.iter().map(crate::resolve::place).collect();
    all.join(", ")
}

impl Resolved {
    /// Whether a setting asks for a store, which only a start opens.
    fn waits_for_store(&self, key: &str, new: &Resolved) -> bool {
        !self.store.is_open && new.store.is_open && key.ends_with("store.durability")
    }

    /// What runs after a plan was applied: what waits for a restart is as it was, so that the next plan names it again.
    #[must_use]
    pub fn taken_up(mut self, old: &Resolved) -> Self {
        let waits: Vec<bool> = self.values.iter().map(|value| old.waits_for_store(&value.key, &self)).collect();
        self.store.is_open = old.store.is_open;
        let values = self.values.iter_mut().zip(waits);
        for (value, _) in values.filter(|(value, waits)| *waits || value.applies == Applies::Restart) {
            if let Some(before) = old.values.iter().find(|before| before.key == value.key) {
                *value = before.clone();
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
