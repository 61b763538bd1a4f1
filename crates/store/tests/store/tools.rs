//! What an operator asks of a store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use breakwater_contract::Completions;
use breakwater_contract::store::{Durability, Store as _};
use breakwater_store::{Embedded, Engine, Mends, RealDisk, SimulatedDisk, UNFINISHED};

use crate::ground::{Dump, Inbox, Player, Script, Stage, dump, small};

/// A folder of this test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("breakwater-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(folder: &Folder, inbox: &Arc<Inbox>) -> Engine {
    let disk = Arc::new(RealDisk::new(&folder.0).unwrap());
    let completions = Arc::clone(inbox) as Arc<dyn Completions>;
    Engine::open(disk, small(), completions, Box::new(|text| panic!("{text}"))).unwrap()
}

fn dump_of(engine: &Engine) -> Dump {
    dump(engine, 5, &mut |question| engine.answer(&question))
}

#[test]
fn a_copy_of_a_store_that_works_is_a_store() {
    let (folder, copies) = (Folder::new("original"), Folder::new("copies"));
    let inbox = Arc::new(Inbox::default());
    let engine = open(&folder, &inbox);
    let script = Script::new(51, 60);
    let mut player = Player::new(&engine, &inbox);
    for (at, batch) in script.batches.iter().enumerate() {
        player.submit(batch, Durability::Fsync);
        engine.write(at as u64, std::time::Duration::ZERO);
        // Not always folded.
        if at % 3 == 0 {
            engine.fold();
        }
        player.completed();
        if at % 10 == 9 {
            engine.backup(&copies.0.join(at.to_string())).unwrap();
        }
    }
    assert_eq!(dump_of(&engine), script.states[60]);
    assert!(engine.backup(&folder.0).unwrap_err().contains("not empty"));
    drop(engine);
    let engine = open(&folder, &inbox);
    assert_eq!(dump_of(&engine), script.states[60], "it is what it was");
    for at in (9..60).step_by(10) {
        let copy = Folder(copies.0.join(at.to_string()));
        let engine = open(&copy, &inbox);
        assert_eq!(dump_of(&engine), script.states[at + 1], "the copy after batch {at}");
        assert_eq!(engine.check().unwrap(), []);
    }
}

#[test]
fn a_check_finds_what_was_damaged_and_stats_count() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let script = Script::new(52, 60);
    let mut player = Player::new(&stage.engine, &stage.inbox);
    for batch in &script.batches {
        player.submit(batch, Durability::Fsync);
        stage.turn(0);
        player.completed();
    }
    stage.engine.settle(1);
    let (stats, state) = (stage.engine.stats().unwrap(), script.states.last().unwrap());
    assert_eq!(stats.sessions, state.sessions.len() as u64);
    assert_eq!(stats.queued, state.sessions.values().map(|session| session.tally.0).sum::<u64>());
    assert_eq!(stats.queued_bytes, state.sessions.values().map(|session| session.tally.1).sum::<u64>());
    assert_eq!(stats.retained, state.retained.len() as u64);
    assert_eq!(stats.values, state.values.len() as u64);
    assert_eq!(stats.unfolded_bytes, 0);
    assert_eq!(stats.disk_bytes, stage.engine.health().disk_bytes);
    assert_eq!(stage.engine.check().unwrap(), []);
    let path = disk.paths().into_iter().find(|path| path.ends_with(".seg")).unwrap();
    disk.flip(&path, 8 * 300);
    assert_ne!(stage.engine.check().unwrap(), []);
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path(), std::fs::read(entry.path()).unwrap())),
        }
    }
    found
}

