//! A copy of a store that may work meanwhile.

use std::fs;
use std::io;
use std::path::Path;

use redb::{Database, ReadTransaction, ReadableTable as _};

use super::{Fault, go_on};
use crate::disk::{Disk, RealDisk, sync_folder};
use crate::index;
use crate::log::{FOLDER, Span, path_of};
use crate::shared::Shared;

/// In the folder of a copy for as long as it is not whole.
pub const UNFINISHED: &str = "backup.unfinished";

/// Memory for the index of the copy, beside that of the store.
const CACHE_BYTES: usize = 16 << 20;

/// Copies the store into a new folder while it works. What was made is removed if that fails: the disk may be full because of it.
pub(crate) fn backup(shared: &Shared, folder: &Path) -> Result<(), Fault> {
    if fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(format!("{} is not empty; a copy goes into a folder of its own", folder.display()).into());
    }
    make(folder)?;
    let target = RealDisk::new(folder)?;
    // Whoever else has this idea at this moment is refused here.
    target.create(UNFINISHED)?.sync()?;
    let copied = copy(shared, &target, folder);
    if copied.is_err() {
        let _ = fs::remove_dir_all(folder.join(FOLDER));
        let _ = target.remove(index::PATH);
    }
    target.remove(UNFINISHED)?;
    target.sync_folder("")?;
    copied
}

fn copy(shared: &Shared, target: &RealDisk, folder: &Path) -> Result<(), Fault> {
    make(&folder.join(FOLDER))?;
    target.make_folder(FOLDER)?;
    make_index(target, folder)?;
    let moment = {
        let _kept = shared.keep_segments();
        let (moment, ()) = shared.moment(|_| ()).ok_or("the index is closed")?;
        copy_segments(shared, target, &moment.spans)?;
        moment
    };
    copy_index(shared, &moment.index, folder)?;
    target.open(index::PATH)?.sync()?;
    target.sync_folder(FOLDER)?;
    target.sync_folder("")?;
    Ok(())
}

/// What clients have sent is nobody else's business.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    builder.recursive(true).create(folder)?;
    // A name lasts once the folder that it stands in is synced.
    missing.iter().filter_map(|made| made.parent()).try_for_each(sync_folder)
}

/// The same, of the index in a folder that others may look into.
fn make_index(target: &RealDisk, folder: &Path) -> io::Result<()> {
    target.create(index::PATH)?;
    #[cfg(unix)]
    fs::set_permissions(folder.join(index::PATH), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn copy_segments(shared: &Shared, target: &RealDisk, spans: &[Span]) -> Result<(), Fault> {
    for span in spans {
        go_on(shared)?;
        copy_segment(shared, target, *span, spans.last())?;
    }
    Ok(())
}

/// A sealed segment gets a second name where that is possible; the one that grows is copied.
fn copy_segment(shared: &Shared, target: &RealDisk, span: Span, last: Option<&Span>) -> io::Result<()> {
    let path = path_of(span.serial);
    let from = shared.disk.real_path(&path).ok_or(io::ErrorKind::Unsupported)?;
    let to = target.real_path(&path).ok_or(io::ErrorKind::Unsupported)?;
    let grows = last.is_some_and(|last| last.serial == span.serial);
    if !grows && fs::hard_link(&from, &to).is_ok() {
        return Ok(());
    }
    fs::copy(&from, &to)?;
    target.open(&path)?.sync()
}

fn copy_index(shared: &Shared, from: &ReadTransaction, folder: &Path) -> Result<(), Fault> {
    let mut database = Database::builder().set_cache_size(CACHE_BYTES).create(folder.join(index::PATH))?;
    let mut to = database.begin_write()?;
    to.set_quick_repair(true);
    {
        macro_rules! copy {
            ($($table:ident)*) => {$(
                let mut table = to.open_table(index::$table)?;
                for row in from.open_table(index::$table)?.iter()? {
                    go_on(shared)?;
                    let (key, value) = row?;
                    table.insert(key.value(), value.value())?;
                }
            )*};
        }
        copy!(META SESSIONS SUBSCRIPTIONS INBOUND OUTBOUND QUEUES TALLIES RETAINED VALUES REFERENCES MOVED);
    }
    to.commit()?;
    database.compact()?;
    Ok(())
}
