#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a chore talks to the terminal")]

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::{compare, counts, crash, fuzz, neighbour, root, simulate, tidy, tie};

const USAGE: &str = "\
cargo xtask tidy [--strict]                 check the rules that no compiler checks
cargo xtask tie                             write the tests that carry a statement's tag into conformance.toml
cargo xtask fuzz <target|all> [--seconds N] run a fuzz target (default 30 s), its corpus in fuzz/corpus/
cargo xtask simulate [--seeds A..B]         play seeds of the simulation (default 0..10000); one seed alone shows all
cargo xtask crash [--kills N] ...           kill the broker under clients, and check what it kept; --help lists options
cargo xtask counts [--check|--bless] [NAME] instruction counts under callgrind; see docs/benchmarks.md
cargo xtask compare [ROW...] [--write] ...  brokers side by side; --help lists rows and options
cargo xtask neighbour [--write] ...         what good clients notice of bad ones; --help lists options";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((chore, rest)) = args.split_first() else {
        bail!("which chore?\n{USAGE}");
    };
    match chore.as_str() {
        "tidy" => tidy::command(&root(), rest),
        "tie" => tie::command(&root()),
        "fuzz" => fuzz::command(&root(), rest),
        "simulate" => simulate::command(&root(), rest),
        "crash" => crash::command(&root(), rest),
        "counts" => counts::command(&root(), rest),
        "compare" => compare::command(&root(), rest),
        "neighbour" => neighbour::command(&root(), rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("there is no chore `{other}`\n{USAGE}"),
    }
}
