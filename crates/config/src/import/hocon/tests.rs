//! The reader against the library of the same format, and against hostile texts.

use super::*;
use crate::import::Alone;

fn leaves(text: &str) -> Result<Vec<Leaf>, String> {
    read(text, &mut Alone, &mut Draft::new(text))
}

/// The tree as `path=value` lines.
fn shape(text: &str) -> Vec<String> {
    let leaves = leaves(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    leaves.iter().map(|leaf| format!("{}={:?}", leaf.path.join("."), leaf.given)).collect()
}

fn of_library(value: &::hocon::HoconValue) -> Option<String> {
    match value {
        ::hocon::HoconValue::Scalar(scalar) => Some(scalar.raw.clone()),
        _ => None,
    }
}

fn library_blocks(items: &[::hocon::HoconValue]) -> Vec<Block> {
    let block = |item: &::hocon::HoconValue| match item {
        ::hocon::HoconValue::Object(map) => {
            map.iter().map(|(key, value)| Some((key.clone(), of_library(value)?))).collect()
        }
        _ => None,
    };
    items.iter().map(block).collect::<Option<_>>().unwrap_or_default()
}

fn library_shape(value: &::hocon::HoconValue, path: &str, lines: &mut Vec<String>) {
    match value {
        ::hocon::HoconValue::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                library_shape(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, lines);
            }
        }
        ::hocon::HoconValue::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(of_library).collect();
            lines.push(format!("{path}={:?}", texts.map_or_else(|| Given::Block(library_blocks(items)), Given::List)));
        }
        other => lines.push(format!("{path}={:?}", of_library(other).map_or(Given::List(Vec::new()), Given::Text))),
    }
}

