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
        Self { shared: SharedSeed::from_u64(seed), seed: seed.rotate_left(32) }
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
