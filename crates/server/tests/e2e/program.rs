//! A program that a test has started, and what it has said so far.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use rustix::process::Signal;

/// For everything that is waited for: far beyond what a slow and busy machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
}

#[derive(Default)]
struct Output {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    /// Of both streams, as they come.
    lines: Vec<String>,
    closed: usize,
}

/// The output and the error stream.
const STREAMS: usize = 2;

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
        Self::start_with_input(command, "")
    }

    /// With a text on its input that is short enough for a pipe to hold.
    pub(crate) fn start_with_input(command: &mut Command, input: &str) -> Program {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|fault| panic!("{name}: {fault}"));
        // Who doesn't read it may be gone already.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = Arc::new(Output::default());
        gather(child.stdout.take().expect("piped"), Arc::clone(&output));
        gather(child.stderr.take().expect("piped"), Arc::clone(&output));
        Program { name, child, output }
    }

    /// Waits for one line of that kind, now or earlier.
    pub(crate) fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.lines(1, wanted).remove(0)
    }

    /// Waits for so many lines of that kind, and gives all of them that there are then.
    pub(crate) fn lines(&self, count: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let found = |seen: &Seen| seen.lines.iter().filter(|line| wanted(line)).count();
        let seen = self.wait(DEADLINE, |seen| found(seen) >= count || seen.closed == STREAMS);
        let lines: Vec<String> = seen.into_iter().filter(|line| wanted(line)).collect();
        assert!(lines.len() >= count, "only {} of {count} lines from {}", lines.len(), self.told());
        lines
    }

    /// Waits until the program has ended by itself.
    pub(crate) fn finish(self) -> Ended {
        self.finish_within(DEADLINE)
    }

    pub(crate) fn finish_within(mut self, time: Duration) -> Ended {
        let lines = self.wait(time, |seen| seen.closed == STREAMS);
        let closed = self.output.seen.lock().unwrap_or_else(PoisonError::into_inner).closed == STREAMS;
        assert!(closed, "still running after {time:?}: {}", self.told());
        // It has closed both streams: it is on its way out.
        let status = self.child.wait().expect("it is our child");
        Ended { status, lines }
    }

    /// Waits until the program has ended well.
    pub(crate) fn succeed(self) -> Vec<String> {
        let name = self.name.clone();
        let ended = self.finish();
        assert!(ended.status.success(), "{name}: {}:\n{}", ended.status, ended.lines.join("\n"));
        ended.lines
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// As a power cut does it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our child");
    }

    /// Its name and all that it has said, for the message of a test that fails.
    pub(crate) fn told(&self) -> String {
        let seen = self.output.seen.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{}, which says:\n{}", self.name, seen.lines.join("\n"))
    }

    fn wait(&self, time: Duration, enough: impl Fn(&Seen) -> bool) -> Vec<String> {
        let until = Instant::now() + time;
        let mut seen = self.output.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while !enough(&seen) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            seen = self.output.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        seen.lines.clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            line.clear();
            output.seen.lock().unwrap_or_else(PoisonError::into_inner).lines.push(text);
            output.changed.notify_all();
        }
        output.seen.lock().unwrap_or_else(PoisonError::into_inner).closed += 1;
        output.changed.notify_all();
    });
}

/// A program of this name from where the system keeps them. None: it is not installed, and the test has nothing to show.
pub(crate) fn installed(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        absent(&format!("{name} is not installed (apt-get install {package})"));
    }
    found
}

/// Says that a test shows nothing, or fails where everything has to be shown.
pub(crate) fn absent(why: &str) {
    let all = std::env::var("BREAKWATER_E2E").is_ok_and(|value| value == "all");
    assert!(!all, "{why}; `make test` installs what the tests need");
    eprintln!("nothing shown: {why}; `make test` installs what the tests need");
}
