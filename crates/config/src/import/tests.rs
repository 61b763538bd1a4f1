//! What each format becomes.

mod emqx4;
mod emqx5;
mod mosquitto;
mod mutations;
mod samples;

use super::*;

/// Reads a file that stands alone.
fn read(format: Format, text: &str) -> Imported {
    let imported = import(format, text, &mut Alone).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    accounted(&imported, text);
    imported
}

/// Every line with something in it is in the result, or a remark is made on it, or it holds others together.
fn accounted(imported: &Imported, text: &str) {
    let (name, fates) = &imported.fates[0];
    assert_eq!((name, fates.len()), (&None, text.lines().count()));
    let said = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with(['#', '/'])).count();
    let known = fates.iter().filter(|fate| !matches!(fate, Fate::Blank | Fate::Unread)).count();
    assert!(known >= said, "{said} lines say something, {known} are accounted for:\n{text}\n{fates:?}");
    for (line, fate) in (1..).zip(fates) {
        let remark = imported
            .remarks
            .iter()
            .any(|remark| remark.file.is_none() && (remark.line..=remark.last_line).contains(&line));
        assert!(*fate != Fate::Unread, "line {line} was not read:\n{text}");
        assert!(*fate != Fate::Remarked || remark, "line {line} has no remark:\n{text}\n{:?}", imported.remarks);
    }
    assert!(
        !imported.remarks.iter().any(|remark| remark.text.contains("not understood as one of")),
        "{:?}",
        imported.remarks
    );
    assert!(imported.toml.to_string().parse::<DocumentMut>().is_ok());
}

/// The result is one that the broker starts with; what it can't start with for want of a file or a part, a remark says.
fn starts(imported: &Imported) {
    let around = crate::Surroundings {
        data: "/data".into(),
        directory: "/".into(),
        ipv6: true,
        read: |_, _| Ok(b"secret".to_vec()),
    };
    let path = std::path::Path::new("/breakwater.toml").into();
    let sources = crate::Sources { file: Some((path, imported.toml.to_string())), ..crate::Sources::default() };
    let Err(faults) = crate::resolve(&sources, &around) else { return };
    // Two listeners on one port are as wrong here as they were there.
    for fault in faults.iter().filter(|fault| !fault.key.ends_with(".bind")) {
        let told = ["tls.certificate", "tls.key", "tls.client_certificate"].iter().any(|key| fault.key.ends_with(key));
        let word = if fault.key.ends_with("client_certificate") { "client_authorities" } else { "go together" };
        assert!(told && imported.remarks.iter().any(|remark| remark.text.contains(word)), "{fault}\n{}", imported.toml);
    }
}

/// The result without its first lines.
fn toml(imported: &Imported) -> String {
    let text = imported.toml.to_string();
    let (_, body) = text.split_once("\n\n").unwrap_or(("", &text));
    body.to_owned()
}

/// The value at a dotted path of the result, as it is written; the names of listeners have no dots here.
fn value(imported: &Imported, path: &str) -> Option<String> {
    let mut item = imported.toml.as_item();
    for part in path.split('.') {
        item = item.get(part)?;
    }
    item.as_value().map(|value| value.to_string().trim().to_owned())
}

/// Remarks on a line.
fn on_line(imported: &Imported, line: u32) -> Vec<&Remark> {
    imported
        .remarks
        .iter()
        .filter(|remark| (remark.line..=remark.last_line).contains(&line) && remark.line > 0)
        .collect()
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let text = "x\n".repeat(BYTES_MAX / 2 + 1);
    for format in [Format::Emqx4, Format::Emqx5, Format::Mosquitto] {
        let faults = import(format, &text, &mut Alone).expect_err("too large");
        assert!(faults[0].contains("too many"), "{faults:?}");
    }
}

#[test]
fn a_file_of_our_own_is_not_imported() {
    assert!(import(Format::Breakwater, "", &mut Alone).is_err());
}

