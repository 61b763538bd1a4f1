//! The log: one line for each connection that begins, one for each that ends, none for a message.

use crate::broker::{Broker, breakwater};
use crate::program::Program;

/// What a broker with these flags logs of a client that publishes 50 messages and leaves.
fn visit(flags: &[&str]) -> [String; 2] {
    let broker = Broker::start_with(flags);
    let mut client = breakwater();
    client.args(["pub", "-p", &broker.port.to_string(), "-i", "visitor", "-t", "visits", "-q", "1", "-l"]);
    Program::start_with_input(&mut client, &"message\n".repeat(50)).succeed();
    broker.logs(|line| line.contains("disconnected"));
    broker.signal(crate::program::Signal::TERM);
    let all = broker.finish().lines;
    let of_it: Vec<String> = all.into_iter().filter(|line| line.contains("visit")).collect();
    of_it.try_into().expect("two lines")
}

#[test]
fn a_visit_costs_two_lines_of_text_whatever_the_client_does() {
    let [came, left] = visit(&[]);
    assert!(
        came.contains("INFO")
            && came.contains("connected")
            && came.contains("listener=tcp.")
            && came.contains("mqtt=3.1.1"),
        "{came}"
    );
    assert!(left.contains("disconnected") && left.contains("the client disconnected"), "{left}");
}

#[test]
fn a_visit_costs_two_lines_of_json_whatever_the_client_does() {
    let [came, left] = visit(&["--log", "json"]);
    for part in [r#""event":"connected""#, r#""client":"visitor""#, r#""mqtt":"3.1.1""#, r#""peer":"127.0.0.1:"#] {
        assert!(came.contains(part), "{part}: {came}");
    }
    for part in [r#""event":"disconnected""#, r#""reason":"the client disconnected""#, r#""code":"0x00""#] {
        assert!(left.contains(part), "{part}: {left}");
    }
}

#[test]
fn nothing_is_logged_when_that_is_asked_for() {
    let broker = Broker::start_with(&["--log", "off"]);
    let port = broker.port.to_string();
    Program::start(breakwater().args(["pub", "-p", &port, "-i", "visitor", "-t", "visits", "-n"])).succeed();
    broker.signal(crate::program::Signal::TERM);
    let lines = broker.finish().lines;
    assert!(!lines.iter().any(|line| line.contains("visitor")), "{lines:?}");
}
