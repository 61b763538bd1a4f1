//! The configuration as operators meet it: a file, the commands on it, and a broker that takes changes up while it runs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::broker::breakwater;
use crate::program::{Ended, Program, Signal};

/// A folder with a configuration, gone with the test.
struct Site {
    folder: PathBuf,
}

impl Site {
    fn new(name: &str, text: &str) -> Site {
        let folder = std::env::temp_dir().join(format!("breakwater-e2e-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let site = Site { folder };
        site.write(text);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path("b.toml"), text).expect("it takes files");
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path("b.toml")).expect("it is there")
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = breakwater();
        command.args(words).arg("--config").arg(self.path("b.toml")).arg("--data").arg(self.path("data"));
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        Program::start(&mut self.command(words)).finish()
    }

    /// A command for the broker that runs.
    fn ask(&self, word: &str) -> Vec<String> {
        let ended = Program::start(breakwater().arg(word).arg("--data").arg(self.path("data"))).finish();
        assert!(ended.status.success(), "{:?}", ended.lines);
        ended.lines
    }

    fn serve(&self) -> Program {
        let program = Program::start(&mut self.command(&["serve", "--shards", "2"]));
        program.line(|line| line.contains("INFO  started"));
        program
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client of MQTT 3.1.1 that has been let in.
fn connect(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).expect("it is listened on");
    stream.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0").expect("it reads");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, [0x20, 2, 0, 0]);
    stream
}

fn ping(stream: &mut UnixStream) {
    stream.write_all(b"\xc0\0").expect("it reads");
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, [0xd0, 0]);
}

const ONE: &str = "listeners.defaults = false\n# the first\n[listeners.unix.a]\nbind = 'a.sock'\n";

#[test]
fn two_listeners_change_places_in_one_reload() {
    let text = |a: &str, b: &str| {
        format!(
            "listeners.defaults = false\n[listeners.unix.a]\nbind = '{a}.sock'\n[listeners.unix.b]\nbind = '{b}.sock'\n"
        )
    };
    let site = Site::new("swap", &text("a", "b"));
    let _broker = site.serve();
    let mut stays = connect(&site.path("a.sock"));
    site.write(&text("b", "a"));
    let lines = site.ask("reload");
    assert_eq!(lines.iter().filter(|line| line.contains("moved from")).count(), 2, "{lines:?}");
    ping(&mut stays);
    let listed = site.ask("listeners");
    for (name, place) in [("unix.a", "b.sock"), ("unix.b", "a.sock")] {
        assert!(listed.iter().any(|line| line.starts_with(name) && line.contains(place)), "{listed:#?}");
    }
    ping(&mut connect(&site.path("a.sock")));
    ping(&mut connect(&site.path("b.sock")));
}

#[test]
fn a_wrong_file_is_told_about_all_at_once_with_its_places() {
    let site = Site::new("check", "[mqtt]\nmax_qos = 3\nmax_inflght = 1\n");
    for words in [&["config", "check"][..], &["serve"]] {
        let ended = site.run(words);
        assert_eq!((ended.status.code(), ended.lines.len()), (Some(2), 2), "{:?}", ended.lines);
        assert!(ended.lines[0].contains("b.toml:2:1: mqtt.max_qos: takes 0 to 2"), "{:?}", ended.lines);
        assert!(ended.lines[1].contains("b.toml:3:1: mqtt.max_inflght:"), "{:?}", ended.lines);
    }
    site.write(ONE);
    assert!(site.run(&["config", "check"]).lines[0].ends_with("fine, with the listeners unix.a"));
}

#[test]
fn values_are_shown_and_explained_with_their_source() {
    let site = Site::new("show", "mqtt.max_qos = 1\n");
    let mut command = site.command(&["config", "show", "--set", "queue.max_messages=7"]);
    let lines = Program::start(command.env("BREAKWATER_MQTT__MAX_QOS", "0")).succeed();
    assert!(
        lines[0].starts_with("mqtt.max_qos = 0") && lines[0].contains("BREAKWATER_MQTT__MAX_QOS; shadows 1"),
        "{lines:?}"
    );
    assert!(lines[1].contains("--set; shadows 10000 (default)"), "{lines:?}");
    let text = site.run(&["config", "explain", "mqtt.max_qos"]).lines.join("\n");
    assert!(text.contains("b.toml:1:6") && text.contains("BREAKWATER_MQTT__MAX_QOS='1'"), "{text}");
}

