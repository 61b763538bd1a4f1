//! From Mosquitto to us: what it has kept is what its clients find here.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::{Broker, breakwater};
use crate::program::{DEADLINE, Ended, Program, Signal, installed};

/// A folder of one test, with the data directories of both.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("breakwater-e2e-moving-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder takes folders");
        Folder(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("mosquitto.db")
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn start(&self) -> Broker {
        Broker::start_with(&["--data", &self.data().display().to_string()])
    }

    fn import(&self, file: &Path, flags: &[&str]) -> Ended {
        let mut command = breakwater();
        command.args(["store", "import"]).arg(file).args(flags).arg("--data").arg(self.data());
        Program::start(&mut command).finish()
    }

    /// An import that ends with this code. Answers what it says.
    fn says(&self, code: i32, file: &Path, flags: &[&str]) -> String {
        let ended = self.import(file, flags);
        assert_eq!(ended.status.code(), Some(code), "{flags:?}: {:?}", ended.lines);
        ended.lines.join("\n")
    }

    /// Names in the data directory that begin so.
    fn beside(&self, prefix: &str) -> usize {
        let Ok(entries) = std::fs::read_dir(self.data()) else { return 0 };
        let names = entries.map(|entry| entry.expect("it can be read").file_name());
        names.filter(|name| name.to_string_lossy().starts_with(prefix)).count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Mosquitto, and the clients that come with it.
struct Mosquitto {
    program: Program,
    clients: Clients,
}

struct Clients {
    publish: PathBuf,
    subscribe: PathBuf,
    port: u16,
}

impl Mosquitto {
    fn start(folder: &Folder) -> Option<Mosquitto> {
        let program = installed("mosquitto", "mosquitto")?;
        let publish = installed("mosquitto_pub", "mosquitto-clients")?;
        let subscribe = installed("mosquitto_sub", "mosquitto-clients")?;
        let file = folder.0.join("mosquitto.conf");
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
            // Root would become a user that may not write there.
            let text = format!(
                "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n",
                folder.0.display()
            );
            std::fs::write(&file, text).expect("it is ours");
            let program = Program::start(Command::new(&program).arg("-c").arg(&file));
            let line = program.line(|line| line.contains(" running") || line.contains("Error"));
            if line.contains(" running") {
                return Some(Mosquitto { program, clients: Clients { publish, subscribe, port } });
            }
            // Somebody else took the port meanwhile.
        }
        panic!("mosquitto finds no free port");
    }

    /// It writes its file on its way out.
    fn stop(self) -> Clients {
        self.program.signal(Signal::TERM);
        self.program.succeed();
        self.clients
    }
}

impl Clients {
    fn publish(&self, words: &[&str]) {
        let mut command = Command::new(&self.publish);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(words);
        Program::start(&mut command).succeed();
    }

    fn subscribe(&self, words: &[&str]) -> Vec<String> {
        let mut command = Command::new(&self.subscribe);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(words);
        Program::start(&mut command).succeed()
    }
}

/// A client of 3.1.1 on a bare socket, with a session that lasts.
struct Bare(TcpStream);

impl Bare {
    /// Answers also whether its session was there.
    fn connect(port: u16, id: &str) -> (Bare, bool) {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        let mut bare = Bare(stream);
        bare.say(0x10, &[&b"\x00\x04MQTT\x04\x00\x00\x00\x00"[..], &[id.len() as u8], id.as_bytes()].concat());
        let (kind, body) = bare.packet();
        assert_eq!((kind, body[1]), (0x20, 0), "let in");
        (bare, body[0] == 1)
    }

    fn say(&mut self, first: u8, body: &[u8]) {
        assert!(body.len() < 128);
        self.0.write_all(&[&[first, body.len() as u8], body].concat()).expect("the broker reads");
    }

    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a packet");
        assert!(head[1] < 128, "a short one");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body).expect("a packet");
        (head[0], body)
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        self.say(0x82, &[&[0, 1, 0, filter.len() as u8], filter.as_bytes(), &[qos]].concat());
        assert_eq!(self.packet(), (0x90, vec![0, 1, qos]));
    }

    /// The next message: first byte, packet identifier, payload.
    fn message(&mut self) -> (u8, u16, String) {
        let (first, body) = self.packet();
        assert_eq!(first & 0xF0, 0x30, "a PUBLISH, and not {first:x} {body:x?}");
        let rest = &body[2 + usize::from(body[1])..];
        let (id, payload) =
            if first & 6 == 0 { (0, rest) } else { (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]) };
        (first, id, String::from_utf8_lossy(payload).into_owned())
    }

    /// Closes, and does not mind what comes.
    fn leave(mut self) {
        self.0.shutdown(std::net::Shutdown::Write).expect("it is open");
        let gone = self.0.read_to_end(&mut Vec::new());
        assert!(gone.is_ok() || gone.is_err_and(|fault| fault.kind() == ErrorKind::ConnectionReset));
    }
}

