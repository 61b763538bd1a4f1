//! The socket at the bottom.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Outgoing, Scheme, Target};
use crate::exit::Exit;
use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn connect(target: &Target) -> Result<Socket, Failure> {
        if target.scheme == Scheme::Unix {
            return unix(target);
        }
        let stream = dial(&target.host, target.port)?;
        stream.set_nodelay(true).map_err(|fault| super::refused(target, &fault))?;
        Ok(Socket::Tcp(stream))
    }

    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(|address| address.to_string()).unwrap_or_default(),
            #[cfg(unix)]
            Self::Unix(_) => String::new(),
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            #[cfg(unix)]
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    pub(super) fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write)),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outgoing for Socket {
    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn cut(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

#[cfg(unix)]
fn unix(target: &Target) -> Result<Socket, Failure> {
    UnixStream::connect(&target.socket).map(Socket::Unix).map_err(|fault| {
        let path = target.socket.display();
        Failure::new(
            Exit::USAGE,
            match fault.kind() {
                ErrorKind::NotFound => {
                    format!("there is no socket {path}: is the server's listener unix://{path} open?")
                }
                ErrorKind::ConnectionRefused => format!("nobody listens at {path}: start the server there"),
                ErrorKind::PermissionDenied => format!("you may not use {path}: ask for the permission to write to it"),
                _ => format!("can't connect to {path}: {fault}"),
            },
        )
    })
}

#[cfg(not(unix))]
fn unix(_target: &Target) -> Result<Socket, Failure> {
    Err(Failure::usage("this system has no unix sockets: connect over TCP with -h and -p"))
}

fn dial(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(_) => {
            return Err(Failure::new(
                Exit::USAGE,
                format!("can't find the host {host:?}: check the name given with -h"),
            ));
        }
    };
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    let text = match last.kind() {
        ErrorKind::ConnectionRefused => {
            format!("nothing listens at {host}:{port}: start the server there, or give another address with -h and -p")
        }
        ErrorKind::TimedOut => format!("{host}:{port} doesn't answer: check the address and the firewall"),
        _ => format!("can't connect to {host}:{port}: {last}"),
    };
    Err(Failure::new(Exit::USAGE, text))
}
