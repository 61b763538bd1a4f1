//! `pub` and `sub` without the rest of the binary: `cargo run -p breakwater-client --example client -- sub -t '#' -v`.

use std::process::ExitCode;

use breakwater_client::console::Console;
use breakwater_client::{publish, subscribe};
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    Pub(Box<publish::PubArgs>),
    Sub(Box<subscribe::SubArgs>),
}

fn main() -> ExitCode {
    match Line::try_parse() {
        Ok(Line { tool: Tool::Pub(args) }) => publish::run(&args).into(),
        Ok(Line { tool: Tool::Sub(args) }) => subscribe::run(&args).into(),
        Err(error) => Console::standard().command_line(&error).into(),
    }
}