/// Retained messages, sessions of both versions with messages that wait, and one with messages in flight either way.
fn live(mosquitto: &Mosquitto) {
    let Clients { port, .. } = mosquitto.clients;
    let publish = |words: &[&str]| mosquitto.clients.publish(words);
    publish(&["-t", "kept/a", "-m", "first", "-q", "1", "-r"]);
    let with = ["-D", "publish", "message-expiry-interval", "4000", "-D", "publish", "content-type", "text/x"];
    let own = ["-D", "publish", "user-property", "site", "7"];
    publish(&[&["-V", "mqttv5", "-t", "kept/b", "-m", "second", "-q", "2", "-r"][..], &with, &own].concat());
    publish(&["-t", "kept/c", "-m", "third", "-q", "1", "-r"]);
    publish(&["-t", "kept/c", "-n", "-r"]);

    mosquitto.clients.subscribe(&["-i", "three", "-c", "-q", "2", "-t", "work/#", "-E"]);
    let five = ["-V", "mqttv5", "-i", "five", "-u", "alice", "-x", "3600", "-c", "-q", "1", "-t", "work/+", "-E"];
    let options = ["--retain-as-published", "-D", "subscribe", "subscription-identifier", "77"];
    mosquitto.clients.subscribe(&[&five[..], &options].concat());
    publish(&["-t", "work/1", "-m", "one", "-q", "1"]);
    publish(&["-t", "work/1", "-m", "two", "-q", "2"]);

    let (mut flying, there) = Bare::connect(port, "flying");
    assert!(!there);
    flying.subscribe("fly/#", 2);
    for (qos, payload) in [("1", "sent once"), ("2", "sent twice"), ("2", "received")] {
        publish(&["-t", "fly/x", "-m", payload, "-q", qos]);
    }
    let messages = [flying.message(), flying.message(), flying.message()];
    let received = messages.iter().find(|(.., payload)| payload == "received").expect("it came").1.to_be_bytes();
    flying.say(0x50, &received);
    assert_eq!(flying.packet(), (0x62, received.to_vec()), "PUBREL");
    flying.leave();

    let (mut holding, _) = Bare::connect(port, "holding");
    holding.say(0x34, b"\x00\x06work/2\x00\x09held");
    assert_eq!(holding.packet(), (0x50, vec![0, 9]), "PUBREC");
    holding.leave();
}