#[test]
fn the_library_reads_the_same_values() {
    for text in [
        "a = 1\nb = two words\nc = \"quoted # text\" # comment\n",
        "a { b { c = 1, d = 2 }, e = 3 }\na.b.d = 4\n",
        "{ \"a\" : [1, 2, \"x\"], \"b\" : { } }",
        "a = [1\n 2\n 3]\nb = [\n  x,\n  y,\n]\n",
        "base { x = 1, y = 2 }\nown = ${base} { y = 3 }\n",
        "home = /etc\nfile = ${home}\"/certs/\"key.pem\n",
        "a = 1\na = 2\na { b = 1 }\n",
        "path = [a]\npath += b\npath += c\n",
        "a { p = [x] }\na { p += y }\na.p += z\n",
        "path = ${?none} [a]\nb = ${?none}\nc = 1\nc = ${?none}\n",
        "text = \"\"\"two\nlines\"\"\"\n",
        "a.\"b.c\".d = 1\n",
        "x = 5s // behind\n// whole\ny = true\n",
        "a : 1\nb { c : ${a} }\n",
        "list = [ { a = 1 }, { a = 2 } ]\n",
        "a = \"x\\ty\\u0041\"\n",
        "v = ${w}\nw = ${z}\nz = end\n",
        "a { x = 1 }\na = ${b}\nb { y = 2 }\n",
    ] {
        let parsed = ::hocon::parse_with_env(text, &std::collections::HashMap::new())
            .unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let mut expected = Vec::new();
        for key in parsed.keys() {
            library_shape(parsed.get(key).expect("a key of its own"), key, &mut expected);
        }
        let mut found = shape(text);
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn values_know_their_lines() {
    let text = "# first\na {\n  b = 1 # x\n  list = [\n    one\n    two\n  ]\n}\n\nc = ${a.b}\n";
    let found: Vec<(String, u32, u32)> =
        leaves(text).expect("a tree").iter().map(|leaf| (leaf.path.join("."), leaf.at.line, leaf.at.last)).collect();
    assert_eq!(found, [("a.b".into(), 3, 3), ("a.list".into(), 4, 7), ("c".into(), 10, 10)]);
}

#[test]
fn what_emqx_writes_beyond_the_text_of_the_format_is_read() {
    assert_eq!(shape("bind = 0.0.0.0:1883\n"), ["bind=Text(\"0.0.0.0:1883\")"]);
    assert_eq!(shape("url = http://host:80/x\n"), ["url=Text(\"http://host:80/x\")"]);
    assert_eq!(shape("pem = \"\"\"~\n  one\n    two\n  ~\"\"\"\n"), ["pem=Text(\"one\\n  two\\n\")"]);
}

#[test]
fn a_reference_to_nothing_is_told_by_its_name() {
    let leaves = leaves("a = ${EMQX_PORT}\nb = x${?none}y\n").expect("a tree");
    assert_eq!(leaves[0].missing.as_deref(), Some("EMQX_PORT"));
    assert_eq!(leaves[1].given, Given::Text("xy".into()));
}

#[test]
fn faults_name_their_line() {
    for (text, line, word) in [
        ("a = {\nb = 1\n", 3, "}"),
        ("a = [1, 2\n", 2, "]"),
        ("x = 1\na = \"open\n", 2, "quote"),
        ("a b\n", 1, "missing"),
        ("a = \n\n}", 3, "no value"),
        ("a = 1\n}\n", 2, "key"),
        ("a = ${b}\nb = ${a}\n", 2, "itself"),
        ("a = { b = ${a} }\n", 1, "itself"),
        ("a = [1] { b = 2 }\n", 1, "joined"),
        ("= 1\n", 1, "key"),
        ("a = \"\\q\"\n", 1, "backslash"),
        ("a = ${b\n", 1, "}"),
    ] {
        let fault = leaves(text).expect_err(text);
        assert!(fault.starts_with(&format!("line {line}:")) && fault.contains(word), "{text:?}: {fault}");
        assert!(!fault.contains('\n'), "{fault}");
    }
}

/// Each of these takes the library more than 70 MB, or its whole stack.
#[test]
fn little_text_never_becomes_much() {
    let doubling = |times: usize, value: &str| {
        let lines: Vec<String> = (1..=times).map(|at| format!("a{at} = ${{a{}}} ${{a{}}}", at - 1, at - 1)).collect();
        format!("a0 = {value}\n{}\n", lines.join("\n"))
    };
    for (text, word) in [
        (doubling(40, "xxxxxxxxxxxxxxxx"), "grow"),
        (doubling(40, "[1]"), "grow"),
        (doubling(60, "{ k = 1 }"), "grow"),
        (format!("a = x\n{}", "a = ${a}y\n".repeat(20_000)), "too many times"),
        (format!("a = {}", "[".repeat(100_000)), "deep"),
        (format!("a = {}", "{ b = ".repeat(100_000)), "deep"),
        (format!("{} = 1", vec!["a"; 20_000].join(".")), "parts"),
        ((0..200).map(|at| format!("v{at} = ${{v{}}}\n", at + 1)).collect::<String>(), "on and on"),
    ] {
        let fault = leaves(&text).expect_err("too much");
        assert!(fault.contains(word), "{fault}");
    }
    assert_eq!(leaves(&"a += 1\n".repeat(50_000)).expect("a list").len(), 1);
    assert!(leaves(&(0..50_000).map(|at| format!("k{at} = 1\n")).collect::<String>()).is_ok());
}

struct Folder(Vec<(&'static str, &'static str)>);

impl Files for Folder {
    fn read(&mut self, name: &str) -> Result<String, String> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "there is no such file".into())
    }

    fn list(&mut self, _folder: &str) -> Result<Vec<String>, String> {
        Err("no folders".into())
    }
}

#[test]
fn includes_are_followed_within_bounds() {
    let mut folder = Folder(vec![
        ("a.conf", "x = 1\ninclude \"b.conf\"\n"),
        ("b.conf", "y = 2\n"),
        ("loop.conf", "include \"loop.conf\"\n"),
    ]);
    let text = "include \"a.conf\"\ninclude required(file(\"b.conf\"))\ny = 3\n";
    let found = read(text, &mut folder, &mut Draft::new(text)).expect("a tree");
    let values: Vec<(String, usize)> = found.iter().map(|leaf| (leaf.path.join("."), leaf.at.file)).collect();
    assert_eq!(values, [("x".into(), 1), ("y".into(), 0)]);
    let text = "include \"loop.conf\"\ninclude \"none.conf\"\ninclude url(\"http://x/y\")\nz = 1\n";
    let mut draft = Draft::new(text);
    assert_eq!(read(text, &mut folder, &mut draft).expect("a tree").len(), 1);
    let imported = draft.finish(crate::import::Format::Emqx5);
    let about: Vec<&str> = imported.remarks.iter().map(|remark| remark.text.as_str()).collect();
    assert!(about.iter().any(|text| text.contains("too many files")), "{about:?}");
    assert!(about.iter().any(|text| text.contains("no such file")), "{about:?}");
    assert!(about.iter().any(|text| text.contains("only files")), "{about:?}");
}
