//! Keyed hashes: who does not know the key can't choose texts that collide.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// The key of all hashes of one router.
#[derive(Clone)]
pub(crate) struct HashKey {
    shared: SharedSeed,
    seed: u64,
}

impl HashKey {
    pub(crate) fn new(seed: u64) -> Self {
        Self { shared: SharedSeed::from_u64(seed), seed: scrambled(seed) }
    }

    #[inline]
    pub(crate) fn text(&self, text: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    #[inline]
    pub(crate) fn number(&self, number: u64) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write_u64(number);
        hasher.finish()
    }

    #[inline]
    pub(crate) fn pair(&self, a: u32, b: u32) -> u64 {
        self.number((u64::from(a) << 32) | u64::from(b))
    }
}

/// A small number as the hasher's own seed would leave the low bits of short texts alike (splitmix64).
fn scrambled(seed: u64) -> u64 {
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_of_short_texts_differ_whatever_the_seed() {
        for seed in [0, 1, 2, u64::MAX] {
            let key = HashKey::new(seed);
            let mut counts = [0; 4];
            (0..400).for_each(|number| counts[key.text(&format!("t/{number}")) as usize % 4] += 1);
            assert!(counts.iter().all(|count| (50..=150).contains(count)), "{counts:?}");
        }
    }
}
