//! `breakwater store`: looking at what outlasts the broker, copying it, and putting a copy back.

use std::path::{Path, PathBuf};

use crate::broker::{Broker, breakwater};
use crate::program::{Ended, Program, Signal};

/// A data directory, and folders beside it for backups.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        Directory(std::env::temp_dir().join(format!("breakwater-e2e-store-{name}-{}", std::process::id())))
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn backup(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn start(&self) -> Broker {
        Broker::start_with(&["--data", &self.data().display().to_string()])
    }

    fn run(&self, words: &[&str]) -> Ended {
        Program::start(breakwater().arg("store").args(words).arg("--data").arg(self.data())).finish()
    }

    /// A command that ends with this code. Answers what it says.
    fn says(&self, code: i32, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {:?}", ended.lines);
        ended.lines.join("\n")
    }

    /// Paths in the data directory that begin so.
    fn beside(&self, prefix: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.data()).expect("a broker has made it");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).collect()
    }

    /// The segment of the log with the highest number.
    fn segment(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.data().join("store/log")).expect("a broker has made it");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "seg")).max().expect("something was stored")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Succeeds when the broker has acknowledged.
fn retain(broker: &Broker, topic: &str, payload: &str) {
    let mut command = breakwater();
    command.args([
        "pub",
        "-h",
        "127.0.0.1",
        "-p",
        &broker.port.to_string(),
        "-q",
        "1",
        "-r",
        "-t",
        topic,
        "-m",
        payload,
    ]);
    Program::start(&mut command).succeed();
}

/// All that is retained; `end` is, and comes last.
fn retained(broker: &Broker) -> Vec<String> {
    let mut command = breakwater();
    command.args(["sub", "-h", "127.0.0.1", "-p", &broker.port.to_string(), "-F", "%t=%p"]);
    command.args(["-t", "kept/#", "-t", "end"]);
    let client = Program::start(&mut command);
    // Retained messages come in the order of the filters.
    client.line(|line| line.starts_with("end="));
    let mut lines = client.lines(0, |line| line.starts_with("kept/"));
    lines.sort();
    lines
}

fn flip(path: &Path, from_end: usize) {
    let mut bytes = std::fs::read(path).expect("it is there");
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).expect("it is ours");
}

#[test]
fn a_backup_of_a_running_broker_comes_back_after_kill_9() {
    let place = Directory::new("back");
    let (backup, later) = (place.backup("monday"), place.backup("tuesday"));
    let broker = place.start();
    retain(&broker, "end", "1");
    retain(&broker, "kept/a", "before");
    retain(&broker, "kept/b", "before");
    assert!(place.says(0, &["backup", &backup]).contains("is a copy of the store"));
    assert!(place.says(1, &["backup", &backup]).contains("is not empty"));
    assert!(place.says(0, &["check", &backup]).contains("nothing is damaged"));
    retain(&broker, "kept/a", "after");
    retain(&broker, "kept/c", "after");
    assert!(place.says(0, &["stats"]).contains("retained       4"));
    broker.kill();

    let broker = place.start();
    assert_eq!(retained(&broker), ["kept/a=after", "kept/b=before", "kept/c=after"]);
    let refused = place.says(1, &["restore", &backup]);
    assert!(refused.contains("stop it") && refused.contains("nothing was changed"), "{refused}");
    broker.kill();
    // Nobody has it: the other way of all of them.
    assert!(place.says(0, &["stats"]).contains("retained       4"));
    assert!(place.says(0, &["backup", &later]).contains("is a copy of the store"));
    let restored = place.says(0, &["restore", &backup]);
    assert!(restored.contains("3 retained messages") && restored.contains("store.before-restore-"), "{restored}");
    assert_eq!(place.beside("store.restoring").len(), 0);
    let broker = place.start();
    broker.logs(|line| line.contains("3 retained messages") && line.contains("nothing damaged"));
    assert_eq!(retained(&broker), ["kept/a=before", "kept/b=before"]);
    retain(&broker, "kept/d", "afterwards");
    broker.kill();

    // The backup is what it was, and what was moved aside is a store that can come back.
    let aside = place.beside("store.before-restore").remove(0);
    for (from, expected) in [
        (backup, vec!["kept/a=before", "kept/b=before"]),
        (later, vec!["kept/a=after", "kept/b=before", "kept/c=after"]),
        (aside.display().to_string(), vec!["kept/a=after", "kept/b=before", "kept/c=after"]),
    ] {
        place.says(0, &["restore", &from]);
        let broker = place.start();
        assert_eq!(retained(&broker), expected, "{from}");
        broker.kill();
    }
    assert_eq!(place.beside("store.before-restore").len(), 4);
}

