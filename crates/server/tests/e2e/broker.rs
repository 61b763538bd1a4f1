//! The broker under test.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::{Ended, Program, Signal};

/// `breakwater serve` on a port of loopback that the system chose.
pub(crate) struct Broker {
    program: Program,
    pub(crate) port: u16,
}

impl Broker {
    pub(crate) fn start() -> Broker {
        Self::start_with(&[])
    }

    /// With further flags. Two shards, unless they say otherwise: one would hide what goes wrong between them.
    pub(crate) fn start_with(flags: &[&str]) -> Broker {
        let mut command = breakwater();
        command.args(["serve", "--listen", "tcp://127.0.0.1:0"]).args(flags);
        // A thousand clients at once may take their time on a slow machine.
        command.args(["--set", "mqtt.connect_timeout=1m"]);
        if !flags.contains(&"--shards") {
            command.args(["--shards", "2"]);
        }
        let program = Program::start(&mut command);
        let line = program.line(|line| line.contains("listening"));
        let (_, rest) = line.split_once("tcp://127.0.0.1:").expect("the banner names the address");
        let port = rest.split_whitespace().next().and_then(|port| port.parse().ok());
        Broker { port: port.expect("the banner names the port"), program }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it logs, from now or earlier.
    pub(crate) fn logs(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.program.line(wanted)
    }

    /// Waits until it has read the last word of so many clients, and has closed their connections.
    pub(crate) fn has_seen_off(&self, clients: usize) {
        self.program.lines(clients, |line| line.contains(" disconnected client="));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(self) {
        self.program.kill();
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Ended {
        self.program.finish()
    }
}

/// The program that was built for this test, with a data directory of its own that nobody has made yet.
pub(crate) fn breakwater() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("breakwater-e2e-{}-of-{}", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    command.env("BREAKWATER_DATA", std::env::temp_dir().join(name));
    command
}