#[test]
fn sessions_and_retained_messages_of_mosquitto_are_here_after_an_import() {
    let folder = Folder::new("whole");
    let Some(mosquitto) = Mosquitto::start(&folder) else { return };
    live(&mosquitto);
    let clients = mosquitto.stop();
    let dry = folder.says(0, &folder.file(), &["--dry-run"]);
    assert!(dry.contains("nothing was changed") && !folder.data().exists(), "{dry}");
    let said = folder.says(0, &folder.file(), &[]);
    for line in [
        "file           Mosquitto, format 6, written when it stopped",
        "retained       2",
        "sessions       4",
        "subscriptions  3",
        "queued         8 messages",
        "in flight      3 to clients, 1 from clients",
    ] {
        assert!(said.contains(line) && dry.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("left out"), "{said}");

    let mut command = breakwater();
    let stats = Program::start(command.args(["store", "stats", "--data"]).arg(folder.data())).succeed().join("\n");
    assert!(stats.contains("queued         8 messages") && stats.contains("damages        none"), "{stats}");

    let broker = folder.start();
    broker
        .logs(|line| line.contains("2 retained messages and 4 sessions restored") && line.contains("nothing damaged"));
    let clients = Clients { port: broker.port, ..clients };
    let kept = ["-V", "mqttv5", "-q", "2", "-t", "kept/#", "-C", "2", "-W", "60", "-F", "%t=%p qos %q retain %r %C %P"];
    let mut lines = clients.subscribe(&kept);
    lines.sort();
    assert_eq!(lines, ["kept/a=first qos 1 retain 1  ", "kept/b=second qos 2 retain 1 text/x site:7"]);
    // What waited comes first, in its order, and its subscription goes on with its options.
    clients.publish(&["-t", "work/9", "-q", "2", "-r", "-m", "live"]);
    let five = ["-V", "mqttv5", "-i", "five", "-x", "3600", "-c", "-t", "none", "-W", "60"];
    let lines = clients.subscribe(&[&five[..], &["-C", "4", "-F", "%p qos %q retain %r id %S"]].concat());
    let expected = ["one", "two", "held"].map(|payload| format!("{payload} qos 1 retain 0 id 77"));
    assert_eq!(lines, [&expected[..], &["live qos 1 retain 1 id 77".to_owned()]].concat());
    let (mut three, there) = Bare::connect(broker.port, "three");
    assert!(there, "its session");
    let payloads = [three.message(), three.message(), three.message(), three.message()].map(|(.., payload)| payload);
    assert_eq!(payloads, ["one", "two", "held", "live"]);
    let (mut flying, there) = Bare::connect(broker.port, "flying");
    assert!(there, "its session");
    let (first, id, payload) = flying.message();
    assert_eq!((first, &*payload), (0x3C, "sent twice"), "again");
    let (kind, released) = flying.packet();
    assert_eq!((kind, released.len()), (0x62, 2), "PUBREL");
    assert_ne!(released, id.to_be_bytes());
    assert_eq!(flying.message().2, "sent once");
    let (mut holding, there) = Bare::connect(broker.port, "holding");
    assert!(there, "its session");
    holding.say(0x3C, b"\x00\x06work/2\x00\x09held");
    assert_eq!(holding.packet(), (0x50, vec![0, 9]), "PUBREC");
    holding.say(0x62, &[0, 9]);
    assert_eq!(holding.packet(), (0x70, vec![0, 9]), "PUBCOMP");
    clients.publish(&["-t", "work/1", "-q", "2", "-m", "last"]);
    assert_eq!(three.message().2, "last", "nobody gets twice what was held");
}

/// A file with two sessions and a retained message that nobody's clock ends.
fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/mosquitto_db/in_flight")
}

#[test]
fn what_the_store_has_stays_unless_it_is_to_be_replaced() {
    let folder = Folder::new("again");
    let broker = folder.start();
    let refused = folder.says(1, &sample(), &[]);
    assert!(refused.contains("a broker uses") && refused.contains("nothing was changed"), "{refused}");
    broker.kill();
    let first = folder.says(0, &sample(), &[]);
    assert!(first.contains("sessions       2") && first.contains("store.before-import-"), "{first}");
    let again = folder.says(0, &sample(), &[]);
    assert!(again.contains("left out       2 sessions that the store has already") && again.contains(": one, two"));
    assert!(again.contains("there is nothing to take in: nothing was changed"), "{again}");
    assert_eq!(folder.beside("store.before-import"), 1);
    let replaced = folder.says(0, &sample(), &["--replace"]);
    assert!(replaced.contains("sessions       2") && !replaced.contains("left out"), "{replaced}");
    assert_eq!((folder.beside("store.before-import"), folder.beside("store.importing")), (2, 0));
    let broker = folder.start();
    broker.logs(|line| line.contains("1 retained messages and 2 sessions restored"));
}

#[test]
fn a_damaged_file_comes_in_only_if_that_is_said() {
    let folder = Folder::new("damaged");
    let whole = std::fs::read(sample()).expect("it is in the repository");
    let file = folder.file();
    for (bytes, fault) in [
        (b"listener 1883\n".to_vec(), "this is not a persistence file of Mosquitto"),
        (Vec::new(), "the file is empty"),
        (whole[..whole.len() - 5].to_vec(), "the file is damaged: nothing was changed"),
    ] {
        std::fs::write(&file, bytes).expect("it is ours");
        let refused = folder.says(1, &file, &[]);
        assert!(refused.contains(fault) && !folder.data().exists(), "{refused}");
    }
    let at = whole.len() - 16;
    let lost = folder.says(0, &file, &["--damaged"]);
    let told = format!("at byte {at}: a chunk of kind 4 says that it has 8 bytes, and the file ends after 3 of them");
    assert!(lost.contains(&format!("lost: {}: {told}", file.display())), "{lost}");
    assert!(lost.contains("retained       0") && lost.contains("sessions       2"), "{lost}");
}
