//! Files that appear whole or not at all, and stay after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::tls::files::TlsConfigFault;

/// Writes one file into `directory`, replacing what is there. `secret`: only its owner may read it.
pub(crate) fn put(directory: &Path, name: &str, content: &[u8], secret: bool) -> Result<(), TlsConfigFault> {
    let path = directory.join(name);
    let staged = directory.join(format!(".{name}.new"));
    write(&staged, content, secret)
        .and_then(|()| fs::rename(&staged, &path))
        .and_then(|()| settle(directory))
        .map_err(|error| fault(&path, &error))
}

/// Writes a file that only its owner may read, replacing what is there, at once or not at all. Its directory is made if there is
/// none, for its owner alone.
///
/// # Errors
/// One line with the file and the cure.
pub fn put_secret(path: &Path, content: &[u8]) -> Result<(), TlsConfigFault> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("secret");
    make_directories(directory).map_err(|error| fault(directory, &error))?;
    put(directory, name, content, true)
}

/// A directory that was not there lasts once its parent is on disk.
fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_directories(parent)?;
    }
    match make_directory(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    parent.map_or(Ok(()), settle)
}

/// Writes several files into `directory`, which has none of them. Without a directory all of them come at once.
pub(crate) fn put_all(directory: &Path, files: &[(&str, &[u8], bool)]) -> Result<(), TlsConfigFault> {
    if directory.exists() && !is_empty(directory) {
        return files.iter().try_for_each(|(name, content, secret)| put(directory, name, content, *secret));
    }
    let mut staged = directory.as_os_str().to_owned();
    staged.push(".new");
    let staged = Path::new(&staged);
    // Left by a start that did not come to its end.
    let _ = fs::remove_dir_all(staged);
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = fs::create_dir_all(parent)
        .and_then(|()| make_directory(staged))
        .and_then(|()| files.iter().try_for_each(|(name, content, secret)| write(&staged.join(name), content, *secret)))
        .and_then(|()| settle(staged))
        .and_then(|()| fs::rename(staged, directory))
        .and_then(|()| settle(parent));
    written.map_err(|error| {
        let _ = fs::remove_dir_all(staged);
        fault(directory, &error)
    })
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn make_directory(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "permissions exist on unix only"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write(path: &Path, content: &[u8], secret: bool) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A rename lasts once its directory is on disk.
fn settle(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn fault(path: &Path, error: &io::Error) -> TlsConfigFault {
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "may not be written by this user: change the owner of its directory, or name another with --data".into()
        }
        io::ErrorKind::ReadOnlyFilesystem => "lies on a read-only file system: name another place with --data".into(),
        io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => format!("can't be written: {error}"),
    };
    TlsConfigFault::at(path, text)
}
