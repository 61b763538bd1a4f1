//! Listening sockets: one per shard and address, so that the kernel spreads connections and shards share nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpListener;
use socket2::{Domain, Socket, Type};

use crate::Options;

/// One address that is listened on, by all shards.
#[derive(Debug)]
pub struct Listening {
    /// The address as it is bound, with the port that was found if it was asked for as 0.
    pub address: SocketAddr,
    pub(crate) sockets: Vec<TcpListener>,
}

/// An address that can't be listened on.
#[derive(Debug)]
pub struct BindFault {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// Listens on every address, with a socket for each shard.
///
/// All or nothing: the first address that can't be had is the answer, and the others are released.
pub fn bind(addresses: &[SocketAddr], shards: u16, options: &Options) -> Result<Vec<Listening>, BindFault> {
    addresses
        .iter()
        .map(|&address| {
            let only_v6 = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
            bind_one(address, only_v6, shards, options).map_err(|source| BindFault { address, source })
        })
        .collect()
}

fn bind_one(address: SocketAddr, only_v6: bool, shards: u16, options: &Options) -> io::Result<Listening> {
    // Sockets that share a port don't notice another program of ours on it: this one, which doesn't share, does.
    drop(socket(address, only_v6, false)?);
    let first = socket(address, only_v6, PORT_PER_SHARD)?;
    let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        let next = if PORT_PER_SHARD { socket(address, only_v6, true)? } else { sockets[0].try_clone()? };
        sockets.push(next);
    }
    let listen = |socket: Socket| {
        // Inherited by accepted connections on Linux, which saves a call for each.
        socket.set_tcp_nodelay(options.nodelay)?;
        socket.listen(options.backlog)?;
        Ok(TcpListener::from_std(socket.into()))
    };
    Ok(Listening { address, sockets: sockets.into_iter().map(listen).collect::<io::Result<_>>()? })
}

/// Elsewhere the kernel gives all connections to one of the sockets that share a port: there shards share one socket.
const PORT_PER_SHARD: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn socket(address: SocketAddr, only_v6: bool, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Old connections that wait for their end must not keep a restarted broker from its port. On Windows the option means
    // something else: that anybody may take the port.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_reuse_port(share)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = share;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

impl fmt::Display for BindFault {
    /// One line: what is wrong and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, port) = (self.address, self.address.port());
        write!(f, "can't listen on tcp://{address}: ")?;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "port {port} is taken by another program; stop that one (`ss -ltnp 'sport = :{port}'` shows it) or choose \
                 another port: --listen tcp://{}:PORT",
                Host(self.address.ip())
            ),
            io::ErrorKind::PermissionDenied => {
                write!(f, "not permitted; choose a port above 1023, or give the program the right to bind port {port}")
            }
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "this machine has no such address; `ip addr` lists those that it has, and 0.0.0.0 means all of them"
            ),
            _ => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for BindFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An address as it stands in front of a port.
struct Host(IpAddr);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn all_shards_listen_on_the_port_that_was_found() {
        let bound = bind(&[any_port()], 3, &Options::default()).expect("a free port");
        assert_ne!(bound[0].address.port(), 0);
        assert_eq!(bound[0].sockets.len(), 3);
        for socket in &bound[0].sockets {
            assert_eq!(socket.local_addr().expect("bound"), bound[0].address);
        }
    }

    #[test]
    fn a_port_that_another_broker_shares_is_taken() {
        let first = bind(&[any_port()], 2, &Options::default()).expect("a free port");
        let fault = bind(&[first[0].address], 2, &Options::default()).expect_err("the port is taken");
        let text = fault.to_string();
        assert!(text.contains("taken") && text.contains("--listen tcp://127.0.0.1:PORT"), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let address = SocketAddr::from(([192, 0, 2, 1], 0));
        let fault = bind(&[address], 1, &Options::default()).expect_err("an address for documentation only");
        assert!(fault.to_string().contains("no such address"), "{fault}");
    }

    #[test]
    fn a_port_is_free_again_when_the_listener_is_dropped() {
        let first = bind(&[any_port()], 2, &Options::default()).expect("a free port");
        let address = first[0].address;
        drop(first);
        assert!(bind(&[address], 2, &Options::default()).is_ok());
    }
}
