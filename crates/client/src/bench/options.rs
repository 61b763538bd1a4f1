//! The flags of `breakwater bench`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::Fault;
use super::cover::{Covers, Over};
use super::wire::Level;

/// Load a broker and measure it.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = "Example: breakwater bench pair --qos 1 --broker-pid $(pidof breakwater)")]
pub struct BenchArgs {
    #[command(subcommand)]
    pub scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Open connections and hold them
    #[command(disable_help_flag = true)]
    Conn(Conn),
    /// Publish only; somebody else subscribes
    #[command(disable_help_flag = true)]
    Pub(Load),
    /// Subscribe only; somebody else publishes with this tool
    #[command(disable_help_flag = true)]
    Sub(Load),
    /// N publishers to N subscribers, topic i to i (1:1 by default)
    #[command(disable_help_flag = true)]
    Pair(Load),
    /// One publisher to N subscribers
    #[command(disable_help_flag = true)]
    FanOut(Load),
    /// N publishers to one subscriber
    #[command(disable_help_flag = true)]
    FanIn(Load),
    /// Subscribe to many filters, or let filters come and go
    #[command(disable_help_flag = true)]
    Filters(Filters),
    /// Be the ceiling: a loop that copies bytes from publishers to subscribers without parsing them
    #[command(disable_help_flag = true)]
    Relay(Relay),
}

/// Where the broker is and how to speak to it.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Broker's address
    #[arg(short = 'h', long, default_value = "127.0.0.1")]
    pub host: String,
    /// Broker's port
    #[arg(short, long, default_value_t = 1883)]
    pub port: u16,
    /// What MQTT is carried by; with TLS one suite (AES-128-GCM) and one group (X25519), so that all brokers do the same work
    #[arg(long, value_enum, default_value = "tcp")]
    pub over: Over,
    /// TLS: certificate of the authority that signed the broker's (PEM)
    #[arg(long)]
    pub cafile: Option<PathBuf>,
    /// TLS: take up sessions of earlier connections, as soon as there are some
    #[arg(long)]
    pub resume: bool,
    /// WebSocket: path of the upgrade request
    #[arg(long, default_value = "/mqtt")]
    pub ws_path: String,
    /// Protocol version
    #[arg(short = 'V', long, value_enum, default_value = "3.1.1")]
    pub version: VersionName,
    /// Allow a broker that is not on this machine. Load tests against machines of others are attacks
    #[arg(long)]
    pub i_own_this_network: bool,
    /// Process id of the broker: its CPU time and memory are reported
    #[arg(long)]
    pub broker_pid: Option<u32>,
    /// Start of every client id
    #[arg(long, default_value = "bench")]
    pub id_prefix: String,
    /// Keep-alive in seconds; 0 is none, which some brokers refuse. No PINGREQ is ever sent
    #[arg(short, long, default_value_t = u16::MAX)]
    pub keep_alive: u16,
    /// Loopback source addresses to spread connections over (127.0.0.1, .2, ...)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub sources: u8,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// No progress bar
    #[arg(long)]
    pub quiet: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum VersionName {
    #[value(name = "3.1.1", alias = "311", alias = "4", alias = "mqttv311")]
    V311,
    #[value(name = "5", alias = "5.0", alias = "mqttv5")]
    V5,
}

impl Target {
    pub(super) fn level(&self) -> Level {
        match self.version {
            VersionName::V311 => Level::V311,
            VersionName::V5 => Level::V5,
        }
    }

    /// Resolves the host, and refuses to load machines that nobody said are ours.
    pub(super) fn address(&self) -> Result<SocketAddr, Fault> {
        let address = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|e| Fault::io(&format!("cannot resolve {}", self.host), &e))?
            .next()
            .ok_or_else(|| Fault::new(format!("{} has no address", self.host)))?;
        if !address.ip().is_loopback() && !self.i_own_this_network {
            return Err(Fault::new(format!(
                "{} is not this machine; say --i-own-this-network if you may load it",
                address.ip()
            )));
        }
        Ok(address)
    }

    /// What covers the connections of a run.
    pub(super) fn covers(&self) -> Result<Covers, Fault> {
        Covers::new(self.over, (&self.host, self.port, &self.ws_path), self.cafile.as_deref(), self.resume)
    }

    /// Source address of connection `index`; `None` leaves the choice to the kernel.
    pub(super) fn source(&self, address: SocketAddr, index: usize) -> Option<SocketAddr> {
        let IpAddr::V4(ip) = address.ip() else { return None };
        if self.sources <= 1 || !ip.is_loopback() {
            return None;
        }
        let last = u8::try_from(index % usize::from(self.sources)).expect("less than a u8") + 1;
        Some(SocketAddr::from(([127, 0, 0, last], 0)))
    }
}

