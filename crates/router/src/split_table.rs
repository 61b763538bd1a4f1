//! A hash table in parts, so that growing one part never stalls a turn.

use hashbrown::HashTable;

/// A hash table whose entries are spread over parts that grow and shrink on their own. At 1,000,000 entries in 256 parts
/// a growing part rehashes 4,000 entries: tens of microseconds instead of tens of milliseconds.
///
/// The caller says how entries hash; an entry's hash must not depend on anything outside of it, or rehashing would miss
/// the cache once per entry.
pub(crate) struct SplitTable<T> {
    parts: Box<[HashTable<T>]>,
}

impl<T> SplitTable<T> {
    /// `parts` is a power of two.
    pub(crate) fn new(parts: usize) -> Self {
        debug_assert!(parts.is_power_of_two());
        Self { parts: (0..parts).map(|_| HashTable::new()).collect() }
    }

    /// hashbrown uses the lowest bits for the bucket and the highest seven for its tags; the part comes from between.
    #[inline]
    fn part(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.parts.len() - 1)
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts[self.part(hash)].find(hash, is)
    }

    pub(crate) fn find_mut(&mut self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let part = self.part(hash);
        self.parts[part].find_mut(hash, is)
    }

    pub(crate) fn insert(&mut self, hash: u64, value: T, rehash: impl Fn(&T) -> u64) {
        let part = self.part(hash);
        self.parts[part].insert_unique(hash, value, rehash);
    }

    pub(crate) fn remove(&mut self, hash: u64, is: impl FnMut(&T) -> bool, rehash: impl Fn(&T) -> u64) -> Option<T> {
        let part = self.part(hash);
        remove(&mut self.parts[part], hash, is, rehash)
    }
}

/// Removes an entry and gives memory back when the table has become sparse.
pub(crate) fn remove<T>(
    table: &mut HashTable<T>,
    hash: u64,
    is: impl FnMut(&T) -> bool,
    rehash: impl Fn(&T) -> u64,
) -> Option<T> {
    let (value, _) = table.find_entry(hash, is).ok()?.remove();
    if table.len() * 8 <= table.capacity() {
        let room = table.len() * 2;
        table.shrink_to(room, rehash);
    }
    Some(value)
}

/// A number and 32 bits of the hash of what it stands for: compared before, and rehashed without, touching that.
#[derive(Clone, Copy)]
pub(crate) struct Tagged {
    pub(crate) tag: u32,
    pub(crate) id: u32,
}

impl Tagged {
    /// The lower half of `hash`; callers may spend the upper half on something else.
    #[inline]
    pub(crate) fn new(hash: u64, id: u32) -> Self {
        Self { tag: hash as u32, id }
    }

    /// The hash that a tagged entry is filed under.
    #[inline]
    pub(crate) fn filed_under(hash: u64) -> u64 {
        u64::from(hash as u32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        Self::filed_under(u64::from(self.tag))
    }
}
