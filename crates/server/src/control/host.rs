//! The node's end of the socket.

use std::fs;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::{Answer, Request};

/// What a node can be asked to do.
pub(crate) trait Operations: Send + Sync {
    /// Does it. May take a while: it is called on a thread of the socket's own.
    fn answer(&self, request: Request) -> Answer;
}

/// Longest request.
const REQUEST_BYTES_MAX: u64 = 256 * 1024;

/// Who asks nothing for that long is hung up on.
const IDLE: Duration = Duration::from_secs(60);

/// Connections at once.
const CONNECTIONS_MAX: usize = 16;

/// An open socket. Its file goes when this is dropped.
pub(crate) struct Host {
    path: PathBuf,
}

/// Opens the socket. A stale one is replaced; a live one means that another broker has this data directory.
///
/// The socket does not keep the node alive: once it is gone, nobody is answered.
pub(crate) fn open(path: &Path, node: &Arc<dyn Operations>) -> Result<Host, String> {
    let listener = bind(path).map_err(|fault| match fault.kind() {
        ErrorKind::AddrInUse => taken(path),
        _ => format!("can't open the control socket {}: {fault}", path.display()),
    })?;
    let (busy, node) = (Arc::new(AtomicUsize::new(0)), Arc::downgrade(node));
    let body = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if busy.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                busy.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (node, done) = (Weak::clone(&node), Arc::clone(&busy));
            let serve = move || {
                let _ = converse(&stream, &node);
                done.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().name("control".into()).spawn(serve).is_err() {
                busy.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    thread::Builder::new()
        .name("control".into())
        .spawn(body)
        .map_err(|fault| format!("can't start the thread of the control socket: {fault}"))?;
    Ok(Host { path: path.to_owned() })
}

/// Whether a broker answers there.
pub(crate) fn is_answered(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// What to say of a data directory that another broker has.
pub(crate) fn taken(path: &Path) -> String {
    format!(
        "another broker runs with this data directory ({} is answered); stop that one, or give this one its own with --data",
        path.display()
    )
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if is_answered(path) {
        return Err(ErrorKind::AddrInUse.into());
    }
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let listener = UnixListener::bind(path)?;
    // The data directory is for its owner alone, so nobody slips in before this.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers line by line until the other side has had enough.
fn converse(stream: &UnixStream, node: &Weak<dyn Operations>) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut reader).take(REQUEST_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => {
                let Some(node) = node.upgrade() else { return Ok(()) };
                node.answer(request)
            }
            Err(fault) => Answer::Refused { faults: vec![format!("this is not a request: {fault}")] },
        };
        let mut text = serde_json::to_string(&answer).map_err(io::Error::other)?;
        text.push('\n');
        (&mut &*stream).write_all(text.as_bytes())?;
        if !line.ends_with('\n') {
            // Cut off at the bound: what follows can't be told from the next request.
            return Ok(());
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask;
    use super::*;

    struct Echo;

    impl Operations for Echo {
        fn answer(&self, request: Request) -> Answer {
            Answer::Done { lines: vec![format!("{request:?}")] }
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("breakwater-control-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder of our own");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_node_answers_its_owner_and_goes_with_its_file() {
        let folder = Folder::new("answers");
        let socket = super::super::path(&folder.0);
        let node: Arc<dyn Operations> = Arc::new(Echo);
        let host = open(&socket, &node).expect("it opens");
        assert_eq!(fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777, 0o600);
        let answer = ask(&folder.0, &Request::Drain { listener: "tcp.default".into(), over_ms: 5 });
        assert!(matches!(answer, Ok(Answer::Done { lines }) if lines[0].contains("tcp.default")));
        drop(host);
        assert!(ask(&folder.0, &Request::Status).expect_err("it is gone").contains("no broker runs"));
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let folder = Folder::new("stale");
        let socket = super::super::path(&folder.0);
        drop(UnixListener::bind(&socket).expect("a socket that nobody answers"));
        let node: Arc<dyn Operations> = Arc::new(Echo);
        let _host = open(&socket, &node).expect("the stale one is replaced");
        assert!(open(&socket, &node).err().expect("it is alive").contains("another broker"));
    }

    #[test]
    fn nonsense_is_answered_with_what_is_wrong() {
        let folder = Folder::new("nonsense");
        let socket = super::super::path(&folder.0);
        let node: Arc<dyn Operations> = Arc::new(Echo);
        let _host = open(&socket, &node).expect("it opens");
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(b"{\"request\":\"explode\"}\n").expect("it reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("it answers");
        assert!(line.contains("refused") && line.contains("explode"), "{line}");
    }
}