#[test]
fn a_flipped_byte_in_the_log_is_found_and_the_start_says_so_and_sets_it_aside() {
    let place = Directory::new("flipped");
    let broker = place.start();
    retain(&broker, "kept/a", "1");
    retain(&broker, "kept/b", &"a long one ".repeat(100));
    retain(&broker, "kept/c", "3");
    retain(&broker, "end", "4");
    assert!(place.says(0, &["check"]).contains("nothing is damaged"));
    broker.kill();
    assert!(place.says(0, &["check"]).contains("nothing is damaged"));
    // In the long one: the frames behind it say that it was on the disk.
    flip(&place.segment(), 700);
    let before = std::fs::read(place.segment()).expect("it is there");
    let found = place.says(1, &["check"]);
    assert!(found.contains(".seg: ") && found.contains("is damaged from position"), "{found}");
    assert!(found.contains("what to do: a start of the broker sets it aside"), "{found}");
    let json = place.says(1, &["check", "--json"]);
    assert!(json.contains("\"clean\": false") && json.contains("\"advice\""), "{json}");
    assert!(place.says(0, &["stats"]).contains("damages        1;"));
    assert_eq!(std::fs::read(place.segment()).expect("it is there"), before, "a check changes nothing");

    let copy = place.backup("damaged");
    assert!(place.says(0, &["backup", &copy]).contains("warning: log/"));
    let refused = place.says(1, &["restore", &copy]);
    assert!(refused.contains("the backup is damaged: nothing was changed"), "{refused}");
    assert!(place.beside("store.before-restore").is_empty());

    let broker = place.start();
    broker.logs(|line| line.contains("store: lost: log/") && line.contains("is damaged from position"));
    broker.logs(|line| line.contains("were copied to log/") && line.contains(".bad-"));
    assert_eq!(retained(&broker), ["kept/a=1", "kept/c=3"]);
    assert!(place.says(0, &["stats"]).contains("damages        1 lost or set aside since the start"));
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
    place.says(0, &["restore", &copy, "--damaged"]);
}

#[test]
fn stats_of_a_running_and_of_a_stopped_broker_are_the_same_in_json() {
    let place = Directory::new("stats");
    let broker = place.start();
    for topic in ["a", "b", "c"] {
        retain(&broker, topic, "1");
    }
    let running = place.says(0, &["stats", "--json"]);
    assert!(running.contains("\"retained\": 3") && running.contains("\"running\": true"), "{running}");
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
    let stopped = place.says(0, &["stats", "--json"]);
    assert!(stopped.contains("\"retained\": 3") && stopped.contains("\"running\": false"), "{stopped}");
}

#[test]
fn what_is_no_store_is_refused_with_what_to_do() {
    let place = Directory::new("refused");
    assert!(place.says(2, &["check"]).contains("there is no such store"));
    assert!(place.says(1, &["stats"]).contains("there is no such store"));
    assert!(place.says(1, &["backup", &place.backup("one")]).contains("there is no such store"));
    assert!(place.says(1, &["restore", &place.backup("one")]).contains("is not a store"));
    assert!(!place.data().exists());
    let broker = place.start();
    retain(&broker, "end", "1");
    let copy = place.backup("two");
    place.says(0, &["backup", &copy]);
    // As if it came from another host: the socket that would answer is not there.
    std::fs::remove_file(place.data().join("control.sock")).expect("it is there");
    for (code, words) in [(2, vec!["check"]), (1, vec!["stats"]), (1, vec!["backup", "x"]), (1, vec!["restore", &copy])]
    {
        let refused = place.says(code, &words);
        assert!(refused.contains("a broker uses"), "{refused}");
    }
    broker.kill();
    // A backup that was cut off, and one of a later version.
    let mark = Path::new(&copy).join("backup.unfinished");
    std::fs::write(&mark, b"").expect("it is ours");
    assert!(place.says(1, &["restore", &copy]).contains("was cut off"));
    std::fs::remove_file(mark).expect("it is there");
    let entries = std::fs::read_dir(Path::new(&copy).join("log")).expect("it is a backup");
    let segment = entries.map(|entry| entry.expect("it can be read").path()).max().expect("it has a log");
    std::fs::write(&segment, newer(&segment)).expect("it is ours");
    let refused = place.says(1, &["restore", &copy]);
    assert!(refused.contains("format 2") && refused.contains("nothing was changed"), "{refused}");
    assert!(place.beside("store.").is_empty());
}