#[test]
fn changes_are_written_kept_and_taken_back() {
    let site = Site::new("set", ONE);
    let run = |words: &[&str]| {
        let ended = site.run(words);
        assert!(ended.status.success(), "{words:?}: {:?}", ended.lines);
        ended.lines
    };
    run(&["config", "set", "mqtt.max_qos", "1"]);
    run(&["config", "set", "listeners.unix.a.max_connections", "5"]);
    let changed = site.text();
    assert!(
        changed.contains("# the first") && changed.contains("max_qos = 1") && changed.contains("max_connections = 5")
    );
    assert!(!site.run(&["config", "set", "mqtt.max_qos", "3"]).status.success());
    assert!(!site.run(&["config", "unset", "listeners.unix.a.bind"]).status.success());
    assert_eq!(site.text(), changed, "what would be wrong is not written");
    run(&["config", "rollback"]);
    assert!(!site.text().contains("max_connections") && site.text().contains("max_qos = 1"));
    run(&["config", "rollback", "3"]);
    assert_eq!(site.text(), ONE);
    let history = run(&["config", "history"]);
    assert_eq!(history.len(), 5, "{history:?}");
    assert!(history[0].contains("rollback") && history[4].contains("as it was found"), "{history:?}");
}

#[test]
fn a_running_broker_takes_a_changed_file_up_on_sighup() {
    let site = Site::new("reload", ONE);
    let broker = site.serve();
    let mut client = connect(&site.path("a.sock"));
    site.write(&format!("{ONE}max_connections = 50\n[listeners.unix.b]\nbind = 'b.sock'\n"));
    broker.signal(Signal::HUP);
    broker.line(|line| line.contains("reload: listener unix.b: added"));
    broker.line(|line| line.contains("unix.a: changed at once: max_connections: unlimited -> 50"));
    drop(connect(&site.path("b.sock")));
    ping(&mut client);
    site.write(&ONE.replace("a.sock", "c.sock"));
    broker.signal(Signal::HUP);
    broker.line(|line| line.contains("unix.a: moved from") && line.contains("its connections stay"));
    broker.line(|line| line.contains("unix.b: removed"));
    drop(connect(&site.path("c.sock")));
    assert!(UnixStream::connect(site.path("a.sock")).is_err(), "it was left");
    ping(&mut client);
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
}

#[test]
fn a_broken_change_is_refused_as_a_whole() {
    let site = Site::new("refused", ONE);
    let broker = site.serve();
    site.write(&format!("{ONE}max_connections = 5\n[listeners.unix.b]\nbind = 'missing/b.sock'\n"));
    broker.signal(Signal::HUP);
    broker.line(|line| line.contains("reload: listener unix.b can't listen on"));
    broker.line(|line| line.contains("nothing was changed"));
    drop(connect(&site.path("a.sock")));
    site.write("nonsense = \n");
    broker.signal(Signal::HUP);
    broker.line(|line| line.contains("b.toml:1:12: this is not TOML"));
    std::fs::remove_file(site.path("b.toml")).expect("it is there");
    broker.signal(Signal::HUP);
    broker.line(|line| line.contains("can't read the configuration"));
    drop(connect(&site.path("a.sock")));
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
}

#[test]
fn a_watched_file_is_taken_up_by_itself() {
    let site = Site::new("watched", &format!("reload.watch = true\n{ONE}"));
    let broker = site.serve();
    site.write(&format!("reload.watch = true\nlimits.memory = '2GB'\n{ONE}"));
    broker.line(|line| line.contains("WARN") && line.contains("limits.memory: 1GB -> 2GB") && line.contains("restart"));
}

#[test]
fn a_changed_certificate_is_taken_up_by_itself_and_a_broken_one_is_not() {
    let site = Site::new("renewed", "listeners.defaults = false\n[listeners.tls.a]\nbind = '127.0.0.1:0'\n");
    let broker = site.serve();
    let path = site.path("data/tls/server.pem");
    let whole = std::fs::read_to_string(&path).expect("it was made");
    std::fs::write(&path, format!("{whole}\n")).expect("it can be written");
    broker.line(|line| line.contains("listener tls.a: its TLS files have changed and were read again"));
    std::fs::write(&path, "half a certificate").expect("it can be written");
    broker.line(|line| line.contains("ERROR") && line.contains("server.pem: has no PEM inside"));
    broker.line(|line| line.contains("listener tls.a: what was read of its TLS files before stays in use"));
}