#[test]
fn to_look_at_a_store_finds_what_a_start_finds_and_changes_nothing() {
    let folder = Folder::new("look");
    let inbox = Arc::new(Inbox::default());
    let engine = open(&folder, &inbox);
    let script = Script::new(53, 60);
    let mut player = Player::new(&engine, &inbox);
    for (at, batch) in script.batches.iter().enumerate() {
        player.submit(batch, Durability::Fsync);
        engine.write(at as u64, std::time::Duration::ZERO);
        // The last ones are in the log alone.
        if at % 3 == 0 && at < 40 {
            engine.fold();
        }
        player.completed();
    }
    let state = script.states.last().unwrap();
    let counts = |engine: &Engine| {
        let stats = engine.stats().unwrap();
        (stats.sessions, stats.queued, stats.queued_bytes, stats.retained)
    };
    let tallies = || state.sessions.values().map(|session| session.tally);
    let expected = (
        state.sessions.len() as u64,
        tallies().map(|tally| tally.0).sum::<u64>(),
        tallies().map(|tally| tally.1).sum::<u64>(),
        state.retained.len() as u64,
    );
    assert_eq!(counts(&engine), expected, "while it works");
    assert!(Engine::open_to_look(&folder.0).is_err(), "it is in use");
    // As if it were killed: nothing is laid down.
    drop(engine);
    let before = files(&folder.0);
    let look = Engine::open_to_look(&folder.0).unwrap();
    assert_eq!(counts(&look), expected);
    assert_eq!(dump_of(&look), *state);
    assert_eq!((look.found(), look.check().unwrap()), (&[][..], vec![]));
    drop(look);
    assert_eq!(files(&folder.0), before);
    // A byte of a frame that others follow.
    let is_long = |path: &Path, bytes: &[u8]| path.extension().is_some_and(|end| end == "seg") && bytes.len() > 400;
    let (path, mut bytes) = before.into_iter().rev().find(|(path, bytes)| is_long(path, bytes)).unwrap();
    let at = bytes.len() - 200;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let before = files(&folder.0);
    let look = Engine::open_to_look(&folder.0).unwrap();
    let found = look.found().to_vec();
    assert!(found.iter().any(|finding| path.ends_with(&*finding.file) && finding.mends == Mends::Start), "{found:?}");
    drop(look);
    assert_eq!(files(&folder.0), before);
}

#[test]
fn a_copy_that_fails_leaves_nothing_behind() {
    let (folder, copy) = (Folder::new("interrupted"), Folder::new("unfinished"));
    let inbox = Arc::new(Inbox::default());
    let engine = open(&folder, &inbox);
    let script = Script::new(54, 5);
    let mut player = Player::new(&engine, &inbox);
    for batch in &script.batches {
        player.submit(batch, Durability::Fsync);
        engine.write(0, std::time::Duration::ZERO);
    }
    engine.interrupt();
    assert!(engine.backup(&copy.0).unwrap_err().contains("stopping"));
    assert!(engine.check().is_err());
    assert_eq!(files(&copy.0), BTreeMap::new());
    drop(engine);
    let engine = open(&folder, &inbox);
    engine.backup(&copy.0).unwrap();
    assert!(!copy.0.join(UNFINISHED).exists());
}

#[test]
fn copies_that_are_made_while_others_write_are_sound_and_have_all_that_was_answered_before() {
    let (folder, copies) = (Folder::new("busy"), Folder::new("busy-copies"));
    let disk = Arc::new(RealDisk::new(&folder.0).unwrap());
    let inbox = Arc::new(Inbox::default());
    let completions = Arc::clone(&inbox) as Arc<dyn Completions>;
    let store = Embedded::open(disk, small(), completions, Box::new(|text| panic!("{text}"))).unwrap();
    let (answered, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let script = Script::new(55, 200);
            let mut player = Player::new(&store, &inbox);
            for batch in &script.batches {
                player.submit(batch, Durability::Fsync);
                while player.completed().is_empty() {
                    std::thread::yield_now();
                }
                answered.fetch_add(1, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
        let script = Script::new(55, 200);
        for round in 0.. {
            let before = answered.load(Ordering::SeqCst);
            let copy = Folder(copies.0.join(round.to_string()));
            store.engine().backup(&copy.0).unwrap();
            let after = answered.load(Ordering::SeqCst);
            assert_eq!(store.engine().check().unwrap(), [], "the store, round {round}");
            let engine = Engine::open_to_look(&copy.0).unwrap();
            assert_eq!((engine.found(), engine.check().unwrap()), (&[][..], vec![]), "round {round}");
            let found = dump_of(&engine);
            // The one that is under way may be in it.
            assert!(
                script.states[before..=(after + 1).min(200)].contains(&found),
                "round {round}: {before} to {after}"
            );
            if done.load(Ordering::SeqCst) {
                break;
            }
        }
    });
}
