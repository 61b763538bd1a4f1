//! Generator of `cargo xtask compare persistence`: clients that make a broker keep things, and the raw loop beside them.
//!
//! Prints one line of JSON. Not a benchmark of its own: `--list` names no scenario.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it talks to whoever started it")]
#![allow(clippy::unwrap_used, reason = "what fails here ends the run, which is then told")]

mod drain;
mod publish;
mod raw;
mod sessions;
mod wire;

use std::collections::HashMap;
use std::time::Duration;

/// `--name value` pairs.
pub(crate) struct Words(HashMap<String, String>);

impl Words {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> T {
        self.text(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("--{name} {text}")))
    }

    pub(crate) fn seconds(&self, name: &str, otherwise: f64) -> Duration {
        Duration::from_secs_f64(self.number(name, otherwise))
    }

    pub(crate) fn port(&self) -> u16 {
        self.number("port", 1883)
    }
}

/// Median and the 99th of 100.
pub(crate) fn quantiles(mut us: Vec<u32>) -> (u32, u32) {
    us.sort_unstable();
    let at = |part: usize| us.get((us.len() * part / 100).min(us.len().saturating_sub(1))).copied().unwrap_or(0);
    (at(50), at(99))
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let mut words = HashMap::new();
    if mode != "--list" && !mode.starts_with("--") {
        while let (Some(name), Some(value)) = (args.next(), args.next()) {
            words.insert(name.trim_start_matches('-').to_owned(), value);
        }
    }
    let words = Words(words);
    match mode.as_str() {
        "publish" => publish::run(&words),
        "drain" => drain::run(&words),
        "sessions" => sessions::run(&words),
        "raw" => raw::run(&words),
        "--list" => {}
        _ => {
            println!("publish | drain | sessions | raw, each with --name value; see `cargo xtask compare persistence`")
        }
    }
}
