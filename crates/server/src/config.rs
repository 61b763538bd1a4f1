//! `breakwater config`: what the configuration says, what is wrong with it, and changes of it.

mod import;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use breakwater_config::{Edit, Origin, Resolved, content, edited, explain, replace, show, versions};
use clap::Subcommand;

use crate::sources::{Overrides, Places, lines, read};
use crate::{USAGE, complain, log, print};

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
    /// Print the values that somebody has given, where they come from, and what they shadow.
    Show {
        /// Print defaults too.
        #[arg(long)]
        all: bool,
        /// Only what begins with this, such as mqtt or listeners.tcp; defaults too.
        #[arg(value_name = "KEY-PREFIX")]
        prefix: Option<String>,
    },
    /// Say what a setting is for, what it takes, and what it is.
    Explain {
        /// Such as mqtt.max_packet_size or listeners.tls.default.tls.certificate.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Print the page that lists every setting, in Markdown.
    Reference,
    /// Write a value into the file. A running broker takes it up when it is told to reload.
    Set {
        #[arg(value_name = "KEY")]
        key: String,
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: String,
    },
    /// Take a key or a whole section out of the file.
    Unset {
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// List the versions of the file that are kept.
    History,
    /// Bring back an earlier version of the file.
    Rollback {
        /// How many versions to go back.
        #[arg(value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
        back: u8,
    },
}

/// Runs one of the commands.
pub(crate) fn run(command: &ConfigCommand, places: &Places, overrides: &Overrides) -> ExitCode {
    let done = match command {
        ConfigCommand::Import(args) => return import::run(args, places),
        ConfigCommand::Check { file } => check(file.as_ref(), places, overrides),
        ConfigCommand::Show { all, prefix } => {
            places.resolve(overrides).map(|resolved| show(&resolved, prefix.as_deref(), *all))
        }
        ConfigCommand::Explain { key } => {
            places.resolve(overrides).and_then(|resolved| explain(&resolved, key).map_err(|fault| vec![fault]))
        }
        ConfigCommand::Reference => Ok(breakwater_config::reference()),
        ConfigCommand::Set { key, value } => {
            change(places, &[(key.clone(), Some(value.clone()))]).map(|done| written(done, &[key]))
        }
        ConfigCommand::Unset { key } => change(places, &[(key.clone(), None)]).map(|done| written(done, &[key])),
        ConfigCommand::History => history(places),
        ConfigCommand::Rollback { back } => rollback(places, usize::from(*back)).map(|done| written(done, &[])),
    };
    match done {
        Ok(text) => print(text.as_bytes()),
        Err(faults) => refuse(&faults),
    }
}

fn refuse(faults: &[String]) -> ExitCode {
    faults.iter().for_each(|fault| complain(fault));
    ExitCode::from(USAGE)
}

fn check(file: Option<&PathBuf>, places: &Places, overrides: &Overrides) -> Result<String, Vec<String>> {
    let mut places = places.clone();
    places.config = file.cloned().or(places.config);
    let resolved = places.resolve(overrides)?;
    resolved.remarks.iter().for_each(|remark| complain(&format!("note: {remark}")));
    let faults: Vec<String> = resolved.listeners.iter().flat_map(crate::running::check_files).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let names: Vec<&str> = resolved.listeners.iter().map(|listener| &*listener.options.name).collect();
    let file = places.file().map_or_else(|| "no file, all defaults".into(), |path| path.display().to_string());
    Ok(format!("{file}: fine, with the listeners {}\n", names.join(", ")))
}

fn written((file, resolved): (PathBuf, Resolved), keys: &[&str]) -> String {
    let mut text = format!("{}: written; `breakwater reload` lets a running broker take it up\n", file.display());
    let hidden = |value: &&breakwater_config::Effective| {
        keys.contains(&value.key.as_str()) && matches!(value.origin, Origin::Environment(_))
    };
    for value in resolved.values.iter().filter(hidden) {
        text.push_str(&format!("{} counts all the same: {} says {}\n", value.origin, value.key, value.shown));
    }
    text
}

/// Changes the file, if the outcome is a good configuration. Gives its path, and what it says.
pub(crate) fn change(places: &Places, edits: &[Edit]) -> Result<(PathBuf, Resolved), Vec<String>> {
    let (file, before) = own_file(places)?;
    let after = edited(before.as_deref().unwrap_or_default(), edits)?;
    let word = |(key, value): &Edit| match value {
        // Not the value: it may be a secret.
        Some(_) => format!("set {key}"),
        None => format!("unset {key}"),
    };
    let what: Vec<String> = edits.iter().map(word).collect();
    put(places, &file, before.as_deref(), &after, &what.join(", "))
}

fn rollback(places: &Places, back: usize) -> Result<(PathBuf, Resolved), Vec<String>> {
    let (file, before) = own_file(places)?;
    let wrong = |fault: String| vec![format!("{}: {fault}", folder(places).display())];
    let kept = versions(&folder(places)).map_err(|fault| wrong(fault.to_string()))?;
    // Who changed the file by hand has one version more than are kept.
    let texts = kept.iter().map(|version| content(version).map(|text| (version, text)));
    let texts = texts.collect::<Result<Vec<_>, _>>().map_err(|fault| wrong(fault.to_string()))?;
    let same = texts.first().is_some_and(|(_, text)| Some(text) == before.as_ref());
    let found = texts.get(if same { back } else { back - 1 });
    let (version, text) = found.ok_or_else(|| wrong(format!("only {} versions are kept", texts.len())))?;
    put(places, &file, before.as_deref(), text, &format!("rollback to version {}", version.number))
}

fn history(places: &Places) -> Result<String, Vec<String>> {
    let kept = versions(&folder(places)).map_err(|fault| vec![format!("{}: {fault}", folder(places).display())])?;
    Ok(kept.iter().map(|version| format!("{:6}  {}\n", version.number, version.note)).collect())
}

/// Puts a text in place of the file, if it is a good configuration.
pub(crate) fn put(
    places: &Places,
    file: &Path,
    before: Option<&str>,
    after: &str,
    what: &str,
) -> Result<(PathBuf, Resolved), Vec<String>> {
    let mut sources = places
        .sources(&Overrides::default())
        .or_else(|fault| if before.is_none() { Ok(Default::default()) } else { Err(vec![fault]) })?;
    sources.file = Some((file.into(), after.to_owned()));
    let resolved = breakwater_config::resolve(&sources, &places.surroundings()).map_err(|faults| lines(&faults))?;
    let who = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "somebody".into());
    let note = format!("{} {what} ({who})", log::now());
    let done = replace(file, before, after, &folder(places), &note);
    done.map_err(|fault| vec![format!("{}: not written: {fault}", file.display())])?;
    Ok((file.to_owned(), resolved))
}

/// The file that changes are written to, and its text; none if it is yet to be made.
fn own_file(places: &Places) -> Result<(PathBuf, Option<String>), Vec<String>> {
    let file = places.file().unwrap_or_else(|| places.own_file());
    if !file.exists() {
        return Ok((file, None));
    }
    let text = read(&file).map_err(|fault| vec![format!("{}: {fault}", file.display())])?;
    match crate::foreign::read(&file, &text, None) {
        Ok(None) => Ok((file, Some(text))),
        Ok(Some(_)) => {
            let name = file.display();
            let way = format!("`breakwater config import {name} --out breakwater.toml` makes one of ours of it");
            Err(vec![format!("{name} is another broker's file, and is left as it is; {way}")])
        }
        Err(fault) => Err(vec![fault]),
    }
}

/// Where versions are kept.
fn folder(places: &Places) -> PathBuf {
    places.surroundings().data.join("config-history")
}