/// A segment as a later version may write it: twice a header with its version and CRC.
fn newer(segment: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(segment).expect("it is there");
    bytes[4] = 2;
    let crc = crc32c(&bytes[..32]);
    bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    let header = bytes[..36].to_vec();
    bytes[36..72].copy_from_slice(&header);
    bytes
}

/// Castagnoli's, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn a_backup_is_restored_where_no_broker_ran_before() {
    let (old, new) = (Directory::new("old"), Directory::new("new"));
    let broker = old.start();
    retain(&broker, "kept/a", "1");
    retain(&broker, "end", "1");
    let copy = old.backup("copy");
    old.says(0, &["backup", &copy]);
    broker.kill();
    let said = new.says(0, &["restore", &copy]);
    assert!(said.contains("2 retained messages") && !said.contains("what was there before"), "{said}");
    assert_eq!(retained(&new.start()), ["kept/a=1"]);
}

#[test]
fn without_anything_that_lasts_there_is_nothing_to_look_at() {
    let place = Directory::new("memory");
    let _broker =
        Broker::start_with(&["--data", &place.data().display().to_string(), "--set", "store.durability=memory"]);
    assert!(place.says(2, &["check"]).contains("nothing outlasts the broker"));
    assert!(place.says(1, &["backup", &place.backup("one")]).contains("nothing outlasts the broker"));
}

#[test]
fn an_operator_lists_shows_and_removes_retained_messages() {
    let place = Directory::new("retained");
    let retained_command = |words: &[&str]| {
        let ended = Program::start(breakwater().arg("retained").args(words).arg("--data").arg(place.data())).finish();
        (ended.status.success(), ended.lines.join("\n"))
    };
    let broker = place.start();
    retain(&broker, "kept/one/1", "1");
    retain(&broker, "kept/one/2", "1");
    let mut many = breakwater();
    many.args([
        "pub",
        "-h",
        "127.0.0.1",
        "-p",
        &broker.port.to_string(),
        "-q",
        "1",
        "-i",
        "meter",
        "-r",
        "-t",
        "gone/a",
    ]);
    Program::start(many.args(["-m", "value"])).succeed();
    retain(&broker, "end", "1");
    let (done, table) = retained_command(&["list"]);
    assert!(done && table.lines().count() == 5 && table.starts_with("TOPIC "), "{table}");
    let line = table.lines().find(|line| line.starts_with("gone/a")).expect("it is listed");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..4], ["gone/a", "5", "1", "meter"], "{table}");
    assert!(words.ends_with(&["never"]) && line.contains(" s ago"), "{table}");
    let (_, json) = retained_command(&["list", "kept/#", "--json", "--limit", "1"]);
    assert!(json.contains("\"topic\": \"kept/one/") && json.contains("\"more\": true"), "{json}");
    let (_, shown) = retained_command(&["show", "gone/a"]);
    assert!(shown.contains("set by   meter") && shown.contains("payload  value"), "{shown}");
    for words in [&["show", "nothing"][..], &["show", "#"], &["list", "a/#/b"], &["delete", "$share/g/#"]] {
        let (done, told) = retained_command(words);
        assert!(!done && told.starts_with("breakwater: "), "{words:?}: {told}");
    }
    let (_, counted) = retained_command(&["delete", "gone/#"]);
    assert!(counted.contains("1 retained messages match") && counted.contains("--yes"), "{counted}");
    let (done, told) = retained_command(&["delete", "gone/#", "--yes"]);
    assert!(done && told == "1 retained messages were removed", "{told}");
    // It is on the disk by then.
    broker.kill();
    let broker = place.start();
    let (_, table) = retained_command(&["list"]);
    assert!(!table.contains("gone/a") && table.lines().count() == 4, "{table}");
    broker.kill();
}

#[test]
fn a_delayed_message_is_published_after_kill_9() {
    let place = Directory::new("delayed");
    let broker = place.start();
    retain(&broker, "$delayed/1/kept/late", "here");
    broker.kill();
    let broker = place.start();
    let mut command = breakwater();
    command.args(["sub", "-h", "127.0.0.1", "-p", &broker.port.to_string(), "-F", "%t=%p", "-t", "kept/#", "-C", "1"]);
    // Live or retained, whichever is first.
    let client = Program::start(&mut command);
    client.line(|line| line == "kept/late=here");
    broker.kill();
}
