//! The index: what the log comes to, up to a position, in a redb file.
//!
//! It is brought up to date in one commit at a time, by [`fold()`]. What is read from it is merged with the overlays of what
//! came later. Rows that can be long carry a CRC: redb looks at its checksums at a start, not at each read.

mod backing;
mod fold;
mod rows;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, TableDefinition};

use crate::disk::{Disk, DiskFile};
use crate::findings::{Findings, OpenFault};

pub(crate) use fold::fold;
pub(crate) use rows::{Row, open_row, queue_entries};

/// Path of the index.
pub(crate) const PATH: &str = "index.redb";

/// Version of the format. A store does not touch a folder with a later one.
pub(crate) const VERSION: u64 = 1;

/// Where the log begins. 0 is no position.
pub(crate) const START: u64 = 1;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
pub(crate) const SUBSCRIPTIONS: TableDefinition<'_, (u64, &str), (u8, u32)> = TableDefinition::new("subscriptions");
pub(crate) const INBOUND: TableDefinition<'_, (u64, u16), ()> = TableDefinition::new("inbound");
pub(crate) const OUTBOUND: TableDefinition<'_, (u64, u16), (u8, u64)> = TableDefinition::new("outbound");
/// Session and first position: the entries from there on.
pub(crate) const QUEUES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("queues");
/// Messages and bytes of a queue that is not empty.
pub(crate) const TALLIES: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("tallies");
pub(crate) const RETAINED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("retained");
pub(crate) const VALUES: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("values");
/// First position of a segment: how many queue entries refer to it, and the bytes of their messages.
pub(crate) const REFERENCES: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("references");
/// A message that was copied: where it lies, and how many queue entries refer to it.
pub(crate) const MOVED: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("moved");
/// [`MOVED`] at a moment.
pub(crate) type Moved = ReadOnlyTable<u64, (u64, u64)>;

/// Keys of [`META`].
pub(crate) const COVERED: &str = "covered";
pub(crate) const NEXT_SESSION: &str = "next_session";
pub(crate) const SALT: &str = "salt";
const FORMAT: &str = "format";

/// The open index, or none while its disk fails.
#[derive(Debug)]
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: RwLock<Option<Database>>,
    /// Its cache holds what is not needed again.
    stale: AtomicBool,
}

impl Index {
    /// Opens the index, or makes one. One that is damaged is set aside, and an empty one takes its place.
    ///
    /// # Errors
    /// Those of the disk, and a format that is later than this one.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize, findings: &mut Findings) -> Result<Index, OpenFault> {
        let checked = open(&disk, cache_bytes, true);
        let database = match checked {
            Ok(database) => database,
            // The check writes; a full disk is no reason not to start.
            Err(Bad::Disk(fault)) if fault.kind() == std::io::ErrorKind::StorageFull => {
                open(&disk, cache_bytes, false).map_err(|_| fault)?
            }
            Err(Bad::Newer(version)) => return Err(OpenFault::Newer { path: PATH.to_owned(), version }),
            Err(Bad::Disk(fault)) => return Err(fault.into()),
            Err(Bad::Damaged(why)) => {
                findings.set_aside(&*disk, PATH, "index", &why)?;
                findings
                    .lost(PATH, "what only the index knew; it is rebuilt from the segments of the log that are left");
                open(&disk, cache_bytes, true).map_err(|bad| std::io::Error::other(format!("{PATH}: {bad}")))?
            }
        };
        Ok(Index { disk, cache_bytes, database: RwLock::new(Some(database)), stale: AtomicBool::new(false) })
    }

    /// The database to read or write.
    pub(crate) fn get(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment of it, to read from.
    pub(crate) fn moment(&self) -> Option<ReadTransaction> {
        self.get().as_ref()?.begin_read().ok()
    }

    /// After an error of its disk, since redb answers nothing more until it is opened again; or to empty its cache.
    pub(crate) fn reopen(&self) -> Result<(), String> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        *slot = Some(open(&self.disk, self.cache_bytes, false).map_err(|bad| bad.to_string())?);
        self.stale.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// A start has read all of it, once: the cache has as much again as the sessions themselves, and is to be emptied.
    pub(crate) fn was_read_through(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Whether its cache is to be emptied: [`Index::reopen`].
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }
}

