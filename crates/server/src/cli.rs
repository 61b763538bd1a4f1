//! The command line, as one definition: help, completions and man pages come from it too.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::ConfigCommand;
use crate::log;
use crate::remote::{AcmeCommand, Listeners, RetainedCommand};
use crate::sources::{Overrides, Place, Places};
use crate::store::StoreCommand;
use crate::users::UsersCommand;

/// An MQTT broker: 3.1, 3.1.1 and 5.0.
#[derive(Parser)]
#[command(name = "breakwater", version, propagate_version = false, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the broker.
    Serve(ServeArgs),
    /// Publish messages.
    #[command(name = "pub", disable_help_flag = true, disable_version_flag = true)]
    Publish(breakwater_client::publish::PubArgs),
    /// Subscribe to topics and print what arrives.
    #[command(name = "sub", disable_help_flag = true, disable_version_flag = true)]
    Subscribe(breakwater_client::subscribe::SubArgs),
    /// Try a port: connect, subscribe, publish, and see the message come back.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Test(breakwater_client::probe::TestArgs),
    /// Put a broker under load and measure it.
    Bench(breakwater_client::bench::BenchArgs),
    /// Show, open, change, close and test the ports of a running broker.
    Listeners {
        #[command(subcommand)]
        command: Option<Listeners>,
        #[command(flatten)]
        place: Place,
    },
    /// End the connection of a client.
    Kick {
        /// Identifier of the client.
        client_id: String,
        /// Forget its session too: subscriptions, and messages that wait for it.
        #[arg(long)]
        end_session: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show and remove the retained messages of a running broker.
    Retained {
        #[command(subcommand)]
        command: RetainedCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Show the certificates that are ordered from an authority (ACME), and order one now.
    Acme {
        #[command(subcommand)]
        command: Option<AcmeCommand>,
        #[command(flatten)]
        place: Place,
    },
    /// Let a running broker read its configuration, certificates and users again.
    Reload {
        #[command(flatten)]
        place: Place,
    },
    /// Say how a running broker is.
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Print what a running broker has counted, in the format of Prometheus.
    Metrics {
        #[command(flatten)]
        place: Place,
    },
    /// Say what is exposed, how bad that is, and what mends it.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Look at the configuration, check it, change it.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Say who may connect: users and their passwords.
    Users {
        #[command(subcommand)]
        command: UsersCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Look at what outlasts the broker, check it, copy it, and put a copy back.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
        #[command(flatten)]
        place: Place,
    },
    /// Print the version.
    Version,
    /// Print completions for a shell.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write all of them.
    Man {
        /// Write one page per command into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// Number of shards, each a thread [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,
    /// What to log, and how: off, error, warn, info or debug, and text or json; with a comma for both (debug,json).
    #[arg(long, value_name = "LEVEL|json", default_value = "info", value_parser = log::Settings::parse)]
    pub(crate) log: log::Settings,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
