//! `cargo xtask crash`: kills the broker again and again under clients that publish and receive, and checks that nothing
//! acknowledged is lost. The game itself lies with the tests of `breakwater-server`; here it is started with other numbers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
cargo xtask crash                           kill the broker and check what it kept; see docs/store.md
    --kills N          SIGKILLs of one game (default 200); 0 for one life, then two kills at rest
    --seed N           of the first game (default 1); --games N as many games, each with the next seed (default 1)
    --seconds S        end each game after so long
    --life-ms N        longest life of a broker, in milliseconds (default 1000)
    --publishers N     (default 4); --rate N messages per second of each (default 200)
    --qos N            highest QoS of what is not retained (default 2)
    --shards N         of the broker (default 2)
    --durability WORD  fsync (default) or os
    --broker PATH      the broker (default: a debug build of this tree)";

/// Names of the options, and of the variables that the game reads.
const OPTIONS: [(&str, &str); 8] = [
    ("--kills", "KILLS"),
    ("--seconds", "SECONDS"),
    ("--life-ms", "LIFE_MS"),
    ("--publishers", "PUBLISHERS"),
    ("--rate", "RATE"),
    ("--qos", "QOS"),
    ("--shards", "SHARDS"),
    ("--durability", "DURABILITY"),
];

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    let mut set = vec![
        ("KILLS", "200".to_owned()),
        ("LIFE_MS", "1000".to_owned()),
        ("RATE", "200".to_owned()),
        ("QOS", "2".to_owned()),
    ];
    let (mut seed, mut games) = (1, 1);
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if matches!(word, "--help" | "-h") {
            println!("{USAGE}");
            return Ok(());
        }
        let value = words.next().with_context(|| format!("{word} lacks a value\n{USAGE}"))?;
        match word {
            "--seed" => seed = value.parse::<u64>().context("--seed")?,
            "--games" => games = value.parse::<u64>().context("--games")?,
            "--broker" => {
                set.push(("BROKER", Path::new(value).canonicalize().context("--broker")?.display().to_string()))
            }
            _ => {
                let Some((_, name)) = OPTIONS.iter().find(|(option, _)| *option == word) else {
                    bail!("there is no option `{word}`\n{USAGE}")
                };
                set.push((name, value.to_owned()));
            }
        }
    }
    for seed in seed..seed + games {
        let mut command = Command::new("cargo");
        command.current_dir(root).args(["test", "--quiet", "--locked", "-p", "breakwater-server", "--test", "crash"]);
        command.args(["--", "--exact", "what_was_acknowledged_is_there_after_any_number_of_kills", "--nocapture"]);
        command.env("RUST_BACKTRACE", "0").env("BREAKWATER_CRASH_SEED", seed.to_string());
        command.envs(set.iter().map(|(name, value)| (format!("BREAKWATER_CRASH_{name}"), value)));
        if !command.status().context("cargo does not start")?.success() {
            bail!("a promise was broken: the seed is {seed}, what happened stands above");
        }
    }
    Ok(())
}
