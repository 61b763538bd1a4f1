//! The command line, as one definition: help, completions and man pages come from it too.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::log;

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
    /// Print reference pages.
    #[command(hide = true)]
    Docs {
        #[command(subcommand)]
        page: Page,
    },
}

#[derive(Subcommand)]
pub(crate) enum Page {
    /// Every setting.
    Settings,
}

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; may be given more than once.
    #[arg(long, value_name = "tcp://ADDR:PORT", default_value = "tcp://127.0.0.1:1883")]
    pub(crate) listen: Vec<String>,
    /// Number of shards, each a thread [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) shards: Option<u16>,
    /// What to log, and how: off, error, warn, info or debug, and text or json; with a comma for both (debug,json).
    #[arg(long, value_name = "LEVEL|json", default_value = "info", value_parser = log::Settings::parse)]
    pub(crate) log: log::Settings,
    /// Change a setting (docs/configuration.md lists them); may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Port of MQTT over TCP.
const PORT: u16 = 1883;

/// Reads the addresses of `--listen`. All faults at once, one line each.
pub(crate) fn addresses(urls: &[String]) -> Result<Vec<SocketAddr>, Vec<String>> {
    let (mut addresses, mut faults) = (Vec::new(), Vec::new());
    for url in urls {
        match address(url) {
            Ok(found) => {
                for address in found {
                    if addresses.contains(&address) {
                        faults.push(format!("--listen {url}: this address is given twice; leave one out"));
                    } else {
                        addresses.push(address);
                    }
                }
            }
            Err(fault) => faults.push(format!("--listen {url}: {fault}")),
        }
    }
    if faults.is_empty() { Ok(addresses) } else { Err(faults) }
}

fn address(url: &str) -> Result<Vec<SocketAddr>, String> {
    const SHAPE: &str = "write it as tcp://ADDRESS:PORT, such as tcp://127.0.0.1:1883, or tcp://0.0.0.0:1883 for every \
                         address of this machine";
    let rest = match url.split_once("://") {
        Some(("tcp" | "mqtt", rest)) => rest.trim_end_matches('/'),
        Some((scheme, _)) => return Err(format!("{scheme} is not supported; {SHAPE}")),
        None => url,
    };
    if rest.is_empty() {
        return Err(SHAPE.into());
    }
    let bare_v6 = rest.starts_with('[') && rest.ends_with(']');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => (host, port.parse().map_err(|_| format!("{port:?} is not a port; {SHAPE}"))?),
        _ => (rest, PORT),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("put an IPv6 address in brackets: tcp://[::1]:1883".into());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found =
        (host, port).to_socket_addrs().map_err(|_| format!("{host:?} is no address of this machine; {SHAPE}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn read(urls: &[&str]) -> Result<Vec<SocketAddr>, Vec<String>> {
        addresses(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_read() {
        for (url, address) in [
            ("tcp://127.0.0.1:1883", "127.0.0.1:1883"),
            ("tcp://0.0.0.0", "0.0.0.0:1883"),
            ("mqtt://[::1]:2883/", "[::1]:2883"),
            ("tcp://[::]", "[::]:1883"),
            ("127.0.0.1:7", "127.0.0.1:7"),
        ] {
            assert_eq!(read(&[url]), Ok(vec![address.parse().expect("an address")]), "{url}");
        }
    }

    #[test]
    fn wrong_addresses_say_how_to_write_them() {
        for url in
            ["", "tcp://", "ftp://127.0.0.1:1", "tcp://127.0.0.1:port", "tcp://127.0.0.1:99999", "tcp://::1:1883"]
        {
            let faults = read(&[url]).expect_err(url);
            assert!(faults[0].contains("tcp://") && !faults[0].contains('\n'), "{url}: {faults:?}");
        }
        let faults = read(&["x://a", "tcp://127.0.0.1", "tcp://127.0.0.1:1883"]).expect_err("two faults");
        assert_eq!(faults.len(), 2);
        assert!(faults[1].contains("twice"));
    }
}
