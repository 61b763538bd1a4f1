//! Arbitrary operations against a client that keeps book. The fuzz target `session_ops` plays the same games.

#[path = "model/play.rs"]
mod play;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_happens(moves in prop::collection::vec(any::<u8>(), 0..2000)) {
        play::play(&moves);
    }
}

/// Few kinds of moves in long games reach what evenly mixed ones don't: full windows, long resumptions, ids that wrap.
#[test]
fn promises_hold_in_lopsided_games() {
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let palette: [u8; 6] = std::array::from_fn(|_| next());
        let setup = [next(), next(), next(), next()];
        let moves: Vec<u8> =
            setup.into_iter().chain((0..4000).flat_map(|_| [palette[usize::from(next()) % 6], next()])).collect();
        play::play(&moves);
    }
}
