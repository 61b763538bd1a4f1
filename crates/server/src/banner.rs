//! What a start prints: what is open to whom, and what to try first.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use breakwater_config::{Kind, Resolved};
use breakwater_net::{BoundTo, ListenerOptions, ListenerStatus, Protocols};

/// What the banner tells of.
pub(crate) struct Started<'a> {
    pub(crate) listeners: &'a [ListenerStatus],
    pub(crate) shards: u16,
    pub(crate) open_files: Option<u64>,
    pub(crate) settings: &'a Resolved,
    /// How many users have a name.
    pub(crate) users: usize,
    /// Path of this program, as it was called.
    pub(crate) program: &'a str,
    /// The data directory.
    pub(crate) data: &'a Path,
}

/// From where a listener can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exposure {
    Machine,
    Network,
    Anywhere,
}

/// At most 15 lines, as long as there are few listeners.
pub(crate) fn banner(started: &Started<'_>) -> String {
    let mut text = format!("Breakwater {}\n", env!("CARGO_PKG_VERSION"));
    for listener in started.listeners {
        let urls: Vec<String> = listener.bound.iter().map(|bound| url(&listener.options, bound)).collect();
        let (spoken, reach) = (spoken(listener.options.protocols), exposure(listener).in_words());
        let _ = writeln!(text, "  listening  {}  {spoken}  ({reach})", urls.join(" "));
    }
    if started.settings.listeners.iter().any(|listener| listener.self_made) {
        let ca = started.data.join("tls/ca.pem");
        let _ = writeln!(text, "  tls        self-made certificate: clients need --cafile {}", ca.display());
    }
    let _ = write!(text, "  shards     {}", started.shards);
    if let Some(files) = started.open_files {
        let _ = write!(text, ", at most {files} open files");
    }
    let _ = writeln!(text, "\n  limits     {}", limits(started.settings));
    let exposed = || started.listeners.iter().filter(|listener| exposure(listener) != Exposure::Machine);
    if exposed().next().is_some() {
        let users = match started.users {
            0 => "none yet, so that only this machine may connect; `users add NAME` lets others in".to_owned(),
            count => format!("{count}; without a name only this machine may connect"),
        };
        let _ = writeln!(text, "  users      {users}");
    }
    let plain: Vec<&str> =
        exposed().filter(|listener| plain(listener)).map(|listener| &*listener.options.name).collect();
    if !plain.is_empty() {
        let _ = writeln!(text, "  warning    nothing on {} is encrypted, passwords neither", plain.join(", "));
    }
    let (program, target) = (started.program, target(started));
    let _ = writeln!(text, "Try it in another terminal:");
    let _ = writeln!(text, "  {program} sub{target} -t 'test/#' -v &");
    let _ = writeln!(text, "  {program} pub{target} -t test/hello -m 'it works'");
    text.push_str("Ctrl-C stops the broker.\n");
    text
}

/// Addresses at which plain MQTT is spoken.
fn tcp(listeners: &[ListenerStatus]) -> impl Iterator<Item = SocketAddr> + '_ {
    let plain = listeners.iter().filter(|listener| listener.options.protocols.mqtt);
    plain.flat_map(|listener| &listener.bound).filter_map(|bound| match bound {
        BoundTo::Address(address) => Some(*address),
        BoundTo::Unix(_) => None,
    })
}

/// Whether something on it goes without encryption.
fn plain(listener: &ListenerStatus) -> bool {
    let Protocols { mqtt, ws, http, .. } = listener.options.protocols;
    mqtt || ws || http
}

fn url(options: &ListenerOptions, bound: &BoundTo) -> String {
    let scheme = options.name.split('.').next().unwrap_or_default();
    match bound {
        BoundTo::Address(address) => format!("{scheme}://{address}"),
        BoundTo::Unix(path) => format!("unix://{}", path.display()),
    }
}

