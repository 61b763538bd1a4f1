//! The binary: command line, settings, wiring, signals and logs.
//!
//! Promise: what is wrong with a start is told at once, in one line each, with what to do about it.
//!
//! Not here: logic. Each command is the call of another crate.
#![forbid(unsafe_code)]

mod banner;
mod cli;
mod clock;
mod config;
mod control;
mod doctor;
mod door;
mod foreign;
mod keeper;
mod log;
mod metrics;
mod remote;
mod running;
mod serve;
mod service;
mod signals;
mod sources;
mod store;
mod tls_files;
mod users;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Command};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(fault) => return refuse(&fault),
    };
    match cli.command {
        Command::Serve(args) => serve::serve(&args),
        Command::Publish(args) => breakwater_client::publish::run(&args).into(),
        Command::Subscribe(args) => breakwater_client::subscribe::run(&args).into(),
        Command::Test(args) => breakwater_client::probe::run(&args).into(),
        Command::Bench(args) => ExitCode::from(u8::try_from(breakwater_client::bench::run(args)).unwrap_or(USAGE)),
        Command::Listeners { command, place } => remote::listeners(&place, command.unwrap_or_default()),
        Command::Kick { client_id, end_session, place } => remote::kick(&place, client_id, end_session),
        Command::Retained { command, place } => remote::retained(&place, command),
        Command::Acme { command, place } => remote::acme(&place, command.unwrap_or_default()),
        Command::Reload { place } => remote::reload(&place),
        Command::Metrics { place } => remote::metrics(&place),
        Command::Status { place } => remote::status(&place),
        Command::Doctor { json, place } => doctor::run(&place, json),
        Command::Config { command, places, overrides } => config::run(&command, &places, &overrides),
        Command::Users { command, place } => users::run(&command, &place.directory()),
        Command::Store { command, place } => store::run(command, &place.directory()),
        Command::Version => print(&version()),
        Command::Completions { shell } => print(&completions(shell)),
        Command::Man { out: None } => print(&man_page()),
        Command::Man { out: Some(folder) } => man_pages(&folder),
    }
}

/// Wrong usage, in one line. Help and version come this way too and are printed as they are.
fn refuse(fault: &clap::Error) -> ExitCode {
    let shown = fault.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !fault.use_stderr() || shown {
        let _ = fault.print();
        return ExitCode::from(if fault.use_stderr() { USAGE } else { 0 });
    }
    let text = fault.to_string();
    let mut parts = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut line = parts.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    for part in parts.take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more information")) {
        line.push_str(if line.ends_with(':') { " " } else { "; " });
        line.push_str(part.trim_start_matches("tip: "));
    }
    let command = std::env::args().nth(1).filter(|name| Cli::command().find_subcommand(name).is_some());
    let help = match command.as_deref() {
        // People know these two with Mosquitto's flags, and its codes.
        Some(name @ ("pub" | "sub" | "test")) => {
            complain(&format!("{line}; `breakwater {name} --help` lists the flags"));
            return breakwater_client::exit::Exit::of_command_line(fault).into();
        }
        Some(name) => format!("`breakwater {name} --help` lists the flags"),
        None => "`breakwater --help` lists the commands".to_owned(),
    };
    complain(&format!("{line}; {help}"));
    ExitCode::from(USAGE)
}

/// Exit code for wrong usage.
const USAGE: u8 = 2;

/// One line to the terminal about what is wrong.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "breakwater: {line}");
}

fn print(text: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn version() -> Vec<u8> {
    let (version, system, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    format!("breakwater {version} ({system} {machine})\nMQTT 3.1, 3.1.1, 5.0\n").into_bytes()
}

fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "breakwater", &mut text);
    text
}

fn man_page() -> Vec<u8> {
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = clap_mangen::Man::new(Cli::command()).render(&mut text);
    text
}

fn man_pages(folder: &Path) -> ExitCode {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&format!("can't write man pages to {}: {fault}", folder.display()));
            ExitCode::FAILURE
        }
    }
}
