//! What a start found wrong, said once and loudly.

use std::io;

use crate::disk::Disk;

/// Why a store can't be opened.
#[derive(Debug)]
pub enum OpenFault {
    /// Another process has the folder.
    Locked,
    /// A later version wrote it.
    Newer {
        /// Which file says so.
        path: String,
        /// Its version.
        version: u32,
    },
    /// The disk.
    Disk(io::Error),
}

impl From<io::Error> for OpenFault {
    fn from(fault: io::Error) -> OpenFault {
        OpenFault::Disk(fault)
    }
}

impl std::error::Error for OpenFault {}

impl std::fmt::Display for OpenFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenFault::Locked => {
                f.write_str("another process uses this store; stop it first, or give this one a folder of its own")
            }
            OpenFault::Newer { path, version } => {
                write!(f, "{path} has format {version}, which a later version of the broker wrote; use that one")
            }
            OpenFault::Disk(fault) => write!(f, "the store can't be read: {fault}"),
        }
    }
}

/// Something in a store that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its file, from the folder of the store; the log as a whole has none of its own.
    pub file: Box<str>,
    /// What is wrong with it.
    pub what: String,
    /// Who deals with it.
    pub mends: Mends,
}

/// What becomes of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mends {
    /// A start sets it aside and goes on with the rest.
    Start,
    /// Nobody: a start does not look there, and what reads it passes it over.
    Nobody,
}

/// What was found, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub told: Vec<String>,
    /// Losses.
    pub found: Vec<Finding>,
}

impl Findings {
    /// Something that was stored is gone.
    pub(crate) fn lost(&mut self, file: &str, what: &str) {
        self.told.push(format!("lost: {what}"));
        self.found(file, what.strip_prefix(file).unwrap_or(what).trim_start());
    }

    fn found(&mut self, file: &str, what: &str) {
        self.found.push(Finding { file: file.into(), what: what.to_owned(), mends: Mends::Start });
    }

    /// Gives a bad file another name.
    pub(crate) fn set_aside(&mut self, disk: &dyn Disk, path: &str, word: &str, why: &str) -> io::Result<()> {
        let aside = free_name(disk, &format!("{path}.bad-{word}"));
        disk.rename(path, &aside)?;
        disk.sync_folder(path.rsplit_once('/').map_or("", |(folder, _)| folder))?;
        self.found(path, why);
        self.told.push(format!("{path} was set aside as {aside}: {why}"));
        Ok(())
    }

    /// Keeps bytes that do not read, for whoever wants to look at them.
    pub(crate) fn keep_bytes(&mut self, disk: &dyn Disk, path: &str, position: u64, bytes: &[u8]) {
        let aside = format!("{path}.bad-{position}");
        let kept = disk.create(&aside).and_then(|file| file.write_at(bytes, 0));
        match kept {
            Ok(()) => self.told.push(format!("{} bytes that do not read were copied to {aside}", bytes.len())),
            // Told of at an earlier start.
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {}
            Err(fault) => self.told.push(format!("{aside} can't be written: {fault}")),
        }
    }
}

fn free_name(disk: &dyn Disk, wanted: &str) -> String {
    let taken = |name: &str| disk.open(name).is_ok();
    let numbered = (1..1000).map(|number| format!("{wanted}-{number}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_else(|| wanted.to_owned())
}
