//! Chance that repeats.

/// Numbers that look random and are the same in every run. Never 0.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number below the bound; 0 if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
