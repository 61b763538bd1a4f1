//! A progress line on a terminal; nothing in a pipe.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);
const WIDTH: usize = 24;

#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    enabled: bool,
    last: Instant,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Progress {
        Progress { shown: false, enabled: !quiet && io::stderr().is_terminal(), last: Instant::now() }
    }

    /// Whether it is time to draw again. Always false where nobody looks.
    pub(super) fn is_due(&self) -> bool {
        self.enabled && self.last.elapsed() >= EVERY
    }

    /// `done` is 0 to 1.
    pub(super) fn draw(&mut self, done: f64, text: &str) {
        if !self.enabled {
            return;
        }
        self.last = Instant::now();
        self.shown = true;
        let full = (1..=WIDTH).filter(|cell| *cell as f64 <= done * WIDTH as f64).count();
        let bar: String = (0..WIDTH).map(|cell| if cell < full { '█' } else { '░' }).collect();
        let _ = write!(io::stderr(), "\r{bar} {:>3.0}% {text}\x1b[K", done * 100.0);
    }

    pub(super) fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// 1234567 as "1.23M".
pub(super) fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n if n >= 1e3 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn large_numbers_are_shortened() {
        assert_eq!([short(12.0), short(1_234.0), short(56_789.0), short(1_234_567.0)], ["12", "1.2k", "57k", "1.23M"]);
    }
}
