//! Where the configuration comes from on this machine: the file, the environment, the flags.

use std::net::{Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use breakwater_config::{CONFIG_VARIABLE, FILE_BYTES_MAX, Resolved, Sources, Surroundings, read_bounded};
use clap::Args;

use crate::{complain, foreign};

/// Where the configuration and the data are.
#[derive(Args, Clone, Default)]
pub(crate) struct Places {
    /// The configuration [default: the first of ./breakwater.toml, $XDG_CONFIG_HOME/breakwater/breakwater.toml,
    /// /etc/breakwater/breakwater.toml and breakwater.toml in the data directory that there is].
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Where the data are.
#[derive(Args, Clone, Default)]
pub(crate) struct Place {
    /// Where the broker keeps what it has [default: /var/lib/breakwater, or ~/.local/share/breakwater].
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
}

/// What the flags say besides.
#[derive(Args, Clone, Default)]
pub(crate) struct Overrides {
    /// Change a setting (docs/configuration.md lists them); may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub(crate) set: Vec<String>,
    /// Listen here, and nowhere else than these flags say; may be given more than once. Also tls, ws, wss, quic and unix.
    #[arg(long, value_name = "tcp://ADDR:PORT", global = true)]
    pub(crate) listen: Vec<String>,
}

impl Place {
    /// The directory, whether it exists or not.
    pub(crate) fn directory(&self) -> PathBuf {
        breakwater_config::data(self.data.as_deref(), |name| std::env::var_os(name), writable)
    }

    /// Flags that lead another command there, with a space in front; nothing if it goes there by itself.
    pub(crate) fn flags(&self) -> String {
        self.data.as_ref().map(|path| format!(" --data {}", path.display())).unwrap_or_default()
    }
}

impl Places {
    /// Path of the file, if there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let usual = breakwater_config::file(self.config.as_deref(), |name| std::env::var_os(name), Path::is_file);
        // What was changed while there was no file is kept with the data.
        usual.or_else(|| Some(self.own_file()).filter(|path| path.is_file()))
    }

    /// Where a file is made when a change has to be written and there is none.
    pub(crate) fn own_file(&self) -> PathBuf {
        self.surroundings().data.join("breakwater.toml")
    }

    /// The same, with the file that there is: should it be gone later, that is a fault and not another configuration.
    pub(crate) fn pinned(&self) -> Places {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Places { config: self.file().map(absolute), place: self.place.clone() }
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        let directory = std::env::current_dir().unwrap_or_default();
        // Where it is switched off, nothing can be bound to it.
        let ipv6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        Surroundings { data: directory.join(self.place.directory()), directory, ipv6, read: read_bounded }
    }

    /// Reads the file, if there is one, and the environment. The error is one line.
    pub(crate) fn sources(&self, overrides: &Overrides) -> Result<Sources, String> {
        let file = match self.file() {
            Some(path) => Some(understood(&path, read(&path).map_err(|fault| self.unreadable(&path, &fault))?)?),
            None => None,
        };
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok()?;
            // Whatever is no text is no value either, and is refused where the key is known.
            Some((name, value.to_string_lossy().into_owned()))
        };
        let environment = std::env::vars_os().filter_map(text).collect();
        Ok(Sources { file, environment, set: overrides.set.clone(), listen: overrides.listen.clone() })
    }

    fn unreadable(&self, path: &Path, fault: &str) -> String {
        let by_variable = self.config.is_none() && std::env::var_os(CONFIG_VARIABLE).is_some();
        let by = if by_variable { format!(" ({CONFIG_VARIABLE} names it)") } else { String::new() };
        format!("can't read the configuration {}{by}: {fault}", path.display())
    }

    /// All faults at once, one line each.
    pub(crate) fn resolve(&self, overrides: &Overrides) -> Result<Resolved, Vec<String>> {
        let sources = self.sources(overrides).map_err(|fault| vec![fault])?;
        breakwater_config::resolve(&sources, &self.surroundings()).map_err(|faults| lines(&faults))
    }
}

/// The text as one of ours. What another broker's file says that has no place in it is told as a warning.
fn understood(path: &Path, text: String) -> Result<(Arc<Path>, String), String> {
    let Some(imported) = foreign::read(path, &text, None)? else { return Ok((Arc::from(path), text)) };
    for remark in &imported.remarks {
        complain(&format!("warning: {}: {remark}", path.display()));
    }
    // Lines that faults name are those of the result, not of the file.
    let name = format!("{}, imported", path.file_name().unwrap_or_default().to_string_lossy());
    Ok((Arc::from(path.with_file_name(name).as_path()), imported.toml.to_string()))
}

/// Text of a file; what is too long is refused later, with the place.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let bytes = read_bounded(path, FILE_BYTES_MAX + 1).map_err(|fault| fault.to_string())?;
    String::from_utf8(bytes).map_err(|fault| format!("byte {} is not UTF-8", fault.utf8_error().valid_up_to() + 1))
}

pub(crate) fn lines(faults: &[breakwater_config::Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// Whether we may write there, or make it.
#[cfg(unix)]
fn writable(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    let root = rustix::process::geteuid().is_root();
    root || (path.is_dir() && access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

#[cfg(not(unix))]
fn writable(path: &Path) -> bool {
    path.is_dir()
}
