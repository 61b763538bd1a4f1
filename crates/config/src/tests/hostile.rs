//! Text that nobody would write. The fuzz target `config_toml` goes further; this goes along with every test run.

use super::chance::Chance;
use super::{around, sources};
use crate::{Sources, edited, explain, plan, resolve, show};

const GOOD: &str = include_str!("../../../../fuzz/seeds/config_toml/listeners.toml");

/// Bytes that mean something in one of the grammars.
const SHARP: &[u8] = b"[]{}=\".'#\n,:/-_ 0195smKBl\\\0\x1b\xc3";

fn broken(chance: &mut Chance) -> String {
    let mut bytes = GOOD.as_bytes().to_vec();
    for _ in 0..=chance.below(3) {
        let (at, byte) = (chance.below(bytes.len()), SHARP[chance.below(SHARP.len())]);
        match chance.below(4) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => {
                let end = (at + chance.below(40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = chance.below(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn hostile_text_costs_faults_of_one_line_and_nothing_else() {
    let mut chance = Chance(0x5eed);
    let mut good = 0;
    for _ in 0..2000 {
        let text = broken(&mut chance);
        let flag = broken(&mut chance);
        let flag = flag.lines().nth(chance.below(8)).unwrap_or_default().to_owned();
        let with: Sources = match chance.below(12) {
            0 => sources(&text, &[], &[&flag], &[]),
            1 => sources(&text, &[], &[], &[&flag]),
            2 => sources(&text, &[("BREAKWATER_LISTENERS__TCP__DEFAULT__BIND", &flag)], &[], &[]),
            3 => sources(&text, &[(&format!("BREAKWATER_{flag}"), "1")], &[], &[]),
            _ => sources(&text, &[], &[], &[]),
        };
        match resolve(&with, &around()) {
            Err(faults) => {
                assert!(!faults.is_empty());
                for fault in faults.iter().map(ToString::to_string) {
                    assert!(!fault.chars().any(char::is_control), "{fault:?} of {text}");
                }
            }
            Ok(resolved) => {
                good += 1;
                assert!(plan(&resolved, &resolved).is_empty());
                assert!(show(&resolved, None, true).lines().all(|line| explain(&resolved, key(line)).is_ok()));
                let same = edited(&text, &[]).expect("it was read a moment ago");
                let again = Sources { file: with.file.map(|(path, _)| (path, same)), ..with };
                let again = resolve(&again, &around()).expect("nothing was changed");
                assert!(plan(&resolved, &again).is_empty(), "{text}");
            }
        }
    }
    assert!(good > 20, "only {good} of them are good: nothing was shown of those");
}

fn key(line: &str) -> &str {
    line.split(" = ").next().unwrap_or_default()
}
