//! A copy of a store that may work meanwhile.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableTable as _};

use super::{Fault, go_on};
use crate::disk::{Disk, RealDisk, sync_folder};
use crate::index;
use crate::log::{FOLDER, Span, path_of};
use crate::shared::Shared;

/// In the folder of a copy for as long as it is not whole.
pub const UNFINISHED: &str = "backup.unfinished";

/// How often a copy is begun again because a segment went meanwhile.
const TRIES: usize = 5;

/// Copies the store into a new folder while it works. Answers up to which position at least.
pub(crate) fn backup(shared: &Shared, folder: &Path) -> Result<u64, Fault> {
    if fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_some()) {
        return Err(format!("{} is not empty; a copy goes into a folder of its own", folder.display()).into());
    }
    make(folder)?;
    let target = RealDisk::new(folder)?;
    // Whoever else has this idea at this moment is refused here.
    target.create(UNFINISHED)?.sync()?;
    make(&folder.join(FOLDER))?;
    target.make_folder(FOLDER)?;
    make_index(&target, folder)?;
    for _ in 0..TRIES {
        // Whatever is there now stays once it has a second name.
        let spans = Arc::clone(&shared.state().spans);
        let linked = copy_segments(shared, &target, &spans);
        let (moment, position) = shared.moment(|active| active.from).ok_or("the index is closed")?;
        match linked.and_then(|()| copy_segments(shared, &target, &moment.spans)) {
            Ok(()) => {
                copy_index(shared, &moment.index, folder)?;
                target.open(index::PATH)?.sync()?;
                target.sync_folder(FOLDER)?;
                target.sync_folder("")?;
                target.remove(UNFINISHED)?;
                target.sync_folder("")?;
                return Ok(position);
            }
            Err(fault) if is_gone(&*fault) => {}
            Err(fault) => return Err(fault),
        }
    }
    Err("segments went faster than they could be copied".into())
}

fn is_gone(fault: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    fault.downcast_ref::<io::Error>().is_some_and(|fault| fault.kind() == io::ErrorKind::NotFound)
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
    if !grows && (is_same_length(&from, &to) || fs::hard_link(&from, &to).is_ok()) {
        return Ok(());
    }
    fs::copy(&from, &to)?;
    target.open(&path)?.sync()
}

fn is_same_length(one: &Path, other: &Path) -> bool {
    let len = |path: &Path| fs::metadata(path).map(|file| file.len()).ok();
    len(one).is_some_and(|length| len(other) == Some(length))
}

fn copy_index(shared: &Shared, from: &ReadTransaction, folder: &Path) -> Result<(), Fault> {
    let mut database = Database::create(folder.join(index::PATH))?;
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
