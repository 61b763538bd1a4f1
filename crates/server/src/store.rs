//! `breakwater store`: what outlasts the broker, for whoever operates it. A running broker is asked; a store that nobody has is
//! looked at here.

mod import;
mod restore;
mod swap;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use breakwater_store::{Engine, OpenFault, UNFINISHED};
use clap::Subcommand;

use crate::control::{self, Answer, FindingRow, Request, StoreStats};
use crate::{complain, print};

#[derive(Subcommand)]
pub(crate) enum StoreCommand {
    /// Say what it holds.
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read all of it, and say what is not as it was written. Ends with 0 if nothing is, 1 if something is, 2 if it can't tell.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// A backup, instead of what the broker has.
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Copy it into a directory that is empty or not there yet, while the broker runs or not.
    Backup {
        /// The directory.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Put a backup in its place, while no broker runs. What was there stays, under another name.
    Restore {
        /// The backup.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Also if something in it is damaged: that is lost then.
        #[arg(long)]
        damaged: bool,
    },
    /// Take in what Mosquitto has kept: retained messages, sessions, subscriptions, and messages that wait or are in flight; while
    /// no broker runs. What was there stays, under another name.
    Import(import::ImportArgs),
}

/// Exit code of a check that found something.
const DAMAGED: u8 = 1;
/// Exit code of a check that can't tell.
const UNKNOWN: u8 = 2;

/// What went wrong, one line each.
type Faults = Vec<String>;

/// Runs one of the commands on the store of a data directory.
pub(crate) fn run(command: StoreCommand, data: &Path) -> ExitCode {
    // A look keeps each segment open.
    breakwater_net::raise_open_files();
    match command {
        StoreCommand::Stats { json } => told(stats(data).map(|stats| shown(&stats, data, json))),
        StoreCommand::Check { json, folder } => checked(check(data, folder.as_deref()), json),
        StoreCommand::Backup { folder } => told(backup(data, &folder)),
        StoreCommand::Restore { folder, damaged } => told(restore::restore(data, &folder, damaged)),
        StoreCommand::Import(args) => told(import::import(data, &args)),
    }
}

fn told(done: Result<String, Faults>) -> ExitCode {
    match done {
        Ok(text) => print(text.as_bytes()),
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            ExitCode::FAILURE
        }
    }
}

/// Where the store of a data directory is.
fn folder_of(data: &Path) -> PathBuf {
    data.join("store")
}

fn runs(data: &Path) -> bool {
    control::is_answered(&control::path(data))
}

/// Asks the running broker.
fn ask<T>(data: &Path, request: &Request, answer: impl FnOnce(Answer) -> Option<T>) -> Result<T, Faults> {
    match control::ask(data, request).map_err(|fault| vec![fault])? {
        Answer::Refused { faults } => Err(faults),
        other => answer(other).ok_or_else(|| vec!["the broker answered something else".to_owned()]),
    }
}

/// Opens a store that no broker has, to look at it; nothing in it is changed.
fn look(folder: &Path) -> Result<Engine, String> {
    let place = folder.display();
    if folder.join(UNFINISHED).exists() {
        return Err(format!("{place} is a backup that was cut off while it was made; make another one"));
    }
    if !folder.join("index.redb").exists() && !folder.join("log").exists() {
        return Err(format!("{place} is not a store: there is neither an index.redb nor a log in it"));
    }
    Engine::open_to_look(folder).map_err(|fault| match fault {
        OpenFault::Locked => format!(
            "a broker uses {place} and does not answer at its control socket; ask as the user whom it runs as, or stop it \
             first"
        ),
        fault => format!("{place}: {fault}"),
    })
}

/// The same, of the store of a data directory.
fn look_at_own(data: &Path) -> Result<Engine, Faults> {
    let folder = folder_of(data);
    if !folder.exists() {
        let text = "there is no such store; a broker makes it at its first start (--data DIR names another directory)";
        return Err(vec![format!("{}: {text}", folder.display())]);
    }
    look(&folder).map_err(|fault| vec![fault])
}

fn stats(data: &Path) -> Result<StoreStats, Faults> {
    if runs(data) {
        return ask(data, &Request::StoreStats, |answer| match answer {
            Answer::StoreStats(stats) => Some(stats),
            _ => None,
        });
    }
    let engine = look_at_own(data)?;
    StoreStats::of(&engine, engine.found().len() as u64, false).map_err(|fault| vec![fault])
}

