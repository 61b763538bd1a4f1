//! Clients that an operator ends: with their user, or by their identifier.

use std::process::Command;

use crate::broker::breakwater;
use crate::ports::Ports;
use crate::program::{Ended, Program, installed};

const ALL: [&str; 5] = ["tcp", "tls", "ws", "wss", "quic"];

fn run(ports: &Ports, words: &[&str], input: &str) -> Ended {
    let mut command = breakwater();
    command.args(words).arg("--data").arg(ports.folder.path());
    Program::start_with_input(&mut command, input).finish()
}

fn done(ports: &Ports, words: &[&str], input: &str) -> Vec<String> {
    let ended = run(ports, words, input);
    assert!(ended.status.success(), "{words:?}: {:?}", ended.lines);
    ended.lines
}

fn add(ports: &Ports, name: &str) {
    done(ports, &["users", "add", name, "--password-file", "-"], "secret\n");
}

/// One of our clients that is connected and subscribed.
fn subscriber(ports: &Ports, scheme: &str, user: &str, flags: &[&str]) -> Program {
    let url = ports.url(scheme);
    let mut command = breakwater();
    let url = url.replacen("://", &format!("://{user}:secret@"), 1);
    command.args(["sub", "-L", &url, "-t", "a", "-V", "5", "-d"]).args(flags);
    if ["tls", "wss", "quic"].contains(&scheme) {
        command.arg("--cafile").arg(ports.ca());
    }
    let client = Program::start(&mut command);
    client.line(|line| line.contains("SUBACK"));
    client
}

#[test]
fn a_user_that_is_disabled_or_removed_or_gets_another_password_is_ended_on_every_transport() {
    let ports = Ports::open(&ALL);
    let ends = [
        ("alice", &["users", "disable", "alice"][..], ""),
        ("bob", &["users", "remove", "bob"], ""),
        ("carol", &["users", "passwd", "carol", "--password-file", "-"], "another\n"),
    ];
    for (user, ..) in ends {
        add(&ports, user);
    }
    add(&ports, "dave");
    let stays: Vec<Program> = ALL.iter().map(|scheme| subscriber(&ports, scheme, "dave", &["-C", "1"])).collect();
    for (user, words, input) in ends {
        let goes: Vec<Program> = ALL.iter().map(|scheme| subscriber(&ports, scheme, user, &[])).collect();
        let said = done(&ports, words, input);
        assert!(said.iter().any(|line| line.contains("ends the connections")), "{said:?}");
        for client in goes {
            client.line(|line| line.contains("< DISCONNECT"));
        }
        ports.logs(|line| line.contains("connections are ended of users") && line.contains(&format!("{user:?}")));
    }
    let mut publish = breakwater();
    publish.args(["pub", "-L", &ports.url("tcp"), "-t", "a", "-m", "still here"]);
    Program::start(&mut publish).succeed();
    for client in stays {
        assert!(client.succeed().iter().any(|line| line == "still here"));
    }
}

#[test]
fn mosquitto_clients_of_a_disabled_user_are_told_and_not_let_in_again() {
    let Some(subscribe) = installed("mosquitto_sub", "mosquitto-clients") else { return };
    let ports = Ports::open(&["tcp", "tls"]);
    add(&ports, "pump");
    let client = |scheme: &str, version: &str| {
        let (port, id) = (ports.port(scheme), format!("{scheme}-{version}"));
        let mut command = Command::new(&subscribe);
        command.args(["-h", "localhost", "-p", &port, "-V", version, "-i", &id, "-u", "pump", "-P", "secret"]);
        command.args(["-t", "a", "-d", "--will-topic", "gone", "--will-payload", &id]);
        if scheme == "tls" {
            command.arg("--cafile").arg(ports.ca());
        }
        let program = Program::start(&mut command);
        ports.logs(|line| line.contains("connected") && line.contains(&id));
        program
    };
    let mut command = breakwater();
    command.args(["sub", "-L", &ports.url("tcp"), "-t", "gone", "-C", "4", "-d"]);
    let watcher = Program::start(&mut command);
    watcher.line(|line| line.contains("SUBACK"));
    let clients: Vec<_> = ["tcp", "tls"]
        .iter()
        .flat_map(|scheme| ["mqttv311", "mqttv5"].map(|version| (version, client(scheme, version))))
        .collect();
    done(&ports, &["users", "disable", "pump"], "");
    for (version, client) in clients {
        // That of 3.1.1 hears nothing, and tries again; that of 5.0 takes the word for it.
        let ended = client.finish();
        let told = if version == "mqttv5" { "DISCONNECT (135)" } else { "Connection Refused: not authorised" };
        assert!(ended.lines.iter().any(|line| line.contains(told)), "{:?}", ended.lines);
    }
    let wills = watcher.succeed();
    assert_eq!(wills.iter().filter(|line| line.contains("-mqttv") && !line.contains(' ')).count(), 4, "{wills:?}");
}

#[test]
fn a_client_is_kicked_by_its_identifier() {
    let ports = Ports::open(&["tcp"]);
    add(&ports, "alice");
    for (flags, then) in [(&[][..], "is not connected; it has a session"), (&["--end-session"], "there is no client")] {
        let client = subscriber(&ports, "tcp", "alice", &["-i", "pump 7", "-c", "-x", "600"]);
        let said = done(&ports, &[&["kick", "pump 7"], flags].concat(), "");
        assert!(said[0].contains(r#""pump 7": its connection"#), "{said:?}");
        client.line(|line| line.contains("< DISCONNECT"));
        drop(client);
        let ended = run(&ports, &["kick", "pump 7"], "");
        assert!(!ended.status.success() && ended.lines.concat().contains(then), "{:?}", ended.lines);
    }
}
