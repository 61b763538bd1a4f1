//! A broker with a port of every kind.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::breakwater;
use crate::program::Program;

/// All of them on loopback, on ports that the system chose.
pub(crate) struct Ports {
    program: Program,
    pub(crate) folder: Folder,
}

/// A folder of this test, gone with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("breakwater-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for this test");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).expect("our own folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Ports {
    /// Starts with `--listen` for each of these schemes.
    pub(crate) fn open(schemes: &[&str]) -> Ports {
        let folder = Folder::new();
        let mut command = Self::command(&folder);
        for scheme in schemes {
            command.args(["--listen", &format!("{scheme}://127.0.0.1:0")]);
        }
        Self::start(folder, command)
    }

    /// Starts with this configuration. Listeners take port 0.
    pub(crate) fn configured(folder: Folder, text: &str) -> Ports {
        let file = folder.write("breakwater.toml", text);
        let mut command = Self::command(&folder);
        command.arg("--config").arg(file);
        Self::start(folder, command)
    }

    /// Starts again after an end without a word, with the same folder and configuration.
    pub(crate) fn killed_and_started(self) -> Ports {
        self.program.kill();
        let mut command = Self::command(&self.folder);
        command.arg("--config").arg(self.folder.file("breakwater.toml"));
        Self::start(self.folder, command)
    }

    fn command(folder: &Folder) -> Command {
        let mut command = breakwater();
        command.args(["serve", "--shards", "2", "--data"]).arg(folder.path());
        command.args(["--set", "mqtt.connect_timeout=1m"]);
        command
    }

    fn start(folder: Folder, mut command: Command) -> Ports {
        let program = Program::start(&mut command);
        program.line(|line| line.contains("started"));
        Ports { program, folder }
    }

    /// Address of the first listener of a scheme, as the banner tells it.
    pub(crate) fn address(&self, scheme: &str) -> String {
        let start = format!("{scheme}://");
        let line = self.program.line(|line| line.contains("listening") && line.contains(&start));
        let (_, rest) = line.split_once(&start).expect("just looked for");
        rest.split_whitespace().next().expect("an address behind it").to_owned()
    }

    pub(crate) fn port(&self, scheme: &str) -> String {
        let address = self.address(scheme);
        address.rsplit(':').next().expect("a port behind the address").to_owned()
    }

    /// For clients that check names: `localhost` is in the certificate, and so is the address.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port(scheme))
    }

    /// Certificate of the authority that the broker made at its first start.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.file("tls/ca.pem")
    }

    /// Waits for so many lines in its log.
    pub(crate) fn log_lines(&self, count: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.program.lines(count, wanted)
    }

    pub(crate) fn logs(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.program.line(wanted)
    }
}
