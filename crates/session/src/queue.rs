//! What waits for a connection, for quota or for room.

use std::collections::VecDeque;

use breakwater_proto::{Message, QoS};

use crate::{Delivery, Limits, QueueFull};

/// A message that this session still owes to its client, with how it goes out. 32 bytes: an offline session's queue is
/// made of these.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) message: Message,
    more_ids: Option<Box<Box<[u32]>>>,
    /// The subscription identifier while there is one at most; 0 for none.
    one_id: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) shared: bool,
}

impl Pending {
    #[inline]
    pub(crate) fn new(message: Message, delivery: &Delivery<'_>) -> Pending {
        let (one_id, more_ids) = match delivery.subscription_ids {
            [] => (0, None),
            [one] => (*one, None),
            more => (0, Some(Box::new(more.into()))),
        };
        let Delivery { qos, retain, shared, .. } = *delivery;
        Pending { message, more_ids, one_id, qos, retain, shared }
    }

    #[inline]
    pub(crate) fn subscription_ids(&self) -> &[u32] {
        match &self.more_ids {
            Some(more) => more,
            None if self.one_id != 0 => core::slice::from_ref(&self.one_id),
            None => &[],
        }
    }

    /// Bytes that this record keeps alive. A message that several sessions hold counts in each of them.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let ids = self.more_ids.as_ref().map_or(0, |ids| size_of::<Box<[u32]>>() + size_of_val(&***ids));
        size_of::<Pending>() + self.message.byte_len() + ids
    }
}

/// First in, first out; bounded by count and by bytes.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pending: VecDeque<Pending>,
    bytes: usize,
    /// QoS 0 entries: while there are some, later QoS 0 has to line up behind them.
    qos0: u32,
}

impl Queue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    #[inline]
    pub(crate) fn holds_qos0(&self) -> bool {
        self.qos0 > 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Pending> {
        self.pending.front()
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let first = self.pending.pop_front()?;
        self.bytes -= first.bytes();
        self.qos0 -= u32::from(first.qos == QoS::AtMostOnce);
        if self.pending.is_empty() && self.pending.capacity() > KEPT_CAPACITY {
            self.pending = VecDeque::new();
        }
        Some(first)
    }

    /// Takes it in if the bounds allow, dropping older ones where the policy says so. Returns whether it was taken and how
    /// many older ones gave way.
    pub(crate) fn push(&mut self, pending: Pending, limits: &Limits) -> (bool, u32) {
        let bytes = pending.bytes();
        if bytes > limits.queue_bytes_max as usize || limits.queue_messages_max == 0 {
            return (false, 0);
        }
        let mut displaced = 0;
        while !self.fits(bytes, limits) {
            if limits.queue_full == QueueFull::DropNewest {
                return (false, displaced);
            }
            self.pop();
            displaced += 1;
        }
        self.bytes += bytes;
        self.qos0 += u32::from(pending.qos == QoS::AtMostOnce);
        self.pending.push_back(pending);
        (true, displaced)
    }

    /// Takes everything out, in order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Pending> + use<> {
        core::mem::take(self).pending.into_iter()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let records = self.pending.capacity() * size_of::<Pending>();
        records + self.bytes - self.pending.len() * size_of::<Pending>()
    }

    fn fits(&self, bytes: usize, limits: &Limits) -> bool {
        self.pending.len() < limits.queue_messages_max as usize && self.bytes + bytes <= limits.queue_bytes_max as usize
    }
}

/// An empty queue keeps room for this many records (4 KiB) while its connection lasts, so that a subscriber which is a
/// little slower than its publisher doesn't allocate again and again; more goes back at once.
const KEPT_CAPACITY: usize = 128;

#[cfg(test)]
mod tests {
    use breakwater_proto::{ForwardProperties, MessageView};

    use super::*;

    fn pending(size: usize, ids: usize, qos: QoS) -> Pending {
        let payload = vec![0; size];
        let view = MessageView {
            topic: "t",
            payload: &payload,
            qos,
            retain: false,
            properties: ForwardProperties::EMPTY,
            expires_at: None,
            origin: 0,
        };
        let subscription_ids: Vec<u32> = (1..=ids as u32).collect();
        let delivery = Delivery { qos, retain: false, subscription_ids: &subscription_ids, shared: false };
        Pending::new(Message::new(&view, &mut Vec::new()), &delivery)
    }

    #[test]
    fn a_record_knows_its_identifiers_and_its_bytes() {
        let plain = pending(10, 0, QoS::AtLeastOnce);
        assert_eq!((plain.subscription_ids(), plain.bytes()), (&[][..], 32 + plain.message.byte_len()));
        let one = pending(10, 1, QoS::AtLeastOnce);
        assert_eq!((one.subscription_ids(), one.bytes()), (&[1][..], plain.bytes()));
        let three = pending(10, 3, QoS::AtLeastOnce);
        assert_eq!((three.subscription_ids(), three.bytes()), (&[1, 2, 3][..], plain.bytes() + 16 + 12));
    }

    #[test]
    fn the_account_is_the_sum_of_what_is_held() {
        for queue_full in [QueueFull::DropOldest, QueueFull::DropNewest] {
            let limits = Limits { queue_messages_max: 20, queue_bytes_max: 3000, queue_full, ..Limits::default() };
            let mut queue = Queue::default();
            let mut state = 3_u64;
            for _ in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let [kind, size, ids, qos] = ((state >> 32) as u32).to_be_bytes();
                if kind % 5 < 3 {
                    let qos = QoS::from_bits(qos % 3).unwrap();
                    let before = queue.len();
                    let (taken, displaced) = queue.push(pending(size.into(), usize::from(ids % 4), qos), &limits);
                    assert_eq!(queue.len(), before + usize::from(taken) - displaced as usize);
                } else {
                    queue.pop();
                }
                assert_eq!(queue.bytes, queue.pending.iter().map(Pending::bytes).sum::<usize>());
                let qos0 = queue.pending.iter().filter(|pending| pending.qos == QoS::AtMostOnce).count();
                assert_eq!(queue.qos0 as usize, qos0);
                assert!(queue.bytes <= 3000 && queue.len() <= 20);
            }
        }
    }
}
