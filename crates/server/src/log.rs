//! Lines for the operator: one per connect, disconnect and refusal, and one per fault of ours.
//!
//! Shards hand finished lines to a channel and never wait: a thread of its own writes them. When it can't keep up, lines are
//! dropped and their number is told.

mod escape;
mod line;
mod time;

use std::io::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breakwater_shard::Event;

use line::{Form, Line};

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

impl FromStr for Level {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Ok(match word {
            "off" => Self::Off,
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            _ => return Err(()),
        })
    }
}

/// What `--log` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) level: Level,
    pub(crate) json: bool,
}

impl Settings {
    /// Reads a level, a form, or both with a comma between.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut settings = Self { level: Level::Info, json: false };
        for word in text.split(',') {
            match word.trim() {
                "json" => settings.json = true,
                "text" => settings.json = false,
                word => {
                    let allowed = "takes off, error, warn, info or debug, and text or json";
                    settings.level = word.parse().map_err(|()| allowed.to_owned())?;
                }
            }
        }
        Ok(settings)
    }
}

/// Chunks that may wait to be written.
const WAITING_MAX: usize = 1024;

/// A chunk holds the lines of one turn, or as many as fit in about that many bytes.
const CHUNK_BYTES: usize = 16 * 1024;

/// After the first chunk the writer waits that long for more: at a storm of connects it is woken, and writes, a few times a
/// second instead of once for each.
const GATHER: Duration = Duration::from_millis(10);

/// Lines on their way to the writer.
struct Chunk {
    text: String,
    lines: u64,
}

/// Where lines are put. Cheap to clone, one for each thread.
#[derive(Clone)]
pub(crate) struct Log {
    settings: Settings,
    chunks: SyncSender<Chunk>,
    dropped: Arc<AtomicU64>,
}

/// The log of one shard: gathers the lines of a turn.
pub(crate) struct Journal {
    log: Log,
    form: Form,
    chunk: Chunk,
}

/// The thread that writes.
pub(crate) struct Writer(JoinHandle<()>);

/// Starts the writer. It ends when the last [`Log`] is gone.
pub(crate) fn start(settings: Settings) -> io::Result<(Log, Writer)> {
    let (chunks, waiting) = sync_channel(WAITING_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let log = Log { settings, chunks, dropped: Arc::clone(&dropped) };
    let body = move || write(&waiting, settings, &dropped);
    Ok((log, Writer(thread::Builder::new().name("log".into()).spawn(body)?)))
}

impl Writer {
    /// Waits until everything is written. Every [`Log`] has to be gone.
    pub(crate) fn finish(self) {
        let _ = self.0.join();
    }
}

impl Log {
    /// A line of the broker itself.
    pub(crate) fn say(&self, level: Level, what: &str) {
        if level <= self.settings.level {
            let (mut text, mut form) = (String::new(), self.form());
            Line::begin(&mut text, &mut form, unix_ms(), level, what).end();
            self.put(Chunk { text, lines: 1 });
        }
    }

    /// The log of one shard.
    pub(crate) fn journal(&self) -> Journal {
        Journal { log: self.clone(), form: self.form(), chunk: Chunk { text: String::new(), lines: 0 } }
    }

    fn form(&self) -> Form {
        Form { json: self.settings.json, ..Form::default() }
    }

    fn put(&self, chunk: Chunk) {
        if let Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) = self.chunks.try_send(chunk) {
            self.dropped.fetch_add(chunk.lines, Ordering::Relaxed);
        }
    }
}

impl breakwater_net::Journal for Journal {
    fn event(&mut self, unix_ms: u64, event: &Event<'_>) {
        if line::level(event) <= self.log.settings.level {
            line::describe(&mut self.chunk.text, &mut self.form, unix_ms, event);
            self.chunk.lines += 1;
            if self.chunk.text.len() > CHUNK_BYTES {
                self.end_of_turn();
            }
        }
    }

    fn end_of_turn(&mut self) {
        if self.chunk.lines > 0 {
            let text = std::mem::take(&mut self.chunk.text);
            self.log.put(Chunk { text, lines: std::mem::take(&mut self.chunk.lines) });
        }
    }
}

fn write(waiting: &Receiver<Chunk>, settings: Settings, dropped: &AtomicU64) {
    let mut form = Form { json: settings.json, ..Form::default() };
    while let Ok(Chunk { mut text, .. }) = waiting.recv() {
        thread::sleep(GATHER);
        waiting.try_iter().for_each(|chunk| text.push_str(&chunk.text));
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let what = "lines were dropped: writing is too slow";
            let mut line = Line::begin(&mut text, &mut form, unix_ms(), Level::Warn, what);
            line.number("count", lost);
            line.end();
        }
        // Nobody is left to tell if this fails.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// This moment, as a line of the log has it.
pub(crate) fn now() -> String {
    let mut text = String::new();
    time::Stamp::default().write(&mut text, unix_ms());
    text
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use breakwater_net::Journal as _;

    use super::*;

    #[test]
    fn log_flag_takes_a_level_a_form_or_both() {
        for (text, level, json) in [
            ("warn", Level::Warn, false),
            ("json", Level::Info, true),
            ("debug,json", Level::Debug, true),
            ("text, off", Level::Off, false),
        ] {
            assert_eq!(Settings::parse(text), Ok(Settings { level, json }), "{text}");
        }
        assert!(Settings::parse("loud").is_err() && Settings::parse("").is_err());
    }

    #[test]
    fn a_full_channel_drops_and_counts_lines() {
        let (chunks, waiting) = sync_channel(1);
        let settings = Settings { level: Level::Info, json: false };
        let log = Log { settings, chunks, dropped: Arc::default() };
        log.say(Level::Info, "kept");
        let mut journal = log.journal();
        for _ in 0..3 {
            journal.event(0, &Event::Fault { text: "gathered" });
        }
        log.say(Level::Debug, "below the level");
        assert_eq!(log.dropped.load(Ordering::Relaxed), 0, "nothing was handed over yet");
        journal.end_of_turn();
        assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
        assert!(waiting.recv().expect("one chunk").text.contains("kept"));
    }
}
