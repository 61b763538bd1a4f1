//! Places to listen at, as they are wanted: interfaces turned into addresses, and nothing twice.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use crate::bind_fault::BindCause;
use crate::listener::Bind;

/// One place. Two that are equal need no second socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An address; `only_v6` leaves IPv4 on the same port to another socket.
    Address { address: SocketAddr, only_v6: bool },
    /// A unix socket.
    Unix { path: PathBuf, mode: u32 },
    /// What systemd has opened under this name.
    Inherited(Box<str>),
}

/// Places of one listener, at most.
const PLACES_MAX: usize = 64;

/// The places that `binds` stand for. A fault comes with the place that it is about.
pub(crate) fn wanted(binds: &[Bind]) -> Result<Vec<Wanted>, (Box<str>, BindCause)> {
    if binds.is_empty() {
        return Err(("".into(), BindCause::Nowhere));
    }
    let mut places = Vec::new();
    for bind in binds {
        match bind {
            Bind::Address(address) => places.push(Wanted::Address { address: *address, only_v6: false }),
            Bind::Interface { name, port } => {
                let addresses = interface(name).map_err(|cause| (format!("{name}:{port}").into(), cause))?;
                let place = |ip| Wanted::Address { address: with_port(ip, *port), only_v6: false };
                places.extend(addresses.into_iter().map(place));
            }
            Bind::Unix { path, mode } => places.push(Wanted::Unix { path: path.clone(), mode: *mode }),
            Bind::Inherited(name) => places.push(Wanted::Inherited(name.clone())),
        }
    }
    if places.len() > PLACES_MAX {
        return Err(("".into(), BindCause::TooMany(PLACES_MAX)));
    }
    let addresses: Vec<SocketAddr> = places.iter().filter_map(Wanted::address).collect();
    for place in &mut places {
        if let Wanted::Address { address, only_v6 } = place {
            let beside = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
            *only_v6 = address.is_ipv6() && addresses.iter().any(beside);
        }
    }
    for (at, place) in places.iter().enumerate() {
        // Any number of sockets may ask for a port that the system chooses.
        let chosen = place.address().is_some_and(|address| address.port() == 0);
        if !chosen && places[..at].contains(place) {
            return Err((place.to_string().into(), BindCause::Twice));
        }
    }
    Ok(places)
}

impl Wanted {
    /// All of IPv6 where all of IPv4 is wanted on the same port, too.
    pub(crate) fn is_ipv6_beside_ipv4(&self) -> bool {
        matches!(self, Self::Address { address, only_v6: true } if address.ip().is_unspecified())
    }

    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address { address, .. } => Some(*address),
            Self::Unix { .. } | Self::Inherited(_) => None,
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, .. } => address.fmt(f),
            Self::Unix { path, .. } => path.display().fmt(f),
            Self::Inherited(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// An address of an interface, with the number of the interface where the address means nothing without.
type Scoped = (IpAddr, u32);

fn interface(name: &str) -> Result<Vec<Scoped>, BindCause> {
    let all = if_addrs::get_if_addrs()?;
    let of_it = all.iter().filter(|interface| interface.name == name);
    let addresses: Vec<Scoped> = of_it.map(|interface| (interface.ip(), interface.index.unwrap_or(0))).collect();
    if addresses.is_empty() {
        let mut known: Vec<String> = all.into_iter().map(|interface| interface.name).collect();
        known.sort();
        known.dedup();
        return Err(BindCause::NoSuchInterface { known });
    }
    Ok(addresses)
}

fn with_port((ip, scope): Scoped, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, scope).into(),
        ip => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Bind {
        Bind::Address(text.parse().expect("an address"))
    }

    #[test]
    fn ipv6_leaves_ipv4_alone_where_that_has_a_socket_of_its_own() {
        let only_v6 = |binds: &[Bind]| -> Vec<bool> {
            let places = wanted(binds).expect("two places");
            places.iter().map(|place| matches!(place, Wanted::Address { only_v6: true, .. })).collect()
        };
        assert_eq!(only_v6(&[at("[::]:1883"), at("0.0.0.0:1883")]), [true, false]);
        assert_eq!(only_v6(&[at("[::]:1883"), at("0.0.0.0:1884")]), [false, false]);
        assert_eq!(only_v6(&[at("[::]:1883")]), [false]);
        let beside = |binds: &[Bind]| wanted(binds).expect("places")[0].is_ipv6_beside_ipv4();
        assert!(beside(&[at("[::]:1883"), at("0.0.0.0:1883")]));
        assert!(!beside(&[at("[::]:1883")]) && !beside(&[at("[::1]:1883"), at("0.0.0.0:1883")]));
    }

    #[test]
    fn a_place_is_wanted_once() {
        let fault = wanted(&[at("127.0.0.1:1883"), at("127.0.0.1:1883")]).expect_err("twice");
        assert!(matches!(fault, (place, BindCause::Twice) if &*place == "127.0.0.1:1883"));
        assert_eq!(wanted(&[at("127.0.0.1:0"), at("127.0.0.1:0")]).map(|places| places.len()).ok(), Some(2));
        assert!(matches!(wanted(&[]), Err((_, BindCause::Nowhere))));
    }

    #[test]
    fn an_interface_stands_for_its_addresses() {
        let all = if_addrs::get_if_addrs().expect("interfaces");
        let Some(loopback) = all.iter().find(|interface| interface.is_loopback()) else { return };
        let bind = Bind::Interface { name: loopback.name.as_str().into(), port: 1 };
        let places = wanted(&[bind]).expect("it has an address");
        assert!(places.iter().any(|place| place.address() == Some(SocketAddr::new(loopback.ip(), 1))));
        let fault = wanted(&[Bind::Interface { name: "no-such-0".into(), port: 1 }]).expect_err("none of that name");
        assert!(matches!(fault, (_, BindCause::NoSuchInterface { known }) if known.contains(&loopback.name)));
    }
}
