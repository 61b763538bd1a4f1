//! Messages that the store has, or is to have, as long as somebody here speaks of them.

use breakwater_contract::store::Position;
use breakwater_session::Kept;

/// Where a message is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its batch is not answered.
    Unknown,
    At(Position),
    /// The store could not take it.
    Lost,
}

/// One entry per message, however many sessions hold it.
#[derive(Debug, Default)]
pub(crate) struct KeptMessages {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    holders: u32,
}

impl KeptMessages {
    /// A new one, with one holder.
    pub(crate) fn open(&mut self, place: Place) -> Kept {
        let entry = Entry { place, holders: 1 };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        Kept(index + 1)
    }

    pub(crate) fn hold(&mut self, kept: Kept) {
        if let Some(entry) = self.get_mut(kept) {
            entry.holders += 1;
        }
    }

    pub(crate) fn release(&mut self, kept: Kept) {
        let Some(entry) = self.get_mut(kept) else { return };
        debug_assert!(entry.holders > 0, "released more often than held");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        self.free.push(kept.0 - 1);
        if self.free.len() == self.entries.len() && self.entries.len() > 1024 {
            *self = Self::default();
        }
    }

    pub(crate) fn place(&self, kept: Kept) -> Place {
        let entry = kept.0.checked_sub(1).and_then(|index| self.entries.get(index as usize));
        entry.map_or(Place::Lost, |entry| entry.place)
    }

    pub(crate) fn settle(&mut self, kept: Kept, place: Place) {
        if let Some(entry) = self.get_mut(kept) {
            entry.place = place;
        }
    }

    /// Messages that somebody speaks of.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn get_mut(&mut self, kept: Kept) -> Option<&mut Entry> {
        self.entries.get_mut(kept.0.checked_sub(1)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_again_only_when_nobody_holds_it() {
        let mut kept = KeptMessages::default();
        let first = kept.open(Place::Unknown);
        kept.hold(first);
        kept.release(first);
        let second = kept.open(Place::At(Position(7)));
        assert_ne!(first, second);
        assert_eq!((kept.place(first), kept.place(second)), (Place::Unknown, Place::At(Position(7))));
        kept.settle(first, Place::Lost);
        kept.release(first);
        assert_eq!((kept.len(), kept.open(Place::Unknown)), (1, first));
        assert_eq!(kept.place(Kept::default()), Place::Lost, "no name is no message");
    }
}