/// Why an index can't be used.
enum Bad {
    Damaged(String),
    Newer(u32),
    Disk(std::io::Error),
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bad::Damaged(why) => f.write_str(why),
            Bad::Newer(version) => write!(f, "it has format {version}"),
            Bad::Disk(fault) => write!(f, "{fault}"),
        }
    }
}

impl From<redb::Error> for Bad {
    fn from(fault: redb::Error) -> Bad {
        match fault {
            redb::Error::Io(fault) if !is_damage(&fault) => Bad::Disk(fault),
            other => Bad::Damaged(other.to_string()),
        }
    }
}

/// What redb answers when a file is too short or says nonsense.
fn is_damage(fault: &std::io::Error) -> bool {
    matches!(fault.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData)
}

fn open(disk: &Arc<dyn Disk>, cache_bytes: usize, check: bool) -> Result<Database, Bad> {
    let attempt = || -> Result<Database, Bad> {
        let file = match disk.open(PATH) {
            Ok(file) => file,
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => make(disk, cache_bytes)?,
            Err(fault) => return Err(Bad::Disk(fault)),
        };
        let database = open_file(file, cache_bytes, check)?;
        prepare(&database)?;
        Ok(database)
    };
    // redb trusts its file in places. What it meets there that can't be is damage too.
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| Err(Bad::Damaged("redb gave up on it".to_owned())))
}

/// A new index, which gets its name when it is whole.
fn make(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<Arc<dyn DiskFile>, Bad> {
    let unfinished = format!("{PATH}.new");
    let make = || {
        // What an earlier start did not finish.
        match disk.remove(&unfinished) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => Err(fault),
            _ => disk.create(&unfinished),
        }
    };
    let file = make().map_err(Bad::Disk)?;
    prepare(&open_file(Arc::clone(&file), cache_bytes, false)?)?;
    let named = || {
        file.sync()?;
        disk.rename(&unfinished, PATH)?;
        disk.sync_folder("")
    };
    named().map_err(Bad::Disk)?;
    Ok(file)
}

fn open_file(file: Arc<dyn DiskFile>, cache_bytes: usize, check: bool) -> Result<Database, Bad> {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(check);
    builder.create_with_backend(backing::Backing::new(file)).map_err(|fault| Bad::from(redb::Error::from(fault)))
}

/// Looks at the version; makes the tables of a new one.
fn prepare(database: &Database) -> Result<(), Bad> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let version = match transaction.open_table(META) {
        Ok(meta) => redb::ReadableTable::get(&meta, FORMAT).map_err(redb::Error::from)?.map(|version| version.value()),
        Err(redb::TableError::TableDoesNotExist(_)) => None,
        Err(fault) => return Err(redb::Error::from(fault).into()),
    };
    match version {
        Some(VERSION) => return Ok(()),
        Some(other) => return Err(Bad::Newer(u32::try_from(other).unwrap_or(u32::MAX))),
        None => {}
    }
    let make = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(META)?.insert(FORMAT, VERSION)?;
        transaction.open_table(SESSIONS)?;
        transaction.open_table(SUBSCRIPTIONS)?;
        transaction.open_table(INBOUND)?;
        transaction.open_table(OUTBOUND)?;
        transaction.open_table(QUEUES)?;
        transaction.open_table(TALLIES)?;
        transaction.open_table(RETAINED)?;
        transaction.open_table(VALUES)?;
        transaction.open_table(REFERENCES)?;
        transaction.open_table(MOVED)?;
        transaction.commit()?;
        Ok(())
    };
    make().map_err(Bad::from)
}