fn shown(stats: &StoreStats, data: &Path, json: bool) -> String {
    if json {
        return format!("{:#}\n", serde_json::json!(stats));
    }
    let mut text = String::new();
    let of = if stats.running { "a broker runs with it" } else { "no broker runs with it" };
    let _ = writeln!(text, "store          {}, {of}", folder_of(data).display());
    let _ = writeln!(text, "segments       {}", stats.segments);
    let _ =
        writeln!(text, "bytes          {}, of these not in the index yet {}", stats.disk_bytes, stats.unfolded_bytes);
    let _ = writeln!(text, "retained       {}", stats.retained);
    let _ = writeln!(text, "sessions       {}", stats.sessions);
    let _ = writeln!(text, "subscriptions  {}", stats.subscriptions);
    let _ = writeln!(text, "queued         {} messages, {} bytes", stats.queued, stats.queued_bytes);
    let damages = match (stats.damages, stats.running) {
        (0, _) => "none".to_owned(),
        (count, true) => format!("{count} lost or set aside since the start; the log of the broker says what"),
        (count, false) => format!("{count}; `breakwater store check` says what"),
    };
    let _ = writeln!(text, "damages        {damages}");
    text
}

fn check(data: &Path, other: Option<&Path>) -> Result<Vec<FindingRow>, Faults> {
    if other.is_none() && runs(data) {
        return ask(data, &Request::StoreCheck, |answer| match answer {
            Answer::StoreFindings { rows } => Some(rows),
            _ => None,
        });
    }
    let engine = match other {
        Some(folder) => look(folder).map_err(|fault| vec![fault])?,
        None => look_at_own(data)?,
    };
    findings(&engine)
}

/// What a start would find, and what it would not look at.
fn findings(engine: &Engine) -> Result<Vec<FindingRow>, Faults> {
    let rest = engine.check().map_err(|fault| vec![fault])?;
    Ok(engine.found().iter().cloned().chain(rest).map(|finding| FindingRow::new(finding, false)).collect())
}

fn checked(found: Result<Vec<FindingRow>, Faults>, json: bool) -> ExitCode {
    let rows = match found {
        Ok(rows) => rows,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            return ExitCode::from(UNKNOWN);
        }
    };
    let clean = rows.is_empty();
    let text = if json {
        format!("{:#}\n", serde_json::json!({ "clean": clean, "findings": rows }))
    } else if clean {
        "nothing is damaged\n".to_owned()
    } else {
        listed(&rows)
    };
    match print(text.as_bytes()) {
        ExitCode::SUCCESS if !clean => ExitCode::from(DAMAGED),
        code => code,
    }
}

fn listed(rows: &[FindingRow]) -> String {
    let mut text = String::new();
    for FindingRow { file, what, advice } in rows {
        let _ = writeln!(text, "{file}: {what}\n    what to do: {advice}");
    }
    let count = rows.len();
    let _ = writeln!(
        text,
        "findings: {count}. Nothing is to be repaired by hand: a start sets aside what it can't read, says so, and keeps the rest"
    );
    text
}

fn backup(data: &Path, folder: &Path) -> Result<String, Faults> {
    // The broker works in another directory.
    let folder = std::path::absolute(folder).map_err(|fault| vec![format!("{}: {fault}", folder.display())])?;
    let mut text = String::new();
    if runs(data) {
        let request = Request::StoreBackup { folder: folder.clone() };
        let made = ask(data, &request, |answer| matches!(answer, Answer::Done { .. }).then_some(()));
        made.map_err(|faults| faults.into_iter().map(|fault| unwritten(&folder, &fault, data)).collect::<Faults>())?;
    } else {
        let engine = look_at_own(data)?;
        engine.backup(&folder).map_err(|fault| vec![format!("{}: {fault}", folder.display())])?;
        for finding in engine.found() {
            let _ = writeln!(text, "warning: {}: {}; so it is in the copy", finding.file, finding.what);
        }
    }
    let _ = writeln!(
        text,
        "{} is a copy of the store as it is now; `breakwater store check {0}` reads it, `breakwater store restore {0}` puts \
         it back",
        folder.display()
    );
    Ok(text)
}

/// What a broker says of a folder that it can't write is of no use to somebody who can.
fn unwritten(folder: &Path, fault: &str, data: &Path) -> String {
    let forbidden =
        ["Permission denied", "Read-only file system", "No such file"].iter().any(|why| fault.contains(why));
    if forbidden {
        let own = data.join("backups");
        let place = folder.display();
        return format!(
            "{place}: {fault}; the broker writes the copy: name a directory that it may write, such as one in {}",
            own.display()
        );
    }
    format!("{}: {fault}", folder.display())
}
