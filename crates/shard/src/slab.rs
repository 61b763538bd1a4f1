//! Slots for connections and sessions: paged, so that growth moves nothing and what is empty goes back.

/// Entries of one page. One bit each in a `u64`.
const PAGE: usize = 64;

/// A slab that hands out the numbers of its slots.
///
/// Every insertion gets a new generation, so that a number kept too long meets nobody. Lives on one shard.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Option<Page<T>>>,
    /// Pages with room, most recently freed last. May name a page twice or one that has filled up since.
    roomy: Vec<u32>,
    generation: u32,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    occupied: u64,
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), roomy: Vec::new(), generation: 0, len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Stores `value`; answers its slot and generation.
    pub(crate) fn insert(&mut self, value: T) -> (u32, u32) {
        self.generation = self.generation.wrapping_add(1);
        let page_index = self.page_with_room();
        let page = self.pages[page_index].get_or_insert_with(|| Page { occupied: 0, entries: Vec::new() });
        if page.entries.capacity() == 0 {
            page.entries.reserve_exact(PAGE);
        }
        let within = page.occupied.trailing_ones() as usize;
        let entry = Entry { generation: self.generation, value: Some(value) };
        if within == page.entries.len() {
            page.entries.push(entry);
        } else {
            page.entries[within] = entry;
        }
        page.occupied |= 1 << within;
        if page.occupied != u64::MAX {
            self.roomy.push(page_index as u32);
        }
        self.len += 1;
        ((page_index * PAGE + within) as u32, self.generation)
    }

    fn page_with_room(&mut self) -> usize {
        while let Some(index) = self.roomy.pop() {
            match self.pages.get(index as usize) {
                Some(Some(page)) if page.occupied == u64::MAX => {}
                Some(_) => return index as usize,
                None => {}
            }
        }
        self.pages.push(None);
        self.pages.len() - 1
    }

    /// Takes the value out of `slot`. The last one of a page gives the page back.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let index = slot as usize / PAGE;
        let within = slot as usize % PAGE;
        let page = self.pages.get_mut(index)?.as_mut()?;
        let value = page.entries.get_mut(within)?.value.take()?;
        let was_full = page.occupied == u64::MAX;
        page.occupied &= !(1 << within);
        self.len -= 1;
        if page.occupied == 0 {
            self.pages[index] = None;
            self.trim();
        } else if was_full {
            self.roomy.push(index as u32);
        }
        Some(value)
    }

    /// Forgets empty pages at the end and, once they outnumber the pages, stale entries of the list of roomy ones.
    fn trim(&mut self) {
        while matches!(self.pages.last(), Some(None)) {
            self.pages.pop();
        }
        if self.roomy.len() > 2 * self.pages.len() + 8 || self.pages.is_empty() {
            self.roomy.clear();
            for (index, page) in self.pages.iter().enumerate() {
                if page.as_ref().is_none_or(|page| page.occupied != u64::MAX) {
                    self.roomy.push(index as u32);
                }
            }
            self.roomy.shrink_to(self.pages.len() + 8);
            self.pages.shrink_to(self.pages.len() * 2);
        } else {
            // An emptied page in the middle must be found again.
            for index in (0..self.pages.len()).rev() {
                if self.pages[index].is_none() && !self.roomy.contains(&(index as u32)) {
                    self.roomy.push(index as u32);
                    break;
                }
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let page = self.pages.get(slot as usize / PAGE)?.as_ref()?;
        page.entries.get(slot as usize % PAGE)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(slot as usize / PAGE)?.as_mut()?;
        page.entries.get_mut(slot as usize % PAGE)?.value.as_mut()
    }

    pub(crate) fn generation(&self, slot: u32) -> Option<u32> {
        let page = self.pages.get(slot as usize / PAGE)?.as_ref()?;
        let entry = page.entries.get(slot as usize % PAGE)?;
        entry.value.as_ref().map(|_| entry.generation)
    }

    /// The value of `slot` if it is still of that generation (its low 16 bits, as far as others keep them).
    #[inline]
    pub(crate) fn get_of(&mut self, slot: u32, generation: u16) -> Option<&mut T> {
        let page = self.pages.get_mut(slot as usize / PAGE)?.as_mut()?;
        let entry = page.entries.get_mut(slot as usize % PAGE)?;
        if entry.generation as u16 != generation {
            return None;
        }
        entry.value.as_mut()
    }

    /// Slots in use, in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().enumerate().flat_map(|(index, page)| {
            let occupied = page.as_ref().map_or(0, |page| page.occupied);
            (0..PAGE).filter(move |bit| occupied & (1 << bit) != 0).map(move |bit| (index * PAGE + bit) as u32)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again_with_another_generation() {
        let mut slab = Slab::default();
        let (slot, first) = slab.insert('a');
        slab.insert('b');
        assert_eq!(slab.remove(slot), Some('a'));
        let (again, second) = slab.insert('c');
        assert_eq!(again, slot);
        assert_ne!(first, second);
        assert!(slab.get_of(slot, first as u16).is_none());
    }

    #[test]
    fn emptied_pages_are_given_back_and_found_again() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..1000).map(|value| slab.insert(value).0).collect();
        for slot in &slots {
            slab.remove(*slot);
        }
        assert_eq!(slab.len(), 0);
        assert!(slab.pages.is_empty());
        let again: Vec<u32> = (0..1000).map(|value| slab.insert(value).0).collect();
        assert_eq!(again.iter().max(), Some(&999));
    }

    #[test]
    fn holes_in_the_middle_are_filled_before_the_slab_grows() {
        let mut slab = Slab::default();
        for value in 0..640 {
            slab.insert(value);
        }
        for slot in 64..128 {
            slab.remove(slot);
        }
        for value in 0..64 {
            assert!(slab.insert(value).0 < 640);
        }
        assert_eq!(slab.slots().count(), 640);
    }
}
