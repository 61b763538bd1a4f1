//! A running broker that is looked at and changed from the command line.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::broker::breakwater;
use crate::ports::{Folder, Ports};
use crate::program::{DEADLINE, Ended, Program, Signal};

fn ask(ports: &Ports, words: &[&str]) -> Ended {
    Program::start(breakwater().args(words).arg("--data").arg(ports.folder.path())).finish()
}

fn done(ports: &Ports, words: &[&str]) -> Vec<String> {
    let ended = ask(ports, words);
    assert!(ended.status.success(), "{words:?}: {:?}", ended.lines);
    ended.lines
}

fn works(url: &str) -> bool {
    Program::start(breakwater().args(["test", url])).finish().status.success()
}

const ONE: &str = "# kept\n[listeners]\ndefaults = false\n[listeners.tcp.default]\nbind = \"127.0.0.1:0\" # and this\n";

#[test]
fn ports_are_opened_changed_and_closed_while_the_broker_runs() {
    let ports = Ports::configured(Folder::new(), ONE);
    let first = ports.url("tcp");
    let mut stays = breakwater();
    stays.args(["sub", "-L", &first, "-t", "stays", "-C", "1", "-d"]);
    let stays = Program::start(&mut stays);
    stays.line(|line| line.contains("SUBACK"));

    done(&ports, &["listeners", "add", "ws.office", "127.0.0.1:0", "max_connections=5"]);
    let lines = done(&ports, &["listeners"]);
    let office = lines.iter().find(|line| line.starts_with("ws.office")).expect("it is listed");
    assert!(office.contains("WebSocket") && office.contains("0/5") && office.contains("loopback"), "{lines:#?}");
    let address = office.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).expect("its address");
    assert!(works(&format!("ws://{address}/mqtt")));
    assert!(done(&ports, &["listeners", "test", "ws.office"]).iter().any(|line| line.starts_with("pass")));

    done(&ports, &["listeners", "set", "ws.office", "max_connections", "7"]);
    assert!(done(&ports, &["listeners", "list", "--json"]).concat().contains("\"connections_max\": 7"));
    let file = std::fs::read_to_string(ports.folder.file("breakwater.toml")).expect("it is written to");
    assert!(
        file.starts_with("# kept") && file.contains("# and this") && file.contains("max_connections = 7"),
        "{file}"
    );

    done(&ports, &["listeners", "close", "ws.office", "--connections", "cut"]);
    assert!(!works(&format!("ws://{address}/mqtt")));
    assert!(works(&first));
    Program::start(breakwater().args(["pub", "-L", &first, "-t", "stays", "-m", "all along"])).succeed();
    stays.line(|line| line == "all along");
}

#[test]
fn a_change_that_can_not_be_taken_up_leaves_everything_as_it_was() {
    let ports = Ports::configured(Folder::new(), ONE);
    let taken = ports.address("tcp");
    let before = std::fs::read_to_string(ports.folder.file("breakwater.toml")).expect("there it is");
    for words in [
        &["listeners", "add", "ws.office", taken.as_str()][..],
        &["listeners", "add", "ws.office", "127.0.0.1:0", "max_conections=5"],
        &["listeners", "set", "tcp.default", "bind", "192.0.2.77:1"],
        &["listeners", "drain", "tcp.nobody"],
    ] {
        let ended = ask(&ports, words);
        assert!(!ended.status.success(), "{words:?}: {:?}", ended.lines);
        assert!(ended.lines.iter().all(|line| line.starts_with("breakwater: ")), "{:?}", ended.lines);
    }
    assert_eq!(std::fs::read_to_string(ports.folder.file("breakwater.toml")).expect("still there"), before);
    assert!(works(&ports.url("tcp")));
}

#[test]
fn what_strangers_may_send_changes_at_a_reload() {
    let ports = Ports::configured(Folder::new(), ONE);
    ports.folder.write("breakwater.toml", &format!("mqtt.max_packet_size_connect = '256B'\n{ONE}"));
    let lines = done(&ports, &["reload"]);
    assert!(lines.iter().any(|line| line.contains("max_packet_size_connect: 64KB -> 256B")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("restart")), "{lines:?}");
    let mut stranger = TcpStream::connect(ports.address("tcp")).expect("it listens");
    stranger.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    // A CONNECT of 512 bytes is promised.
    stranger.write_all(&[0x10, 0xFD, 0x03]).expect("it reads");
    assert_eq!(stranger.read(&mut [0]).expect("an orderly end"), 0);
    assert!(works(&ports.url("tcp")));
}

