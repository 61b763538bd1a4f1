//! `breakwater config`: what the configuration says, what is wrong with it, and changes of it.

mod import;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::sources::{Overrides, Places};
use crate::{USAGE, complain, print};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with the configuration, all of it at once.
    Check {
        /// The file to check [default: the one that `serve` would read].
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Turn another broker's file into one of ours, and list what could not be taken over.
    Import(import::ImportArgs),
    /// Print the page that lists every setting, in Markdown.
    Reference,
}

/// Runs one of the commands.
pub(crate) fn run(command: &ConfigCommand, places: &Places, overrides: &Overrides) -> ExitCode {
    match command {
        ConfigCommand::Check { file } => check(file.as_ref(), places, overrides),
        ConfigCommand::Import(args) => import::run(args, places),
        ConfigCommand::Reference => print(breakwater_config::reference().as_bytes()),
    }
}

fn check(file: Option<&PathBuf>, places: &Places, overrides: &Overrides) -> ExitCode {
    let mut places = places.clone();
    places.config = file.cloned().or(places.config);
    let resolved = match places.resolve(overrides) {
        Ok(resolved) => resolved,
        Err(faults) => return refuse(&faults),
    };
    resolved.remarks.iter().for_each(|remark| complain(&format!("note: {remark}")));
    let names: Vec<&str> = resolved.listeners.iter().map(|listener| &*listener.options.name).collect();
    let file = places.file().map_or_else(|| "no file, all defaults".into(), |path| path.display().to_string());
    print(format!("{file}: fine, with the listeners {}\n", names.join(", ")).as_bytes())
}

fn refuse(faults: &[String]) -> ExitCode {
    faults.iter().for_each(|fault| complain(fault));
    ExitCode::from(USAGE)
}
