//! One session driven by arbitrary operations, against a client that keeps book: the game of `crates/session/tests`.
#![no_main]

#[path = "../../crates/session/tests/model/play.rs"]
mod play;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|moves: &[u8]| {
    // Longer games find nothing that shorter ones don't, and the model looks at everything after each move.
    if moves.len() <= 2000 {
        play::play(moves);
    }
});
