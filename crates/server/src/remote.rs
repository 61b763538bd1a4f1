//! Commands that ask a running node: `listeners`, `status`, `metrics`, `kick`, `retained`, `reload`.

mod retained;
mod table;

use std::process::ExitCode;

use clap::Subcommand;

use crate::clock::now_unix_s;
use crate::control::{self, AcmeRow, Answer, ListenerRow, Request};
use crate::sources::Place;
use crate::{complain, print};

pub(crate) use retained::{RetainedCommand, retained};

/// What to do with listeners.
#[derive(Subcommand)]
pub(crate) enum Listeners {
    /// Show each port: what it speaks, who can reach it, and who uses it.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Open another port, and write it into the configuration.
    Add {
        /// Type and name, such as ws.office.
        name: String,
        /// Where it listens: a port, ADDRESS:PORT, INTERFACE:PORT or the path of a unix socket.
        bind: String,
        /// Further settings, such as max_connections=1000.
        #[arg(value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Change a setting of a port, at once and in the configuration.
    Set {
        /// Type and name, such as tcp.default.
        name: String,
        /// Which setting, such as max_connections or tls.certificate.
        key: String,
        /// Its value, as TOML writes it; quotes may be left out around plain text.
        value: String,
    },
    /// Close a port, and write that into the configuration.
    Close {
        /// Type and name.
        name: String,
        /// What becomes of its connections.
        #[arg(long, value_enum, default_value_t = Leftover::Keep)]
        connections: Leftover,
    },
    /// End the connections of a port bit by bit.
    Drain {
        /// Type and name.
        name: String,
        /// Over how many seconds; 0: at once.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        over: u64,
    },
    /// Really connect to a port, subscribe and publish.
    Test {
        /// Type and name.
        name: String,
    },
}

impl Default for Listeners {
    fn default() -> Self {
        Self::List { json: false }
    }
}

/// What to do with certificates that are ordered from an authority.
#[derive(Subcommand)]
pub(crate) enum AcmeCommand {
    /// Show each one: how long it is good for, when it is ordered next, and why that failed the last time.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Order one now, whatever there is.
    Renew {
        /// Name of its section, such as default.
        name: String,
    },
}

impl Default for AcmeCommand {
    fn default() -> Self {
        Self::List { json: false }
    }
}

/// What becomes of the connections of a port that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Leftover {
    /// They stay.
    Keep,
    /// They are ended over half a minute.
    Drain,
    /// They are ended at once.
    Cut,
}

/// Over which time a closed port's connections are ended.
const DRAIN_MS: u64 = 30_000;

/// `breakwater status`.
pub(crate) fn status(node: &Place) -> ExitCode {
    report(ask(node, &Request::Status))
}

/// `breakwater reload`.
pub(crate) fn reload(node: &Place) -> ExitCode {
    report(ask(node, &Request::Reload))
}

/// `breakwater metrics`.
pub(crate) fn metrics(node: &Place) -> ExitCode {
    report(ask(node, &Request::Metrics))
}

/// `breakwater kick`.
pub(crate) fn kick(node: &Place, client_id: String, end_session: bool) -> ExitCode {
    report(ask(node, &Request::Kick { client_id, end_session }))
}

/// `breakwater acme`.
pub(crate) fn acme(node: &Place, what: AcmeCommand) -> ExitCode {
    match what {
        AcmeCommand::List { json } => match certificates(node) {
            Ok(rows) if json => print(format!("{:#}\n", serde_json::json!(rows)).as_bytes()),
            Ok(rows) => report(Ok(Answer::Certificates { rows })),
            Err(faults) => report(Err(faults)),
        },
        AcmeCommand::Renew { name } => report(ask(node, &Request::Renew { name })),
    }
}

/// The certificates that a node orders.
pub(crate) fn certificates(node: &Place) -> Result<Vec<AcmeRow>, Vec<String>> {
    match ask(node, &Request::Certificates)? {
        Answer::Certificates { rows } => Ok(rows),
        Answer::Refused { faults } => Err(faults),
        _ => Err(vec!["the broker answered something else".into()]),
    }
}