#[test]
fn what_is_counted_is_told_in_the_format_of_prometheus() {
    let ports = Ports::open(&["tcp", "tls"]);
    assert!(works(&ports.url("tcp")));
    // Shards show their numbers once a second.
    let metrics = loop {
        let lines = done(&ports, &["metrics"]);
        if lines.iter().any(|line| line.starts_with("breakwater_messages_received_total ") && !line.ends_with(" 0")) {
            break lines;
        }
    };
    let value = |series: &str| {
        let line = metrics.iter().find_map(|line| line.strip_prefix(series));
        line.and_then(|rest| rest.trim().parse::<i64>().ok()).unwrap_or_else(|| panic!("{series} in {metrics:#?}"))
    };
    let listed = done(&ports, &["listeners", "list", "--json"]).concat();
    let (_, rest) = listed.split_once("\"not_after\":").expect("one has a certificate");
    let expiry: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let names: Vec<&str> = metrics
        .iter()
        .filter_map(|line| {
            line.strip_prefix("breakwater_listener_certificate_expiry_timestamp_seconds{listener=\"tls.")
        })
        .collect();
    assert!(names.len() == 1 && names[0].ends_with(&format!("\"}} {expiry}")), "{names:?} {expiry}");
    let tcp = metrics.iter().find(|line| line.starts_with("breakwater_listener_accepted_total{listener=\"tcp."));
    assert!(tcp.is_some_and(|line| line.ends_with(" 1")), "{tcp:?}");
    assert!(value("breakwater_start_time_seconds ") > 1_700_000_000);
}

#[test]
fn a_drained_port_says_good_bye_and_goes_on() {
    let ports = Ports::configured(Folder::new(), ONE);
    let url = ports.url("tcp");
    let client = Program::start(breakwater().args(["sub", "-L", &url, "-t", "a", "-V", "5", "-d"]));
    client.line(|line| line.contains("SUBACK"));
    done(&ports, &["listeners", "drain", "tcp.default", "--over", "0"]);
    client.line(|line| line.contains("< DISCONNECT"));
    assert!(works(&url));
}

#[test]
fn the_doctor_grades_what_is_exposed_and_its_advice_mends_it() {
    let text = "[listeners]\ndefaults = false\n[listeners.tcp.default]\nbind = \"0.0.0.0:0\"\nauthentication = false\n";
    let ports = Ports::configured(Folder::new(), text);
    let ended = ask(&ports, &["doctor"]);
    assert_eq!(ended.status.code(), Some(5), "{:#?}", ended.lines);
    let critical = ended.lines.iter().position(|line| line.starts_with("critical")).expect("anybody may connect");
    let advice = ended.lines[critical + 1].split_once("mend: ").expect("how to mend it").1.to_owned();
    let words: Vec<&str> = advice.split_whitespace().skip(1).collect();
    done(&ports, &words);
    assert_eq!(ask(&ports, &["doctor"]).status.code(), Some(4), "an open plain port is left");
    done(&ports, &["listeners", "set", "tcp.default", "bind", "127.0.0.1:0"]);
    let ended = ask(&ports, &["doctor", "--json"]);
    assert!(ended.lines.concat().contains("\"findings\""), "{:#?}", ended.lines);
    assert!(!ended.lines.concat().contains("critical"));
}

#[test]
fn two_brokers_do_not_share_a_data_directory() {
    let ports = Ports::configured(Folder::new(), ONE);
    let mut second = breakwater();
    second.args(["serve", "--listen", "tcp://127.0.0.1:0", "--data"]).arg(ports.folder.path());
    let ended = Program::start(&mut second).finish();
    assert!(!ended.status.success());
    assert!(ended.lines.iter().any(|line| line.contains("another broker")), "{:?}", ended.lines);
    assert!(done(&ports, &["status"]).iter().any(|line| line.starts_with("breakwater")));
}

#[test]
fn nobody_who_runs_is_told_of_with_what_to_do() {
    let folder = Folder::new();
    let ended = Program::start(breakwater().args(["listeners", "--data"]).arg(folder.path())).finish();
    assert!(!ended.status.success());
    assert!(ended.lines.concat().contains("no broker runs with the data directory"), "{:?}", ended.lines);
}

#[test]
fn the_service_manager_hears_of_start_reload_and_stop() {
    use std::os::unix::net::UnixDatagram;
    let folder = Folder::new();
    let path = folder.file("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket of ours");
    socket.set_read_timeout(Some(DEADLINE)).expect("it takes a deadline");
    let mut command: Command = breakwater();
    command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--data"]).arg(folder.path()).env("NOTIFY_SOCKET", &path);
    let program = Program::start(&mut command);
    let heard = |word: &str| {
        let mut buffer = [0; 1024];
        loop {
            let count = socket.recv(&mut buffer).expect("the manager hears of it in time");
            if String::from_utf8_lossy(&buffer[..count]).contains(word) {
                return;
            }
        }
    };
    heard("READY=1");
    program.signal(Signal::HUP);
    heard("RELOADING=1");
    heard("READY=1");
    program.signal(Signal::TERM);
    heard("STOPPING=1");
    assert!(program.finish().status.success());
}
