//! Files that are not what was written: a start always succeeds, says what is lost, and makes nothing up.

use breakwater_contract::store::{Durability, Store as _};
use breakwater_store::{Crash, OpenFault, Options, SimulatedDisk};

use crate::ground::{Dump, Player, Script, Stage, small};

/// A small log that was never folded.
fn log_only() -> Options {
    Options { fold_log_bytes: 1 << 30, fold_interval_ms: u64::MAX, segment_bytes: 1 << 20, ..small() }
}

fn played(script: &Script, options: Options) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, options).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    for batch in &script.batches {
        player.submit(batch, Durability::Fsync);
        stage.turn(0);
        assert_eq!(player.completed(), [true]);
    }
    disk.after(Crash::Nothing)
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.ends_with(".seg")).collect()
}

/// Whether all that is found was there at some time.
fn made_up(found: &Dump, script: &Script) -> bool {
    found.sessions.iter().any(|(number, session)| {
        let before = script.states.iter().filter_map(|state| state.sessions.get(number));
        !before.into_iter().any(|before| before.row == session.row)
    })
}

#[test]
fn a_bit_that_flipped_in_the_log_is_found_and_only_its_frame_is_lost() {
    let script = Script::new(31, 5);
    let disk = played(&script, log_only());
    let path = segments(&disk).remove(0);
    let last = disk.len_of(&path);
    for bit in 0..last * 8 {
        let disk = disk.after(Crash::Process);
        disk.flip(&path, bit);
        let stage = Stage::open(&disk, log_only()).unwrap();
        let found = stage.dump();
        assert!(!made_up(&found, &script), "bit {bit}");
        let told = stage.told();
        // A header is there twice. The last frame can't be told from one that a crash kept from the disk.
        let whole = found == script.states[5];
        let torn = found == script.states[4];
        assert!(whole || torn || told.iter().any(|told| told.starts_with("lost:")), "bit {bit}: {told:?}");
        assert!(whole || bit >= 72 * 8, "bit {bit}");
    }
}

#[test]
fn a_log_that_was_cut_holds_all_up_to_there() {
    let script = Script::new(32, 12);
    let disk = played(&script, log_only());
    let path = segments(&disk).remove(0);
    let mut state = 12;
    for len in (0..disk.len_of(&path)).rev() {
        let disk = disk.after(Crash::Process);
        disk.cut(&path, len);
        let stage = Stage::open(&disk, log_only()).unwrap();
        let found = stage.dump();
        if found != script.states[state] {
            state -= 1;
        }
        assert_eq!(found, script.states[state], "{len} bytes");
    }
    assert_eq!(state, 0);
}

#[test]
fn an_index_that_is_damaged_is_set_aside_and_made_again_from_the_log() {
    let script = Script::new(33, 60);
    // Segments are never full, so nothing of the log is gone.
    let options = Options { segment_bytes: 1 << 20, ..small() };
    let disk = played(&script, options);
    let len = disk.len_of("index.redb");
    for bit in (0..len * 8).step_by(len * 8 / 150) {
        let disk = disk.after(Crash::Process);
        disk.flip("index.redb", bit);
        let stage = Stage::open(&disk, options).unwrap_or_else(|fault| panic!("bit {bit}: {fault}"));
        assert_eq!(stage.dump(), script.states[60], "bit {bit}: {:?}", stage.told());
    }
    for len in (0..len).step_by(len / 50) {
        let disk = disk.after(Crash::Process);
        disk.cut("index.redb", len);
        let stage = Stage::open(&disk, options).unwrap();
        assert_eq!(stage.dump(), script.states[60], "{len} bytes");
        if len > 0 {
            assert!(disk.paths().iter().any(|path| path.starts_with("index.redb.bad")), "{len} bytes");
            assert!(stage.told().iter().any(|told| told.starts_with("lost:")));
            assert!(stage.engine.health().damages > 0);
        }
    }
}

#[test]
fn a_lost_index_and_lost_segments_leave_what_the_other_segments_hold() {
    let script = Script::new(34, 80);
    let disk = played(&script, small());
    for path in segments(&disk) {
        let disk = disk.after(Crash::Process);
        disk.cut("index.redb", 5000);
        disk.cut(&path, 0);
        let stage = Stage::open(&disk, small()).unwrap();
        stage.dump();
        assert!(stage.told().iter().any(|told| told.starts_with("lost:")), "{:?}", stage.told());
    }
}

#[test]
fn a_segment_that_vanished_costs_its_messages_and_no_more() {
    let script = Script::new(35, 80);
    let disk = played(&script, small());
    for path in segments(&disk) {
        let disk = disk.after(Crash::Process);
        breakwater_store::Disk::remove(&disk, &path).unwrap();
        let stage = Stage::open(&disk, small()).unwrap();
        let found = stage.dump();
        assert!(!made_up(&found, &script));
    }
}

#[test]
fn a_folder_of_a_later_version_is_refused_and_left_alone() {
    let script = Script::new(36, 5);
    let disk = played(&script, log_only());
    let path = segments(&disk).remove(0);
    let file = breakwater_store::Disk::open(&disk, &path).unwrap();
    let mut header = vec![0; 36];
    file.read_at(&mut header, 0).unwrap();
    header[4] = 2;
    let crc = crc32c::crc32c(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header.repeat(2), 0).unwrap();
    file.sync().unwrap();
    let before = disk.paths();
    match Stage::open(&disk, log_only()) {
        Err(fault @ OpenFault::Newer { version: 2, .. }) => assert!(fault.to_string().contains("format 2"), "{fault}"),
        other => panic!("{:?}", other.map(|stage| stage.told())),
    }
    assert_eq!(disk.paths(), before);
}

#[test]
fn a_folder_that_is_in_use_is_refused() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    assert!(matches!(Stage::open(&disk, small()), Err(OpenFault::Locked)));
    drop(stage);
    assert!(Stage::open(&disk, small()).is_ok());
}
