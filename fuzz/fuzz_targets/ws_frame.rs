//! Any bytes as WebSocket frames, for both ends: nothing panics, and however they are split they give the same stream and the
//! same end. Any stream, in frames of any length, arrives.
//!
//! The first byte chooses the end, the second one is where the splits come from, the rest are the bytes.
#![no_main]

use breakwater_transport::ws::{Decoder, End, OpCode, Role, put_frame};
use libfuzzer_sys::fuzz_target;

const KEY: [u8; 4] = [0xDE, 0xAD, 0xBE, 0xEF];

fuzz_target!(|input: &[u8]| {
    let [choice, seed, bytes @ ..] = input else { return };
    let (role, key) = if choice & 1 == 0 { (Role::Server, Some(KEY)) } else { (Role::Client, None) };
    let whole = feed(role, bytes, usize::MAX, 0);
    assert_eq!(whole, feed(role, bytes, 1, 0));
    assert_eq!(whole, feed(role, bytes, 32, *seed));
    let mut framed = Vec::new();
    for piece in pieces(bytes, 200, *seed) {
        put_frame(&mut framed, OpCode::Ping, &piece[..piece.len().min(5)], key);
        put_frame(&mut framed, OpCode::Binary, piece, key);
    }
    assert_eq!(feed(role, &framed, 32, seed.wrapping_mul(7)), (bytes.to_vec(), None));
});

fn feed(role: Role, bytes: &[u8], most: usize, seed: u8) -> (Vec<u8>, Option<End>) {
    let mut decoder = Decoder::new(role, 4096, 8192);
    let mut stream = Vec::new();
    for piece in pieces(bytes, most, seed) {
        let (mut piece, mut answers) = (piece.to_vec(), Vec::new());
        let decoded = decoder.decode(&mut piece, KEY, &mut answers);
        stream.extend_from_slice(&piece[..decoded.payload]);
        // A pong and a close frame.
        assert!(answers.len() <= 2 * (6 + 125));
        assert_eq!(decoder.has_ended(), decoded.end.is_some());
        if decoded.end.is_some() {
            return (stream, decoded.end);
        }
    }
    (stream, None)
}

/// Splits by a generator with that seed.
fn pieces(mut bytes: &[u8], most: usize, seed: u8) -> Vec<&[u8]> {
    let (mut pieces, mut state) = (Vec::new(), u64::from(seed));
    while !bytes.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let count = if most > 1 << 20 { bytes.len() } else { ((state >> 33) as usize % most + 1).min(bytes.len()) };
        let (piece, rest) = bytes.split_at(count);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
