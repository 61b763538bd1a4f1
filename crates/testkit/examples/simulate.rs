//! Plays seeds of the simulation: `simulate 0..10000`. Stops at the first that breaks a promise, and prints it. Of a single
//! seed, `simulate 4711`, a failure shows all that happened.
#![expect(clippy::print_stdout, reason = "it talks to the terminal")]

use std::process::ExitCode;

use breakwater_testkit::simulation;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "0..1000".into());
    let Some((from, to)) = range(&argument) else {
        eprintln!("which seeds? A..B, or one seed");
        return ExitCode::from(2);
    };
    let mut total = simulation::Summary::default();
    for seed in from..to {
        let lines = if to == from + 1 { usize::MAX } else { 60 };
        match simulation::run_tracing(seed, lines) {
            Ok(summary) => {
                total.messages += summary.messages;
                total.deliveries += summary.deliveries;
                total.connections += summary.connections;
                total.pauses += summary.pauses;
                total.wills += summary.wills;
            }
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
        if (seed + 1 - from) % 1000 == 0 {
            println!("{} seeds: {total:?}", seed + 1 - from);
        }
    }
    println!("seeds {from}..{to} break no promise: {total:?}");
    ExitCode::SUCCESS
}

fn range(text: &str) -> Option<(u64, u64)> {
    match text.split_once("..") {
        Some((from, to)) => Some((from.parse().ok()?, to.parse().ok()?)),
        None => text.parse().ok().map(|seed| (seed, seed + 1)),
    }
}
