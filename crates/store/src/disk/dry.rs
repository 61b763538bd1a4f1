//! A folder of the file system that is only read: what is written to it stays in memory, and goes with it.
//!
//! A store that is opened on it does all that a start does, and so says what a start would find, with nothing changed. Also for
//! folders that may only be read, such as a backup on a medium of its own.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::real::LOCK;
use super::{Disk, DiskFile, RealDisk};

/// What of a file is kept together once a part of it was written.
const PAGE: usize = 4096;

/// A folder as it is, and changes to it in memory.
#[derive(Debug)]
pub(crate) struct DryDisk {
    /// Only ever read.
    below: RealDisk,
    root: PathBuf,
    /// Files that were opened, made or renamed; none for those that were removed.
    files: Mutex<BTreeMap<String, Option<Arc<DryFile>>>>,
}

impl DryDisk {
    /// A folder that is there.
    pub(crate) fn new(root: impl Into<PathBuf>) -> DryDisk {
        let root = root.into();
        DryDisk { below: RealDisk::at_folder(root.clone()), root, files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<DryFile>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, path: &str) -> io::Result<Arc<DryFile>> {
        let mut files = self.files();
        match files.get(path) {
            Some(Some(file)) => return Ok(Arc::clone(file)),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let below = File::open(self.root.join(path))?;
        let len = below.metadata()?.len();
        let file = Arc::new(DryFile {
            below: Some(below),
            state: Mutex::new(Written { len, below_len: len, pages: BTreeMap::new() }),
        });
        files.insert(path.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }
}

impl Disk for DryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(DryFile { below: None, state: Mutex::default() });
        self.files().insert(path.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path)?)
    }

    fn make_folder(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let there = match self.below.list(folder) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let mut names: BTreeSet<String> = there.into_iter().collect();
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        for (path, file) in self.files().iter() {
            let Some(name) = path.strip_prefix(&prefix).filter(|name| !name.contains('/')) else { continue };
            let _ = if file.is_some() { names.insert(name.to_owned()) } else { names.remove(name) };
        }
        Ok(names.into_iter().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files();
        files.insert(from.to_owned(), None);
        files.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.file(path)?;
        self.files().insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_folder(&self, _folder: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        // Whoever uses the folder has made it.
        let file = match File::open(self.root.join(LOCK)) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Some(Box::new(()))),
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(fault)) => Err(fault),
        }
    }

    /// None for what is in memory alone.
    fn real_path(&self, path: &str) -> Option<PathBuf> {
        match self.files().get(path) {
            Some(None) => None,
            Some(Some(file)) if file.is_changed() => None,
            _ => self.below.real_path(path),
        }
    }
}

#[derive(Debug)]
struct DryFile {
    below: Option<File>,
    state: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    len: u64,
    /// How much of the file below shows through.
    below_len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl DryFile {
    fn state(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_changed(&self) -> bool {
        let state = self.state();
        self.below.is_none() || !state.pages.is_empty() || state.len != state.below_len
    }

    /// What lies below, with zeros behind its end.
    fn read_below(&self, into: &mut [u8], offset: u64, below_len: u64) -> io::Result<()> {
        let there = usize::try_from(below_len.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
        let (shown, rest) = into.split_at_mut(there);
        rest.fill(0);
        match &self.below {
            Some(below) if there > 0 => super::real::read_at(below, shown, offset),
            _ => Ok(()),
        }
    }
}

/// Page of an offset, and where in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, usize::try_from(offset % PAGE as u64).unwrap_or(0))
}

impl DiskFile for DryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state();
        let end = offset.checked_add(into.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_below(into, offset, state.below_len)?;
        for (page, bytes) in state.pages.range(place(offset).0..=place(end).0) {
            let start = page * PAGE as u64;
            let (from, to) = (start.max(offset), (start + PAGE as u64).min(end));
            if from < to {
                let within = |at: u64, origin: u64| usize::try_from(at - origin).unwrap_or(0);
                into[within(from, offset)..within(to, offset)]
                    .copy_from_slice(&bytes[within(from, start)..within(to, start)]);
            }
        }
        Ok(())
    }

    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let mut state = self.state();
        while !bytes.is_empty() {
            let (page, within) = place(offset);
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE - within));
            if !state.pages.contains_key(&page) {
                let mut below = vec![0; PAGE].into_boxed_slice();
                self.read_below(&mut below, page * PAGE as u64, state.below_len)?;
                state.pages.insert(page, below);
            }
            if let Some(kept) = state.pages.get_mut(&page) {
                kept[within..within + now.len()].copy_from_slice(now);
            }
            offset += now.len() as u64;
            bytes = rest;
        }
        state.len = state.len.max(offset);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.len = len;
        state.below_len = state.below_len.min(len);
        let (page, within) = place(len);
        drop(state.pages.split_off(&(page + u64::from(within > 0))));
        if within > 0
            && let Some(last) = state.pages.get_mut(&page)
        {
            last[within..].fill(0);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_below_is_as_it_was() {
        let root = std::env::temp_dir().join(format!("breakwater-dry-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let content: Vec<u8> = (0..10_000_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(root.join("a"), &content).unwrap();
        let disk = DryDisk::new(&root);
        let file = disk.open("a").unwrap();
        let mut expected = content.clone();
        // A small chance of its own: offsets on both sides of pages.
        for step in 0..200_usize {
            let (at, len) = (step * 7919 % 12_000, step * 31 % 5000);
            if step % 17 == 16 {
                file.set_len(at as u64).unwrap();
                expected.resize(at, 0);
            } else if len > 0 {
                file.write_at(&vec![step as u8; len], at as u64).unwrap();
                expected.resize(expected.len().max(at + len), 0);
                expected[at..at + len].fill(step as u8);
            }
            let mut read = vec![0; expected.len()];
            file.read_at(&mut read, 0).unwrap();
            assert!(read == expected, "step {step}");
            assert!(file.read_at(&mut [0; 2], expected.len() as u64 - 1).is_err());
        }
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list("").unwrap(), ["b"]);
        assert!(disk.open("a").is_err() && disk.create("b").is_err() && disk.real_path("b").is_none());
        assert_eq!(std::fs::read(root.join("a")).unwrap(), content);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
