//! A disk that fails for a while: what is answered holds, what fails is answered so, and the store goes on by itself.

use breakwater_contract::store::{Condition, Durability, Store as _};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};

use crate::ground::{Player, Script, Stage, seeds, small};

const BATCHES: usize = 40;

/// One fault of some steps at every step. A batch that fails is submitted again until it is stored.
fn fail_everywhere(seed: u64, kind: FaultKind, lasting: u64) {
    seeds(seed).for_each(|seed| fail_at_steps(seed, kind, lasting));
}

fn fail_at_steps(seed: u64, kind: FaultKind, lasting: u64) {
    let script = Script::new(seed, BATCHES);
    let whole = SimulatedDisk::new();
    let stage = Stage::open(&whole, small()).unwrap();
    let opened = whole.steps();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    for batch in &script.batches {
        player.submit(batch, Durability::Fsync);
        stage.turn(0);
    }
    let stride = if std::env::var_os("BREAKWATER_STORE_EVERY_STEP").is_some() { 1 } else { 3 };
    for first in (opened + seed % stride..whole.steps()).step_by(usize::try_from(stride).unwrap()) {
        let disk = SimulatedDisk::new();
        let stage = Stage::open(&disk, small()).unwrap();
        disk.set_faults(vec![Fault { first, steps: lasting, kind }]);
        let mut player = Player::new(&stage.engine, &stage.inbox);
        let mut failed = 0;
        for (at, batch) in script.batches.iter().enumerate() {
            let mut tries = 0;
            loop {
                player.submit(batch, Durability::Fsync);
                stage.turn(at as u64 * 10_000);
                tries += 1;
                match player.completed().as_slice() {
                    [true] => break,
                    [false] => failed += 1,
                    other => panic!("{other:?}"),
                }
                assert_ne!(stage.engine.health().condition, Condition::Well, "{kind:?} at step {first}");
                assert!(tries < 100, "{kind:?} at step {first}: it does not recover");
            }
        }
        for again in 0..10 {
            stage.turn(1_000_000 + again * 10_000);
        }
        let last = &script.states[BATCHES];
        assert_eq!(stage.dump(), *last, "{kind:?} at step {first}, {failed} failed");
        let health = stage.engine.health();
        assert_eq!(health.condition, Condition::Well, "{kind:?} at step {first}: {}", health.fault);
        drop(stage);
        let disk = disk.after(Crash::Nothing);
        let stage = Stage::open(&disk, small()).unwrap();
        assert_eq!(stage.dump(), *last, "{kind:?} at step {first}, after a crash");
        assert_eq!(stage.told(), Vec::<String>::new());
        assert_eq!(stage.engine.check().unwrap(), [], "{kind:?} at step {first}");
    }
}

#[test]
fn a_sync_that_fails_costs_nothing_that_was_answered() {
    fail_everywhere(21, FaultKind::Sync, 1);
}

#[test]
fn syncs_that_fail_for_a_while_cost_nothing_that_was_answered() {
    fail_everywhere(22, FaultKind::Sync, 9);
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing_that_was_answered() {
    fail_everywhere(23, FaultKind::NoRoom, 7);
}

#[test]
fn writes_that_fail_for_a_while_cost_nothing_that_was_answered() {
    fail_everywhere(24, FaultKind::Write, 5);
}

/// A start on a disk that fails, for one step or for good, at any step.
#[test]
fn a_start_on_a_disk_that_fails_changes_nothing() {
    for seed in seeds(27) {
        let script = Script::new(seed, BATCHES);
        let disk = SimulatedDisk::new();
        let stage = Stage::open(&disk, small()).unwrap();
        let mut player = Player::new(&stage.engine, &stage.inbox);
        for batch in &script.batches {
            player.submit(batch, Durability::Fsync);
            stage.turn(0);
            assert_eq!(player.completed(), [true]);
        }
        let crashed = disk.after(Crash::Torn(seed));
        let trial = crashed.after(Crash::Process);
        drop(Stage::open(&trial, small()).unwrap());
        for kind in [FaultKind::NoRoom, FaultKind::Write, FaultKind::Sync, FaultKind::Power] {
            for first in 0..=trial.steps() {
                for steps in [1, u64::MAX] {
                    let disk = crashed.after(Crash::Process);
                    disk.set_faults(vec![Fault { first, steps, kind }]);
                    let what = format!("seed {seed}, {kind:?} from step {first} for {steps}");
                    if let Ok(stage) = Stage::open(&disk, small()) {
                        assert_eq!(stage.dump(), script.states[BATCHES], "{what}");
                    }
                    let disk = disk.after(Crash::Torn(first));
                    let stage = Stage::open(&disk, small()).unwrap();
                    assert_eq!(stage.dump(), script.states[BATCHES], "{what}");
                    assert_eq!(stage.told(), Vec::<String>::new(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_store_starts_on_a_full_disk() {
    let script = Script::new(28, BATCHES);
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    for batch in &script.batches {
        player.submit(batch, Durability::Fsync);
        stage.turn(0);
        player.completed();
    }
    let disk = disk.after(Crash::Nothing);
    disk.set_faults(vec![Fault { first: 0, steps: u64::MAX, kind: FaultKind::NoRoom }]);
    let stage = Stage::open(&disk, small()).unwrap();
    assert_eq!(stage.dump(), script.states[BATCHES]);
}

#[test]
fn a_full_disk_is_an_alarm_until_there_is_room() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let script = Script::new(25, 3);
    let mut player = Player::new(&stage.engine, &stage.inbox);
    disk.set_faults(vec![Fault { first: 0, steps: u64::MAX, kind: FaultKind::NoRoom }]);
    player.submit(&script.batches[0], Durability::Fsync);
    stage.turn(0);
    assert_eq!(player.completed(), [false]);
    let health = stage.engine.health();
    assert_eq!(health.condition, Condition::Full);
    assert!(health.fault.contains("make room"), "{}", health.fault);
    disk.set_faults(Vec::new());
    stage.turn(10_000);
    assert_eq!(stage.engine.health().condition, Condition::Well, "it looks by itself, without a batch");
    assert_eq!(stage.told().last().unwrap(), "the store works again");
}

#[test]
fn a_disk_that_does_not_read_is_no_answer_and_no_end() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let script = Script::new(26, 30);
    let mut player = Player::new(&stage.engine, &stage.inbox);
    for batch in &script.batches {
        player.submit(batch, Durability::Fsync);
        stage.turn(0);
        player.completed();
    }
    let number = *script.states[30].sessions.iter().find(|(_, session)| !session.queue.is_empty()).unwrap().0;
    let question = breakwater_contract::store::Question::Queue {
        session: breakwater_contract::store::SessionNumber(number),
        after: breakwater_contract::store::Position(0),
        messages_max: 100,
        bytes_max: 1 << 20,
    };
    disk.set_reads_fail(true);
    assert_eq!(stage.engine.answer(&question), breakwater_contract::store::Answer::Failed);
    disk.set_reads_fail(false);
    assert_eq!(stage.dump(), script.states[30]);
}
