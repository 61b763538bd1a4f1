//! The three streams of a command line tool, so that a test can stand in for the terminal.

use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::Exit;

/// Streams of one run. Owned by the tool's main thread; `input` moves to a thread of its own when lines are streamed.
pub struct Console {
    pub input: Box<dyn Read + Send>,
    pub output: Box<dyn Write>,
    pub diagnostics: Box<dyn Write>,
    /// Colours and progress only where a person looks at them.
    pub output_is_terminal: bool,
    pub diagnostics_is_terminal: bool,
    /// Set from outside (a signal) to end the run in good order.
    pub stop: Arc<AtomicBool>,
}

impl Console {
    pub fn standard() -> Console {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Console {
            input: Box::new(BufReader::new(io::stdin())),
            output: Box::new(io::stdout()),
            diagnostics: Box::new(io::stderr()),
            output_is_terminal: !plain && io::stdout().is_terminal(),
            diagnostics_is_terminal: !plain && io::stderr().is_terminal(),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One line that says what is wrong and what to do. A closed stream has no reader to tell about it.
    pub fn error(&mut self, text: &str) {
        let (on, off) = if self.diagnostics_is_terminal { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(self.diagnostics, "{on}error:{off} {text}");
    }

    /// Tells a mistake in the flags in one line, or shows the help that was asked for.
    pub fn command_line(&mut self, error: &clap::Error) -> Exit {
        let exit = Exit::of_command_line(error);
        if exit == Exit::OK {
            let _ = error.print();
            return exit;
        }
        let text = error.render().to_string();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
        let line = lines.collect::<Vec<_>>().join(" ").replace(" tip:", "; tip:");
        let line = line.strip_prefix("error: ").unwrap_or(&line);
        self.error(&format!("{line}; --help shows all flags"));
        exit
    }

    pub fn warning(&mut self, text: &str) {
        let (on, off) = if self.diagnostics_is_terminal { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(self.diagnostics, "{on}warning:{off} {text}");
    }

    pub fn note(&mut self, text: &str) {
        let (on, off) = if self.diagnostics_is_terminal { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let _ = writeln!(self.diagnostics, "{on}{text}{off}");
    }
}
