//! Changes of `breakwater.toml` that leave the rest of it as it is: comments, order, white space.

use toml_edit::{DocumentMut, Item, Table, TableLike};

use crate::environment::word;
use crate::literal::{Known, find};

/// One change: a key, and its value as `--set` takes it; none removes the key, or the whole section.
pub type Edit = (String, Option<String>);

/// The text with the changes made. All faults at once. Whether the outcome is a good configuration is another question.
pub fn edited(text: &str, edits: &[Edit]) -> Result<String, Vec<String>> {
    let mut document: DocumentMut = text.parse().map_err(|fault: toml_edit::TomlError| {
        vec![format!("the file is not TOML: {}", fault.message().replace(['\n', '\r'], ", "))]
    })?;
    let mut faults = Vec::new();
    for (key, value) in edits {
        let done = match value {
            Some(value) => set(&mut document, key, value),
            None => unset(&mut document, key),
        };
        faults.extend(done.err().map(|what| format!("{key}: {what}")));
    }
    if faults.is_empty() { Ok(document.to_string()) } else { Err(faults) }
}

fn set(document: &mut DocumentMut, key: &str, text: &str) -> Result<(), String> {
    let known: Known = find(key)?;
    let mut value = known.literal(&word(text))?;
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err("has an empty part".into());
    }
    let (last, path) = parts.split_last().expect("a known key has parts");
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (depth, part) in path.iter().enumerate() {
        let entry = table.entry(part);
        let item = entry.or_insert_with(|| section(depth + 1, known.header));
        table =
            item.as_table_like_mut().ok_or_else(|| format!("{} is a value in the file", parts[..=depth].join(".")))?;
    }
    match table.get_mut(last) {
        Some(Item::Value(old)) => {
            // What stands around the old value, a comment behind it above all.
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(item) => *item = Item::Value(value),
        None => _ = table.insert(last, Item::Value(value)),
    }
    Ok(())
}

/// A section that was not there: headers as people write them, `[listeners.tcp.x]` and in it `tls.key = …`.
fn section(depth: usize, header: usize) -> Item {
    let mut table = Table::new();
    table.set_implicit(depth < header);
    table.set_dotted(depth > header);
    Item::Table(table)
}

fn unset(document: &mut DocumentMut, key: &str) -> Result<(), String> {
    let parts: Vec<&str> = key.split('.').collect();
    let absent = || "is not in the file".to_owned();
    remove(document.as_table_mut(), &parts).then_some(()).ok_or_else(absent)
}

/// Removes a key, and on the way back what stands there only for it: dotted parts, but no headers that somebody wrote.
fn remove(table: &mut dyn TableLike, parts: &[&str]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(first).is_some();
    }
    let Some(inner) = table.get_mut(first).and_then(Item::as_table_like_mut) else { return false };
    let removed = remove(inner, rest);
    if removed && inner.is_empty() && inner.is_dotted() {
        table.remove(first);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: &str, edits: &[(&str, Option<&str>)]) -> Result<String, Vec<String>> {
        let edits: Vec<Edit> = edits.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
        edited(text, &edits)
    }

    const FILE: &str = "# head\n\n[mqtt] # of all\nmax_qos = 2   # why\nretain_available = true\n\n# the door\n\
                        [listeners.tcp.x]\nbind = \"1\"\n\n[listeners.tls.y]\nbind = 2\ntls.versions = \"1.3\"\n# end\n";

    #[test]
    fn comments_and_order_stay() {
        let text = edit(FILE, &[("mqtt.max_qos", Some("1"))]).expect("fine");
        assert_eq!(text, FILE.replace("max_qos = 2 ", "max_qos = 1 "));
        assert_eq!(edit(FILE, &[]).as_deref(), Ok(FILE));
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        let text = edit(
            "",
            &[
                ("mqtt.max_inflight", Some("9")),
                ("mqtt.retain_available", Some("off")),
                ("mqtt.max_packet_size", Some("4MB")),
                ("mqtt.versions", Some("3.1.1,5.0")),
                ("session.expiry_max", Some("never")),
                ("listeners.defaults", Some("false")),
                ("listeners.tls.x.bind", Some("127.0.0.1:1,[::1]:1")),
                ("listeners.tls.x.tls.certificate", Some("a.pem")),
                ("listeners.tls.x.tls.certificates", Some("[{certificate = \"b\", key = \"c\"}]")),
                ("zones.z.mqtt.max_qos", Some("1")),
            ],
        );
        let expected = "[mqtt]\nmax_inflight = 9\nretain_available = false\nmax_packet_size = \"4MB\"\n\
                        versions = [\"3.1.1\", \"5.0\"]\n\n[session]\nexpiry_max = \"never\"\n\n[listeners]\ndefaults = false\n\n\
                        [listeners.tls.x]\nbind = [\"127.0.0.1:1\", \"[::1]:1\"]\ntls.certificate = \"a.pem\"\n\
                        tls.certificates = [{ certificate = \"b\", key = \"c\" }]\n\n[zones.z]\nmqtt.max_qos = 1\n";
        assert_eq!(text.as_deref(), Ok(expected));
    }

    #[test]
    fn new_keys_go_where_their_section_is() {
        let text =
            edit(FILE, &[("mqtt.max_inflight", Some("9")), ("listeners.tls.y.tls.ocsp", Some("fetch"))]).expect("fine");
        assert!(text.contains("retain_available = true\nmax_inflight = 9\n\n# the door"), "{text}");
        assert!(text.contains("tls.versions = \"1.3\"\ntls.ocsp = \"fetch\"\n# end"), "{text}");
        let inline = edit("mqtt = { max_qos = 1 }\n", &[("mqtt.max_inflight", Some("9"))]);
        assert_eq!(inline.as_deref(), Ok("mqtt = { max_qos = 1 , max_inflight = 9 }\n"));
        let dotted = edit("mqtt.max_qos = 1\n", &[("mqtt.max_inflight", Some("9"))]);
        assert_eq!(dotted.as_deref(), Ok("mqtt.max_qos = 1\nmqtt.max_inflight = 9\n"));
    }

    #[test]
    fn keys_and_sections_are_removed() {
        let text = edit(FILE, &[("mqtt.max_qos", None), ("listeners.tls.y.tls.versions", None)]).expect("fine");
        assert!(!text.contains("max_qos") && !text.contains("tls.versions") && text.contains("bind = 2"), "{text}");
        let text = edit(FILE, &[("listeners.tls.y", None)]).expect("fine");
        assert!(!text.contains("listeners.tls") && text.contains("listeners.tcp"), "{text}");
        assert!(edit(FILE, &[("mqtt.max_inflight", None)]).unwrap_err()[0].contains("not in the file"));
    }

    #[test]
    fn wrong_changes_are_refused_all_at_once() {
        let faults = edit(FILE, &[("mqtt.max_qoss", Some("1")), ("mqtt.max_qos", Some("7")), ("a..b", None)]);
        let faults = faults.unwrap_err();
        assert_eq!(faults.len(), 3);
        assert!(faults[0].contains("did you mean mqtt.max_qos?") && faults[1].contains("0 to 2"), "{faults:?}");
        assert!(edit("mqtt = 1\n", &[("mqtt.max_qos", Some("1"))]).is_err());
        assert!(edit("mqtt = \n", &[]).is_err());
    }
}
