//! Every value that counts, with where it comes from and what it shadows.

use super::Resolved;
use super::listeners::{default_place, names};
use crate::Value;
use crate::acme::ACME_TABLE;
use crate::gather::{Gathered, Section};
use crate::listener::LISTENER_TABLE;
use crate::raw::Origin;
use crate::setting::{Applies, Setting};
use crate::table::TABLE;

/// One value that counts.
#[derive(Clone, Debug)]
pub struct Effective {
    pub key: String,
    /// None: nobody has given one, and there is no default.
    pub value: Option<Value>,
    /// The value in words; a secret as `***`.
    pub shown: String,
    pub origin: Origin,
    /// What would count without it, the strongest first.
    pub shadows: Vec<(String, Origin)>,
    pub applies: Applies,
}

/// Settings, zones, certificates, listeners, each in the order of its table.
pub(super) fn all(gathered: &Gathered, resolved: &Resolved) -> Vec<Effective> {
    let mut values = Vec::new();
    for (row, setting) in TABLE.iter().enumerate() {
        values.push(one(setting.key.to_owned(), setting, setting.default_value(), Some(&gathered.settings), row));
    }
    for (name, section) in &gathered.zones {
        for (row, setting) in TABLE.iter().enumerate().filter(|(row, _)| section.given.contains_key(row)) {
            values.push(one(format!("zones.{name}.{}", setting.key), setting, None, Some(section), row));
        }
    }
    for (name, section) in &gathered.acme {
        for (row, setting) in ACME_TABLE.iter().enumerate() {
            values.push(one(
                format!("acme.{name}.{}", setting.key),
                setting,
                setting.default_value(),
                Some(section),
                row,
            ));
        }
    }
    for name in names(gathered, resolved) {
        let section = gathered.listeners.get(&name);
        for (row, setting) in LISTENER_TABLE.iter().enumerate() {
            let default = if setting.key == "bind" { default_place(&name) } else { setting.default_value() };
            let key = format!("listeners.{}.{}.{}", name.0, name.1, setting.key);
            values.push(one(key, setting, default, section, row));
        }
    }
    values
}

fn one<S>(
    key: String,
    setting: &Setting<S>,
    default: Option<Value>,
    section: Option<&Section>,
    row: usize,
) -> Effective {
    let given = section.map_or(&[][..], |section| section.given(row));
    let mut stack: Vec<(Option<&Value>, Origin)> = vec![(default.as_ref(), Origin::Default)];
    stack.extend(given.iter().map(|given| (Some(&given.value), given.origin.clone())));
    let shown = |value: Option<&Value>| value.map(|value| setting.shown(value)).unwrap_or_default();
    let (value, origin) = stack.pop().unwrap_or((None, Origin::Default));
    let shadows = stack.iter().rev().filter(|(value, _)| value.is_some());
    Effective {
        key,
        value: value.cloned(),
        shown: shown(value),
        shadows: shadows.map(|(value, origin)| (shown(*value), origin.clone())).collect(),
        origin,
        applies: setting.applies,
    }
}
