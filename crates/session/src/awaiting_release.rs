//! QoS 2 packet ids that a client has published and not yet released.

use std::collections::VecDeque;

/// Sorted, two bytes per id. Clients hand ids out in sequence, so that insertion is nearly always at the back and removal
/// at the front; any other order costs a move of the shorter side.
#[derive(Debug, Default)]
pub(crate) struct AwaitingRelease {
    ids: VecDeque<u16>,
}

impl AwaitingRelease {
    /// False: the id is held already.
    #[inline]
    pub(crate) fn insert(&mut self, id: u16) -> bool {
        if self.ids.back().is_none_or(|last| *last < id) {
            self.ids.push_back(id);
            return true;
        }
        match self.ids.binary_search(&id) {
            Ok(_) => false,
            Err(at) => {
                self.ids.insert(at, id);
                true
            }
        }
    }

    /// False: the id was not held.
    #[inline]
    pub(crate) fn remove(&mut self, id: u16) -> bool {
        if self.ids.front() == Some(&id) {
            self.ids.pop_front();
            return true;
        }
        match self.ids.binary_search(&id) {
            Ok(at) => {
                self.ids.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    #[inline]
    pub(crate) fn contains(&self, id: u16) -> bool {
        self.ids.back().is_some_and(|last| *last >= id) && self.ids.binary_search(&id).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.ids.iter().copied()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn shrink(&mut self) {
        self.ids.shrink_to_fit();
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_a_set_would_hold() {
        let mut model = BTreeSet::new();
        let mut ids = AwaitingRelease::default();
        let mut state = 7_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = (state >> 33) as u16 % 300 + 1;
            if state >> 63 == 0 {
                assert_eq!(ids.insert(id), model.insert(id));
            } else {
                assert_eq!(ids.remove(id), model.remove(&id));
            }
            assert_eq!(ids.contains(id), model.contains(&id));
            assert_eq!(ids.len(), model.len());
        }
        assert!(ids.ids.iter().eq(model.iter()));
    }
}
