//! What the disk has to hold: as much as is wanted, and not much more.

use breakwater_contract::store::{Change, Durability, Store as _};
use breakwater_store::{Crash, SimulatedDisk};

use crate::ground::{Act, Player, Stage, row, small};

fn segments(disk: &SimulatedDisk) -> usize {
    disk.paths().iter().filter(|path| path.ends_with(".seg")).count()
}

/// Messages from one number to another for session 1, which takes each at once, and every fortieth for session 2 too.
fn traffic(stage: &Stage, player: &mut Player<'_>, from: u64, to: u64) {
    for number in from..to {
        let wants = if number % 40 == 0 { vec![1, 2] } else { vec![1] };
        player.submit(&[Act::Push(number, wants)], Durability::Fsync);
        stage.turn(number);
        player.completed();
        player.submit(&[Act::Forget(1, vec![number])], Durability::Os);
        stage.turn(number);
        player.completed();
    }
}

#[test]
fn segments_that_nobody_needs_go() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    player.submit(&[Act::Plain(Change::Session(Box::new(row(1, 1))))], Durability::Fsync);
    traffic(&stage, &mut player, 1, 39);
    let early = segments(&disk);
    for _ in 0..20 {
        traffic(&stage, &mut player, 41, 79);
    }
    assert!(segments(&disk) <= early + 2, "{early} and {}", segments(&disk));
}

#[test]
fn a_slow_session_does_not_keep_the_segments_that_it_has_a_message_in() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    for session in [1, 2] {
        player.submit(&[Act::Plain(Change::Session(Box::new(row(session, 1))))], Durability::Fsync);
    }
    traffic(&stage, &mut player, 1, 2000);
    assert!(disk.written() > 100 * 2048, "enough for a hundred segments");
    assert!(segments(&disk) < 12, "{}", segments(&disk));
    let wanted: Vec<u64> = (1..50).map(|number| number * 40).collect();
    assert_eq!(stage.dump().sessions[&2].queue, wanted);

    // Copies are found after a crash, and go like others.
    let positions = player.positions.clone();
    drop(stage);
    let disk = disk.after(Crash::Nothing);
    let stage = Stage::open(&disk, small()).unwrap();
    assert_eq!(stage.dump().sessions[&2].queue, wanted);
    let mut player = Player::new(&stage.engine, &stage.inbox);
    player.positions = positions;
    player.submit(&[Act::Forget(2, wanted[..20].to_vec())], Durability::Fsync);
    traffic(&stage, &mut player, 2001, 2030);
    assert_eq!(stage.dump().sessions[&2].queue, wanted[20..]);
    player.submit(&[Act::ForgetThrough(2, wanted[48])], Durability::Fsync);
    traffic(&stage, &mut player, 2041, 2079);
    assert_eq!(stage.dump().sessions[&2].queue, [0; 0]);
    assert!(segments(&disk) < 6, "{}", segments(&disk));
    assert_eq!(stage.told(), Vec::<String>::new());
    assert_eq!(stage.engine.check().unwrap(), []);
    assert_eq!(stage.engine.health().damages, 0);
}

#[test]
fn a_store_that_is_opened_and_closed_leaves_everything_as_it_was() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    player.submit(&[Act::Plain(Change::Session(Box::new(row(1, 1))))], Durability::Fsync);
    stage.engine.settle(1);
    drop(stage);
    let before = disk.paths();
    for _ in 0..3 {
        let stage = Stage::open(&disk, small()).unwrap();
        stage.engine.settle(1);
    }
    assert_eq!(disk.paths(), before);
}

#[test]
fn an_overlay_that_is_full_lets_submitters_wait_until_it_is_folded() {
    let disk = SimulatedDisk::new();
    let options = breakwater_store::Options { fold_bytes: 4000, ..small() };
    let stage = Stage::open(&disk, options).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    player.submit(&[Act::Plain(Change::Session(Box::new(row(1, 1))))], Durability::Fsync);
    let mut answered = 0;
    for number in 1..2000 {
        player.submit(&[Act::Push(number, vec![1])], Durability::Fsync);
        stage.engine.write(0, std::time::Duration::ZERO);
        answered += player.completed().len();
    }
    assert!(stage.engine.is_choked());
    assert!(answered < 1500, "{answered}");
    while stage.engine.fold() || stage.engine.write(0, std::time::Duration::ZERO) {}
    player.completed();
    assert!(!stage.engine.is_choked());
    let queue = stage.dump().sessions[&1].queue.len() as u64;
    assert_eq!(queue, player.positions.len() as u64);
}
