//! Slots for connections and sessions: paged, so that growth moves nothing and what is empty goes back.

/// Entries of one page. One bit each in a `u64`.
const PAGE: usize = 64;

/// A slab that hands out the numbers of its slots.
///
/// Every insertion gets a new generation, so that a number kept too long meets nobody. Lives on one shard.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Vec<Page<T>>,
    /// Pages with room, each once, most recently freed last.
    roomy: Vec<u32>,
    /// Pages that hold nothing.
    empty: usize,
    generation: u32,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    occupied: u64,
    /// No memory while nothing is occupied.
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), roomy: Vec::new(), empty: 0, generation: 0, len: 0 }
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
        let page = &mut self.pages[page_index];
        if page.occupied == 0 {
            self.empty -= 1;
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
        if page.occupied == u64::MAX {
            self.roomy.pop();
        }
        self.len += 1;
        ((page_index * PAGE + within) as u32, self.generation)
    }

    fn page_with_room(&mut self) -> usize {
        if let Some(index) = self.roomy.last() {
            return *index as usize;
        }
        self.pages.push(Page { occupied: 0, entries: Vec::new() });
        self.empty += 1;
        let index = self.pages.len() - 1;
        self.roomy.push(index as u32);
        index
    }

    /// Takes the value out of `slot`. The last one of a page gives the page back.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let index = slot as usize / PAGE;
        let within = slot as usize % PAGE;
        let page = self.pages.get_mut(index)?;
        let value = page.entries.get_mut(within)?.value.take()?;
        if page.occupied == u64::MAX {
            self.roomy.push(index as u32);
        }
        page.occupied &= !(1 << within);
        self.len -= 1;
        if page.occupied == 0 {
            page.entries = Vec::new();
            self.empty += 1;
            self.trim();
        }
        Some(value)
    }

    /// Forgets the empty pages at the end once they are half of all: rarely enough that it costs nothing per removal.
    fn trim(&mut self) {
        if self.empty * 2 < self.pages.len() {
            return;
        }
        let at_end = self.pages.iter().rev().take_while(|page| page.occupied == 0).count();
        if at_end * 2 < self.pages.len() {
            return;
        }
        let kept = self.pages.len() - at_end;
        self.pages.truncate(kept);
        self.pages.shrink_to(kept);
        self.roomy.retain(|index| (*index as usize) < kept);
        self.roomy.shrink_to(kept);
        self.empty -= at_end;
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let page = self.pages.get(slot as usize / PAGE)?;
        page.entries.get(slot as usize % PAGE)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let page = self.pages.get_mut(slot as usize / PAGE)?;
        page.entries.get_mut(slot as usize % PAGE)?.value.as_mut()
    }

    pub(crate) fn generation(&self, slot: u32) -> Option<u32> {
        let page = self.pages.get(slot as usize / PAGE)?;
        let entry = page.entries.get(slot as usize % PAGE)?;
        entry.value.as_ref().map(|_| entry.generation)
    }

    /// The value of `slot` if it is still of that generation (its low 16 bits, as far as others keep them).
    #[inline]
    pub(crate) fn get_of(&mut self, slot: u32, generation: u16) -> Option<&mut T> {
        let page = self.pages.get_mut(slot as usize / PAGE)?;
        let entry = page.entries.get_mut(slot as usize % PAGE)?;
        if entry.generation as u16 != generation {
            return None;
        }
        entry.value.as_mut()
    }

    /// No slot in use is at or above it.
    pub(crate) fn bound(&self) -> u32 {
        (self.pages.len() * PAGE) as u32
    }

    /// Slots in use, in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().enumerate().flat_map(|(index, page)| {
            let occupied = page.occupied;
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

    /// Each page that empties must not cost a look at all others: a million clients that leave would stop the shard.
    #[test]
    fn each_page_with_room_is_listed_once_whatever_comes_and_goes() {
        let mut slab = Slab::default();
        let mut state = 11_u64;
        let mut live = Vec::new();
        for round in 0..200_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Waves: mostly in, then mostly out.
            let comes = (state >> 40) % 8 < if round / 10_000 % 2 == 0 { 6 } else { 2 };
            if comes || live.is_empty() {
                live.push(slab.insert(round).0);
            } else {
                let slot = live.swap_remove((state >> 33) as usize % live.len());
                assert!(slab.remove(slot).is_some());
            }
            if round % 1000 == 0 {
                let mut roomy = slab.roomy.clone();
                roomy.sort_unstable();
                let with_room = (0..).zip(&slab.pages).filter(|(_, page)| page.occupied != u64::MAX);
                assert_eq!(roomy, with_room.map(|(index, _)| index).collect::<Vec<u32>>());
                assert_eq!(slab.empty, slab.pages.iter().filter(|page| page.occupied == 0).count());
                assert!(slab.pages.iter().all(|page| page.occupied != 0 || page.entries.capacity() == 0));
                assert_eq!(slab.slots().count(), live.len());
            }
        }
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
