//! Values under stable numbers, in pages: growing moves nothing, and an empty page goes back to the allocator.

/// Numbered values. A page of 64 is the unit of allocation; a bitmap says which of its slots are taken.
pub(crate) struct Slab<T> {
    pages: Vec<Page<T>>,
    /// Pages with a free slot, each once.
    open: Vec<u32>,
    len: u32,
    empty_pages: usize,
    /// The slots of a page that became empty, so that one value that comes and goes doesn't allocate a page each time.
    spare: Option<Box<[T]>>,
}

struct Page<T> {
    taken: u64,
    /// Empty while `taken` is 0.
    slots: Box<[T]>,
}

const PAGE: u32 = 64;

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), open: Vec::new(), len: 0, empty_pages: 0, spare: None }
    }
}

impl<T: Default> Slab<T> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let number = match self.open.last() {
            Some(&page) => page,
            None => {
                let page = u32::try_from(self.pages.len()).expect("2^26 pages would not fit into memory");
                self.pages.push(Page { taken: 0, slots: Box::default() });
                self.open.push(page);
                self.empty_pages += 1;
                page
            }
        };
        let page = &mut self.pages[number as usize];
        if page.taken == 0 {
            self.empty_pages -= 1;
            page.slots = self.spare.take().unwrap_or_else(|| (0..PAGE).map(|_| T::default()).collect());
        }
        let slot = page.taken.trailing_ones();
        page.taken |= 1 << slot;
        page.slots[slot as usize] = value;
        if page.taken == u64::MAX {
            self.open.pop();
        }
        self.len += 1;
        number * PAGE + slot
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let number = index / PAGE;
        let bit = 1 << (index % PAGE);
        let page = self.pages.get_mut(number as usize)?;
        if page.taken & bit == 0 {
            return None;
        }
        if page.taken == u64::MAX {
            self.open.push(number);
        }
        let value = std::mem::take(&mut page.slots[(index % PAGE) as usize]);
        page.taken &= !bit;
        self.len -= 1;
        if page.taken == 0 {
            let slots = std::mem::take(&mut page.slots);
            self.spare = (self.len > 0).then_some(slots);
            self.empty_pages += 1;
            self.trim();
        }
        Some(value)
    }

    /// Forgets the empty pages at the end once they are half of all.
    fn trim(&mut self) {
        if self.empty_pages * 2 < self.pages.len() {
            return;
        }
        let at_end = self.pages.iter().rev().take_while(|page| page.taken == 0).count();
        if at_end * 2 < self.pages.len() {
            return;
        }
        let kept = self.pages.len() - at_end;
        self.pages.truncate(kept);
        self.pages.shrink_to(kept);
        self.open.retain(|page| (*page as usize) < kept);
        self.open.shrink_to(self.open.len());
        self.empty_pages -= at_end;
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let page = self.pages.get((index / PAGE) as usize)?;
        let slot = index % PAGE;
        if page.taken & (1 << slot) == 0 {
            return None;
        }
        page.slots.get(slot as usize)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let page = self.pages.get_mut((index / PAGE) as usize)?;
        let slot = index % PAGE;
        if page.taken & (1 << slot) == 0 {
            return None;
        }
        page.slots.get_mut(slot as usize)
    }

    /// The first taken index at or after `from`.
    pub(crate) fn next_taken(&self, from: u32) -> Option<u32> {
        let mut slot = from % PAGE;
        for (number, page) in (0u32..).zip(&self.pages).skip((from / PAGE) as usize) {
            let rest = page.taken >> slot;
            if rest != 0 {
                return Some(number * PAGE + slot + rest.trailing_zeros());
            }
            slot = 0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_reused() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..1000u32).map(|n| slab.insert(n)).collect();
        for (n, id) in (0..).zip(&ids) {
            assert_eq!(slab.get(*id), Some(&n));
        }
        for id in ids.iter().skip(1).step_by(2) {
            assert!(slab.remove(*id).is_some());
            assert!(slab.remove(*id).is_none());
            assert!(slab.get(*id).is_none());
        }
        let pages = slab.pages.len();
        for n in 0..500 {
            slab.insert(n);
        }
        assert_eq!(slab.pages.len(), pages);
        assert_eq!(slab.len(), 1000);
    }

    #[test]
    fn an_empty_slab_holds_no_memory() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..1000u32).map(|n| slab.insert(n)).collect();
        for id in ids {
            slab.remove(id);
        }
        assert_eq!(slab.pages.capacity() + slab.open.capacity(), 0);
    }

    #[test]
    fn next_taken_skips_holes_and_pages() {
        let mut slab = Slab::default();
        let ids: Vec<u32> = (0..300u32).map(|n| slab.insert(n)).collect();
        for id in &ids[1..299] {
            slab.remove(*id);
        }
        assert_eq!(slab.next_taken(0), Some(0));
        assert_eq!(slab.next_taken(1), Some(299));
        assert_eq!(slab.next_taken(300), None);
    }
}
