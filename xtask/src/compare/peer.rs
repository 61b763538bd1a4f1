//! Brokers under test: found, started on a free loopback port, stopped.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::row::Over;

/// How long a broker may take until it accepts connections.
const START: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    Breakwater,
    Mosquitto,
    /// The same with `set_tcp_nodelay true`: its default joins small packets, which saves it much work under load.
    MosquittoNodelay,
    Rumqttd,
    Relay,
}

impl Peer {
    pub(super) fn parse(name: &str) -> Result<Peer> {
        Ok(match name {
            "breakwater" => Peer::Breakwater,
            "mosquitto" => Peer::Mosquitto,
            "mosquitto-nodelay" => Peer::MosquittoNodelay,
            "rumqttd" => Peer::Rumqttd,
            "relay" => Peer::Relay,
            other => bail!("no peer `{other}`; there are breakwater, mosquitto, mosquitto-nodelay, rumqttd and relay"),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::Breakwater => "breakwater",
            Peer::Mosquitto => "mosquitto",
            Peer::MosquittoNodelay => "mosquitto-nodelay",
            Peer::Rumqttd => "rumqttd",
            Peer::Relay => "relay",
        }
    }
}

/// Where the programs are and how ours is set.
#[derive(Clone, Debug)]
pub(super) struct Stable {
    pub(super) broker: PathBuf,
    pub(super) bench: Vec<String>,
    pub(super) shards: u16,
    pub(super) set: Vec<String>,
    pub(super) cache: PathBuf,
}

/// A broker that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pub(super) port: u16,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stable {
    /// Fails with what to do where a program is missing; installs what may be installed.
    pub(super) fn prepare(&self, peer: Peer) -> Result<()> {
        match peer {
            Peer::Breakwater if !self.broker.is_file() => {
                bail!("{} is not there: run `cargo build --release` first", self.broker.display())
            }
            Peer::Mosquitto | Peer::MosquittoNodelay if mosquitto().is_none() => install_mosquitto(),
            Peer::Rumqttd if !self.rumqttd().is_file() => self.install_rumqttd(),
            _ => Ok(()),
        }
    }

    pub(super) fn version(&self, peer: Peer) -> String {
        let (mut command, pick): (Command, fn(&str) -> Option<&str>) = match peer {
            Peer::Breakwater => {
                let mut command = Command::new(&self.broker);
                command.arg("version");
                (command, |text| text.lines().next())
            }
            Peer::Mosquitto | Peer::MosquittoNodelay => {
                let mut command = Command::new(mosquitto().unwrap_or(Path::new("mosquitto")));
                command.arg("-h");
                (command, |text| text.lines().next())
            }
            Peer::Rumqttd => {
                let mut command = Command::new(self.rumqttd());
                command.arg("--version");
                (command, |text| text.lines().next())
            }
            Peer::Relay => return "copies bytes, parses nothing".into(),
        };
        let output = command.stdin(Stdio::null()).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        pick(&text).unwrap_or("version unknown").trim().to_owned()
    }

    /// What was set, in words for the table.
    pub(super) fn settings(&self, peer: Peer) -> String {
        match peer {
            Peer::Breakwater => format!("`--shards {} {}`", self.shards, self.set_flags().join(" ")),
            Peer::Mosquitto => format!("stock but for {}", MOSQUITTO.trim().replace('\n', ", ")),
            Peer::MosquittoNodelay => "the same and set_tcp_nodelay true".into(),
            Peer::Rumqttd => "max_inflight_count 1000, otherwise as its sample configuration".into(),
            Peer::Relay => "one thread".into(),
        }
    }

    fn set_flags(&self) -> Vec<String> {
        self.set.iter().flat_map(|pair| ["--set".to_owned(), pair.clone()]).collect()
    }

