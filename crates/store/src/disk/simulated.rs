//! A disk in memory that loses what a real one may lose.
//!
//! Every file has what a reader sees and what would be left after a power cut; writes since the last sync lie between the two. A
//! crash keeps some of them, cut into sectors and torn, as its seed says. Steps are counted, so that a test can break any one.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first step that it meets.
    pub first: u64,
    /// How many steps it lasts.
    pub steps: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing more fits: half of a write goes through, unless it lies in what the file has already.
    NoRoom,
    /// Writes fail.
    Write,
    /// Syncs fail, and what was not synced is lost though it can be read.
    Sync,
    /// The power is off: nothing is done any more.
    Power,
}

/// What is left after a crash of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All of it, as when only the process dies.
    Process,
    /// Nothing.
    Nothing,
    /// The first ones; the last of them is torn at some byte.
    Torn(u64),
    /// Some sectors, in no order.
    Scattered(u64),
}

/// The disk. A clone is the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct World {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    lasting_names: BTreeMap<String, usize>,
    /// Since their folder was synced: a name and what it leads to.
    unsynced_names: Vec<(String, Option<usize>)>,
    steps: u64,
    faults: Vec<Fault>,
    reads_fail: bool,
    written: u64,
}

#[derive(Clone, Debug, Default)]
struct Node {
    seen: Vec<u8>,
    lasting: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// Steps taken so far: what changes something or syncs it.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.world().steps
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.world().written
    }

    /// Lets something go wrong; an empty list mends the disk.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.world().faults = faults;
    }

    /// Whether reads fail.
    pub fn set_reads_fail(&self, fail: bool) {
        self.world().reads_fail = fail;
    }

    /// Paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    /// Length of a file, 0 if there is none.
    #[must_use]
    pub fn len_of(&self, path: &str) -> usize {
        let world = self.world();
        world.names.get(path).map_or(0, |&node| world.nodes[node].seen.len())
    }

    /// Flips one bit of a file, for good.
    pub fn flip(&self, path: &str, bit: usize) {
        self.damage(path, |bytes| {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        });
    }

    /// Cuts a file, for good.
    pub fn cut(&self, path: &str, len: usize) {
        self.damage(path, |bytes| bytes.truncate(len));
    }

    /// The disk as it is found after a crash at this moment.
    #[must_use]
    pub fn after(&self, crash: Crash) -> SimulatedDisk {
        let old = self.world();
        let mut world = World::default();
        let mut chance = Chance::new(match crash {
            Crash::Torn(seed) | Crash::Scattered(seed) => seed,
            Crash::Process | Crash::Nothing => 0,
        });
        let kept = chance.kept(crash, old.unsynced_names.len());
        let mut names = old.lasting_names.clone();
        for (name, node) in old.unsynced_names.iter().take(kept) {
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
        for (name, node) in names {
            let lasting = chance.survive(crash, &old.nodes[node]);
            world.nodes.push(Node { seen: lasting.clone(), lasting, unsynced: Vec::new() });
            world.names.insert(name, world.nodes.len() - 1);
        }
        world.lasting_names.clone_from(&world.names);
        SimulatedDisk { world: Arc::new(Mutex::new(world)), locked: Arc::default() }
    }

    fn damage(&self, path: &str, how: impl Fn(&mut Vec<u8>)) {
        let mut world = self.world();
        if let Some(&node) = world.names.get(path) {
            how(&mut world.nodes[node].seen);
            how(&mut world.nodes[node].lasting);
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, node: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile { disk: self.clone(), node })
    }
}

impl World {
    /// Counts a step and answers what goes wrong with it.
    fn step(&mut self) -> Option<FaultKind> {
        let now = self.steps;
        self.steps += 1;
        let hit = |fault: &&Fault| (fault.first..fault.first.saturating_add(fault.steps)).contains(&now);
        self.faults.iter().find(hit).map(|fault| fault.kind)
    }

    /// A step that changes names.
    fn rename_step(&mut self) -> io::Result<()> {
        match self.step() {
            Some(FaultKind::Power) => Err(off()),
            Some(FaultKind::Write) => Err(broken()),
            Some(FaultKind::NoRoom) => Err(io::ErrorKind::StorageFull.into()),
            Some(FaultKind::Sync) | None => Ok(()),
        }
    }