/// What to send and how fast.
#[derive(Debug, Clone, Args)]
pub struct Load {
    #[command(flatten)]
    pub target: Target,
    /// Publishers and subscribers of `pair`, subscribers of `fan-out`, publishers of `fan-in`; clients of `pub` and `sub`
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub clients: u32,
    /// Quality of service, both ways
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Payload bytes; at least 16, which carry time, publisher and sequence number
    #[arg(short, long, default_value_t = 64)]
    pub size: usize,
    /// Messages per second over all publishers, open loop; without it as many as the broker takes
    #[arg(short, long)]
    pub rate: Option<u32>,
    /// Seconds measured
    #[arg(short, long, alias = "seconds", default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds before the measurement starts
    #[arg(short, long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Stop after this many published messages instead, measuring all of them
    #[arg(short, long)]
    pub messages: Option<u64>,
    /// Seconds without any arrival after which missing messages are given up at the end
    #[arg(long, default_value_t = 5.0)]
    pub drain: f64,
    /// Saturating runs: deliveries under way at most, over all publishers; 0 is no bound
    #[arg(long, default_value_t = 100_000)]
    pub outstanding: u64,
    /// QoS 1 and 2: unacknowledged messages per client at most, both ways
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub inflight: u16,
    /// Saturating runs: bytes per write
    #[arg(long, default_value_t = 65_536)]
    pub write_bytes: usize,
    /// Saturating runs: rest after a turn that read little, in microseconds [default: 50, from 50 connections up 1000]
    #[arg(long)]
    pub rest_us: Option<u64>,
    /// Start of every topic; `sub` takes a filter with wildcards as it is
    #[arg(short, long, default_value = "bench")]
    pub topic: String,
    /// Client ids instead of numbered ones: publisher:subscriber[,publisher:subscriber...]
    #[arg(long)]
    pub pair_ids: Option<String>,
    /// Number the publishers from here (`pub` in several processes)
    #[arg(long, default_value_t = 0)]
    pub first_publisher: u32,
}

/// Connections to open.
#[derive(Debug, Clone, Args)]
pub struct Conn {
    #[command(flatten)]
    pub target: Target,
    /// Connections
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// Connections per second; without it as fast as `--concurrency` allows
    #[arg(short, long)]
    pub rate: Option<u32>,
    /// Handshakes under way at most
    #[arg(long, default_value_t = 64)]
    pub concurrency: u32,
    /// Subscribe each connection to this filter; `%i` becomes its number
    #[arg(long)]
    pub subscribe: Option<String>,
    /// Quality of service of the subscription
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Seconds to hold all connections
    #[arg(long, default_value_t = 0.0)]
    pub hold: f64,
    /// Connection counts at which the broker's resident memory is read
    #[arg(long, value_delimiter = ',')]
    pub marks: Vec<u32>,
    /// Times to connect all and leave again
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub cycles: u32,
}

/// Filters to subscribe to.
#[derive(Debug, Clone, Args)]
pub struct Filters {
    #[command(flatten)]
    pub target: Target,
    /// Clients that share the filters
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub clients: u32,
    /// Distinct filters, all told
    #[arg(short, long, default_value_t = 1_000_000)]
    pub filters: u64,
    /// Percentage with a wildcard
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub wildcards: u8,
    /// Filters in one SUBSCRIBE
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub batch: u32,
    /// Quality of service of the subscriptions
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Let filters come and go on one client instead
    #[arg(long)]
    pub churn: bool,
    /// With --churn: filters per second that come and go
    #[arg(short, long, default_value_t = 1000)]
    pub rate: u32,
    /// With --churn: seconds
    #[arg(short, long, alias = "seconds", default_value_t = 10.0)]
    pub duration: f64,
}

/// The relay's own socket.
#[derive(Debug, Clone, Args)]
pub struct Relay {
    /// Address to listen on; port 0 picks a free one
    #[arg(short, long, default_value = "127.0.0.1:1883")]
    pub listen: SocketAddr,
    /// Speak TLS with this certificate (PEM), as far as rustls goes by itself
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
    /// Write the port to this file once listening
    #[arg(long)]
    pub port_file: Option<PathBuf>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(flags: &[&str]) -> Load {
        let words = ["bench", "pair"].into_iter().chain(flags.iter().copied());
        match BenchArgs::try_parse_from(words).unwrap().scenario {
            Scenario::Pair(load) => load,
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn flags_are_consistent() {
        use clap::CommandFactory;
        BenchArgs::command().debug_assert();
    }

    #[test]
    fn a_host_that_is_not_this_machine_is_refused() {
        assert!(pair(&["-h", "192.0.2.1"]).target.address().is_err());
        assert!(pair(&["-h", "192.0.2.1", "--i-own-this-network"]).target.address().is_ok());
        assert!(pair(&[]).target.address().is_ok());
    }

    #[test]
    fn connections_are_spread_over_the_loopback_sources() {
        let target = pair(&["--sources", "3"]).target;
        let to = target.address().unwrap();
        let hosts: Vec<_> = (0..4).map(|i| target.source(to, i).unwrap().ip().to_string()).collect();
        assert_eq!(hosts, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
        assert_eq!(pair(&[]).target.source(to, 0), None);
    }
}
