//! Brokers that keep what they are given: started on an empty or a full data directory, asked, killed, stopped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::peer::{free_port, mosquitto};

/// Far beyond what any start takes.
const START: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keeper {
    /// Ours, with the disk having what is acknowledged.
    Fsync,
    /// Ours, with the operating system having it.
    Os,
    /// Its default: all is written twice an hour and at a stop.
    Mosquitto,
    /// All is written every second.
    MosquittoEachSecond,
}

impl Keeper {
    pub(super) const ALL: [Keeper; 4] = [Keeper::Fsync, Keeper::Os, Keeper::Mosquitto, Keeper::MosquittoEachSecond];

    pub(super) fn parse(name: &str) -> Result<Keeper> {
        let found = Keeper::ALL.into_iter().find(|peer| peer.name() == name);
        found.with_context(|| format!("no peer `{name}`; there are fsync, os, mosquitto and mosquitto-1s"))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Keeper::Fsync => "fsync",
            Keeper::Os => "os",
            Keeper::Mosquitto => "mosquitto",
            Keeper::MosquittoEachSecond => "mosquitto-1s",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Keeper::Fsync | Keeper::Os)
    }

    pub(super) fn settings(self) -> String {
        match self {
            Keeper::Fsync | Keeper::Os => {
                format!("breakwater, `--shards 2 --set store.durability={} {}`", self.name(), flags().join(" "))
            }
            Keeper::Mosquitto | Keeper::MosquittoEachSecond => {
                format!("{}, {}", MOSQUITTO.trim().replace('\n', ", "), autosave(self))
            }
        }
    }

    pub(super) fn loses(self) -> &'static str {
        match self {
            Keeper::Fsync => "nothing acknowledged",
            Keeper::Os => "nothing in a crash of the broker; the last seconds in a power cut",
            Keeper::Mosquitto => "all since the last save, up to half an hour of acknowledged messages",
            Keeper::MosquittoEachSecond => "about a second of acknowledged messages",
        }
    }
}

/// Room for what the rows put in.
const SET: [&str; 7] = [
    "mqtt.max_inflight=1000",
    "mqtt.receive_maximum=1000",
    "queue.max_messages=20000000",
    "queue.max_bytes=4095MB",
    "limits.memory=16GB",
    "retained.max_messages=20000000",
    "retained.max_bytes=16GB",
];

fn flags() -> Vec<String> {
    SET.iter().flat_map(|pair| ["--set".to_owned(), (*pair).to_owned()]).collect()
}

const MOSQUITTO: &str = "\
allow_anonymous true
max_inflight_messages 1000
max_queued_messages 0
max_queued_bytes 0
log_type error
persistence true
";

fn autosave(peer: Keeper) -> &'static str {
    if peer == Keeper::Mosquitto { "autosave_interval 1800" } else { "autosave_interval 1" }
}

/// Where the programs and their data are.
pub(super) struct Stable {
    pub(super) broker: PathBuf,
    pub(super) cache: PathBuf,
}

impl Stable {
    pub(super) fn prepare(&self, peers: &[Keeper]) -> Result<()> {
        fs::create_dir_all(&self.cache)?;
        if !self.broker.is_file() {
            bail!("{} is not there: run `cargo build --release` first", self.broker.display());
        }
        if peers.iter().any(|peer| !peer.is_ours()) && mosquitto().is_none() {
            bail!("mosquitto is missing: install it with `apt-get install mosquitto`, or leave it out with --peers");
        }
        Ok(())
    }

    pub(super) fn version(&self, peer: Keeper) -> String {
        let mut command = if peer.is_ours() {
            let mut command = Command::new(&self.broker);
            command.arg("version");
            command
        } else {
            let mut command = Command::new(mosquitto().unwrap_or(Path::new("mosquitto")));
            command.arg("-h");
            command
        };
        let text = command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default().lines().next().unwrap_or("version unknown").to_owned()
    }

    pub(super) fn start_empty(&self, peer: Keeper) -> Result<Running> {
        let folder = self.cache.join(format!("keeps-{}", peer.name()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        self.start_again(peer, &folder).map(|(running, _)| running)
    }

    /// Also tells how long it took until a client was let in.
    pub(super) fn start_again(&self, peer: Keeper, folder: &Path) -> Result<(Running, Duration)> {
        let port = free_port()?;
        let mut command;
        if peer.is_ours() {
            command = Command::new(&self.broker);
            command.args(["serve", "--listen", &format!("tcp://127.0.0.1:{port}"), "--log", "error", "--shards", "2"]);
            command.args(["--set", &format!("store.durability={}", peer.name())]).args(flags());
            command.arg("--data").arg(folder);
        } else {
            let path = self.cache.join(format!("keeps-{}.conf", peer.name()));
            let place = format!("listener {port} 127.0.0.1\npersistence_location {}/\nuser root\n", folder.display());
            fs::write(&path, format!("{place}{MOSQUITTO}{}\n", autosave(peer)))?;
            command = Command::new(mosquitto().context("mosquitto has gone")?);
            command.arg("-c").arg(path);
        }
        let log = fs::File::create(self.cache.join(format!("keeps-{}.log", peer.name())))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", peer.name()))?;
        let mut running =
            Running { child, port, ours: peer.is_ours().then(|| self.broker.clone()), folder: folder.to_owned() };
        running.await_connack(began)?;
        Ok((running, began.elapsed()))
    }
}

/// A broker that runs until this is dropped.
pub(super) struct Running {
    child: Child,
    pub(super) port: u16,
    ours: Option<PathBuf>,
    folder: PathBuf,
}

impl Running {
    fn await_connack(&mut self, began: Instant) -> Result<()> {
        // MQTT 3.1.1, clean session, no keep alive, "first".
        const CONNECT: &[u8] = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05first";
        while began.elapsed() < START {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended at once with {status}");
            }
            if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                stream.set_read_timeout(Some(START))?;
                let mut connack = [0; 4];
                if stream.write_all(CONNECT).and_then(|()| stream.read_exact(&mut connack)).is_ok() {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("does not let anybody in on port {}", self.port)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Anonymous memory: pages of files that the kernel lends are not what a message costs.
    pub(super) fn resident(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }

    /// Bytes that it has caused to be written.
    pub(super) fn written(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        Ok(text.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("no write_bytes")?.parse()?)
    }

    /// Syncs of our log so far, and bytes written into it.
    pub(super) fn syncs(&self) -> Option<(f64, f64)> {
        let output = Command::new(self.ours.as_ref()?).arg("metrics").arg("--data").arg(&self.folder).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let metric = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some((metric("breakwater_store_syncs_total ")?, metric("breakwater_store_logged_bytes_total ")?))
    }

    /// Has Mosquitto write all that it holds.
    pub(super) fn lay_down(&mut self) {
        if self.ours.is_none() {
            let _ = Command::new("kill").args(["-USR1", &self.child.id().to_string()]).status();
            // It does so when it comes round, and says nothing.
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    pub(super) fn on_disk(&self) -> f64 {
        size(&self.folder) as f64
    }

    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn stop(&mut self, patience: Duration) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let until = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("does not stop");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Bytes of blocks, since files may have holes.
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
