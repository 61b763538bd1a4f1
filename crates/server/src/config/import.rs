//! `breakwater config import`: another broker's file in, ours out, and what could not be taken over.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use breakwater_config::Sources;
use breakwater_config::import::{Fate, Format, Imported, Severity};
use clap::Args;

use crate::sources::{self, Places};
use crate::{complain, foreign, print};

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The file of EMQX 4, EMQX 5 or Mosquitto; `-` for what comes on the input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it is, if that can't be seen.
    #[arg(long, value_name = "emqx4|emqx5|mosquitto", value_parser = format)]
    format: Option<Format>,
    /// Write the result here instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite that file if it is there.
    #[arg(long, requires = "out")]
    force: bool,
}

fn format(text: &str) -> Result<Format, String> {
    let found = Format::ALL.iter().find(|(name, format)| *name == text && *format != Format::Breakwater);
    found.map(|(_, format)| *format).ok_or_else(|| "takes emqx4, emqx5 or mosquitto".into())
}

/// Runs the command.
pub(crate) fn run(args: &ImportArgs, places: &Places) -> ExitCode {
    match import(args, places) {
        Ok(code) => code,
        Err(faults) => super::refuse(&faults),
    }
}

fn import(args: &ImportArgs, places: &Places) -> Result<ExitCode, Vec<String>> {
    let name = args.file.display();
    let text = text(&args.file).map_err(|fault| vec![format!("can't read {name}: {fault}")])?;
    let Some(imported) = foreign::read(&args.file, &text, args.format).map_err(|fault| vec![fault])? else {
        return Err(vec![format!("{name} is a file of Breakwater's own; `breakwater config check {name}` checks it")]);
    };
    imported.remarks.iter().for_each(|remark| complain(&format!("{name}: {remark}")));
    complain(&format!("{name}: {}", summary(&imported)));
    let result = imported.toml.to_string();
    let code = match &args.out {
        None => print(result.as_bytes()),
        Some(out) => {
            write(out, &result, args.force).map_err(|fault| vec![fault])?;
            complain(&format!(
                "written to {}; `breakwater serve --config {}` starts with it",
                out.display(),
                out.display()
            ));
            ExitCode::SUCCESS
        }
    };
    for fault in still_wrong(args, places, result) {
        complain(&format!("the result has to be mended before it starts: {fault}"));
    }
    Ok(code)
}

fn text(file: &Path) -> Result<String, String> {
    if file != Path::new("-") {
        return sources::read(file);
    }
    let mut text = String::new();
    let read = io::stdin().take(breakwater_config::FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map(|_| text).map_err(|fault| fault.to_string())
}

/// How the lines fared, in a line.
fn summary(imported: &Imported) -> String {
    let fates = || imported.fates.iter().flat_map(|(_, fates)| fates);
    let said = fates().filter(|fate| matches!(fate, Fate::Mapped | Fate::Remarked)).count();
    let of = |severity: Severity| imported.remarks.iter().filter(|remark| remark.severity == severity).count();
    let whole = fates().filter(|fate| **fate == Fate::Mapped).count();
    format!(
        "{said} lines say something, {whole} of them are taken over as they are; remarks: {} changed, {} not mapped, {} to do",
        of(Severity::Changed),
        of(Severity::NotMapped),
        of(Severity::Action)
    )
}

fn write(out: &Path, text: &str, force: bool) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(!force).create(force).truncate(force);
    #[cfg(unix)]
    if text.contains("key_password = ") {
        use std::os::unix::fs::OpenOptionsExt as _;
        // The password of a key stands in it.
        options.mode(0o600);
    }
    let written = options.open(out).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|fault| match fault.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already; --force overwrites it", out.display()),
        _ => format!("can't write {}: {fault}", out.display()),
    })
}

/// What keeps the broker from starting with the result.
fn still_wrong(args: &ImportArgs, places: &Places, result: String) -> Vec<String> {
    let path = args.out.clone().unwrap_or_else(|| args.file.with_file_name("result"));
    let sources = Sources { file: Some((Arc::from(path.as_path()), result)), ..Sources::default() };
    let faults = breakwater_config::resolve(&sources, &places.surroundings()).err().unwrap_or_default();
    sources::lines(&faults)
}
