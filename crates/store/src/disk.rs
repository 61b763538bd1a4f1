//! The files under a store, real or simulated. Paths are relative to the store's folder, with `/` between parts.
//!
//! What holds of every disk: written bytes last only once their file is synced, and a name only once its folder is.

mod dry;
mod real;
mod simulated;

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use dry::DryDisk;
pub use real::{RealDisk, sync_folder};
pub use simulated::{Crash, Fault, FaultKind, SimulatedDisk};

/// A folder with files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// Those of the disk; if it is there.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// Those of the disk; if it is not there.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a folder unless it is there, and makes its name last.
    ///
    /// # Errors
    /// Those of the disk.
    fn make_folder(&self, path: &str) -> io::Result<()>;

    /// Names of the files in a folder, sorted.
    ///
    /// # Errors
    /// Those of the disk.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Gives a file another name, in place of whatever had it.
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder last.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Takes the folder for this process, or answers that somebody else has it. It is given back with what is returned.
    ///
    /// # Errors
    /// Those of the disk.
    fn lock(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;

    /// Where a path really lies, for messages and for copies; none on a simulated disk.
    fn real_path(&self, path: &str) -> Option<PathBuf>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length.
    ///
    /// # Errors
    /// Those of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Whether it holds nothing.
    ///
    /// # Errors
    /// Those of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `into` with what lies at `offset`.
    ///
    /// # Errors
    /// Those of the disk; if the file is too short.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes, beyond the end too.
    ///
    /// # Errors
    /// Those of the disk. Part of it may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros.
    ///
    /// # Errors
    /// Those of the disk.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written last (fdatasync). After an error nobody knows what lasts: the file is not to be written again.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync(&self) -> io::Result<()>;
}
