//! What all sources say, sorted by what it is about. Each key has a stack of values: the last one counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::acme::ACME_TABLE;
use crate::listener::{LISTENER_TABLE, Scheme};
use crate::nearest::{meant, nearest};
use crate::raw::{Entry, Fault, Origin, Raw};
use crate::setting::Setting;
use crate::table::TABLE;
use crate::value::{Value, quoted};

/// One value that a source gives to a key.
pub(crate) struct Given {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Values by their row in a table, and where the section was opened first.
#[derive(Default)]
pub(crate) struct Section {
    pub(crate) origin: Option<Origin>,
    pub(crate) given: BTreeMap<usize, Vec<Given>>,
    /// Something in it was wrong, and was told: what that leads to is not worth a line of its own.
    pub(crate) spoiled: bool,
}

impl Section {
    pub(crate) fn given(&self, row: usize) -> &[Given] {
        self.given.get(&row).map_or(&[], |given| given)
    }
}

/// Type and name of a listener.
pub(crate) type ListenerName = (Scheme, Box<str>);

/// All sources together.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) settings: Section,
    pub(crate) zones: BTreeMap<Box<str>, Section>,
    pub(crate) acme: BTreeMap<Box<str>, Section>,
    pub(crate) listeners: BTreeMap<ListenerName, Section>,
    /// Listeners that `--listen` names; if there are any, there are no others.
    pub(crate) listen: BTreeSet<ListenerName>,
    pub(crate) faults: Vec<Fault>,
    /// A section that nobody knows: what is in it is not complained about one by one.
    unknown: Option<Vec<Box<str>>>,
}

/// Most listeners, most zones, and most certificates that are ordered.
const SECTIONS_MAX: usize = 256;

impl Gathered {
    /// Takes what one source says. Sources come in the order of their precedence, the weakest first.
    pub(crate) fn take(&mut self, (entries, faults): (Vec<Entry>, Vec<Fault>)) {
        self.faults.extend(faults);
        for entry in entries {
            if self.unknown.as_ref().is_some_and(|prefix| entry.key.starts_with(prefix)) {
                continue;
            }
            if let Err(what) = self.sort(&entry) {
                self.faults.push(entry.fault(what));
                self.unknown = matches!(entry.raw, Raw::Section).then(|| entry.key.clone());
            }
        }
        self.unknown = None;
    }

    fn sort(&mut self, entry: &Entry) -> Result<(), String> {
        let key: Vec<&str> = entry.key.iter().map(|part| &**part).collect();
        match key[..] {
            ["listeners", kind, ref rest @ ..] if !is_setting(&key) => self.listener(entry, kind, rest),
            ["zones", name, ref rest @ ..] => self.zone(entry, name, rest),
            ["acme", name, ref rest @ ..] => self.certificate(entry, name, rest),
            ["listeners" | "zones" | "acme"] if matches!(entry.raw, Raw::Section) => Ok(()),
            [group] if matches!(entry.raw, Raw::Section) => section_of(group),
            _ => add(&mut self.settings, TABLE, &entry.name(), entry, |_| Ok(())),
        }
    }

    fn listener(&mut self, entry: &Entry, kind: &str, rest: &[&str]) -> Result<(), String> {
        let Some(kind) = Scheme::of(kind) else {
            return Err(match kind {
                "ssl" => "the listener type is called tls here: [listeners.tls.NAME]".into(),
                _ => unknown_type(kind),
            });
        };
        let [name, key @ ..] = rest else {
            let section = matches!(entry.raw, Raw::Section);
            return if section { Ok(()) } else { Err(format!("is a section: write [listeners.{kind}.NAME]")) };
        };
        check_name(name)?;
        let name = self.known_name(kind, name, &entry.origin);
        let count = self.listeners.len();
        if count >= SECTIONS_MAX && !self.listeners.contains_key(&(kind, name.clone())) {
            return Err(format!("there are more than {SECTIONS_MAX} listeners"));
        }
        if entry.origin == Origin::Listen {
            self.listen.insert((kind, name.clone()));
        }
        if key.is_empty() && !matches!(entry.raw, Raw::Section) {
            let place = kind.port().map_or_else(|| "mqtt.sock".into(), |port| port.to_string());
            return Err(format!("is a section: write [listeners.{kind}.{name}], and below it bind = \"{place}\""));
        }
        let section = self.listeners.entry((kind, name)).or_default();
        section.origin.get_or_insert_with(|| entry.origin.clone());
        if key.is_empty() {
            return Ok(());
        }
        let added = add(section, LISTENER_TABLE, &key.join("."), entry, |_| Ok(()));
        section.spoiled |= added.is_err();
        added
    }

