//! A store takes the place of another.
//!
//! It is made beside it first, and synced; then the two change names in one step: whatever happens on the way, there is a whole
//! store in its place, the old one or the new one. The old one is never removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use breakwater_store::sync_folder;

use crate::log;

/// A store that is being made.
pub(super) struct Swap {
    data: PathBuf,
    store: PathBuf,
    /// Where it is made; nobody has made it yet.
    pub(super) new: PathBuf,
    aside: PathBuf,
    pub(super) keep: Keep,
}

impl Swap {
    /// For the store of a data directory. What is made is called `store.<making>-<time>`, and what was there `store.<before>-<time>`.
    pub(super) fn begin(data: &Path, store: &Path, making: &str, before: &str) -> io::Result<Swap> {
        make(data)?;
        // 2026-11-25T19:15:00.123Z, without what names of files had better not have.
        let moment: String = log::now().chars().take_while(|c| *c != '.').filter(char::is_ascii_alphanumeric).collect();
        let new = free(data, &format!("store.{making}-{moment}"));
        let aside = free(data, &format!("store.{before}-{moment}"));
        let keep = Keep::like(if store.exists() { store } else { data })?;
        Ok(Swap { data: data.to_owned(), store: store.to_owned(), new, aside, keep })
    }

    /// Nothing has changed.
    pub(super) fn give_up(&self) {
        // Ours, and of no use to anybody. If it stays, its mark says so.
        let _ = fs::remove_dir_all(&self.new);
    }

    /// Puts it in its place. Answers where the store is that was there before.
    pub(super) fn finish(self) -> io::Result<Option<PathBuf>> {
        let Swap { data, store, new, aside, .. } = &self;
        sync_folder(data)?;
        if !store.exists() {
            fs::rename(new, store)?;
            sync_folder(data)?;
            return Ok(None);
        }
        // Such as a store that is a mount of its own: nothing has changed then, and the copy is ours.
        let exchanged =
            exchange(new, store).and_then(|done| if done { Ok(true) } else { one_by_one(new, store, aside) });
        if exchanged.inspect_err(|_| self.give_up())? {
            fs::rename(new, aside)?;
        }
        sync_folder(data)?;
        Ok(Some(self.aside))
    }
}

/// Where two names can't be exchanged. Between the two steps there is no store. Answers that nothing is left to be moved aside.
fn one_by_one(new: &Path, store: &Path, aside: &Path) -> io::Result<bool> {
    fs::rename(store, aside)?;
    fs::rename(new, store).inspect_err(|_| drop(fs::rename(aside, store)))?;
    Ok(false)
}

/// A name that nothing has.
fn free(data: &Path, name: &str) -> PathBuf {
    let numbered = (2..1000).map(|number| format!("{name}-{number}"));
    let names = std::iter::once(name.to_owned()).chain(numbered);
    names.map(|name| data.join(name)).find(|path| !path.exists()).unwrap_or_else(|| data.join(name))
}

/// The data directory, on a machine where no broker ran yet. It is for its owner alone.
fn make(data: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(data)
}

/// Whose the files are: whoever had the store, not whoever restores it.
pub(super) struct Keep {
    owner: Option<(u32, u32)>,
}

impl Keep {
    fn like(place: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let of = fs::metadata(place)?;
        let other = of.uid() != rustix::process::geteuid().as_raw();
        Ok(Self { owner: other.then_some((of.uid(), of.gid())) })
    }

    pub(super) fn folder(&self, path: &Path) -> io::Result<()> {
        self.set(path, 0o700)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<()> {
        self.set(path, 0o600)
    }

    fn set(&self, path: &Path, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        self.owner.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
    }
}

/// Two names change what they stand for, in one step. Answers false where the file system can't.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_one: &Path, _other: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_store_is_moved_aside_whether_or_not_names_can_be_exchanged() {
        let root = std::env::temp_dir().join(format!("breakwater-restore-{}", std::process::id()));
        let path = |name: &str| root.join(name);
        for exchanged in [true, false] {
            let _ = fs::remove_dir_all(&root);
            for name in ["store", "new"] {
                fs::create_dir_all(path(name)).expect("a folder of our own");
                fs::write(path(name).join(name), b"").expect("a file in it");
            }
            let (new, store, aside) = (path("new"), path("store"), path("aside"));
            if exchanged && exchange(&new, &store).expect("both are there") {
                fs::rename(&new, &aside).expect("it is there");
            } else {
                assert!(!one_by_one(&new, &store, &aside).expect("both are there"));
            }
            assert!(store.join("new").exists() && aside.join("store").exists() && !new.exists());
            assert!(one_by_one(&new, &store, &path("again")).is_err());
            assert!(store.join("new").exists(), "the store is in its place again");
        }
        fs::remove_dir_all(&root).expect("it is ours");
    }
}
