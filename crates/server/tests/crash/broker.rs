//! The broker that is killed.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::Fault;

/// Far beyond what a start takes.
const START: Duration = Duration::from_secs(60);
/// What it said last is shown when it fails.
const LINES: usize = 60;

pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
    said: Receiver<String>,
    lines: VecDeque<String>,
    /// From the start of the process until its port was open.
    pub(crate) took: Duration,
}

/// How a broker is started.
pub(crate) struct Stable {
    pub(crate) program: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) flags: Vec<String>,
}

impl Stable {
    pub(crate) fn start(&self) -> Result<Broker, Fault> {
        let began = Instant::now();
        let mut broker = self.spawn();
        broker.await_port(began + START).map_err(|text| {
            let said = broker.said();
            Fault::Protocol(format!("the broker does not start: {text}; it says:\n{said}"))
        })?;
        broker.took = began.elapsed();
        Ok(broker)
    }

    /// A start that is cut off.
    pub(crate) fn start_and_kill(&self, after: Duration) {
        let (until, broker) = (Instant::now() + after, self.spawn());
        while Instant::now() < until {
            thread::yield_now();
        }
        broker.kill();
    }

    fn spawn(&self) -> Broker {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--data"]).arg(&self.data).args(&self.flags);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
        let (tell, said) = channel();
        listen(child.stdout.take().expect("piped"), tell.clone());
        listen(child.stderr.take().expect("piped"), tell);
        Broker { child, port: 0, said, lines: VecDeque::new(), took: Duration::ZERO }
    }

    /// What `breakwater store stats` says of the store that a failure left behind.
    pub(crate) fn stats(&self) -> String {
        let output = Command::new(&self.program).args(["store", "stats", "--data"]).arg(&self.data).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.data
    }
}

/// The text goes line by line to whoever holds the other end.
fn listen(stream: impl Read + Send + 'static, tell: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
}

impl Broker {
    fn await_port(&mut self, until: Instant) -> Result<(), String> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left).map_err(|fault| fault.to_string())?;
            self.keep(line.clone());
            // A kill is no damage.
            if line.contains("lost or set aside") || line.contains("limits retained") {
                return Err(line);
            }
            if let Some((_, rest)) = line.split_once("tcp://127.0.0.1:") {
                let port = rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|port| port.parse().ok());
                self.port = port.ok_or(line)?;
                return Ok(());
            }
        }
    }

    fn keep(&mut self, line: String) {
        if line.contains("client=\"visitor\"") {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Its last lines.
    pub(crate) fn said(&mut self) -> String {
        while let Ok(line) = self.said.try_recv() {
            self.keep(line);
        }
        self.lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// It has to run until it is killed.
    pub(crate) fn check(&mut self) -> Result<(), Fault> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                Err(Fault::Protocol(format!("the broker has ended by itself: {ended:?}; it says:\n{}", self.said())))
            }
        }
    }

    /// As the end of the process by the kernel is: nothing of it runs any more when this returns.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}