    /// Starts it with one port for MQTT over `over`.
    pub(super) fn start(&self, peer: Peer, over: Over) -> Result<Running> {
        let port = free_port()?;
        let mut command = match peer {
            Peer::Breakwater => {
                let mut command = Command::new(&self.broker);
                command.args(["serve", "--listen", &format!("{}://127.0.0.1:{port}", over.word()), "--log", "error"]);
                command.arg("--data").arg(self.data());
                command.args(["--shards", &self.shards.to_string()]).args(self.set_flags());
                command
            }
            Peer::Mosquitto | Peer::MosquittoNodelay => {
                let nodelay = if peer == Peer::MosquittoNodelay { "set_tcp_nodelay true\n" } else { "" };
                let tls = match over {
                    Over::Tls => {
                        // It may not read our key as anybody else.
                        let (certificate, key) = (self.certificate(), self.key());
                        format!("certfile {}\nkeyfile {}\nuser root\n", certificate.display(), key.display())
                    }
                    Over::Tcp | Over::Ws => String::new(),
                };
                let text = format!("listener {port} 127.0.0.1\n{tls}{MOSQUITTO}{nodelay}");
                let mut command = Command::new(mosquitto().context("mosquitto has gone")?);
                command.arg("-c").arg(self.config("mosquitto.conf", &text)?);
                command
            }
            Peer::Rumqttd => {
                let text = RUMQTTD.replace("PORT", &port.to_string());
                let mut command = Command::new(self.rumqttd());
                command.arg("-q").arg("-c").arg(self.config("rumqttd.toml", &text)?);
                command
            }
            Peer::Relay => {
                let mut command = self.bench_command();
                command.args(["relay", "--listen", &format!("127.0.0.1:{port}")]);
                if over == Over::Tls {
                    command.arg("--cert").arg(self.certificate()).arg("--key").arg(self.key());
                }
                command
            }
        };
        let log = fs::File::create(self.cache.join(format!("{}.log", peer.name())))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", peer.name()))?;
        let mut running = Running { child, port };
        running.await_port().with_context(|| format!("{}; see {}/{0}.log", peer.name(), self.cache.display()))?;
        Ok(running)
    }

    pub(super) fn bench_command(&self) -> Command {
        let mut command = Command::new(&self.bench[0]);
        command.args(&self.bench[1..]);
        command
    }

    fn config(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.cache.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Lets our broker make the certificate that all peers use.
    pub(super) fn make_certificate(&self) -> Result<()> {
        fs::create_dir_all(self.data())?;
        drop(self.start(Peer::Breakwater, Over::Tls)?);
        Ok(())
    }

    /// Data directory of our broker. What it makes for TLS on its first start serves all peers.
    fn data(&self) -> PathBuf {
        self.cache.join("data")
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }

    fn certificate(&self) -> PathBuf {
        self.data().join("tls/server.pem")
    }

    fn key(&self) -> PathBuf {
        self.data().join("tls/server.key")
    }

    fn rumqttd(&self) -> PathBuf {
        self.cache.join("bin/rumqttd")
    }

    fn install_rumqttd(&self) -> Result<()> {
        let mut command = Command::new("cargo");
        command.args(["install", "rumqttd", "--version", "0.20.0", "--root"]).arg(&self.cache);
        must(&mut command)
    }
}

impl Running {
    fn await_port(&mut self) -> Result<()> {
        let until = Instant::now() + START;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended at once with {status}");
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("does not accept connections on port {}", self.port)
    }
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(super) fn mosquitto() -> Option<&'static Path> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"]
        .map(Path::new)
        .into_iter()
        .find(|p| p.is_file())
}

fn install_mosquitto() -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends", "mosquitto"]);
    must(&mut command).context("mosquitto is missing: install it with `apt-get install mosquitto`")
}

fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

const MOSQUITTO: &str = "\
allow_anonymous true
max_inflight_messages 1000
max_queued_messages 0
max_queued_bytes 0
log_type error
persistence false
";

const RUMQTTD: &str = r#"
id = 0
[router]
id = 0
max_connections = 20010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:PORT"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 20480
max_inflight_count = 1000
dynamic_filters = true
"#;
