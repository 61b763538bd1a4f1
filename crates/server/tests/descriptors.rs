//! A broker that has no descriptors left, over real sockets.
#![forbid(unsafe_code)]
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A broker that may have so many descriptors, and its port.
struct Starved(Child, u16);

impl Starved {
    fn start(descriptors: u32) -> Self {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" serve --listen tcp://127.0.0.1:0 --shards 2");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_breakwater")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh is there");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines
            .find_map(|line| line.ok().filter(|line| line.contains("listening")))
            .expect("the banner names the port");
        let (_, rest) = line.split_once("tcp://127.0.0.1:").expect("an address");
        let port = rest.split_whitespace().next().and_then(|port| port.parse().ok()).expect("a port");
        Self(child, port)
    }

    /// Connects and sends a CONNECT of 3.1.1 without a name.
    fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).expect("the queue has room");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        // It may be turned away while we write.
        let _ = stream.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00");
        stream
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_let_in(stream: &mut TcpStream) -> bool {
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).is_ok() && connack == *b"\x20\x02\x00\x00"
}

fn is_alive(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 2];
    stream.write_all(b"\xc0\x00").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"\xd0\x00"
}

#[test]
fn without_descriptors_accepting_pauses_and_clients_notice_nothing() {
    let mut broker = Starved::start(64);
    let mut clients: Vec<TcpStream> = (0..16).map(|_| broker.connect()).collect();
    assert!(clients.iter_mut().all(is_let_in));
    let crowd: Vec<TcpStream> = (0..100).map(|_| broker.connect()).collect();
    let mut log = BufReader::new(broker.0.stderr.take().expect("piped")).lines();
    let told = log.find_map(|line| line.ok().filter(|line| line.contains("can't accept connections")));
    assert!(told.expect("it says so").contains("ulimit -n"));
    assert!(clients.iter_mut().all(is_alive), "those who are in are served");
    drop(crowd);
    // Whoever still waits in the queue is turned away or served; then there is room again.
    assert!((0..200).any(|_| is_let_in(&mut broker.connect())), "accepting goes on");
    assert!(clients.iter_mut().all(is_alive));
}
