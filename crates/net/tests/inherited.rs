//! Sockets that were opened before the process began, as systemd does it.
//!
//! The test runs itself once more, through a shell that puts sockets where systemd would.
#![forbid(unsafe_code)]
#![cfg(unix)]

#[path = "echo/engine.rs"]
mod engine;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use breakwater_net::{Bind, BindCause, BoundTo, Ending, ListenerOptions, Options};
use engine::{connect, echo, serve};

/// Tells the second run from the first.
const SECOND: &str = "BREAKWATER_TEST_INHERITED";

/// Said when connections may come.
const READY: &str = "the sockets are served";

/// The first run hands the sockets down; the second one serves them until two connections have come and gone.
#[test]
fn sockets_that_systemd_has_opened_are_served_and_survive_a_close() {
    if std::env::var_os(SECOND).is_some() {
        return serve_inherited();
    }
    let folder = std::env::temp_dir().join(format!("breakwater-inherited-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("bound");
    let unix = UnixListener::bind(&path).expect("a free path");
    let script = "exec 3<&0 4<&2 0</dev/null 2>&1; LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" --exact \
                  sockets_that_systemd_has_opened_are_served_and_survive_a_close --nocapture";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this program"))
        .env(SECOND, "yes")
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "mqtt:local")
        .stdin(Stdio::from(OwnedFd::from(tcp)))
        .stderr(Stdio::from(OwnedFd::from(unix)))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut said = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(READY) {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("text"), 0, "the child ended early");
    }
    let mut stream = connect(address);
    echo(&mut stream, b"through the port");
    let mut local = UnixStream::connect(&path).expect("it listens");
    local.write_all(b"through the file").expect("the node reads");
    let mut back = [0; 16];
    local.read_exact(&mut back).expect("the node echoes");
    assert_eq!(&back, b"through the file");
    drop((stream, local));
    said.read_to_string(&mut line).expect("text");
    assert!(child.wait().expect("the child ends").success(), "{line}");
    assert!(path.exists(), "the file is systemd's");
    std::fs::remove_dir_all(&folder).expect("ours");
}

fn serve_inherited() {
    breakwater_net::take_inherited();
    assert!(std::env::var_os("LISTEN_FDS").is_none(), "no child takes them for its own");
    let (node, _, _) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let named = |name: &str| ListenerOptions {
        name: format!("tcp.{name}").into(),
        bind: vec![Bind::Inherited(name.into())],
        ..ListenerOptions::default()
    };
    let fault = handle.open(named("other")).expect_err("none of that name");
    assert!(matches!(&fault.cause, BindCause::NotInherited { known } if known.len() == 2), "{fault}");
    handle.open(named("mqtt")).expect("it was handed down");
    handle.close("tcp.mqtt", Ending::Cut).expect("it is open");
    handle.open(named("mqtt")).expect("systemd has it open still");
    handle.open(named("local")).expect("it was handed down");
    let bound = |name: &str| {
        let all = handle.listeners();
        all.into_iter().find(|one| &*one.options.name == name).map(|one| one.bound)
    };
    assert!(matches!(bound("tcp.mqtt").as_deref(), Some([BoundTo::Address(_)])));
    assert!(matches!(bound("tcp.local").as_deref(), Some([BoundTo::Unix(_)])));
    writeln!(std::io::stdout(), "{READY}").expect("somebody reads");
    let served = || handle.listeners().iter().filter(|one| one.accepted > 0 && one.connections == 0).count();
    while served() < 2 {
        std::thread::yield_now();
    }
    node.stop(Duration::ZERO);
    node.join();
}
