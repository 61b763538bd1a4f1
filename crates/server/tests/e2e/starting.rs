//! What a start says, and what it says when it can't.

use std::net::{TcpListener, TcpStream};

use crate::broker::{Broker, breakwater};
use crate::ports::Ports;
use crate::program::{Ended, Program};

/// The one line that a failed start leaves behind.
fn complaint(ended: &Ended, code: i32) -> &str {
    assert_eq!(ended.status.code(), Some(code), "{:?}", ended.lines);
    let [line] = &ended.lines[..] else { panic!("one line, not {:?}", ended.lines) };
    assert!(line.starts_with("breakwater: "), "{line}");
    line
}

#[test]
fn a_start_without_a_config_file_prints_the_open_ports_and_a_first_command() {
    let broker = Broker::start();
    let address = broker.address();
    broker.logs(|line| line.contains(&format!("tcp://{address}")) && line.contains("only from this machine"));
    broker.logs(|line| line.contains(&format!("pub -p {}", broker.port)));
}

#[test]
fn many_listeners_are_all_open() {
    let broker = Broker::start_with(&["--listen", "tcp://[::1]:0"]);
    let second = broker.logs(|line| line.contains("tcp://[::1]:"));
    let (_, rest) = second.split_once("tcp://").expect("an address");
    let address = rest.split_whitespace().next().expect("an address");
    TcpStream::connect(address).expect("it is listened on");
}

#[test]
fn a_taken_port_costs_one_clear_line_and_a_failing_exit_code() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ended = Program::start(breakwater().args(["serve", "--listen", &format!("tcp://{address}")])).finish();
    let line = complaint(&ended, 1);
    assert!(line.contains(&address) && line.contains("taken"), "{line}");
}

#[test]
fn a_bad_flag_costs_one_clear_line_and_a_failing_exit_code() {
    for (flags, named) in [
        (&["--liste", "tcp://127.0.0.1:0"][..], "--listen"),
        (&["--listen", "ftp://127.0.0.1:1"], "ftp"),
        (&["--shards", "0"], "--shards"),
        (&["--set", "mqtt.max_paket_size=1MB"], "mqtt.max_packet_size"),
        (&["--set", "mqtt.max_qos=3"], "mqtt.max_qos"),
    ] {
        let ended = Program::start(breakwater().arg("serve").args(flags)).finish();
        let line = complaint(&ended, 2);
        assert!(line.contains(named), "{flags:?}: {line}");
    }
}

#[test]
fn version_completions_and_man_pages_come_from_the_program() {
    let run = |words: &[&str]| Program::start(breakwater().args(words)).succeed().join("\n");
    assert!(run(&["version"]).contains("MQTT 3.1, 3.1.1, 5.0"));
    assert!(run(&["completions", "bash"]).contains("breakwater"));
    assert!(run(&["man"]).contains(".TH"));
}

#[test]
fn what_the_banner_says_to_try_works_where_there_is_tls_alone() {
    let ports = Ports::open(&["tls"]);
    let line = ports.logs(|line| line.contains(" pub -L tls://"));
    let (_, command) = line.split_once(" pub ").expect("just looked for");
    let (flags, _) = command.split_once(" -m ").expect("it says something");
    Program::start(breakwater().arg("pub").args(flags.split(' ')).args(["-m", "it works"])).succeed();
}
