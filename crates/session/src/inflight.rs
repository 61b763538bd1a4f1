//! Deliveries of QoS 1 and 2 that were begun and are not finished, in the order in which they were begun.

use std::collections::VecDeque;

use breakwater_proto::QoS;

use crate::delivery::Kept;
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
    /// PUBLISH sent, neither PUBACK nor PUBREC has come [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT3-4.3.2-1]. Or it is to be sent: its
    /// place is not before `next` then.
    Published(Pending),
    /// PUBREL sent, no PUBCOMP has come [MQTT-4.3.3-5]; the message itself is gone [MQTT-4.3.3-6] [MQTT3-4.3.3-1].
    Released {
        /// The store knows of it.
        kept: bool,
        /// PUBREL waits until the store has it that PUBREC came.
        waits: bool,
    },
    /// Begun in an earlier life of the broker; the store has the message.
    Missing,
}

/// What is to be sent again next.
pub(crate) enum Resend<'a> {
    Publish(u16, &'a mut Pending),
    Release(u16),
    /// Something that the store is to say first.
    Wait,
}

impl Inflight {
    /// Unfinished deliveries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.live)
    }

    /// Whether a new delivery may be sent: nothing waits to be sent again, the quota is not used up, and the ids in use don't
    /// span so far that the ring would grow without bound behind one delivery that the client never acknowledges.
    #[inline]
    pub(crate) fn may_begin(&self, window: u16) -> bool {
        !self.has_resends()
            && self.outstanding < window // [MQTT-3.3.4-9] [MQTT-4.9.0-2]
            && self.ring.len() < span_max(window)
    }

    /// Whether one may line up behind those that are not sent yet.
    pub(crate) fn may_line_up(&self, window: u16, bytes_max: u32) -> bool {
        let bytes_left = self.bytes < bytes_max as usize || self.live == 0;
        self.live < window && self.ring.len() < span_max(window) && bytes_left
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
    pub(crate) fn begin(&mut self, id: u16, mut pending: Pending) {
        debug_assert!(!self.has_resends(), "a new delivery would overtake one that is to be sent again");
        pending.set_sent();
        self.line_up(id, pending);
        self.next += 1;
        self.outstanding += 1;
    }

    /// Takes in one that is to be sent behind all others, with the id that follows the last one.
    #[inline]
    pub(crate) fn line_up(&mut self, id: u16, pending: Pending) {
        if self.ring.is_empty() {
            self.first_id = id;
        }
        debug_assert_eq!(usize::from(distance(self.first_id, id)), self.ring.len(), "ids come in sequence");
        self.bytes += pending.bytes() - size_of::<Pending>();
        self.ring.push_back(Entry::Published(pending));
        self.live += 1;
    }

    /// What an earlier life of the broker has begun: ids, and whether PUBREC came, in the order of the ids as they were given. Answers
    /// the id that comes next.
    pub(crate) fn restore(&mut self, flights: &[(u16, bool)]) -> u16 {
        let (Some(first), Some(last)) = (flights.first(), flights.last()) else { return 1 };
        self.first_id = first.0;
        for (id, received) in flights {
            let place = usize::from(distance(self.first_id, *id));
            while self.ring.len() < place {
                self.ring.push_back(Entry::Hole);
            }
            self.ring.push_back(if *received { Entry::Released { kept: true, waits: false } } else { Entry::Missing });
            self.live += 1;
        }
        advance(last.0, 1)
    }

    /// The message of one that was missing.
    pub(crate) fn fill(&mut self, id: u16, mut pending: Pending) {
        let Some(place) = self.place(id) else { return };
        if matches!(self.ring[place], Entry::Missing) {
            pending.set_sent();
            self.bytes += pending.bytes() - size_of::<Pending>();
            self.ring[place] = Entry::Published(pending);
        }
    }

    /// Ids whose messages are missing.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u16> + '_ {
        let ids = (0..).zip(&self.ring).filter(|(_, entry)| matches!(entry, Entry::Missing));
        ids.map(|(place, _)| advance(self.first_id, place))
    }

    /// Ids of QoS 2 deliveries that were not sent on any connection.
    pub(crate) fn never_sent(&self) -> impl Iterator<Item = u16> + '_ {
        let is_unsent = |entry: &Entry| matches!(entry, Entry::Published(pending) if pending.qos() == QoS::ExactlyOnce && !pending.was_sent());
        let ids = (0..).zip(&self.ring).filter(move |(_, entry)| is_unsent(entry));
        ids.map(|(place, _)| advance(self.first_id, place))
    }

    /// All unfinished deliveries and holes, oldest first.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = (u16, &mut Entry)> {
        let first = self.first_id;
        (0..).zip(&mut self.ring).map(move |(place, entry)| (advance(first, place), entry))
    }

    pub(crate) fn get_mut(&mut self, id: u16) -> Option<&mut Entry> {
        let place = self.place(id)?;
        self.ring.get_mut(place)
    }

    /// Whether it was sent, or sent again, on the connection of the moment.
    pub(crate) fn is_outstanding(&self, id: u16) -> bool {
        self.place(id).is_some_and(|place| place < usize::from(self.next))
    }

    /// All whose PUBLISH is unanswered.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &Pending> {
        self.ring.iter().filter_map(|entry| match entry {
            Entry::Published(pending) => Some(pending),
            Entry::Hole | Entry::Released { .. } | Entry::Missing => None,
        })
    }

    #[inline]
    pub(crate) fn get(&self, id: u16) -> Option<&Entry> {
        self.ring.get(self.place(id)?)
    }

    /// PUBREC came: the message goes, the id stays until PUBCOMP. If the store knows of it, PUBREL waits.
    pub(crate) fn release(&mut self, id: u16) {
        let Some(place) = self.place(id) else { return };
        if let Entry::Published(pending) = &self.ring[place] {
            self.bytes -= pending.bytes() - size_of::<Pending>();
            let kept = pending.kept() != Kept::default();
            self.ring[place] = Entry::Released { kept, waits: kept };
        }
    }

    /// The delivery is over; its id may be used again.
    #[inline]
    pub(crate) fn finish(&mut self, id: u16) {
        let Some(place) = self.place(id) else { return };
        match core::mem::replace(&mut self.ring[place], Entry::Hole) {
            Entry::Hole => return,
            Entry::Published(pending) => self.bytes -= pending.bytes() - size_of::<Pending>(),
            Entry::Released { .. } | Entry::Missing => {}
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
        let entry = self.ring.get_mut(usize::from(self.next))?;
        let id = advance(self.first_id, self.next);
        match entry {
            Entry::Published(pending) if pending.waits() => Some(Resend::Wait),
            Entry::Published(pending) => Some(Resend::Publish(id, pending)),
            Entry::Released { waits: false, .. } => Some(Resend::Release(id)),
            Entry::Released { waits: true, .. } | Entry::Missing => Some(Resend::Wait),
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
            Entry::Hole | Entry::Released { .. } | Entry::Missing => None,
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
    use breakwater_proto::{ForwardProperties, Message, MessageView};

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
        let delivery = Delivery { qos: QoS::ExactlyOnce, ..Delivery::default() };
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
