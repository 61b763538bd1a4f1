//! Other brokers' files: turned into ours, and run as they are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::broker::breakwater;
use crate::program::{Ended, Program};

/// A folder of one test, empty when it starts.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("import-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

fn run(words: &[&str]) -> Ended {
    Program::start(breakwater().args(words)).finish()
}

const OLD: &str = "listener.tcp.default = 127.0.0.1:0\nlistener.tcp.default.acceptors = 8\nmqtt.max_qos_allowed = 1\n";

#[test]
fn a_file_of_another_broker_becomes_one_of_ours() {
    let folder = folder("becomes");
    let (old, new) = (folder.join("emqx.conf"), folder.join("breakwater.toml"));
    let (old, new) = (old.to_str().expect("text"), new.to_str().expect("text"));
    fs::write(old, OLD).expect("written");
    let ended = run(&["config", "import", old]);
    assert!(ended.status.success(), "{:?}", ended.lines);
    let has = |word: &str| ended.lines.iter().any(|line| line.contains(word));
    assert!(has("[listeners.tcp.default]") && has("max_qos = 1"), "{:?}", ended.lines);
    assert!(has("line 2: listener.tcp.default.acceptors: not mapped"), "{:?}", ended.lines);

    let ended = run(&["config", "import", old, "--out", new]);
    assert!(ended.status.success(), "{:?}", ended.lines);
    let ended = run(&["config", "check", new]);
    assert!(ended.lines.iter().any(|line| line.contains("tcp.default")), "{:?}", ended.lines);
    let ended = run(&["config", "import", old, "--out", new]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.lines.iter().any(|line| line.contains("--force")), "{:?}", ended.lines);
    assert!(run(&["config", "import", old, "--out", new, "--force"]).status.success());
    let ended = run(&["config", "import", new]);
    assert_eq!(ended.status.code(), Some(2), "{:?}", ended.lines);
}

#[test]
fn the_format_can_be_said_where_it_cannot_be_seen() {
    let folder = folder("said");
    let file = folder.join("x");
    fs::write(&file, "mqtt.max_packet_size = 2MB\n").expect("written");
    let file = file.to_str().expect("text");
    let ended = run(&["config", "import", file]);
    assert!(ended.lines.iter().any(|line| line.contains("--format")), "{:?}", ended.lines);
    for format in ["emqx4", "emqx5"] {
        let ended = run(&["config", "import", file, "--format", format]);
        assert!(ended.lines.iter().any(|line| line == "max_packet_size = \"2MB\""), "{:?}", ended.lines);
    }
}

#[test]
fn included_files_are_read_only_from_beside_the_file() {
    let folder = folder("beside");
    fs::create_dir_all(folder.join("conf.d")).expect("a folder");
    fs::write(folder.join("conf.d/a.conf"), "listener 1901 127.0.0.1\n").expect("written");
    fs::write(folder.join("mosquitto.conf"), "include_dir conf.d\n").expect("written");
    fs::write(folder.join("base.hocon"), "mqtt.max_qos_allowed = 1\n").expect("written");
    fs::write(folder.join("emqx.conf"), "include \"base.hocon\"\ninclude \"/etc/passwd\"\nnode { name = a }\n")
        .expect("written");
    let file = |name: &str| folder.join(name).to_str().expect("text").to_owned();
    let ended = run(&["config", "import", &file("mosquitto.conf")]);
    assert!(ended.lines.iter().any(|line| line == "bind = \"127.0.0.1:1901\""), "{:?}", ended.lines);
    let ended = run(&["config", "import", &file("emqx.conf")]);
    assert!(ended.lines.iter().any(|line| line == "max_qos = 1"), "{:?}", ended.lines);
    assert!(ended.lines.iter().any(|line| line.contains("only files beside this one")), "{:?}", ended.lines);
}

#[test]
fn a_file_of_another_broker_runs_as_it_is() {
    let folder = folder("runs");
    let file = folder.join("emqx.conf");
    fs::write(&file, OLD).expect("written");
    let file = file.to_str().expect("text");
    let broker = Program::start(breakwater().args([
        "serve",
        "--config",
        file,
        "--listen",
        "tcp://127.0.0.1:0",
        "--shards",
        "1",
    ]));
    broker.line(|line| line.contains("warning") && line.contains("line 2: listener.tcp.default.acceptors"));
    let line = broker.line(|line| line.contains("listening"));
    let (_, rest) = line.split_once("tcp://").expect("the banner names the address");
    let address = rest.split_whitespace().next().expect("an address");
    std::net::TcpStream::connect(address).expect("it is listened on");
}
