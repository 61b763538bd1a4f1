//! Unix sockets: a stale file is replaced, a live one is not, and ours goes with us.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::bind_fault::BindCause;

/// What stands for the address of a peer on a unix socket, which has none: whoever may open the file is on this machine, and
/// port 0 tells it from a real one.
pub(crate) const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The file of a socket that we have bound: removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another in its place. That one stays.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, with these permissions.
pub(crate) fn listen(path: &Path, mode: u32, backlog: i32) -> Result<(Socket, SocketFile), BindCause> {
    make_room(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?).map_err(|fault| match fault.kind() {
        io::ErrorKind::NotFound => BindCause::NoFolder,
        // Another one was quicker.
        io::ErrorKind::AddrInUse => BindCause::Live,
        _ => BindCause::Other(fault),
    })?;
    let found = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) };
    // Before it listens: nobody can connect until then.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// Removes what a broker that died has left behind.
fn make_room(path: &Path) -> Result<(), BindCause> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(fault) => return Err(fault.into()),
    };
    if !found.file_type().is_socket() {
        return Err(BindCause::NotASocket);
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindCause::Live),
        Err(fault) if fault.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full queue: somebody is there.
        Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => Err(BindCause::Live),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own for each test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("breakwater-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_owner() {
        let folder = Folder::new("mode");
        let path = folder.0.join("socket");
        let (socket, file) = listen(&path, 0o640, 8).expect("a free path");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o640);
        drop((socket, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = Folder::new("stale");
        let path = folder.0.join("socket");
        let (socket, file) = listen(&path, 0o600, 8).expect("a free path");
        assert!(matches!(listen(&path, 0o600, 8), Err(BindCause::Live)));
        // As after a crash: the file stays.
        std::mem::forget(file);
        drop(socket);
        assert!(path.exists());
        let (_socket, file) = listen(&path, 0o600, 8).expect("a stale one is no obstacle");
        assert!(UnixStream::connect(&path).is_ok());
        // Somebody else's now.
        fs::remove_file(&path).expect("ours");
        fs::write(&path, "other").expect("a file");
        drop(file);
        assert!(path.exists());
        assert!(matches!(listen(&path, 0o600, 8), Err(BindCause::NotASocket)));
        assert!(matches!(listen(&folder.0.join("none/socket"), 0o600, 8), Err(BindCause::NoFolder)));
    }
}
