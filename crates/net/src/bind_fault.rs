//! Why a listener can't be had, in one line that says what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use breakwater_transport::tls::TlsConfigFault;

/// A listener that can't be opened or changed.
#[derive(Debug)]
pub struct BindFault {
    /// Its name.
    pub listener: Box<str>,
    /// The place that is at fault; empty if it is none of them.
    pub place: Box<str>,
    /// Why.
    pub cause: BindCause,
}

/// Why.
#[derive(Debug)]
pub enum BindCause {
    /// Another program, or a listener of this node, has the port.
    Taken {
        /// The port.
        port: u16,
        /// The listener of this node that has it.
        by: Option<Box<str>>,
    },
    /// The process may not bind this port.
    Privileged {
        /// The port.
        port: u16,
    },
    /// The machine does not have this address.
    NoSuchAddress,
    /// The machine has no interface of this name, or it has no address.
    NoSuchInterface {
        /// Those that have one.
        known: Vec<String>,
    },
    /// Another program listens on this unix socket.
    Live,
    /// A file stands at the path of a unix socket that is none.
    NotASocket,
    /// The folder of a unix socket does not exist.
    NoFolder,
    /// systemd has handed down no socket of this name.
    NotInherited {
        /// Those that it has handed down.
        known: Vec<Box<str>>,
    },
    /// The place is named twice.
    Twice,
    /// More places than this.
    TooMany(usize),
    /// No place at all.
    Nowhere,
    /// The node has a listener of this name already.
    NameTaken,
    /// The node has no listener of this name.
    NoSuchListener,
    /// The node has as many listeners as there are numbers for them.
    NoNumber,
    /// The node stops, or one of its shards takes no orders.
    Stopping,
    /// Its TLS can't be had; empty if it needs some and has none.
    Tls(Vec<TlsConfigFault>),
    /// What is asked for can't be done here.
    Unsupported(&'static str),
    /// Whatever else the system says.
    Other(io::Error),
}

impl BindCause {
    /// What a failed bind of an address means. `by` is the listener of this node that has it.
    pub(crate) fn of(fault: io::Error, address: SocketAddr, by: Option<Box<str>>) -> Self {
        let port = address.port();
        match fault.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { port, by },
            io::ErrorKind::PermissionDenied if (1..1024).contains(&port) => Self::Privileged { port },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress,
            _ => Self::Other(fault),
        }
    }
}

impl BindCause {
    /// The machine knows no such kind of address.
    pub(crate) fn is_missing_family(&self) -> bool {
        #[cfg(unix)]
        if let Self::Other(fault) = self {
            return fault.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        }
        matches!(self, Self::NoSuchAddress)
    }
}

impl From<io::Error> for BindCause {
    fn from(fault: io::Error) -> Self {
        Self::Other(fault)
    }
}

impl fmt::Display for BindFault {
    /// One line: what is wrong and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {}", self.listener)?;
        if !self.place.is_empty() {
            write!(f, " can't listen on {}", self.place)?;
        }
        write!(f, ": {}", self.cause)
    }
}

impl fmt::Display for BindCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { port, by: Some(by) } => {
                write!(f, "listener {by} of this broker has port {port}; choose another port for one of them")
            }
            Self::Taken { port, by: None } => write!(
                f,
                "port {port} is taken by another program; stop that one (`ss -lnp 'sport = :{port}'` shows it) or choose \
                 another port"
            ),
            Self::Privileged { port } => write!(
                f,
                "a port below 1024 takes a right that this process lacks; choose one above 1023, or give the right: \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, `setcap cap_net_bind_service=+ep` on the \
                 program, a systemd socket (bind = \"systemd:NAME\"), or `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            ),
            Self::Tls(faults) if faults.is_empty() => f.write_str("it needs TLS: set certificate and key"),
            Self::Tls(faults) => {
                let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
                f.write_str(&all.join("; "))
            }
            Self::NoSuchAddress => f.write_str(
                "this machine has no such address; `ip addr` lists those that it has, and 0.0.0.0 means all of them",
            ),
            Self::NoSuchInterface { known } => {
                write!(f, "this machine has no such interface with an address; those with one are {}", known.join(", "))
            }
            Self::Live => f.write_str("another program listens there; stop it, or choose another path"),
            Self::NotASocket => {
                f.write_str("a file that is no socket stands there; move it away, or choose another path")
            }
            Self::NoFolder => f.write_str("its folder does not exist; make it, or choose another path"),
            Self::NotInherited { known } if known.is_empty() => f.write_str(
                "systemd has handed down no socket; start the broker through its .socket unit (`systemctl enable --now \
                 breakwater.socket`)",
            ),
            Self::NotInherited { known } => write!(
                f,
                "systemd has handed down no socket of this name but {}; compare FileDescriptorName= in the .socket unit",
                known.join(", ")
            ),
            Self::Twice => f.write_str("this place is given twice; leave one out"),
            Self::TooMany(most) => {
                write!(f, "more than {most} places to listen at; spread them over several listeners")
            }
            Self::Nowhere => f.write_str("it has no place to listen at; give it one (bind = \"1883\")"),
            Self::NameTaken => {
                f.write_str("there is a listener of this name already; change that one, or choose another name")
            }
            Self::NoSuchListener => f.write_str("there is no listener of this name"),
            Self::NoNumber => f.write_str("there are too many listeners; close some"),
            Self::Stopping => f.write_str("the broker is stopping"),
            Self::Unsupported(text) => f.write_str(text),
            Self::Other(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for BindFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            BindCause::Other(fault) => Some(fault),
            _ => None,
        }
    }
}
