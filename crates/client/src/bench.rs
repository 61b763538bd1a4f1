//! `breakwater bench`: a load generator for MQTT brokers, and the relay that shows the ceiling.
//!
//! One thread, one poller. Open-loop rates are measured from the moment a message was due, not from when it left, so
//! a stalled broker can't hide its stall (no coordinated omission). Saturating runs keep a bounded number of messages
//! under way. Every payload carries its publisher and a sequence number: a gap is proven loss, a repeat a duplicate.
//!
//! Not here: a full client (see the crate's client core); QUIC.

use std::io::{self, IsTerminal, Write};

mod clock;
mod conn;
mod cover;
mod filters;
mod generator;
mod link;
mod options;
mod plan;
mod progress;
mod publisher;
mod relay;
mod report;
mod schedule;
mod subscriber;
mod tally;
mod usage;
mod wire;

pub use cover::Over;
pub use options::{BenchArgs, Scenario};

/// Why a run could not be made or finished.
#[derive(Debug)]
pub struct Fault(String);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    fn new(text: impl Into<String>) -> Fault {
        Fault(text.into())
    }

    fn io(what: &str, error: &io::Error) -> Fault {
        Fault(format!("{what}: {error}"))
    }
}

/// Runs one scenario. Exit code: 0 all arrived once, 1 something was lost or came twice, 2 the run was not possible.
pub fn run(args: BenchArgs) -> i32 {
    match outcome(args) {
        Ok(clean) => i32::from(!clean),
        Err(fault) => {
            let _ = writeln!(io::stderr(), "breakwater bench: {fault}");
            2
        }
    }
}

fn outcome(args: BenchArgs) -> Result<bool, Fault> {
    match args.scenario {
        Scenario::Relay(relay) => relay::serve(&relay).map(|()| true),
        Scenario::Conn(conn) => {
            let json = conn.target.json;
            let report = conn::run(&conn)?;
            print(&report.render(json, io::stdout().is_terminal()))?;
            Ok(report.is_clean())
        }
        Scenario::Filters(filters) => {
            let report = filters::run(&filters)?;
            print(&report.render(filters.target.json, io::stdout().is_terminal()))?;
            Ok(report.is_clean())
        }
        Scenario::Pair(load) => traffic(&load, plan::Shape::Pair),
        Scenario::FanOut(load) => traffic(&load, plan::Shape::FanOut),
        Scenario::FanIn(load) => traffic(&load, plan::Shape::FanIn),
        Scenario::Pub(load) => traffic(&load, plan::Shape::Publish),
        Scenario::Sub(load) => traffic(&load, plan::Shape::Subscribe),
    }
}

fn traffic(load: &options::Load, shape: plan::Shape) -> Result<bool, Fault> {
    let plan = plan::Plan::new(load, shape)?;
    let report = generator::run(&plan)?;
    print(&report.render(load.target.json, io::stdout().is_terminal()))?;
    Ok(report.is_clean())
}

fn print(text: &str) -> Result<(), Fault> {
    io::stdout().write_all(text.as_bytes()).map_err(|e| Fault::io("standard output", &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use breakwater_transport::tls::self_made;
    use clap::Parser;

    /// Starts a relay on a free port and runs `bench <words>` against it.
    fn against_relay(words: &[&str]) -> i32 {
        against(relay::Relay::bind("127.0.0.1:0".parse().unwrap(), None).unwrap(), words)
    }

    fn against(mut relay: relay::Relay, words: &[&str]) -> i32 {
        let port = relay.address().unwrap().port().to_string();
        std::thread::spawn(move || relay.run());
        let words = ["bench"].iter().chain(words).copied().chain(["--port", &port, "--json"]);
        run(BenchArgs::try_parse_from(words).unwrap())
    }

    #[test]
    fn every_message_of_a_pair_arrives_once() {
        assert_eq!(against_relay(&["pair", "--messages", "20000"]), 0);
        assert_eq!(against_relay(&["pair", "-n", "3", "--messages", "20000", "--version", "5"]), 0);
    }

    #[test]
    fn fan_out_reaches_every_subscriber() {
        assert_eq!(against_relay(&["fan-out", "-n", "20", "--messages", "1000"]), 0);
    }

    #[test]
    fn fan_in_keeps_the_packets_of_many_publishers_whole() {
        assert_eq!(against_relay(&["fan-in", "-n", "20", "--messages", "20000", "--size", "1001"]), 0);
    }

    #[test]
    fn an_open_loop_run_sends_each_message_when_it_is_due() {
        assert_eq!(against_relay(&["pair", "-n", "2", "--rate", "20000", "--messages", "1000"]), 0);
    }

    #[test]
    fn tls_loses_nothing() {
        let dir = std::env::temp_dir().join(format!("breakwater-bench-{}", std::process::id()));
        let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let made = self_made::ensure(&dir, &self_made::Wanted::default(), now_s).unwrap();
        let authority = made.authority.to_str().unwrap();
        for words in [
            "pair --messages 20000",
            "fan-out -n 5 --size 100000 --messages 200",
            "pair --rate 20000 --messages 1000",
            "conn -n 50 --cycles 2 --subscribe c/%i --resume",
        ] {
            let tls = cover::server(&made.server.certificate, &made.server.key).unwrap();
            let relay = relay::Relay::bind("127.0.0.1:0".parse().unwrap(), Some(tls)).unwrap();
            let words: Vec<&str> = words.split(' ').chain(["--over", "tls", "--cafile", authority]).collect();
            assert_eq!(against(relay, &words), 0, "{words:?}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn tls_without_an_authority_is_refused() {
        assert_eq!(against_relay(&["pair", "--messages", "1", "--over", "tls"]), 2);
    }

    #[test]
    fn connections_are_opened_and_left_again() {
        assert_eq!(against_relay(&["conn", "-n", "50", "--cycles", "2", "--subscribe", "c/%i"]), 0);
    }

    #[test]
    fn messages_that_nobody_delivers_make_the_run_fail() {
        // The relay acknowledges nothing at QoS 1: what is in flight stays there.
        assert_eq!(against_relay(&["pair", "-q", "1", "--messages", "5000", "--drain", "0.2"]), 1);
    }
}
