//! The bad clients: plain sockets on loopback, and loads of the generator.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Broker;

pub(super) struct Attack {
    pub(super) name: &'static str,
    /// For the table.
    pub(super) text: &'static str,
    /// Threads of this process: told the port, and when to stop.
    threads: &'static [fn(u16, &AtomicBool)],
    /// `breakwater bench` with these arguments.
    bench: &'static [&'static str],
    /// It goes to the listener that speaks TLS.
    tls: bool,
}

impl Attack {
    pub(super) fn is_quiet(&self) -> bool {
        self.threads.is_empty() && self.bench.is_empty()
    }
}

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "quiet", text: "nobody", threads: &[], bench: &[], tls: false },
    Attack {
        name: "ping flood",
        text: "four clients send PINGREQ as fast as they can",
        threads: &[ping_flood, ping_flood, ping_flood, ping_flood],
        bench: &[],
        tls: false,
    },
    Attack {
        name: "subscribe flood",
        text: "four clients subscribe and unsubscribe as fast as they can",
        threads: &[subscribe_flood, subscribe_flood, subscribe_flood, subscribe_flood],
        bench: &[],
        tls: false,
    },
    Attack {
        name: "readers of # that stall",
        text: "20 readers of `#` that never read, and 10,000 messages of 1 KiB per second",
        threads: &[stalled_readers],
        bench: &["pair", "--rate", "10000", "--size", "1024", "--duration", "600", "--topic", "flood"],
        tls: false,
    },
    Attack {
        name: "slow loris",
        text: "5,000 connections that send one byte of a CONNECT per second",
        threads: &[slow_loris],
        bench: &[],
        tls: false,
    },
    Attack {
        name: "connect flood",
        text: "clients that connect and leave, as fast as they can",
        threads: &[],
        bench: &["conn", "-n", "1000", "--cycles", "100000", "--sources", "100"],
        tls: false,
    },
    Attack {
        name: "handshake storm",
        text: "TLS handshakes with the listener beside, as fast as one core of the generator makes them",
        threads: &[],
        bench: &["conn", "-n", "1000", "--cycles", "100000", "--sources", "100"],
        tls: true,
    },
    Attack {
        name: "fan-out 1:1000",
        text: "fan-out 1 to 1,000, 100,000 deliveries per second",
        threads: &[],
        bench: &["fan-out", "-n", "1000", "--rate", "100", "--duration", "600", "--topic", "fan"],
        tls: false,
    },
];

/// An attack under way.
pub(super) struct Attacker {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    bench: Option<Child>,
}

impl Attacker {
    pub(super) fn start(attack: &Attack, broker: &Path, target: &Broker) -> Result<Self> {
        let port = if attack.tls { target.tls_port } else { target.port };
        let over = Arc::new(AtomicBool::new(false));
        let threads = attack.threads.iter().map(|work| {
            let over = Arc::clone(&over);
            let work = *work;
            std::thread::spawn(move || work(port, &over))
        });
        let threads = threads.collect();
        let bench = if attack.bench.is_empty() {
            None
        } else {
            let mut command = Command::new(broker);
            command.arg("bench").args(attack.bench).args(["--quiet", "--id-prefix", "bad"]);
            command.args(["--port", &port.to_string()]);
            if attack.tls {
                command.args(["--over", "tls", "--cafile"]).arg(target.authority());
            }
            Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
        };
        Ok(Self { over, threads, bench })
    }

    pub(super) fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(child) = &mut self.bench {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// 3.1.1, clean session, no keep-alive, an identifier that the broker makes up.
const CONNECT: &[u8] = &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0];
/// A thread that can't go on looks this often whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// A client, or `None` if the broker won't have it.
fn client(port: u16) -> Option<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(CONNECT).ok()?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).ok()?;
    (connack == [0x20, 2, 0, 0]).then_some(stream)
}

/// Writes what `next` gives and throws the answers away, until it is over.
fn flood(port: u16, over: &AtomicBool, mut next: impl FnMut() -> Vec<u8>) {
    while !over.load(Ordering::Relaxed) {
        let Some(mut stream) = client(port) else {
            std::thread::sleep(PATIENCE);
            continue;
        };
        let Ok(mut answers) = stream.try_clone() else { return };
        let reader = std::thread::spawn(move || {
            let mut sink = vec![0; 64 * 1024];
            loop {
                match answers.read(&mut sink) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if is_timeout(&error) => {}
                    Err(_) => return,
                }
            }
        });
        let mut bytes = next();
        while !over.load(Ordering::Relaxed) {
            match stream.write(&bytes) {
                Ok(count) => drop(bytes.drain(..count)),
                Err(error) if is_timeout(&error) => {}
                Err(_) => break,
            }
            if bytes.is_empty() {
                bytes = next();
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
        let _ = reader.join();
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn ping_flood(port: u16, over: &AtomicBool) {
    flood(port, over, || [0xC0, 0].repeat(16 * 1024));
}

fn subscribe_flood(port: u16, over: &AtomicBool) {
    let mut number = 0_u32;
    flood(port, over, || {
        let mut bytes = Vec::new();
        for _ in 0..500 {
            number = number.wrapping_add(1);
            let filter = format!("flood/{:08}/+", number);
            let length = filter.len() as u8;
            bytes.extend([0x82, length + 5, 0, 1, 0, length]);
            bytes.extend(filter.as_bytes());
            bytes.push(0);
            bytes.extend([0xA2, length + 4, 0, 1, 0, length]);
            bytes.extend(filter.as_bytes());
        }
        bytes
    });
}

fn stalled_readers(port: u16, over: &AtomicBool) {
    const READERS: usize = 20;
    const SUBSCRIBE: &[u8] = &[0x82, 6, 0, 1, 0, 1, b'#', 1];
    let mut readers: Vec<(TcpStream, Instant)> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        // The broker ends each after ten seconds: another one comes.
        readers.retain(|(_, since)| since.elapsed() < Duration::from_secs(11));
        if readers.len() < READERS
            && let Some(mut stream) = client(port)
            && stream.write_all(SUBSCRIBE).is_ok()
        {
            readers.push((stream, Instant::now()));
            continue;
        }
        std::thread::sleep(PATIENCE);
    }
}

fn slow_loris(port: u16, over: &AtomicBool) {
    const CONNECTIONS: usize = 5000;
    let mut open: Vec<(TcpStream, usize)> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let round = Instant::now();
        while open.len() < CONNECTIONS && !over.load(Ordering::Relaxed) {
            let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { break };
            open.push((stream, 0));
        }
        // Closed by the broker: its place is taken by a new one in the next round.
        open.retain_mut(|(stream, sent)| {
            let byte = CONNECT.get(*sent).copied();
            *sent += 1;
            byte.is_some_and(|byte| stream.write_all(&[byte]).is_ok())
        });
        while round.elapsed() < Duration::from_secs(1) && !over.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
        }
    }
}
