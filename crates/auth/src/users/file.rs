//! The users file on disk: read as a whole, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use super::{FILE_BYTES_MAX, LineFault, Users};

/// Where the file is.
#[derive(Clone, Debug)]
pub struct UsersFile {
    path: PathBuf,
}

/// Why it can't be read or changed.
#[derive(Debug)]
pub enum FileFault {
    /// The system says no.
    Io {
        /// To what.
        doing: &'static str,
        /// Of which file.
        path: PathBuf,
        /// With which words.
        fault: io::Error,
    },
    /// It is not what it should be.
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        text: &'static str,
    },
    /// Lines of it can't be read.
    Lines {
        /// The file.
        path: PathBuf,
        /// Which ones.
        faults: Vec<LineFault>,
    },
    /// Whoever wanted to change it thought better of it.
    Declined(String),
}

impl FileFault {
    /// What to tell people, one line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Io { doing, path, fault } => vec![format!("can't {doing} {}: {fault}", path.display())],
            Self::Unfit { path, text } => vec![format!("{} {text}", path.display())],
            Self::Lines { path, faults } => faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect(),
            Self::Declined(text) => vec![text.clone()],
        }
    }
}

/// One state of a file: another one, or a changed one, differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

/// A second writer waits that long for the first, in steps.
const LOCK_STEPS: u32 = 100;
const LOCK_STEP: Duration = Duration::from_millis(50);

impl UsersFile {
    /// The one in this data directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        // A bare file name would have no directory that could be made or synced.
        let here = Path::new(".");
        Self { path: if directory == Path::new("") { here } else { directory }.join("users") }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. No file means no users.
    pub fn load(&self) -> Result<Users, FileFault> {
        self.load_stamped().map(|(users, _)| users)
    }

    /// With its stamp; none if there is no file.
    pub(crate) fn load_stamped(&self) -> Result<(Users, Option<Stamp>), FileFault> {
        let (bytes, stamp) = match self.read() {
            Ok(read) => read,
            Err(FileFault::Io { fault, .. }) if fault.kind() == io::ErrorKind::NotFound => {
                return Ok((Users::default(), None));
            }
            Err(fault) => return Err(fault),
        };
        match Users::parse(&bytes) {
            Ok(users) => Ok((users, Some(stamp))),
            Err(faults) => Err(FileFault::Lines { path: self.path.clone(), faults }),
        }
    }

    /// The stamp of the file that is there now.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata))
    }

    fn read(&self) -> Result<(Vec<u8>, Stamp), FileFault> {
        let io = |fault| FileFault::Io { doing: "read", path: self.path.clone(), fault };
        let unfit = |text| FileFault::Unfit { path: self.path.clone(), text };
        // Asked first: opening a pipe would wait for its writer.
        let there = fs::metadata(&self.path).map_err(io)?;
        if !there.is_file() {
            return Err(unfit("should be a file, and is something else"));
        }
        let file = File::open(&self.path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if writable_by_all(&metadata) {
            return Err(unfit(
                "can be changed by every user of this machine; `chmod 600` it after a look at its lines",
            ));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        Ok((bytes, Stamp::of(&metadata)))
    }

    /// Changes it: read, changed and written back under a lock, so that no other writer's change gets lost. The file is
    /// replaced at once or not at all, and is on disk when this returns.
    pub fn change<T>(&self, change: impl FnOnce(&mut Users) -> Result<T, String>) -> Result<T, FileFault> {
        let io = |doing, fault| FileFault::Io { doing, path: self.path.clone(), fault };
        if let Some(directory) = self.path.parent() {
            create_private(directory).map_err(|fault| FileFault::Io {
                doing: "make the directory",
                path: directory.into(),
                fault,
            })?;
        }
        let _lock = self.lock()?;
        let mut users = self.load()?;
        let answer = change(&mut users).map_err(FileFault::Declined)?;
        let text = users.to_text();
        if text.len() > FILE_BYTES_MAX {
            return Err(FileFault::Unfit { path: self.path.clone(), text: "would be larger than 64 MiB" });
        }
        self.replace(text.as_bytes()).map_err(|fault| io("write", fault))?;
        Ok(answer)
    }

    /// Held by the one who changes the file. It is a file of its own, because the other one is replaced.
    fn lock(&self) -> Result<File, FileFault> {
        let path = self.beside(".lock");
        let io = |fault| FileFault::Io { doing: "lock", path: path.clone(), fault };
        let file = private().create(true).truncate(false).open(&path).map_err(io)?;
        self.give_away(&file);
        for _ in 0..LOCK_STEPS {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => thread::sleep(LOCK_STEP),
                Err(fs::TryLockError::Error(fault)) => return Err(io(fault)),
            }
        }
        Err(FileFault::Unfit { path, text: "is held by another program that changes the users; try again" })
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let beside = self.beside(".new");
        // Of a writer that died: nobody else is here, by the lock.
        match fs::remove_file(&beside) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
        let mut file = private().create_new(true).open(&beside)?;
        self.give_away(&file);
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        sync_directory(&self.path)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        self.path.with_file_name(name)
    }

    /// A file that root makes belongs to whom the old one, or else the directory, belongs to: a broker that runs as somebody
    /// else must be able to read it. Others may not give files away, and need not.
    #[cfg(unix)]
    fn give_away(&self, file: &File) {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let model = fs::metadata(&self.path).ok().or_else(|| fs::metadata(self.path.parent()?).ok());
        if let Some(model) = model {
            let _ = fchown(file, Some(model.uid()), Some(model.gid()));
        }
    }

    #[cfg(not(unix))]
    fn give_away(&self, _file: &File) {}
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Options for files that only their owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// The new name is on disk, too.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn writable_by_all(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o002 != 0
}

#[cfg(not(unix))]
fn writable_by_all(_metadata: &fs::Metadata) -> bool {
    false
}
