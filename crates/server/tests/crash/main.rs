//! A broker that is killed at any moment, again and again, keeps what it has acknowledged: the real program on real files,
//! with clients that behave as the specification asks of them.
//!
//! `cargo xtask crash` plays longer games. Not here: power cuts, which `breakwater-store` plays on a disk of its own.
#![forbid(unsafe_code)]
#![cfg(unix)]

mod broker;
mod chance;
mod game;
mod ledger;
mod link;
mod publisher;
mod subscriber;
mod visitor;

use std::path::PathBuf;

use broker::Stable;
use game::{Game, Options};
use publisher::Terms;

/// A number from the environment, or what the test takes without.
fn number(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(format!("BREAKWATER_CRASH_{name}")).ok();
    value.map_or(otherwise, |value| value.parse().unwrap_or_else(|fault| panic!("BREAKWATER_CRASH_{name}: {fault}")))
}

#[test]
fn what_was_acknowledged_is_there_after_any_number_of_kills() {
    let seed = number("SEED", 1);
    let program = std::env::var_os("BREAKWATER_CRASH_BROKER");
    let data = std::env::temp_dir().join(format!("breakwater-crash-{seed}-{}", std::process::id()));
    let mut flags = vec!["--shards".to_owned(), number("SHARDS", 2).to_string()];
    let durability = std::env::var("BREAKWATER_CRASH_DURABILITY").unwrap_or_else(|_| "fsync".into());
    let durability = format!("store.durability={durability}");
    // Nothing may be dropped for want of room; and small files, so that kills meet new ones, folds, and files that go.
    let settings = ["queue.max_messages=10000000", "queue.max_bytes=1GB", "store.segment_size=1MB", "store.memory=1MB"];
    for setting in settings.into_iter().chain([durability.as_str()]) {
        flags.extend(["--set".to_owned(), setting.to_owned()]);
    }
    let stable =
        Stable { program: program.map_or(env!("CARGO_BIN_EXE_breakwater").into(), PathBuf::from), data, flags };
    let folder = stable.data.clone();
    let terms = Terms { rate: number("RATE", 100) as f64, qos_max: number("QOS", QOS) as u8 };
    let options = Options {
        kills: number("KILLS", 8),
        seconds: number("SECONDS", 3600),
        seed,
        publishers: number("PUBLISHERS", 4) as usize,
        life_ms: number("LIFE_MS", 600),
        terms,
    };
    let mut game = Game::new(stable, options);
    if let Err(told) = game.play() {
        panic!("{told}");
    }
    println!("{}", game.told());
    std::fs::remove_dir_all(folder).expect("what a broker has written");
}

/// Highest QoS of messages that are not retained, and come over a kill.
const QOS: u64 = 2;
