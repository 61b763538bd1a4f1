//! Values and keys for the terminal: what counts, where it comes from, what it is for.

use std::fmt::Write as _;

use crate::environment::{variable, word};
use crate::literal::{Known, find};
use crate::raw::{Origin, Raw};
use crate::resolve::{Effective, Resolved};
use crate::value::Kind;

/// Values under a prefix of their keys, or those that somebody has given. Each with its source, and with what it shadows.
#[must_use]
pub fn show(resolved: &Resolved, prefix: Option<&str>, all: bool) -> String {
    let under = |value: &&Effective| {
        let Some(prefix) = prefix else { return all || value.origin != Origin::Default };
        value
            .key
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || prefix.ends_with('.'))
    };
    let values: Vec<&Effective> = resolved.values.iter().filter(under).collect();
    let written = |value: &Effective| format!("{} = {}", value.key, none(&value.shown));
    let width =
        values.iter().map(|value| written(value).chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    let mut text = String::new();
    for value in values {
        let _ = write!(text, "{:width$}  # {}", written(value), value.origin);
        for (shown, origin) in &value.shadows {
            let _ = write!(text, "; shadows {} ({origin})", none(shown));
        }
        text.push('\n');
    }
    text
}

/// All that is to be said of one key. The error says what may have been meant.
pub fn explain(resolved: &Resolved, key: &str) -> Result<String, String> {
    // `tls.key` alone means that of any listener with TLS.
    let general =
        ["listeners.tcp.default.", "listeners.tls.default.", "listeners.ws.default.", "listeners.quic.default."];
    let full = |prefix: &&str| format!("{prefix}{key}");
    let (key, known) = match find(key) {
        Ok(known) => (key.to_owned(), known),
        Err(fault) => {
            let prefix = general[match key.split('.').next() {
                Some("tls") => 1,
                Some("websocket") => 2,
                Some("quic") => 3,
                _ => 0,
            }];
            let key = full(&prefix);
            find(&key).map(|known| (key, known)).map_err(|_| fault)?
        }
    };
    let mut text = format!("{key}\n  {}\n", known.meaning.replace('`', ""));
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "  {name:9} {what}");
    };
    line("takes", &known.allowed);
    line("default", none(known.default));
    let value = resolved.values.iter().find(|value| value.key == key);
    if let Some(value) = value {
        line("value", &format!("{} ({})", none(&value.shown), value.origin));
        for (shown, origin) in &value.shadows {
            line("shadows", &format!("{} ({origin})", none(shown)));
        }
    }
    line("counts", &format!("from {}", known.applies.in_words()).replace("from at once", "at once"));
    let example = example(&known, value);
    let parts: Vec<&str> = key.split('.').collect();
    let (section, rest) = parts.split_at(known.header.min(parts.len() - 1));
    line("file", &format!("[{}]", section.join(".")));
    let raw = known.literal(&word(&example)).map_or_else(|_| example.clone(), |value| value.to_string());
    line("", &format!("{} = {}", rest.join("."), raw.trim()));
    line("variable", &format!("{}='{example}'", variable(&key)));
    line("flag", &format!("--set '{key}={example}'"));
    Ok(text)
}

