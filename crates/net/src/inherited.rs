//! Sockets that systemd has opened for us (`LISTEN_FDS`, `LISTEN_FDNAMES`).
//!
//! They are kept for the life of the process: systemd has them open too, and a listener that is closed may come back.

use std::sync::{Mutex, OnceLock, PoisonError};

use socket2::Socket;

use crate::bind_fault::BindCause;
use crate::listen::BoundTo;

struct Inherited {
    name: Box<str>,
    socket: Socket,
}

static SOCKETS: OnceLock<Mutex<Vec<Inherited>>> = OnceLock::new();

/// Takes over what the environment tells of, once, and removes that from the environment, so that no child takes it for its
/// own. Best called before other threads exist.
pub fn take_inherited() {
    SOCKETS.get_or_init(|| Mutex::new(take()));
}

/// Copies of all listening stream sockets of this name, and where they are bound.
pub(crate) fn sockets(name: &str) -> Result<Vec<(Socket, BoundTo)>, BindCause> {
    take_inherited();
    let kept = SOCKETS.get().expect("just taken").lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = Vec::new();
    for inherited in kept.iter().filter(|inherited| &*inherited.name == name) {
        let address = inherited.socket.local_addr()?;
        let bound = match (address.as_socket(), unix_path(&address)) {
            (Some(address), _) => BoundTo::Address(address),
            (None, path) => BoundTo::Unix(path.unwrap_or_default()),
        };
        found.push((inherited.socket.try_clone()?, bound));
    }
    if found.is_empty() {
        let mut known: Vec<Box<str>> = kept.iter().map(|inherited| inherited.name.clone()).collect();
        known.dedup();
        return Err(BindCause::NotInherited { known });
    }
    Ok(found)
}

#[cfg(unix)]
fn unix_path(address: &socket2::SockAddr) -> Option<std::path::PathBuf> {
    address.as_pathname().map(std::path::Path::to_path_buf)
}

#[cfg(not(unix))]
fn unix_path(_: &socket2::SockAddr) -> Option<std::path::PathBuf> {
    None
}

#[cfg(unix)]
fn take() -> Vec<Inherited> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut sockets = listenfd::ListenFd::from_env();
    let mut found = Vec::new();
    for at in 0..sockets.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or_else(|| at.to_string());
        let socket = match (sockets.take_tcp_listener(at), sockets.take_unix_listener(at)) {
            (Ok(Some(tcp)), _) => Socket::from(tcp),
            (_, Ok(Some(unix))) => Socket::from(std::os::fd::OwnedFd::from(unix)),
            // Something that we can't listen on.
            _ => continue,
        };
        found.push(Inherited { name: name.into(), socket });
    }
    found
}

#[cfg(not(unix))]
fn take() -> Vec<Inherited> {
    Vec::new()
}