    fn set_name(&mut self, name: &str, node: Option<usize>) {
        match node {
            Some(node) => self.names.insert(name.to_owned(), node),
            None => self.names.remove(name),
        };
        self.unsynced_names.push((name.to_owned(), node));
    }
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

fn broken() -> io::Error {
    io::Error::other("the disk is broken")
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        world.rename_step()?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.nodes.push(Node::default());
        let node = world.nodes.len() - 1;
        world.set_name(path, Some(node));
        Ok(self.file(node))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.world().names.get(path).copied();
        node.map(|node| self.file(node)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make_folder(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let world = self.world();
        let inside = |path: &String| match path.rsplit_once('/') {
            Some((parent, name)) if parent == folder => Some(name.to_owned()),
            None if folder.is_empty() => Some(path.clone()),
            _ => None,
        };
        Ok(world.names.keys().filter_map(inside).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.rename_step()?;
        let node = world.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        world.set_name(from, None);
        world.set_name(to, Some(node));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.rename_step()?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.set_name(path, None);
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world();
        match world.step() {
            Some(FaultKind::Power) => return Err(off()),
            Some(FaultKind::Sync) => return Err(broken()),
            _ => {}
        }
        let inside = |path: &str| path.rsplit_once('/').map_or("", |(parent, _)| parent) == folder;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut world.unsynced_names).into_iter().partition(|(name, _)| inside(name));
        world.unsynced_names = rest;
        for (name, node) in synced {
            match node {
                Some(node) => world.lasting_names.insert(name, node),
                None => world.lasting_names.remove(&name),
            };
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let free = self.locked.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok();
        Ok(free.then(|| Box::new(Held(Arc::clone(&self.locked))) as Box<dyn Any + Send + Sync>))
    }

    fn real_path(&self, _path: &str) -> Option<PathBuf> {
        None
    }
}

struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    node: usize,
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.world().nodes[self.node].seen.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let world = self.disk.world();
        if world.reads_fail {
            return Err(broken());
        }
        let seen = &world.nodes[self.node].seen;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let bytes = start.checked_add(into.len()).and_then(|end| seen.get(start..end));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let grows = offset + bytes.len() as u64 > world.nodes[self.node].seen.len() as u64;
        let (taken, answer) = match world.step().filter(|kind| grows || *kind != FaultKind::NoRoom) {
            Some(FaultKind::Power) => return Err(off()),
            Some(FaultKind::Write) => return Err(broken()),
            Some(FaultKind::NoRoom) => (&bytes[..bytes.len() / 2], Err(io::ErrorKind::StorageFull.into())),
            Some(FaultKind::Sync) | None => (bytes, Ok(())),
        };
        world.written += taken.len() as u64;
        let node = &mut world.nodes[self.node];
        apply(&mut node.seen, &Unsynced::Write(offset, taken.to_vec()));
        node.unsynced.push(Unsynced::Write(offset, taken.to_vec()));
        answer
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let shrinks = len <= world.nodes[self.node].seen.len() as u64;
        match world.rename_step() {
            Err(fault) if fault.kind() == io::ErrorKind::StorageFull && shrinks => {}
            other => other?,
        }
        let node = &mut world.nodes[self.node];
        apply(&mut node.seen, &Unsynced::Len(len));
        node.unsynced.push(Unsynced::Len(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let fault = world.step();
        let node = &mut world.nodes[self.node];
        match fault {
            Some(FaultKind::Power) => return Err(off()),
            // As Linux does: the pages count as clean, whatever became of them.
            Some(FaultKind::Sync) => {
                node.unsynced.clear();
                return Err(broken());
            }
            _ => {}
        }
        for write in std::mem::take(&mut node.unsynced) {
            apply(&mut node.lasting, &write);
        }
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, write: &Unsynced) {
    match write {
        Unsynced::Len(len) => bytes.resize(usize::try_from(*len).unwrap_or(0), 0),
        Unsynced::Write(offset, written) => {
            let start = usize::try_from(*offset).unwrap_or(0);
            let end = start + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(written);
        }
    }
}

/// A seeded generator (xorshift64*).
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(random).unwrap_or(0) % bound.max(1)
    }

    /// How many of so many changes, in order, a crash leaves.
    fn kept(&mut self, crash: Crash, count: usize) -> usize {
        match crash {
            Crash::Process => count,
            Crash::Nothing => 0,
            Crash::Torn(_) | Crash::Scattered(_) => self.below(count + 1),
        }
    }

    fn survive(&mut self, crash: Crash, node: &Node) -> Vec<u8> {
        let mut bytes = node.lasting.clone();
        let whole = match crash {
            Crash::Scattered(_) => 0,
            _ => self.kept(crash, node.unsynced.len()),
        };
        for write in &node.unsynced[..whole] {
            apply(&mut bytes, write);
        }
        match (crash, node.unsynced.get(whole)) {
            (Crash::Torn(_), Some(Unsynced::Write(offset, written))) => {
                let torn = self.below(written.len() + 1);
                apply(&mut bytes, &Unsynced::Write(*offset, written[..torn].to_vec()));
            }
            (Crash::Scattered(_), _) => node.unsynced.iter().for_each(|write| self.scatter(&mut bytes, write)),
            _ => {}
        }
        bytes
    }

    fn scatter(&mut self, bytes: &mut Vec<u8>, write: &Unsynced) {
        let Unsynced::Write(offset, written) = write else {
            if self.below(2) == 0 {
                apply(bytes, write);
            }
            return;
        };
        let (mut at, mut rest) = (*offset, written.as_slice());
        while !rest.is_empty() {
            let left = SECTOR - usize::try_from(at).unwrap_or(0) % SECTOR;
            let (piece, behind) = rest.split_at(left.min(rest.len()));
            if self.below(2) == 0 {
                apply(bytes, &Unsynced::Write(at, piece.to_vec()));
            }
            at += piece.len() as u64;
            rest = behind;
        }
    }
}
