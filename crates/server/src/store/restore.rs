//! A backup takes the place of the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use breakwater_store::{Disk as _, RealDisk, UNFINISHED, sync_folder};

use super::swap::{Keep, Swap};
use super::{Faults, findings, folder_of, look, runs};

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
    let swap = Swap::begin(data, store, "restoring", "before-restore")?;
    copy(from, &swap.new, &swap.keep).inspect_err(|_| swap.give_up())?;
    swap.finish()
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