    /// Variables have no lower case and no hyphens: one of these names a listener that is written otherwise.
    fn known_name(&self, kind: Scheme, name: &str, origin: &Origin) -> Box<str> {
        let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
        let alike = |known: &&ListenerName| known.0 == kind && plain(&known.1) == plain(name);
        match origin {
            Origin::Environment(_) => self.listeners.keys().find(alike).map_or(name.into(), |known| known.1.clone()),
            _ => name.into(),
        }
    }

    fn certificate(&mut self, entry: &Entry, name: &str, key: &[&str]) -> Result<(), String> {
        check_name(name)?;
        if self.acme.len() >= SECTIONS_MAX && !self.acme.contains_key(name) {
            return Err(format!("there are more than {SECTIONS_MAX} certificates to order"));
        }
        if key.is_empty() && !matches!(entry.raw, Raw::Section) {
            return Err(format!("is a section: write [acme.{name}]"));
        }
        let section = self.acme.entry(name.into()).or_default();
        section.origin.get_or_insert_with(|| entry.origin.clone());
        if key.is_empty() {
            return Ok(());
        }
        let added = add(section, ACME_TABLE, &key.join("."), entry, |_| Ok(()));
        section.spoiled |= added.is_err();
        added
    }

    fn zone(&mut self, entry: &Entry, name: &str, key: &[&str]) -> Result<(), String> {
        check_name(name)?;
        if self.zones.len() >= SECTIONS_MAX && !self.zones.contains_key(name) {
            return Err(format!("there are more than {SECTIONS_MAX} zones"));
        }
        if key.is_empty() && !matches!(entry.raw, Raw::Section) {
            return Err(format!("is a section: write [zones.{name}]"));
        }
        let section = self.zones.entry(name.into()).or_default();
        section.origin.get_or_insert_with(|| entry.origin.clone());
        match (key, &entry.raw) {
            ([], _) => Ok(()),
            ([group], Raw::Section) => section_of(group),
            _ => add(section, TABLE, &key.join("."), entry, |setting| {
                let why = format!("counts for the whole broker and not for a zone: write it as {}", setting.key);
                if setting.in_zones() { Ok(()) } else { Err(why) }
            }),
        }
    }
}

fn is_setting(key: &[&str]) -> bool {
    let key = key.join(".");
    TABLE.iter().any(|setting| setting.key == key)
}

fn add<S>(
    section: &mut Section,
    table: &'static [Setting<S>],
    key: &str,
    entry: &Entry,
    allowed: impl Fn(&Setting<S>) -> Result<(), String>,
) -> Result<(), String> {
    let Some(row) = table.iter().position(|setting| setting.key == key) else {
        let prefix = format!("{key}.");
        let inner = table.iter().any(|setting| setting.key.starts_with(&prefix));
        return match entry.raw {
            Raw::Section if inner => Ok(()),
            Raw::Section => Err(unknown("section", key, table)),
            _ => Err(unknown("key", key, table)),
        };
    };
    allowed(&table[row])?;
    let value = table[row].read(&entry.raw)?;
    section.given.entry(row).or_default().push(Given { value, origin: entry.origin.clone() });
    Ok(())
}

fn unknown<S>(what: &str, key: &str, table: &'static [Setting<S>]) -> String {
    format!("there is no {what} {}; {}", quoted(key), meant(key, table.iter().map(|setting| setting.key)))
}

fn unknown_type(kind: &str) -> String {
    let names = || Scheme::ALL.iter().map(|kind| kind.name());
    let list = names().collect::<Vec<_>>().join(", ");
    format!("there is no listener type {}; did you mean {}? Types are {list}", quoted(kind), nearest(kind, names()))
}

fn section_of(group: &str) -> Result<(), String> {
    let groups = || TABLE.iter().filter_map(|setting| setting.key.split('.').next()).chain(["zones", "acme"]);
    match groups().any(|known| known == group) {
        true => Ok(()),
        false => Err(format!("there is no section {}; did you mean [{}]?", quoted(group), nearest(group, groups()))),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let fits = plain && (1..=32).contains(&name.len());
    if fits { Ok(()) } else { Err("a name has 1 to 32 letters, digits, hyphens and underscores".into()) }
}
