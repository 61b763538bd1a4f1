//! What a start prints: what is open to whom, and what to try first.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use breakwater_config::{Kind, Resolved};

/// What the banner tells of.
pub(crate) struct Started<'a> {
    pub(crate) listeners: &'a [SocketAddr],
    pub(crate) shards: u16,
    pub(crate) open_files: Option<u64>,
    pub(crate) settings: &'a Resolved,
    /// How many users have a name.
    pub(crate) users: usize,
    /// Path of this program, as it was called.
    pub(crate) program: &'a str,
}

/// From where a listener can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exposure {
    Machine,
    Network,
    Anywhere,
}

/// At most 15 lines, as long as there are few listeners.
pub(crate) fn banner(started: &Started<'_>) -> String {
    let mut text = format!("Breakwater {}\n", env!("CARGO_PKG_VERSION"));
    for address in started.listeners {
        let reach = exposure(address.ip()).in_words();
        let _ = writeln!(text, "  listening  tcp://{address}  MQTT 3.1, 3.1.1, 5.0  ({reach})");
    }
    let _ = write!(text, "  shards     {}", started.shards);
    if let Some(files) = started.open_files {
        let _ = write!(text, ", at most {files} open files");
    }
    let _ = writeln!(text, "\n  limits     {}", limits(started.settings));
    if started.listeners.iter().any(|address| exposure(address.ip()) != Exposure::Machine) {
        let users = match started.users {
            0 => "none yet, so that only this machine may connect; `users add NAME` lets others in".to_owned(),
            count => format!("{count}; without a name only this machine may connect"),
        };
        let _ = writeln!(text, "  users      {users}");
        text.push_str("  warning    nothing on these ports is encrypted, passwords neither\n");
    }
    let (program, target) = (started.program, target(started.listeners));
    let _ = writeln!(text, "Try it in another terminal:");
    let _ = writeln!(text, "  {program} sub{target} -t 'test/#' -v &");
    let _ = writeln!(text, "  {program} pub{target} -t test/hello -m 'it works'");
    text.push_str("Ctrl-C stops the broker.\n");
    text
}

fn limits(settings: &Resolved) -> String {
    let (size, limits) = (Kind::Bytes { min: 0, max: u64::MAX }, &settings.shard.limits);
    let packet = size.written(limits.packet_bytes_max.into());
    let queue = size.written(limits.queue_bytes_max.into());
    let (messages, inflight) = (limits.queue_messages_max, limits.inflight_max);
    format!("packets of {packet}; for each client {messages} messages or {queue} waiting, {inflight} in flight")
}

/// Flags of `pub` and `sub` that find the first listener; none if it is where they look anyway.
fn target(listeners: &[SocketAddr]) -> String {
    let Some(first) = listeners.iter().find(|address| reachable(address.ip())).or(listeners.first()) else {
        return String::new();
    };
    let mut flags = String::new();
    if !reachable(first.ip()) || first.ip() == IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) {
        let _ = write!(flags, " -h {}", first.ip());
    }
    if first.port() != 1883 {
        let _ = write!(flags, " -p {}", first.port());
    }
    flags
}

/// Whether `localhost` leads there.
fn reachable(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

fn exposure(address: IpAddr) -> Exposure {
    let private = match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    };
    match address {
        _ if address.is_loopback() => Exposure::Machine,
        _ if private => Exposure::Network,
        _ => Exposure::Anywhere,
    }
}

impl Exposure {
    fn in_words(self) -> &'static str {
        match self {
            Self::Machine => "only from this machine",
            Self::Network => "from the local network",
            Self::Anywhere => "from every network that leads here",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use breakwater_config::{Sources, Surroundings, read_bounded, resolve};

    fn shown(listeners: &[&str]) -> String {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().expect("an address")).collect();
        let around = Surroundings { data: "/var".into(), directory: "/".into(), read: read_bounded };
        let settings = resolve(&Sources::default(), &around).expect("defaults");
        let started = Started {
            listeners: &listeners,
            shards: 2,
            open_files: Some(1024),
            settings: &settings,
            users: 0,
            program: "breakwater",
        };
        banner(&started)
    }

    #[test]
    fn loopback_needs_no_warning_and_no_flags() {
        let text = shown(&["127.0.0.1:1883"]);
        assert!(!text.contains("warning") && text.contains("only from this machine"), "{text}");
        assert!(text.contains("breakwater sub -t 'test/#' -v &"), "{text}");
        assert!(text.lines().count() <= 15);
    }

    #[test]
    fn open_ports_are_warned_about() {
        let text = shown(&["0.0.0.0:2883", "[::1]:1883"]);
        assert!(text.contains("only this machine may connect") && text.contains("users add"), "{text}");
        assert!(text.contains("warning") && text.contains("from every network"), "{text}");
        assert!(text.contains("sub -p 2883 -t"), "{text}");
        assert!(text.lines().count() <= 15);
    }

    #[test]
    fn first_command_leads_to_the_listener() {
        assert!(shown(&["192.168.1.5:1883"]).contains("sub -h 192.168.1.5 -t"));
        assert!(shown(&["[::1]:1884"]).contains("sub -h ::1 -p 1884 -t"));
        assert!(shown(&["192.168.1.5:1883"]).contains("from the local network"));
    }
}
