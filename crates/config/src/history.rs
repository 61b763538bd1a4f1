//! Writing the file, and the versions of it that are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::document::FILE_BYTES_MAX;

/// Versions that are kept.
pub const VERSIONS_MAX: usize = 20;

/// First characters of the line that a kept version begins with.
const MARK: &str = "#: ";

/// One kept version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Counts up from 1.
    pub number: u64,
    /// When it was written, and by what.
    pub note: String,
    pub path: PathBuf,
}

/// Puts a new text in the place of the old one, at once and for good, and keeps both among the versions.
///
/// `read` is the text that the change was made from, none if there was no file; when the file holds another one by now, nothing is
/// written. `note` says when and by what, in one line.
pub fn replace(file: &Path, read: Option<&str>, text: &str, versions: &Path, note: &str) -> io::Result<()> {
    fs::create_dir_all(versions)?;
    // One writer at a time; gone with the file handle.
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(versions.join("lock"))?;
    lock.lock()?;
    // A link stays one: what it leads to is replaced.
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound && !file.is_symlink() => file.to_owned(),
        Err(fault) => return Err(fault),
    };
    let current = match text_of(&target) {
        Ok(current) => Some(current),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => None,
        Err(fault) => return Err(fault),
    };
    if current.as_deref() != read {
        return Err(io::Error::other("it was changed by somebody else in between; look at it and try again"));
    }
    if let Some(current) = &current
        && latest(versions)?.is_none_or(|latest| content(&latest).ok().as_deref() != Some(current))
    {
        keep(versions, current, "as it was found")?;
    }
    put(&target, text)?;
    keep(versions, text, note)
}

/// Kept versions, the newest first.
pub fn versions(folder: &Path) -> io::Result<Vec<Version>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
        let Some(number) = name.and_then(|name| name.parse().ok()) else { continue };
        let first = text_of(&path)?.lines().next().and_then(|line| line.strip_prefix(MARK)).map(str::to_owned);
        all.push(Version { number, note: first.unwrap_or_default(), path });
    }
    all.sort_by_key(|version| std::cmp::Reverse(version.number));
    Ok(all)
}

/// The text of a kept version, as it was in the file.
pub fn content(version: &Version) -> io::Result<String> {
    let text = text_of(&version.path)?;
    Ok(match text.split_once('\n') {
        Some((first, rest)) if first.starts_with(MARK) => rest.to_owned(),
        _ => text,
    })
}

fn latest(folder: &Path) -> io::Result<Option<Version>> {
    Ok(versions(folder)?.into_iter().next())
}

fn keep(folder: &Path, text: &str, note: &str) -> io::Result<()> {
    let known = versions(folder)?;
    let number = known.first().map_or(1, |latest| latest.number + 1);
    let note: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    put(&folder.join(format!("{number:06}.toml")), &format!("{MARK}{note}\n{text}"))?;
    known.iter().skip(VERSIONS_MAX - 1).try_for_each(|old| fs::remove_file(&old.path))
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // Room for the line in front of a kept version.
    File::open(path)?.take(FILE_BYTES_MAX as u64 + 65_536).read_to_string(&mut text)?;
    Ok(text)
}

/// A text in the place of whatever is there, whole or not at all, even when the power fails.
fn put(target: &Path, text: &str) -> io::Result<()> {
    let name = target.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    let draft = folder.join(hidden);
    let written = write(&draft, target, text).and_then(|()| fs::rename(&draft, target));
    if written.is_err() {
        // Nothing of ours stays behind; it may not even be there.
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write(draft: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // It may hold secrets: nobody else reads it before it has the rights of the file that it replaces.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(draft)?;
    file.write_all(text.as_bytes())?;
    if let Ok(metadata) = fs::metadata(target) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, fchown};
            let ours = file.metadata()?;
            if (ours.uid(), ours.gid()) != (metadata.uid(), metadata.gid()) {
                fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
            }
        }
        file.set_permissions(metadata.permissions())?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests;
