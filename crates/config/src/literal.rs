//! Values as they stand in `breakwater.toml`.

use toml_edit::{Array, InlineTable, Value as Toml};

use crate::acme::ACME_TABLE;
use crate::listener::LISTENER_TABLE;
use crate::nearest::meant;
use crate::raw::Raw;
use crate::setting::Setting;
use crate::table::TABLE;
use crate::value::{Kind, Value, quoted};

/// What is known of one key, whatever table it stands in.
pub(crate) struct Known {
    pub(crate) kind: Kind,
    pub(crate) word: Option<(&'static str, u64)>,
    pub(crate) default: &'static str,
    pub(crate) allowed: String,
    pub(crate) applies: crate::Applies,
    pub(crate) meaning: &'static str,
    /// Parts of the key that the header of its section has; the rest is written with dots.
    pub(crate) header: usize,
}

/// Finds a key: a setting, one of a zone, of a certificate, of a listener. The error says what may have been meant.
pub(crate) fn find(key: &str) -> Result<Known, String> {
    let parts: Vec<&str> = key.split('.').collect();
    let setting = |key: &str, header| {
        let found = TABLE.iter().find(|setting| setting.key == key).map(|setting| known(setting, header));
        found.ok_or_else(|| unknown(key, TABLE.iter().map(|setting| setting.key)))
    };
    match parts[..] {
        ["zones", _, _, ..] => setting(&parts[2..].join("."), 2),
        ["acme", _, _, ..] => {
            let key = parts[2..].join(".");
            let found = ACME_TABLE.iter().find(|setting| setting.key == key).map(|setting| known(setting, 2));
            found.ok_or_else(|| unknown(&key, ACME_TABLE.iter().map(|setting| setting.key)))
        }
        ["listeners", _, _, _, ..] => {
            let key = parts[3..].join(".");
            let found = LISTENER_TABLE.iter().find(|setting| setting.key == key).map(|setting| known(setting, 3));
            found.ok_or_else(|| unknown(&key, LISTENER_TABLE.iter().map(|setting| setting.key)))
        }
        _ => setting(key, 1),
    }
}

fn unknown(key: &str, all: impl Iterator<Item = &'static str>) -> String {
    format!("there is no key {}; {}", quoted(key), meant(key, all))
}

fn known<S>(setting: &Setting<S>, header: usize) -> Known {
    let Setting { kind, word, default, applies, meaning, .. } = *setting;
    Known { kind, word, default, allowed: setting.allowed(), applies, meaning, header }
}

impl Known {
    /// A value as it would be written into the file. `raw` is what somebody has said.
    pub(crate) fn literal(&self, raw: &Raw) -> Result<Toml, String> {
        let word = raw.word().unwrap_or_default();
        if let Some((special, _)) = self.word
            && special == word
        {
            return Ok(special.into());
        }
        let value = self.kind.read(raw)?;
        Ok(match (self.kind, value) {
            (Kind::Count { .. }, Value::Number(number)) => i64::try_from(number).map_or(word.into(), Toml::from),
            (Kind::Flag, Value::Number(number)) => (number != 0).into(),
            (Kind::Several(_), Value::Number(number)) => {
                let text = self.kind.written(number);
                let words: Vec<&str> = text.split(',').collect();
                if let [one] = words[..] { one.into() } else { list(words) }
            }
            (_, Value::List(items)) => match &items[..] {
                [one] => (&**one).into(),
                items => list(items.iter().map(|item| &**item)),
            },
            (_, Value::Tables(tables)) => tables.iter().map(|table| Toml::InlineTable(inline(table))).collect(),
            (_, Value::Text(text)) => (&*text).into(),
            (_, Value::Number(_)) => word.into(),
        })
    }
}

fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> Toml {
    Toml::Array(items.into_iter().collect::<Array>())
}

fn inline(pairs: &[(Box<str>, Box<str>)]) -> InlineTable {
    pairs.iter().map(|(key, text)| (&**key, &**text)).collect()
}
