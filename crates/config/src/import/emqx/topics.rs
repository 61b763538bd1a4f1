//! Rules for topics that both generations have.

use super::super::draft::{Amount, At, Draft};
use super::super::place::{Block, Entry};
use super::super::written;
use crate::{Value, rules};

/// Authorization is asked about another name than there.
const AUTHORIZATION: &str =
    "authorization is asked about the topic that a rule makes, where EMQX asks about the one before";

/// Messages that are published later.
pub(in super::super) fn delayed(draft: &mut Draft, name: &str, entry: &Entry) {
    const OURS: &str = "delayed.max_messages";
    let off = draft.get(&["delayed", "max_messages"]).is_some_and(|value| value.as_integer() == Some(0));
    match (name, entry.flag(), written::count(&entry.text())) {
        ("enable", Some(true), _) => draft.mapped(entry.at),
        ("enable", Some(false), _) => draft.setting(entry.at, &entry.key, None, OURS, &Amount::Number(0)),
        ("max_delayed_messages", _, _) if off => draft.mapped(entry.at),
        ("max_delayed_messages", _, Some(Amount::Number(0))) => {
            draft.changed(
                entry.at,
                &entry.key,
                "there is always a bound: that of delayed.max_messages, 100000 unless you set it",
            );
        }
        ("max_delayed_messages", _, Some(amount)) => draft.setting(entry.at, &entry.key, None, OURS, &amount),
        _ => draft.unreadable(entry.at, &entry.key, "true, false or a number"),
    }
}

/// Topics that every client is subscribed to, each with the lines that it stands on.
pub(in super::super) fn auto_subscribe(draft: &mut Draft, key: &str, written: &[(At, Block)]) {
    for (number, (at, block)) in (1..).zip(written) {
        let get = |name: &str| block.iter().find(|(key, _)| key == name).map_or("", |(_, text)| text.trim());
        let flag = |name: &str| match get(name) {
            "1" => "true",
            "0" => "false",
            text => text,
        };
        let topic = get("topic").replace("${clientid}", "%c").replace("${username}", "%u").replace("${host}", "%h");
        let pairs = [
            ("topic", topic.as_str()),
            ("qos", get("qos")),
            ("no_local", flag("nl")),
            ("retain_as_published", flag("rap")),
            ("retain_handling", get("rh")),
        ];
        let table = pairs.map(|(key, text)| (key.into(), text.into())).to_vec();
        match rules::auto_subscribe(&Value::Tables(vec![table])) {
            Ok(_) => {
                draft.put_table(&["auto_subscribe", "topics"], pairs.map(|(key, text)| (key, plain(text))));
                draft.mapped(*at);
            }
            Err(what) => {
                let what = what.strip_prefix("topic 1: ").unwrap_or(&what).to_owned();
                draft.action(*at, key, format!("topic {number} is not taken over: {what}"));
            }
        }
    }
}

/// A number or a flag without quotes, as one would write it.
fn plain(text: &str) -> toml_edit::Value {
    match (text.parse::<i64>(), text) {
        (Ok(number), _) => number.into(),
        (_, "true") => true.into(),
        (_, "false") => false.into(),
        _ => text.into(),
    }
}

/// Rules that rewrite topics, each with the lines that it stands on.
pub(in super::super) fn rewrites(draft: &mut Draft, key: &str, written: &[(At, Block)]) {
    let mut all_well = true;
    for (number, (at, block)) in (1..).zip(written) {
        let get = |name: &str| block.iter().find(|(key, _)| key == name).map_or("", |(_, text)| text.trim());
        let pairs = [
            ("action", get("action")),
            ("source", get("source_topic")),
            ("expression", get("re")),
            ("destination", get("dest_topic")),
        ];
        let table = pairs.map(|(key, text)| (key.into(), text.into())).to_vec();
        match rules::rewrite(&Value::Tables(vec![table])) {
            Ok(_) => draft.put_table(&["rewrite", "rules"], pairs.map(|(key, text)| (key, text.into()))),
            Err(what) => {
                let what = what.strip_prefix("rule 1: ").unwrap_or(&what).to_owned();
                draft.action(*at, key, format!("rule {number} is not taken over: {what}"));
                all_well = false;
            }
        }
    }
    if let (true, Some((first, _)), Some((last, _))) = (all_well, written.first(), written.last()) {
        let at = At { last: last.last.max(first.last), ..*first };
        if written.len() == 1 || first.file == last.file {
            draft.changed(at, key, AUTHORIZATION);
        }
    }
}
