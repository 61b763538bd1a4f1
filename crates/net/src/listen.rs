//! Listening sockets: one per shard and address, so that the kernel spreads connections and shards share nothing.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::bind_fault::{BindCause, BindFault};
use crate::inherited;
use crate::listener::{ListenerOptions, SocketOptions};
use crate::place::{self, Wanted};
use crate::quic::{Again, Udp};
use crate::roll::Terms;
#[cfg(unix)]
use crate::unix::{self, SocketFile};

/// A listener whose sockets are bound: ready to be handed to a node.
pub struct Listening {
    pub(crate) terms: Terms,
    pub(crate) places: Vec<Place>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundTo {
    /// An address as it is bound, with the port that was found if it was asked for as 0.
    Address(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// One place that is listened at, with a socket for each shard.
pub(crate) struct Place {
    pub(crate) wanted: Wanted,
    pub(crate) bound: BoundTo,
    pub(crate) sockets: Vec<EarSocket>,
    /// For QUIC, which has one socket for all.
    pub(crate) udp: Option<Udp>,
    /// Removed when the place is left.
    #[cfg(unix)]
    pub(crate) file: Option<SocketFile>,
}

/// A place that is taken by a listener of this node.
pub(crate) struct Held {
    pub(crate) listener: Box<str>,
    pub(crate) bound: BoundTo,
}

/// A listening socket of one shard.
pub(crate) enum EarSocket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(mio::net::UnixListener),
}

/// Binds listeners, each with a socket per shard and address.
///
/// A listener comes whole or not at all; those that can't be had are told, one fault each, and keep nothing.
pub fn bind(listeners: Vec<ListenerOptions>, shards: u16) -> (Vec<Listening>, Vec<BindFault>) {
    let (mut bound, mut faults, mut held): (Vec<Listening>, _, Vec<Held>) = (Vec::new(), Vec::new(), Vec::new());
    for options in listeners {
        let fault = |cause| BindFault { listener: options.name.clone(), place: "".into(), cause };
        if bound.iter().any(|listening| listening.terms.options.name == options.name) {
            faults.push(fault(BindCause::NameTaken));
            continue;
        }
        let terms = Terms::load(options, None);
        let listening = terms.and_then(|terms| {
            let places = bind_places(&terms.options, &[], &held, shards, &|_| None)?;
            Ok(Listening { terms, places })
        });
        match listening {
            Ok(listening) => {
                let name = &listening.terms.options.name;
                let places = listening.places.iter();
                held.extend(places.map(|place| Held { listener: name.clone(), bound: place.bound.clone() }));
                bound.push(listening);
            }
            Err(fault) => faults.push(fault),
        }
    }
    (bound, faults)
}

/// Binds the places of a listener but for those that it has already. `again` knows ports of QUIC that a closed listener still has.
pub(crate) fn bind_places(
    options: &ListenerOptions,
    kept: &[Wanted],
    held: &[Held],
    shards: u16,
    again: &dyn Fn(SocketAddr) -> Option<Again>,
) -> Result<Vec<Place>, BindFault> {
    let fault = |place: Box<str>, cause| BindFault { listener: options.name.clone(), place, cause };
    let wanted = place::wanted(&options.bind).map_err(|(place, cause)| fault(place, cause))?;
    let mut places = Vec::new();
    for wanted in wanted.into_iter().filter(|wanted| !kept.contains(wanted)) {
        let (name, dispensable) = (wanted.to_string().into_boxed_str(), wanted.is_ipv6_beside_ipv4());
        match bind_one(options, wanted, held, shards, again) {
            Ok(found) => places.extend(found),
            // A machine without IPv6: IPv4 on the same port is all that there is.
            Err(cause) if dispensable && cause.is_missing_family() => {}
            Err(cause) => return Err(fault(name, cause)),
        }
    }
    Ok(places)
}

/// One place; an inherited name may stand for several.
fn bind_one(
    options: &ListenerOptions,
    wanted: Wanted,
    held: &[Held],
    shards: u16,
    again: &dyn Fn(SocketAddr) -> Option<Again>,
) -> Result<Vec<Place>, BindCause> {
    match &wanted {
        Wanted::Address { address, only_v6 } if options.protocols.quic => {
            let (udp, bound) = match udp(*address, *only_v6, &options.socket) {
                Ok(socket) => (socket.local_addr().map(|bound| (Udp::Bound(socket), bound)))?,
                Err(fault) => {
                    let again = again(*address).filter(|_| fault.kind() == io::ErrorKind::AddrInUse);
                    (Udp::Again(again.ok_or_else(|| BindCause::of(fault, *address, None))?), *address)
                }
            };
            Ok(vec![Place { udp: Some(udp), ..Place::new(wanted, BoundTo::Address(bound), Vec::new()) }])
        }
        _ if options.protocols.quic => Err(BindCause::Unsupported("QUIC listens on addresses only")),
        Wanted::Address { address, only_v6 } => {
            // Sockets that share a port with an own one of before are no mistake: that one is about to go.
            let own = held.iter().any(|held| held.listener == options.name && held.overlaps(*address));
            let tcp = Tcp { address: *address, only_v6: *only_v6, options: &options.socket };
            let (bound, sockets) = tcp.listen(own, shards).map_err(|fault| {
                let by = held.iter().find(|held| held.overlaps(*address)).map(|held| held.listener.clone());
                BindCause::of(fault, *address, by)
            })?;
            Ok(vec![Place::new(wanted, BoundTo::Address(bound), sockets)])
        }
        #[cfg(unix)]
        Wanted::Unix { path, mode } => {
            let bound = BoundTo::Unix(path.clone());
            if held.iter().any(|held| held.listener == options.name && held.bound == bound) {
                // Our own, about to go: it has other permissions.
                std::fs::remove_file(path)?;
            }
            let (socket, file) = unix::listen(path, *mode, options.socket.backlog)?;
            let sockets =
                shared(&socket, shards, |socket| EarSocket::Unix(mio::net::UnixListener::from_std(socket.into())))?;
            Ok(vec![Place { file: Some(file), ..Place::new(wanted, bound, sockets) }])
        }
        #[cfg(not(unix))]
        Wanted::Unix { .. } => Err(BindCause::Unsupported("unix sockets don't exist on this system")),
        Wanted::Inherited(name) => inherited::sockets(name)?
            .into_iter()
            .map(|(socket, bound)| {
                let make = |socket| match bound {
                    #[cfg(unix)]
                    BoundTo::Unix(_) => EarSocket::Unix(mio::net::UnixListener::from_std(Socket::into(socket))),
                    _ => EarSocket::Tcp(TcpListener::from_std(Socket::into(socket))),
                };
                socket.set_nonblocking(true)?;
                if matches!(bound, BoundTo::Address(_)) {
                    set_up(&SockRef::from(&socket), &options.socket)?;
                }
                let sockets = shared(&socket, shards, make)?;
                Ok(Place::new(wanted.clone(), bound, sockets))
            })
            .collect(),
    }
}

/// One socket for all shards.
fn shared(socket: &Socket, shards: u16, make: impl Fn(Socket) -> EarSocket) -> io::Result<Vec<EarSocket>> {
    (0..shards).map(|_| Ok(make(socket.try_clone()?))).collect()
}

impl Place {
    fn new(wanted: Wanted, bound: BoundTo, sockets: Vec<EarSocket>) -> Self {
        Self {
            wanted,
            bound,
            sockets,
            udp: None,
            #[cfg(unix)]
            file: None,
        }
    }
}

impl Held {
    /// Whether both can't be listened on, but for sockets that agree to share.
    fn overlaps(&self, address: SocketAddr) -> bool {
        let BoundTo::Address(held) = self.bound else { return false };
        // `[::]` may take IPv4 as well.
        let covers =
            |wide: SocketAddr, other: SocketAddr| wide.ip().is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
        held.port() == address.port() && (held.ip() == address.ip() || covers(held, address) || covers(address, held))
    }
}

/// Buffers of a UDP socket, which all connections of a place share, unless the settings say otherwise. The kernel gives less
/// if its own bound is lower.
const UDP_BUFFER: u32 = 2 * 1024 * 1024;

fn udp(address: SocketAddr, only_v6: bool, options: &SocketOptions) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    let or_default = |bytes| if bytes == 0 { UDP_BUFFER } else { bytes };
    socket.set_recv_buffer_size(or_default(options.receive_buffer) as usize)?;
    socket.set_send_buffer_size(or_default(options.send_buffer) as usize)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Elsewhere the kernel gives all connections to one of the sockets that share a port: there shards share one socket.
const PORT_PER_SHARD: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// An address to listen on.
struct Tcp<'a> {
    address: SocketAddr,
    only_v6: bool,
    options: &'a SocketOptions,
}

impl Tcp<'_> {
    fn listen(&self, own: bool, shards: u16) -> io::Result<(SocketAddr, Vec<EarSocket>)> {
        if !own {
            // Sockets that share a port don't notice another program of ours on it: this one, which doesn't share, does.
            drop(self.socket(self.address, false)?);
        }
        let first = self.socket(self.address, PORT_PER_SHARD)?;
        let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut sockets = vec![first];
        for _ in 1..shards {
            let next = if PORT_PER_SHARD { self.socket(address, true)? } else { sockets[0].try_clone()? };
            sockets.push(next);
        }
        let listen = |socket: Socket| {
            set_up(&SockRef::from(&socket), self.options)?;
            socket.listen(self.options.backlog)?;
            Ok(EarSocket::Tcp(TcpListener::from_std(socket.into())))
        };
        Ok((address, sockets.into_iter().map(listen).collect::<io::Result<_>>()?))
    }