pub(crate) fn spoken(protocols: Protocols) -> String {
    let Protocols { mqtt, mqtts, ws, wss, http, https, quic } = protocols;
    let all = [
        (mqtt, "MQTT"),
        (mqtts, "MQTT in TLS"),
        (ws, "MQTT in WebSocket"),
        (wss, "MQTT in WebSocket in TLS"),
        (http, "HTTP"),
        (https, "HTTPS"),
        (quic, "MQTT over QUIC"),
    ];
    let spoken: Vec<&str> = all.iter().filter(|(given, _)| *given).map(|(_, words)| *words).collect();
    spoken.join(", ")
}

fn limits(settings: &Resolved) -> String {
    let (size, limits) = (Kind::Bytes { min: 0, max: u64::MAX }, &settings.shard.limits);
    let packet = size.written(limits.packet_bytes_max.into());
    let queue = size.written(limits.queue_bytes_max.into());
    let (messages, inflight) = (limits.queue_messages_max, limits.inflight_max);
    format!("packets of {packet}; for each client {messages} messages or {queue} waiting, {inflight} in flight")
}

/// Flags of `pub` and `sub` that find a listener, one without encryption if there is any.
fn target(started: &Started<'_>) -> String {
    let addresses: Vec<SocketAddr> = tcp(started.listeners).collect();
    let first = addresses.iter().find(|address| reachable(address.ip())).or(addresses.first());
    if let Some(first) = first {
        return address_flags(*first);
    }
    let way = |listener: &ListenerStatus| url_flags(listener, started.data);
    started.listeners.iter().find_map(way).unwrap_or_default()
}

/// Flags for a listener of another kind; none if our clients have no way in.
fn url_flags(listener: &ListenerStatus, data: &Path) -> Option<String> {
    let Protocols { mqtt, mqtts, ws, wss, quic, .. } = listener.options.protocols;
    let ways = [(mqtts, "tls"), (ws, "ws"), (wss, "wss"), (quic, "quic")];
    let address = match listener.bound.first()? {
        BoundTo::Unix(path) if mqtt => return Some(format!(" -L unix://{}", path.display())),
        BoundTo::Unix(_) => return None,
        BoundTo::Address(address) => *address,
    };
    let scheme = ways.iter().find_map(|(spoken, scheme)| spoken.then_some(*scheme))?;
    let own = listener.certificates.iter().any(|certificate| certificate.self_made);
    // What the certificate names, or nobody would believe it; `localhost` is in each of ours.
    let named = listener.certificates.first().filter(|_| !own).and_then(|certificate| certificate.names.first());
    let host = match named {
        Some(name) => name.replacen("*.", "broker.", 1),
        None if reachable(address.ip()) => "localhost".into(),
        None if address.is_ipv6() => format!("[{}]", address.ip()),
        None => address.ip().to_string(),
    };
    let path = &*listener.options.websocket.path;
    let path = if (ws || wss) && !mqtts && path != "/mqtt" { path } else { "" };
    let mut flags = format!(" -L {scheme}://{host}:{}{path}", address.port());
    if own {
        let _ = write!(flags, " --cafile {}", data.join("tls/ca.pem").display());
    }
    Some(flags)
}

