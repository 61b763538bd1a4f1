//! A crash at any step: what was answered is there, nothing is there in part, and nothing that came later is there without what
//! came before.

use breakwater_contract::store::{Answer, Change, Durability, Question, Retained, Store as _};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};

use crate::ground::{Act, Chance, Dump, Player, Script, Stage, message, seeds, small};

const BATCHES: usize = 60;

/// How many crash points are tried: all of them with `BREAKWATER_STORE_EVERY_STEP` set, else some hundred.
fn stride(steps: u64) -> u64 {
    if std::env::var_os("BREAKWATER_STORE_EVERY_STEP").is_some() { 1 } else { (steps / 120).max(1) }
}

/// Plays batches from one on until the power goes. Answers up to which batch the store has answered for good, and how many
/// it was given.
fn play(stage: &Stage, script: &Script, from: usize, chance: &mut Chance) -> (usize, usize) {
    let mut player = Player::new(&stage.engine, &stage.inbox);
    let (mut durable, mut given) = (from, from);
    for (at, batch) in script.batches.iter().enumerate() {
        if at < from {
            continue;
        }
        let durability = if chance.below(4) == 0 { Durability::Os } else { Durability::Fsync };
        player.submit(batch, durability);
        given = at + 1;
        stage.turn(given as u64);
        if player.completed() != [true] {
            break;
        }
        if durability == Durability::Fsync {
            durable = given;
        }
    }
    (durable, given)
}

fn crash_everywhere(seed: u64, crashes: impl Fn(u64) -> Crash) {
    seeds(seed).for_each(|seed| crash_at_steps(seed, &crashes));
}

fn crash_at_steps(seed: u64, crashes: &impl Fn(u64) -> Crash) {
    let script = Script::new(seed, BATCHES);
    let whole = SimulatedDisk::new();
    let stage = Stage::open(&whole, small()).unwrap();
    assert_eq!(play(&stage, &script, 0, &mut Chance::new(seed)).1, BATCHES);
    assert_eq!(stage.dump(), script.states[BATCHES]);
    drop(stage);
    let steps = whole.steps();
    let stride = stride(steps);
    for first in (seed % stride..steps).step_by(usize::try_from(stride).unwrap()) {
        let disk = SimulatedDisk::new();
        disk.set_faults(vec![Fault { first, steps: u64::MAX, kind: FaultKind::Power }]);
        let (durable, given) = match Stage::open(&disk, small()) {
            Ok(stage) => play(&stage, &script, 0, &mut Chance::new(seed)),
            Err(_) => (0, 0),
        };
        let disk = disk.after(crashes(first));
        let stage = Stage::open(&disk, small()).unwrap_or_else(|fault| panic!("step {first}: {fault}"));
        let found = stage.dump();
        let holds = (durable..=given).find(|&state| script.states[state] == found);
        assert!(
            holds.is_some(),
            "seed {seed}, step {first}: what is found is no state from {durable} to {given}; told: {:#?}",
            stage.told()
        );
        assert_eq!(stage.told(), Vec::<String>::new(), "seed {seed}, step {first}: a crash is no damage");
        assert_eq!(stage.engine.check().unwrap(), [], "seed {seed}, step {first}");
        stage.engine.settle(1_000_000);
        assert_eq!(stage.dump(), found, "seed {seed}, step {first}: all folded");
        assert_eq!(stage.engine.check().unwrap(), [], "seed {seed}, step {first}: all folded");
        // It goes on from there, and is the same after another crash.
        drop(stage);
        go_on(&disk, &script, seed, first, holds.unwrap());
    }
}