#[test]
fn a_remark_names_line_key_and_reason() {
    let imported = read(Format::Emqx4, "\n\nlistener.tcp.a = 1\nlistener.tcp.a.acceptors = 8\n");
    let remark = on_line(&imported, 4)[0].to_string();
    assert!(remark.starts_with("line 4: listener.tcp.a.acceptors: not mapped: every shard"), "{remark}");
}

#[test]
fn keys_with_control_characters_are_shown_without_them() {
    let imported = read(Format::Emqx4, "list\u{1b}[31mener.x = 1\n");
    assert!(!imported.remarks[0].to_string().contains('\u{1b}'));
}

/// Reads every file as this one.
struct Same(&'static str);

impl Files for Same {
    fn read(&mut self, _name: &str) -> Result<String, String> {
        Ok(self.0.to_owned())
    }

    fn list(&mut self, _folder: &str) -> Result<Vec<String>, String> {
        Ok(vec!["d/\u{1b}[31m.conf".to_owned()])
    }
}

#[test]
fn names_of_included_files_are_shown_without_control_characters() {
    let hocon = "include \"x\u{7}\u{1b}[31m.conf\"\n";
    for (format, text) in [(Format::Emqx5, hocon), (Format::Mosquitto, "include_dir d\n")] {
        let imported = import(format, text, &mut Same("nonsense = 1\n")).expect("a result");
        let lines: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains("[31m.conf, line 1")), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains(char::is_control)), "{lines:?}");
    }
    let faults = import(Format::Emqx5, hocon, &mut Same("a {")).expect_err("a broken file");
    assert!(!faults[0].contains(char::is_control) && faults[0].contains("[31m.conf, line"), "{faults:?}");
}

#[test]
fn neighbours_that_get_the_same_answer_get_one_remark() {
    let imported = read(
        Format::Emqx4,
        "node.name = a\n# x\nnode.cookie = secret\nnode.data_dir = d\nmqtt.max_qos_allowed = 1\nnode.x = 1\n",
    );
    let lines: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("lines 1 to 4: node.*: not mapped") && lines[1].starts_with("line 6: node.x"),
        "{lines:?}"
    );
}

/// What costs a little per line must not cost the square of it.
#[test]
fn long_files_are_read_in_one_go() {
    let many = |line: &dyn Fn(usize) -> String| (0..20_000).map(line).collect::<String>();
    for (format, text) in [
        (Format::Emqx4, many(&|at| format!("listener.tcp.l{at} = 1\n"))),
        (Format::Emqx4, many(&|at| format!("listener.tcp.a.access.{at} = allow all\n"))),
        (Format::Emqx4, many(&|at| format!("zone.z{at}.max_qos_allowed = 1\n"))),
        (Format::Emqx4, many(&|at| format!("zone.z{at}.mountpoint = x\n"))),
        (Format::Emqx5, many(&|at| format!("listeners.tcp.l{at}.bind = 1\n"))),
        (Format::Emqx5, many(&|at| format!("zones.z{at}.mqtt.max_qos_allowed = 1\n"))),
        (Format::Emqx5, many(&|at| format!("a{at} = ${{a{}}}\n", at / 2))),
        (Format::Mosquitto, many(&|at| format!("listener {}\n", at % 65_535))),
        (Format::Mosquitto, format!("{}{}", "max_qos 1\n".repeat(20_000), "mount_point x\n".repeat(20_000))),
        (Format::Mosquitto, many(&|at| format!("websockets_origin {at}\n"))),
    ] {
        let Ok(imported) = import(format, &text, &mut Alone) else { continue };
        accounted(&imported, &text);
        starts(&imported);
    }
}

/// The page for those who move says what the tables do.
#[test]
fn the_page_for_those_who_move_tells_every_limit() {
    let page = include_str!("../../../../docs/migrating.md");
    for (name, setting) in emqx::known() {
        let row = setting.map_or_else(String::new, |setting| format!("| `{name}` | `{setting}` |"));
        assert!(page.contains(&row), "{row}");
    }
}
