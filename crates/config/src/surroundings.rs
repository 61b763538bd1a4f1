//! What the configuration has to know of the machine that it is for.

use std::io;
use std::path::{Path, PathBuf};

/// Where things are, and how a file is read. Tests bring files of their own.
#[derive(Clone)]
pub struct Surroundings {
    /// Directory of what the broker keeps.
    pub data: PathBuf,
    /// Working directory: paths in flags and variables are relative to it.
    pub directory: PathBuf,
    /// The machine has IPv6.
    pub ipv6: bool,
    /// Reads a file, at most so many bytes of it.
    pub read: fn(&Path, usize) -> io::Result<Vec<u8>>,
}

/// Longest secret in a file.
const SECRET_BYTES_MAX: usize = 4096;

impl Surroundings {
    /// A secret that stands alone in a file; white space at its end doesn't count.
    pub(crate) fn secret(&self, path: &Path) -> Result<Box<str>, String> {
        let wrong = |what: &str| format!("{}: {what}", path.display());
        let bytes = (self.read)(path, SECRET_BYTES_MAX + 1).map_err(|fault| wrong(&fault.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("holds no text"))?;
        let secret = text.trim_end();
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Err(wrong("holds no secret of 1 to 4096 bytes"));
        }
        Ok(secret.into())
    }
}

/// Reads a file up to a bound; what is longer is cut there, one byte beyond what is allowed.
pub fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
