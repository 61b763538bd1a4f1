//! What is there after a crash, seen by clients of others.

use std::path::PathBuf;
use std::process::Command;

use crate::broker::{Broker, breakwater};
use crate::program::{Program, Signal, installed};

/// One of data that outlives its brokers.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        Directory(std::env::temp_dir().join(format!("breakwater-e2e-durable-{name}-{}", std::process::id())))
    }

    fn start(&self, flags: &[&str]) -> Broker {
        let data = self.0.display().to_string();
        Broker::start_with(&[&["--data", &data], flags].concat())
    }

    fn ask(&self, words: &[&str]) -> String {
        let mut command = breakwater();
        Program::start(command.args(words).arg("--data").arg(&self.0)).finish().lines.join("\n")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What a broker has written; the next run has another name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The clients of Mosquitto.
struct Clients {
    publish: PathBuf,
    subscribe: PathBuf,
}

impl Clients {
    fn installed() -> Option<Clients> {
        let publish = installed("mosquitto_pub", "mosquitto-clients")?;
        let subscribe = installed("mosquitto_sub", "mosquitto-clients")?;
        Some(Clients { publish, subscribe })
    }

    /// Succeeds when the broker has acknowledged.
    fn retain(&self, broker: &Broker, version: &str, topic: &str, qos: &str, payload: &str) {
        let mut command = Command::new(&self.publish);
        command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-V", version]);
        command.args(["-t", topic, "-q", qos, "-r"]);
        if payload.is_empty() {
            command.arg("-n")
        } else {
            command.args(["-m", payload])
        };
        Program::start(&mut command).succeed();
    }

    /// All that is retained, up to a message that comes last.
    fn retained(&self, broker: &Broker) -> Vec<String> {
        let mut command = Command::new(&self.subscribe);
        command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-F", "%t=%p"]);
        command.args(["-t", "kept/#", "-t", "end", "-C", "1000", "-W", "60"]);
        let client = Program::start(&mut command);
        // Retained messages come in the order of the filters.
        client.line(|line| line == "end=1");
        let mut lines = client.lines(0, |line| line != "end=1");
        lines.sort();
        lines
    }
}

#[test]
fn what_mosquitto_pub_has_retained_and_cleared_is_so_after_kill_9() {
    let Some(clients) = Clients::installed() else { return };
    for durability in ["fsync", "os"] {
        let data = Directory::new(durability);
        let set = format!("store.durability={durability}");
        let flags = ["--set", &set];
        let broker = data.start(&flags);
        for (version, qos) in ["mqttv311", "mqttv5"].into_iter().flat_map(|version| [(version, "1"), (version, "2")]) {
            clients.retain(&broker, version, &format!("kept/{version}/{qos}"), qos, "stays");
            clients.retain(&broker, version, &format!("kept/{version}/{qos}/gone"), qos, "goes");
            clients.retain(&broker, version, &format!("kept/{version}/{qos}/gone"), qos, "");
        }
        clients.retain(&broker, "mqttv5", "end", "1", "1");
        broker.kill();
        for _ in 0..2 {
            let broker = data.start(&flags);
            broker.logs(|line| {
                line.contains("5 retained messages and 0 sessions restored") && line.contains("nothing damaged")
            });
            let expected: Vec<String> = ["mqttv311", "mqttv5"]
                .iter()
                .flat_map(|version| ["1", "2"].map(|qos| format!("kept/{version}/{qos}=stays")))
                .collect();
            assert_eq!(clients.retained(&broker), expected);
            broker.kill();
        }
    }
}

#[test]
fn what_was_retained_with_qos_0_is_there_after_a_stop() {
    let Some(clients) = Clients::installed() else { return };
    let data = Directory::new("stop");
    let broker = data.start(&[]);
    clients.retain(&broker, "mqttv311", "kept/a", "0", "1");
    clients.retain(&broker, "mqttv311", "end", "0", "1");
    // Their publishers are done as soon as the messages are on their way.
    broker.has_seen_off(2);
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
    let broker = data.start(&[]);
    assert_eq!(clients.retained(&broker), ["kept/a=1"]);
}

#[test]
fn in_memory_nothing_is_written() {
    let data = Directory::new("memory");
    let broker = data.start(&["--set", "store.durability=memory"]);
    broker.logs(|line| line.contains("nothing outlasts this process"));
    assert!(data.ask(&["status"]).contains("store          memory"));
    assert!(!data.0.join("store").exists());
}

#[test]
fn status_metrics_and_doctor_say_how_the_store_is() {
    let data = Directory::new("health");
    let broker = data.start(&[]);
    broker.logs(|line| line.contains("0 retained messages and 0 sessions restored"));
    let status = data.ask(&["status"]);
    assert!(status.contains("store          fsync, well"), "{status}");
    let metrics = data.ask(&["metrics"]);
    assert!(metrics.contains("breakwater_store_condition 0") && metrics.contains("breakwater_store_unstored_total 0"));
    assert!(!data.ask(&["doctor"]).contains("the store"));
}

#[test]
fn damage_is_said_and_does_not_keep_the_broker_from_starting() {
    let data = Directory::new("damage");
    let broker = data.start(&[]);
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
    let index = data.0.join("store/index.redb");
    std::fs::write(&index, vec![0x5A; 9000]).expect("it is ours");
    let broker = data.start(&[]);
    broker.logs(|line| line.contains("was set aside as"));
    broker.logs(|line| line.contains("things lost or set aside"));
    let doctor = data.ask(&["doctor"]);
    assert!(doctor.contains("were lost or set aside since the start"), "{doctor}");
}

#[test]
fn a_start_that_cannot_have_the_store_is_refused_with_one_line() {
    let data = Directory::new("refused");
    let serve = || {
        let mut command = breakwater();
        command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--data"]).arg(&data.0);
        Program::start(&mut command).finish()
    };
    let broker = data.start(&[]);
    // As if it came from another host: the socket that would tell is not there.
    std::fs::remove_file(data.0.join("control.sock")).expect("it is there");
    let ended = serve();
    assert_eq!(ended.status.code(), Some(1), "{:?}", ended.lines);
    assert!(ended.lines.concat().contains("another process uses this store"), "{:?}", ended.lines);
    broker.kill();
    std::fs::remove_dir_all(data.0.join("store")).expect("nobody has it");
    std::fs::write(data.0.join("store"), b"not a folder").expect("it is ours");
    let ended = serve();
    assert_eq!(ended.status.code(), Some(1), "{:?}", ended.lines);
    assert!(ended.lines.concat().contains("store.durability"), "{:?}", ended.lines);
}

/// A client of Mosquitto with a session that lasts: what it has been sent when so many messages have come.
fn resumed(clients: &Clients, broker: &Broker, version: &str, count: &str) -> Vec<String> {
    let mut command = Command::new(&clients.subscribe);
    command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-V", version, "-i", &format!("meter-{version}")]);
    command.args(["-c", "-q", "1", "-t", "work/#", "-F", "%t=%p", "-C", count, "-W", "60"]);
    if version == "mqttv5" {
        command.args(["-x", "3600"]);
    }
    Program::start(&mut command).succeed()
}

#[test]
fn sessions_of_mosquitto_sub_are_subscribed_after_kill_9() {
    let Some(clients) = Clients::installed() else { return };
    let publish = |broker: &Broker, payload: &str| {
        let mut command = Command::new(&clients.publish);
        command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-t", "work/1", "-q", "1", "-m", payload]);
        Program::start(&mut command).succeed();
    };
    let data = Directory::new("sessions");
    let broker = data.start(&[]);
    for version in ["mqttv311", "mqttv5"] {
        let mut command = Command::new(&clients.subscribe);
        command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-V", version]);
        command.args(["-i", &format!("meter-{version}"), "-c", "-q", "1", "-t", "work/#", "-E"]);
        if version == "mqttv5" {
            command.args(["-x", "3600"]);
        }
        // It ends when its SUBACK has come.
        Program::start(&mut command).succeed();
    }
    broker.kill();
    let broker = data.start(&[]);
    broker.logs(|line| line.contains("0 retained messages and 2 sessions restored"));
    publish(&broker, "while away");
    for version in ["mqttv311", "mqttv5"] {
        assert_eq!(resumed(&clients, &broker, version, "1"), ["work/1=while away"]);
    }
    // Once more, after a stop in good order: nothing that was fetched comes again. The tools leave as soon as they have written their
    // PUBACK: the broker is stopped when it has read that.
    broker.has_seen_off(3);
    broker.signal(Signal::TERM);
    assert!(broker.finish().status.success());
    let broker = data.start(&[]);
    publish(&broker, "second");
    for version in ["mqttv311", "mqttv5"] {
        assert_eq!(resumed(&clients, &broker, version, "1"), ["work/1=second"]);
    }
}

#[cfg(unix)]
#[test]
fn each_zone_keeps_over_kill_9_what_it_promises() {
    let Some(clients) = Clients::installed() else { return };
    let data = Directory::new("zones");
    let socket = std::env::temp_dir().join(format!("breakwater-e2e-zones-{}.sock", std::process::id()));
    let socket = socket.display().to_string();
    let listen = format!("unix://{socket}");
    let zones = ["listeners.tcp.default.zone=kept", "zones.kept.store.durability=os"];
    let others = ["listeners.unix.default.zone=scratch", "zones.scratch.store.durability=memory"];
    let set = zones.into_iter().chain(others).flat_map(|setting| ["--set", setting]);
    let flags: Vec<&str> = ["--listen", &listen].into_iter().chain(set).collect();
    let run = |program: &PathBuf, place: &[&str], rest: &[&str]| {
        Program::start(Command::new(program).args(place).args(rest)).succeed()
    };
    let session = |place: &[&str], id: &str, end: &[&str]| {
        let rest = ["-i", id, "-c", "-q", "1", "-t", "work/#", "-F", "%t=%p", "-W", "60"];
        run(&clients.subscribe, place, &[&rest[..], end].concat())
    };
    let broker = data.start(&flags);
    let status = data.ask(&["status"]);
    assert!(status.contains("store          fsync (zones kept: os, scratch: memory), well"), "{status}");
    let port = broker.port.to_string();
    let (tcp, unix) = (["-h", "127.0.0.1", "-p", &port], ["--unix", &socket]);
    session(&tcp, "kept", &["-E"]);
    session(&unix, "scratch", &["-E"]);
    for (place, topic) in [(&tcp[..], "retained/kept"), (&unix, "retained/scratch")] {
        run(&clients.publish, place, &["-t", topic, "-q", "1", "-r", "-m", "1"]);
    }
    run(&clients.publish, &unix, &["-t", "work/1", "-q", "1", "-m", "before"]);
    broker.kill();

    let broker = data.start(&flags);
    broker.logs(|line| line.contains("1 retained messages and 1 sessions restored"));
    let port = broker.port.to_string();
    let tcp = ["-h", "127.0.0.1", "-p", &port];
    // Whoever had no session subscribes anew.
    session(&unix, "scratch", &["-E"]);
    run(&clients.publish, &tcp, &["-t", "work/1", "-q", "1", "-m", "after"]);
    assert_eq!(session(&tcp, "kept", &["-C", "2"]), ["work/1=before", "work/1=after"]);
    assert_eq!(session(&unix, "scratch", &["-C", "1"]), ["work/1=after"]);
}

#[test]
fn mosquitto_clients_get_what_was_published_before_kill_9_and_then_what_comes() {
    let Some(clients) = Clients::installed() else { return };
    let data = Directory::new("replay");
    std::fs::create_dir_all(&data.0).expect("a directory");
    let configuration = data.0.join("replay.toml").display().to_string();
    std::fs::write(&configuration, "[[replay.rules]]\nfilter = \"sensors/#\"\nmax_age = \"1h\"\n").expect("written");
    let flags = ["--config", &configuration];
    let publish = |broker: &Broker, qos: &str, payload: &str| {
        let mut command = Command::new(&clients.publish);
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &broker.port.to_string(),
            "-t",
            "sensors/1/t",
            "-q",
            qos,
            "-m",
            payload,
        ]);
        Program::start(&mut command).succeed();
    };
    let broker = data.start(&flags);
    for (qos, payload) in [("1", "one"), ("2", "two"), ("1", "three")] {
        publish(&broker, qos, payload);
    }
    broker.kill();
    let broker = data.start(&flags);
    broker
        .logs(|line| line.contains("0 retained messages and 0 sessions restored") && line.contains("nothing damaged"));
    publish(&broker, "1", "four");
    let subscribers: Vec<Program> = ["mqttv311", "mqttv5"]
        .map(|version| {
            let mut command = Command::new(&clients.subscribe);
            command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-V", version, "-F", "%r %t=%p"]);
            // With QoS 2 it tells of a message when that is released, which is later.
            command.args(["-q", "1", "-t", "$replay/3600/sensors/+/t", "-C", "6", "-W", "60"]);
            let client = Program::start(&mut command);
            client.line(|line| line == "0 sensors/1/t=four");
            client
        })
        .into();
    // It may come while the two are between what was and what comes, or after that.
    publish(&broker, "0", "five");
    publish(&broker, "2", "six");
    for client in subscribers {
        let mut lines = client.finish().lines;
        // The last two are of two publishers.
        lines[4..].sort();
        assert_eq!(lines, ["one", "two", "three", "four", "five", "six"].map(|word| format!("0 sensors/1/t={word}")));
    }
    let mut command = Command::new(&clients.subscribe);
    command.args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-t", "$replay/60/other", "-W", "30"]);
    let ended = Program::start(&mut command).finish();
    let told = ended.lines.join(" ");
    assert!(told.contains("denied") || told.contains("rejected") || !ended.status.success(), "{told}");
    broker.kill();
}