    fn socket(&self, address: SocketAddr, share: bool) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // Old connections that wait for their end must not keep a restarted broker from its port. On Windows the option
        // means something else: that anybody may take the port.
        if cfg!(unix) {
            socket.set_reuse_address(true)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_reuse_port(share)?;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = share;
        if address.is_ipv6() {
            socket.set_only_v6(self.only_v6)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    }
}

/// Sets what accepted connections inherit on Linux, which saves calls for each.
fn set_up(socket: &SockRef<'_>, options: &SocketOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    match options.keep_alive {
        Some((idle_s, interval_s, probes)) => {
            let keep_alive = TcpKeepalive::new().with_time(std::time::Duration::from_secs(idle_s.max(1).into()));
            #[cfg(any(
                target_os = "linux",
                target_os = "android",
                target_os = "macos",
                target_os = "freebsd",
                windows
            ))]
            let keep_alive = keep_alive.with_interval(std::time::Duration::from_secs(interval_s.max(1).into()));
            #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
            let keep_alive = keep_alive.with_retries(probes.max(1));
            let _ = (interval_s, probes);
            socket.set_tcp_keepalive(&keep_alive)?;
        }
        None => socket.set_keepalive(false)?,
    }
    // The kernel's own choice can't be had back once another was made, but by opening the listener anew.
    if options.receive_buffer > 0 {
        socket.set_recv_buffer_size(options.receive_buffer as usize)?;
    }
    if options.send_buffer > 0 {
        socket.set_send_buffer_size(options.send_buffer as usize)?;
    }
    Ok(())
}

impl EarSocket {
    /// Takes a connection. One of a unix socket has no address: it counts as one from this machine.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Tcp(socket) => socket.accept(),
            #[cfg(unix)]
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                Ok((TcpStream::from(std::os::fd::OwnedFd::from(stream)), unix::PEER))
            }
        }
    }

    /// Its peers are on this machine and have no addresses.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => registry.register(socket, token, interest),
            #[cfg(unix)]
            Self::Unix(socket) => registry.register(socket, token, interest),
        }
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => registry.deregister(socket),
            #[cfg(unix)]
            Self::Unix(socket) => registry.deregister(socket),
        }
    }

    /// Sets it up anew while it listens.
    pub(crate) fn adjust(&self, options: &SocketOptions) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(socket) => {
                let socket = SockRef::from(socket);
                set_up(&socket, options)?;
                socket
            }
            #[cfg(unix)]
            Self::Unix(socket) => SockRef::from(socket),
        };
        socket.listen(options.backlog)
    }
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound: Vec<&BoundTo> = self.places.iter().map(|place| &place.bound).collect();
        f.debug_struct("Listening")
            .field("name", &self.terms.options.name)
            .field("bound", &bound)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
