//! Mosquitto: an option per line, `OPTION VALUE`. What follows `listener` is said of that listener.

mod listener;
mod options;

use std::collections::HashMap;

use super::Files;
use super::draft::{At, Draft};
use super::place::{Entry, Given};
use options::Take;

/// Files of an `include_dir` that are read at most, and their bytes together.
const INCLUDES_MAX: usize = 100;

/// Listeners that are taken over: as many as our file may have, less those that are there by themselves.
const LISTENERS_MAX: usize = 250;

/// Whether there is an option of that name.
pub(super) fn is_option(name: &str) -> bool {
    options::find(name).is_some()
}

/// A listener with all that is said of it.
#[derive(Debug, Default)]
struct Listener {
    /// The line that opens it; of the listener without one, the first that speaks of it.
    opened: Option<Entry>,
    port: Option<Entry>,
    options: Vec<Entry>,
}

pub(super) fn read(text: &str, files: &mut dyn Files, draft: &mut Draft) {
    let mut entries = Vec::new();
    lines(text, 0, &mut entries, draft);
    let entries = include(entries, files, draft, super::BYTES_MAX.saturating_sub(text.len()));
    let apart = entries.iter().any(|entry| entry.name == "per_listener_settings" && entry.flag() == Some(true));
    let mut listeners = vec![Listener::default()];
    let mut security = Vec::new();
    let mut bridge = false;
    for (entry, take) in once(entries, apart, draft) {
        bridge = match entry.name.as_str() {
            "connection" => true,
            "listener" => false,
            _ => bridge,
        };
        let count = listeners.len();
        let current = listeners.last_mut().expect("the first one is always there");
        match take {
            Take::Opens if count > LISTENERS_MAX => draft.action(entry.at, &entry.key, "there are too many listeners"),
            Take::Opens => listeners.push(Listener { opened: Some(entry), ..Listener::default() }),
            Take::Port => listeners[0].port = Some(entry),
            Take::Listener(_) => current.options.push(entry),
            Take::Security if apart => current.options.push(entry),
            Take::Security => security.push(entry),
            Take::Bridge if bridge || entry.name.starts_with("bridge_") => {
                draft.action(entry.at, &entry.key, options::BRIDGES);
            }
            Take::Bridge => {
                draft.action(entry.at, &entry.key, "this belongs to a bridge (connection), and none is open here");
            }
            _ => options::apply(draft, take, &entry),
        }
    }
    listener::write(draft, listeners, &security);
}

/// The options that are known. Of those that may stand but once, for the node or for a listener, the last counts.
fn once(entries: Vec<Entry>, apart: bool, draft: &mut Draft) -> Vec<(Entry, &'static Take)> {
    let mut last = HashMap::<(usize, String), usize>::new();
    let mut known: Vec<Option<(Entry, &'static Take)>> = Vec::new();
    let mut listener = 0;
    for entry in entries {
        let Some(take) = options::find(&entry.name) else {
            let text =
                "Mosquitto has no such option that we know of; look whether it is spelled right and whether it matters";
            draft.action(entry.at, &entry.key, text);
            continue;
        };
        let section = match take {
            Take::Opens => {
                listener += 1;
                listener
            }
            Take::Listener(_) => listener,
            Take::Security if apart => listener,
            _ => 0,
        };
        let often = matches!(take, Take::Opens | Take::Bridge) || options::OFTEN.contains(&entry.name.as_str());
        if !often
            && let Some(before) = last.insert((section, entry.name.clone()), known.len())
            && let Some((before, _)) = known[before].take()
        {
            let text = format!("given again in line {}, which counts", entry.at.line);
            draft.not_mapped(before.at, &before.key, text);
        }
        known.push(Some((entry, take)));
    }
    known.into_iter().flatten().collect()
}

/// The lines of a file that say something.
fn lines(text: &str, file: usize, entries: &mut Vec<Entry>, draft: &mut Draft) {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = At::line(file, number);
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let entry = Entry { key: name.into(), name: name.into(), given: Given::Text(value.trim().into()), at };
        if value.trim().is_empty()
            && is_option(name)
            && !matches!(name, "acl_file" | "clientid_prefixes" | "auto_id_prefix")
        {
            draft.action(at, name, "the option has no value");
            continue;
        }
        entries.push(entry);
    }
}

/// Follows `include_dir`, from the main file only, as Mosquitto does: names that end in `.conf`, in order.
fn include(entries: Vec<Entry>, files: &mut dyn Files, draft: &mut Draft, mut bytes_left: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut included = 0;
    for entry in entries {
        if entry.name != "include_dir" {
            all.push(entry);
            continue;
        }
        let folder = entry.text();
        let mut names = match files.list(&folder) {
            Ok(names) => names,
            Err(fault) => {
                draft.action(entry.at, &entry.key, format!("not followed: {fault}; import its files too"));
                continue;
            }
        };
        names.retain(|name| name.ends_with(".conf"));
        names.sort();
        draft.mapped(entry.at);
        for name in names {
            included += 1;
            let text = files.read(&name).and_then(|text| match text.len() <= bytes_left && included <= INCLUDES_MAX {
                true => Ok(text),
                false => Err("too many files or bytes are included".into()),
            });
            match text {
                Ok(text) => {
                    bytes_left -= text.len();
                    let file = draft.add_file(Some(&name), &text);
                    let from = all.len();
                    lines(&text, file, &mut all, draft);
                    for inner in all.extract_if(from.., |entry| entry.name == "include_dir") {
                        draft.action(inner.at, &inner.key, "only the main file may include others");
                    }
                }
                Err(fault) => draft.action(entry.at, &entry.key, format!("{name} was not read: {fault}")),
            }
        }
    }
    all
}

/// Every option, for tests.
#[cfg(test)]
pub(super) use options::all as options;
