//! The subscriptions of a session, by the numbers that the router gives to filters.

use std::ops::Deref;

/// Filter ids of one session, in no order. One lies inline: most devices subscribe to nothing else.
#[derive(Debug, Default)]
pub struct Subscriptions(Held);

#[derive(Debug, Default)]
enum Held {
    #[default]
    None,
    One(u32),
    /// In a box, so that a session without them is small.
    #[expect(clippy::box_collection, reason = "24 bytes that most sessions don't need")]
    Many(Box<Vec<u32>>),
}

impl Subscriptions {
    /// One that is not among them yet.
    pub fn push(&mut self, id: u32) {
        match &mut self.0 {
            Held::None => self.0 = Held::One(id),
            Held::One(first) => self.0 = Held::Many(Box::new(vec![*first, id])),
            Held::Many(many) => many.push(id),
        }
    }

    /// Takes one out, if it is among them.
    pub fn remove(&mut self, id: u32) {
        match &mut self.0 {
            Held::One(one) if *one == id => self.0 = Held::None,
            Held::None | Held::One(_) => {}
            Held::Many(many) => {
                many.retain(|held| *held != id);
                if let [one] = ***many {
                    self.0 = Held::One(one);
                }
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Held::None | Held::One(_) => 0,
            Held::Many(many) => size_of::<Vec<u32>>() + many.capacity() * size_of::<u32>(),
        }
    }
}

impl Deref for Subscriptions {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Held::None => &[],
            Held::One(one) => std::slice::from_ref(one),
            Held::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_and_go_one_by_one() {
        assert_eq!(size_of::<Subscriptions>(), 16);
        let mut subscriptions = Subscriptions::default();
        for count in 0..4 {
            assert_eq!(*subscriptions, *(0..count).collect::<Vec<u32>>());
            subscriptions.push(count);
        }
        subscriptions.remove(7);
        for (gone, left) in [(1, &[0, 2, 3][..]), (0, &[2, 3]), (3, &[2]), (3, &[2]), (2, &[])] {
            subscriptions.remove(gone);
            assert_eq!(*subscriptions, *left);
            assert_eq!(subscriptions.heap_bytes() > 0, left.len() > 1);
        }
    }
}
