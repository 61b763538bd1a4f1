//! Environment variables: `BREAKWATER_`, then the parts of a key with two underscores between them.

use crate::document;
use crate::raw::{Entry, Fault, Origin, Raw};
use crate::table::TABLE;

const PREFIX: &str = "BREAKWATER_";

/// The variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").replace('-', "_").to_ascii_uppercase())
}

/// Entries of those variables that are ours. Others that begin alike are not: orchestrators make such names too.
pub(crate) fn entries(variables: &[(String, String)]) -> (Vec<Entry>, Vec<Fault>) {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let origin = Origin::Environment(name.as_str().into());
        if !rest.contains("__") {
            if let Some(meant) = single(rest) {
                let what = format!("is not read, because two underscores stand between the parts of a key: {meant}");
                faults.push(Fault { origin, key: String::new(), what });
            }
            continue;
        }
        let key: Vec<Box<str>> = rest.split("__").map(|part| part.to_ascii_lowercase().into()).collect();
        entries.push(Entry { key, raw: word(text), origin });
    }
    (entries, faults)
}

/// A list or table as in the file, else the text as it is.
pub(crate) fn word(text: &str) -> Raw {
    let text = text.trim();
    let nested = text.starts_with('[') || text.starts_with('{');
    nested.then(|| document::value(text)).flatten().unwrap_or_else(|| Raw::Word(text.into()))
}

/// The variable that was meant by one that has single underscores.
fn single(rest: &str) -> Option<String> {
    let alike = TABLE.iter().find(|setting| rest.eq_ignore_ascii_case(&setting.key.replace('.', "_")));
    match alike {
        Some(setting) => Some(variable(setting.key)),
        None if rest.starts_with("LISTENERS_") => Some(format!("{PREFIX}LISTENERS__TCP__DEFAULT__BIND")),
        None if rest.starts_with("ZONES_") => Some(format!("{PREFIX}ZONES__NAME__MQTT__MAX_QOS")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> (Vec<Entry>, Vec<Fault>) {
        entries(&[(name.to_owned(), text.to_owned())])
    }

    #[test]
    fn names_of_variables_are_keys() {
        for (name, key) in [
            ("BREAKWATER_MQTT__MAX_PACKET_SIZE", "mqtt.max_packet_size"),
            ("BREAKWATER_LISTENERS__TCP__DEFAULT__BIND", "listeners.tcp.default.bind"),
        ] {
            let (entries, faults) = read(name, "x");
            assert_eq!((entries[0].name().as_str(), faults.len()), (key, 0));
            assert_eq!(variable(key), name);
        }
    }

    #[test]
    fn foreign_variables_are_left_alone() {
        for name in ["BREAKWATER_PORT", "BREAKWATER_SERVICE_HOST", "HOME", "BREAKWATER_CONFIG", "BREAKWATER_DATA"] {
            let (entries, faults) = read(name, "x");
            assert!(entries.is_empty() && faults.is_empty(), "{name}");
        }
    }

    #[test]
    fn single_underscores_are_not_ignored_in_silence() {
        let (_, faults) = read("BREAKWATER_MQTT_MAX_QOS", "1");
        assert!(faults[0].to_string().contains("BREAKWATER_MQTT__MAX_QOS"), "{faults:?}");
        assert_eq!(read("BREAKWATER_LISTENERS_TCP_DEFAULT_BIND", "1").1.len(), 1);
    }

    #[test]
    fn lists_are_written_as_in_the_file_or_with_commas() {
        assert!(matches!(word("[\"a\", \"b\"]"), Raw::List(items) if items.len() == 2));
        assert!(matches!(word("a,b"), Raw::Word(_)));
        assert!(matches!(word("[::1]:1883"), Raw::Word(_)));
    }
}
