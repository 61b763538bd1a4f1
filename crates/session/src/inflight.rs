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
    /// PUBLISH sent, neither PUBACK nor PUBREC has come [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT3-4.3.2-1].
    Published(Pending),
    /// PUBREL sent, no PUBCOMP has come [MQTT-4.3.3-5]; the message itself is gone [MQTT-4.3.3-6] [MQTT3-4.3.3-1].
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

    /// Whether what is under way leaves room below `most` bytes. One delivery always may be, or a large one never would.
    #[inline]
    pub(crate) fn has_byte_room(&self, most: u32) -> bool {
        self.bytes < most as usize || self.outstanding == 0
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

/// The id `steps` after `id`; 0 is no packet id [MQTT-2.2.1-4] [MQTT3-2.3.1-4], so there are 65,535 of them.
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

#[cfg(test)]
mod tests {
    use breakwater_proto::{ForwardProperties, Message, MessageView, QoS};

    use super::*;
    use crate::Delivery;

    fn pending(size: usize) -> Pending {
        let payload = vec![0; size];
        let view = MessageView {
            topic: "t",
            payload: &payload,
            qos: QoS::ExactlyOnce,
            retain: false,
            properties: ForwardProperties::EMPTY,
            expires_at: None,
            origin: 0,
        };
        let delivery = Delivery { qos: QoS::ExactlyOnce, retain: false, subscription_ids: &[], shared: false };
        Pending::new(Message::new(&view, &mut Vec::new()), &delivery)
    }

    #[test]
    fn ids_go_round_without_zero() {
        assert_eq!((advance(1, 1), advance(65_535, 1), advance(65_535, 2)), (2, 1, 2));
        assert_eq!((distance(1, 1), distance(65_535, 1), distance(2, 1)), (0, 1, 65_534));
    }

    #[test]
    fn the_counts_are_those_of_the_ring() {
        let mut inflight = Inflight::default();
        let mut id = 65_000;
        let mut state = 5_u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [kind, pick, size, _] = ((state >> 32) as u32).to_be_bytes();
            let some_id = advance(inflight.first_id.max(1), u16::from(pick % 40));
            match kind % 16 {
                0..=5 if inflight.may_begin(20) => {
                    inflight.begin(id, pending(size.into()));
                    id = advance(id, 1);
                }
                6..=9 => inflight.finish(some_id),
                10 | 11 => inflight.release(some_id),
                12..=14 if inflight.quota_left(20) && inflight.next_resend().is_some() => inflight.resent(),
                15 if pick < 20 => inflight.rewind(),
                _ => {}
            }
            let sent = inflight.ring.iter().take(inflight.next.into());
            assert_eq!(usize::from(inflight.outstanding), sent.filter(|entry| !matches!(entry, Entry::Hole)).count());
            let live = inflight.ring.iter().filter(|entry| !matches!(entry, Entry::Hole)).count();
            assert_eq!(inflight.len(), live);
            let bytes = |entry: &Entry| if let Entry::Published(pending) = entry { pending.bytes() - 32 } else { 0 };
            assert_eq!(inflight.bytes, inflight.ring.iter().map(bytes).sum::<usize>());
            assert!(!matches!(inflight.ring.front(), Some(Entry::Hole)));
            assert!(inflight.ring.len() <= span_max(20) && inflight.outstanding <= 20);
        }
    }
}