/// Flags for an address of plain MQTT; none if it is where `pub` and `sub` look anyway.
fn address_flags(first: SocketAddr) -> String {
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

pub(crate) fn exposure(listener: &ListenerStatus) -> Exposure {
    let one = |bound: &BoundTo| match bound {
        BoundTo::Address(address) => exposure_of(address.ip()),
        BoundTo::Unix(_) => Exposure::Machine,
    };
    listener.bound.iter().map(one).max().unwrap_or(Exposure::Machine)
}

fn exposure_of(address: IpAddr) -> Exposure {
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
    use breakwater_transport::tls::CertificateFacts;

    use breakwater_config::{Sources, Surroundings, read_bounded, resolve};

    fn listener(name: &str, protocols: Protocols, addresses: &[&str]) -> ListenerStatus {
        ListenerStatus {
            number: 0,
            open: true,
            options: ListenerOptions { name: name.into(), protocols, ..ListenerOptions::default() },
            bound: addresses.iter().map(|text| BoundTo::Address(text.parse().expect("an address"))).collect(),
            connections: 0,
            accepted: 0,
            refused: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            since_unix_ms: 0,
            certificates: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn shown_all(listeners: &[ListenerStatus], plain: bool) -> String {
        let around = Surroundings { data: "/var".into(), directory: "/".into(), ipv6: true, read: read_bounded };
        let mut settings = resolve(&Sources::default(), &around).expect("defaults");
        settings.listeners.retain(|listener| !(plain && listener.self_made));
        let started = Started {
            listeners,
            shards: 2,
            open_files: Some(1024),
            settings: &settings,
            users: 0,
            program: "breakwater",
            data: Path::new("/var/lib/breakwater"),
        };
        banner(&started)
    }

    fn shown(addresses: &[&str]) -> String {
        shown_all(&[listener("tcp.default", Protocols::MQTT, addresses)], true)
    }

    #[test]
    fn fifteen_lines_hold_the_default_listeners() {
        let none = Protocols::NONE;
        let all = [
            ("tcp", Protocols { mqtt: true, ..none }, "1883"),
            ("tls", Protocols { mqtts: true, ..none }, "8883"),
            ("ws", Protocols { ws: true, ..none }, "8083"),
            ("wss", Protocols { wss: true, ..none }, "8084"),
            ("quic", Protocols { quic: true, ..none }, "14567"),
        ];
        let all = all.map(|(kind, protocols, port)| {
            listener(&format!("{kind}.default"), protocols, &[&format!("[::]:{port}"), &format!("0.0.0.0:{port}")])
        });
        let text = shown_all(&all, false);
        assert!(text.lines().count() <= 15, "{text}");
        for part in [
            "wss://[::]:8084 wss://0.0.0.0:8084  MQTT in WebSocket in TLS  (from every network that leads here)",
            "self-made certificate: clients need --cafile /var/lib/breakwater/tls/ca.pem",
            "nothing on tcp.default, ws.default is encrypted",
            "breakwater sub -t 'test/#' -v &",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    fn certified(kind: &str, protocols: Protocols, name: &str, self_made: bool) -> ListenerStatus {
        let names = vec![name.into()];
        let certificates = vec![CertificateFacts { self_made, names, ..CertificateFacts::default() }];
        ListenerStatus { certificates, ..listener(&format!("{kind}.default"), protocols, &["0.0.0.0:9999"]) }
    }

    #[test]
    fn first_command_comes_over_tls_where_there_is_nothing_else() {
        let none = Protocols::NONE;
        let tls = Protocols { mqtts: true, ..none };
        let ca = "--cafile /var/lib/breakwater/tls/ca.pem";
        for (listener, flags) in [
            (certified("tls", tls, "localhost", true), format!("-L tls://localhost:9999 {ca} -t 'test/#'")),
            (certified("tls", tls, "mqtt.example", false), "-L tls://mqtt.example:9999 -t 'test/#'".into()),
            (certified("wss", Protocols { wss: true, ..none }, "h", true), format!("-L wss://localhost:9999 {ca} -t")),
            (
                certified("quic", Protocols { quic: true, ..none }, "h", true),
                format!("-L quic://localhost:9999 {ca} -t"),
            ),
        ] {
            let text = shown_all(&[listener], false);
            assert!(text.contains(&format!("breakwater sub {flags}")), "{flags}: {text}");
            assert!(text.contains("breakwater pub -L "), "{text}");
        }
        let ws = listener("ws.default", Protocols { ws: true, ..none }, &["[::1]:8083"]);
        assert!(shown_all(&[ws], true).contains("sub -L ws://localhost:8083 -t"));
        let mut unix = listener("unix.default", Protocols::MQTT, &[]);
        unix.bound = vec![BoundTo::Unix("/run/b.sock".into())];
        assert!(shown_all(&[unix], true).contains("sub -L unix:///run/b.sock -t"));
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
