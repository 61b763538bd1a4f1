//! Deliveries of QoS 1 and 2 that were begun and are not finished, in the order in which they were begun.

use std::collections::VecDeque;

use crate::queue::Pending;

/// Packet ids are handed out in sequence, so an entry's place is the distance of its id from the front's. What is finished
/// out of order leaves a hole until everything before it is finished.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    ring: VecDeque<Entry>,
    /// Packet id of the front entry; meaningless while the ring is empty.
    first_id: u16,
    /// Entries that are not holes.
    live: u16,
    /// Entries before this place were sent on the connection of the moment, the rest waits to be sent again.
    next: u16,
    /// Entries before `next` that are not holes: what counts against the client's Receive Maximum.
    outstanding: u16,
    /// Bytes kept alive by the entries, without the ring itself.
    bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Entry {
    /// Finished ahead of older ones.
    Hole,
    /// PUBLISH sent, neither PUBACK nor PUBREC has come.
    Published(Pending),
    /// PUBREL sent; the message itself is gone [MQTT-4.3.3-6].
    Released,
}

/// What is to be sent again next.
pub(crate) enum Resend<'a> {
    Publish(u16, &'a Pending),
    Release(u16),
}

impl Inflight {
    /// Unfinished deliveries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.live)
    }

    /// Whether a new delivery may begin: nothing waits to be sent again, the quota is not used up, and the ids in use don't
    /// span so far that the ring would grow without bound behind one delivery that the client never acknowledges.
    #[inline]
    pub(crate) fn may_begin(&self, window: u16) -> bool {
        !self.has_resends()
            && self.outstanding < window // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
            && self.ring.len() < span_max(window)
    }

    #[inline]
    pub(crate) fn has_resends(&self) -> bool {
        usize::from(self.next) < self.ring.len()
    }

    #[inline]
    pub(crate) fn quota_left(&self, window: u16) -> bool {
        self.outstanding < window
    }

    /// Takes in a PUBLISH just sent, with the id that follows the last one.
    #[inline]
    pub(crate) fn begin(&mut self, id: u16, pending: Pending) {
        debug_assert!(!self.has_resends(), "a new delivery would overtake one that is to be sent again");
        if self.ring.is_empty() {
            self.first_id = id;
        }
        debug_assert_eq!(usize::from(distance(self.first_id, id)), self.ring.len(), "ids come in sequence");
        self.bytes += pending.bytes() - size_of::<Pending>();
        self.ring.push_back(Entry::Published(pending));
        self.next += 1;
        self.outstanding += 1;
        self.live += 1;
    }

    #[inline]
    pub(crate) fn get(&self, id: u16) -> Option<&Entry> {
        self.ring.get(self.place(id)?)
    }

    /// PUBREC came: the message goes, the id stays until PUBCOMP.
    pub(crate) fn release(&mut self, id: u16) {
        let Some(place) = self.place(id) else { return };
        if let Entry::Published(pending) = &self.ring[place] {
            self.bytes -= pending.bytes() - size_of::<Pending>();
            self.ring[place] = Entry::Released;
        }
    }

    /// The delivery is over; its id may be used again.
    #[inline]
    pub(crate) fn finish(&mut self, id: u16) {
        let Some(place) = self.place(id) else { return };
        match core::mem::replace(&mut self.ring[place], Entry::Hole) {
            Entry::Hole => return,
            Entry::Published(pending) => self.bytes -= pending.bytes() - size_of::<Pending>(),
            Entry::Released => {}
        }
        self.live -= 1;
        self.outstanding -= u16::from(place < usize::from(self.next));
        self.drop_leading_holes();
    }

    /// What comes next in a new connection to a stored session.
    pub(crate) fn next_resend(&mut self) -> Option<Resend<'_>> {
        while matches!(self.ring.get(usize::from(self.next)), Some(Entry::Hole)) {
            self.next += 1;
        }
        let entry = self.ring.get(usize::from(self.next))?;
        let id = advance(self.first_id, self.next);
        match entry {
            Entry::Published(pending) => Some(Resend::Publish(id, pending)),
            Entry::Released => Some(Resend::Release(id)),
            Entry::Hole => unreachable!("skipped above"),
        }
    }

    /// What `next_resend` named was sent.
    pub(crate) fn resent(&mut self) {
        self.next += 1;
        self.outstanding += 1;
    }

    /// The connection is gone: everything unfinished waits to be sent again.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
        self.outstanding = 0;
    }

    /// Takes out the deliveries whose PUBLISH is unanswered, in order, and forgets the rest.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Pending> + use<> {
        core::mem::take(self).ring.into_iter().filter_map(|entry| match entry {
            Entry::Published(pending) => Some(pending),
            Entry::Hole | Entry::Released => None,
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.ring.capacity() * size_of::<Entry>() + self.bytes
    }

    #[inline]
    fn place(&self, id: u16) -> Option<usize> {
        if id == 0 || self.ring.is_empty() {
            return None;
        }
        let place = usize::from(distance(self.first_id, id));
        (place < self.ring.len()).then_some(place)
    }

    #[inline]
    fn drop_leading_holes(&mut self) {
        while let Some(Entry::Hole) = self.ring.front() {
            self.ring.pop_front();
            self.first_id = advance(self.first_id, 1);
            self.next = self.next.saturating_sub(1);
        }
    }
}

/// The id `steps` after `id`; 0 is no packet id [MQTT-2.2.1-4], so there are 65,535 of them.
#[inline]
pub(crate) fn advance(id: u16, steps: u16) -> u16 {
    let at = (u32::from(id) - 1 + u32::from(steps)) % IDS;
    at as u16 + 1
}

#[inline]
fn distance(from: u16, to: u16) -> u16 {
    let at = (u32::from(to) + IDS - u32::from(from)) % IDS;
    at as u16
}

const IDS: u32 = u16::MAX as u32;

/// Holes included, so that a client which never acknowledges one delivery, and all behind it, costs a bounded ring. Four
/// windows let a fast client go on for a while around a slow one.
#[inline]
fn span_max(window: u16) -> usize {
    (4 * usize::from(window)).clamp(128, IDS as usize)
}