/// `breakwater listeners`.
pub(crate) fn listeners(node: &Place, what: Listeners) -> ExitCode {
    match what {
        Listeners::List { json } => list(node, json),
        Listeners::Add { name, bind, settings } => {
            let mut changes = vec![(format!("listeners.{name}.bind"), Some(bind))];
            for setting in &settings {
                let Some((key, value)) = setting.split_once('=') else {
                    complain(&format!("{setting:?}: write it as KEY=VALUE"));
                    return ExitCode::from(crate::USAGE);
                };
                changes.push((format!("listeners.{name}.{}", key.trim()), Some(value.trim().to_owned())));
            }
            edit(node, changes)
        }
        Listeners::Set { name, key, value } => edit(node, vec![(format!("listeners.{name}.{key}"), Some(value))]),
        Listeners::Close { name, connections } => {
            let changes = vec![(format!("listeners.{name}.enabled"), Some("false".to_owned()))];
            let closed = edit(node, changes);
            let over_ms = match connections {
                Leftover::Keep => return closed,
                Leftover::Drain => DRAIN_MS,
                Leftover::Cut => 0,
            };
            if closed != ExitCode::SUCCESS {
                return closed;
            }
            match ask(node, &Request::Drain { listener: name, over_ms }) {
                // It was there a moment ago: nobody was left.
                Ok(Answer::Refused { .. }) => ExitCode::SUCCESS,
                answer => report(answer),
            }
        }
        Listeners::Drain { name, over } => {
            report(ask(node, &Request::Drain { listener: name, over_ms: over.saturating_mul(1000) }))
        }
        Listeners::Test { name } => test(node, &name),
    }
}

fn edit(node: &Place, changes: Vec<(String, Option<String>)>) -> ExitCode {
    report(ask(node, &Request::Edit { changes }))
}

/// Asks; a node that can't be reached is a complaint.
pub(crate) fn ask(node: &Place, request: &Request) -> Result<Answer, Vec<String>> {
    control::ask(&node.directory(), request).map_err(|fault| vec![fault])
}

/// The ports of a node.
pub(crate) fn rows(node: &Place) -> Result<Vec<ListenerRow>, Vec<String>> {
    match ask(node, &Request::Listeners)? {
        Answer::Listeners { rows } => Ok(rows),
        Answer::Refused { faults } => Err(faults),
        _ => Err(vec!["the broker answered something else".into()]),
    }
}

fn report(answer: Result<Answer, Vec<String>>) -> ExitCode {
    let faults = match answer {
        Ok(Answer::Done { lines }) => {
            return print(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes());
        }
        Ok(Answer::Status(status)) => {
            return print(table::status(&status).as_bytes());
        }
        Ok(Answer::Listeners { rows }) => {
            return print(table::listeners(&rows, now_unix_s()).as_bytes());
        }
        Ok(Answer::Certificates { rows }) => {
            return print(table::certificates(&rows, now_unix_s()).as_bytes());
        }
        // What `breakwater store` and `breakwater retained` ask they print themselves.
        Ok(Answer::StoreStats(_) | Answer::StoreFindings { .. } | Answer::Retained { .. }) => {
            vec!["the broker answered something else".into()]
        }
        Ok(Answer::Refused { faults }) | Err(faults) => faults,
    };
    faults.iter().for_each(|fault| complain(fault));
    ExitCode::FAILURE
}

fn list(node: &Place, json: bool) -> ExitCode {
    match rows(node) {
        Ok(rows) if json => print(format!("{:#}\n", serde_json::json!(rows)).as_bytes()),
        Ok(rows) => report(Ok(Answer::Listeners { rows })),
        Err(faults) => report(Err(faults)),
    }
}

/// Connects to the listener as its own configuration says.
fn test(node: &Place, name: &str) -> ExitCode {
    let rows = match rows(node) {
        Ok(rows) => rows,
        Err(faults) => return report(Err(faults)),
    };
    let Some(row) = rows.iter().find(|row| row.name == name) else {
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        return report(Err(vec![format!("there is no listener {name:?}; there are {}", names.join(", "))]));
    };
    let Some(url) = table::url(row) else {
        return report(Err(vec![format!("{name} is not open")]));
    };
    let mut words = vec!["test".to_owned(), url];
    if row.certificates.iter().any(|certificate| certificate.self_made) {
        let ca = node.directory().join("tls").join("ca.pem");
        words.extend(["--cafile".to_owned(), ca.display().to_string()]);
    }
    match clap::Parser::try_parse_from(words) {
        Ok(args) => breakwater_client::probe::run(&args).into(),
        Err(fault) => report(Err(vec![fault.to_string()])),
    }
}
