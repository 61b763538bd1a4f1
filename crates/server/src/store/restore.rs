//! A backup takes the place of the store.
//!
//! It is copied beside the store first, synced, and then the two change names in one step: whatever happens on the way, there is a
//! whole store in its place, the old one or the new one. The old one is never removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use breakwater_store::{Disk as _, RealDisk, UNFINISHED, sync_folder};

use super::{Faults, findings, folder_of, look, runs};
use crate::log;

/// Puts a backup in the place of the store. Answers what to tell.
pub(super) fn restore(data: &Path, from: &Path, damaged: bool) -> Result<String, Faults> {
    let store = folder_of(data);
    let in_use = || {
        vec![format!("a broker uses {}; stop it, restore, and start it again: nothing was changed", store.display())]
    };
    if runs(data) {
        return Err(in_use());
    }
    if let (Ok(one), Ok(other)) = (fs::canonicalize(&store), fs::canonicalize(from))
        && one == other
    {
        return Err(vec![format!("{} is the store itself, and not a backup", from.display())]);
    }
    let backup = look(from).map_err(|fault| vec![format!("{fault}; nothing was changed")])?;
    let found = findings(&backup)?;
    if !found.is_empty() && !damaged {
        let mut faults: Faults =
            found.iter().map(|row| format!("{}: {}: {}", from.display(), row.file, row.what)).collect();
        let text =
            "the backup is damaged: nothing was changed; take another one, or lose what does not read with --damaged";
        faults.push(text.to_owned());
        return Err(faults);
    }
    let stats = backup.stats().map_err(|fault| vec![format!("{}: {fault}", from.display())])?;
    let failed = |fault: io::Error| vec![format!("{}: {fault}", store.display())];
    let _lock = if store.exists() {
        Some(RealDisk::new(&store).and_then(|disk| disk.lock()).map_err(failed)?.ok_or_else(in_use)?)
    } else {
        None
    };
    let aside = put(data, from, &store)
        .map_err(|fault| vec![format!("{} can't be replaced: {fault}; what was there is there", store.display())])?;
    let (place, from) = (store.display(), from.display());
    let mut text = format!(
        "{place} holds what {from} holds: {} retained messages, {} sessions; start the broker\n",
        stats.retained, stats.sessions
    );
    if let Some(aside) = aside {
        text += &format!("what was there before is {}; remove it when nobody needs it any more\n", aside.display());
    }
    Ok(text)
}

/// Answers where the store is that was there before.
fn put(data: &Path, from: &Path, store: &Path) -> io::Result<Option<PathBuf>> {
    make(data)?;
    // 2026-11-25T19:15:00.123Z, without what names of files had better not have.
    let moment: String = log::now().chars().take_while(|c| *c != '.').filter(char::is_ascii_alphanumeric).collect();
    let new = free(data, &format!("store.restoring-{moment}"));
    let aside = free(data, &format!("store.before-restore-{moment}"));
    let keep = Keep::like(if store.exists() { store } else { data })?;
    if let Err(fault) = copy(from, &new, &keep) {
        // Ours, and of no use to anybody. If it stays, its mark says so.
        let _ = fs::remove_dir_all(&new);
        return Err(fault);
    }
    sync_folder(data)?;
    if !store.exists() {
        fs::rename(&new, store)?;
        sync_folder(data)?;
        return Ok(None);
    }
    // Such as a store that is a mount of its own: nothing has changed then, and the copy is ours.
    let exchanged =
        exchange(&new, store).and_then(|done| if done { Ok(true) } else { one_by_one(&new, store, &aside) });
    if exchanged.inspect_err(|_| drop(fs::remove_dir_all(&new)))? {
        fs::rename(&new, &aside)?;
    }
    sync_folder(data)?;
    Ok(Some(aside))
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

/// Copies what belongs to a store, and makes it last.
fn copy(from: &Path, to: &Path, keep: &Keep) -> io::Result<()> {
    fs::create_dir(to)?;
    keep.folder(to)?;
    let mark = to.join(UNFINISHED);
    File::create(&mark)?.sync_all()?;
    fs::create_dir(to.join("log"))?;
    keep.folder(&to.join("log"))?;
    sync_folder(to)?;
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        fs::copy(&from, &to)?;
        keep.file(&to)?;
        File::open(&to)?.sync_all()?;
    }
    sync_folder(&to.join("log"))?;
    fs::remove_file(&mark)?;
    sync_folder(to)
}

/// What belongs to a store: not its lock, and not what a start has set aside.
fn names(store: &Path) -> io::Result<Vec<PathBuf>> {
    let index = PathBuf::from("index.redb");
    let mut names = if store.join(&index).exists() { vec![index] } else { Vec::new() };
    let entries = match fs::read_dir(store.join("log")) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let path = Path::new("log").join(entry?.file_name());
        if path.extension().is_some_and(|end| end == "seg") {
            names.push(path);
        }
    }
    Ok(names)
}

/// The data directory, on a machine where no broker ran yet. It is for its owner alone.
fn make(data: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(data)
}

/// Whose the files are: whoever had the store, not whoever restores it.
struct Keep {
    owner: Option<(u32, u32)>,
}

impl Keep {
    fn like(place: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let of = fs::metadata(place)?;
        let other = of.uid() != rustix::process::geteuid().as_raw();
        Ok(Self { owner: other.then_some((of.uid(), of.gid())) })
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        self.set(path, 0o700)
    }

    fn file(&self, path: &Path) -> io::Result<()> {
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
