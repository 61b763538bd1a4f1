//! Files that somebody's editor, or somebody, has spoiled.

use super::samples::SAMPLES;
use super::*;
use crate::tests::chance::Chance;

const PIECES: [&str; 34] = [
    "${",
    "}",
    "{",
    "\"",
    "\"\"\"",
    "#",
    "//",
    "\n",
    "=",
    "+=",
    "[",
    "]",
    ",",
    ".",
    ":",
    "include \"x\"",
    "${a}",
    "${?a.b}",
    "\0",
    "\u{1b}",
    "é",
    "-1",
    "0",
    "99999999999999999999",
    "true",
    "infinity",
    " ",
    "listener",
    "1883",
    "\r",
    "\u{85}",
    "\u{feff}",
    "\\u0000",
    "\\",
];

/// A part of the text, with something put in, taken out or moved a few times.
fn spoil(chance: &mut Chance, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let from = chance.below(chars.len());
    let to = from + chance.below(chars.len() - from);
    chars = chars[from..to].to_vec();
    for _ in 0..1 + chance.below(6) {
        let at = chance.below(chars.len() + 1);
        let to = (at + chance.below(40)).min(chars.len());
        match chance.below(3) {
            0 => drop(chars.splice(at..at, PIECES[chance.below(PIECES.len())].chars())),
            1 => drop(chars.drain(at..to)),
            _ => {
                let moved: Vec<char> = chars.drain(at..to).collect();
                let back = chance.below(chars.len() + 1);
                chars.splice(back..back, moved);
            }
        }
    }
    chars.into_iter().collect()
}

#[test]
fn spoiled_files_lose_no_line_and_write_nothing_that_is_refused() {
    let mut chance = Chance(88_172_645_463_325_252);
    for round in 0..600 {
        let (format, _, text) = SAMPLES[round % SAMPLES.len()];
        let text = spoil(&mut chance, text);
        let Ok(imported) = import(format, &text, &mut Alone) else { continue };
        assert!(imported.fates[0].1.iter().all(|fate| *fate != Fate::Unread), "{text:?}");
        for remark in &imported.remarks {
            let line = remark.to_string();
            assert!(!line.contains(char::is_control) && !line.contains("not understood as one of"), "{line}\n{text:?}");
        }
        starts(&imported);
    }
}