/// A value that the key takes: its own, its default, or one that shows the shape.
fn example(known: &Known, value: Option<&Effective>) -> String {
    let own = value
        .map(|value| value.shown.as_str())
        .filter(|text| !matches!(known.kind, Kind::Secret | Kind::Tables(_)) && !text.is_empty());
    let own = own.filter(|text| known.literal(&Raw::Word((*text).into())).is_ok());
    let shape = || match known.kind {
        Kind::Tables(keys) if keys.contains(&"expression") => {
            "[{ source = \"x/#\", expression = \"^x/(.+)$\", destination = \"y/$1\" }]"
        }
        Kind::Tables(keys) if keys.contains(&"retain_handling") => "[{ topic = \"clients/%c/#\", qos = 1 }]",
        Kind::Tables(keys) if keys.contains(&"max_age") => "[{ filter = \"sensors/#\", max_age = \"6h\" }]",
        Kind::Tables(keys) if keys.contains(&"expiry") => "[{ filter = \"status/#\", expiry = \"1d\" }]",
        Kind::Tables(_) => "[{ certificate = \"other.pem\", key = \"other.key\" }]",
        Kind::Secret => "secret",
        Kind::List(shape) if shape.starts_with("rules") => "allow 10.0.0.0/8, deny all",
        Kind::List(shape) if shape.starts_with("networks") => "10.0.0.0/8",
        Kind::List(shape) if shape.starts_with("places") => "127.0.0.1:1883",
        Kind::List(shape) if shape.starts_with("origins") => "https://example.org",
        Kind::List(shape) if shape.starts_with("cipher") => "TLS13_AES_256_GCM_SHA384",
        Kind::List(_) => "ca.pem",
        Kind::Shape(_) => "server.pem",
        Kind::Several(words) => words.last().copied().unwrap_or_default(),
        Kind::Flag => "true",
        Kind::Count { .. } => "1000",
        _ => "text",
    };
    let default = Some(known.default).filter(|text| !text.is_empty());
    own.or(default).map_or_else(|| shape().to_owned(), str::to_owned)
}

fn none(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::LISTENER_TABLE;
    use crate::table::TABLE;
    use crate::tests::{around, good, sources};

    #[test]
    fn values_are_shown_with_their_source_and_what_they_shadow() {
        let sources =
            sources("mqtt.max_qos = 1\n", &[("BREAKWATER_MQTT__MAX_QOS", "0")], &["queue.max_messages=5"], &[]);
        let resolved = crate::resolve(&sources, &around()).expect("fine");
        let text = show(&resolved, None, false);
        let lines: Vec<&str> = text.lines().collect();
        let first =
            "mqtt.max_qos = 0        # BREAKWATER_MQTT__MAX_QOS; shadows 1 (/etc/b/b.toml:1:6); shadows 2 (default)";
        assert_eq!(lines, [first, "queue.max_messages = 5  # --set; shadows 10000 (default)"]);
        assert!(show(&resolved, None, true).lines().count() > 200);
        let under = show(&resolved, Some("listeners.tcp"), false);
        assert!(under.lines().all(|line| line.starts_with("listeners.tcp.default.")) && under.lines().count() > 40);
        assert_eq!(show(&resolved, Some("mqtt.max_q"), false), "");
    }

    #[test]
    fn secrets_stay_hidden() {
        let text = "[listeners.tls.x]\nbind = 1\ntls.certificate = 'c'\ntls.key = 'k'\ntls.key_password = 'hunter2'\n";
        let resolved = good(text);
        let shown =
            show(&resolved, None, true) + &explain(&resolved, "listeners.tls.x.tls.key_password").expect("known");
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_key_is_explained_with_examples_that_work() {
        let resolved = good("[listeners.tcp.x]\nbind = 1\n");
        let text = explain(&resolved, "listeners.tcp.x.max_connections").expect("known");
        for part in [
            "takes     1 to 4294967295, or unlimited",
            "value     unlimited (default)",
            "counts    at once",
            "file      [listeners.tcp.x]\n            max_connections = \"unlimited\"",
            "variable  BREAKWATER_LISTENERS__TCP__X__MAX_CONNECTIONS='unlimited'",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(explain(&resolved, "tls.key").expect("known").contains("[listeners.tls.default]"));
        assert!(explain(&resolved, "mqtt.max_qoss").unwrap_err().contains("mqtt.max_qos?"));
    }

    #[test]
    fn every_example_is_a_value_of_its_key() {
        let resolved = good("");
        let listener = LISTENER_TABLE.iter().map(|row| row.key);
        for key in TABLE.iter().map(|row| row.key).chain(listener) {
            let text = explain(&resolved, key).expect("known");
            let section =
                text.split("  file      ").nth(1).and_then(|rest| rest.split("  variable").next()).expect("an example");
            assert!(crate::edit::edited(section, &[]).is_ok(), "{key}: {section}");
            let full = text.lines().next().expect("the key");
            let set = text
                .split(&format!("--set '{full}="))
                .nth(1)
                .and_then(|rest| rest.strip_suffix("'\n"))
                .expect("a flag");
            assert!(find(full).expect("known").literal(&word(set)).is_ok(), "{full}: {set}");
        }
    }
}