/// Messages of before are not known by their places to a player that was not there, so it plays a script of its own.
fn go_on(disk: &SimulatedDisk, script: &Script, seed: u64, first: u64, state: usize) {
    let stage = Stage::open(disk, small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    let known = script.states[state].sessions.keys().copied().collect::<Vec<_>>();
    for number in 0..5 {
        player.submit(&[Act::Push(1_000_000 + number, known.clone())], Durability::Fsync);
        stage.turn(0);
        assert_eq!(player.completed(), [true]);
    }
    let before = stage.dump();
    assert_eq!(before.sessions.len(), known.len());
    for (number, session) in &before.sessions {
        let more = session.queue.len() - script.states[state].sessions[number].queue.len();
        assert_eq!(more, 5, "seed {seed}, step {first}");
    }
    drop(stage);
    let disk = disk.after(Crash::Nothing);
    let stage = Stage::open(&disk, small()).unwrap();
    assert_eq!(stage.dump(), before, "seed {seed}, step {first}: after the second crash");
    assert!(stage.engine.new_session().0 > known.last().copied().unwrap_or(0));
}

#[test]
fn a_topic_that_was_cleared_stays_so_when_what_was_set_before_comes_after_a_fold() {
    let stage = Stage::open(&SimulatedDisk::new(), small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    let set = |revision| {
        let retained = Retained { message: message(1, "r/1"), revision, set_unix_ms: 0, by: "".into() };
        Act::Plain(Change::Retain(Box::new(retained)))
    };
    player.submit(&[set(6)], Durability::Fsync);
    stage.engine.settle(1);
    player.submit(&[Act::Plain(Change::Unretain { topic: "r/1".into(), revision: 8 })], Durability::Fsync);
    stage.engine.settle(2);
    player.submit(&[set(7)], Durability::Fsync);
    stage.engine.write(3, std::time::Duration::ZERO);
    assert_eq!(stage.engine.answer(&Question::Retained("r/1".into())), Answer::Retained(None));
    stage.engine.settle(3);
    assert_eq!(stage.engine.answer(&Question::Retained("r/1".into())), Answer::Retained(None));
    player.submit(&[set(9)], Durability::Fsync);
    stage.engine.settle(4);
    assert_eq!(stage.dump().retained.len(), 1);
}

/// Crashes, and then again at every step of the start and of the first batches after it.
#[test]
fn a_crash_while_a_start_sets_things_right_loses_nothing_answered() {
    for seed in seeds(5) {
        let script = Script::new(seed, 25);
        for round in 0..12 {
            let disk = SimulatedDisk::new();
            let stage = Stage::open(&disk, small()).unwrap();
            let played = Script { batches: script.batches[..20 + round % 5].to_vec(), states: Vec::new() };
            let (durable, given) = play(&stage, &played, 0, &mut Chance::new(seed + round as u64));
            let crashed = disk.after(Crash::Torn(seed + round as u64));
            let before = Stage::open(&crashed.after(Crash::Process), small()).unwrap().dump();
            assert!(script.states[durable..=given].contains(&before));
            crash_again(&crashed, &before, &format!("seed {seed}, round {round}"));
        }
    }
}

fn crash_again(crashed: &SimulatedDisk, before: &Dump, what: &str) {
    let known: Vec<u64> = before.sessions.keys().copied().collect();
    for first in 0.. {
        let disk = crashed.after(Crash::Process);
        disk.set_faults(vec![Fault { first, steps: u64::MAX, kind: FaultKind::Power }]);
        let mut stored = 0;
        if let Ok(stage) = Stage::open(&disk, small()) {
            let mut player = Player::new(&stage.engine, &stage.inbox);
            for number in 0..3 {
                player.submit(&[Act::Push(1_000_000 + number, known.clone())], Durability::Fsync);
                stage.turn(number * 100_000);
                stored += player.completed().iter().filter(|stored| **stored).count();
            }
        }
        let stage = Stage::open(&disk.after(Crash::Scattered(first)), small()).unwrap();
        let found = stage.dump();
        let what = format!("{what}, step {first}");
        assert_eq!(stage.told(), Vec::<String>::new(), "{what}");
        assert_eq!(found.sessions.keys().copied().collect::<Vec<_>>(), known, "{what}");
        assert_eq!((&found.retained, &found.values), (&before.retained, &before.values), "{what}");
        for (number, session) in &found.sessions {
            let (old, new) = session.queue.split_at(before.sessions[number].queue.len());
            assert_eq!(old, before.sessions[number].queue, "{what}");
            assert!((stored..=3).contains(&new.len()), "{what}: {stored} stored, {new:?}");
        }
        if disk.steps() < first {
            break;
        }
    }
}

#[test]
fn a_power_cut_that_keeps_nothing_unsynced_loses_nothing_answered() {
    crash_everywhere(1, |_| Crash::Nothing);
}

#[test]
fn a_power_cut_that_tears_the_last_write_loses_nothing_answered() {
    crash_everywhere(2, Crash::Torn);
}

#[test]
fn a_power_cut_that_keeps_any_sectors_loses_nothing_answered() {
    crash_everywhere(3, Crash::Scattered);
}

#[test]
fn a_process_that_dies_loses_nothing_answered() {
    crash_everywhere(4, |_| Crash::Process);
}
