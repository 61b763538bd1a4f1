//! Words of a listener's section: places, networks, rules, and what else has a grammar of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use breakwater_net::{AccessRule, Bind};
use ipnet::IpNet;

use super::Scheme;
use crate::value::quoted;

/// Permissions of a unix socket that are not given.
pub(super) const UNIX_MODE: u32 = 0o660;

const PLACES: &str = "a port, ADDRESS:PORT, [IPV6]:PORT, INTERFACE:PORT, the path of a unix socket, or systemd:NAME";

/// One place to listen; a bare port is two, one for each version of IP that the machine has.
pub(crate) fn bind(text: &str, kind: Scheme, base: &Path, ipv6: bool) -> Result<Vec<Bind>, String> {
    if let Some(name) = text.strip_prefix("systemd:") {
        let fits = !name.is_empty() && name.len() <= 255 && !name.contains([':', '/']);
        return if fits { Ok(vec![Bind::Inherited(name.into())]) } else { Err(wrong_place(text)) };
    }
    let numbers = text.bytes().all(|byte| byte.is_ascii_digit()) || text.parse::<SocketAddr>().is_ok();
    if text.contains('/') || (kind == Scheme::Unix && !numbers) {
        return match kind {
            Scheme::Quic => Err("QUIC needs a port of UDP, not a unix socket".into()),
            _ if text.ends_with('/') => Err(wrong_place(text)),
            _ => Ok(vec![Bind::Unix { path: path(text, base), mode: UNIX_MODE }]),
        };
    }
    if kind == Scheme::Unix {
        return Err(format!("takes the path of a unix socket, such as /run/breakwater.sock, not {}", quoted(text)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![Bind::Address(address)]);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = match port.parse() {
        Ok(port) if digits => port,
        _ if text.parse::<IpAddr>().is_ok() => return Err(format!("{} has no port: takes {PLACES}", quoted(text))),
        _ => return Err(wrong_place(text)),
    };
    let both = |v6: Ipv6Addr, v4: Ipv4Addr| {
        let v6 = ipv6.then(|| Bind::Address((v6, port).into()));
        v6.into_iter().chain([Bind::Address((v4, port).into())]).collect()
    };
    match host {
        "" | "*" => Ok(both(Ipv6Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)),
        "localhost" => Ok(both(Ipv6Addr::LOCALHOST, Ipv4Addr::LOCALHOST)),
        _ if interface(host) => Ok(vec![Bind::Interface { name: host.into(), port }]),
        _ if host.contains(':') => Err(format!("put the IPv6 address in brackets: [{host}]:{port}")),
        _ => Err(wrong_place(text)),
    }
}

fn wrong_place(text: &str) -> String {
    format!("takes {PLACES}, not {}", quoted(text))
}

/// Names of network interfaces: at most 15 bytes, and dots only for VLANs of one.
fn interface(name: &str) -> bool {
    let numbers = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    (1..=15).contains(&name.len()) && !numbers && name.bytes().all(known)
}

/// A path; a relative one starts where the file is that names it.
pub(crate) fn path(text: &str, base: &Path) -> PathBuf {
    base.join(text)
}

pub(super) fn paths(items: &[Box<str>], base: &Path) -> Result<Vec<PathBuf>, String> {
    let all = items
        .iter()
        .map(|item| if item.is_empty() { Err("has an empty path".to_owned()) } else { Ok(path(item, base)) });
    all.collect()
}

/// `allow 10.0.0.0/8` or `deny all`.
pub(super) fn access(text: &str) -> Result<AccessRule, String> {
    let wrong = || format!("takes rules such as \"allow 10.0.0.0/8\" or \"deny all\", not {}", quoted(text));
    let (verb, whom) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
    let allow = match verb {
        "allow" => true,
        "deny" => false,
        _ => return Err(wrong()),
    };
    match whom.trim() {
        "all" => Ok(AccessRule { allow, network: None }),
        whom => Ok(AccessRule { allow, network: Some(network(whom).map_err(|_| wrong())?) }),
    }
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().map(|network| network.trunc()).or_else(|_| one());
    network.map_err(|_| format!("takes networks such as 10.0.0.0/8 or fd00::/8, not {}", quoted(text)))
}

pub(super) fn networks(items: &[Box<str>]) -> Result<Vec<IpNet>, String> {
    items.iter().map(|item| network(item.trim())).collect()
}

/// `off`, or idle time, interval and probes.
pub(super) fn keep_alive(text: &str) -> Result<Option<(u32, u32, u32)>, String> {
    let wrong = || format!("takes off, or idle time, interval and probes such as 60s,10s,5, not {}", quoted(text));
    if matches!(text, "off" | "false") {
        return Ok(None);
    }
    let seconds = crate::Kind::Duration { min_ms: 1000, max_ms: 32_767_000 };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [idle, interval, probes] = parts[..] else { return Err(wrong()) };
    let time = |text| seconds.parse(text).map(|value| (value.number() / 1000) as u32).map_err(|_| wrong());
    let probes = probes.parse().ok().filter(|probes| (1..=127).contains(probes)).ok_or_else(wrong)?;
    Ok(Some((time(idle)?, time(interval)?, probes)))
}

/// Permissions in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let octal = text.strip_prefix("0o").unwrap_or(text);
    let plain = !octal.is_empty() && octal.len() <= 4 && octal.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(octal, 8).ok().filter(|mode| plain && *mode <= 0o777);
    mode.ok_or_else(|| format!("takes permissions in octal such as \"0660\", not {}", quoted(text)))
}

/// What stands in front of every topic of a listener's clients.
pub(super) fn mountpoint(text: &str) -> Result<Box<str>, String> {
    if text.contains(['+', '#']) || text.starts_with('$') || text.len() > 1024 {
        let shape = "takes the beginning of a topic, such as \"factory/\", without wildcards and not starting with $";
        return Err(format!("{shape}, not {}", quoted(text)));
    }
    Ok(text.into())
}

/// Path of an upgrade request.
pub(super) fn web_path(text: &str) -> Result<Box<str>, String> {
    let fits = text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits && !text.contains(['?', '#']) {
        Ok(text.into())
    } else {
        Err(format!("takes a path such as /mqtt, not {}", quoted(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, kind: Scheme) -> Result<String, String> {
        bind(text, kind, Path::new("/etc/b"), true).map(|places| format!("{places:?}"))
    }

    #[test]
    fn places_are_told_apart() {
        for (text, place) in [
            ("1883", "[Address([::]:1883), Address(0.0.0.0:1883)]"),
            (":1883", "[Address([::]:1883), Address(0.0.0.0:1883)]"),
            ("localhost:1", "[Address([::1]:1), Address(127.0.0.1:1)]"),
            ("127.0.0.1:1883", "[Address(127.0.0.1:1883)]"),
            ("[::1]:1883", "[Address([::1]:1883)]"),
            ("eth0:1883", "[Interface { name: \"eth0\", port: 1883 }]"),
            ("run/x.sock", "[Unix { path: \"/etc/b/run/x.sock\", mode: 432 }]"),
            ("systemd:mqtt", "[Inherited(\"mqtt\")]"),
        ] {
            assert_eq!(places(text, Scheme::Tcp), Ok(place.to_owned()), "{text}");
        }
        for text in [
            "",
            "x",
            "127.0.0.1",
            "99999",
            "+1883",
            "::1:1883",
            "300.0.0.1:1",
            "a.very.long.host.name:1",
            "systemd:",
            "/",
        ] {
            assert!(places(text, Scheme::Tcp).is_err(), "{text}");
        }
        let v4 = bind("1883", Scheme::Tcp, Path::new("/"), false).map(|places| format!("{places:?}"));
        assert_eq!(v4.as_deref(), Ok("[Address(0.0.0.0:1883)]"));
        assert!(places("/x", Scheme::Quic).is_err());
        assert!(places("1883", Scheme::Unix).is_err());
    }

    #[test]
    fn rules_name_a_network_or_all() {
        assert_eq!(access("deny all"), Ok(AccessRule { allow: false, network: None }));
        let rule = access("allow  10.1.2.3/8").expect("a rule");
        assert_eq!(rule.network.map(|network| network.to_string()).as_deref(), Some("10.0.0.0/8"));
        assert!(access("allow ::1").is_ok());
        for text in ["", "allow", "permit all", "allow 10.0.0.0/33", "deny everybody"] {
            assert!(access(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keep_alive_has_three_parts() {
        assert_eq!(keep_alive("60s,10s,5"), Ok(Some((60, 10, 5))));
        assert_eq!(keep_alive("off"), Ok(None));
        for text in ["", "60", "60s", "60s,10s", "60s,10s,0", "60s,10s,5,1", "1ms,1s,1"] {
            assert!(keep_alive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!((mode("0660"), mode("0o600"), mode("777")), (Ok(0o660), Ok(0o600), Ok(0o777)));
        for text in ["", "999", "1777", "rw-", "+66"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mountpoint_is_no_filter() {
        assert!(mountpoint("site/").is_ok() && mountpoint("").is_ok());
        assert!(mountpoint("a/+/").is_err() && mountpoint("$SYS/").is_err());
    }
}
