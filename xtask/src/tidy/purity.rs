//! The pure crates get time, randomness and bytes as arguments: same input, same run.

use anyhow::Result;

use super::Report;
use super::modules::Modules;
use super::tree::{Tree, code_of};

const PURE: [&str; 5] = ["proto", "session", "router", "shard", "contract"];

/// Crates that bring I/O, clocks, randomness or a scheduler with them.
const DEPENDENCIES: [&str; 16] = [
    "tokio",
    "mio",
    "socket2",
    "rustix",
    "libc",
    "nix",
    "polling",
    "async-std",
    "smol",
    "rand",
    "getrandom",
    "rustls",
    "hyper",
    "quinn",
    "chrono",
    "time",
];

const WORDS: [(&str, &str); 16] = [
    ("TcpStream", "sockets belong to net"),
    ("TcpListener", "sockets belong to net"),
    ("UdpSocket", "sockets belong to net"),
    ("UnixStream", "sockets belong to net"),
    ("UnixListener", "sockets belong to net"),
    ("Instant::now", "the caller hands in the time"),
    ("std::time::Instant", "use the Instant of proto"),
    ("SystemTime", "the caller hands in the time"),
    ("std::thread", "threads are made by server and net"),
    ("thread::", "threads are made by server and net"),
    ("tokio", "no async runtime in the message path"),
    ("std::fs", "files belong to store and server"),
    ("std::process", "only server ends the process"),
    ("std::env", "configuration comes as Options"),
    ("thread_rng", "randomness is an argument"),
    ("RandomState", "hash seeds are arguments"),
];

/// Where a forbidden word may stand, and why.
const EXCEPTIONS: [(&str, &str); 1] = [
    // A stream that turns out to be HTTP is handed over whole; nothing there reads or writes it.
    ("crates/contract/src/control.rs", "TcpStream"),
];

pub(super) fn check(tree: &Tree, modules: &Modules, report: &mut Report) -> Result<()> {
    for name in PURE {
        // Clippy knows what a method resolves to, the words below do not; it reads only the nearest clippy.toml.
        if tree
            .get(&format!("crates/{name}/clippy.toml"))
            .is_none_or(|file| !file.text.contains("std::time::Instant::now"))
        {
            report.fault(format!("crates/{name}/clippy.toml: ban std::time::Instant::now as the other pure crates do"));
        }
        let path = format!("crates/{name}/Cargo.toml");
        let manifest = tree.toml(&path)?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for key in dependencies.into_iter().flat_map(|table| table.keys()) {
            if DEPENDENCIES.contains(&key.as_str()) {
                report.fault(format!("{path}: a pure crate does not depend on {key}"));
            }
        }
    }
    for file in tree.rust().filter(|file| is_pure(&file.path) && !modules.is_test(&file.path)) {
        for (number, line) in file.lines_without_tests() {
            let code = code_of(line);
            for (word, advice) in WORDS {
                if holds_word(&code, word) && !EXCEPTIONS.contains(&(file.path.as_str(), word)) {
                    report.fault(format!("{}:{number}: `{word}` in a pure crate: {advice}", file.path));
                }
            }
        }
    }
    report.counts.push(format!("pure crates: {}", PURE.join(", ")));
    Ok(())
}

/// True where `word` stands in `code` and is not the tail of a longer name.
fn holds_word(code: &str, word: &str) -> bool {
    let named = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(named))
}

fn is_pure(path: &str) -> bool {
    PURE.iter().any(|name| {
        path.strip_prefix("crates/")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with("/src/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reading_is_found_in_code_but_not_in_a_comment() {
        assert!(holds_word(&code_of("let now = Instant::now();"), "Instant::now"));
        assert!(!holds_word(&code_of("x(); // never Instant::now()"), "Instant::now"));
        assert!(!holds_word(&code_of("say(\"tokio\");"), "tokio"));
        assert!(!holds_word("VirtualInstant::now()", "Instant::now"));
    }

    #[test]
    fn only_the_sources_of_pure_crates_are_pure() {
        assert!(is_pure("crates/proto/src/lib.rs"));
        assert!(!is_pure("crates/proto/tests/x.rs"));
        assert!(!is_pure("crates/net/src/lib.rs"));
    }
}
